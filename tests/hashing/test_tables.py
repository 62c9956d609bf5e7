from __future__ import annotations

import io
import itertools
import math
import resource
import struct
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.errors import HashbeamError, IndexFormatError
from hashing.shards import Shard, TableSet
from hashing.table_format import (
    DENSE,
    HEADER_BYTES,
    MAX_GIDS,
    RANKED,
    SPARSE,
    ShardHeader,
)
from hashing.tables import (
    ShardStats,
    build_shard,
    merge_stats,
    pack_postings,
    plan_key_ranges,
    plan_segments,
    plan_shard,
)


def build(
    keys: list[int] | np.ndarray,
    key_bits: int,
    key_lo: int = 0,
    key_hi: int | None = None,
    table: int = 0,
    segment: int = 0,
) -> tuple[bytes, ShardStats]:
    """A shard of snippets 0, 1, 2… with these keys."""
    key_hi = 2**key_bits if key_hi is None else key_hi
    packed = pack_postings([(None, np.asarray(keys, np.uint32), 0)], key_lo, key_hi)
    out = io.BytesIO()
    stats = build_shard(
        packed,
        out,
        table=table,
        segment=segment,
        key_bits=key_bits,
        key_lo=key_lo,
        key_hi=key_hi,
    )
    return out.getvalue(), stats


def buckets(data: bytes, asked: list[int]) -> list[list[int]]:
    shard = Shard(data, "x.hbt")
    first, size = shard.find(np.array(asked, np.uint32))
    return [
        shard.postings[a : a + n].tolist()
        for a, n in zip(first.tolist(), size.tolist(), strict=True)
    ]


def kind(data: bytes) -> int:
    return Shard(data, "x.hbt").header.kind


def reference(keys: list[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for gid, key in enumerate(keys):
        found[key].append(gid)
    return found


# --- one shard


def test_dense_shard_byte_by_byte() -> None:
    data, stats = build([2, 0, 2, 1, 2, 0, 2, 2, 2, 2, 2], 2, table=7, segment=9)
    assert stats.postings == 11
    head = struct.pack("<8sIHHIB3xQQQQ8x", b"HBTABLE\0", 1, 7, 2, 9, DENSE, 0, 4, 11, 4)
    assert len(head) == 64
    offsets = struct.pack("<5I", 0, 2, 3, 11, 11)
    postings = struct.pack("<11I", 1, 5, 3, 0, 2, 4, 6, 7, 8, 9, 10)
    assert data == head + offsets.ljust(64, b"\0") + postings


def test_sparse_shard_byte_by_byte() -> None:
    data, _ = build([2**32 - 1, 5, 2**32 - 1], 32)
    head = struct.pack("<8sIHHIB3xQQQQ8x", b"HBTABLE\0", 1, 0, 32, 0, SPARSE, 0, 2**32, 3, 2)
    keys = struct.pack("<2I", 5, 2**32 - 1).ljust(64, b"\0")
    offsets = struct.pack("<3I", 0, 1, 3).ljust(64, b"\0")
    assert data == head + keys + offsets + struct.pack("<3I", 1, 0, 2)


def test_ranked_shard_byte_by_byte() -> None:
    # Two keys of the first block and one of the last, of 1,024 keys: 16 blocks and the end.
    keys = [3] * 2 + [1] + [1023] * 3 + list(range(64, 164))
    data, _ = build(keys, 10)
    assert kind(data) == RANKED
    blocks = np.frombuffer(data[64 : 64 + 17 * 16], "<u4").reshape(-1, 4)
    assert blocks[0].tolist() == [0b1010, 0, 0, 0]
    assert blocks[1].tolist() == [2**32 - 1, 2**32 - 1, 2, 3]
    assert blocks[2].tolist() == [2**32 - 1, 0b1111, 66, 67]
    assert blocks[3].tolist() == [0, 0, 102, 103]
    assert blocks[15].tolist() == [0, 2**31, 102, 103]
    assert blocks[16].tolist() == [0, 0, 103, 106]
    at = 64 + 320  # 17 blocks of 16 bytes, padded
    starts = np.frombuffer(data[at : at + 2 * 103], "<u2")
    assert starts.tolist() == [0, 1, *range(64), *range(36), 0]
    assert buckets(data, [0, 1, 2, 3, 64, 163, 164, 1022, 1023]) == [
        [], [2], [], [0, 1], [6], [105], [], [], [3, 4, 5],
    ]  # fmt: skip


KEY_LISTS = st.integers(1, 32).flatmap(
    lambda bits: st.tuples(
        st.just(bits),
        st.lists(
            st.one_of(
                st.integers(0, 2**bits - 1),
                st.integers(0, min(2**bits, 300) - 1),
                st.just(0),
                st.just(2**bits - 1),
            ),
            max_size=300,
        ),
    )
)


@given(KEY_LISTS)
def test_shards_against_a_dict_of_lists(case: tuple[int, list[int]]) -> None:
    bits, keys = case
    data, stats = build(keys, bits)
    want = reference(keys)
    asked = sorted({0, 2**bits - 1, *keys, *(min(key + 1, 2**bits - 1) for key in keys)})
    assert buckets(data, asked) == [want.get(key, []) for key in asked]
    assert Shard(data, "x").verify(len(keys)) == []
    loads = [len(gids) for gids in want.values()]
    assert (stats.postings, stats.distinct_keys) == (len(keys), len(loads))
    assert stats.max_bucket == max(loads, default=0)
    entropy = -sum(n / len(keys) * math.log2(n / len(keys)) for n in loads)
    assert stats.entropy_bits == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "bits", "expected"),
    [(200_000, 16, DENSE), (60_000, 16, RANKED), (30_000, 16, RANKED), (500, 16, SPARSE)],
)
def test_large_shards_of_every_kind(n: int, bits: int, expected: int) -> None:
    keys = np.random.default_rng(n).integers(0, 2**bits, n, dtype=np.uint32)
    data, stats = build(keys, bits)
    assert kind(data) == expected
    shard = Shard(data, "x")
    assert shard.verify(n) == []
    order = np.argsort(keys, kind="stable")
    np.testing.assert_array_equal(shard.postings, order)
    every = np.arange(2**bits, dtype=np.uint32)
    first, size = shard.find(every)
    np.testing.assert_array_equal(size, np.bincount(keys, minlength=2**bits))
    held = size > 0
    np.testing.assert_array_equal(first[held], np.searchsorted(keys[order], every[held]))
    assert stats.distinct_keys == int(held.sum())


