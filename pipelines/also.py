"""What an index may have beside codes, and the models that make it.

A kind is what ``--also`` asks for and what manifests name. Each has a model, files of its own (how
they are written and read: `pipelines.also_files`) and counters; this table says what they are
called, and whatever makes, keeps, merges or checks an index goes through it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from hashing.beside import ARTIST, KINDS, SEQUENCE, Kind
from hashing.errors import ModelError
from hashing.models import Model
from pipelines.versions import ARTIST_EMBEDDINGS, SEQUENCES, Manifest


@dataclasses.dataclass(frozen=True)
class Also:
    """A kind of thing that an index may have beside codes.

    Attributes:
        kind: what makes it of a track.
        files: kind of its files in a manifest.
        folder: of a version, where they stand.
        mark: behind the number of the part in their names: ``part-00000-artist-…``.
        title: of one of them, for people.
        purpose: what it is good for, for ``--help``.
        stage: of failures/, where a track has codes and not this.
        made, lacking: counters of tracks that have it, and that have only codes.
    """

    kind: Kind
    files: str
    folder: str
    mark: str
    title: str
    purpose: str
    stage: str
    made: str
    lacking: str

    @property
    def name(self) -> str:
        """As ``--also`` and manifests have it."""
        return self.kind.name

    @property
    def flag(self) -> str:
        """The flag that names its model."""
        return f"--{self.name}-model"


ALSO = {
    one.name: one
    for one in (
        Also(
            ARTIST,
            ARTIST_EMBEDDINGS,
            "embeddings",
            "-artist",
            "artist embedding",
            "an embedding that tells artists apart, which `disambiguate --index` reuses",
            "embed",
            "tracks_embedded",
            "tracks_not_embedded",
        ),
        Also(
            SEQUENCE,
            SEQUENCES,
            "sequences",
            "",
            "hash sequence",
            "a hash sequence, by which `match-midi` finds the recordings of MIDI files",
            "sequence",
            "tracks_sequenced",
            "tracks_not_sequenced",
        ),
    )
}
# In the receipt of a part: tracks with codes that lack something that was asked for.
LACKING = "tracks_lacking"


def load_kind(name: str, model: str) -> Any:
    """The encoder of a kind, by the name or the folder of its model; raises ModelError."""
    return KINDS[name].load(model)


def models_beside(manifest: Manifest, models: Mapping[str, str]) -> dict[str, Model]:
    """What a version has beside codes → the model that made it.

    Args:
        models: by kind the name or folder, where it is not a shipped one or has moved.

    Raises: ModelError where a model is missing, or is another than the index was made with.
    """
    return {
        name: _model_beside(name, made_by, models.get(name))
        for name, made_by in manifest.also.items()
    }


def _model_beside(name: str, made_by: Mapping[str, str], model: str | None) -> Model:
    if name not in ALSO:
        raise ModelError(f"the index has {name!r} beside codes: it is of a later hashbeam")
    found: Model = load_kind(name, model or made_by.get("path") or made_by["name"]).model
    if found.digest != made_by["digest"]:
        raise ModelError(
            f"the index has {ALSO[name].title}s of model {made_by['name']} with digest "
            f"{made_by['digest'][:16]}, {found.path} has digest {found.digest[:16]}: name "
            f"the model that made them with {ALSO[name].flag}"
        )
    return found


def folders_of(beside: Mapping[str, Model]) -> dict[str, str]:
    """What workers find models by, by kind."""
    return {name: model.reference for name, model in beside.items()}


def add_moved_models(add: Callable[..., Any]) -> None:
    """The flags that say where the models of what an index has beside codes are now.

    Args:
        add: as `argparse.ArgumentParser.add_argument`.
    """
    for one in ALSO.values():
        add(one.flag, metavar="M", help=f"likewise, the model of its {one.title}s")


def models_named(args: argparse.Namespace) -> dict[str, str]:
    """Kind → the model that its flag names, of those that were given."""
    given = {name: getattr(args, f"{name}_model") for name in ALSO}
    return {name: model for name, model in given.items() if model}
