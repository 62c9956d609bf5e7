"""Gates of the balance of buckets: broken hashers are seen, music and small segments pass."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest

from hashing.tables import build_shard
from pipelines.gating.balance import gate_entropy, gate_largest_bucket, table_stats
from pipelines.gating.bounds import Bounds
from pipelines.runs import Receipt
from pipelines.versions import FileEntry

BITS = 14
BOUNDS = Bounds(min_postings=1024)


def shard(keys: np.ndarray, table: int = 0, key_lo: int = 0, key_hi: int = 1 << BITS) -> Receipt:
    """The receipt of a shard of these keys."""
    gids = np.arange(keys.size, dtype=np.uint64)
    packed = (keys.astype(np.uint64) << np.uint64(32)) | gids
    place = {"segment": 3, "table": table, "key_lo": key_lo, "key_hi": key_hi}
    stats = build_shard(packed, io.BytesIO(), key_bits=BITS, **place)
    entry = FileEntry("versions/000001/tables/a", "tables", keys.size, 1, "00", **place)
    return Receipt("s", "a", [entry], dataclasses.asdict(stats), 0.0, 1.0)


def even_keys(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << BITS, n)


def gates(keys: np.ndarray) -> tuple[bool, bool]:
    """Whether the two gates pass."""
    tables = table_stats([shard(keys)])
    return (
        gate_entropy(tables, BITS, BOUNDS).passed,
        gate_largest_bucket(tables, BOUNDS).passed,
    )


def test_even_buckets_pass() -> None:
    tables = table_stats([shard(even_keys(65_536))])
    gate = gate_entropy(tables, BITS, BOUNDS)
    assert gate.passed
    assert gate.value == pytest.approx(1.0, abs=0.002)
    gate = gate_largest_bucket(tables, BOUNDS)
    assert gate.passed
    assert gate.value is not None
    assert gate.value < 0.001


@pytest.mark.parametrize("n", [1024, 4096, 65_536])
def test_half_of_the_bits_stuck_is_seen(n: int) -> None:
    """At the length of key that an index of that size has, which for a small one is 12 bits."""
    stuck = even_keys(n) & (0b0101_0101_0101_01 if n > 16_384 else 0b0101_0101_0100)
    assert not gates(stuck)[0]


def test_one_code_for_everything_is_seen_by_both() -> None:
    assert gates(np.full(1024, 77)) == (False, False)


def test_a_bucket_that_swallows_a_third_is_seen() -> None:
    keys = even_keys(30_000)
    keys[:10_000] = 5
    assert gates(keys) == (True, False)


def test_everything_ten_times_passes() -> None:
    assert gates(np.tile(even_keys(6000), 10)) == (True, True)


def test_the_worst_table_counts_and_is_named() -> None:
    good, bad = even_keys(4096), np.full(4096, 9)
    tables = table_stats([shard(good, 0), shard(bad, 1), shard(good, 2)])
    entropy, largest = gate_entropy(tables, BITS, BOUNDS), gate_largest_bucket(tables, BOUNDS)
    assert entropy.message.startswith("table 1 of segment 3 has 0.00 bits of entropy, a perfect ")
    assert largest.message == "table 1 of segment 3 has 4096 of its 4096 postings in one bucket"
    assert (entropy.value, largest.value) == (0.0, 1.0)


def test_the_ranges_of_a_table_are_put_together() -> None:
    keys = np.sort(even_keys(4096))
    middle = 1 << (BITS - 1)
    low, high = keys[keys < middle], keys[keys >= middle]
    split = [shard(high, 0, middle, 2 * middle), shard(low, 0, 0, middle)]
    (parted,), (whole,) = table_stats(split).values(), table_stats([shard(keys)]).values()
    assert dataclasses.asdict(parted) == pytest.approx(dataclasses.asdict(whole))


def test_small_tables_are_not_measured() -> None:
    for tables in ({}, table_stats([shard(np.full(1023, 5))])):
        for gate in (gate_entropy(tables, BITS, BOUNDS), gate_largest_bucket(tables, BOUNDS)):
            assert (gate.passed, gate.value) == (True, None)
            assert gate.message == "no new table of 1024 postings or more of different tracks"
