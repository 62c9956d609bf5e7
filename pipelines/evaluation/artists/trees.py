"""Trees of groups, cut at many distances, and the cut that is best on artists of other folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster

from hashing.clusters.links import Link, chain
from hashing.clusters.scores import FIGURES as SCORES
from hashing.clusters.scores import ClusterScores, score_clusters
from hashing.clusters.ward import ward
from pipelines.evaluation.artists.groups import Group

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIGURES = (*SCORES, "whole", "clusters")
TUNED_BY = "ami"  # as Royo-Letelier et al. (ISMIR 2018) tune theirs

# Ratio of two neighbouring cuts: the same cuts whatever the data are. Cuts of single groups spread
# by 25 % around the common one, so that finer steps would follow chance.
STEP = 2.0 ** (1.0 / 12.0)

# Quantile of the heights of all trees below which no cut is tried: hardly a track has company.
_LOWEST = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Figures of groups at all cuts.

    Attributes:
        cuts: rising, powers of `STEP`, [cuts].
        figures: [groups, cuts, len(FIGURES)].
        best_number: at the true number of artists of each group, [groups, len(FIGURES)].
        own_cut: at the cut that the model came with, alike; None without one.
    """

    cuts: Floats
    figures: Floats
    best_number: Floats
    own_cut: Floats | None = None

    def column(self, figure: str) -> Floats:
        """One figure, [groups, cuts]."""
        return self.figures[:, :, FIGURES.index(figure)]

    def at(self, cuts: Ints) -> Floats:
        """Figures of each group at the cut of this number, [groups, len(FIGURES)]."""
        return np.asarray(self.figures[np.arange(len(self.figures)), cuts])


def scores_of(scores: ClusterScores, clusters: int) -> list[float]:
    """The figures of one group, in the order of `FIGURES`."""
    return [
        *(float(getattr(scores, name)) for name in SCORES),
        float(clusters == 1),
        float(clusters),
    ]


def album_links(group: Group, albums: Sequence[str], artists_of: dict[str, set[int]]) -> list[Link]:
    """Tracks of the group that one album ties together, as pairs of places in the group.

    An album with tracks of anybody who does not share the name is a compilation, and ties nothing;
    the artists of the group cannot be told apart by it, so two albums of one title are tied too.
    """
    places: dict[str, list[int]] = {}
    for place, row in enumerate(group.rows.tolist()):
        album = albums[row]
        if album and artists_of[album] <= set(group.artists):
            places.setdefault(album, []).append(place)
    return [link for one in places.values() for link in chain(one)]


def make_table(
    embeddings: npt.NDArray[np.float32],
    groups: Sequence[Group],
    links: Sequence[Sequence[Link]] = (),
    own_cut: float | None = None,
) -> Table:
    """Clusters each group by Ward's method, and measures it at all cuts.

    Args:
        embeddings: of all tracks, [tracks, d].
        links: of each group, pairs of its tracks that stay together; none: no links.
        own_cut: a cut that is measured besides.
    """
    trees = [
        ward(embeddings[group.rows], 1.0, links[number] if links else ()).linkage
        for number, group in enumerate(groups)
    ]
    cuts = _cuts(trees)
    figures = np.zeros((len(groups), len(cuts), len(FIGURES)))
    best = np.zeros((len(groups), len(FIGURES)))
    for number, (group, tree) in enumerate(zip(groups, trees, strict=True)):
        known: dict[int, list[float]] = {}
        for place, cut in enumerate(cuts):
            clusters = _clusters(tree, float(cut))
            if clusters not in known:
                known[clusters] = _measure(group, tree, float(cut))
            figures[number, place] = known[clusters]
        best[number] = _at_number(group, tree)
    own = None
    if own_cut is not None:
        pairs = zip(groups, trees, strict=True)
        own = np.array([_measure(group, tree, own_cut) for group, tree in pairs])
    return Table(cuts, figures, best, own)


def label_figures(group: Group, labels: Ints) -> list[float]:
    """The figures of clusters that no tree is behind."""
    return scores_of(score_clusters(group.truth, labels), len(np.unique(labels)))


def tune(table: Table, mixed: Ints, single: Ints, least_whole: float = 0.0) -> int:
    """The number of the cut with the best mean AMI on some groups.

    Args:
        mixed: groups of several artists, as rows of the table.
        single: groups of one artist.
        least_whole: share of the latter that must stay whole; where no cut does, the one that
            comes nearest counts.

    Of neighbouring cuts that are equally good, the middle one.
    """
    value = table.column(TUNED_BY)[mixed].mean(axis=0)
    if least_whole > 0.0 and single.size:
        whole = table.column("whole")[single].mean(axis=0)
        value = np.where(whole >= min(least_whole, whole.max()) - 1e-12, value, -np.inf)
    good = value >= value.max() - 1e-12
    first = int(np.argmax(good))
    after = np.flatnonzero(~good[first:])
    last = first + (int(after[0]) if after.size else len(good) - first) - 1
    return (first + last) // 2


def _cuts(trees: Sequence[Floats]) -> Floats:
    """Powers of `STEP` from where hardly a track has company to where every group is whole."""
    heights = np.concatenate([tree[:, 2] for tree in trees]) if trees else np.zeros(0)
    heights = heights[heights > 0]
    if not heights.size:
        return np.ones(1)
    low = np.floor(np.log(np.quantile(heights, _LOWEST)) / np.log(STEP))
    high = np.ceil(np.log(heights.max()) / np.log(STEP)) + 1
    return np.asarray(STEP ** np.arange(low, high + 1))


def _clusters(tree: Floats, cut: float) -> int:
    return len(tree) + 1 - int(np.searchsorted(tree[:, 2], cut, side="right"))


def _measure(group: Group, tree: Floats, cut: float) -> list[float]:
    labels = fcluster(tree, cut, "distance") if len(tree) else np.ones(1, np.int64)
    return label_figures(group, labels)


def _at_number(group: Group, tree: Floats) -> list[float]:
    if len(tree) < len(group.artists):
        return _measure(group, tree, 0.0)
    height = float(tree[len(tree) - len(group.artists), 2])
    return _measure(group, tree, height)
