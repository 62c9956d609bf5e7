"""Trees of groups, cut at many distances, and the cut that is best on artists of other folds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.artists.cuts import best_cut, cut_grid, figures_at, labels_at
from hashing.artists.homonyms import Group
from hashing.clusters.links import Link, chain
from hashing.clusters.scores import FIGURES as SCORES
from hashing.clusters.scores import ClusterScores, score_clusters
from hashing.clusters.ward import ward

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIGURES = (*SCORES, "whole", "clusters")


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Figures of groups at all cuts.

    Attributes:
        cuts: rising, powers of `STEP`, [cuts].
        figures: [groups, cuts, len(FIGURES)].
        best_number: at the true number of artists of each group, [groups, len(FIGURES)].
        own_cut: at the cut that the model came with, alike; None without one.
        trees: of each group, a linkage as scipy has it, [tracks - 1, 4].
    """

    cuts: Floats
    figures: Floats
    best_number: Floats
    own_cut: Floats | None = None
    trees: Sequence[Floats] = ()

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
    own_cuts: Sequence[float] = (),
) -> Table:
    """Clusters each group by Ward's method, and measures it at all cuts.

    Args:
        embeddings: of all tracks, [tracks, d].
        links: of each group, pairs of its tracks that stay together; none: no links.
        own_cuts: of each group, a cut that is measured besides; none: no such cuts.
    """
    trees = [
        ward(embeddings[group.rows], 1.0, links[number] if links else ()).linkage
        for number, group in enumerate(groups)
    ]
    cuts = cut_grid(trees)
    pairs = list(zip(groups, trees, strict=True))
    figures = np.zeros((len(groups), len(cuts), len(FIGURES)))
    for number, (group, tree) in enumerate(pairs):
        figures[number] = figures_at(tree, cuts, functools.partial(label_figures, group))
    best = np.array([_at_number(group, tree) for group, tree in pairs])
    own = None
    if own_cuts:
        own = np.array(
            [_measure(group, tree, cut) for (group, tree), cut in zip(pairs, own_cuts, strict=True)]
        )
    return Table(cuts, figures, best, own, trees)


def label_figures(group: Group, labels: Ints) -> list[float]:
    """The figures of clusters that no tree is behind."""
    return scores_of(score_clusters(group.truth, labels), len(np.unique(labels)))


def tune(table: Table, mixed: Ints, single: Ints, least_whole: float = 0.0) -> int:
    """The number of the cut that is best on some groups; see `best_cut`.

    Args:
        mixed: groups of several artists, as rows of the table.
        single: groups of one artist.
        least_whole: share of the latter that must stay whole.
    """
    return best_cut(table.column("ami")[mixed], table.column("whole")[single], least_whole)


def _measure(group: Group, tree: Floats, cut: float) -> list[float]:
    return label_figures(group, labels_at(tree, cut))


def _at_number(group: Group, tree: Floats) -> list[float]:
    if len(tree) < len(group.artists):
        return _measure(group, tree, 0.0)
    height = float(tree[len(tree) - len(group.artists), 2])
    return _measure(group, tree, height)
