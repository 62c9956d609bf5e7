"""Which buckets are looked into, against all keys that one flip or two can make."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hashing import codes
from hashing.probing import probe_keys


@given(
    seed=st.integers(0, 10**6),
    key_bits=st.integers(1, 9),
    probes=st.integers(1, 50),
    rows=st.integers(1, 3),
)
def test_probes_are_the_likeliest_keys_with_one_bit_or_two_flipped(
    seed: int, key_bits: int, probes: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    margins = rng.standard_normal((rows, 12)).astype(np.float32)
    positions = np.stack([rng.permutation(12)[:key_bits] for _ in range(2)]).astype(np.int16)
    found = probe_keys(margins, positions, probes)
    flips = [chosen for size in (1, 2) for chosen in itertools.combinations(range(key_bits), size)]
    assert found.shape == (rows, min(probes, 1 + len(flips)), 2)
    assert found.dtype == np.uint32
    for row, table in itertools.product(range(rows), range(2)):
        doubt = margins[row, positions[table]].astype(np.float64) ** 2
        bits = margins[row, positions[table]] > 0
        keys = {0.0: bits}
        for chosen in flips:
            flipped = bits.copy()
            flipped[list(chosen)] ^= True
            keys[float(sum(doubt[list(chosen)]))] = flipped
        expected = [
            int("".join("1" if bit else "0" for bit in keys[cost]), 2) for cost in sorted(keys)
        ]
        assert found[row, :, table].tolist() == expected[:probes]


def test_the_first_probe_is_the_key_of_the_index() -> None:
    rng = np.random.default_rng(3)
    margins = rng.standard_normal((50, 464)).astype(np.float32)
    margins[:, 7] = 0.0  # at the threshold a bit is 0
    positions = np.stack([rng.permutation(464)[:32] for _ in range(20)]).astype(np.int16)
    own = codes.keys(codes.pack(margins > 0), positions)
    for probes in (0, 1, 2, 8, 100):
        found = probe_keys(margins, positions, probes)
        assert found.shape == (50, max(1, probes), 20)
        np.testing.assert_array_equal(found[:, 0], own)
        distinct = [len(set(column)) for row in found.tolist() for column in zip(*row, strict=True)]
        assert set(distinct) == {max(1, probes)}


def test_no_snippets_have_no_keys() -> None:
    positions = np.arange(12, dtype=np.int16)[None]
    assert probe_keys(np.empty((0, 12), np.float32), positions, 4).shape == (0, 4, 1)


def test_probes_by_hand() -> None:
    # Bits 1, 0, 1 in doubts of 0.01, 0.04 and 0.09: both of the first are likelier flipped than the
    # last alone.
    margins = np.array([[0.1, -0.2, 0.3]], np.float32)
    positions = np.array([[0, 1, 2], [2, 1, 0]], np.int16)
    found = probe_keys(margins, positions, 7)
    assert found[0, :, 0].tolist() == [0b101, 0b001, 0b111, 0b011, 0b100, 0b000, 0b110]
    assert found[0, :, 1].tolist() == [0b101, 0b100, 0b111, 0b110, 0b001, 0b000, 0b011]


def test_a_bit_without_a_margin_is_a_zero_that_is_never_in_doubt() -> None:
    margins = np.array([[np.nan, 0.5, -1.0]], np.float32)
    assert probe_keys(margins, np.array([[0, 1, 2]]), 3)[0, :, 0].tolist() == [0b010, 0b000, 0b011]
