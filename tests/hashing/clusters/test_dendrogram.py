from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, is_valid_linkage
from scipy.cluster.hierarchy import ward as scipy_ward
from scipy.stats import logistic
from sklearn.metrics import adjusted_rand_score

from hashing.clusters.dendrogram import build_tree, chance_below, read_tree


def expected_overlap(linkage: np.ndarray, n: int, cut: float, spread: float) -> np.ndarray:
    """The definition, by cutting at each height: mean Jaccard index of a track's two clusters."""
    here = fcluster(linkage, cut, "distance")
    edges = np.concatenate(([0.0], linkage[:, 2], [np.inf]))
    scale = spread * np.sqrt(3) / np.pi
    total = np.zeros(n)
    for low, high in itertools.pairwise(edges):
        with np.errstate(divide="ignore"):
            chances = logistic.cdf(np.log([low, high]), np.log(cut), scale)
        # Cutting at `low` makes the merges at it and none above, until `high`.
        there = fcluster(linkage, low, "distance")
        for track in range(n):
            a, b = here == here[track], there == there[track]
            total[track] += (chances[1] - chances[0]) * (a & b).sum() / (a | b).sum()
    return total


@given(seed=st.integers(0, 10**6), n=st.integers(2, 25), cut=st.floats(0.1, 9.0))
def test_labels_and_overlap_are_those_of_the_definition(seed: int, n: int, cut: float) -> None:
    points = np.random.default_rng(seed).standard_normal((n, 2))
    linkage = scipy_ward(points)
    labels, kept = read_tree(linkage, n, cut, 0.3)
    assert adjusted_rand_score(fcluster(linkage, cut, "distance"), labels) == 1.0
    np.testing.assert_allclose(kept, expected_overlap(linkage, n, cut, 0.3), atol=1e-6)
    first = [labels.tolist().index(number) for number in range(1, labels.max() + 1)]
    assert first == sorted(first)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30))
def test_a_tree_is_built_as_scipy_numbers_it(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    expected = scipy_ward(rng.standard_normal((n, 3))) if n > 1 else np.zeros((0, 4))
    members = [[row] for row in range(n)]
    tracks = []
    for one, other, _, _ in expected:
        sides = members[int(one)], members[int(other)]
        tracks.append([rng.choice(side) for side in sides])  # any track stands for its side
        members.append(sides[0] + sides[1])
    found = build_tree(np.array(tracks, dtype=int).reshape(-1, 2), expected[:, 2])
    np.testing.assert_array_equal(found, expected)
    assert n == 1 or is_valid_linkage(found)


def test_chances_by_hand() -> None:
    assert chance_below(np.array([0.0, 2.0]), 2.0, 0.2).tolist() == [0.0, 0.5]
    heights = np.geomspace(0.1, 40, 9)
    expected = logistic.cdf(np.log(heights / 2.0), scale=0.2 * np.sqrt(3) / np.pi)
    np.testing.assert_allclose(chance_below(heights, 2.0, 0.2), expected, rtol=1e-9)


def test_the_nearer_the_height_the_lower_the_overlap() -> None:
    def kept(height: float) -> float:
        return float(read_tree(np.array([[0, 1, height, 2.0]]), 2, 1.0, 0.2)[1][0])

    below = [kept(height) for height in (0.0, 0.3, 0.6, 0.9, 1.0)]
    above = [kept(height) for height in (1.0001, 1.2, 2.0, 5.0)]
    assert below == sorted(below, reverse=True)
    assert above == sorted(above)
    assert below[0] == 1.0
    assert below[-1] == pytest.approx(0.75)
    assert above[0] == pytest.approx(0.75, abs=1e-3)
    assert 0.999 < above[-1] <= 1.0


def test_one_that_may_leave_is_more_doubtful_than_those_it_leaves() -> None:
    # Three at 0, and a fourth that joins just below the cut.
    linkage = np.array([[0, 1, 0.0, 2], [2, 4, 0.0, 3], [3, 5, 1.0, 4.0]])
    _, kept = read_tree(linkage, 4, 1.0, 0.2)
    assert kept.tolist() == pytest.approx([0.5 + 0.5 * 3 / 4] * 3 + [0.5 + 0.5 / 4])


def test_forced_rows_are_never_cut_nor_doubted() -> None:
    linkage = np.array([[0, 1, 0.0, 2], [2, 3, 1.0001, 3.0]])
    labels, kept = read_tree(linkage, 3, 1.0, 0.2, forced=1)
    assert labels.tolist() == [1, 1, 2]
    assert kept.tolist() == [1.0, 1.0, 1.0]


def test_nothing_and_one() -> None:
    assert read_tree(np.zeros((0, 4)), 0, 1.0, 0.2)[0].size == 0
    labels, kept = read_tree(np.zeros((0, 4)), 1, 1.0, 0.2)
    assert (labels.tolist(), kept.tolist()) == ([1], [1.0])
