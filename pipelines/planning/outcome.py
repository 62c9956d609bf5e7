"""A plan for so many workers: its figures by stage, for people and for programs."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.footprint import SPILLED_BYTES
from pipelines.planning.dataflow import OnDataflow, on_dataflow
from pipelines.planning.estimate import GB, Estimate, Prices, Stage

FORMAT_VERSION = 1
CROWDED = 64  # postings of a bucket: many times what keys of the right length give


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An estimate, for so many workers at these prices.

    Attributes:
        estimate: what the job is.
        workers: processes, each on a core of its own.
        read_bytes_per_s: of one worker.
        prices: in USD.
        notes: what a reader should know about the figures.
    """

    estimate: Estimate
    workers: int
    read_bytes_per_s: float
    prices: Prices
    notes: list[str]

    @property
    def wall_s(self) -> float:
        """From the command to the end, seconds."""
        return self.estimate.wall_s(self.workers, self.read_bytes_per_s)

    @property
    def month_usd(self) -> float:
        """Of storing the index for a month."""
        return self.estimate.total_bytes / GB * self.prices.gb_month

    def stage_usd(self, stage: Stage) -> float:
        """Of the workers that a stage holds while it lasts."""
        hours = stage.wall_s(self.workers, self.read_bytes_per_s) / 3600
        workers = min(self.workers, stage.pieces)
        memory = stage.memory_bytes / GB * self.prices.gb_hour
        return workers * hours * (self.prices.cpu_hour + memory)

    @property
    def on_dataflow(self) -> OnDataflow:
        """The machines of Dataflow for so many workers."""
        return on_dataflow(self.estimate, self.workers, self.read_bytes_per_s, self.prices)

    def to_json(self) -> dict[str, Any]:
        """Everything, units in the names."""
        job, layout = self.estimate, self.estimate.layout
        whole = job.base.layout if job.base else layout
        stages = [
            {
                "stage": stage.name,
                "cpu_hours": stage.cpu_s / 3600,
                "pieces": stage.pieces,
                "workers": min(self.workers, stage.pieces),
                "wall_s": stage.wall_s(self.workers, self.read_bytes_per_s),
                "read_bytes": round(stage.read_bytes),
                "written_bytes": round(stage.written_bytes),
                "memory_bytes": round(stage.memory_bytes),
                "usd": self.stage_usd(stage),
            }
            for stage in job.stages
        ]
        speeds = dataclasses.asdict(job.speeds)
        return {
            "format_version": FORMAT_VERSION,
            "tracks": job.workload.tracks,
            "audio_hours": job.workload.audio_s / 3600,
            "audio_bytes": round(job.workload.audio_bytes),
            "model": job.content.hasher.model.name,
            "workers": self.workers,
            "wall_s": self.wall_s,
            "cpu_hours": sum(stage.cpu_s for stage in job.stages) / 3600,
            "usd": sum(map(self.stage_usd, job.stages)),
            "storage_usd_per_month": self.month_usd,
            "worker_memory_bytes": round(max(stage.memory_bytes for stage in job.stages)),
            "stages": stages,
            "index_bytes": {kind: round(size) for kind, size in job.index_bytes.items()},
            "total_bytes": round(job.total_bytes),
            "temporary_bytes": round(job.temporary_bytes),
            "snippets": layout.snippets,
            "parts": layout.parts,
            "segments": len(layout.segments),
            "n_tables": layout.n_tables,
            "key_ranges": sum(segment.n for segment in layout.segments),
            "shards": layout.shards,
            "postings": layout.postings,
            "key_bits": layout.key_bits,
            "wanted_key_bits": layout.wanted_key_bits,
            "bucket_postings": whole.bucket,
            "crowded_bucket_postings": whole.crowded(job.content.balance),
            "speeds": speeds,
            "prices_usd": dataclasses.asdict(self.prices),
            "read_bytes_per_s": self.read_bytes_per_s,
            "dataflow": self.on_dataflow.to_json(),
            "notes": self.notes,
        }

    def to_text(self) -> str:
        """A table and what stands behind it."""
        job, layout = self.estimate, self.estimate.layout
        whole = job.base.layout if job.base else layout
        many = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        what = "reindex of" if job.base else "index of"
        lines = [
            f"{what} {job.workload.tracks:,} tracks, {job.workload.audio_s / 3600:,.1f} h of audio "
            f"({size(job.workload.audio_bytes)}), model {job.content.hasher.model.name}, {many}",
            "",
            *_table(self._rows()),
            "",
            f"{'added' if job.base else 'index'}: {size(sum(job.index_bytes.values()))} ("
            + ", ".join(f"{kind} {size(value)}" for kind, value in job.index_bytes.items())
            + ")",
        ]
        if job.base:
            lines.append(f"index with all versions: {size(job.total_bytes)}")
        return "\n".join(
            [
                *lines,
                f"storage: {usd(self.month_usd)} a month; files of the run alone, deleted when it "
                f"is published: {size(job.temporary_bytes)}",
                f"keys: {layout.n_tables} tables of {layout.key_bits} bits, {whole.bucket:.2g} "
                "postings a bucket on average, "
                f"{whole.crowded(job.content.balance):.2g} where a typical one stands",
                f"pieces: {layout.parts:,} parts of {layout.tracks_per_part:,} tracks, "
                f"{len(layout.segments)} segment{'s' if len(layout.segments) > 1 else ''}, "
                f"{sum(segment.n for segment in layout.segments):,} key ranges a table, "
                f"{layout.shards:,} shards with {layout.postings:,} postings in all",
                f"speeds: {job.speeds.source}: {job.speeds.hash_cpu_s_per_hour:.3g} CPU s an hour "
                f"of audio ({3600 / job.speeds.hash_cpu_s_per_hour:,.0f} × real time), "
                f"{job.speeds.tables.postings_cpu_s:.2g} a million postings, "
                f"{job.speeds.tables.codes_cpu_s:.2g} a million codes read for them",
                *(f"note: {note}" for note in self.notes),
            ]
        )

    def to_dataflow_text(self) -> str:
        """The machines of Dataflow by stage, and the flags of a job."""
        plan = self.on_dataflow
        rows = [["on Dataflow", "fits best", "processes", "machines", "disk", "cost"]]
        for name, fit in plan.stages.items():
            processes = f"{fit.processes} of {fit.memory_gb / fit.processes:g} GB"
            disk, cost = f"{fit.disk_gb} GB", usd(plan.usd[name])
            rows.append([name, fit.type, processes, f"{fit.number:,}", disk, cost])
        job = plan.job
        processes = f"{job.processes} of {job.memory_gb / job.processes:g} GB"
        total = usd(plan.total_usd)
        rows.append(
            ["the whole job", job.type, processes, f"{job.number:,}", f"{job.disk_gb} GB", total]
        )
        return "\n".join(
            [
                *_table(rows),
                "",
                f"of that {usd(plan.start_usd)} until machines work, {usd(plan.shuffle_usd)} for "
                f"{size(plan.shuffle_bytes)} through Dataflow Shuffle",
                "a job has machines of one type, and pays in each stage for those with work",
                *plan.flags(),
            ]
        )

    def _rows(self) -> list[list[str]]:
        stages = self.estimate.stages
        rows = [["", "CPU", "wall", "workers", "reads", "writes", "memory", "cost"]]
        for stage in stages:
            rows.append(
                [
                    stage.name,
                    duration(stage.cpu_s),
                    duration(stage.wall_s(self.workers, self.read_bytes_per_s)),
                    f"{min(self.workers, stage.pieces):,}",
                    size(stage.read_bytes),
                    size(stage.written_bytes),
                    size(stage.memory_bytes),
                    usd(self.stage_usd(stage)),
                ]
            )
        total = [
            "total",
            duration(sum(stage.cpu_s for stage in stages)),
            duration(self.wall_s),
            f"{self.workers:,}",
            size(sum(stage.read_bytes for stage in stages)),
            size(sum(stage.written_bytes for stage in stages)),
            size(max(stage.memory_bytes for stage in stages)),
            usd(sum(map(self.stage_usd, stages))),
        ]
        return [*rows, total]


