"""Cluster numbers that stay the same from run to run.

A number is a promise: whoever has written down "Nirvana, 2" must find the same tracks there later.
So clusters of a new run take over the numbers of the old ones whose tracks they hold, a number that
nobody takes over is retired, and no number is ever given twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Numbering:
    """Numbers of the clusters of one name.

    Attributes:
      labels: number of each track's cluster, int32 [n].
      highest: the highest number that the name has ever had; to be kept for the next run.
      opened: numbers given for the first time.
      retired: old numbers that no cluster has any more, though some of their tracks are still here.
      moved: rows of tracks that had a number and now have another.
    """

    labels: npt.NDArray[np.int32]
    highest: int
    opened: list[int]
    retired: list[int]
    moved: list[int]


def keep_numbers(
    track_ids: Sequence[str], labels: npt.ArrayLike, old: Mapping[str, int], highest: int = 0
) -> Numbering:
    """Numbers clusters so that as many tracks as possible keep their number.

    Old and new clusters are matched one to one, by the most tracks in common (Hungarian method:
    Kuhn, 1955). New tracks take the number of the cluster that they are in; a cluster that takes
    over no number gets the next free one, clusters in order of their least track ids. The result
    does not depend on the order of the tracks.

    Args:
      track_ids: of the tracks, all different.
      labels: new cluster of each, in any numbers; 0 for tracks left alone, which stay 0.
      old: number of each track in the run before, and of any number of tracks that are gone.
      highest: the highest number ever given for this name, if known.

    Raises:
      ValueError: ids that are not all different, or not one for each label.

    >>> found = keep_numbers(["a", "b", "c", "d"], [1, 2, 2, 3], {"b": 1, "c": 1, "x": 4})
    >>> found.labels.tolist(), found.highest, found.opened
    ([5, 1, 1, 6], 6, [5, 6])
    """
    clusters = np.asarray(labels, dtype=np.int64)
    if len(set(track_ids)) != len(track_ids) or clusters.shape != (len(track_ids),):
        raise ValueError(f"{len(set(track_ids))} track ids for labels {list(clusters.shape)}")
    before = np.array([old.get(track, 0) for track in track_ids], dtype=np.int64)
    highest = max([highest, 0, *old.values()])
    rows = np.array(sorted(range(len(track_ids)), key=track_ids.__getitem__), dtype=np.int64)
    # Clusters in order of their least track ids.
    order = [int(one) for one in dict.fromkeys(clusters[rows].tolist()) if one]
    place = {cluster: i for i, cluster in enumerate(order)}
    both = (clusters != 0) & (before != 0)
    taken = _match(
        np.array([place[one] for one in clusters[both].tolist()], np.int64), before[both]
    )
    number, opened = {0: 0}, []
    for i, cluster in enumerate(order):
        if i not in taken:
            highest += 1
            opened.append(highest)
        number[cluster] = taken.get(i, highest)
    found = np.array([number[one] for one in clusters.tolist()], dtype=np.int32)
    retired = sorted(set(before[before != 0].tolist()) - set(found.tolist()))
    moved = np.flatnonzero((before != 0) & (found != before)).tolist()
    return Numbering(found, highest, opened, retired, moved)


def _match(clusters: Ints, numbers: Ints) -> dict[int, int]:
    """The number that each cluster takes over, from the tracks that have both."""
    olds, column = np.unique(numbers, return_inverse=True)
    n = int(clusters.max(initial=-1)) + 1
    shape = (n, olds.size)
    common = coo_array((np.ones(clusters.size, np.int64), (clusters, column)), shape).tocsr()
    # Clusters and numbers that are tied by tracks are few at a time, even among thousands.
    node = coo_array((np.ones(clusters.size), (clusters, column + n)), (n + olds.size,) * 2)
    _, part = connected_components(node, directed=False)
    taken: dict[int, int] = {}
    order = np.argsort(part, kind="stable")
    for nodes in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
        here, there = nodes[nodes < n], nodes[nodes >= n] - n
        if not (here.size and there.size):
            continue
        counts = common[here][:, there].toarray()
        for i, j in zip(*linear_sum_assignment(counts, maximize=True), strict=True):
            if counts[i, j]:
                taken[int(here[i])] = int(olds[there[j]])
    return taken
