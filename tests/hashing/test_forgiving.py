from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from hashing.forgiving import group_bits, mutual_information


def correlated(seed: int, n: int, k: int) -> np.ndarray:
    """Values of `k` columns that have more or less in common, [n, k]."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((n, max(2, k // 3)))
    return hidden @ rng.standard_normal((hidden.shape[1], k)) + rng.standard_normal((n, k))


def correlated_bits(seed: int, n: int, k: int) -> np.ndarray:
    """Bits that share more or less with each other, [n, k]."""
    return correlated(seed, n, k) > np.random.default_rng(seed).normal(0, 0.7, k)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), k=st.integers(1, 6))
def test_mutual_information_agrees_with_scikit_learn(seed: int, n: int, k: int) -> None:
    bits = correlated_bits(seed, n, k)
    found = mutual_information(bits)
    expected = [
        [mutual_info_score(bits[:, i], bits[:, j]) / np.log(2) for j in range(k)] for i in range(k)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert found.min() >= -1e-9


def test_mutual_information_by_hand() -> None:
    # A fair bit, its opposite, one that is always set, and one that is set with the first in
    # one row of two: H = 0.8113 bits, and I = H(1/4) - H(1/2) / 2 = 0.3113 bits.
    bits = np.array([[1, 0, 1, 1], [1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]], bool)
    expected = [
        [1.0, 1.0, 0.0, 0.3113],
        [1.0, 1.0, 0.0, 0.3113],
        [0.0, 0.0, 0.0, 0.0],
        [0.3113, 0.3113, 0.0, 0.8113],
    ]
    np.testing.assert_allclose(mutual_information(bits), expected, atol=1e-4)


def greedy_reference(bits: np.ndarray, n_tables: int, key_bits: int) -> list[list[int]]:
    """Rule 3 of Permutation Grouping, written down pair by pair."""
    k = bits.shape[1]
    information = [
        [mutual_info_score(bits[:, i], bits[:, j]) / np.log(2) for j in range(k)] for i in range(k)
    ]
    entropy = sorted(range(k), key=lambda b: -information[b][b])
    tables = [[b] for b in entropy[:n_tables]]
    free = set(entropy[n_tables:])
    while free and any(len(table) < key_bits for table in tables):
        _, bit, g = min(
            (round(max(information[bit][t] for t in table), 9), bit, g)
            for bit in free
            for g, table in enumerate(tables)
            if len(table) < key_bits
        )
        tables[g].append(bit)
        free.remove(bit)
    return tables


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n_tables", "key_bits", "k"), [(2, 3, 9), (3, 4, 12), (1, 5, 6)])
def test_bits_are_dealt_out_by_the_papers_rule(
    seed: int, n_tables: int, key_bits: int, k: int
) -> None:
    # Each bit is set another number of times, so that no two have one entropy.
    values = correlated(seed, 301, k)
    bits = np.stack([values[:, b] > np.quantile(values[:, b], 0.5 + b / 100) for b in range(k)], 1)
    expected = greedy_reference(bits, n_tables, key_bits)
    assert group_bits(bits, n_tables, key_bits).tolist() == expected


@given(
    seed=st.integers(0, 1000),
    n_tables=st.integers(1, 5),
    key_bits=st.integers(1, 8),
    spare=st.integers(0, 20),
)
def test_no_bit_is_twice_while_bits_last(
    seed: int, n_tables: int, key_bits: int, spare: int
) -> None:
    k = max(n_tables, key_bits) + spare
    tables = group_bits(correlated_bits(seed, 80, k), n_tables, key_bits)
    assert tables.shape == (n_tables, key_bits)
    assert tables.dtype == np.int16
    assert tables.min() >= 0
    assert tables.max() < k
    assert all(len(set(table)) == key_bits for table in tables.tolist())
    disjoint = min(key_bits, k // n_tables)
    assert len(set(tables[:, :disjoint].ravel().tolist())) == n_tables * disjoint


@given(seed=st.integers(0, 1000), key_bits=st.integers(2, 9), shorter=st.integers(1, 8))
def test_a_shorter_key_is_the_front_of_a_longer_one(seed: int, key_bits: int, shorter: int) -> None:
    bits = correlated_bits(seed, 80, 10)
    one = group_bits(bits, 1, key_bits)
    np.testing.assert_array_equal(
        one[:, : min(shorter, key_bits)], group_bits(bits, 1, shorter)[:, :key_bits]
    )


def test_tables_hold_less_in_common_than_random_ones() -> None:
    bits = correlated_bits(5, 2000, 60)
    information = mutual_information(bits)

    def worst(tables: np.ndarray) -> float:
        return float(
            np.mean(
                [max(information[a, b] for a, b in itertools.combinations(t, 2)) for t in tables]
            )
        )

    dealt = group_bits(bits, 5, 8)
    rng = np.random.default_rng(1)
    random = [worst(rng.permutation(60)[:40].reshape(5, 8)) for _ in range(200)]
    assert worst(dealt) < min(random)


def test_more_than_there_is_cannot_be_dealt_out() -> None:
    bits = correlated_bits(1, 20, 4)
    for n_tables, key_bits in ((5, 1), (1, 5)):
        with pytest.raises(ValueError, match="need more than 4 bits"):
            group_bits(bits, n_tables, key_bits)
