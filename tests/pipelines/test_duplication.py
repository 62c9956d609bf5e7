"""The pieces of the search for duplicates, on indexes of several segments that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_manifest import made_up_manifest
from quick_index import build, quick_jobs, quick_model, song, update, write_catalog

from hashing.errors import IndexFormatError
from hashing.joining import PAIR
from pipelines import opened
from pipelines.duplication import compare, job, pair_files
from pipelines.duplication.compare import Opened, compare_part
from pipelines.duplication.job import DuplicatesOptions, plan_blocks, prepare
from pipelines.duplication.join import join_block
from pipelines.duplication.numbering import number_tracks
from pipelines.duplication.results import join_counts, publish, read_groups, unfinished
from pipelines.versions import FileEntry, Files, open_manifest


def test_a_table_is_cut_where_its_largest_segment_is() -> None:
    def shard(segment: int, table: int, low: int, high: int) -> FileEntry:
        path = f"versions/000001/tables/{segment}-{table}-{low}"
        place = {"segment": segment, "table": table, "key_lo": low, "key_hi": high}
        return FileEntry(path, "tables", 1, 9, "00", **place)

    ranges = {0: [(0, 5), (5, 10), (10, 16)], 1: [(0, 8), (8, 16)]}
    entries = [
        shard(segment, table, *span)
        for segment, spans in ranges.items()
        for table in (0, 1, 2)
        for span in reversed(spans)
    ]
    blocks = plan_blocks("index", made_up_manifest(files=Files.of(entries)), 2)
    assert [(block.table, block.key_lo, block.key_hi) for block in blocks] == [
        (table, *span) for table in (0, 1) for span in ranges[0]
    ]
    reaching = [[path.rpartition("/")[2] for _, path in block.shards] for block in blocks[:3]]
    assert reaching == [["0-0-0", "1-0-0"], ["0-0-5", "1-0-0", "1-0-8"], ["0-0-10", "1-0-8"]]
    assert len({block.name for block in blocks}) == 6


def test_parts_read_their_own_pairs(tmp_path: Path) -> None:
    path = str(tmp_path / "a.pairs")
    rng = np.random.default_rng(1)
    pairs = np.empty(50, PAIR)
    for name in ("owner", "other", "shift"):
        pairs[name] = rng.integers(0, 30, 50)
    pair_files.write_pairs(path, pairs, 4, 10)
    for part in range(4):
        mine = pairs[pairs["owner"] // 10 == part]
        assert pair_files.read_pairs(path, part, 4).tolist() == mine.tolist()
    with pytest.raises(IndexFormatError, match="no file of pairs"):
        pair_files.read_pairs(path, 0, 5)
    (tmp_path / "b.pairs").write_bytes((tmp_path / "a.pairs").read_bytes()[:-1])
    with pytest.raises(IndexFormatError, match="truncated"):
        pair_files.read_pairs(str(tmp_path / "b.pairs"), 2, 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model."""
    return quick_model(tmp_path_factory.mktemp("quick") / "model")


def find(index: str, out: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The whole job without Beam; its counters."""
    monkeypatch.setattr(compare, "MIN_VOTES", 2)  # tracks are half a dozen snippets long
    options = DuplicatesOptions(index, out, None, 1, 2, 64, 0.5, 1, True, True, False)
    manifest = open_manifest(index)
    work = prepare(options, manifest)
    numbering = number_tracks(index, manifest)
    searcher, tracks, _ = opened.open_index(index)
    blocks = plan_blocks(index, manifest, options.tables)
    for block in blocks:
        join_block(work, block, numbering, flush_pairs=5)
    assert unfinished(work, [block.name for block in blocks])[0] == set()
    for part in range(work.n_parts):
        compare_part(work, part, Opened(searcher, tracks, numbering))
    metadata = {"hashbeam_format": str(job.FORMAT_VERSION)}
    return {**publish(work, metadata), **join_counts(work)}


def catalogue(folder: Path, songs: dict[str, bytes]) -> Path:
    """A catalogue of these tracks; files that are there already have not changed."""
    for name, data in songs.items():
        if not (folder / f"{name}.song").exists():
            (folder / f"{name}.song").write_bytes(data)
    rows = [{"track_id": name, "uri": f"{name}.song"} for name in songs]
    return write_catalog(folder / "catalog.csv", rows)


def test_segments_are_searched_as_one_and_removed_tracks_are_not_found(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory_objects: dict[str, bytes],
) -> None:
    songs = {f"t{n:02d}": song(n, n) for n in range(40)}
    first = {**songs, "gone": song(3, 3), "x": song(5, 5)}
    index = tmp_path / "index"
    monkeypatch.setattr(job, "TRACKS_PER_PART", 8)
    monkeypatch.setattr("pipelines.duplication.join.TRACKS_PER_PART", 8)
    with quick_jobs(model):
        build(catalogue(tmp_path, first), index, model)
        del first["gone"]
        later = {**first, "new": song(7, 7), "x2": song(5, 5), "y": song(90, 90)}
        update(catalogue(tmp_path, later), index)
        assert len(open_manifest(str(index)).segments) == 2
        counts = find(str(index), str(tmp_path / "out"), monkeypatch)
        for path in index.rglob("*.*"):
            memory_objects[f"mem://b/i/{path.relative_to(index)}"] = path.read_bytes()
        memory_objects["mem://b/i/CURRENT"] = (index / "CURRENT").read_bytes()
        far = find("mem://b/i", "mem://b/out", monkeypatch)
    table = pq.read_table(tmp_path / "out" / "duplicates.parquet")
    assert table["relation"].to_pylist() == ["same"] * 4
    pairs = set(zip(*(table[c].to_pylist() for c in table.column_names[:2]), strict=True))
    assert pairs == {("t05", "x"), ("t05", "x2"), ("x", "x2"), ("t07", "new")}
    groups: dict[int, set[str]] = {}
    (tmp_path / "out" / "run.json").write_text("{}")
    for name, group in read_groups(str(tmp_path / "out")).items():
        groups.setdefault(group, set()).add(name)
    assert sorted(map(sorted, groups.values())) == [["new", "t07"], ["t05", "x", "x2"]]
    assert counts["pairs_same"] == 4
    assert counts["groups"] == 2
    assert counts["snippet_pairs"] > 0
    times = {"join_cpu_s", "compare_cpu_s"}
    assert {k: far[k] for k in far if k not in times} == {
        k: counts[k] for k in counts if k not in times
    }
    stored = pq.read_table(pa.BufferReader(memory_objects["mem://b/out/duplicates.parquet"]))
    assert stored.equals(table)
