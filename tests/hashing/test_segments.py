"""Look-up in several segments as in one: against a dict of lists, merged in memory or not."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing import segments
from hashing.gone import NOTHING, Gone
from hashing.hits import SortedKeys
from hashing.segments import JoinedHits, JoinedTables, Numbering
from hashing.shards import Shard, TableSet
from hashing.tables import build_shard

ROOM = 1 << 34
Hit = tuple[int, int, int, int]  # segment, gid, row, load


class Index:
    """Random keys [gids, tables] of each segment, in memory; each table is cut into two shards."""

    def __init__(self, sizes: Sequence[int], key_bits: int, n_tables: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.key_bits, self.n_tables = key_bits, n_tables
        self.keys = [rng.integers(1 << key_bits, size=(n, n_tables)) for n in sizes]
        self.gone = [NOTHING for _ in sizes]
        self.shards, listed = dict[str, bytes](), []
        for segment, keys in enumerate(self.keys):
            for table in range(n_tables):
                middle = 1 << (key_bits - 1)
                for lo, hi in ((0, middle), (middle, 1 << key_bits)):
                    gids = np.flatnonzero((keys[:, table] >= lo) & (keys[:, table] < hi))
                    packed = keys[gids, table].astype(np.uint64) << np.uint64(32)
                    packed |= gids.astype(np.uint64)
                    file = io.BytesIO()
                    place = {"table": table, "segment": segment, "key_bits": key_bits}
                    build_shard(packed, file, **place, key_lo=lo, key_hi=hi)
                    name = f"{segment}-{table}-{lo}"
                    self.shards[name] = file.getvalue()
                    listed.append((name, segment, table, lo, hi))
        self.tables = TableSet(
            listed, n_tables, key_bits, open_shard=lambda name: Shard(self.shards[name], name)
        )
        self.joined = JoinedTables(self.tables, lambda segment: self.gone[segment])

    def remove(self, segment: int, first: int, end: int) -> None:
        """All snippets of a track are gone."""
        self.gone[segment] = Gone(np.array([first]), np.array([end]), end - first)

    def expected(self, asked: np.ndarray, max_bucket: int | None = None) -> list[Hit]:
        """What a dict of lists finds."""
        under = defaultdict(list)
        for segment, keys in enumerate(self.keys):
            lost = set(self.gone[segment].among(np.arange(len(keys))).tolist())
            for gid, row in enumerate(keys.tolist()):
                for table, key in enumerate(row):
                    if gid not in lost:
                        under[table, key].append((segment, gid))
        found = []
        for row, keys in enumerate(asked.tolist()):
            for place in enumerate(keys):
                load = len(under[place])
                if max_bucket is None or load <= max_bucket:
                    found += [(*one, row, load) for one in under[place]]
        return sorted(found)


def found_in(turns: Sequence[JoinedHits]) -> list[Hit]:
    """The hits of all turns, in an order of their own."""
    found = list[Hit]()
    for hits in turns:
        segment, before = hits.numbering.split(hits.number)
        row, load = (
            np.repeat(column, hits.bucket_hits) for column in (hits.bucket_row, hits.bucket_load)
        )
        columns = (segment, hits.number - before, row, load)
        found += zip(*(column.tolist() for column in columns), strict=True)
    return sorted(found)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    key_bits=st.sampled_from([1, 4, 7, 12]),
    rows=st.integers(0, 9),
    max_bucket=st.sampled_from([None, 0, 5]),
    removed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_several_segments_against_a_dict_of_lists(
    sizes: list[int], key_bits: int, rows: int, max_bucket: int | None, removed: bool, seed: int
) -> None:
    index = Index(sizes, key_bits, 3, seed)
    if removed:
        for segment, size in enumerate(sizes):
            index.remove(segment, size // 3, 1 + size // 2)
    asked = np.random.default_rng(seed).integers(1 << key_bits, size=(rows, 3)).astype(np.uint32)
    expected = index.expected(asked, max_bucket)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "KEYS_A_POSTING", 0.0)
        for _ in range(4):  # the small ones are merged after a while
            turns = index.joined.lookup(range(len(sizes)), asked, ROOM, max_bucket)
            assert found_in(turns) == expected


def test_small_segments_are_merged_once_it_pays_and_the_largest_never() -> None:
    index = Index([300, 20, 0, 30], 8, 2)
    asked = np.arange(20, dtype=np.uint32).reshape(10, 2)
    held = []
    for _ in range(4):
        index.joined.lookup([0, 1, 2, 3], asked, ROOM)
        held.append(None if index.joined._held is None else index.joined._held.segments)
    assert held[:2] == [None, [2, 1, 3]]  # one look-up costs more than to merge 100 postings
    assert held[-1] == [2, 1, 3]
    index.tables.close()
    for shard in list(index.shards):
        if not shard.startswith("0-"):
            del index.shards[shard]  # nothing is read of them again
    assert found_in(index.joined.lookup([0, 1, 2, 3], asked, ROOM)) == index.expected(asked)
    with pytest.raises(KeyError):
        index.joined.lookup([1], asked, ROOM)


def test_memory_is_bounded_and_a_store_far_away_is_not_read_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segments, "KEYS_A_POSTING", 0.0)
    asked = np.zeros((5, 2), np.uint32)
    for limit, near, held in ((10**6, True, [1, 2, 3]), (2500, True, [1, 2]), (0, True, None),
                              (10**6, False, None)):  # fmt: skip
        index = Index([300, 40, 50, 120], 8, 2)
        monkeypatch.setattr(TableSet, "near", near)
        joined = JoinedTables(index.tables, held=limit)
        for _ in range(3):
            assert found_in(joined.lookup(range(4), asked, ROOM)) == index.expected(asked)
        assert (None if joined._held is None else joined._held.segments) == held


def test_segments_come_in_turns_where_there_are_too_many_numbers() -> None:
    index = Index([50, 50, 50], 4, 2)
    asked = np.arange(8, dtype=np.uint32).reshape(4, 2)
    turns = index.joined.lookup([0, 1, 2], asked, 2 * segments.GAP)
    assert [turn.numbering.segments.tolist() for turn in turns] == [[0, 1], [2]]
    assert all(int(turn.number.max()) < 2 * segments.GAP for turn in turns)
    assert found_in(turns) == index.expected(asked)


def test_numbers_tell_their_segments() -> None:
    numbering = Numbering(np.array([7, 2, 5]), np.array([0, 100, 250]))
    segment, before = numbering.split(np.array([0, 99, 100, 249, 250, 9999]))
    assert segment.tolist() == [7, 7, 2, 2, 5, 5]
    assert before.tolist() == [0, 0, 100, 100, 250, 250]


@given(
    edges=st.sets(st.integers(0, 400), min_size=0, max_size=12),
    gids=st.lists(st.integers(0, 500), max_size=40),
)
def test_what_is_gone_against_a_loop(edges: set[int], gids: list[int]) -> None:
    bounds = sorted(edges)
    spans = list(zip(bounds[::2], bounds[1::2], strict=False))
    firsts, ends = (np.array([span[k] for span in spans], np.int64) for k in (0, 1))
    gone = Gone(firsts, ends, 0)
    expected = [at for at, gid in enumerate(gids) if any(a <= gid < b for a, b in spans)]
    assert gone.among(np.array(gids, np.uint32)).tolist() == expected


def test_keys_are_sorted_by_table_and_find_their_places_again() -> None:
    keys = np.random.default_rng(0).integers(50, size=(7, 3)).astype(np.uint32)
    found = SortedKeys.of(keys)
    assert (np.diff(found.wanted.astype(np.int64)) >= 0).all()
    np.testing.assert_array_equal(found.unsorted((found.wanted & np.uint64(63)).astype(np.int64)),
                                  keys)  # fmt: skip
