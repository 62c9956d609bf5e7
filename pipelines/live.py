"""The live tracks of a version, and its failures: read a few parts at a time, never all."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import IndexFormatError
from pipelines import io, parquet
from pipelines.also import ALSO
from pipelines.stores import in_turn, is_remote
from pipelines.track_tables import unite
from pipelines.versions import Manifest, Segment

# Parts of some dozen tracks are put together: what is done with a table costs the same for each.
BATCH_ROWS = 1 << 14
STAGES = [one.stage for one in ALSO.values()]
PLACES = ("segment", "part")  # where a track is: columns that are put to those of ``tracks/``


def tracks_of_segment(
    index: str,
    manifest: Manifest,
    segment: Segment,
    batch_rows: int = BATCH_ROWS,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """The live tracks of a segment, in the order of their ordinals.

    Args:
      columns: of ``tracks/`` that are wanted, ``ordinal`` among them; None: all.

    Columns as in ``tracks/``, and `PLACES` (int32); a table has those of so many parts that it has
    `batch_rows` rows or more before the removed ones are taken out.

    Raises: IndexFormatError where a file is damaged.
    """
    removed = removed_ordinals(index, segment)
    parts = sorted(manifest.files.tuples("part", "path", kind="tracks", segment=segment.id))
    places = [io.join(index, path) for _, path in parts]
    waiting, rows = list[pa.Table](), 0
    for number, table in enumerate(_read_all(places, columns)):
        if "ordinal" not in table.column_names:
            raise IndexFormatError(
                f"{places[number]} has no column ordinal; run `hashbeam verify` on the index"
            )
        waiting.append(_placed(table, segment.id, parts[number][0]))
        rows += table.num_rows
        if rows >= batch_rows or number == len(places) - 1:
            yield _live(unite(waiting), removed)
            waiting, rows = [], 0


def _placed(table: pa.Table, *places: int) -> pa.Table:
    taken = {name: f"catalog_{name}" for name in PLACES if name in table.column_names}
    table = table.rename_columns(taken) if taken else table  # of the catalogue
    for name, value in zip(PLACES, places, strict=True):
        number = np.full(table.num_rows, value, np.int32)
        table = table.append_column(name, pa.array(number))
    return table


def _live(table: pa.Table, removed: Any) -> pa.Table:
    if not removed.size:
        return table
    keep = ~np.isin(table["ordinal"].to_numpy().astype(np.int64), removed)
    return table if keep.all() else table.filter(pa.array(keep))


def live_tracks(index: str, manifest: Manifest, batch_rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
    """The live tracks of all segments, one after the other, as `tracks_of_segment` has them."""
    for segment in manifest.segments:
        yield from tracks_of_segment(index, manifest, segment, batch_rows)


def failed_tracks(index: str, manifest: Manifest) -> Iterator[pa.Table]:
    """The rows of ``failures/``, a table a file; newer files come first."""
    paths = sorted(manifest.files.select(kind="failures").column("path"), reverse=True)
    yield from _read_all([io.join(index, path) for path in paths])


def failed_beside(failures: pa.Table) -> Any:
    """Where a track failed only in what was asked for beside codes: it is live all the same.

    >>> failures = pa.table({"track_id": list("abc"), "stage": ["decode", "embed", None]})
    >>> failed_beside(failures).to_pylist(), without_codes(failures)["track_id"].to_pylist()
    ([False, True, False], ['a', 'c'])
    """
    return pc.is_in(failures["stage"], pa.array(STAGES))


def without_codes(failures: pa.Table) -> pa.Table:
    """Those rows of failures whose tracks have no codes."""
    return failures.filter(pc.invert(failed_beside(failures)))


def removed_ordinals(index: str, segment: Segment) -> Any:
    """Ordinals [n] int64 of the tracks that have gone from a segment since it was built."""
    if segment.removals is None:
        return np.empty(0, np.int64)
    table = parquet.read_table(io.join(index, segment.removals.path), ["ordinal"])
    return table["ordinal"].to_numpy().astype(np.int64)


def count_live(manifest: Manifest) -> int:
    """Live tracks of a version, by its manifest alone."""
    return sum(segment.live for segment in manifest.segments)


def _read_all(paths: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    read = functools.partial(parquet.read_table, columns=columns, small=True)
    return in_turn(read, paths, any(map(is_remote, paths)))
