"""Tracks that share a name → clusters, one for each artist behind it.

Ward's method on the tracks' embeddings, cut at a distance that was tuned with the model
(Royo-Letelier et al., "Disambiguating music artists at scale with audio metric learning", ISMIR
2018). Every track and every cluster has a *confidence*.

Confidence. The tuned cut is right on average, and for one name the best cut is somewhat lower or
higher. Let it be anywhere around the tuned one: the logarithm of their ratio has mean 0 and a known
spread. A track's confidence is the share of its cluster that it would be expected to keep then: the
mean overlap (Jaccard index) of its cluster with the cluster it has at the other cut. It is 1 where
no cut could change anything, 28/29 for a track that may lose one companion of 28 for certain, and
falls, for each height that changes the cluster, the nearer that height is to the cut. A cluster's
confidence is the mean of its tracks'; what is missing to 1 over all tracks is a name's *doubt*.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from hashing.clusters.agglomerate import agglomerate
from hashing.clusters.dendrogram import build_tree, read_tree
from hashing.clusters.links import Link, linked_groups

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Standard deviation of ln(right cut of a name / tuned cut). The best cuts of 627 made-up names of
# several of 27 artists spread by .21 around the tuned ones. With .4, which also stands for errors
# of the tree, confidence agrees best with the overlap of a track's cluster and its artist's tracks:
# by fifths .51, .62, .70, .77, .87 against .41, .57, .70, .80, .99, off by .061; with .3 or .5 it
# is off by .076, with .2 by .117 (`hashbeam evaluate artists`, models of folds).
CUT_SPREAD = 0.4

# Tracks up to which scipy's matrix of distances (under 1 MB) is faster than rounds of merges.
_SMALL = 400


@dataclasses.dataclass(frozen=True)
class Clustering:
    """Clusters of the tracks of one name.

    Attributes:
      labels: cluster of each track, from 1 in order of the clusters' first tracks, int32 [n].
      linkage: the tree as `scipy.cluster.hierarchy` has it, by rising height, [n - 1, 4]: two
        clusters (tracks from 0, then rows from n), height, tracks. Must-links have height 0.
      cut: height up to which merges were made; 0 < cut.
      confidence: of each track, 0 to 1, float32 [n].
      forced: the last rows of `linkage`, which merge what must stay apart. They only make the tree
        whole; their heights are above the cut and say nothing else.
    """

    labels: npt.NDArray[np.int32]
    linkage: Floats
    cut: float
    confidence: npt.NDArray[np.float32]
    forced: int = 0

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return int(self.labels.max(initial=0))

    def cluster_confidence(self) -> npt.NDArray[np.float32]:
        """Mean confidence of each cluster's tracks, cluster 1 first, float32 [clusters]."""
        counts = np.bincount(self.labels, minlength=1)[1:]
        sums = np.bincount(self.labels, self.confidence.astype(np.float64), minlength=1)[1:]
        return np.asarray(sums / counts, dtype=np.float32)

    def doubt(self) -> float:
        """How doubtful the name is, 0 to 1: one less the mean confidence of its tracks.

        >>> round(ward(np.array([[0.0], [1.0]]), cut=1.001).doubt(), 2)  # as good as a coin
        0.25
        """
        return 1.0 - float(self.confidence.mean(dtype=np.float64)) if self.labels.size else 0.0

    def bounds(self) -> Floats:
        """From which cut on, and below which cut, each cluster is one, [clusters, 2].

        The first is 0 for a track alone; the second is infinite for the only cluster, and where
        a cannot-link keeps the cluster from every other.
        """
        n = len(self.labels)
        bounds = np.tile([0.0, np.inf], (self.n_clusters, 1))
        cluster = np.zeros(max(0, 2 * n - 1), dtype=np.int64)
        cluster[:n] = self.labels
        for row, (one, other, height, _) in enumerate(self.linkage.tolist()):
            a, b = int(cluster[int(one)]), int(cluster[int(other)])
            if a and height <= self.cut:
                cluster[n + row] = a
                bounds[a - 1, 0] = height
            elif row < len(self.linkage) - self.forced:
                for side in filter(None, (a, b)):
                    bounds[side - 1, 1] = height
        return bounds