def test_bytes_per_posting_stay_below_the_limit() -> None:
    """6.5 bytes from a third of a posting a key upwards: catalogues of any size, long keys."""
    for n in (24_000, 33_000, 66_000, 105_000, 110_000, 200_000):
        keys = np.random.default_rng(n).integers(0, 2**16, n, dtype=np.uint32)
        assert len(build(keys, 16)[0]) / n <= 6.5, n


def test_one_key_that_holds_everything() -> None:
    data, stats = build([5] * 100_000, 16)
    assert buckets(data, [4, 5, 6]) == [[], list(range(100_000)), []]
    assert stats == ShardStats(100_000, 1, 100_000, 0.0)


def test_a_bucket_beyond_16_bits_is_not_ranked() -> None:
    # 70,000 postings of key 0 push the start of key 1's bucket past 16 bits.
    keys = [0] * 70_000 + list(range(1, 40_000))
    data, _ = build(keys, 17)
    assert kind(data) != RANKED
    assert buckets(data, [1, 39_999, 40_000]) == [[70_000], [109_998], []]
    # In key 63, the last of its block, no other bucket of the block comes after it.
    ranked, _ = build([63] * 70_000 + list(range(62)) + list(range(64, 40_000)), 17)
    assert kind(ranked) == RANKED
    assert buckets(ranked, [61, 62, 64]) == [[70_061], [], [70_062]]
    assert len(buckets(ranked, [63])[0]) == 70_000


def test_empty_shard() -> None:
    data, stats = build([], 22)
    assert stats == ShardStats(0, 0, 0, 0.0)
    assert buckets(data, [0, 1, 2**22 - 1]) == [[], [], []]
    assert Shard(data, "x").verify(0) == []
    assert len(data) < 256


@pytest.mark.parametrize("bits", [1, 32])
def test_shortest_and_longest_keys(bits: int) -> None:
    top = 2**bits - 1
    data, _ = build([top, 0, top], bits)
    assert buckets(data, [0, top]) == [[1], [0, 2]]


def test_range_of_keys_and_its_ends() -> None:
    data, stats = build([99, 100, 149, 150, 100], 8, key_lo=100, key_hi=150)
    assert stats.postings == 3
    assert buckets(data, [100, 101, 149]) == [[1, 4], [], [2]]


