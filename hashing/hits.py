"""What is asked of hash tables, and what they answer: keys in order, and hits by bucket."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SortedKeys(NamedTuple):
    """Keys of a look-up by table and then by key, so that memory is met in order.

    Attributes:
        wanted: uint64 ``[n]``, ``table << 32 | key``, rising.
        row, table: int32 ``[n]``, where each stood.
        order: ``[n]``, the same as one number, ``table * rows + row``.
        shape: rows and tables that they came in.
    """

    wanted: NDArray[np.uint64]
    order: NDArray[np.int64]
    row: NDArray[np.int32]
    table: NDArray[np.int32]
    shape: tuple[int, int]

    @classmethod
    def of(cls, keys: NDArray[np.uint32]) -> SortedKeys:
        """Keys ``[q, n_tables]``, column t for table t.

        >>> found = SortedKeys.of(np.array([[9, 2], [7, 2]], np.uint32))
        >>> found.row.tolist(), found.table.tolist()
        ([1, 0, 0, 1], [0, 0, 1, 1])
        """
        n_rows, n_tables = keys.shape
        tables = np.arange(n_tables, dtype=np.uint64) << np.uint64(32)
        wanted = (keys.T.astype(np.uint64) + tables[:, None]).ravel()
        order = np.argsort(wanted)
        wanted = wanted[order]
        row = (order % max(1, n_rows)).astype(np.int32)
        return cls(
            wanted, order, row, (wanted >> np.uint64(32)).astype(np.int32), (n_rows, n_tables)
        )

    def unsorted(self, values: NDArray[np.int64]) -> NDArray[np.uint32]:
        """One value for each key, where the keys stood, ``[q, n_tables]``."""
        n_rows, n_tables = self.shape
        out = np.empty(n_rows * n_tables, np.uint32)
        out[self.order] = values
        return np.ascontiguousarray(out.reshape(n_tables, n_rows).T)


@dataclasses.dataclass(frozen=True, slots=True)
class Hits:
    """What a look-up found, bucket by bucket: the hits of a bucket follow one another.

    Attributes:
        gid: uint32 ``[h]``, the snippet of each hit.
        bucket_row: int32 ``[b]``, the row of the query's keys that met each bucket.
        bucket_table: int32 ``[b]``, the table that each bucket is of.
        bucket_hits: int64 ``[b]``, hits that come from each bucket; 0 where it was left out.
        bucket_sizes: uint32 ``[q, n_tables]``, sizes of all buckets met, those left out included.
    """

    gid: NDArray[np.uint32]
    bucket_row: NDArray[np.int32]
    bucket_table: NDArray[np.int32]
    bucket_hits: NDArray[np.int64]
    bucket_sizes: NDArray[np.uint32]

    @property
    def row(self) -> NDArray[np.int32]:
        """int32 ``[h]``, the row of the query's keys behind each hit."""
        return np.repeat(self.bucket_row, self.bucket_hits)

    @property
    def bucket(self) -> NDArray[np.uint32]:
        """uint32 ``[h]``, size of the bucket that each hit came from."""
        return np.repeat(self.bucket_hits.astype(np.uint32), self.bucket_hits)
