"""The embeddings that are compared: of models, of files, of cepstra. Heard once, then kept.

Hearing is the Beam stage of ``hashbeam disambiguate``, and its files are kept in the same form, so
that either finds what the other has heard.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.artists.cepstra import standardise
from hashing.artists.names import normalise
from hashing.errors import CatalogError, HashbeamError, IndexFormatError, ModelError
from hashing.models import load_model
from pipelines import io, parquet
from pipelines.disambiguation import embed
from pipelines.disambiguation.embed import EmbedJob, EmbedParts
from pipelines.disambiguation.hear import hear_missing
from pipelines.disambiguation.store import read_embeddings
from pipelines.evaluation.artists.folds import FOLD
from pipelines.evaluation.artists.mfcc import DIGEST, NAME, HearCepstra
from pipelines.evaluation.artists.options import ArtistOptions
from pipelines.options import DECODE_TIMEOUT_S, MAX_TRACK_HOURS
from pipelines.progress import shows_progress
from pipelines.runner import make_pipeline_options

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """Embeddings of all tracks.

    Attributes:
        name: for people.
        embeddings: [tracks, d]; rows that are not `heard` are zero.
        heard: bool [tracks].
        cut: that the model came with, or None.
        by_fold: embeddings of two folds are of two models, and cannot be compared.
        facts: of the model: name, digests, tracks heard and reused, artists it was trained on.
    """

    name: str
    embeddings: Floats
    heard: Flags
    cut: float | None = None
    by_fold: bool = False
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def gather(
    options: ArtistOptions,
    catalog: pa.Table,
    artists: Sequence[str],
    folds: Sequence[str],
    beam_args: Sequence[str] = (),
) -> tuple[list[System], list[dict[str, str]]]:
    """The systems in the order that they were asked for, and what could not be heard.

    Args:
        catalog: the tracks that may be used, as from `pipelines.catalog.read_catalog`.
        artists: of each of them, names as a model's own list may have them.
        folds: of each of them, where the catalogue has them; all "" where not.

    Raises: ModelError, CatalogError for a model or file that cannot be used; HashbeamError where
        too many tracks cannot be heard.
    """
    failures: dict[str, dict[str, str]] = {}
    hearing = _Hearing(
        options, catalog, make_pipeline_options(options.workers, beam_args), failures
    )
    names = _names([*options.models, *options.vectors])
    systems = []
    for model, name in zip(options.models, names, strict=False):
        systems.append(_of_model(hearing, model, name, artists, folds))
    for path, name in zip(options.vectors, names[len(options.models) :], strict=True):
        systems.append(_of_file(path, name, catalog))
    if "mfcc" in options.comparators:
        found, heard, reused = hearing.hear(
            NAME.lower(), DIGEST, np.ones(catalog.num_rows, bool), HearCepstra
        )
        found[heard] = standardise(found[heard])
        facts = {"digests": [DIGEST], "tracks": int(heard.sum()), "reused": reused}
        systems.append(System(NAME, found, heard, facts=facts))
    lost = len(failures)
    if lost > options.max_failures * catalog.num_rows:
        first = next(iter(failures.values()))
        raise HashbeamError(
            f"{lost} of {catalog.num_rows} tracks failed, more than --max-failures "
            f"{options.max_failures:g} allows; the first: {first['message']}"
        )
    return systems, [failures[key] for key in sorted(failures)]


class _Hearing:
    """Hears tracks of a catalogue with one encoder after the other."""

    def __init__(
        self,
        options: ArtistOptions,
        catalog: pa.Table,
        pipeline_options: Any,
        failures: dict[str, dict[str, str]],
    ) -> None:
        self._options, self._catalog = options, catalog
        self._pipeline_options, self._failures = pipeline_options, failures
        self.tracks = catalog.num_rows
        self.track_ids = catalog["track_id"].to_pylist()

    def hear(
        self, model: str, digest: str, wanted: Flags, listener: Callable[[EmbedJob], Any]
    ) -> tuple[Floats, Flags, int]:
        """Embeddings of all tracks, which were heard, and how many of them were known before."""
        options = self._options
        work = io.join(options.out, "hearing.work")
        io.remove_tree(work)  # of a run that was stopped
        job = EmbedJob(options.out, work, model, digest, MAX_TRACK_HOURS * 3600.0, DECODE_TIMEOUT_S)
        heard = hear_missing(
            job,
            self._catalog,
            wanted,
            options.stores,
            self._pipeline_options,
            show=shows_progress(quiet=options.quiet, asked=options.progress),
            listener=listener,
        )
        for row in heard.failures.to_pylist():
            self._failures.setdefault(row["track_id"], row)
        io.remove_tree(work)
        values = np.zeros((self.tracks, max(1, heard.stored.dimensions)), np.float32)
        good = read_embeddings(heard.stored, values) & wanted
        values[~good] = 0.0
        return values, good, int(heard.known.sum())


def _of_model(
    hearing: _Hearing, model: str, name: str, artists: Sequence[str], folds: Sequence[str]
) -> System:
    by_fold = FOLD in model
    values: Floats | None = None
    heard = np.zeros(hearing.tracks, bool)
    digests, known, cuts, reused = [], set[str](), [], 0
    for fold in sorted(set(folds)) if by_fold else [""]:
        one = model.replace(FOLD, fold)
        encoder = embed.load_encoder(one)
        wanted = np.array([not by_fold or fold == other for other in folds], bool)
        found, good, again = hearing.hear(one, encoder.digest, wanted, EmbedParts)
        if values is None:
            values = found
        elif good.any() and values.shape[1] != found.shape[1]:
            raise ModelError(
                f"{one} makes embeddings of {found.shape[1]} numbers, those of the other folds "
                f"have {values.shape[1]}: name models of one recipe"
            )
        else:
            values[good] = found[good]
        heard |= good
        digests.append(encoder.digest)
        cuts.append(float(encoder.cut))
        reused += again
        names, tracks = trained_on(one)
        known |= {
            artist
            for artist, track, asked in zip(artists, hearing.track_ids, wanted, strict=True)
            if asked and (track in tracks or normalise(artist) in names)
        }
    assert values is not None
    facts = {
        "digests": digests,
        "tracks": int(heard.sum()),
        "reused": reused,
        "known_artists": sorted(known),
    }
    if by_fold:
        facts["fold_cuts"] = dict(zip(sorted(set(folds)), cuts, strict=True))
    # Each fold has a cut of its own there, so that of all of them is no model's.
    return System(name, values, heard, None if by_fold else cuts[0], by_fold, facts)


def trained_on(model: str) -> tuple[set[str], set[str]]:
    """What a model folder says that it has learned from: normalised artists, and track ids.

    Both are empty where it does not say (``training.artists``, ``training.trained_on``).
    """
    try:
        training = load_model(model).config.get("training")
    except ModelError:  # an encoder that is no folder
        training = None
    told = training if isinstance(training, dict) else {}
    artists, tracks = (
        {str(one) for one in told[name]} if isinstance(told.get(name), list) else set[str]()
        for name in ("artists", "trained_on")
    )
    return {normalise(artist) for artist in artists}, tracks


def _of_file(path: str, name: str, catalog: pa.Table) -> System:
    """Embeddings that were made elsewhere."""
    if not io.exists(path) or io.is_dir(path):
        raise CatalogError(f"--vectors: {path} is no file; name a Parquet file")
    try:
        table = parquet.read_table(path, ["track_id", "embedding"])
        rows = table["embedding"].to_pylist()
        values = np.array(rows, np.float32)
    except (IndexFormatError, ValueError, TypeError):
        values = np.zeros(0, np.float32)
    if values.ndim != 2 or not values.size:
        raise CatalogError(
            f"--vectors: {path} is no Parquet file with the columns track_id and embedding, "
            "as many numbers in each row"
        )
    place = {track: number for number, track in enumerate(table["track_id"].to_pylist())}
    found = np.zeros((catalog.num_rows, values.shape[1]), np.float32)
    heard = np.zeros(catalog.num_rows, bool)
    for row, track in enumerate(catalog["track_id"].to_pylist()):
        at = place.get(track)
        if at is not None and np.isfinite(values[at]).all():
            found[row], heard[row] = values[at], True
    if not heard.any():
        raise CatalogError(f"--vectors: {path} has no track of the catalogue")
    return System(name, found, heard, facts={"digests": [], "tracks": int(heard.sum())})


def _names(paths: Sequence[str]) -> list[str]:
    """Last parts of paths, as many as tell them apart.

    >>> _names(["a/m", "b/m", "artist", "cv/{fold}", "x.parquet"])
    ['a/m', 'b/m', 'artist', 'cv/{fold}', 'x']
    """
    found = []
    for path in paths:
        parts = Path(path).with_suffix("") if path.endswith(".parquet") else Path(path)
        last = parts.name
        others = [Path(one).name.removesuffix(".parquet") for one in paths if one != path]
        alike = last in others or last == FOLD
        found.append("/".join(parts.parts[-2:]) if alike else last)
    if len(set(found)) < len(found):
        return [str(path) for path in paths]
    return found