def test_keys_outside_the_range_are_refused() -> None:
    packed = pack_postings([(None, np.array([7], np.uint32), 0)], 0, 8)
    with pytest.raises(ValueError, match="reach outside"):
        build_shard(packed, io.BytesIO(), table=0, segment=0, key_bits=3, key_lo=0, key_hi=7)


@given(st.lists(st.integers(0, 40_000), max_size=5), st.integers(0, 100_000))
@settings(max_examples=25)
def test_packing_in_chunks_equals_packing_at_once(sizes: list[int], expected: int) -> None:
    keys = np.random.default_rng(sum(sizes)).integers(0, 1000, sum(sizes), dtype=np.uint32)
    firsts = np.cumsum([0, *sizes]).tolist()
    chunks = [(None, keys[a : a + n], a) for a, n in zip(firsts, sizes, strict=False)]
    want = [int(k) << 32 | gid for gid, k in enumerate(keys) if 200 <= k < 700]
    assert pack_postings(chunks, 200, 700, expected).tolist() == want


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=30), max_size=4),
    st.integers(0, 100),
)
def test_rows_that_stand_in_several_buckets_or_in_none(
    chunks: list[list[tuple[int, int]]], expected: int
) -> None:
    # Rows rise within a chunk, as a quantizer gives them; gids of a chunk count from its first.
    packed, want = [], []
    for number, pairs in enumerate(chunks):
        rows, keys = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        packed.append((rows, keys.astype(np.uint32), 1000 * number))
        want += [key << 32 | 1000 * number + row for row, key in sorted(pairs) if 2 <= key < 8]
    assert pack_postings(packed, 2, 8, expected).tolist() == want


def test_many_rows_are_packed_step_by_step() -> None:
    rows = np.repeat(np.arange(50_000), 2)
    keys = np.tile(np.array([1, 5], np.uint32), 50_000)
    found = pack_postings([(rows, keys, 7)], 0, 8)
    np.testing.assert_array_equal(found & np.uint64(0xFFFFFFFF), rows.astype(np.uint64) + 7)
    np.testing.assert_array_equal(found >> np.uint64(32), keys)


# --- arithmetic beyond 32 bits, without the bytes


def test_gids_reach_the_last_one_of_a_segment_and_no_further() -> None:
    two = np.array([1, 2**32 - 1], np.uint32)
    packed = pack_postings([(None, two, MAX_GIDS - 2)], 0, 2**32)
    assert packed.tolist() == [1 << 32 | MAX_GIDS - 2, (2**32 - 1) << 32 | MAX_GIDS - 1]
    with pytest.raises(HashbeamError, match="more segments"):
        pack_postings([(None, two, MAX_GIDS - 1)], 0, 2**32)
    # What counts is the highest row, not how many keys there are.
    rows = np.array([0, 0, 1])
    keys = np.array([1, 2, 3], np.uint32)
    packed = pack_postings([(rows, keys, MAX_GIDS - 2)], 0, 2**32)
    assert [int(one) & 0xFFFFFFFF for one in packed] == [MAX_GIDS - 2, MAX_GIDS - 2, MAX_GIDS - 1]
    with pytest.raises(HashbeamError, match="more segments"):
        pack_postings([(rows, keys, MAX_GIDS - 1)], 0, 2**32)


def test_headers_of_shards_of_four_billion_postings() -> None:
    place = ShardHeader(0, 32, 0, DENSE, 0, 2**31, MAX_GIDS, 0)
    header = plan_shard(place, 2**31)
    assert (header.kind, header.entries) == (DENSE, 2**31)
    assert header.postings_at == 64 + 4 * 2**31 + 64
    assert header.file_bytes == header.postings_at + 4 * (2**32 - 1)
    assert ShardHeader.from_bytes(header.to_bytes(), "x", header.file_bytes) == header
    with pytest.raises(HashbeamError, match="4294967296 postings"):
        plan_shard(ShardHeader(0, 32, 0, DENSE, 0, 2**32, 2**32, 0), 1)


@given(st.integers(0, 10**12), st.integers(1, 32), st.integers(1_000_000, 2**40))
def test_key_ranges_cover_all_keys_once(n: int, bits: int, block: int) -> None:
    ranges = plan_key_ranges(n, bits, block)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 2**bits
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    widths = [hi - lo for lo, hi in ranges]
    assert min(widths) >= 1
    assert max(widths) - min(widths) <= 1
    assert len(ranges) == min(2**bits, max(1, math.ceil(n / block)))