def ward(
    embeddings: npt.ArrayLike,
    cut: float,
    must_link: Sequence[Link] = (),
    cannot_link: Sequence[Link] = (),
    spread: float = CUT_SPREAD,
) -> Clustering:
    """Clusters tracks by Ward's method, up to a distance.

    Tracks that must be together are merged first, whatever their distance, and count from then on
    as one cluster with its centroid. Clusters that must not be together never are; the next nearest
    are merged instead. The tree is exact (`hashing.clusters.agglomerate`), in any order of the
    tracks, but for ties. Memory grows with the tracks.

    Args:
      embeddings: of the tracks, [n, d], in the units of `cut`; finite.
      cut: Ward distance up to which clusters are merged, above 0; a model's is tuned with it.
      must_link, cannot_link: pairs of rows.
      spread: standard deviation of the logarithm of the right cut, for the confidence; above 0.

    Raises:
      ValueError: embeddings that are not [n, d], or have NaN or infinity; a cut or spread that is
        not above 0; a link to a row that does not exist.
      LinkError: links that contradict each other.

    >>> found = ward(np.array([[0.0], [0.1], [5.0], [5.2]]), cut=1.0)
    >>> found.labels.tolist(), found.confidence.round(2).tolist()
    ([1, 1, 2, 2], [1.0, 1.0, 1.0, 1.0])
    >>> ward(np.array([[0.0], [0.1], [5.0], [5.2]]), 1.0, [(0, 2)], [(0, 1)]).labels.tolist()
    [1, 2, 1, 3]
    """
    points = _checked(embeddings)
    for name, value in (("cut", cut), ("spread", spread)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"the {name} must be a number above 0, not {value}")
    n = len(points)
    forced = 0
    if must_link or cannot_link or n > _SMALL:
        linkage, forced = _linked(points, cut, must_link, cannot_link)
    elif n > 1:
        linkage = hierarchy.linkage(pdist(points), "ward")
    else:
        linkage = np.zeros((0, 4))
    labels, confidence = read_tree(linkage, n, cut, spread, forced)
    return Clustering(labels, linkage, cut, confidence, forced)


def _checked(embeddings: npt.ArrayLike) -> Floats:
    points = np.asarray(embeddings, dtype=np.float64)
    if points.ndim != 2:
        raise ValueError(f"embeddings must be [tracks, dimensions], not {list(points.shape)}")
    if not np.isfinite(points).all():
        rows = np.flatnonzero(~np.isfinite(points).all(axis=1))
        raise ValueError(
            f"{rows.size} of {len(points)} embeddings have NaN or infinity, the first is that of "
            f"track {rows[0]}: leave those tracks out"
        )
    return points


def _linked(
    points: Floats, cut: float, must_link: Sequence[Link], cannot_link: Sequence[Link]
) -> tuple[Floats, int]:
    """The tree, and how many of its last merges were forced."""
    n = len(points)
    group = linked_groups(n, must_link, cannot_link)
    group = _with_equals(points, group, cannot_link)
    apart = {(int(group[one]), int(group[other])) for one, other in cannot_link}
    ties = _chains(group)
    tracks, heights, left = _merged(points, group, apart)
    tracks, heights = np.concatenate((ties, tracks)), np.append(np.zeros(len(ties)), heights)
    if left > 1:
        group = linked_groups(n, tracks.tolist())
        rest, above, _ = _merged(points, group, ())
        floor = np.nextafter(max(cut, float(heights.max(initial=0.0))), np.inf)
        tracks, heights = np.concatenate((tracks, rest)), np.append(heights, above.clip(floor))
    return build_tree(tracks, heights), max(0, left - 1)


def _merged(points: Floats, group: Ints, apart: Iterable[Link]) -> tuple[Ints, Floats, int]:
    """Merges of groups by rising height, as pairs of tracks and heights, and clusters left."""
    sizes, centroids, first = _centroids(points, group)
    merges, left = agglomerate(centroids, sizes, apart)
    rise = np.argsort(merges.heights, kind="stable")
    tracks = first[np.stack((merges.first, merges.second), axis=1)[rise]]
    return tracks, merges.heights[rise], len(left)


def _chains(group: Ints) -> Ints:
    """Pairs of rows that tie each group together, [n - groups, 2]."""
    order = np.argsort(group, kind="stable")
    tied = np.flatnonzero(group[order[1:]] == group[order[:-1]])
    return np.stack((order[tied], order[tied + 1]), axis=1)


def _with_equals(points: Floats, group: Ints, cannot_link: Sequence[Link]) -> Ints:
    """Joins groups whose centroids are equal: at distance 0, nothing is merged before them."""
    _, centroids, first = _centroids(points, group)
    concerned = {int(group[row]) for link in cannot_link for row in link}
    seen: dict[bytes, int] = {}
    same = [
        (int(first[number]), int(first[seen.setdefault(centroid.tobytes(), number)]))
        for number, centroid in enumerate(centroids + 0.0)  # -0.0 becomes 0.0
        if number not in concerned
    ]
    if len(seen) == len(same):
        return group
    return linked_groups(len(points), [*_chains(group).tolist(), *same])


def _centroids(points: Floats, group: Ints) -> tuple[Floats, Floats, Ints]:
    """Size, centroid and first row of each group, [m], [m, d], [m]."""
    _, first, sizes = np.unique(group, return_index=True, return_counts=True)
    if first.size == len(points):
        return sizes.astype(np.float64), points, first
    order = np.argsort(group, kind="stable")
    # Summed around the first of each, so that equal points have exactly their own centroid.
    away = (points - points[first[group]])[order]
    sums = np.add.reduceat(away, np.append(0, np.cumsum(sizes)[:-1]), axis=0)
    return sizes.astype(np.float64), points[first] + sums / sizes[:, None], first
