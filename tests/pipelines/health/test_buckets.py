"""Buckets of an index against the keys that were put into them, and how little is read for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from unwell_index import KEY_BITS, RANGES, SNIPPETS, TABLES, keys_of, write_unwell_index

from hashing.balance import entropy, perfect_entropy
from pipelines import io
from pipelines.health.buckets import Buckets, examine_buckets
from pipelines.versions import Files, Manifest


@pytest.fixture(scope="module")
def unwell(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Manifest]:
    folder = tmp_path_factory.mktemp("buckets") / "index"
    return str(folder), write_unwell_index(folder)


@pytest.fixture(scope="module")
def buckets(unwell: tuple[str, Manifest]) -> Buckets:
    return examine_buckets(*unwell)


def loads(segment: int, table: int) -> np.ndarray:
    return np.bincount(keys_of(segment, table), minlength=1 << KEY_BITS)


def test_tables_are_those_of_the_keys(buckets: Buckets) -> None:
    assert [row.table for row in buckets.tables] == list(range(TABLES))
    assert (buckets.shards, buckets.shards_read, buckets.damaged) == (12, 12, [])
    for row in buckets.tables:
        of_table = [loads(segment, row.table) for segment in (0, 1)]
        assert row.postings == 2 * SNIPPETS
        assert row.largest == max(counts.max() for counts in of_table)
        # Both segments have as many postings: the plain mean.
        expected = np.mean([entropy(counts) for counts in of_table])
        assert row.entropy_bits == pytest.approx(expected, abs=1e-9)
        assert row.perfect_bits == pytest.approx(perfect_entropy(SNIPPETS, 1 << KEY_BITS))
    assert buckets.mean_load == pytest.approx(2 * SNIPPETS / 2**KEY_BITS)


def test_classes_and_what_a_look_up_meets_are_those_of_the_keys(buckets: Buckets) -> None:
    sizes = np.concatenate([loads(s, t) for s in (0, 1) for t in range(TABLES)])
    for row in buckets.classes:
        inside = sizes[(sizes >= row.low) & (sizes <= row.high)].sum() / sizes.sum()
        assert row.share == pytest.approx(inside)
        mean = SNIPPETS / 2**KEY_BITS
        chance = stats.poisson.pmf(np.arange(row.low - 1, row.high), mean).sum()
        assert row.perfect == pytest.approx(chance)
    assert [row.low for row in buckets.classes[:4]] == [1, 2, 3, 5]
    assert sum(row.share for row in buckets.classes) == pytest.approx(1)
    assert sum(row.perfect for row in buckets.classes) == pytest.approx(1, abs=1e-3)
    assert buckets.met == pytest.approx((sizes.astype(float) ** 2).sum() / sizes.sum())
    assert buckets.perfect_met == pytest.approx(1 + SNIPPETS / 2**KEY_BITS, rel=1e-3)


def test_of_a_huge_index_some_key_ranges_of_every_table_are_read(
    unwell: tuple[str, Manifest], buckets: Buckets
) -> None:
    some = examine_buckets(*unwell, read_shards=2 * TABLES)
    assert (some.shards, some.shards_read) == (12, 2 * TABLES)
    # One key range of each table and segment: what lies in the other is taken to be alike. Here it
    # is not, since half of the postings are crowded into the first.
    assert [row.table for row in some.tables] == list(range(TABLES))
    assert some.tables[0].postings == 2 * SNIPPETS
    assert examine_buckets(*unwell, read_bytes=1).shards_read == 1
    # Where they are alike, the estimate is right.
    whole = buckets.tables[0]
    twice = examine_buckets(*unwell, read_shards=RANGES * 2 * TABLES).tables[0]
    assert twice == whole


def test_no_posting_is_read(unwell: tuple[str, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = list[int](), io.read_range

    def counted(path: str, offset: int, size: int) -> bytes:
        read.append(size)
        return real(path, offset, size)

    monkeypatch.setattr(io, "read_range", counted)
    examine_buckets(*unwell)
    files = unwell[1].files.select(kind="tables")
    directories = sum(files.column("bytes")) - 4 * sum(files.column("rows"))
    assert sum(read) == directories + 64 * len(files)  # and each header once more


def test_a_damaged_shard_is_named_and_left_out(tmp_path: Path) -> None:
    manifest = write_unwell_index(tmp_path)
    paths = manifest.files.select(kind="tables").column("path")
    (tmp_path / paths[0]).write_bytes(b"HBTABLX")
    (tmp_path / paths[1]).unlink()
    third = tmp_path / paths[2]
    data = bytearray(third.read_bytes())
    data[200:208] = b"\xff" * 8  # of the directory
    third.write_bytes(data)
    found = examine_buckets(str(tmp_path), manifest)
    assert found.shards_read == 9
    assert len(found.damaged) == 3
    assert all(any(path in said for said in found.damaged) for path in paths[:3])


def test_an_index_on_an_object_store_gives_the_same(
    tmp_path: Path, memory_objects: dict[str, bytes], buckets: Buckets
) -> None:
    manifest = write_unwell_index(tmp_path)
    for path in manifest.files.column("path"):
        io.write_bytes(f"mem://bucket/index/{path}", (tmp_path / path).read_bytes())
    assert examine_buckets("mem://bucket/index", manifest) == buckets


def test_an_empty_index_has_no_tables(unwell: tuple[str, Manifest]) -> None:
    empty = dataclasses.replace(unwell[1], files=Files.of([]))
    found = examine_buckets(unwell[0], empty)
    assert (found.tables, found.largest, found.met, found.entropy_bits) == ([], 0, 0.0, 0.0)