def test_key_ranges_of_ten_million_tracks() -> None:
    ranges = plan_key_ranges(4_800_000_000, 32)
    assert len(ranges) == 150
    assert ranges[-1] == (149 * 2**32 // 150, 2**32)
    assert plan_key_ranges(0, 22) == [(0, 2**22)]
    assert plan_key_ranges(10**9, 1) == [(0, 1), (1, 2)]
    with pytest.raises(ValueError, match="key_bits=33"):
        plan_key_ranges(1, 33)


@given(st.lists(st.integers(0, 100), max_size=50))
def test_segments_are_full_and_complete(parts: list[int]) -> None:
    segments = plan_segments(parts, 100)
    assert [part for segment in segments for part in segment] == list(range(len(parts)))
    sums = [sum(parts[part] for part in segment) for segment in segments]
    assert all(total <= 100 for total in sums)
    for total, following in zip(sums, segments[1:], strict=False):
        assert total + parts[following.start] > 100


def test_segments_of_more_than_four_billion_snippets() -> None:
    million = 1_000_000
    assert plan_segments([million] * 4800) == [range(4294), range(4294, 4800)]
    assert plan_segments([MAX_GIDS, 1]) == [range(1), range(1, 2)]
    assert plan_segments([0, MAX_GIDS, 0]) == [range(3)]
    assert plan_segments([]) == []
    with pytest.raises(HashbeamError, match=r"part 1 .* 4294967296"):
        plan_segments([1, 2**32])


def test_statistics_of_ranges_add_up() -> None:
    keys = np.random.default_rng(0).geometric(0.01, 5000).astype(np.uint32) % 256
    parts = [build(keys, 8, lo, hi)[1] for lo, hi in [(0, 10), (10, 100), (100, 256)]]
    whole = build(keys, 8)[1]
    merged = merge_stats([*parts, ShardStats(0, 0, 0, 0.0)])
    assert merged.entropy_bits == pytest.approx(whole.entropy_bits)
    assert (merged.postings, merged.distinct_keys) == (whole.postings, whole.distinct_keys)
    assert merged.max_bucket == whole.max_bucket
    assert merge_stats([]) == ShardStats(0, 0, 0, 0.0)
    even = build(list(range(256)) * 3, 8)[1]
    assert even == ShardStats(768, 256, 3, 8.0)


# --- damage


SAMPLES = {
    DENSE: build(np.arange(1000) % 64, 6)[0],
    SPARSE: build([1, 2**30, 77] * 3, 31)[0],
    RANKED: build(np.arange(0, 2000, 2), 11)[0],
}


@pytest.mark.parametrize("sample", [DENSE, SPARSE, RANKED])
def test_truncated_and_extended_files(sample: int, tmp_path: Path) -> None:
    data = SAMPLES[sample]
    header = Shard(data, "x").header
    assert header.kind == sample
    cuts = {0, 1, 8, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, header.offsets_at}
    cuts |= {header.postings_at - 1, header.postings_at, len(data) - 4, len(data) - 1}
    path = tmp_path / "cut.hbt"
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        with pytest.raises(IndexFormatError, match=r"cut\.hbt is truncated.*hashbeam verify"):
            Shard.open(str(path))
    path.write_bytes(data + b"\0")
    with pytest.raises(IndexFormatError, match="damaged"):
        Shard.open(str(path))
    path.write_bytes(data)
    assert Shard.open(str(path)).header == header


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"RIFF", "not a hash table shard"),
        (8, struct.pack("<I", 9), "format version 9, this hashbeam reads 1"),
        (14, struct.pack("<H", 33), "impossible header"),
        (14, struct.pack("<H", 5), "impossible header"),
        (20, b"\x03", "impossible header"),
        (24, struct.pack("<Q", 2**63), "impossible header"),
        (32, struct.pack("<Q", 63), "impossible header"),
        (40, struct.pack("<Q", 2**32), "impossible header"),
        (40, struct.pack("<Q", 999), "damaged: bytes"),
        (40, struct.pack("<Q", 2**32 - 1), "truncated"),
        (48, struct.pack("<Q", 2**64 - 1), "impossible header"),
    ],
)
def test_damaged_headers(place: int, value: bytes, message: str) -> None:
    data = bytearray(SAMPLES[DENSE])
    data[place : place + len(value)] = value
    with pytest.raises(IndexFormatError, match=message):
        Shard(bytes(data), "x.hbt")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match=r"none\.hbt cannot be opened"):
        Shard.open(str(tmp_path / "none.hbt"))
    with pytest.raises(IndexFormatError, match="cannot be opened"):
        Shard.open(str(tmp_path))


