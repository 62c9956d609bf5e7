"""The join of a table with itself, against the same thing said in plain loops."""

from __future__ import annotations

import io
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.buckets import bucket_postings
from hashing.errors import IndexFormatError
from hashing.joining import (
    PAIR,
    JoinCounts,
    JoinRules,
    Numbering,
    count_votes,
    join_shards,
    pairs_of_buckets,
)
from hashing.shards import Shard
from hashing.table_format import DENSE, RANKED, SPARSE
from hashing.tables import build_shard, pack_postings

Posting = tuple[int, int, int]  # key, track, snippet within it

postings = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 9)), max_size=40, unique=True
)


def looped(found: list[Posting], stride: int, most: int) -> list[tuple[int, int, int]]:
    """Owner, other and shift of every pair, as a person would write it."""
    out = []
    sizes = Counter(key for key, _, _ in found)
    for (key, track, at), (key2, track2, at2) in itertools.combinations(found, 2):
        if key != key2 or track == track2 or sizes[key] > most:
            continue
        if at % stride and at2 % stride:
            continue
        low, high = sorted([(track, at), (track2, at2)])
        owner, other = (high, low) if (track + track2) % 2 else (low, high)
        out.append((owner[0], other[0], owner[1] - other[1]))
    return sorted(out)


def columns(found: list[Posting]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(sorted(found), np.int64).reshape(-1, 3)
    return (
        table[:, 0].astype(np.uint32),
        table[:, 1].astype(np.uint32),
        table[:, 2].astype(np.int32),
    )


@given(postings, st.integers(1, 4), st.integers(2, 8))
def test_pairs_are_those_of_plain_loops(found: list[Posting], stride: int, most: int) -> None:
    counts = JoinCounts()
    pairs = pairs_of_buckets(*columns(found), JoinRules(stride, most), counts)
    assert sorted(pairs.tolist()) == looped(found, stride, most)
    sizes = Counter(key for key, _, _ in found)
    long = [size for size in sizes.values() if size > most]
    assert counts == JoinCounts(len(found), len(long), sum(long), pairs.size)


def shard_of(keys: list[int], key_bits: int, segment: int = 0) -> Shard:
    """A shard of one snippet for each key, in their order."""
    file, size = io.BytesIO(), 2**key_bits
    packed = pack_postings([(None, np.array(keys, np.uint32), 0)], 0, size)
    place = {"table": 0, "segment": segment, "key_bits": key_bits, "key_lo": 0, "key_hi": size}
    build_shard(packed, file, **place)
    return Shard(file.getvalue(), "shard")


@pytest.mark.parametrize(
    ("kind", "key_bits", "n"), [(DENSE, 3, 40), (RANKED, 12, 2000), (SPARSE, 20, 30)]
)
def test_every_kind_of_directory_gives_its_postings(kind: int, key_bits: int, n: int) -> None:
    keys = np.random.default_rng(1).integers(0, 2**key_bits, n)
    shard = shard_of(keys.tolist(), key_bits)
    assert shard.header.kind == kind
    low, high = 2**key_bits // 3, 2**key_bits // 3 * 2
    found, gids = bucket_postings(shard, low, high)
    order = np.lexsort((np.arange(n), keys))
    order = order[(keys[order] >= low) & (keys[order] < high)]
    assert found.tolist() == keys[order].tolist()
    assert gids.tolist() == order.tolist()
    assert bucket_postings(shard, 0, 2**key_bits)[1].size == n
    assert bucket_postings(shard, 2**key_bits, 2**key_bits + 5)[0].size == 0


def numbering(lengths: list[list[int]], gone: list[int]) -> Numbering:
    """Tracks of so many snippets, by segment."""
    firsts = {s: np.cumsum([0, *one]).astype(np.uint32) for s, one in enumerate(lengths)}
    bases = dict(enumerate(np.cumsum([0, *map(len, lengths)])[:-1].tolist()))
    removed = np.zeros(sum(map(len, lengths)), bool)
    removed[gone] = True
    return Numbering(firsts, bases, removed)


@given(st.lists(st.integers(0, 7), min_size=12, max_size=12), st.sets(st.integers(0, 4)))
def test_segments_are_joined_as_one_without_the_tracks_that_are_gone(
    keys: list[int], gone: set[int]
) -> None:
    lengths = [[3, 2], [4, 2, 1]]  # five tracks in two segments
    tracks = np.repeat(np.arange(5), [3, 2, 4, 2, 1]).tolist()
    withins = [0, 1, 2, 0, 1, 0, 1, 2, 3, 0, 1, 0]
    live = [row for row in zip(keys, tracks, withins, strict=True) if row[1] not in gone]
    shards = [(0, shard_of(keys[:5], 3)), (1, shard_of(keys[5:], 3, 1))]
    for step in (1, 3, 100):
        counts = JoinCounts()
        rules, numbers = JoinRules(2, 6), numbering(lengths, sorted(gone))
        found = list(join_shards(shards, 0, 8, numbers, rules, counts, step))
        assert sorted(np.concatenate(found).tolist()) == looped(live, 2, 6)
        assert counts.postings == len(live)


def test_a_snippet_of_no_track_is_an_error() -> None:
    with pytest.raises(IndexFormatError, match="snippet 5 of segment 0"):
        numbering([[3, 2]], []).locate(0, np.array([5], np.uint32))


votes = st.lists(st.tuples(st.integers(0, 2), st.integers(3, 5), st.integers(-3, 3)), max_size=60)


@given(votes, st.integers(1, 4), st.integers(1, 3))
def test_votes_are_those_of_plain_loops(
    rows: list[tuple[int, int, int]], least: int, most: int
) -> None:
    counts = Counter(rows)
    wanted = []
    for owner, other in itertools.product(range(3), range(3, 6)):
        shifts = [
            (counts[owner, other, shift] + counts[owner, other, shift + 1], own, shift)
            for shift in range(-3, 4)
            if (own := counts[owner, other, shift])
        ]
        best = sorted(
            (row for row in shifts if row[0] >= least), key=lambda r: (-r[0], -r[1], r[2])
        )
        wanted += [(owner, other, shift, total) for total, _, shift in best[:most]]
    found = count_votes(np.array(rows, PAIR), least, most)
    got = np.stack((found.owner, found.other, found.shift, found.votes), axis=1)
    assert list(map(tuple, got.tolist())) == wanted
