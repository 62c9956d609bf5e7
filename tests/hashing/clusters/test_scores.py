from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.metrics.cluster import pair_confusion_matrix

from hashing.clusters.scores import bootstrap_mean, equal_error_rate, score_clusters

labels_ = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
        st.lists(st.integers(0, 40), min_size=n, max_size=n)
        | st.lists(st.integers(0, 2), min_size=n, max_size=n),
    )
)


@given(both=labels_)
def test_figures_are_those_of_scikit_learn(both: tuple[list[int], list[int]]) -> None:
    truth, found = both
    scores = score_clusters([f"artist {one}" for one in truth], found)
    assert scores.ari == pytest.approx(metrics.adjusted_rand_score(truth, found), abs=1e-9)
    ami = metrics.adjusted_mutual_info_score(truth, found)
    assert scores.ami == pytest.approx(ami, abs=1e-6)
    three = metrics.homogeneity_completeness_v_measure(truth, found)
    mine = (scores.homogeneity, scores.completeness, scores.v_measure)
    assert mine == pytest.approx(three, abs=1e-9)
    (_, wrong), (missed, right) = pair_confusion_matrix(truth, found).tolist()
    assert scores.pair_precision == (right / (right + wrong) if right + wrong else 1.0)
    assert scores.pair_recall == (right / (right + missed) if right + missed else 1.0)


@given(both=labels_)
def test_b_cubed_by_its_definition(both: tuple[list[int], list[int]]) -> None:
    truth, found = map(np.array, both)
    same_artist, together = truth[:, None] == truth, found[:, None] == found
    hits = (same_artist & together).sum(axis=1)
    scores = score_clusters(truth, found)
    precision, recall = (
        np.mean(hits / together.sum(axis=1)),
        np.mean(hits / same_artist.sum(axis=1)),
    )
    assert scores.b_cubed_precision == pytest.approx(precision)
    assert scores.b_cubed_recall == pytest.approx(recall)
    assert scores.b_cubed_f1 == pytest.approx(2 * precision * recall / (precision + recall))


@given(both=labels_)
def test_names_of_clusters_do_not_matter_and_truth_is_perfect(
    both: tuple[list[int], list[int]],
) -> None:
    truth, found = both
    renamed = score_clusters([9 - one for one in truth], [str(one) for one in found])
    for one, other in zip(
        vars(renamed).values(), vars(score_clusters(truth, found)).values(), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-9)
    perfect = score_clusters(truth, [one + 7 for one in truth])
    assert all(value == pytest.approx(1.0) for value in vars(perfect).values())
    assert perfect.pair_f1 == pytest.approx(1.0)


def test_one_cluster_and_each_its_own_are_worth_nothing() -> None:
    truth = [1] * 30 + [2] * 20
    one, own = score_clusters(truth, [1] * 50), score_clusters(truth, range(50))
    assert (one.ari, own.ari) == (0.0, 0.0)
    assert one.ami == pytest.approx(0.0, abs=1e-9)
    assert own.ami == pytest.approx(0.0, abs=1e-9)
    assert (one.pair_recall, own.pair_precision, own.pair_recall) == (1.0, 1.0, 0.0)
    assert one.pair_f1 == pytest.approx(2 * one.pair_precision / (1 + one.pair_precision))
    assert own.pair_f1 == 0.0


def test_by_hand() -> None:
    scores = score_clusters(["a", "a", "a", "b"], [1, 1, 2, 2])
    assert (scores.pair_precision, scores.pair_recall) == (1 / 2, 1 / 3)
    assert scores.b_cubed_precision == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)
    assert scores.b_cubed_recall == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert scores.ari == 0.0  # one pair of six together in both; by chance 3 * 2 / 6


def test_many_tracks() -> None:
    rng = np.random.default_rng(6)
    truth, found = rng.integers(0, 300, 20_000), rng.integers(0, 300, 20_000)
    scores = score_clusters(truth, found)
    assert abs(scores.ari) < 0.01
    assert scores.ami == pytest.approx(metrics.adjusted_mutual_info_score(truth, found), abs=1e-6)


@pytest.mark.parametrize(("truth", "found"), [([], []), ([1, 2], [1]), ([[1]], [[1]])])
def test_labels_that_do_not_fit_are_refused(truth: list[int], found: list[int]) -> None:
    with pytest.raises(ValueError, match="true ones"):
        score_clusters(truth, found)


@given(scores=st.lists(st.integers(0, 9), min_size=2, max_size=40), seed=st.integers(0, 10**6))
def test_the_equal_error_rate_lies_where_the_curves_cross(scores: list[int], seed: int) -> None:
    same = np.random.default_rng(seed).random(len(scores)) < 0.5
    same[:2] = True, False
    found = equal_error_rate(scores, same)
    wrong, right, _ = metrics.roc_curve(same, scores, drop_intermediate=False)
    refused = 1 - right
    # On the line through the points of the curve, at equal rates.
    steps = itertools.pairwise(zip(wrong, refused, strict=True))
    assert any(
        min(x0, x1) - 1e-9 <= found <= max(x0, x1) + 1e-9
        and min(y0, y1) - 1e-9 <= found <= max(y0, y1) + 1e-9
        and abs((x1 - x0) * (found - y0) - (y1 - y0) * (found - x0)) < 1e-9
        for (x0, y0), (x1, y1) in steps
    )


def test_equal_error_rates_by_hand() -> None:
    assert equal_error_rate([3, 2, 1, 0], [True, True, False, False]) == 0.0
    assert equal_error_rate([0, 1, 2, 3], [True, True, False, False]) == 1.0
    assert equal_error_rate([1, 1, 1, 1], [True, False, True, False]) == 0.5
    # Of three refused is one, from no false one accepted to one of two.
    found = equal_error_rate([4, 3, 2, 1, 0], [True, True, False, True, False])
    assert found == pytest.approx(1 / 3)
    for scores, same in (
        ([1.0], [True]),
        ([1.0, 2.0], [False] * 2),
        ([np.nan, 1.0], [True, False]),
    ):
        with pytest.raises(ValueError, match="equal error rate"):
            equal_error_rate(scores, same)


def test_the_bootstrap_says_how_sure_a_mean_is() -> None:
    values = np.random.default_rng(2).normal(0.5, 0.2, 400)
    mean, low, high = bootstrap_mean(np.append(values, np.nan))
    assert mean == pytest.approx(values.mean())
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert all(math.isnan(one) for one in bootstrap_mean([np.nan]))