def damaged(sample: int, place: int, value: int, width: str = "<I") -> Shard:
    data = bytearray(SAMPLES[sample])
    struct.pack_into(width, data, place, value)
    return Shard(bytes(data), "x.hbt")


def test_verify_names_what_is_wrong() -> None:
    assert "posting 999 is not below 999" in Shard(SAMPLES[DENSE], "x").verify(999)[0]
    assert Shard(SAMPLES[DENSE], "x").verify() == []
    assert damaged(DENSE, 64, 3).verify() == [
        "x.hbt: offsets run from 3 to 1000, expected 0 to 1000"
    ]
    assert damaged(DENSE, 68, 500).verify() == ["x.hbt: offsets are not in order"]
    assert damaged(SPARSE, 64, 80).verify() == ["x.hbt: keys are not in order"]
    assert damaged(SPARSE, 72, 2**31).verify() == [f"x.hbt: keys outside 0 to {2**31 - 1}"]
    assert damaged(RANKED, 64, 1).verify() == ["x.hbt: the blocks of the directory do not add up"]
    starts = Shard(SAMPLES[RANKED], "x").header.offsets_at
    assert damaged(RANKED, starts + 2, 9, "<H").verify() == ["x.hbt: offsets are not in order"]


@pytest.mark.parametrize(("sample", "place"), [(DENSE, 64), (SPARSE, 128), (RANKED, 64 + 12)])
def test_offsets_beyond_the_postings_are_refused_by_a_look_up(sample: int, place: int) -> None:
    with pytest.raises(IndexFormatError, match="damaged directory"):
        damaged(sample, place, 2**31).find(np.array([0, 1], np.uint32))


# --- tables


