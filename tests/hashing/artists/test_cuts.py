"""Cuts of trees: the best one by scikit-learn's figures, and what must stay whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_mutual_info_score

from hashing.artists.cuts import STEP, ami_at, best_cut, cut_grid, figures_at, tune_cut
from hashing.artists.encoder import unit
from hashing.artists.homonyms import Group


def names(seed: int, artists: int = 10) -> tuple[np.ndarray, list[Group]]:
    """Embeddings in clouds, and names of two artists and of one."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((artists, 8)) * 2
    noise = rng.standard_normal((5 * artists, 8))
    points = unit((np.repeat(centres, 5, axis=0) + noise).astype(np.float32))
    truth = np.repeat(np.arange(artists), 5)

    def group(*own: int) -> Group:
        rows = np.flatnonzero(np.isin(truth, own))
        return Group("mixed" if own[1:] else "single", 1, 0, own, rows, truth[rows])

    pairs = [group(one, one + 1) for one in range(0, artists, 2)]
    return points, pairs + [group(one) for one in range(artists)]


def test_the_tuned_cut_is_the_best_by_an_independent_reference() -> None:
    points, groups = names(4)
    pairs = [group for group in groups if group.kind == "mixed"]
    trees = [linkage(points[group.rows], "ward") for group in pairs]

    def ami(cut: float) -> float:
        found = [
            adjusted_mutual_info_score(group.truth, fcluster(tree, cut, "distance"))
            for group, tree in zip(pairs, trees, strict=True)
        ]
        return float(np.mean(found))

    cut = tune_cut(points, groups)
    assert ami(cut) == pytest.approx(max(map(ami, STEP ** np.arange(-9, 12))), abs=1e-6)
    assert ami(cut) > max(ami(0.01), ami(100.0)) + 0.2


def test_a_share_of_the_names_of_one_artist_stays_whole() -> None:
    points, groups = names(5)
    tops = sorted(
        linkage(points[group.rows], "ward")[-1, 2] for group in groups if group.kind == "single"
    )
    low, every = (tune_cut(points, groups, share) for share in (0.0, 1.0))
    assert low < tops[-1] <= every
    most = np.mean([top <= tune_cut(points, groups, 0.8) for top in tops])
    assert most >= 0.8


def test_equals_and_what_cannot_be() -> None:
    assert best_cut(np.array([[0.0, 0.5, 0.5, 0.5, 0.1]])) == 2
    # Where nothing leaves as many whole, what comes nearest counts.
    whole = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert best_cut(np.array([[0.9, 0.5, 0.2, 0.3]]), whole, 0.8) == 3
    with pytest.raises(ValueError, match="no group has two artists"):
        tune_cut(np.zeros((3, 2), np.float32), [Group("single", 1, 0, (0,), *[np.arange(3)] * 2)])


def test_figures_at_a_cut_are_those_of_its_clusters() -> None:
    points, groups = names(6, 2)
    tree = linkage(points[groups[0].rows], "ward")
    cuts = [0.0, *(tree[:, 2] * (1 + 1e-9)), 9.0]
    counts = figures_at(tree, cuts, lambda labels: [len(set(labels.tolist()))])
    assert counts[:, 0].tolist() == [10, *range(9, 0, -1), 1]
    expected = [
        adjusted_mutual_info_score(groups[0].truth, fcluster(tree, cut, "distance")) for cut in cuts
    ]
    np.testing.assert_allclose(ami_at(groups[0].truth, tree, cuts), expected, atol=1e-9)


def test_tracks_alone_and_equal_tracks_do_not_hurt() -> None:
    points = unit(np.ones((6, 2), np.float32))
    two = Group("mixed", 1, 0, (0, 1), np.arange(4), np.array([0, 0, 1, 1]))
    alone = Group("single", 1, 0, (2,), np.array([5]), np.array([2]))
    assert tune_cut(points, [two, alone], 1.0) > 0
    assert cut_grid([]).tolist() == [1.0]
    assert figures_at(np.empty((0, 4)), [1.0, 2.0], lambda labels: [len(labels)]).tolist() == [
        [1.0],
        [1.0],
    ]
