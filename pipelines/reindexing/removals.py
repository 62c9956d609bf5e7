"""Tracks that have gone from segments: one small file of ordinals for each segment.

Beside the ordinal stand the snippet numbers that the track takes up and how many of them were
heard, so that look-up passes over its postings without reading what the catalogue said of it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from pipelines import io, parquet
from pipelines.opened import SPANS
from pipelines.part_files import stamp
from pipelines.runs import Run, new_attempt
from pipelines.versions import Manifest, Segment

REMOVALS = pa.schema({"ordinal": pa.uint32(), **dict.fromkeys(SPANS, pa.int64())})


def write_removals(run: Run, parent: Manifest, gone: pa.Table) -> list[Segment]:
    """Segments of the parent as the next version has them; one of which nothing is left is dropped.

    Args:
        gone: ``segment``, ``part`` and ``ordinal`` of the tracks that go; those that had gone
            before stay gone.

    Raises: IndexFormatError where a file of tracks or removals is damaged.
    """
    attempt, kept = new_attempt(), []
    segments, parts, ordinals = (
        gone[name].to_numpy().astype(np.int64) for name in ("segment", "part", "ordinal")
    )
    paths = {
        (segment, part): path
        for segment, part, path in parent.files.tuples("segment", "part", "path", kind="tracks")
    }
    for segment in parent.segments:
        mine = segments == segment.id
        if not mine.any():
            kept.append(segment)
            continue
        starts = np.concatenate(([0], np.cumsum(segment.part_gids))).astype(np.int64)
        tables = [_removed(run.index, segment)]
        for part in np.unique(parts[mine]).tolist():
            path = io.join(run.index, paths[segment.id, part])
            start = int(starts[part - segment.first_part])
            tables.append(_spans(path, start, ordinals[mine & (parts == part)]))
        table = pa.concat_tables(tables).sort_by("ordinal")
        if table.num_rows < segment.tracks:
            path = run.attempt_path("removals", f"s{segment.id:03d}", attempt, ".parquet")
            info = parquet.write_table(path, table, metadata=stamp(parent.model["digest"]))
            entry = run.entry("removals", info, segment=segment.id)
            kept.append(dataclasses.replace(segment, removals=entry))
    return kept


def _removed(index: str, segment: Segment) -> pa.Table:
    if segment.removals is None:
        return REMOVALS.empty_table()
    return parquet.read_table(io.join(index, segment.removals.path), REMOVALS.names).cast(REMOVALS)


def _spans(path: str, start: int, gone: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Table:
    """Rows of removals of a part whose first snippet number is `start`."""
    tracks = parquet.read_table(path, ["ordinal", "gids", "snippets"], small=True)
    ordinals, gids, snippets = (column.to_numpy().astype(np.int64) for column in tracks.columns)
    ends = start + np.cumsum(gids)
    chosen = np.isin(ordinals, gone)
    columns = (ordinals[chosen], (ends - gids)[chosen], ends[chosen], snippets[chosen])
    return pa.table(dict(zip(REMOVALS.names, columns, strict=True))).cast(REMOVALS)
