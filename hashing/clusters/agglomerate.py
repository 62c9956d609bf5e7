"""Exact Ward clustering without a matrix of all distances.

Ward's method (Ward, JASA 1963) merges, again and again, the two clusters whose union adds least to
the sum of squares within clusters. Its distance only grows by merging ("reducible": Bruynooghe,
1977), so two clusters that are nearest to each other may be merged at once, whatever the others do,
and the tree is the same. Here all such pairs are merged in rounds. The nearest cluster of most
others stays what it was; those of the rest are looked for with one product of matrices. Clusters
are kept as centroids and sizes: memory grows with the tracks, not with their square.

A pair that must not be merged is infinitely far apart, which keeps the distance reducible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Distances that are worked on at once, 4 MB, and clusters at least: with fewer of either, or many
# more, 6,000 points take 1.1 to 2 times as long.
_BLOCK, _LEAST = 1 << 19, 64

# Searches for nearest clusters, per track, after which pairs are sought one by one along chains of
# neighbours. Music and random points need 4 to 6; only made-up data, where one cluster is the
# nearest of all others merge after merge, would need as many rounds as tracks.
_SEARCHES_PER_TRACK = 16

_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True)
class Merges:
    """Merges in an order in which they can be made.

    Attributes:
      first, second: rows of the starting clusters, one of either side of each merge, [m].
      heights: Ward distance of the two sides, [m]; never falling along a branch.
    """

    first: Ints
    second: Ints
    heights: Floats


def agglomerate(
    centroids: Floats, sizes: Floats, apart: Iterable[tuple[int, int]] = ()
) -> tuple[Merges, Ints]:
    """Merges clusters by Ward's method until one is left, or none of the rest may be merged.

    The height of a merge is ``sqrt(2 a b / (a + b)) * |x - y|`` for sizes a and b and centroids x
    and y: the Euclidean distance for two tracks, as in ``scipy.cluster.hierarchy.ward``.

    Args:
      centroids: of the starting clusters, finite, [n, d].
      sizes: tracks in each, above 0, [n].
      apart: rows of clusters that must never be in one.

    Returns:
      The merges, and a row of each cluster that is left.

    >>> merges, left = agglomerate(np.array([[0.0], [4.0], [1.0]]), np.ones(3))
    >>> merges.first.tolist(), merges.second.tolist(), merges.heights.round(3).tolist()
    ([0, 0], [2, 1], [1.0, 4.041])
    """
    state = _State(centroids, sizes, apart)
    n = len(centroids)
    found: list[tuple[Ints, Ints, Floats]] = []
    budget = _SEARCHES_PER_TRACK * n
    while state.n > 1:
        if state.searched <= budget:
            state.search(np.flatnonzero(state.stale))
            pairs = state.reciprocal()
        else:
            pairs = state.walk()
        if not pairs[0].size:
            break
        found.append(state.merge(*pairs))
    first, second, heights = zip((_NONE, _NONE, np.zeros(0)), *found, strict=True)
    merges = Merges(np.concatenate(first), np.concatenate(second), np.concatenate(heights))
    return merges, state.rows


class _State:
    """The clusters that are left, each at a place from 0 to n."""

    def __init__(self, centroids: Floats, sizes: Floats, apart: Iterable[tuple[int, int]]) -> None:
        self.n = len(centroids)
        # Small numbers lose less in the product below.
        self.centroids = centroids - centroids.mean(axis=0) if self.n else centroids.copy()
        self.sizes = sizes.astype(np.float64)
        self.heights = np.zeros(self.n)  # at which each was made
        self.rows = np.arange(self.n)  # a row of each: the first of its first merge
        self.nearest = np.zeros(self.n, dtype=np.int64)
        self.squares = np.full(self.n, np.inf)  # half the squared Ward distance to the nearest
        self.stale = np.ones(self.n, dtype=bool)  # whose nearest must be looked for
        self.searched = 0
        self.apart: dict[int, set[int]] = {}  # by row
        for one, other in apart:
            self.apart.setdefault(one, set()).add(other)
            self.apart.setdefault(other, set()).add(one)
        self.place = np.arange(self.n)  # of a row that stands for a cluster

    def search(self, places: Ints) -> None:
        """Finds the nearest clusters of those at `places`."""
        norms = np.einsum("ij,ij->i", self.centroids, self.centroids)
        inverse = 1.0 / self.sizes
        step = max(_LEAST, _BLOCK // self.n)
        buffer, factors = np.empty((2, min(step, places.size), self.n))
        for start in range(0, places.size, step):
            part = places[start : start + step]
            squares, factor = buffer[: part.size], factors[: part.size]
            np.matmul(-2.0 * self.centroids[part], self.centroids.T, out=squares)
            squares += norms
            squares += norms[part, None]
            np.add(inverse[part, None], inverse, out=factor)
            np.divide(squares, factor, out=squares)
            line = np.arange(part.size)
            squares[line, part] = np.inf
            if self.apart:
                self._keep_apart(squares, part)
            self.nearest[part] = squares.argmin(axis=1)
            self.squares[part] = squares[line, self.nearest[part]]
        self.stale[places] = False
        self.searched += places.size

    def _keep_apart(self, squares: Floats, places: Ints) -> None:
        for line, row in enumerate(self.rows[places].tolist()):
            if row in self.apart:
                squares[line, self.place[list(self.apart[row])]] = np.inf

    def reciprocal(self) -> tuple[Ints, Ints]:
        """All pairs of clusters that are each other's nearest; every nearest must be known."""
        places = np.arange(self.n)
        mutual = (self.nearest[self.nearest] == places) & (places < self.nearest)
        one = np.flatnonzero(mutual & np.isfinite(self.squares))
        if not one.size:
            # Among equal distances, nearest ones may go round in a circle.
            one = np.flatnonzero(np.isfinite(self.squares))
            one = one[[self.squares[one].argmin()]] if one.size else one
        return one, self.nearest[one]

    def walk(self) -> tuple[Ints, Ints]:
        """One pair of clusters that are each other's nearest, at the end of a chain of nearest."""
        before, distance = -1, np.inf
        place = self._start()
        while place >= 0:
            if self.stale[place]:
                self.search(np.array([place]))
            nearest = float(self.squares[place])
            if not np.isfinite(nearest):
                place = self._start()
            elif before >= 0 and nearest >= distance:
                return np.array([before]), np.array([place])
            else:
                before, distance = place, nearest
                place = int(self.nearest[place])
        return _NONE, _NONE

    def _start(self) -> int:
        """Where a chain may start: a cluster that has, or may have, one that it may merge with."""
        known = np.where(self.stale, 0.0, self.squares)
        place = int(known.argmin())
        return place if np.isfinite(known[place]) else -1

    def merge(self, one: Ints, other: Ints) -> tuple[Ints, Ints, Floats]:
        """Merges pairs of clusters, and forgets what is no longer known."""
        first, second = self.rows[one], self.rows[other]
        sizes = self.sizes[one] + self.sizes[other]
        share = (self.sizes[other] / sizes)[:, None]
        away = self.centroids[other] - self.centroids[one]
        squares = np.einsum("ij,ij->i", away, away)
        heights = np.sqrt(2.0 * self.sizes[one] * self.sizes[other] / sizes * squares)
        # Rounding must not turn a branch over.
        heights = np.maximum(heights, np.maximum(self.heights[one], self.heights[other]))
        self.centroids[one] += share * away
        self.sizes[one], self.heights[one] = sizes, heights
        if self.apart:
            for kept, gone in zip(first.tolist(), second.tolist(), strict=True):
                self._inherit(kept, gone)
        merged = np.zeros(self.n, dtype=bool)
        merged[one] = merged[other] = True
        self.stale |= merged | merged[self.nearest]
        keep = np.ones(self.n, dtype=bool)
        keep[other] = False
        self.nearest = (np.cumsum(keep) - 1)[self.nearest][keep]
        self.centroids, self.sizes = self.centroids[keep], self.sizes[keep]
        self.heights, self.rows = self.heights[keep], self.rows[keep]
        self.squares, self.stale = self.squares[keep], self.stale[keep]
        self.n = len(self.rows)
        self.place[self.rows] = np.arange(self.n)
        return first, second, heights

    def _inherit(self, kept: int, gone: int) -> None:
        """What must not be with `gone` must not be with `kept`, which it is now part of."""
        for row in self.apart.pop(gone, ()):
            self.apart[row].discard(gone)
            self.apart[row].add(kept)
            self.apart.setdefault(kept, set()).add(row)
