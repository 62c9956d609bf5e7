"""The inverted multi-index: the nearest cells of a fine grid, without looking at the others.

Vectors are cut in halves, and each half has a codebook of its own. A pair of centroids is a cell:
with 256 each there are 65,536 cells for two codebooks' worth of distances. A query visits cells in
the order of the sum of its two distances (multi-sequence), until they hold as many items as are
wanted; only these are then compared by their codes.

Source: Babenko & Lempitsky, "The inverted multi-index" (CVPR 2012).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.asymmetric import distance_tables
from hashing.one_thread_faiss import k_means

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Rows whose cells are found at once: 65,536 distances each would be 0.3 GB for a thousand.
_BLOCK_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class MultiIndex:
    """Items in the order of their cells.

    Attributes:
      codebooks: [2, k, width], centroids of the two halves.
      offsets: where the items of each cell begin in `rows`, and where the last ones end,
        [k * k + 1]; cell (i, j) has number ``i * k + j``.
      rows: numbers of the items, cell by cell, rising in each, [n].
    """

    codebooks: Floats
    offsets: Ints
    rows: Ints

    def __post_init__(self) -> None:
        books = self.codebooks
        if books.ndim != 3 or len(books) != 2 or not books.size or not np.isfinite(books).all():
            raise ValueError(f"codebooks must be [2, k, width] and finite, got {books.shape}")
        cells = books.shape[1] ** 2
        bounds = self.offsets.shape == (cells + 1,) and self.offsets[0] == 0
        if not bounds or self.offsets[-1] != len(self.rows) or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"offsets do not tell where {cells} cells of {len(self.rows)} begin")

    @classmethod
    def build(cls, values: Floats, codebooks: Floats) -> MultiIndex:
        """The index of items [n, 2 * width].

        >>> books = np.array([[[0.0], [1.0]], [[0.0], [1.0]]], np.float32)
        >>> index = MultiIndex.build(np.array([[0.9, 0.1], [0, 0], [1, 0]], np.float32), books)
        >>> index.offsets.tolist(), index.rows.tolist()
        ([0, 1, 1, 3, 3], [1, 0, 2])
        """
        cells = cells_of(values, codebooks)
        k = codebooks.shape[1]
        offsets = np.concatenate(([0], np.cumsum(np.bincount(cells, minlength=k * k))))
        rows = np.argsort(cells, kind="stable")
        return cls(np.asarray(codebooks, np.float32), offsets.astype(np.int64), rows)

    def candidates(self, query: Floats, wanted: int) -> Ints:
        """Places in `rows` of the items of the nearest cells, `wanted` of them or a few more.

        Cells come nearest first; the last one comes whole.

        Args:
          query: [2 * width].

        Raises:
          ValueError: a query that does not fit.
        """
        from hashing import asymmetric_kernels

        costs = distance_tables(np.asarray(query, np.float32)[None], self.codebooks)[0]
        orders = np.argsort(costs, axis=1, kind="stable")
        k = costs.shape[1]
        sizes = np.diff(self.offsets).reshape(k, k)[orders[0][:, None], orders[1]]
        first, second = (costs[side][orders[side]] for side in (0, 1))
        found = np.empty((k * k, 2), np.int64)
        count = asymmetric_kernels.visit(first, second, sizes, wanted, found)
        cells = orders[0][found[:count, 0]] * k + orders[1][found[:count, 1]]
        cells = cells[self.offsets[cells] < self.offsets[cells + 1]]
        return _ranges(self.offsets[cells], self.offsets[cells + 1])


def fit_codebooks(values: Floats, centroids: int, seed: int = 0) -> Floats:
    """Codebooks [2, centroids, width] of the two halves of items [n, 2 * width], by k-means.

    Raises:
      ValueError: an odd number of dimensions, fewer items than centroids, no number among them.
    """
    items = np.asarray(values, np.float32)
    if items.ndim != 2 or items.shape[1] % 2 or not items.shape[1]:
        raise ValueError(f"items {items.shape} have no two halves")
    if not np.isfinite(items).all():
        raise ValueError("items must be finite")
    if not 1 <= centroids <= len(items):
        raise ValueError(f"{len(items)} items have no {centroids} centroids")
    width = items.shape[1] // 2
    halves = items[:, :width], items[:, width:]
    return np.stack([k_means(half, centroids, seed) for half in halves])


def cells_of(values: Floats, codebooks: Floats) -> npt.NDArray[np.int64]:
    """The number of the cell of each of some items [n, 2 * width]; see `MultiIndex.offsets`."""
    found = np.empty(len(values), np.int64)
    for at in range(0, len(values), _BLOCK_ROWS):
        costs = distance_tables(values[at : at + _BLOCK_ROWS], codebooks)
        near = costs.argmin(axis=2)
        found[at : at + _BLOCK_ROWS] = near[:, 0] * codebooks.shape[1] + near[:, 1]
    return found


def _ranges(starts: npt.NDArray[np.integer[Any]], ends: npt.NDArray[np.integer[Any]]) -> Ints:
    """All numbers from each start to its end, one range after another; none is empty."""
    counts = ends - starts
    if not len(counts):
        return np.empty(0, np.int64)
    leaps = np.ones(int(counts.sum()), np.int64)
    leaps[0] = starts[0]
    leaps[np.cumsum(counts)[:-1]] = starts[1:] - ends[:-1] + 1
    return np.cumsum(leaps)
