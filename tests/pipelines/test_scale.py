"""What a large catalogue costs: elements that stay small, spills, and memory."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from benchmarks.scale_paper import elements
from joined_segments import joined

from hashing.encoders import Hasher
from hashing.quantizers import SignQuantizer
from hashing.tables import BLOCK_POSTINGS, plan_key_ranges
from pipelines import io, spills, tables
from pipelines.disambiguation import embed
from pipelines.part_rows import read_rows
from pipelines.parts import MAX_TRACKS
from pipelines.planning.measure import random_segment
from pipelines.runs import Plan, Receipt, Run
from pipelines.segment_codes import SegmentCodes
from pipelines.spills import SPILL_SNIPPETS, plan_spills, write_spill
from pipelines.tables import BuildTables, build_table, plan_shards

SNIPPETS = 480  # of a track
BITS = np.random.default_rng(0).permutation(40).reshape(2, 20)
SIGNS = SignQuantizer(np.zeros(40), np.ones(40), BITS)
MEGABYTE = 1 << 20


@pytest.mark.parametrize("millions", [1, 10, 100])
def test_elements_of_no_stage_grow_with_the_catalogue(millions: int) -> None:
    """Part, spill, shard, and what a worker fetches for one of them."""
    found = elements(millions * 1_000_000, SNIPPETS, Hasher.load().quantizer)
    assert found["snippets"] == millions * 1_000_000 * SNIPPETS
    part = MAX_TRACKS * SNIPPETS
    assert found["parts"]["largest_tracks"] <= MAX_TRACKS
    assert found["spills"]["largest_snippets"] <= SPILL_SNIPPETS + part
    assert found["shards"]["largest_postings"] <= BLOCK_POSTINGS
    assert found["spills"]["largest_element_bytes"] < 4096
    assert found["shards"]["largest_element_bytes"] < 512
    assert found["side_input"]["largest_segment_bytes"] < MEGABYTE
    assert found["side_input"]["spills_of_a_segment_bytes"] < MEGABYTE
    assert found["receipts"]["largest_of_a_segment"] < 4096
    moved = found["shuffle"]
    total = moved["spilled_bytes"] + moved["reshuffled_bytes"] + moved["side_input_bytes"]
    assert total <= 0.7 * moved["bytes_of_postings"]


def test_parts_that_are_heard_do_not_grow_with_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "MAX_PARTS", 4)
    monkeypatch.setattr(embed, "MAX_TRACKS", 40)
    job = embed.EmbedJob(str(tmp_path), str(tmp_path / "work"), "m", "d", 1.0, 1.0)
    for tracks, parts, largest in ((100, 4, 32), (150, 4, 38), (1000, 25, 40)):
        ids = [f"t{number:04d}" for number in range(tracks)]
        assert embed.write_todo(job, pa.table({"track_id": ids})) == parts
        rows = [read_rows(job.work, part)["track_id"].to_pylist() for part in range(parts)]
        assert [one for part in rows for one in part] == ids
        assert max(map(len, rows)) == largest


def segment_of(folder: Path, quantizer: Any, sizes: list[int]) -> SegmentCodes:
    """A file of random codes for each size."""
    folder.mkdir(exist_ok=True)
    parts = (random_segment(str(folder), quantizer, size, seed) for seed, size in enumerate(sizes))
    return joined(list(parts))


def test_what_is_moved_is_less_than_the_postings_and_the_finished_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spills, "SPILL_SNIPPETS", 20_000)
    quantizer = Hasher.load().quantizer
    segment = segment_of(tmp_path / "codes", quantizer, [20_000] * 3)
    run = Run(str(tmp_path / "index"), Plan("000001", "c", "m", "model", {}, 3, 3, "now"))
    tasks = plan_spills(segment, 14, plan_key_ranges(segment.total, 14, 8_000))
    entries = [write_spill(run, segment, task, quantizer).files[0] for task in tasks]
    assert len(entries) == 3
    postings = segment.total * quantizer.n_tables
    assert sum(entry.rows for entry in entries) == postings
    moved = sum(len(pickle.dumps(element)) for element in (*tasks, *entries))
    moved += sum(entry.bytes for entry in entries)
    assert moved <= 0.6 * 8 * postings
    shards = plan_shards(segment, quantizer, 14, 8_000)
    built = [build_table(run, segment, task, quantizer, entries).files[0] for task in shards]
    assert sum(entry.rows for entry in built) == postings
    assert moved <= sum(entry.bytes for entry in built)


def peak_of_building(pipe: Any, index: str, segment: SegmentCodes, piece: int) -> None:
    """All tables of a segment by spills; what is told is this process's peak memory, bytes."""
    spills.SPILL_SNIPPETS = piece
    run = Run(index, Plan("000001", "c", "m", "model", {}, 3, 3, "now"))
    ranges = plan_key_ranges(segment.total, 20, piece)
    tasks = plan_spills(segment, 20, ranges)
    entries = [write_spill(run, segment, task, SIGNS).files[0] for task in tasks]
    for shard in plan_shards(segment, SIGNS, 20, piece):
        build_table(run, segment, shard, SIGNS, entries)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    pipe.send(1024 * int(kilobytes))


