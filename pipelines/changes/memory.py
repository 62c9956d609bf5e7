"""The comparison in one process: both sides are in order of track_id, and are gone through once.

Of the version only some parts of each segment are in memory at a time, of the catalogue (which the
caller has) only one block is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.changes.classes import Asked, Changes, collect
from pipelines.changes.compare import Files, compare
from pipelines.changes.renamed import find_renamed
from pipelines.changes.sides import FAILED, INDEXED, catalog_side, failed_side, indexed_side
from pipelines.live import failed_tracks, tracks_of_segment
from pipelines.ordered import Ordered
from pipelines.versions import Manifest

BLOCK_ROWS = 1 << 16  # of the catalogue, compared at once: some 30 MB


def find_changes(
    index: str,
    manifest: Manifest,
    catalog: pa.Table,
    asked: Asked | None = None,
    files: Files | None = None,
    block_rows: int = BLOCK_ROWS,
) -> Changes:
    """What has changed in a catalogue since a version of an index was made.

    Args:
      catalog: as `pipelines.catalog.read_catalog` gives it, in order of track_id.

    Raises:
      IndexFormatError: a file of the version is damaged, or its tracks are not in order.
    """
    segments = [
        map(indexed_side, tracks_of_segment(index, manifest, segment))
        for segment in manifest.segments
    ]
    failures = all_failures(map(failed_side, failed_tracks(index, manifest)))
    return join(catalog, segments, failures, asked or Asked(), files or Files(), block_rows)


def join(
    catalog: pa.Table,
    segments: Iterable[Iterable[pa.Table]],
    failures: pa.Table,
    asked: Asked,
    files: Files,
    block_rows: int = BLOCK_ROWS,
) -> Changes:
    """The same with the sides of the version given: tables of each segment, in order, and failures.

    >>> catalog = pa.table({"track_id": ["a"], "uri": ["a.mp3"]})
    >>> join(catalog, [], FAILED.empty_table(), Asked(), Files()).to_text()
    '1 new'
    """
    sides, lost = [Ordered(tables) for tables in segments], Ordered([failures])
    parts, counts = list[pa.Table](), Counter[str]()
    rows = catalog.num_rows
    for first in range(0, max(rows, 1), block_rows):
        block = catalog.slice(first, block_rows)
        last = first + block_rows >= rows
        until = None if last else block["track_id"][-1].as_py()
        indexed = pa.concat_tables(
            [INDEXED.empty_table(), *(table for side in sides for table in side.take(until))]
        )
        failed = pa.concat_tables([FAILED.empty_table(), *lost.take(until)])
        found, counted = compare(catalog_side(block, first), indexed, failed, asked, files)
        parts.append(found)
        counts.update(counted)
    changes = find_renamed(pa.concat_tables(parts).unify_dictionaries(), files, counts)
    return collect([changes], counts)


def all_failures(tables: Iterable[pa.Table]) -> pa.Table:
    """Failures of a version as `FAILED`: of each track the first one, in order of track_id."""
    table = pa.concat_tables([FAILED.empty_table(), *tables]).combine_chunks()
    order = pc.sort_indices(table["track_id"])  # stable: the newest stays the first
    table = table.take(order)
    ids = table["track_id"]
    if len(ids) < 2:
        return table
    again = pc.equal(ids[1:], ids[:-1]).to_pylist()
    return table.filter(pa.array([True, *(not twice for twice in again)]))
