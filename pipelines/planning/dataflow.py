"""A plan as machines of Dataflow: type, disk and number by stage, and the flags of the whole job.

A machine has a worker process for each of its cores, and here a process one thread: then its memory
is that of one piece of work, as the plan has it. A job has machines of one type, those of the stage
that needs most, unless the service fits each stage its own (`pipelines.footprint`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from pipelines.footprint import SPILLED_BYTES
from pipelines.planning.estimate import GB, Estimate, Prices, Stage
from pipelines.spills import SPILL_SNIPPETS

# GB of memory of a core of machines whose names end in the number of cores, and the most that there
# are (https://cloud.google.com/compute/docs/general-purpose-machines). n2-highcpu has 1 GB a core,
# which a process may need alone: nothing would be left to the system and to the service.
SERIES = {"n2-standard": 4, "n2-highmem": 8}
MOST_CORES = 128
# Cores of a machine: each pulls the image and starts for itself, so not one; and the fewer there
# are, the closer their number fits the work.
CORES, FEWEST_CORES = 4, 2
# Memory that a process is given over what is planned for it: a plan may be a quarter off.
SPARE = 1.25

# The disk of a batch worker unless one says otherwise, part of which is the system's and the
# image's (https://cloud.google.com/dataflow/docs/shuffle-for-batch).
DISK_GB = 25

# Prices in USD, from where `estimate` has those of cores and memory: a GB of standard disk an hour,
# and a GB through Dataflow Shuffle.
DISK_GB_HOUR_USD = 0.000054
SHUFFLE_GB_USD = 0.011

# Bytes through a shuffle, keys and all: of a part, a number; of a shard, some 150 bytes; of a piece
# that is spilled, 2,037 with 135 key ranges of 32 bits; of a track that is compared, on both sides.
PART_BYTES, SHARD_BYTES, PIECE_BYTES, TRACK_BYTES = 30, 200, 2_100, 2 * 150


@dataclasses.dataclass(frozen=True)
class Machines:
    """What a stage, or a job, runs on.

    Attributes:
        type: of the machines, as Compute Engine calls it.
        cores, memory_gb: of one.
        processes: of one; as many as cores, or one where a process needs what several cores have.
        number: of machines.
        disk_gb: of one.
    """

    type: str
    cores: int
    memory_gb: int
    processes: int
    number: int
    disk_gb: int

    def usd(self, hours: float, cpu_hour: float, gb_hour: float) -> float:
        """All of them for so many hours."""
        hour = self.cores * cpu_hour + self.memory_gb * gb_hour + self.disk_gb * DISK_GB_HOUR_USD
        return self.number * hours * hour


@dataclasses.dataclass(frozen=True)
class OnDataflow:
    """A plan as machines.

    Attributes:
        stages: machines that fit each stage best, by its name.
        job: machines that fit all of them.
        usd: of the stages, each on as many of the job's machines as it has work for.
        start_usd: of all machines until they work.
        shuffle_bytes: through Dataflow Shuffle.
    """

    stages: dict[str, Machines]
    job: Machines
    usd: dict[str, float]
    start_usd: float
    shuffle_bytes: int

    @property
    def shuffle_usd(self) -> float:
        """Of the shuffle; less where the service takes off a part."""
        return self.shuffle_bytes / GB * SHUFFLE_GB_USD

    @property
    def total_usd(self) -> float:
        """Of all."""
        return sum(self.usd.values()) + self.start_usd + self.shuffle_usd

    def flags(self) -> list[str]:
        """For ``hashbeam index`` or ``reindex``, after ``--runner=DataflowRunner``."""
        one = ["--experiments=no_use_multiple_sdk_containers"]
        return [
            f"--machine_type={self.job.type}",
            f"--num_workers={self.job.number}",
            f"--max_num_workers={self.job.number}",
            f"--disk_size_gb={self.job.disk_gb}",
            "--number_of_worker_harness_threads=1",
            *(one if self.job.processes == 1 else []),
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything, units in the names."""
        return {
            "stages": [
                {"stage": name, **dataclasses.asdict(machines), "usd": self.usd[name]}
                for name, machines in self.stages.items()
            ],
            "job": dataclasses.asdict(self.job),
            "start_usd": self.start_usd,
            "shuffle_bytes": self.shuffle_bytes,
            "shuffle_usd": self.shuffle_usd,
            "usd": self.total_usd,
            "flags": self.flags(),
        }


def on_dataflow(job: Estimate, workers: int, read_bytes_per_s: float, prices: Prices) -> OnDataflow:
    """The machines of a job, for so many worker processes.

    Raises: ValueError where no machine has the memory of one process; none has yet been planned.
    """
    stages = {stage.name: _machines([stage], job, workers) for stage in job.stages}
    machines = _machines(job.stages, job, workers)
    usd = {}
    for stage in job.stages:
        busy = math.ceil(min(workers, stage.pieces) / machines.processes)
        hours = stage.wall_s(workers, read_bytes_per_s) / 3600
        held = dataclasses.replace(machines, number=busy)
        usd[stage.name] = held.usd(hours, prices.cpu_hour, prices.gb_hour)
    start = machines.usd(job.speeds.start_s / 3600, prices.cpu_hour, prices.gb_hour)
    return OnDataflow(stages, machines, usd, start, _shuffled(job))


def _machines(stages: Sequence[Stage], job: Estimate, workers: int) -> Machines:
    """Machines that fit all of some stages."""
    needed = max(stage.memory_bytes for stage in stages) * SPARE / GB
    held = max(min(workers, stage.pieces) for stage in stages)
    cores = FEWEST_CORES if held <= FEWEST_CORES else CORES
    processes = cores
    series = next((name for name, core_gb in SERIES.items() if core_gb >= needed), "")
    if not series:  # one process has what several cores have
        series, core_gb = list(SERIES.items())[-1]
        cores, processes = 1 << math.ceil(math.log2(needed / core_gb)), 1
        if cores > MOST_CORES:
            raise ValueError(f"no machine has {needed:.0f} GB for one process")
    disk = processes * max(_temporary_bytes(stage, job) for stage in stages)
    return Machines(
        type=f"{series}-{cores}",
        cores=cores,
        memory_gb=SERIES[series] * cores,
        processes=processes,
        number=math.ceil(held / processes),
        disk_gb=DISK_GB + math.ceil(disk / GB),
    )


def _temporary_bytes(stage: Stage, job: Estimate) -> float:
    """What a process has on its disk: a track that it decodes, and what it writes until it is sent.

    A piece of work has several files, of which one is written at a time: all of them are counted,
    since neither tracks nor key ranges are all of one size. A spill is larger than a shard.
    """
    track, layout = job.workload.audio_bytes / job.workload.tracks, job.layout
    postings = SPILL_SNIPPETS * layout.postings / layout.snippets if layout.spilled else 0
    spill = postings * SPILLED_BYTES
    return track + max(stage.written_bytes / stage.pieces, spill)


def _shuffled(job: Estimate) -> int:
    layout = job.layout
    pieces = sum(
        math.ceil(one.snippets / SPILL_SNIPPETS) for one in layout.segments if not one.kept
    )
    compared = job.base.workload.tracks * TRACK_BYTES if job.base else 0
    moved = layout.parts * PART_BYTES + layout.shards * SHARD_BYTES + pieces * PIECE_BYTES
    return moved + compared
