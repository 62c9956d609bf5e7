from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hashing import codes

BITS = 464
WIDTH = 58


def random_codes(n: int, seed: int = 0, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, width), dtype=np.uint8)


def slow_key(code: np.ndarray, positions: list[int]) -> int:
    key = 0
    for position in positions:
        key = key * 2 + (int(code[position // 8]) >> (position % 8) & 1)
    return key


def test_bit_order_by_hand() -> None:
    bits = np.zeros((1, 12), bool)
    bits[0, [0, 9, 11]] = True
    assert codes.pack(bits).tolist() == [[0b0000_0001, 0b0000_1010]]


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70)))
def test_pack_and_unpack_are_inverse(bits: np.ndarray) -> None:
    packed = codes.pack(bits)
    assert packed.shape == (len(bits), -(-bits.shape[1] // 8))
    np.testing.assert_array_equal(codes.unpack(packed, bits.shape[1]), bits)


def test_padding_is_zero() -> None:
    assert codes.pack(np.ones((1, 9), bool)).tolist() == [[255, 1]]


def test_keys_by_hand() -> None:
    code = np.array([[0b0000_0010, 0b0000_0001]], np.uint8)  # bits 1 and 8
    assert codes.keys(code, np.array([1])).tolist() == [1]
    assert codes.keys(code, np.array([1, 0])).tolist() == [0b10]
    assert codes.keys(code, np.array([0, 1, 8, 7])).tolist() == [0b0110]


@given(
    positions=st.lists(st.integers(0, BITS - 1), min_size=1, max_size=32),
    seed=st.integers(0, 1000),
)
def test_few_keys_against_a_loop(positions: list[int], seed: int) -> None:
    rows = random_codes(5, seed)
    got = codes.keys(rows, np.array(positions))
    assert got.dtype == np.uint32
    assert got.tolist() == [slow_key(row, positions) for row in rows]


@pytest.mark.parametrize("n", [4096, 16_384, 16_385, 40_001])
@pytest.mark.parametrize("key_bits", [1, 8, 22, 32])
def test_many_keys_equal_few_keys(n: int, key_bits: int) -> None:
    rows = random_codes(n)
    positions = np.random.default_rng(key_bits).permutation(BITS)[:key_bits]
    few = np.concatenate([codes.keys(part, positions) for part in np.array_split(rows, 40)])
    many = codes.keys(rows, positions)
    np.testing.assert_array_equal(many, few)
    assert int(many[n // 2]) == slow_key(rows[n // 2], positions.tolist())
    assert int(many[-1]) == slow_key(rows[-1], positions.tolist())


def test_full_32_bit_keys_reach_the_top() -> None:
    ones = np.full((5000, 4), 255, np.uint8)
    assert set(codes.keys(ones, np.arange(32)).tolist()) == {2**32 - 1}
    assert codes.keys(ones[:1], np.arange(32)).tolist() == [2**32 - 1]


@pytest.mark.parametrize("n", [0, 3, 5000])
def test_several_tables_at_once(n: int) -> None:
    rows = random_codes(n)
    positions = np.random.default_rng(1).permutation(BITS)[:440].reshape(20, 22)
    got = codes.keys(rows, positions)
    assert got.shape == (n, 20)
    for table in range(20):
        np.testing.assert_array_equal(got[:, table], codes.keys(rows, positions[table]))


def test_shorter_keys_are_prefixes() -> None:
    rows, positions = random_codes(100), np.arange(100, 122)
    long, short = codes.keys(rows, positions), codes.keys(rows, positions[:14])
    np.testing.assert_array_equal(long >> 8, short)


def test_rows_that_are_not_contiguous() -> None:
    wide = random_codes(10_000, width=80)
    view = wide[::2, 10:68]
    positions = np.arange(22) * 20
    np.testing.assert_array_equal(
        codes.keys(view, positions), codes.keys(np.ascontiguousarray(view), positions)
    )


@pytest.mark.parametrize("positions", [[], [BITS], [-1], list(range(33)), [[[0]]]])
def test_positions_that_cannot_be(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="positions"):
        codes.keys(random_codes(2), np.array(positions, int))


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="uint8"):
        codes.keys(np.zeros((2, 3), np.int64), np.array([0]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bits=9"):
        codes.unpack(np.zeros((1, 1), np.uint8), 9)
    with pytest.raises(ValueError, match="shape"):
        codes.pack(np.ones(3, bool))


def test_hamming_by_hand() -> None:
    zero, full = np.zeros(WIDTH, np.uint8), np.full(WIDTH, 255, np.uint8)
    assert int(codes.hamming(zero, full)) == BITS
    assert int(codes.hamming(full, full)) == 0
    one = zero.copy()
    one[3] = 0b101
    assert codes.hamming(np.stack([zero, full]), one).tolist() == [2, BITS - 2]


@given(st.integers(0, 1000))
def test_hamming_counts_differing_bits(seed: int) -> None:
    a, b = random_codes(4, seed), random_codes(3, seed + 1)
    got = codes.hamming(a[:, None], b[None])
    want = (codes.unpack(a, BITS)[:, None] != codes.unpack(b, BITS)[None]).sum(-1)
    np.testing.assert_array_equal(got, want)
