"""Machines of Dataflow that a plan takes, by hand and by Beam's own options."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, WorkerOptions
from apache_beam.testing.load_tests import dataflow_cost_consts as consts

from hashing.encoders import Hasher
from pipelines.cli import main
from pipelines.planning import dataflow
from pipelines.planning.content import Content
from pipelines.planning.estimate import Prices, Stage, estimate_changes, estimate_index
from pipelines.planning.outcome import Outcome
from pipelines.planning.speeds import Speeds, TableSpeeds
from pipelines.planning.workload import of_tracks
from pipelines.spills import SpillTask
from pipelines.tables import ShardTask

SPEEDS = Speeds(10.0, TableSpeeds(0.0, 0.0, 0.1, 0.2), start_s=180.0, source="test")
FREE = Prices(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def content() -> Content:
    return Content(Hasher.load("contrastive"))


def outcome(content: Content, *stages: Stage, workers: int = 10, prices: Prices = FREE) -> Outcome:
    """A plan with these stages in place of its own."""
    workload = of_tracks(1000, 4.0, 16_000.0)  # 3.84 MB a track
    estimate = estimate_index(workload, content, SPEEDS)
    return Outcome(dataclasses.replace(estimate, stages=list(stages)), workers, 1e9, prices, [])


def stage(gigabytes: float, pieces: int = 100, written: float = 0.0) -> Stage:
    return Stage("work", 3600.0 * pieces, pieces, 0.0, written, gigabytes * 1e9)


@pytest.mark.parametrize(
    ("gigabytes", "workers", "machine", "processes", "number"),
    [
        (0.5, 10, "n2-standard-4", 4, 3),
        (3.2, 10, "n2-standard-4", 4, 3),  # with a quarter more: 4 GB
        (3.3, 10, "n2-highmem-4", 4, 3),
        (6.4, 10, "n2-highmem-4", 4, 3),
        (6.5, 10, "n2-highmem-2", 1, 10),  # 8.1 GB: a machine for each
        (20.0, 10, "n2-highmem-4", 1, 10),  # 25 GB of 32
        (0.5, 1, "n2-standard-2", 2, 1),
        (0.5, 2, "n2-standard-2", 2, 1),
        (0.5, 3, "n2-standard-4", 4, 1),
        (0.5, 1000, "n2-standard-4", 4, 25),  # no more than there is work for
    ],
)
def test_machines_have_the_memory_of_their_processes(
    content: Content, gigabytes: float, workers: int, machine: str, processes: int, number: int
) -> None:
    plan = outcome(content, stage(gigabytes), workers=workers).on_dataflow
    assert (plan.job.type, plan.job.processes, plan.job.number) == (machine, processes, number)
    assert plan.job.memory_gb / plan.job.processes >= gigabytes * dataflow.SPARE
    one_a_machine = "--experiments=no_use_multiple_sdk_containers" in plan.flags()
    assert one_a_machine is (processes == 1)


def test_more_memory_than_there_is_is_told(content: Content) -> None:
    with pytest.raises(ValueError, match="no machine has 1250 GB for one process"):
        outcome(content, stage(1000.0)).on_dataflow  # noqa: B018


def test_a_job_has_the_machines_that_fit_all_of_its_stages(content: Content) -> None:
    small = dataclasses.replace(stage(0.5, pieces=1), name="small")
    plan = outcome(content, small, stage(4.0)).on_dataflow
    assert {name: one.type for name, one in plan.stages.items()} == {
        "small": "n2-standard-2",
        "work": "n2-highmem-4",
    }
    assert (plan.job.type, plan.job.number) == ("n2-highmem-4", 3)


def test_the_disk_holds_a_track_and_what_a_piece_writes_of_each_process(content: Content) -> None:
    # 3.84 MB of the track, and 2 GB of 200 GB in 100 pieces: four times, rounded up.
    assert outcome(content, stage(0.5, written=200e9)).on_dataflow.job.disk_gb == 25 + 9
    assert outcome(content, stage(0.5)).on_dataflow.job.disk_gb == 25 + 1
    spilled = estimate_index(of_tracks(1_000_000, 4.0, 1.0), content, SPEEDS)
    assert spilled.layout.spilled
    # A spill: 2^22 snippets, 13 tables, 5.1 bytes.
    spill = (1 << 22) * 13 * 5.1
    assert dataflow._temporary_bytes(stage(0.5), spilled) == pytest.approx(spill + 240)


def test_cost_is_that_of_machines_with_work(content: Content) -> None:
    """100 pieces of an hour, 10 workers of four cores and 16 GB, ten hours."""
    prices = Prices(cpu_hour=1.0, gb_hour=0.1, gb_month=0.0)
    plan = outcome(content, stage(0.5), workers=10, prices=prices).on_dataflow
    hour = 4 * 1.0 + 16 * 0.1 + 26 * consts.PD_PER_GB_HR
    assert plan.usd["work"] == pytest.approx(3 * 10 * hour)
    assert plan.start_usd == pytest.approx(3 * 0.05 * hour)
    told = plan.to_json()
    assert told["usd"] == pytest.approx(plan.usd["work"] + plan.start_usd + plan.shuffle_usd)
    # A stage of one piece holds one machine, whatever the job has.
    last = dataclasses.replace(stage(0.5, pieces=1), name="last")
    both = outcome(content, stage(0.5), last, workers=10, prices=prices).on_dataflow
    assert both.usd["last"] == pytest.approx(1 * 1 * hour)


def test_prices_are_those_that_beam_repeats() -> None:
    assert consts.PD_PER_GB_HR == dataflow.DISK_GB_HOUR_USD
    assert consts.SHUFFLE_PER_GB_BATCH == dataflow.SHUFFLE_GB_USD
    assert (Prices().cpu_hour, Prices().gb_hour) == (
        consts.VCPU_PER_HR_BATCH,
        consts.MEM_PER_GB_HR_BATCH,
    )


def test_what_is_shuffled_is_no_less_than_what_beam_makes_of_it() -> None:
    coder: Any = coders.registry.get_coder(object)
    beside = 24  # bytes of a Reshuffle's key, time and window
    shard = ShardTask(300, 19, 999, 2**31, 2**32, 40_000_000, 32)
    ranges = tuple((2**32 * n // 135, 2**32 * (n + 1) // 135) for n in range(135))
    piece = SpillTask(300, 999, range(3000, 3100), 32, ranges), None
    assert len(coder.encode(4095)) + beside <= dataflow.PART_BYTES
    assert len(coder.encode(shard)) + beside <= dataflow.SHARD_BYTES
    assert len(coder.encode(piece)) + beside <= dataflow.PIECE_BYTES
    assert len(coder.encode(piece)) > dataflow.PIECE_BYTES / 1.5


def test_a_shuffle_grows_with_pieces_and_with_what_is_compared(content: Content) -> None:
    workload = of_tracks(10_000_000, 4.0, 32_000.0)
    built = Outcome(estimate_index(workload, content, SPEEDS), 50, 1e8, FREE, []).on_dataflow
    assert built.shuffle_bytes < 10e6  # of an index of a terabyte
    changed = estimate_changes(workload, content, SPEEDS, 0.01)
    compared = Outcome(changed, 50, 1e8, FREE, []).on_dataflow
    assert compared.shuffle_bytes == pytest.approx(10_000_000 * 300, rel=0.01)
    assert compared.shuffle_usd == pytest.approx(3.0 * 0.011, rel=0.01)


PLAN = ["plan", "--tracks", "100000", "--minutes", "4", "--hash-cpu-s", "4", "--table-cpu-s"]
PLAN += ["0.06", "--workers", "20", "--start-s", "180"]


def test_beam_reads_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["dataflow"]
    options = PipelineOptions(told["flags"])
    workers = options.view_as(WorkerOptions)
    assert workers.machine_type == told["job"]["type"] == "n2-standard-4"
    assert workers.num_workers == workers.max_num_workers == told["job"]["number"] == 5
    assert workers.disk_size_gb == told["job"]["disk_gb"]
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 1
    known = {flag.partition("=")[0][2:] for flag in told["flags"]}
    assert known <= set(options.get_all_options())
    assert [one["stage"] for one in told["stages"]] == [
        "decode and hash",
        "build tables",
        "publish and verify",
    ]


def test_people_read_a_table_and_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(PLAN) == 0
    plain = capsys.readouterr().out
    assert main([*PLAN, "--dataflow"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(plain)
    lines = text[len(plain) :].splitlines()
    assert lines[1].split("  ")[0] == "on Dataflow"
    assert [line.split("  ")[0] for line in lines[2:6]] == [
        "decode and hash",
        "build tables",
        "publish and verify",
        "the whole job",
    ]
    assert "n2-standard-4  4 of 4 GB" in lines[5]
    assert lines[-5:-3] == ["--machine_type=n2-standard-4", "--num_workers=5"]
