"""Spills: the tables of a large segment from one reading of its codes."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_helpers import run_index
from joined_segments import joined
from quick_index import Killed, QuickJobs, build, quick_jobs, quick_model, song, write_catalog
from tiny_catalog import tiny_catalog

from hashing import codes
from hashing.errors import IndexFormatError
from hashing.quantizers import SignQuantizer
from hashing.tables import plan_key_ranges
from pipelines import spills, tables
from pipelines.index_job import IndexJob
from pipelines.planning.measure import random_segment
from pipelines.runs import Plan, Receipt, Run
from pipelines.segment_codes import SegmentCodes
from pipelines.spills import plan_spills, read_slices, write_spill
from pipelines.summary import read_summary
from pipelines.tables import build_table, plan_shards
from pipelines.versions import FileEntry, open_manifest

KEY_BITS, BLOCK = 10, 300
BITS = np.random.default_rng(0).permutation(40).reshape(2, 20)
HARD = SignQuantizer(np.zeros(40), np.ones(40), BITS)


class Soft(SignQuantizer):
    """Gives every third snippet a second key."""

    replication = 4 / 3

    def postings(self, material: Any, table: int, key_bits: int) -> Any:
        keys = codes.keys(material, self.tables[table, :key_bits])
        again = np.arange(0, len(keys), 3)
        rows = np.concatenate([np.arange(len(keys)), again])
        return rows, np.concatenate([keys, keys[again] ^ np.uint32(1)])


SOFT = Soft(np.zeros(40), np.ones(40), BITS)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with nothing in it."""
    plan = Plan("000001", "c", "m", "model", {}, 3, 3, "now", token="t")
    return Run(str(tmp_path / "index"), plan)


def segment_of(folder: Path, sizes: list[int]) -> SegmentCodes:
    """A file of codes for each size, with silence between them."""
    parts = [random_segment(str(folder), HARD, size, seed) for seed, size in enumerate(sizes)]
    return joined(parts, first_gid=5, silence=7)


def shards(
    run: Run, segment: SegmentCodes, quantizer: SignQuantizer, entries: list[FileEntry], block: int
) -> dict[str, str]:
    tasks = plan_shards(segment, quantizer, KEY_BITS, block)
    made = {task.name: build_table(run, segment, task, quantizer, entries) for task in tasks}
    assert min(one.files[0].rows for one in made.values()) > 0
    return {name: one.files[0].sha256 for name, one in made.items()}