def notes_on(estimate: Estimate) -> list[str]:
    """What in an estimate is likely to surprise."""
    layout, notes = estimate.layout, []
    if layout.wanted_key_bits > layout.key_bits:
        notes.append(
            f"keys of {layout.wanted_key_bits} bits would keep buckets short, but the model's end "
            f"at {layout.key_bits}: a look-up reads {layout.bucket:.3g} postings a bucket"
        )
    elif layout.crowded(estimate.content.balance) > CROWDED:
        notes.append("buckets are long: look-up will be slow; a longer --key-bits makes them short")
    if layout.spilled:
        notes.append(
            f"while tables are built, {size(layout.spilled * SPILLED_BYTES)} of sorted postings "
            "stand beside them"
        )
    return notes


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, whichever is short to say.

    >>> [duration(seconds) for seconds in (0.25, 75, 8000, 1e6, 1e8)]
    ['0.2 s', '1.2 min', '2.2 h', '278 h', '27,778 h']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def size(count: float) -> str:
    """Bytes in the unit that makes the number short.

    >>> [size(count) for count in (0, 1500, 2.5e6, 3.2e9, 4.5e14)]
    ['0 B', '1.5 kB', '2.5 MB', '3.2 GB', '450.0 TB']
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def usd(amount: float) -> str:
    """An amount of money, to the cent where that tells anything.

    >>> usd(0.0004), usd(12.345), usd(98765.4)
    ('< $0.01', '$12.35', '$98,765')
    """
    if 0 < amount < 0.01:
        return "< $0.01"
    return f"${amount:,.2f}" if amount < 1000 else f"${amount:,.0f}"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
