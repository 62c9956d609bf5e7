"""The tree of merges: built from pairs, cut into clusters, and asked how firm the clusters are."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def build_tree(tracks: Ints, heights: Floats) -> Floats:
    """A linkage as `scipy.cluster.hierarchy` has it, [n - 1, 4], from all n - 1 merges.

    Args:
      tracks: one track of either side of each merge, in the order of the rows, [n - 1, 2].
      heights: of the merges, [n - 1].

    >>> build_tree(np.array([[0, 2], [1, 2]]), np.array([1.0, 3.0])).tolist()
    [[0.0, 2.0, 1.0, 2.0], [1.0, 3.0, 3.0, 3.0]]
    """
    n = len(tracks) + 1
    parent = list(range(n))  # a track further up, of each track of a cluster
    node, size = list(range(n)), [1] * n  # of the cluster, where a track is at its top

    def top(track: int) -> int:
        while parent[track] != track:
            parent[track] = parent[parent[track]]
            track = parent[track]
        return track

    rows = []
    for row, (one, other) in enumerate(tracks.tolist()):
        one, other = top(one), top(other)
        low, high = sorted((node[one], node[other]))
        parent[other] = one
        node[one] = n + row
        size[one] += size[other]
        rows.append((low, high, size[one]))
    linkage = np.zeros((n - 1, 4))
    if rows:
        linkage[:, [0, 1, 3]] = rows
        linkage[:, 2] = heights
    return linkage


def chance_below(heights: Floats, cut: float, spread: float) -> Floats:
    """How likely the right cut is below each height, where it lies around `cut`.

    Its logarithm is taken to be logistic, a bell with heavier tails than the normal one and a
    distribution function without integrals: 0.5 at the cut, 0 at height 0.

    Args:
      spread: standard deviation of ln(right cut / cut).

    >>> chance_below(np.array([0.0, 0.8, 1.0, 1.25]), 1.0, 0.2).round(3).tolist()
    [0.0, 0.117, 0.5, 0.883]
    """
    steepness = math.pi / (math.sqrt(3.0) * spread)
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1.0 / (1.0 + (cut / heights) ** steepness))


def read_tree(
    linkage: Floats, n: int, cut: float, spread: float, forced: int = 0
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Clusters at a cut, and how much of its cluster each track keeps at cuts around it.

    A track's cluster at another cut lies inside its cluster at this one, or around it; the overlap
    of the two (Jaccard index) is the size of the smaller over that of the larger. Its mean over all
    cuts, each as likely as `chance_below` says, is a sum over the branches above the track.

    Args:
      linkage: as `scipy.cluster.hierarchy` has it, [n - 1, 4], heights never falling.
      n: tracks.
      cut: merges up to this height are made.
      spread: see `chance_below`.
      forced: the last rows, which no cut makes.

    Returns:
      Labels from 1 in order of first track [n], and the expected overlap, 0 to 1 [n].

    >>> labels, kept = read_tree(np.array([[0.0, 1.0, 1.0, 2.0]]), 2, cut=1.0, spread=0.2)
    >>> labels.tolist(), kept.tolist()
    ([1, 1], [0.75, 0.75])
    """
    # A plain loop from the root down: most names have some sixty tracks, where it takes less time
    # than numpy does.
    made = n - 1 - forced
    whole = (linkage[:made, 2] <= cut).tolist() + [False] * forced
    starts = [0.0] * n + chance_below(linkage[:made, 2], cut, spread).tolist() + [1.0] * forced
    sizes = [1] * n + linkage[:, 3].astype(np.int64).tolist()
    sides = linkage[:, :2].astype(np.int64).tolist()
    # Over the cuts above where a node ends: above the tuned cut the mean of 1 / size, within a
    # cluster the mean of the overlap.
    kept = [0.0] * (2 * n - 1)
    cluster = [0] * (2 * n - 1)  # 0 above the cut
    size_of = [0]
    branches = [(2 * n - 2, 1.0, 0.0, 0)] if n else []
    for row in range(n - 1, -1, -1):
        if row < n - 1:
            node = n + row
            start, sofar, within = starts[node], kept[node], cluster[node]
            branches = [(child, start, sofar, within) for child in sides[row]]
        for child, end, sofar, within in branches:
            size = sizes[child]
            chance = end - starts[child]
            if within:
                kept[child] = sofar + chance * size / size_of[within]
            elif child < n or whole[child - n]:
                kept[child] = (sofar + chance / size) * size
                within = len(size_of)
                size_of.append(size)
            else:
                kept[child] = sofar + chance / size
            cluster[child] = within
    number: dict[int, int] = {}
    labels = [number.setdefault(one, len(number) + 1) for one in cluster[:n]]
    return (
        np.array(labels, dtype=np.int32),
        np.array(kept[:n], dtype=np.float32).clip(0.0, 1.0),
    )