@pytest.mark.skipif("HASHBEAM_SLOW" not in os.environ, reason="seconds: `make test-slow`")
def test_memory_does_not_grow_with_a_segment(tmp_path: Path) -> None:
    """Eight times the postings in pieces and shards of the same size, each in a fresh process."""
    piece, peaks = 250_000, []
    for files in (2, 16):
        segment = segment_of(tmp_path / f"codes-{files}", SIGNS, [piece] * files)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        index = str(tmp_path / f"index-{files}")
        child = context.Process(target=peak_of_building, args=(theirs, index, segment, piece))
        child.start()
        theirs.close()
        peaks.append(ours.recv())
        child.join()
    more = (16 - 2) * piece * SIGNS.n_tables * 8  # of postings, were they held
    assert peaks[1] - peaks[0] < more / 4


def test_planning_a_segment_reads_its_own_receipts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher = Hasher.load("forgiving")
    plan = Plan("000001", "c", hasher.digest, "forgiving", {}, 3, 3, "now", token="t")
    run = Run(str(tmp_path), plan)
    for name in ("part-00000", "s000-t00-k0000", "s001-t00-k0000", "s001-p00000"):
        run.write_receipt(Receipt(name, "a", [], {}, 0.0, 0.0))
    read, real = list[str](), io.read_all

    def note(paths: Any) -> Any:
        read.extend(Path(path).stem for path in paths)
        return real(paths)

    monkeypatch.setattr(io, "read_all", note)
    monkeypatch.setattr(tables, "KEPT_SNIPPETS", 0)
    steps = BuildTables(run, "forgiving", hasher.quantizer)
    segment = SegmentCodes(1, range(1), ["c"], ["t"], [10], [0], "")
    assert [task.name for task, _ in steps._pieces(segment, [10])] == ["s001-p00000"]
    assert sorted(read) == ["s001-p00000", "s001-t00-k0000"]
    read.clear()
    assert len(list(steps._missing(segment, [10], {}))) == hasher.quantizer.n_tables
    assert read == ["s001-t00-k0000"]  # the spill's has been discarded: it was of other codes


def test_the_document_says_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables and its chart are those of the results beside it."""
    root = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(str(root / "tests/benchmarks"))
    write = importlib.import_module("scale_report").write
    results = json.loads((root / "deploy/scale.json").read_text())
    found = tmp_path / "SCALE.md"
    text = (root / "deploy/SCALE.md").read_text()
    found.write_text(
        re.sub(r"(<!-- table [^>]* -->).*?(<!-- end -->)", r"\1\n\2", text, flags=re.S)
    )
    write(found, results)
    assert found.read_text() == text
    assert (tmp_path / "scale.svg").read_text() == (root / "deploy/scale.svg").read_text()
