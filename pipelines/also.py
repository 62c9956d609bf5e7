"""What an index has beside codes, and the models that make it."""

from __future__ import annotations

from collections.abc import Mapping

from hashing.artists.encoder import ArtistEncoder
from hashing.errors import ModelError
from hashing.models import Model
from pipelines.versions import Manifest


def models_beside(manifest: Manifest, artist_model: str | None) -> dict[str, Model]:
    """What a version has beside codes → the model that made it.

    Args:
        artist_model: name or folder, where it is not a shipped one or has moved.

    Raises: ModelError where a model is missing, or is another than the index was made with.
    """
    made_by = manifest.also.get("artist")
    if made_by is None:
        return {}
    found = ArtistEncoder.load(artist_model or made_by.get("path") or made_by["name"]).model
    if found.digest != made_by["digest"]:
        raise ModelError(
            f"the index has artist embeddings of model {made_by['name']} with digest "
            f"{made_by['digest'][:16]}, {found.path} has digest {found.digest[:16]}: name "
            "the model that made them with --artist-model"
        )
    return {"artist": found}


def artist_folder(beside: Mapping[str, Model]) -> str:
    """The folder of the model of artist embeddings; "" where there are none."""
    return str(beside["artist"].path) if "artist" in beside else ""
