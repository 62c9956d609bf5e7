from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import brier_score_loss

from hashing.metrics import (
    brier_score,
    calibration_error,
    draws,
    false_positive_threshold,
    interval,
    reliability,
    weighted_above,
    weighted_threshold,
    wilson_interval,
)

shares = st.floats(0, 1, allow_nan=False)


@given(n=st.integers(1, 2000), share=shares)
def test_wilson_interval_agrees_with_scipy(n: int, share: float) -> None:
    successes = round(share * n)
    expected = binomtest(successes, n).proportion_ci(
        confidence_level=1 - 2 * norm.sf(1.96), method="wilson"
    )
    found = wilson_interval(successes, n)
    np.testing.assert_allclose(found, (expected.low, expected.high), atol=1e-9)
    assert found[0] <= successes / n + 1e-12
    assert found[1] >= successes / n - 1e-12


def test_nothing_measured_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert false_positive_threshold(np.empty(0)) == 0.0
    assert calibration_error(np.empty(0), np.empty(0, bool)) == 0.0
    assert brier_score(np.empty(0), np.empty(0, bool)) == 0.0


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 0.9]), min_size=1, max_size=60),
    share=st.sampled_from([0.0, 0.01, 0.05, 0.25, 0.5, 0.99]),
)
def test_the_threshold_is_the_lowest_that_keeps_the_share(
    scores: list[float], share: float
) -> None:
    threshold = false_positive_threshold(np.array(scores), share)
    assert sum(score > threshold for score in scores) <= share * len(scores)
    lower = [score for score in {0.0, *scores} if score < threshold]
    if lower:
        assert sum(score > max(lower) for score in scores) > share * len(scores)


def test_the_threshold_by_hand() -> None:
    negatives = np.arange(100) / 100
    assert false_positive_threshold(negatives, 0.01) == 0.98  # 0.99 alone is above
    assert false_positive_threshold(negatives, 0.0) == 0.99
    assert false_positive_threshold(np.zeros(50)) == 0.0


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    right = np.array([False, True, True, True])
    # Two bins: |0.15 - 0.5| and |0.85 - 1|, half of the weight each.
    assert calibration_error(scores, right, bins=2) == pytest.approx((0.35 + 0.15) / 2)
    # One bin: |0.5 - 0.75|. Four bins: the distances of all.
    assert calibration_error(scores, right, bins=1) == pytest.approx(0.25)
    assert calibration_error(scores, right, bins=4) == pytest.approx((0.1 + 0.8 + 0.2 + 0.1) / 4)
    # More bins than scores are as many as scores; and the order does not matter.
    shuffled = np.array([2, 0, 3, 1])
    assert calibration_error(scores[shuffled], right[shuffled], bins=99) == pytest.approx(0.3)


def test_bins_weigh_what_they_hold() -> None:
    scores, right = np.array([0.0, 0.0, 1.0]), np.array([False, False, False])
    # array_split gives the first bin two of three.
    assert calibration_error(scores, right, bins=2) == pytest.approx(1 / 3)


@given(seed=st.integers(0, 1000))
def test_a_calibrated_score_has_little_error_and_an_overconfident_one_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, 4000)
    right = rng.random(4000) < scores
    assert calibration_error(scores, right) < 0.05
    assert calibration_error(scores**0.25, right) > 0.15


@given(st.lists(st.tuples(shares, st.booleans()), min_size=2, max_size=30))
def test_brier_score_agrees_with_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in pairs])
    right = np.array([truth for _, truth in pairs])
    expected = brier_score_loss(right, scores, labels=[False, True])
    assert brier_score(scores, right) == pytest.approx(expected)


def test_reliability_by_hand() -> None:
    scores = np.array([0.9, 0.1, 0.3, 0.7])
    right = np.array([True, False, True, True])
    low, high = reliability(scores, right, bins=2)
    assert (low.score, low.right, low.n) == (0.2, 0.5, 2)
    assert (high.score, high.right, high.n) == (0.8, 1.0, 2)
    assert (low.low, low.high) == wilson_interval(1, 2)
    assert reliability(np.empty(0), np.empty(0, bool)) == []


@given(seed=st.integers(0, 1000), n=st.integers(1, 60), bins=st.integers(1, 12))
def test_the_diagram_and_the_calibration_error_agree(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    scores, right = rng.uniform(0, 1, n), rng.random(n) < 0.5
    found = reliability(scores, right, bins)
    assert sum(one.n for one in found) == n
    error = sum(one.n / n * abs(one.score - one.right) for one in found)
    assert calibration_error(scores, right, bins) == pytest.approx(error)


# Bootstrap.


def test_groups_are_drawn_as_often_as_there_are_groups() -> None:
    parts = list(draws(4, np.random.default_rng(1), 1200))
    weights = np.concatenate(parts)
    assert weights.shape == (1200, 4)
    assert (weights.sum(axis=1) == 4).all()
    # Each is missing in (3/4)^4 of the samples; the deviation of that share is 1.3 %.
    np.testing.assert_allclose((weights == 0).mean(axis=0), 0.75**4, atol=0.06)
    again = np.concatenate(list(draws(4, np.random.default_rng(1), 1200)))
    np.testing.assert_array_equal(weights, again)
    assert next(draws(0, np.random.default_rng(1), 3)).shape == (3, 0)


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 0.9]), min_size=1, max_size=12),
    share=st.sampled_from([0.0, 0.01, 0.25, 0.5]),
    seed=st.integers(0, 1000),
)
def test_a_weight_is_so_many_of_the_same(scores: list[float], share: float, seed: int) -> None:
    values = np.array(scores)
    weights = np.random.default_rng(seed).integers(0, 4, (3, values.size))
    thresholds = weighted_threshold(values, weights, share)
    for of_sample, threshold in zip(weights, thresholds, strict=True):
        assert threshold == false_positive_threshold(np.repeat(values, of_sample), share)
    expected = [
        int((np.repeat(values, of_sample) > threshold).sum())
        for of_sample, threshold in zip(weights, thresholds, strict=True)
    ]
    assert weighted_above(values, weights, thresholds).tolist() == expected


def test_thresholds_of_nothing_are_zero() -> None:
    assert weighted_threshold(np.empty(0), np.zeros((2, 0), int)).tolist() == [0.0, 0.0]
    assert weighted_above(np.empty(0), np.zeros((2, 0), int), np.zeros(2)).tolist() == [0, 0]


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    samples = np.random.default_rng(1).normal(3.0, 2.0, 200_000)
    np.testing.assert_allclose(interval(samples), (3 - 1.96 * 2, 3 + 1.96 * 2), atol=0.05)
