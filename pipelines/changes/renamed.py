"""Another track_id for an old file: found among what is new and what has gone, where it is sure.

A catalogue whose ids were made anew would else be decoded anew. A pair is made where both sides
have it once only: by the same uri with a file that has not changed since, or by the content, or,
where the version kept no checksum of it, by etag and size.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.changes.classes import PLACED, rows_of
from pipelines.changes.compare import CLASS, REASON, Files, is_known
from pipelines.look import GONE

Ints = npt.NDArray[np.int64]


def find_renamed(changes: pa.Table, files: Files, counts: Counter[str]) -> pa.Table:
    """`changes` (as `classes.CHANGES`) with renamed tracks in place of a new and a removed one.

    Files of new tracks are looked at only where tracks have gone, and read only where one of those
    had as many bytes.
    """
    kinds = changes["class"].cast(pa.string())
    new = changes.filter(pc.equal(kinds, "new")).combine_chunks()
    gone = changes.filter(pc.equal(kinds, "removed")).combine_chunks()
    if not new.num_rows or not gone.num_rows:
        return changes
    sizes, times = files.look(new["uri"].to_pylist())
    counts["files_looked_at"] += new.num_rows
    there = sizes != GONE
    new = _with(new, "size", pa.array(sizes, mask=~there))
    new = _with(new, "mtime", pa.array(times, mask=np.isnan(times)))
    (alike,) = np.nonzero(
        there & pc.is_in(new["size"], gone["size"].combine_chunks()).to_numpy(zero_copy_only=False)
    )
    if pc.any(gone["content"].is_valid()).as_py() and alike.size:
        contents = np.full(new.num_rows, None, object)
        contents[alike] = files.checksums(new["uri"].take(pa.array(alike)).to_pylist())
        new = _with(new, "content", pa.array(contents, new["content"].type))
        counts["contents_compared"] += alike.size
    pairs = _Pairs(new, gone)
    same = pairs.where(new["uri"], gone["uri"])
    pairs.add(same, _unchanged(new, gone, same), "mtime")
    pairs.add_all(pairs.where(new["content"], gone["content"]), "content")
    kept = gone["content"].is_valid()
    pairs.add_all(pairs.where(_etags(new), pc.if_else(kept, None, _etags(gone))), "etag")
    others = changes.filter(
        pc.invert(pc.is_in(kinds, pa.array(["new", "removed"]))).combine_chunks()
    )
    return pa.concat_tables([others, *pairs.rows()])


class _Pairs:
    """Which new row is which removed one; each in one pair at most."""

    def __init__(self, new: pa.Table, gone: pa.Table) -> None:
        self._new, self._gone = new, gone
        self._of_new = np.full(new.num_rows, -1)
        self._reasons = np.zeros(new.num_rows, np.int8)
        self._free = np.ones(gone.num_rows, bool)

    def where(self, new: Any, gone: Any) -> tuple[Ints, Ints]:
        """The rows of both sides with equal keys that are there once on each side, and free."""
        new = pc.if_else(pa.array(self._of_new < 0), new, None)
        gone = pc.if_else(pa.array(self._free), gone, None)
        ones = _single(gone)
        found = _positions(_flat(new).filter(pa.array(_single_mask(new))), _flat(gone), ones)
        rows = np.flatnonzero(_single_mask(new))
        return rows[found >= 0], found[found >= 0]

    def add(self, pairs: tuple[Ints, Ints], sure: Any, reason: str) -> None:
        """Makes those pairs that are sure."""
        self.add_all((pairs[0][sure], pairs[1][sure]), reason)

    def add_all(self, pairs: tuple[Ints, Ints], reason: str) -> None:
        """Makes pairs."""
        rows, of = pairs
        self._of_new[rows], self._reasons[rows] = of, REASON[reason]
        self._free[of] = False

    def rows(self) -> list[pa.Table]:
        """What is new still, what is renamed, and what is removed still."""
        paired = self._of_new >= 0
        new = self._new.filter(pa.array(paired))
        old = self._gone.take(pa.array(self._of_new[paired]))
        columns = {name: new[name] for name in new.column_names if name not in ("class", "reason")}
        columns |= {name: old[name] for name in (*PLACED, "duration_s")}
        columns["old_track_id"] = old["track_id"]
        classes = np.full(new.num_rows, CLASS["renamed"], np.int8)
        return [
            self._new.filter(pa.array(~paired)),
            rows_of(classes, self._reasons[paired], columns),
            self._gone.filter(pa.array(self._free)),
        ]


def _unchanged(new: pa.Table, gone: pa.Table, pairs: tuple[Ints, Ints]) -> Any:
    """Whether the file of each pair, which has one uri, is what it was."""
    one, other = new.take(pa.array(pairs[0])), gone.take(pa.array(pairs[1]))
    equal = {
        name: pc.fill_null(pc.equal(one[name], other[name]), False).to_numpy()
        for name in ("etag", "size", "mtime", "content")
    }
    etags = is_known(one["etag"]) & is_known(other["etag"])
    times = pc.and_(one["mtime"].is_valid(), other["mtime"].is_valid()).to_numpy()
    by_file = equal["size"] & np.where(times, equal["mtime"], equal["content"])
    return np.where(etags, equal["etag"], by_file)


def _etags(table: pa.Table) -> Any:
    etag = pc.if_else(pc.equal(table["etag"], ""), None, table["etag"])
    return pc.binary_join_element_wise(etag, table["size"].cast(pa.string()), " ")


def _flat(values: Any) -> Any:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _single_mask(values: Any) -> npt.NDArray[np.bool_]:
    """Where a value is neither null nor there twice."""
    coded = _flat(values).dictionary_encode()
    codes = pc.fill_null(coded.indices, -1).to_numpy()
    counts = np.bincount(codes[codes >= 0], minlength=len(coded.dictionary))
    single: npt.NDArray[np.bool_] = codes >= 0
    single[single] = counts[codes[single]] == 1
    return single


def _single(values: Any) -> Ints:
    return np.flatnonzero(_single_mask(values))


def _positions(wanted: Any, among: Any, rows: Ints) -> Ints:
    """The row of each wanted value among some rows of others; -1 where there is none."""
    if not rows.size or not len(wanted):
        return np.full(len(wanted), -1)
    found = pc.fill_null(pc.index_in(wanted, value_set=among.take(pa.array(rows))), -1).to_numpy()
    places: Ints = np.where(found >= 0, rows[found], -1)
    return places


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), values)
