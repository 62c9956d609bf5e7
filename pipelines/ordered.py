"""Tables in order of track_id, gone through side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import IndexFormatError


class Ordered:
    """Tables whose track_ids rise from row to row and from table to table.

    >>> side = Ordered([pa.table({"track_id": ["a", "c"]}), pa.table({"track_id": ["d"]})])
    >>> side.end
    'c'
    >>> [table["track_id"].to_pylist() for table in side.take("b")]
    [['a']]
    >>> [table["track_id"].to_pylist() for table in side.take(None)]
    [['c'], ['d']]
    """

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables = iter(tables)
        self._left: pa.Table | None = None
        self._last = ""

    def take(self, until: str | None) -> Iterator[pa.Table]:
        """The rows up to `until`, itself included, that were not taken yet; None: all of them.

        Raises: IndexFormatError where track_ids do not rise.
        """
        while (table := self._next()) is not None:
            ids = table["track_id"]
            if until is None or ids[-1].as_py() <= until:
                yield table
                continue
            count = pc.sum(pc.less_equal(ids, until)).as_py() or 0
            self._left = table.slice(count)
            if count:
                yield table.slice(0, count)
            return

    @property
    def end(self) -> str | None:
        """The last track_id of the table that comes next; None where nothing is left.

        Raises: IndexFormatError where track_ids do not rise.
        """
        self._left = self._next()
        return None if self._left is None else str(self._left["track_id"][-1].as_py())

    def _next(self) -> pa.Table | None:
        if self._left is not None:
            table, self._left = self._left, None
            return table
        for table in self._tables:
            if table.num_rows:
                self._check(table["track_id"])
                return table
        return None

    def _check(self, ids: pa.ChunkedArray) -> None:
        rising = pc.all(pc.less(ids[:-1], ids[1:])).as_py() if len(ids) > 1 else True
        first = ids[0].as_py()
        if not rising or (self._last and first <= self._last):
            raise IndexFormatError(
                f"the tracks of a segment are not in order of track_id, near {first!r}; "
                "run `hashbeam verify` on the index, then rebuild it"
            )
        self._last = ids[-1].as_py()