class Index:
    """Tables of random keys on disk, and what a dict of lists finds in them."""

    def __init__(
        self, folder: Path, n: int, n_tables: int, bits: int, block: int, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.keys = rng.integers(0, 2**bits, (n, n_tables), dtype=np.uint32)
        self.bits = bits
        self.entries = []
        for table in range(n_tables):
            for number, (lo, hi) in enumerate(plan_key_ranges(n, bits, block)):
                path = folder / f"t{table}-k{number}.hbt"
                path.write_bytes(build(self.keys[:, table], bits, lo, hi, table)[0])
                self.entries.append((str(path), 0, table, lo, hi))
        self.tables = TableSet(reversed(self.entries), n_tables, bits)

    def expected(self, asked: np.ndarray) -> list[tuple[int, int, int]]:
        found = []
        for table in range(asked.shape[1]):
            want = reference(self.keys[:, table].tolist())
            for row, key in enumerate(asked[:, table].tolist()):
                found += [(row, gid, len(want[key])) for gid in want.get(key, [])]
        return sorted(found)


def triples(hits: object) -> list[tuple[int, int, int]]:
    columns = (hits.row.tolist(), hits.gid.tolist(), hits.bucket.tolist())  # type: ignore[attr-defined]
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize(
    ("n", "bits", "block"), [(3000, 8, 10**6), (3000, 8, 100), (3000, 11, 700), (50, 30, 20)]
)
def test_look_ups_against_a_dict_of_lists(n: int, bits: int, block: int, tmp_path: Path) -> None:
    index = Index(tmp_path, n, 4, bits, block)
    rng = np.random.default_rng(1)
    asked = rng.integers(0, 2**bits, (37, 4), dtype=np.uint32)
    asked[:10] = index.keys[:10]
    asked[10], asked[11], asked[12] = 0, 2**bits - 1, asked[0]
    hits = index.tables.lookup(0, asked)
    assert triples(hits) == index.expected(asked)
    assert (hits.gid.dtype, hits.row.dtype, hits.bucket.dtype) == (np.uint32, np.int32, np.uint32)
    loads = [np.bincount(column, minlength=1) for column in (index.keys % 2**20).T]
    if bits < 20:
        want = [[int(loads[t][k]) if k < len(loads[t]) else 0 for t, k in enumerate(row)]
                for row in asked.tolist()]  # fmt: skip
        assert hits.bucket_sizes.tolist() == want
    # A second look-up goes through the shards that are open already.
    assert triples(index.tables.lookup(0, asked[:5])) == index.expected(asked[:5])


def test_large_buckets_are_left_out_but_counted(tmp_path: Path) -> None:
    index = Index(tmp_path, 100, 2, 3, 1000)
    asked = np.arange(16, dtype=np.uint32).reshape(8, 2) % 8
    sizes = index.tables.lookup(0, asked).bucket_sizes
    limit = int(np.median(sizes))
    assert sizes.max() > limit
    hits = index.tables.lookup(0, asked, max_bucket=limit)
    np.testing.assert_array_equal(hits.bucket_sizes, sizes)
    assert triples(hits) == [hit for hit in index.expected(asked) if hit[2] <= limit]
    assert len(index.tables.lookup(0, asked, max_bucket=0).gid) == 0


def test_no_rows_and_empty_tables(tmp_path: Path) -> None:
    index = Index(tmp_path, 0, 2, 5, 10)
    hits = index.tables.lookup(0, np.zeros((3, 2), np.uint32))
    assert (len(hits.gid), hits.bucket_sizes.tolist()) == (0, [[0, 0]] * 3)
    hits = index.tables.lookup(0, np.zeros((0, 2), np.uint32))
    assert (len(hits.gid), hits.bucket_sizes.shape) == (0, (0, 2))


def test_segments_are_apart(tmp_path: Path) -> None:
    entries = []
    for segment, keys in enumerate([[1, 1], [0, 1]]):
        path = tmp_path / f"s{segment}.hbt"
        path.write_bytes(build(keys, 1, segment=segment)[0])
        entries.append((str(path), segment, 0, 0, 2))
    tables = TableSet(entries, 1, 1)
    one = np.array([[1]], np.uint32)
    assert tables.segments == [0, 1]
    assert tables.lookup(0, one).gid.tolist() == [0, 1]
    assert tables.lookup(1, one).gid.tolist() == [1]
    with pytest.raises(IndexFormatError, match="segment 2, table 0"):
        tables.lookup(2, one)


def test_nothing_is_opened_before_a_look_up_and_only_what_it_needs(tmp_path: Path) -> None:
    index = Index(tmp_path, 1000, 2, 8, 100)
    for path, *_, key_lo, _ in index.entries:
        if key_lo > 0:
            Path(path).unlink()
    hits = index.tables.lookup(0, np.zeros((1, 2), np.uint32))
    assert len(index.tables.opened) == 2
    assert triples(hits) == index.expected(np.zeros((1, 2), np.uint32))
    with pytest.raises(IndexFormatError, match=r"k9\.hbt cannot be opened"):
        index.tables.lookup(0, np.full((1, 2), 255, np.uint32))


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    index = Index(tmp_path, 1000, 2, 8, 20)  # 100 shards
    assert len(index.entries) == 100
    asked = np.repeat(np.arange(256, dtype=np.uint32)[:, None], 2, axis=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, hard))
    try:
        tables = TableSet(index.entries, 2, 8, max_open=7)
        hits = tables.lookup(0, asked)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert triples(hits) == index.expected(asked)
    assert len(tables.opened) == 7
    tables.close()
    assert tables.opened == []
    assert triples(tables.lookup(0, asked[:3])) == index.expected(asked[:3])


def test_holes_overlaps_and_wrong_places_are_refused(tmp_path: Path) -> None:
    index = Index(tmp_path, 100, 2, 4, 25)  # four ranges a table
    asked = np.zeros((1, 2), np.uint32)
    whole = index.entries
    for broken, message in [
        (whole[1:], "segment 0, table 0: keys from 0"),
        (whole[:3] + whole[4:], "table 0: keys from 12"),
        (whole[:4], "table 1: keys from 0"),
        ([*whole, whole[2]], "table 0"),
        ([*whole, (whole[0][0], 0, 2, 0, 16)], "table 2"),
    ]:
        with pytest.raises(IndexFormatError, match=message):
            TableSet(broken, 2, 4).lookup(0, asked)
    swapped = [(whole[4][0], *whole[0][1:]), *whole[1:]]
    with pytest.raises(IndexFormatError, match="the manifest says"):
        TableSet(swapped, 2, 4).lookup(0, asked)
    with pytest.raises(ValueError, match="n_tables=2"):
        index.tables.lookup(0, np.zeros((1, 3), np.uint32))
    with pytest.raises(ValueError, match="key 16"):
        index.tables.lookup(0, np.full((1, 2), 16, np.uint32))
