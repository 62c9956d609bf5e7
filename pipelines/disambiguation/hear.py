"""Embeddings of a catalogue's tracks: those that are stored, and the others heard now."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.disambiguation.embed import (
    EmbedJob,
    EmbedParts,
    EmbedTracks,
    finished_parts,
    read_failures,
    write_todo,
)
from pipelines.disambiguation.store import Stored, embedding_files, find_stored
from pipelines.progress import Progress
from pipelines.runner import run_pipeline

Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class HeardCatalog:
    """What came of hearing a catalogue.

    Attributes:
        stored: where the embeddings are now.
        known: bool [tracks], wanted tracks that had an embedding before.
        failures: of the tracks that could not be heard.
        wall_s: seconds that hearing took.
    """

    stored: Stored
    known: Flags
    failures: pa.Table
    wall_s: float


def hear_missing(
    job: EmbedJob,
    catalog: pa.Table,
    wanted: Flags,
    folders: Sequence[str],
    pipeline_options: Any,
    *,
    show: bool,
    listener: Callable[[EmbedJob], Any] = EmbedParts,
) -> HeardCatalog:
    """Hears the wanted tracks that have no embedding yet, with Beam, into ``job.out``.

    Nothing of an earlier run may stand in ``job.work``; what this one leaves there is the caller's
    to remove.

    Args:
        catalog: as from `pipelines.catalog.read_catalog`.
        wanted: bool [tracks].
        folders: results and indexes whose embeddings count as well, the first before the next.
        show: the progress.
        listener: what hears a part, made of the job.

    Raises: HashbeamError where something cannot be read or written; never for a track.
    """

    def find() -> Stored:
        files = [path for folder in (job.out, *folders) for path in embedding_files(folder)]
        return find_stored(files, catalog, job.digest)

    stored = find()
    known = wanted & stored.found
    columns = [name for name in ("track_id", "uri", "etag") if name in catalog.column_names]
    missing = pa.array(np.flatnonzero(wanted & ~known))
    parts = write_todo(job, catalog.select(columns).take(missing))
    wall_s = 0.0
    if parts:
        began = time.time()
        with Progress(parts, lambda: finished_parts(job), unit="part", show=show):
            run_pipeline(
                lambda pipeline: pipeline | "hear" >> EmbedTracks(job, parts, listener),
                pipeline_options,
            )
        wall_s = time.time() - began
        stored = find()
    return HeardCatalog(stored, known, read_failures(job), wall_s)