@pytest.mark.parametrize("quantizer", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("block", [BLOCK, 10**6])
@pytest.mark.parametrize("piece", [1, 400, 10**6])
def test_shards_from_spills_are_those_from_codes(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quantizer: SignQuantizer,
    block: int,
    piece: int,
) -> None:
    monkeypatch.setattr(spills, "SPILL_SNIPPETS", piece)
    segment = segment_of(tmp_path, [250, 1, 399, 120])
    ranges = plan_key_ranges(round(770 * quantizer.replication), KEY_BITS, block)
    tasks = plan_spills(segment, KEY_BITS, ranges)
    assert len(tasks) == {1: 4, 400: 2, 10**6: 1}[piece]
    assert [file for task in tasks for file in task.files] == [0, 1, 2, 3]
    entries = [write_spill(run, segment, task, quantizer).files[0] for task in tasks]
    assert sum(entry.rows for entry in entries) >= 2 * 770 * quantizer.replication - 8
    other = dataclasses.replace(run, index=str(tmp_path / "direct"))
    found = shards(run, segment, quantizer, entries, block)
    assert found == shards(other, segment, quantizer, [], block)
    assert len(found) == 2 * len(ranges)


def test_a_spill_that_is_not_whole_is_told(run: Run, tmp_path: Path) -> None:
    segment = segment_of(tmp_path, [250])
    (task,) = plan_spills(segment, KEY_BITS, plan_key_ranges(250, KEY_BITS, BLOCK))
    (entry,) = write_spill(run, segment, task, HARD).files
    path = Path(run.index, entry.path)
    data = path.read_bytes()
    assert len(read_slices(run.index, [entry], 1, 0)) == 250
    for table, number in ((2, 0), (0, 1)):
        with pytest.raises(IndexFormatError, match="is no whole spill"):
            read_slices(run.index, [entry], table, number)
    footer, row = 16, 16  # bytes
    end = len(data) - footer
    places = end - 3 * row
    first, before = np.frombuffer(data, "<u8", 2, places + row).tolist()
    assert np.frombuffer(data, "<u8", 2, end - row).tolist() == [places, 500]
    assert before == 250

    def damaged(at: int, new: bytes) -> None:
        path.write_bytes(data[:at] + new + data[at + len(new) :])

    beyond = struct.pack("<Q", places + 1)
    for at, new in (
        (end, b"HBSQ"),
        (end + 4, bytes([1])),  # another format version
        (end - row, beyond),  # a slice that ends behind all of them
        (end - row, struct.pack("<Q", first - 1)),  # and one that ends before it begins
        (end - row + 8, struct.pack("<Q", 249)),  # of less than no postings
        (end - row + 8, struct.pack("<Q", 1 << 60)),  # of more than there is room for
        (end - row + 8, struct.pack("<Q", 499)),  # of others than it says
        (first, struct.pack("<I", 0)),  # a block of no postings
    ):
        damaged(at, new)
        with pytest.raises(IndexFormatError, match="is no whole spill; delete it and run"):
            read_slices(run.index, [entry], 1, 0)
    path.write_bytes(data[:-100])
    with pytest.raises(IndexFormatError, match="is truncated"):
        read_slices(run.index, [entry], 0, 0)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Jobs at once, with segments that count as large."""
    monkeypatch.setattr(spills, "SPILL_SNIPPETS", 30)
    with quick_jobs(quick_model(tmp_path / "model")) as quick:
        yield quick


def shop(folder: Path, tracks: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(tracks):
        (folder / f"{number:02d}.wav").write_bytes(song(number % 3, number))
    rows = [{"track_id": f"t{n:02d}", "uri": f"{n:02d}.wav"} for n in range(tracks)]
    return write_catalog(folder / "catalog.csv", rows)


def sums(index: Path) -> dict[tuple[Any, ...], str]:
    files = open_manifest(str(index)).files
    rows = files.tuples("segment", "table", "key_lo", "path", kind="tables")
    return {
        place: hashlib.sha256((index / path).read_bytes()).hexdigest()
        for *place_, path in rows
        for place in [tuple(place_)]
    }


def test_an_index_is_the_same_and_goes_on_after_any_piece(
    jobs: QuickJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, model = shop(tmp_path / "music", 30), tmp_path / "model"
    build(catalog, tmp_path / "kept", model)
    monkeypatch.setattr(tables, "KEPT_SNIPPETS", 0)
    began = list[str]()
    jobs.before = began.append
    build(catalog, tmp_path / "whole", model)
    assert sums(tmp_path / "whole") == sums(tmp_path / "kept")
    pieces = [name for name in began if "-p" in name]
    assert len(pieces) > 3
    assert began.index(pieces[-1]) < began.index("s000-t00-k0000")
    assert not list((tmp_path / "whole").rglob("*.hbsp"))
    index = tmp_path / "index"
    *others, last = began
    for _ in others:
        with jobs.killed_after(1), pytest.raises(Killed):
            build(catalog, index, model)
    began.clear()
    jobs.before = began.append
    build(catalog, index, model)
    assert began == [last]  # each piece was done once
    assert sums(index) == sums(tmp_path / "kept")


def test_where_all_shards_are_built_nothing_is_spilled_again(
    jobs: QuickJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "KEPT_SNIPPETS", 0)
    catalog, model, index = shop(tmp_path / "music", 30), tmp_path / "model", tmp_path / "index"
    began = list[str]()
    jobs.before = began.append
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.execution.publish", lambda *_: exit(3))
        with pytest.raises(SystemExit):
            build(catalog, index, model)
    for path in index.rglob("*-p0*"):
        path.unlink()
    began.clear()
    build(catalog, index, model)
    assert began == []


def test_progress_knows_all_pieces_once_the_parts_are_there(
    jobs: QuickJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "KEPT_SNIPPETS", 0)
    made = list[IndexJob]()

    def keep(job: IndexJob, *names: Any, **named: Any) -> None:
        real(job, *names, **named)
        made.append(job)

    real = IndexJob.__init__
    monkeypatch.setattr(IndexJob, "__init__", keep)
    began = list[str]()
    jobs.before = began.append
    build(shop(tmp_path / "music", 30), tmp_path / "index", tmp_path / "model")
    parts = [name for name in began if name.startswith("part-")]
    assert made[0].count_pieces({}) == len(parts) + 2
    run = made[0].job.run
    receipts = {
        name: Receipt(name, "a", [entry], {"gids": 40}, 0.0, 0.0)
        for name in parts
        for entry in [FileEntry(f"versions/000001/codes/{name}", "codes", 30, 1, "0", part=0)]
    }
    assert made[0].count_pieces(receipts) == len(began)
    assert run.plan.n_parts == len(parts)


def test_on_beam_it_is_the_same(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = tiny_catalog(tmp_path / "music", 20, seconds=6, files=4)
    assert run_index(catalog, tmp_path / "kept", model_folder) == 0
    monkeypatch.setattr(tables, "KEPT_SNIPPETS", 0)
    monkeypatch.setattr(spills, "SPILL_SNIPPETS", 60)
    assert run_index(catalog, tmp_path / "spilled", model_folder) == 0
    assert sums(tmp_path / "spilled") == sums(tmp_path / "kept")
    summary = read_summary(str(tmp_path / "spilled"))
    assert summary.tables_cpu_s > 0
