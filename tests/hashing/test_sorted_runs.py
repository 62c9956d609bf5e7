"""Runs of sorted postings: what goes in comes out, in few bytes, and damage is told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hashing.sorted_runs import BLOCK, decode_run, encode_run

TOP = 2**32 - 1
HEADER = 20


def packed(keys: NDArray[np.uint64], gids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.sort(keys << np.uint64(32) | gids)


def there_and_back(run: NDArray[np.uint64]) -> int:
    """Bytes of the run."""
    data = b"".join(encode_run(run))
    found = np.zeros(len(run), np.uint64)
    decode_run(data, found)
    assert np.array_equal(found, run)
    return len(data)


# Differences of keys about the ends of their widths, and gids about those of theirs.
EDGES = [0, 1, 2, 254, 255, 256, 65534, 65535, 65536, 2**24 - 1, 2**24, TOP - 1, TOP]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(EDGES) | st.integers(0, TOP),
            st.sampled_from(EDGES) | st.integers(0, TOP),
        ),
        max_size=60,
    ),
    st.integers(0, TOP),
    st.booleans(),
)
def test_any_run_comes_back(pairs: list[tuple[int, int]], first: int, near: bool) -> None:
    keys = np.array([key for key, _ in pairs], np.uint64)
    gids = np.array([gid for _, gid in pairs], np.uint64)
    if near:  # differences are the edges themselves
        keys = np.cumsum(keys, dtype=np.uint64) % 2**32
        gids = gids % 2**16 + min(first, TOP - 2**16)
    there_and_back(packed(keys, gids))


@pytest.mark.parametrize("edge", EDGES)
def test_the_only_difference_may_have_any_size(edge: int) -> None:
    assert there_and_back(np.array([0, edge << 32], np.uint64)) == HEADER + 2 * 2 + min(
        2 + 4 * (edge >= 255), 4 + 4 * (edge >= 65535), 8 + 4 * (edge == TOP)
    )


def test_a_run_of_many_blocks_comes_back() -> None:
    rng = np.random.default_rng(0)
    for n in (BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5):
        run = packed(rng.integers(0, 2**20, n, np.uint64), rng.integers(0, 2**22, n, np.uint64))
        blocks = list(encode_run(run))
        assert len(blocks) == -(-n // BLOCK)
        there_and_back(run)
    assert list(encode_run(run[:0])) == []
    there_and_back(run[:0])


@pytest.mark.parametrize(
    ("key_bits", "snippets", "most"), [(27, 4_320_000, 4.01), (32, 4_688_640, 5.01)]
)
def test_a_posting_takes_as_few_bytes_as_is_said(key_bits: int, snippets: int, most: float) -> None:
    """As of a piece of an index of one and of ten million tracks, 480 snippets each."""
    rng = np.random.default_rng(0)
    run = packed(
        rng.integers(0, (BLOCK << key_bits) // snippets, BLOCK, np.uint64),
        rng.integers(0, snippets, BLOCK, np.uint64) + np.uint64(10**9),
    )
    assert there_and_back(run) <= most * len(run)


def test_the_order_of_equal_keys_and_repeated_postings_are_kept() -> None:
    run = np.array([3, 3, 5, 7 << 32 | 1, 7 << 32 | 1, 7 << 32 | TOP], np.uint64)
    there_and_back(run)


def test_what_is_damaged_is_told() -> None:
    rng = np.random.default_rng(1)
    run = packed(rng.integers(0, 2**16, 500, np.uint64), rng.integers(0, 2**22, 500, np.uint64))
    data = b"".join(encode_run(run))
    for cut in (1, HEADER - 1, HEADER, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match="a run"):
            decode_run(data[:cut], np.empty(500, np.uint64))
    for size in (0, 499, 501):
        with pytest.raises(ValueError, match="a run"):
            decode_run(data, np.empty(size, np.uint64))
    for at, values in ((0, (0, 1, 2, 255)), (12, (1, 255)), (16, (0, 3, 4, 9)), (17, (0, 1, 5))):
        for value in values:
            if data[at] == value:
                continue
            with pytest.raises(ValueError, match="a run"):
                decode_run(data[:at] + bytes([value]) + data[at + 1 :], np.empty(500, np.uint64))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 12))
def test_strange_bytes_do_nothing_but_raise(data: bytes, n: int) -> None:
    out = np.zeros(n, np.uint64)
    whole = b"".join(encode_run(np.arange(5, dtype=np.uint64) << np.uint64(32)))
    for one, at in itertools.product((data, whole + data), (0, 4)):
        try:
            decode_run(one[at:], out)
        except ValueError:
            continue
        assert n == 0 or len(one) > at
