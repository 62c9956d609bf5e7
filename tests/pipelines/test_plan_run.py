"""A plan made from one run, or from a measurement, against another run that was larger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from index_helpers import run_index
from tiny_catalog import tiny_catalog

from hashing.encoders import Hasher
from hashing.models import DEFAULT_MODEL, PRETRAINED
from pipelines import tables
from pipelines.cli import main
from pipelines.planning import layout as layouts
from pipelines.planning.layout import Layout, Ranges
from pipelines.planning.measure import measure, random_segment
from pipelines.planning.past import read_past
from pipelines.runs import Plan, Run
from pipelines.spills import write_spill
from pipelines.summary import Summary, read_summary
from pipelines.tables import build_table, plan_shards, spills_of
from pipelines.versions import open_manifest

CLOSE = 0.25  # the share that a plan may be off
# A stage of less CPU is mostly opening files and clock ticks: it is held to the second share, or
# to so many seconds.
FLOOR_S = 0.3
CLOSE_SHORT, SHORT_NOISE_S = 0.5, 0.05
# Tracks of the two runs: seconds of CPU to hash the larger one, and one for the smaller one, whose
# tracks are others, too.
SECONDS, SMALL, LARGE = 360.0, 12, 24
SHORT_S = 240.0


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small index, and a larger one of the same kind of music that is made first.

    So what the first run of a process loads late counts for the larger one, of which it is a
    smaller share; libraries of tables, which are built in less time than these load, are in memory.
    """
    build_one_shard(tmp_path_factory.mktemp("warm"))
    made = []
    for tracks, seconds in ((LARGE, SECONDS), (SMALL, SHORT_S)):
        folder = tmp_path_factory.mktemp(f"tracks{tracks}")
        catalog = tiny_catalog(folder, tracks, seconds=seconds, files=2)
        out = folder / "index"
        assert run_index(catalog, out, PRETRAINED / DEFAULT_MODEL, "--quiet") == 0
        made.append(out)
    return made[1], made[0]


