"""Distances of a query to many codes of bytes, by look-up.

A code stands for a vector, part by part one of 256 centroids; a query stays as it is. Its squared
distance to a code is the sum of its squared distances to the centroids, and of those there are
only 256 a part: they are computed once, and a code then costs as many look-ups as it has bytes
(asymmetric distance; Jégou, Douze & Schmid, "Product quantization for nearest neighbor search",
TPAMI 2011). Where the query is reduced to a code as well, its centroids take its place (symmetric
distance).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.codebooks import Codebooks

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def distance_tables(values: Floats, codebooks: Floats) -> Floats:
    """Squared distances of queries to all centroids, part by part.

    Args:
      values: [q, m * width].
      codebooks: [m, c, width].

    Returns:
      [q, m, c], 0 and above.

    Raises:
      ValueError: shapes that do not fit.

    >>> books = np.array([[[0.0], [1.0]], [[0.0], [2.0]]], np.float32)
    >>> distance_tables(np.array([[1.0, 2.0]], np.float32), books).tolist()
    [[[1.0, 0.0], [4.0, 0.0]]]
    """
    books = Codebooks(codebooks)
    values = np.asarray(values, np.float32)
    halves = books.costs(values)
    halves += (books.parts(values) ** 2).sum(axis=2)[:, :, None] / 2
    return np.maximum(2 * halves, 0, out=halves)


def symmetric_tables(packed: Bytes, codebooks: Floats) -> Floats:
    """The same for queries that are codes [q, m]: distances between centroids.

    >>> books = np.array([[[0.0], [3.0]]], np.float32)
    >>> symmetric_tables(np.array([[1]], np.uint8), books).tolist()
    [[[9.0, 0.0]]]
    """
    return distance_tables(Codebooks(codebooks).decode(packed), codebooks)


def distances(packed: Bytes, table: Floats) -> Floats:
    """Distances [n] of codes [n, m] to one query, of which `table` [m, 256] tells those of bytes.

    1 M codes of 8 bytes take 2 ms on one core (`tests/benchmarks/bench_asymmetric.py`).

    Raises:
      ValueError: shapes that do not fit.

    >>> table = np.zeros((2, 256), np.float32)
    >>> table[0, 7], table[1, 9] = 1.0, 2.0
    >>> distances(np.array([[7, 9], [7, 0], [0, 0]], np.uint8), table).tolist()
    [3.0, 1.0, 0.0]
    """
    if packed.ndim != 2 or packed.dtype != np.uint8 or table.shape != (packed.shape[1], 256):
        raise ValueError(f"codes {packed.dtype} {packed.shape} do not fit a table {table.shape}")
    from hashing import asymmetric_kernels

    out = np.empty(len(packed), np.float32)
    table = np.ascontiguousarray(table, np.float32)
    asymmetric_kernels.add_up(np.ascontiguousarray(packed), table, out)
    return out


def nearest(packed: Bytes, table: Floats, wanted: int) -> tuple[Ints, Floats]:
    """The nearest of codes [n, m] to one query: numbers and distances, the nearest first.

    Of equally near codes the first ones; many are equally near where codes are short.

    >>> table = np.arange(256, dtype=np.float32)[None]
    >>> rows, found = nearest(np.array([[5], [3], [9], [3]], np.uint8), table, 3)
    >>> rows.tolist(), found.tolist()
    ([1, 3, 0], [3.0, 3.0, 5.0])
    """
    return smallest(distances(packed, table), wanted)


def smallest(values: Floats, wanted: int) -> tuple[Ints, Floats]:
    """The smallest of values [n], rising: their numbers, and they; of equal ones the first.

    >>> rows, found = smallest(np.array([2.0, 1.0, 2.0, 0.5], np.float32), 3)
    >>> rows.tolist()
    [3, 1, 0]
    """
    if wanted <= 0:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    if wanted < len(values):
        limit = np.partition(values, wanted - 1)[wanted - 1]
        below = np.flatnonzero(values < limit)
        equal = np.flatnonzero(values == limit)[: wanted - len(below)]
        rows = np.sort(np.concatenate([below, equal]))
    else:
        rows = np.arange(len(values))
    rows = rows[np.argsort(values[rows], kind="stable")]
    return rows, values[rows]
