from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.forgiving import group_bits, mutual_information
from hashing.selection import correlation, least_correlated_bits, random_bits, selectors


def coins(n: int, k: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, k)) < 0.5


@given(st.integers(1, 12), st.integers(0, 1000))
def test_correlation_agrees_with_numpy(k: int, seed: int) -> None:
    bits = coins(40, k, seed)
    bits[0], bits[1] = True, False  # no bit is constant
    expected = np.corrcoef(bits.T.astype(float)).reshape(k, k)
    np.testing.assert_allclose(correlation(bits), expected, atol=1e-12)


@given(st.integers(2, 10), st.integers(0, 1000))
def test_pairs_of_balanced_bits_are_ranked_alike_by_correlation_and_information(
    k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    half = np.arange(64) < 32
    bits = np.stack([rng.permutation(half) for _ in range(k)], axis=1)
    above = np.triu_indices(k, 1)
    rho, shared = np.abs(correlation(bits))[above], mutual_information(bits)[above]
    order = np.argsort(rho, kind="stable")
    assert (np.diff(shared[order]) >= -1e-9).all()
    # The function itself: 1 − H((1 + ρ) / 2), with H the entropy of a coin.
    p = np.clip((1 + rho) / 2, 1e-12, 1 - 1e-12)
    np.testing.assert_allclose(
        shared, 1 + p * np.log2(p) + (1 - p) * np.log2(1 - p), rtol=1e-4, atol=1e-6
    )


@given(st.integers(1, 6), st.integers(1, 6), st.integers(6, 20), st.integers(0, 99))
def test_no_bit_is_twice_in_a_table_nor_in_two_while_bits_last(
    n_tables: int, key_bits: int, k: int, seed: int
) -> None:
    bits = coins(30, k, seed)
    for name, select in selectors(np.random.default_rng(seed)).items():
        tables = select(bits, n_tables, key_bits)
        assert tables.shape == (n_tables, key_bits), name
        assert tables.dtype == np.int16
        assert all(len(set(table)) == key_bits for table in tables.tolist()), name
        used = np.bincount(tables.ravel(), minlength=k)
        assert len(used) == k
        if n_tables * key_bits <= k:
            assert used.max() == 1, name


@pytest.mark.parametrize("select", [least_correlated_bits, group_bits])
def test_a_table_takes_one_of_each_group_of_bits_that_tell_the_same(select: object) -> None:
    independent = coins(400, 5, 1)
    bits = np.concatenate([independent, ~independent, independent], axis=1)
    tables = select(bits, 3, 5)  # type: ignore[operator]
    assert [sorted(bit % 5 for bit in table) for table in tables.tolist()] == [list(range(5))] * 3


def test_the_opposite_of_a_bit_counts_as_the_bit_itself() -> None:
    one = np.arange(8) % 2 == 0
    other = np.arange(8) % 4 < 2
    # Signed, the opposite of `one` would be its least correlated partner.
    tables = least_correlated_bits(np.stack([one, ~one, other], axis=1), 1, 2)
    assert 2 in tables[0]


def test_random_bits_are_as_often_each() -> None:
    rng = np.random.default_rng(3)
    counts = np.zeros(10)
    for _ in range(2000):
        counts[random_bits(10, 1, 4, rng)[0]] += 1
    # 800 each, and a deviation of 22.
    assert np.abs(counts - 800).max() < 90


@pytest.mark.parametrize(("tables", "key_bits"), [(5, 1), (1, 5)])
def test_more_than_there_are_is_refused(tables: int, key_bits: int) -> None:
    for select in selectors(np.random.default_rng(1)).values():
        with pytest.raises(ValueError, match="need more than 4 bits"):
            select(coins(10, 4, 1), tables, key_bits)
