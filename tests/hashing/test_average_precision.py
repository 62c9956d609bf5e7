"""Average precision of rankings with ties, plain and graded."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from hashing import average_precision as measured
from hashing.average_precision import (
    average_precision,
    average_precisions,
    hierarchical_average_precision,
    hierarchical_average_precisions,
    mean_average_precision,
    mean_hierarchical_average_precision,
)


def plain(relevant: np.ndarray, at: int, total: int | None) -> float | None:
    """AP@R of a list in order, as it is defined; divided by what is found where there is no total.

    None where nothing is found that could be divided by.
    """
    hits, sums = 0, 0.0
    for rank, one in enumerate(relevant[:at], start=1):
        hits += bool(one)
        sums += hits / rank if one else 0.0
    divisor = hits if total is None else min(at, total)
    return sums / divisor if divisor else None


def plain_graded(gains: np.ndarray, at: int) -> float:
    """AHP@R of a list in order, as it is defined."""
    best = sorted(gains, reverse=True)
    at = min(at, len(gains))
    return sum(sum(gains[:k]) / sum(best[:k]) for k in range(1, at + 1)) / at


def orders(distances: np.ndarray) -> list[np.ndarray]:
    """All orders of rising distance; each as often as any other."""
    every = np.array(list(itertools.permutations(range(len(distances)))))
    kept = every[np.all(np.diff(distances[every], axis=1) >= 0, axis=1)]
    return list(kept)


cases = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])),
    min_size=1,
    max_size=6,
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


@settings(max_examples=150)
@given(case=cases, at=st.integers(1, 7), scale=st.sampled_from([1, 1000, 0.25]))
def test_it_is_the_mean_over_all_orders(case: tuple[np.ndarray, ...], at: int, scale: float):
    distances, relevant, gains = case
    total = int(relevant.sum())
    lists = [relevant[order] for order in orders(distances)]
    # Counted, sorted although whole numbers, and sorted.
    given_distances = distances * scale
    found = average_precision(given_distances, relevant, at)
    if total:
        assert found == pytest.approx(np.mean([plain(one, at, total) for one in lists]), abs=1e-12)
    else:
        assert math.isnan(found)
    expected = [value for one in lists if (value := plain(one, at, None)) is not None]
    found = average_precision(given_distances, relevant, at, divisor="found")
    if expected:
        assert found == pytest.approx(np.mean(expected), abs=1e-12)
    else:
        assert math.isnan(found)
    found = hierarchical_average_precision(given_distances, gains, at)
    if gains.any():
        by_hand = [plain_graded(gains[order], at) for order in orders(distances)]
        assert found == pytest.approx(np.mean(by_hand), abs=1e-12)
    else:
        assert math.isnan(found)


@pytest.mark.parametrize("at", [1, 40, 150, 300])
def test_it_is_the_mean_of_drawn_orders(at: int):
    rng = np.random.default_rng(at)
    distances = rng.binomial(8, 0.4, 300)
    relevant = rng.random(300) < 0.2 - 0.02 * distances
    gains = np.where(relevant, 1.0, 0.5 * (rng.random(300) < 0.3))
    drawn = np.array([np.lexsort((rng.random(300), distances)) for _ in range(1500)])
    ranks = np.arange(1, at + 1)
    rows = relevant[drawn][:, :at]
    sums = (rows.cumsum(axis=1) / ranks * rows).sum(axis=1)
    hits = rows.sum(axis=1)
    best = np.sort(gains)[::-1].cumsum()[:at]
    for samples, found in (
        (sums / min(at, relevant.sum()), average_precision(distances, relevant, at)),
        (
            (sums / np.maximum(hits, 1))[hits > 0],
            average_precision(distances, relevant, at, "found"),
        ),
        (
            (gains[drawn][:, :at].cumsum(axis=1) / best).mean(axis=1),
            hierarchical_average_precision(distances, gains, at),
        ),
    ):
        error = samples.std() / np.sqrt(len(samples))
        assert abs(samples.mean() - found) < 4.5 * error + 1e-12
        assert error < 0.02


@given(seed=st.integers(0, 10**6), n=st.integers(2, 200))
def test_without_ties_it_is_that_of_scikit_learn(seed: int, n: int):
    rng = np.random.default_rng(seed)
    distances = rng.permutation(n)
    relevant = rng.random(n) < 0.3
    relevant[0] = True
    expected = average_precision_score(relevant, -distances)
    for kind in (np.int16, np.uint64, np.float32):
        assert average_precision(distances.astype(kind), relevant) == pytest.approx(expected)
    assert average_precision(distances * 10**12, relevant) == pytest.approx(expected)
    assert average_precision(distances, relevant, divisor="found") == pytest.approx(expected)


def test_a_case_with_a_cut_in_a_group_by_hand():
    # One relevant item, then three of which one is, and the cut after two of the three places.
    distances, relevant = [1, 2, 2, 2, 9], [True, True, False, False, True]
    # The second is at rank 2, 3 or 4, the last too late: P(k) rel(k) is 2/2, 2/3 or nothing.
    possible = (1 + (1 + 2 / 3 + 0) / 3) / 3
    assert average_precision(distances, relevant, 3) == pytest.approx(possible)
    # Of two found: (1 + 1) / 2 and (1 + 2/3) / 2; of one: 1.
    found = (1 + (1 + 2 / 3) / 2 + 1) / 3
    assert average_precision(distances, relevant, 3, "found") == pytest.approx(found)


def test_a_graded_case_by_hand():
    # Family, other, right: 0.5/1, 0.5/1.5, 1.5/1.5.
    gains = [0.5, 0.0, 1.0]
    assert hierarchical_average_precision([1, 2, 3], gains) == pytest.approx(
        (1 / 2 + 1 / 3 + 1) / 3
    )
    # All at one distance, each place has 0.5: 0.5/1, 1/1.5, 1.5/1.5.
    assert hierarchical_average_precision([4, 4, 4], gains) == pytest.approx(
        (1 / 2 + 2 / 3 + 1) / 3
    )
    assert hierarchical_average_precision([4, 4, 4], gains, at=2) == pytest.approx(7 / 12)
    # A miss within the family is worth more than one outside.
    near = hierarchical_average_precision([1, 3, 2], gains)
    far = hierarchical_average_precision([3, 1, 2], gains)
    assert near > far
    assert hierarchical_average_precision([1, 2, 3], [0.5, 0.5, 0.5]) == 1.0


@given(case=cases, at=st.integers(1, 9))
def test_bounds_and_perfect_orders(case: tuple[np.ndarray, ...], at: int):
    distances, relevant, gains = case
    if relevant.any():
        assert 0 <= average_precision(distances, relevant, at) <= 1
        assert average_precision(1 - relevant, relevant, at) == 1.0
        assert average_precision(1.5 - relevant, relevant, at) == 1.0
        # The worst: every item that is not relevant comes first.
        misses, total = int((~relevant).sum()), int(relevant.sum())
        worst = plain(np.sort(relevant), at, total)
        assert average_precision(relevant * 1.0, relevant, at) == pytest.approx(worst)
        if at <= misses:
            assert worst == 0
            assert math.isnan(average_precision(relevant + 1, relevant, at, "found"))
    if gains.any():
        assert 0 <= hierarchical_average_precision(distances, gains, at) <= 1 + 1e-12
        assert hierarchical_average_precision(-gains, gains, at) == pytest.approx(1, abs=1e-12)


def test_only_the_order_of_distances_counts():
    rng = np.random.default_rng(3)
    distances = rng.integers(-120, 121, (5, 400)).astype(np.int8)
    relevant, gains = rng.random((5, 400)) < 0.1, rng.choice([0, 0.5, 1], (5, 400))
    shifted = distances.astype(np.int64)
    for at in (None, 7, 100):
        expected = average_precisions(distances, relevant, at)
        graded = hierarchical_average_precisions(distances, gains, at)
        for other in (
            (shifted + 120).astype(np.uint8),
            (shifted + 2**62),
            (shifted + 130).astype(np.uint64) + np.uint64(2**63),  # beyond int64
            shifted * 2**50,  # too far apart to be counted
            (shifted / 7).astype(np.float32),
            np.where(shifted == 120, np.inf, np.where(shifted == -120, -np.inf, shifted)),
            shifted.astype(np.float16),
        ):
            np.testing.assert_allclose(average_precisions(other, relevant, at), expected)
            np.testing.assert_allclose(hierarchical_average_precisions(other, gains, at), graded)


def test_whole_numbers_from_end_to_end_of_their_type():
    ends = np.iinfo(np.int64)
    distances = np.array([ends.max, ends.min, 0])
    assert average_precision(distances, [True, False, False]) == pytest.approx(1 / 3)
    assert hierarchical_average_precision(distances, [0, 1, 0.5]) == 1.0
    bytes_ = np.array([127, -128, 0], np.int8)
    assert average_precision(bytes_, [True, False, False]) == pytest.approx(1 / 3)
    # What is far apart is sorted: counting it would take more memory than there is.
    few = np.array([[0, 300, 7]])
    assert measured._keys(few) is None
    assert measured._keys(few % 256) is not None
    assert average_precision([-0.0, 0.0], [True, False]) == 0.75  # equal


def test_a_million_items_in_one_group_are_exact():
    n = 1_000_000
    relevant = np.zeros(n, bool)
    relevant[5] = True
    # One relevant item at a random rank: the mean of 1/k.
    expected = math.fsum(1 / k for k in range(1, n + 1)) / n
    assert average_precision(np.zeros(n, np.uint8), relevant) == pytest.approx(expected, rel=1e-12)
    assert average_precision(np.zeros(n), relevant) == pytest.approx(expected, rel=1e-12)
    # Those that are found: once found at a rank up to R, any is as likely.
    expected = math.fsum(1 / k for k in range(1, 1001)) / 1000
    found = average_precision(np.zeros(n, np.uint8), relevant, 1000, divisor="found")
    assert found == pytest.approx(expected, rel=1e-9)


def test_queries_one_by_one_in_rows_and_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(5)
    distances = rng.integers(0, 9, (7, 60)).astype(np.uint8)
    relevant = rng.random((7, 60)) < 0.15
    relevant[2] = False
    gains = rng.choice([0, 0.5, 1], (7, 60)).astype(np.float32)
    gains[4] = 0
    each = [average_precision(*one, at=10) for one in zip(distances, relevant, strict=True)]
    graded = [hierarchical_average_precision(*one) for one in zip(distances, gains, strict=True)]
    assert [math.isnan(value) for value in each] == [row == 2 for row in range(7)]
    assert [math.isnan(value) for value in graded] == [row == 4 for row in range(7)]
    for cells in (1, 600, 10**6):
        monkeypatch.setattr(measured, "_CELLS_AT_ONCE", cells)
        for rows in (distances, distances.tolist(), np.array_split(distances, 3)):
            others, values = relevant, gains
            if len(rows) == 3:
                others, values = np.array_split(relevant, 3), np.array_split(gains, 3)
            found = average_precisions(iter(rows), iter(others), 10)
            np.testing.assert_array_equal(found, each)
            assert mean_average_precision(rows, others, 10) == pytest.approx(np.nanmean(each))
            found = hierarchical_average_precisions(iter(rows), iter(values))
            np.testing.assert_allclose(found, graded, rtol=1e-14)
            mean = mean_hierarchical_average_precision(rows, values)
            assert mean == pytest.approx(np.nanmean(graded))
    # Databases of unequal size.
    rows = [[1, 2], [3, 2, 1]]
    found = average_precisions(rows, [[True, False], [True, False, False]])
    np.testing.assert_allclose(found, [1, 1 / 3])


def test_a_query_that_finds_nothing_counts_nothing_or_is_left_out():
    distances = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]])
    relevant = np.array([[True, False, True], [False, False, True], [False, False, False]])
    assert average_precisions(distances, relevant, 2).tolist()[:2] == [0.5, 0.0]
    assert mean_average_precision(distances, relevant, 2) == 0.25
    assert mean_average_precision(distances, relevant, 2, "found") == 1.0
    assert math.isnan(mean_average_precision(distances, np.zeros((3, 3), bool)))


def test_no_queries_and_no_items():
    assert average_precisions(np.empty((0, 5)), np.empty((0, 5), bool)).shape == (0,)
    assert hierarchical_average_precisions([], []).shape == (0,)
    assert math.isnan(mean_average_precision([], []))
    for kind in (np.uint8, np.float32):
        nothing = np.empty((2, 0), kind)
        assert np.isnan(average_precisions(nothing, np.empty((2, 0), bool), 3)).all()
        assert np.isnan(average_precisions(nothing, np.empty((2, 0), bool), 3, "found")).all()
        assert np.isnan(hierarchical_average_precisions(nothing, np.empty((2, 0)))).all()


@pytest.mark.parametrize("at", [0, -1, 1.0, True, "3", float("nan")])
def test_a_cut_that_is_no_rank_is_refused(at: object):
    for figure, other in ((average_precision, [True]), (hierarchical_average_precision, [1.0])):
        with pytest.raises(ValueError, match="must be a rank"):
            figure([1], other, at)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distances", "relevant", "said"),
    [
        ([1, 2], [True], "rows of one length"),
        ([[1, 2], [1, 2]], [[True, False]] * 2, "those of one query"),
        (3, True, "rows of one length"),
        ([1, 2], [1, 0], "relevance must be bool, got int64"),
        ([1, 2], [0.5, 1.0], "relevance must be bool, got float64"),
        ([float("nan"), 2], [True, False], "numbers and not NaN, got float64"),
        (["a", "b"], [True, False], "distances must be numbers"),
        ([True, False], [True, False], "distances must be numbers"),
        ([1j, 2], [True, False], "distances must be numbers"),
        ([None, 2], [True, False], "distances must be numbers"),
        ([2**70, 2], [True, False], "distances must be numbers"),
    ],
)
def test_distances_that_cannot_be_ranked_are_refused(
    distances: object, relevant: object, said: str
):
    with pytest.raises(ValueError, match=said) as refused:
        average_precision(distances, relevant)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("gains", [[0.5, 1.1], [-0.1, 0.2], [float("nan"), 0], ["a", "b"]])
def test_gains_beyond_0_and_1_are_refused(gains: list):
    with pytest.raises(ValueError, match="gains must be numbers within 0 and 1"):
        hierarchical_average_precision([1, 2], gains)


def test_rows_that_do_not_belong_together_are_refused():
    for distances, relevant in (
        (np.zeros((2, 3)), np.zeros((3, 3), bool)),
        ([[1, 2]] * 2, [[True, False]]),
        (iter([[1, 2]]), iter([])),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 3), bool)),
        (np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 2), bool)),
        ([1, 2], [True, False]),
    ):
        with pytest.raises(ValueError, match="rows"):
            mean_average_precision(distances, relevant)
    with pytest.raises(ValueError, match="divisor='all'"):
        average_precisions([], [], divisor="all")  # type: ignore[arg-type]
