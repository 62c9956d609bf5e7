"""At which distance trees of tracks are cut: figures at many cuts, and the best cut on some names.

Tuned by AMI, as Royo-Letelier et al. (ISMIR 2018) tune theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster

from hashing.artists.homonyms import Group
from hashing.clusters.scores import score_clusters
from hashing.clusters.ward import ward

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Ratio of two neighbouring cuts: the same cuts whatever the data are. Cuts of single groups spread
# by 25 % around the common one, so that finer steps would follow chance.
STEP = 2.0 ** (1.0 / 12.0)

# Quantile of the heights of all trees below which no cut is tried: hardly a track has company.
_LOWEST = 0.2


def cut_grid(trees: Sequence[Floats]) -> Floats:
    """Powers of `STEP` from where hardly a track has company to where every group is whole.

    Args:
        trees: linkages as scipy has them, [n - 1, 4] each.
    """
    heights = np.concatenate([tree[:, 2] for tree in trees]) if trees else np.zeros(0)
    heights = heights[heights > 0]
    if not heights.size:
        return np.ones(1)
    low = np.floor(np.log(np.quantile(heights, _LOWEST)) / np.log(STEP))
    high = np.ceil(np.log(heights.max()) / np.log(STEP)) + 1
    return np.asarray(STEP ** np.arange(low, high + 1))


def labels_at(tree: Floats, cut: float) -> Ints:
    """The cluster of each track where a tree is cut, [n]; a tree without merges has one track."""
    return fcluster(tree, cut, "distance") if len(tree) else np.ones(1, np.int64)


def figures_at(
    tree: Floats, cuts: npt.ArrayLike, measure: Callable[[Ints], Sequence[float]]
) -> Floats:
    """What `measure` says of the clusters at each cut, [cuts, figures].

    It is asked once for each number of clusters.

    >>> tree = np.array([[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 2.0, 3.0]])
    >>> figures_at(tree, [0.5, 1.0, 1.5, 2.5], lambda labels: [len(set(labels))]).ravel().tolist()
    [3.0, 2.0, 2.0, 1.0]
    """
    tried = np.asarray(cuts, np.float64)
    merges = np.searchsorted(tree[:, 2], tried, side="right").tolist()
    known = {
        number: measure(labels_at(tree, cut))
        for number, cut in dict(zip(merges, tried.tolist(), strict=True)).items()
    }
    return np.array([known[number] for number in merges], np.float64)


def best_cut(ami: Floats, whole: Floats | None = None, least_whole: float = 0.0) -> int:
    """The number of the cut with the best mean AMI; the middle one of equals.

    Args:
        ami: of names of several artists, [names, cuts], cuts rising.
        whole: 1 where a name of one artist stays whole, else 0, [names, cuts].
        least_whole: share of the latter that must; where no cut does, those that come nearest
            count.

    >>> ami = np.array([[0.0, 0.9, 0.2, 0.1]])
    >>> best_cut(ami), best_cut(ami, np.array([[0.0, 0.0, 1.0, 1.0]]), 0.8)
    (1, 2)
    """
    value = ami.mean(axis=0)
    if least_whole > 0.0 and whole is not None and len(whole):
        share = whole.mean(axis=0)
        value = np.where(share >= min(least_whole, share.max()) - 1e-12, value, -np.inf)
    best = np.flatnonzero(value >= value.max() - 1e-12)
    return int(best[len(best) // 2])


def tune_cut(
    embeddings: npt.NDArray[np.float32], groups: Sequence[Group], least_whole: float = 0.0
) -> float:
    """The Ward distance that tells artists of one name apart best, on some groups.

    Args:
        embeddings: [n, d].
        groups: names; those of one artist only say which cuts leave them whole.
        least_whole: share of them that must stay whole, see `best_cut`.

    Raises:
        ValueError: no group of two or more artists.
    """
    several = [group for group in groups if len(group.artists) > 1]
    if not several:
        raise ValueError("no group has two artists: nothing to tune a cut on")
    trees = [ward(embeddings[group.rows], 1.0).linkage for group in groups]
    cuts = cut_grid(trees)
    ami, whole = list[Floats](), list[Floats]()
    for group, tree in zip(groups, trees, strict=True):
        if len(group.artists) > 1:
            ami.append(ami_at(group.truth, tree, cuts))
        else:
            whole.append(figures_at(tree, cuts, lambda labels: [float(labels.max() == 1)])[:, 0])
    return float(cuts[best_cut(np.array(ami), np.array(whole), least_whole)])


def ami_at(truth: npt.ArrayLike, tree: Floats, cuts: npt.ArrayLike) -> Floats:
    """AMI of a name at each cut, [cuts]."""
    return figures_at(tree, cuts, lambda labels: [score_clusters(truth, labels).ami])[:, 0]
