"""The tracks that stand for a cluster, and those at its edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def distances_to_centre(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Euclidean distance of each track to its cluster's centroid, [n].

    By it tracks are ordered as by the mean squared distance to the others of their cluster: the
    nearest is the cluster's medoid for squared distances (Kaufman & Rousseeuw, 1990).

    >>> distances_to_centre([[0.0], [2.0], [7.0]], [1, 1, 2]).tolist()
    [1.0, 1.0, 0.0]
    """
    points, group = _checked(embeddings, labels)
    return np.asarray(np.linalg.norm(points - _centres(points, group)[group], axis=1))


def typical_tracks(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    count: int = 3,
    kinds: Sequence[object] | None = None,
) -> dict[int, list[int]]:
    """The most typical tracks of each cluster, the medoid first.

    Args:
      embeddings: of the tracks, [n, d].
      labels: cluster of each track, [n].
      count: tracks of a cluster at most.
      kinds: what a listener need not hear twice, such as the album, [n]; a second track of a kind
        comes after the first ones of others. None is a kind of no other track.

    Returns:
      Rows for each cluster, in order of the labels. Of equally typical tracks the first come first.

    >>> typical_tracks([[0.0], [1.0], [2.5], [9.0]], [1, 1, 1, 2], count=2)
    {1: [1, 0], 2: [3]}
    """
    group = np.asarray(labels)
    distance = distances_to_centre(embeddings, group)
    # Equal embeddings differ by rounding, which must not turn their order.
    distance = distance.round(9)
    order = np.lexsort((np.arange(group.size), distance))
    found: dict[int, list[int]] = {int(label): [] for label in np.unique(group)}
    for label in found:
        rows = [int(row) for row in order[group[order] == label]]
        found[label] = (_varied(rows, kinds) if kinds is not None else rows)[:count]
    return found


def _varied(rows: list[int], kinds: Sequence[object]) -> list[int]:
    """First those that are the first of their kind, then the others."""
    seen: set[object] = set()
    again = []
    for row in rows:
        kind = kinds[row]
        again.append(kind is not None and kind in seen)
        seen.add(kind)
    return [rows[i] for i in np.argsort(again, kind="stable")]


def edge_tracks(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, count: int = 3
) -> dict[int, list[tuple[int, int]]]:
    """The tracks of each cluster that another cluster's centroid is nearest to, the worst first.

    Args:
      embeddings: of the tracks, [n, d].
      labels: cluster of each track, [n].
      count: tracks of a cluster at most.

    Returns:
      (row, the other cluster) for each cluster; none where there is only one. Tracks are ordered by
      how much nearer the other centroid is, compared with their own.

    >>> edge_tracks([[0.0], [1.0], [8.0], [9.0]], [1, 1, 2, 2], count=1)
    {1: [(1, 2)], 2: [(2, 1)]}
    """
    points, group = _checked(embeddings, labels)
    names = np.unique(np.asarray(labels)).tolist()
    found: dict[int, list[tuple[int, int]]] = {int(name): [] for name in names}
    if len(names) < 2:
        return found
    centres = _centres(points, group)
    norms = np.einsum("ij,ij->i", centres, centres)
    for number, name in enumerate(names):
        rows = np.flatnonzero(group == number)
        # Less the track's own square, which is the same for all centroids.
        squares = norms - 2.0 * points[rows] @ centres.T
        own = squares[:, number].copy()
        squares[:, number] = np.inf
        other = squares.argmin(axis=1)
        worst = np.argsort(squares.min(axis=1) - own, kind="stable")[:count]
        found[int(name)] = [(int(rows[i]), int(names[other[i]])) for i in worst]
    return found


def _checked(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Ints]:
    """Points, and clusters numbered from 0 in order of their labels."""
    points = np.asarray(embeddings, dtype=np.float64)
    group = np.unique(np.asarray(labels), return_inverse=True)[1]
    if points.ndim != 2 or len(points) != group.size:
        raise ValueError(f"{group.size} labels for embeddings {list(points.shape)}")
    return points, group


def _centres(points: Floats, group: Ints) -> Floats:
    """Centroids of clusters 0, 1, ... in which each has a track, [clusters, d]."""
    if not group.size:
        return np.zeros((0, points.shape[1]))
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group)
    sums = np.add.reduceat(points[order], np.append(0, np.cumsum(counts)[:-1]), axis=0)
    return np.asarray(sums / counts[:, None])
