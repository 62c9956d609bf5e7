"""Pairs of tracks that must be in one cluster, and pairs that must not.

They come from an editor, whose word counts, and from albums, which are a wish: "keep the tracks of
an album together, unless an editor has said otherwise" (constraints as in Wagstaff et al.,
"Constrained k-means clustering", ICML 2001).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hashing.errors import HashbeamError

Link = tuple[int, int]
Ints = npt.NDArray[np.int64]


class LinkError(HashbeamError):
    """A pair of tracks must be in one cluster and must not. `pair` are the rows of the two."""

    def __init__(self, pair: Link) -> None:
        super().__init__(
            f"tracks {pair[0]} and {pair[1]} must not be in one cluster, but other decisions put "
            "them together: take one of the decisions back"
        )
        self.pair = pair

    def __reduce__(self) -> tuple[type[LinkError], tuple[Link]]:
        return (LinkError, (self.pair,))


def linked_groups(n: int, must_link: Iterable[Link] = (), cannot_link: Iterable[Link] = ()) -> Ints:
    """Groups of rows that must-links tie together, numbered from 0 in order of their first row.

    Args:
      n: rows.
      must_link, cannot_link: pairs of rows, each from 0 to n - 1.

    Raises:
      LinkError: a cannot-link within a group, or of a track with itself.
      ValueError: a row that does not exist.

    >>> linked_groups(4, [(1, 3)]).tolist()
    [0, 1, 2, 1]
    """
    ties = _Ties(n)
    for one, other in must_link:
        ties.join(one, other)
    for one, other in cannot_link:
        if ties.find(one) == ties.find(other):
            raise LinkError((one, other))
    return ties.numbers()


def settle(
    n: int,
    must_link: Iterable[Link],
    cannot_link: Iterable[Link],
    wishes: Iterable[Link],
) -> tuple[list[Link], list[Link]]:
    """The wishes that decisions leave possible, tried in their order, and those that they do not.

    Raises:
      LinkError: the decisions contradict each other.

    >>> settle(4, [(0, 1)], [(1, 2)], [(2, 3), (3, 0)])
    ([(2, 3)], [(3, 0)])
    """
    must_link, cannot_link = list(must_link), list(cannot_link)
    linked_groups(n, must_link, cannot_link)
    ties = _Ties(n)
    for one, other in must_link:
        ties.join(one, other)
    apart: dict[int, set[int]] = {}
    for one, other in cannot_link:
        a, b = ties.find(one), ties.find(other)
        apart.setdefault(a, set()).add(b)
        apart.setdefault(b, set()).add(a)
    granted: list[Link] = []
    refused: list[Link] = []
    for one, other in wishes:
        a, b = ties.find(one), ties.find(other)
        if b in apart.get(a, ()):
            refused.append((one, other))
            continue
        granted.append((one, other))
        if a == b:
            continue
        kept = ties.join(a, b)
        gone = b if kept == a else a
        for row in apart.pop(gone, set()):
            apart[row].discard(gone)
            apart[row].add(kept)
            apart.setdefault(kept, set()).add(row)
    return granted, refused


def chain(rows: Sequence[int]) -> list[Link]:
    """Must-links that keep `rows` together, each with the next: one less than there are rows.

    >>> chain([4, 7, 9])
    [(4, 7), (7, 9)]
    """
    return list(itertools.pairwise(rows))


def hold(labels: Sequence[int]) -> tuple[list[Link], list[Link]]:
    """Must-links and cannot-links that keep clusters as they are, so that only new tracks move.

    Args:
      labels: an earlier cluster of each row; 0 for a new track, which stays free.

    Returns:
      A chain of must-links through each cluster, and a cannot-link between each two clusters: as
      many as there are pairs, so thousands of clusters are too many.

    >>> hold([1, 1, 0, 2])
    ([(0, 1)], [(0, 3)])
    """
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        if label:
            rows.setdefault(label, []).append(row)
    first = [held[0] for held in rows.values()]
    apart = [(one, other) for i, one in enumerate(first) for other in first[i + 1 :]]
    return [link for held in rows.values() for link in chain(held)], apart


class _Ties:
    """Sets of rows that grow together (union-find with path halving; Tarjan, 1975)."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, row: int) -> int:
        """The row that stands for the set of `row`."""
        parent = self.parent
        if not 0 <= row < len(parent):
            raise ValueError(f"a link names track {row}, but there are {len(parent)} tracks")
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, one: int, other: int) -> int:
        """Makes one set of two; returns the row that stands for it, the lower one."""
        low, high = sorted((self.find(one), self.find(other)))
        self.parent[high] = low
        return low

    def numbers(self) -> Ints:
        """Number of the set of each row, from 0 in order of the first rows."""
        number: dict[int, int] = {}
        return np.array(
            [number.setdefault(self.find(row), len(number)) for row in range(len(self.parent))],
            dtype=np.int64,
        )
