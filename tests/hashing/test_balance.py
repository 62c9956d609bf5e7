from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hashing.balance import (
    bucket_loads,
    clump_sizes,
    clumped_entropy,
    collision_entropy,
    entropy,
    gini,
    measure_balance,
    perfect_entropy,
    perfect_gini,
)

LOADS = st.lists(st.integers(0, 20), min_size=1, max_size=30)


def simulated(n: int, buckets: int, times: int, clump: int = 1) -> np.ndarray:
    """Loads of a perfect hash, [times, buckets], with items in clumps of `clump`."""
    rng = np.random.default_rng(1)
    chances = np.full(buckets, 1.0 / buckets)
    return rng.multinomial(n // clump, chances, size=times) * clump


def test_loads_by_hand() -> None:
    assert bucket_loads(np.array([3, 0, 3], np.uint32), 2).tolist() == [1, 0, 0, 2]
    assert bucket_loads(np.empty(0, np.uint32), 1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("keys", "key_bits", "said"),
    [([4], 2, "not of 2 bits"), ([-1], 2, "not of 2 bits"), ([0], 27, "27"), ([[0]], 1, "shape")],
)
def test_keys_that_cannot_be_counted(keys: list[int], key_bits: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bucket_loads(np.array(keys), key_bits)


@given(LOADS)
def test_entropy_agrees_with_scipy(loads: list[int]) -> None:
    expected = stats.entropy(loads, base=2) if sum(loads) else 0.0
    assert entropy(np.array(loads)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "buckets"), [(2, 2), (3, 2), (4, 3), (6, 2), (5, 4)])
def test_perfect_entropy_over_all_outcomes(n: int, buckets: int) -> None:
    outcomes = itertools.product(range(buckets), repeat=n)
    entropies = [entropy(np.bincount(outcome, minlength=buckets)) for outcome in outcomes]
    assert perfect_entropy(n, buckets) == pytest.approx(np.mean(entropies), abs=1e-12)


@pytest.mark.parametrize(("n", "buckets"), [(50, 256), (500, 256), (20_000, 256)])
def test_perfect_entropy_against_simulation(n: int, buckets: int) -> None:
    entropies = np.array([entropy(loads) for loads in simulated(n, buckets, 400)])
    error = entropies.std() / 20.0
    assert abs(perfect_entropy(n, buckets) - entropies.mean()) < 4 * error


def test_perfect_entropy_at_its_ends() -> None:
    assert perfect_entropy(0, 8) == perfect_entropy(1, 8) == perfect_entropy(9, 1) == 0.0
    # Miller's correction (1955) for many items a bucket, and a bucket of its own for each of few.
    many = perfect_entropy(10**7, 4096)
    assert many == pytest.approx(12.0 - 4095 / (2 * math.log(2) * 10**7), abs=1e-6)
    assert perfect_entropy(100, 1 << 26) == pytest.approx(math.log2(100), abs=1e-4)


@pytest.mark.parametrize("clump", [1, 3, 16])
def test_clumped_entropy_against_simulation(clump: int) -> None:
    entropies = [entropy(loads) for loads in simulated(4800, 512, 100, clump)]
    expected = clumped_entropy(np.full(4800 // clump, clump), 512)
    # The number of clumps in a bucket is binomial in the simulation: 1 / 512 less spread.
    assert expected == pytest.approx(np.mean(entropies), abs=0.012)


def test_clumps_of_several_sizes_against_simulation() -> None:
    rng = np.random.default_rng(2)
    sizes = rng.geometric(0.2, 3000)
    entropies = [
        entropy(np.bincount(rng.integers(256, size=3000), sizes, minlength=256)) for _ in range(200)
    ]
    assert clumped_entropy(sizes, 256) == pytest.approx(np.mean(entropies), abs=0.005)


def test_large_clumps_leave_less_entropy_at_any_number_of_items() -> None:
    found = [clumped_entropy(np.full(1_000_000 // size, size), 1024) for size in (1, 10, 100)]
    assert found[0] > found[1] > found[2]
    assert found[0] == pytest.approx(perfect_entropy(1_000_000, 1024), abs=1e-5)


def test_clump_sizes_by_hand() -> None:
    keys, groups = np.array([7, 7, 7, 0, 7]), np.array([30, 30, 4, 4, 4])
    assert clump_sizes(keys, groups).tolist() == [2, 2, 1]
    assert clump_sizes(keys, np.arange(5)).tolist() == [1] * 5
    with pytest.raises(ValueError, match="at least one"):
        clumped_entropy(np.array([1, 0]), 4)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40),
)
def test_collision_entropy_counts_pairs_of_different_groups(pairs: list[tuple[int, int]]) -> None:
    keys, groups = (np.array(column) for column in zip(*pairs, strict=True))
    other = [
        keys[i] == keys[j]
        for i, j in itertools.combinations(range(len(pairs)), 2)
        if groups[i] != groups[j]
    ]
    expected = -math.log2(np.mean(other)) if any(other) else math.inf
    assert collision_entropy(keys, groups) == pytest.approx(expected, abs=1e-9)


def test_collision_entropy_sees_through_clumps_and_small_numbers() -> None:
    rng = np.random.default_rng(3)
    # 4,000 clumps of 5 in 4,096 buckets: the plug-in entropy misses two thirds of a bit.
    keys = np.repeat(rng.integers(4096, size=4000), 5)
    groups = np.repeat(np.arange(4000), 5)
    assert collision_entropy(keys, groups) == pytest.approx(12.0, abs=0.1)
    assert entropy(bucket_loads(keys, 12)) < 11.4
    # Seven of eight buckets are never used.
    assert collision_entropy(keys & 511, groups) == pytest.approx(9.0, abs=0.05)
    assert collision_entropy(np.zeros(4, int)) == 0.0


@given(LOADS)
def test_gini_is_the_mean_difference(loads: list[int]) -> None:
    values = np.array(loads)
    difference = np.abs(values[:, None] - values[None, :]).mean()
    expected = difference / (2 * values.mean()) if values.any() else 0.0
    assert gini(values) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "buckets"), [(200, 1000), (5000, 1000)])
def test_perfect_gini_against_simulation(n: int, buckets: int) -> None:
    found = [gini(loads) for loads in simulated(n, buckets, 60)]
    assert perfect_gini(n, buckets) == pytest.approx(np.mean(found), rel=0.01)


def test_a_random_hash_is_as_balanced_as_a_perfect_one() -> None:
    keys = np.random.default_rng(4).integers(1024, size=20_000)
    groups = np.arange(20_000)
    balance = measure_balance(keys, 10, groups)
    assert (balance.items, balance.buckets) == (20_000, 1024)
    assert balance.entropy_share == pytest.approx(1.0, abs=3e-4)
    assert balance.clumped_entropy == pytest.approx(balance.perfect_entropy, abs=1e-4)
    assert balance.collision_entropy == pytest.approx(10.0, abs=0.02)
    assert balance.cv == pytest.approx(balance.perfect_cv, rel=0.1)
    assert balance.perfect_cv == pytest.approx(math.sqrt(1024 / 20_000), rel=1e-3)
    assert balance.gini == pytest.approx(balance.perfect_gini, rel=0.1)
    assert balance.in_band == pytest.approx(balance.perfect_in_band, abs=0.03)
    assert 0.95 <= balance.perfect_in_band < 0.97
    assert 1.5 < balance.largest < 2.2


def test_balanced_pairs_of_bits_are_not_balanced_buckets() -> None:
    # The third bit is the exclusive or of two: every pair is balanced, half of the buckets empty.
    two = np.random.default_rng(5).integers(4, size=40_000)
    balance = measure_balance(two << 1 | (two >> 1 ^ two) & 1, 3)
    assert balance.entropy == pytest.approx(2.0, abs=1e-3)
    assert balance.perfect_entropy == pytest.approx(3.0, abs=1e-3)
    assert balance.in_band == 0.0
    assert balance.gini == pytest.approx(0.5, abs=0.01)
    assert balance.clumped_entropy is None
    assert balance.collision_entropy is None


def test_nothing_has_no_balance() -> None:
    with pytest.raises(ValueError, match="no keys"):
        measure_balance(np.empty(0, np.uint32), 3)
    with pytest.raises(ValueError, match="-1 items"):
        perfect_entropy(-1, 3)
    assert measure_balance(np.array([1]), 3).entropy_share == 1.0
