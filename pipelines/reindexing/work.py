"""What changes make to be done, written down for the workers of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import io, parquet
from pipelines.changes.classes import HASHED, PLACED, ROW_ONLY, Changes, read_changes, write_changes
from pipelines.file_state import FILE_STATE
from pipelines.kept import KEPT
from pipelines.runs import Run

# Files of tracks that a worker rewrites at once, some 30 ms each: a piece of work of two seconds.
EDITED_PARTS = 64
# Columns of the rows that are to be rewritten, beside those of their owner: which row, and the
# file as it was seen now.
EDITED = {f"hashbeam_{name}": pa.int64() for name in PLACED} | {
    f"hashbeam_{name}": kind for name, kind in FILE_STATE.items()
}


def changes_path(run: Run) -> str:
    """Where a run keeps the changes that it was started for."""
    return io.join(run.work, "changes.parquet")


def edits_path(run: Run, piece: int) -> str:
    """Where a run keeps the rows of one piece of rewriting."""
    return io.join(run.work, f"edits-{piece:05d}.parquet")


def rows_to_make(changes: Changes, catalog: pa.Table) -> pa.Table:
    """The rows of the catalogue that get codes in a new segment, in order of track_id.

    Those whose codes are known under another track_id have the columns of `kept.KEPT` filled.
    """
    chosen = changes.of(*HASHED, "renamed").combine_chunks()
    rows = catalog.take(chosen["row"])
    renamed = pc.equal(chosen["class"].cast(pa.string()), "renamed")
    if not pc.any(renamed).as_py():
        return rows
    values = {
        "hashbeam_source": pa.array(np.zeros(len(chosen), np.int32)),
        **{f"hashbeam_{name}": chosen[name] for name in (*PLACED, "mtime")},
    }
    for name, kind in KEPT.items():
        column = pc.if_else(renamed, values[name], pa.scalar(None, values[name].type))
        rows = rows.append_column(name, column.cast(kind))
    return rows


def rows_to_edit(changes: Changes, catalog: pa.Table) -> Iterator[pa.Table]:
    """The rows of the catalogue whose codes stay where they are, by piece of work.

    A piece has all rows of `EDITED_PARTS` files of tracks or fewer, and the columns of `EDITED`.
    """
    chosen = changes.of(*ROW_ONLY)
    chosen = chosen.sort_by([(name, "ascending") for name in PLACED]).combine_chunks()
    rows = catalog.take(chosen["row"])
    for name, kind in EDITED.items():
        rows = rows.append_column(name, chosen[name.removeprefix("hashbeam_")].cast(kind))
    segments, parts = (chosen[name].to_numpy() for name in PLACED[:2])
    fresh = (np.diff(segments) != 0) | (np.diff(parts) != 0)
    file = np.concatenate(([0], np.cumsum(fresh))) if len(chosen) else np.empty(0, np.int64)
    ends = np.flatnonzero(np.diff(file // EDITED_PARTS)) + 1
    bounds = [0, *ends.tolist(), len(chosen)]
    for first, end in itertools.pairwise(bounds):
        if end > first:
            yield rows.slice(first, end - first)


def write_edits(run: Run, pieces: Iterable[pa.Table]) -> None:
    """Keeps the rows that are to be rewritten, for the workers."""
    for piece, rows in enumerate(pieces):
        parquet.write_table(edits_path(run, piece), rows)


def read_edits(run: Run, piece: int) -> Iterator[tuple[int, int, pa.Table]]:
    """Segment, part and rows of each file of tracks of a piece."""
    rows = parquet.read_table(edits_path(run, piece)).combine_chunks()
    segments, parts = (rows[f"hashbeam_{name}"].to_numpy() for name in PLACED[:2])
    places = np.stack([segments, parts], axis=1)
    fresh: Any = np.flatnonzero((np.diff(places, axis=0) != 0).any(axis=1)) + 1
    for first, end in itertools.pairwise([0, *fresh.tolist(), len(places)]):
        segment, part = places[first].tolist()
        yield segment, part, rows.slice(first, end - first)


def keep_changes(run: Run, changes: Changes) -> None:
    """Keeps what a run was started for: one that goes on later goes on with the same."""
    write_changes(changes_path(run), changes)


def kept_changes(run: Run) -> Changes:
    """What `keep_changes` has kept.

    Raises: HashbeamError where it cannot be read.
    """
    return read_changes(changes_path(run))