def plan_of(capsys: pytest.CaptureFixture[str], *flags: object) -> dict[str, Any]:
    """What ``hashbeam plan --json`` says of the larger run."""
    capsys.readouterr()
    workload = ["--tracks", str(LARGE), "--minutes", str(SECONDS / 60), "--workers", "1"]
    assert main(["plan", *workload, "--json", *map(str, flags)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def cpu_s(plan: dict[str, Any], stage: str) -> float:
    (found,) = (row["cpu_hours"] * 3600 for row in plan["stages"] if row["stage"] == stage)
    return float(found)


def is_near(planned: float, real: float) -> bool:
    """Whether planned CPU seconds are what a stage took, as closely as so many can tell."""
    if real > FLOOR_S:
        return planned == pytest.approx(real, rel=CLOSE)
    return planned == pytest.approx(real, rel=CLOSE_SHORT, abs=SHORT_NOISE_S)


def bytes_by_kind(index: Path) -> dict[str, int]:
    files = open_manifest(str(index)).files
    return {
        kind: sum(files.select(kind=kind).column("bytes"))
        for kind in sorted(set(files.column("kind")))
    }


def is_like(index: Path, plan: dict[str, Any]) -> Summary:
    """Counts and bytes of every kind of file are what they became."""
    summary = read_summary(str(index))
    real = bytes_by_kind(index)
    assert set(plan["index_bytes"]) == set(real)
    for kind, expected in real.items():
        assert plan["index_bytes"][kind] == pytest.approx(expected, rel=CLOSE), kind
    assert plan["total_bytes"] == pytest.approx(summary.index_bytes, rel=CLOSE)
    assert plan["snippets"] == pytest.approx(summary.snippets, rel=0.02)
    assert plan["postings"] == pytest.approx(summary.postings, rel=0.02)
    assert plan["key_bits"] == summary.key_bits
    manifest = open_manifest(str(index))
    assert plan["parts"] == sum(segment.n_parts for segment in manifest.segments)
    assert plan["shards"] == len(manifest.files.select(kind="tables"))
    return summary


def test_the_plan_from_a_smaller_run_is_what_the_larger_one_became(
    indexes: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = indexes
    plan = plan_of(capsys, "--from", small)
    summary = is_like(large, plan)
    assert summary.hash_cpu_s > FLOOR_S
    hash_s, tables_s = cpu_s(plan, "decode and hash"), cpu_s(plan, "build tables")
    assert is_near(hash_s, summary.hash_cpu_s)
    assert is_near(tables_s, summary.tables_cpu_s)
    assert is_near(hash_s + tables_s, summary.hash_cpu_s + summary.tables_cpu_s)


def test_bytes_need_no_run_at_all(
    indexes: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = indexes[1].parent / "catalog.csv"
    capsys.readouterr()
    speed = ["--hash-cpu-s", "2", "--table-cpu-s", "0.06", "--json"]
    assert main(["plan", "--catalog", str(catalog), "--minutes", str(SECONDS / 60), *speed]) == 0
    is_like(indexes[1], json.loads(capsys.readouterr().out))


def test_a_measurement_tells_what_the_run_took(indexes: tuple[Path, Path]) -> None:
    large = indexes[1]
    uris = [str(large.parent / f"{number % 2}.wav") for number in range(SMALL)]
    found = measure(Hasher.load(), uris=uris)
    summary = read_summary(str(large))
    expected = 3600 / summary.times_real_time_per_cpu
    heard_h = SMALL * SECONDS / 3600
    assert expected * heard_h > FLOOR_S
    assert is_near(found.speeds.hash_cpu_s_per_hour * heard_h, expected * heard_h)
    size = Path(uris[0]).stat().st_size
    assert found.audio_bytes_per_s == pytest.approx(size / SECONDS, rel=0.01)


def test_what_an_index_tells(indexes: tuple[Path, Path]) -> None:
    past = read_past(str(indexes[0]))
    assert past.content.heard == pytest.approx(1.0, abs=0.02)
    assert past.audio_bytes_per_s == pytest.approx(4 * 8000, rel=0.01)  # float32 at 8 kHz
    assert past.content.dimensions == past.content.artist_dimensions == 0
    assert 0.5 < past.content.balance <= 1


def test_tables_of_many_ranges_cost_what_spilling_them_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The shipped model, whose codes must be decoded before they have keys.
    quantizer = Hasher.load().quantizer
    n_ranges, snippets, key_bits = 3, 100_000, 16
    segment = random_segment(str(tmp_path), quantizer, snippets, 0)
    run = run_of(tmp_path)
    monkeypatch.setattr(tables, "KEPT_SNIPPETS", 0)
    monkeypatch.setattr(layouts, "KEPT_SNIPPETS", 0)

    def build() -> float:
        block = -(-snippets // n_ranges)
        receipts = [
            write_spill(run, segment, task, quantizer)
            for task in spills_of(segment, quantizer, key_bits, block)
        ]
        spills = [receipt.files[0] for receipt in receipts]
        for task in plan_shards(segment, quantizer, key_bits, block):
            receipts.append(build_table(run, segment, task, quantizer, spills))
        for receipt in receipts:
            run.discard(receipt.name)
        assert len(receipts) == 1 + n_ranges * quantizer.n_tables
        return sum(receipt.counters["cpu_s"] for receipt in receipts)

    build()  # loads what is loaded late
    real = min(build() for _ in range(3))
    measured = measure(Hasher.load(), hashing=False).speeds.tables
    ranges = Ranges(snippets, 1, snippets, n_ranges, 0, 0, 0)
    layout = Layout(1, 1, snippets, snippets, key_bits, key_bits, quantizer.n_tables, [ranges])
    assert is_near(measured.cpu_s(layout), real)


def build_one_shard(folder: Path) -> None:
    """A first one in this process, which pays for what is loaded late."""
    quantizer = Hasher.load().quantizer
    segment = random_segment(str(folder), quantizer, 1000, 0)
    task, *_ = plan_shards(segment, quantizer, 8)
    build_table(run_of(folder), segment, task, quantizer)


def run_of(folder: Path) -> Run:
    """A run that writes into a folder."""
    return Run(str(folder), Plan("000001", "", "", "", {}, 1, 1, ""))
