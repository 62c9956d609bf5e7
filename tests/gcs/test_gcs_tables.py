"""Tables and code matrices on ``gs://``: what a look-up reads, and that it finds the same."""

from __future__ import annotations

import io as std_io
import os
from pathlib import Path

import numpy as np
import pytest
from faulty_proxy import FaultyProxy

from hashing.errors import HashbeamError, IndexFormatError
from hashing.hits import Hits
from hashing.matrix import CodeMatrices, write_matrix
from hashing.shards import TableSet
from hashing.table_format import DENSE, RANKED, SPARSE
from hashing.tables import build_shard
from pipelines import gcs, io, pages
from pipelines.pages import PageCache, Pages
from pipelines.remote_index import RemoteMatrices, RemoteTables

TABLES = 3


@pytest.fixture
def folder(proxy: FaultyProxy) -> str:
    """A folder on ``gs://``, behind a proxy that counts."""
    name = f"bucket-{os.urandom(4).hex()}"
    gcs.client().create_bucket(name)
    return f"gs://{name}/index"


class Both:
    """Tables of random postings, each cut into two shards, on a disk and on ``gs://``."""

    def __init__(
        self, disk: Path, folder: str, key_bits: int, postings: int, spread: float = 1.0
    ) -> None:
        self.key_bits = key_bits
        rng = np.random.default_rng(key_bits)
        here, there, self.sizes, self.kinds = [], [], {}, set()
        for table in range(TABLES):
            keys = (rng.random(postings) ** spread * 2**key_bits).astype(np.uint64)
            packed = keys << np.uint64(32) | np.arange(postings, dtype=np.uint64)
            middle = 2**key_bits // 2
            for lo, hi in ((0, middle), (middle, 2**key_bits)):
                chosen = packed[(keys >= lo) & (keys < hi)]
                file = std_io.BytesIO()
                place = {"table": table, "segment": 0, "key_bits": key_bits}
                build_shard(chosen, file, **place, key_lo=lo, key_hi=hi)
                name = f"t{table}-{lo}.hbt"
                (disk / name).write_bytes(file.getvalue())
                io.write_bytes(f"{folder}/{name}", file.getvalue())
                here.append((str(disk / name), 0, table, lo, hi))
                there.append((f"{folder}/{name}", 0, table, lo, hi))
                self.sizes[f"{folder}/{name}"] = len(file.getvalue())
        self.cache = PageCache()
        self.local = TableSet(here, TABLES, key_bits)
        self.remote = RemoteTables(there, TABLES, key_bits, self.sizes, self.cache)

    def keys(self, rows: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.integers(0, 2**self.key_bits, (rows, TABLES)).astype(np.uint32)


def sets(hits: Hits) -> list[tuple[int, int, int]]:
    """Row, snippet and size of the bucket of every hit, in an order of their own."""
    return sorted(zip(hits.row.tolist(), hits.gid.tolist(), hits.bucket.tolist(), strict=True))


@pytest.mark.parametrize(
    ("key_bits", "postings", "kind"),
    [(12, 400_000, DENSE), (22, 300_000, RANKED), (30, 20_000, SPARSE), (12, 1, None)],
)
@pytest.mark.parametrize("max_bucket", [None, 120])
def test_the_same_is_found(
    tmp_path: Path,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    key_bits: int,
    postings: int,
    kind: int | None,
    max_bucket: int | None,
) -> None:
    monkeypatch.setattr(pages, "WHOLE_BYTES", 0)
    monkeypatch.setattr(pages, "GAP_BYTES", 0)
    both = Both(tmp_path, folder, key_bits, postings)
    for seed, rows in enumerate((1, 7, 300, 0)):
        keys = both.keys(rows, seed)
        expected = both.local.lookup(0, keys, max_bucket)
        found = both.remote.lookup(0, keys, max_bucket)
        np.testing.assert_array_equal(found.bucket_sizes, expected.bucket_sizes)
        assert sets(found) == sets(expected)
    if kind is not None:
        assert {shard.header.kind for shard in both.remote.opened} == {kind}


def test_memory_is_bounded_and_nothing_is_lost_by_it(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "WHOLE_BYTES", 0)
    monkeypatch.setattr(pages, "GAP_BYTES", 0)
    both = Both(tmp_path, folder, 18, 400_000)
    both.cache.limit_bytes = 1 << 20
    total = sum(both.sizes.values())
    assert total > 5 << 20
    held = []
    for seed in range(3):
        keys = both.keys(60, seed)
        assert sets(both.remote.lookup(0, keys)) == sets(both.local.lookup(0, keys))
        both.cache.trim()
        held.append(sum(file.held_bytes for file in both.cache._files.values()))
    assert 0 < max(held) <= 1 << 20


def test_a_query_reads_a_part_of_a_large_table_and_nothing_twice(
    tmp_path: Path, folder: str, proxy: FaultyProxy
) -> None:
    both = Both(tmp_path, folder, 22, 3_000_000)
    total = sum(both.sizes.values())
    assert total > 40_000_000
    keys = both.keys(20, 1)
    proxy.bytes_down, seen = 0, len(proxy.seen)
    hits = both.remote.lookup(0, keys)
    assert sets(hits) == sets(both.local.lookup(0, keys))
    assert proxy.bytes_down < 0.15 * total
    # Header, directory, bucket starts and postings of 20 keys in each of three tables, at most.
    assert len(proxy.seen) - seen <= 6 + 3 * 20 * TABLES
    seen = len(proxy.seen)
    both.remote.lookup(0, keys)
    assert len(proxy.seen) == seen


def test_distance_is_paid_once_for_all_tables(
    tmp_path: Path, folder: str, proxy: FaultyProxy
) -> None:
    both = Both(tmp_path, folder, 22, 300_000)
    waits: list[int] = []
    real = both.cache.fetch

    def fetch(wanted: object) -> None:
        seen = len(proxy.seen)
        real(wanted)  # type: ignore[arg-type]
        waits.append(len(proxy.seen) - seen)

    both.cache.fetch = fetch  # type: ignore[method-assign]
    both.remote.lookup(0, both.keys(20, 1))
    assert len([requests for requests in waits if requests]) <= 4


def test_a_small_file_is_one_request(tmp_path: Path, folder: str, proxy: FaultyProxy) -> None:
    both = Both(tmp_path, folder, 12, 20_000)
    seen = len(proxy.seen)
    both.remote.lookup(0, both.keys(50, 1))
    both.remote.lookup(0, both.keys(50, 2))
    assert len(proxy.seen) - seen == len(both.sizes)


def test_a_shard_that_is_cut_or_gone_is_named(tmp_path: Path, folder: str) -> None:
    both = Both(tmp_path, folder, 12, 20_000)
    path = next(iter(both.sizes))
    whole = io.read_bytes(path)
    io.write_bytes(path, whole[:-4])
    with pytest.raises(IndexFormatError, match=rf"{path} is truncated: .*run `hashbeam verify`"):
        both.remote.lookup(0, both.keys(50, 1))
    io.remove(path)
    with pytest.raises(HashbeamError, match=rf"cannot read {path}: there is no such object"):
        both.remote.lookup(0, both.keys(50, 1))
    io.write_bytes(path, b"\0" * len(whole))
    with pytest.raises(IndexFormatError, match=rf"{path} is not a hash table shard"):
        both.remote.lookup(0, both.keys(50, 1))


@pytest.mark.parametrize("held_bytes", [0, 16_000_000])
def test_codes_are_the_same(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch, held_bytes: int
) -> None:
    monkeypatch.setattr("pipelines.remote_index.HELD_BYTES", held_bytes)
    monkeypatch.setattr(pages, "WHOLE_BYTES", 0)
    monkeypatch.setattr(pages, "GAP_BYTES", 0)
    rng = np.random.default_rng(1)
    width, numbers = 8, [30_000, 0, 20_000, 7]
    here, there, sizes = [], [], {}
    for part, n in enumerate(numbers):
        if not n:
            continue
        held = np.flatnonzero(rng.random(n) < 0.9)
        rows = rng.integers(0, 256, (len(held), width), dtype=np.uint8).tobytes()
        cut = len(held) // 3
        shard = b"PAR1" + rows[: cut * width] + b"between" + rows[cut * width :] + b"end"
        groups = [(cut, 4), (len(held) - cut, 11 + cut * width)]
        file = std_io.BytesIO()
        write_matrix(file, width, groups, held, n)
        for name, data in ((f"{part}.hbm", file.getvalue()), (f"{part}.parquet", shard)):
            (tmp_path / name).write_bytes(data)
            io.write_bytes(f"{folder}/{name}", data)
            sizes[f"{folder}/{name}"] = len(data)
        here.append((str(tmp_path / f"{part}.hbm"), str(tmp_path / f"{part}.parquet"), 0, part))
        there.append((f"{folder}/{part}.hbm", f"{folder}/{part}.parquet", 0, part))
    starts = {0: np.concatenate(([0], np.cumsum(numbers)))}
    local = CodeMatrices(here, starts, width)
    cache = PageCache(limit_bytes=100_000)
    remote = RemoteMatrices(there, starts, width, sizes, cache)
    for n in (1, 50, 3_000):
        gids = rng.integers(-2, sum(numbers) + 2, n)
        for found, expected in zip(remote.rows(0, gids), local.rows(0, gids), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_ranges_are_pages_joined_over_small_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    page = pages.PAGE_BYTES
    monkeypatch.setattr(pages, "WHOLE_BYTES", 0)
    monkeypatch.setattr(pages, "GAP_BYTES", 2 * page)
    monkeypatch.setattr(pages, "RUN_BYTES", 4 * page)
    file = Pages("p", 20 * page + 5)

    def missing(*ranges: tuple[int, int]) -> list[tuple[float, float]]:
        starts, ends = np.array(ranges).T
        return [(start / page, end / page) for start, end in file.missing(starts, ends)]

    assert missing((0, 1)) == [(0, 1)]
    assert missing((5, 5), (page * 30, page * 31)) == []
    assert missing((page - 1, page + 1)) == [(0, 2)]
    assert missing((0, 1), (3 * page, 3 * page + 1)) == [(0, 4)]  # two pages lie between
    assert missing((0, 1), (4 * page, 4 * page + 1)) == [(0, 1), (4, 5)]
    assert missing((0, 9 * page)) == [(0, 4), (4, 8), (8, 9)]
    assert missing((20 * page, 20 * page + 5)) == [(20, 20 + 5 / page)]
