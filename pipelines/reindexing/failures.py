"""Tracks that failed in an earlier version and still do: their rows go along."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import parquet
from pipelines.changes.classes import Changes
from pipelines.live import failed_beside, failed_tracks
from pipelines.part_files import stamp
from pipelines.runs import Run, new_attempt
from pipelines.track_tables import TRACK_FAILURES
from pipelines.versions import FileEntry, Manifest


def carry_failures(
    run: Run, parent: Manifest, changes: Changes, *, anew: bool = False
) -> list[FileEntry]:
    """The files with the failures of the parent that hold still; a new one where some do not.

    `anew`: a new one whatever: files bear the mark of the model of their version.

    A track that failed holds where it is in the catalogue still and was not tried again. One whose
    codes are there, and that failed beside them only, holds while its codes are used. Either is
    told under the track_id and the uri that the track has now.
    """
    old = failure_files(parent.files)
    tables = map(whole, failed_tracks(run.index, parent))
    table = pa.concat_tables([TRACK_FAILURES.empty_table(), *tables]).combine_chunks()
    beside = failed_beside(table)
    lost = pc.is_in(table["track_id"], _ids(changes, "failed"))
    again = pc.is_in(table["track_id"], _ids(changes, "changed", "removed"))
    holds = pc.if_else(beside, pc.invert(again), lost)
    kept = _as_named_now(table.filter(holds), changes.of("renamed", "moved", "failed"))
    if kept.equals(table) and not anew:
        return old
    return [write_failures(run, "carried", kept)] if kept.num_rows else []


def write_failures(run: Run, name: str, table: pa.Table) -> FileEntry:
    """Failures, rows as `TRACK_FAILURES`, that are not of one part."""
    path = run.attempt_path("failures", name, new_attempt(), ".parquet")
    metadata = stamp(run.plan.model_digest)
    info = parquet.write_table(path, table, metadata=metadata, use_dictionary=False)
    return run.entry("failures", info)


def failure_files(files: Iterable[FileEntry]) -> list[FileEntry]:
    """Those of `files` that hold failures, of no segment: they outlast it."""
    return [
        dataclasses.replace(entry, segment=None, part=None)
        for entry in files
        if entry.kind == "failures"
    ]


def whole(table: pa.Table) -> pa.Table:
    """Rows of failures with the columns that files of an earlier hashbeam lack."""
    for field in TRACK_FAILURES:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(TRACK_FAILURES.names).cast(TRACK_FAILURES)


def _ids(changes: Changes, *classes: str) -> pa.Array:
    return changes.of(*classes)["track_id"].combine_chunks()


def _as_named_now(table: pa.Table, rows: pa.Table) -> pa.Table:
    """Failures under the track_ids and uris that `rows` of changes give some of them."""
    known = pc.coalesce(rows["old_track_id"], rows["track_id"])
    at = pc.index_in(table["track_id"], value_set=known.combine_chunks()).combine_chunks()
    for name in ("track_id", "uri"):
        fresh = rows[name].combine_chunks().take(at)
        place = table.column_names.index(name)
        table = table.set_column(place, name, pc.coalesce(fresh, table[name].combine_chunks()))
    return table
