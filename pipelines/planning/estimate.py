"""Hours, bytes, workers and money of an index, stage by stage, from how much and how fast."""

from __future__ import annotations

import dataclasses
import math

from pipelines.execution import READ_BACK_BYTES
from pipelines.footprint import KEY_BYTES, POSTING_BYTES, PROCESS_BYTES, SPILLED_BYTES
from pipelines.planning.content import MATRIX_FILE_BYTES, Content
from pipelines.planning.layout import Layout, plan_layout
from pipelines.planning.speeds import Speeds
from pipelines.planning.workload import Workload
from pipelines.spills import SPILL_SNIPPETS
from pipelines.tables import KEPT_SNIPPETS

GB = 1e9

# Prices in USD, to be replaced by your own: a batch worker of Google Cloud Dataflow in us-central1
# (vCPU and GB of memory an hour; https://cloud.google.com/dataflow/pricing, as Apache Beam 2.77.0
# repeats it in apache_beam/testing/load_tests/dataflow_cost_consts.py), and standard storage in a
# region of the USA (https://cloud.google.com/storage/pricing-examples). Looked up in copies of
# these pages without a date, in November 2026.
CPU_HOUR_USD = 0.056
GB_HOUR_USD = 0.003557
GB_MONTH_USD = 0.020

# What one worker reads a second, MB: one stream of an object store; a disk of one's own gives more.
READ_MB_S = 100.0

# Copies of a part's codes and embeddings that a worker holds while it writes them: by track,
# joined, as Arrow and as Parquet.
PART_COPIES = 4
# Files that only a run has: receipts of parts and of shards, measured.
PART_RECEIPT_BYTES, SHARD_RECEIPT_BYTES = 1300, 700
# CPU of comparing a million rows of a catalogue with an index: read 1.2 s, both sides prepared 0.3,
# joined 1.3, measured in one process; as much again for Beam, which moves 150 bytes a row.
COMPARE_CPU_S = 5.0
MAX_WORKERS = 100_000  # more than that is no plan


@dataclasses.dataclass(frozen=True)
class Prices:
    """USD for a vCPU an hour, a GB of memory an hour, and a GB of storage a month."""

    cpu_hour: float = CPU_HOUR_USD
    gb_hour: float = GB_HOUR_USD
    gb_month: float = GB_MONTH_USD


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of the job, before it is known how many workers there are.

    Attributes:
        name: for people.
        cpu_s: CPU seconds of all workers.
        pieces: equal pieces of work, each done by one worker.
        read_bytes, written_bytes: of all workers.
        memory_bytes: peak of one worker.
    """

    name: str
    cpu_s: float
    pieces: int
    read_bytes: float
    written_bytes: float
    memory_bytes: float

    def wall_s(self, workers: int, read_bytes_per_s: float) -> float:
        """Seconds with so many workers: each reads, then works, piece after piece.

        >>> Stage("hash", 100.0, 10, 1000.0, 0.0, 0.0).wall_s(4, 10.0)
        60.0
        """
        piece_s = (self.cpu_s + self.read_bytes / read_bytes_per_s) / self.pieces
        return math.ceil(self.pieces / workers) * piece_s


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the job is, whoever does it.

    Attributes:
        workload, content, speeds: what it was made from.
        layout: of the index, or with `changed` of the segments that are added.
        stages: in their order.
        index_bytes: by kind of file, of the index, or of what is added.
        temporary_bytes: of the run's own files, deleted when it is published.
        base: the index that is changed; None where one is built from nothing.
    """

    workload: Workload
    content: Content
    speeds: Speeds
    layout: Layout
    stages: list[Stage]
    index_bytes: dict[str, float]
    temporary_bytes: float
    base: Estimate | None = None

    @property
    def total_bytes(self) -> float:
        """Of the index when the job is done; before old versions are deleted."""
        return sum(self.index_bytes.values()) + (self.base.total_bytes if self.base else 0.0)

    def wall_s(self, workers: int, read_bytes_per_s: float) -> float:
        """Seconds from the command to the end."""
        stages = (stage.wall_s(workers, read_bytes_per_s) for stage in self.stages)
        return self.speeds.start_s + sum(stages)


def estimate_index(
    workload: Workload, content: Content, speeds: Speeds, key_bits: int | None = None
) -> Estimate:
    """An index of all tracks, made from nothing."""
    layout = _layout(workload, content, key_bits)
    sizes = _sizes(workload, content, layout)
    stages = _build_stages(workload, content, speeds, layout, sizes)
    return Estimate(
        workload, content, speeds, layout, stages, sizes, _temporary(workload, content, layout)
    )


def estimate_changes(
    workload: Workload,
    content: Content,
    speeds: Speeds,
    changed: float,
    key_bits: int | None = None,
) -> Estimate:
    """A reindex of a share of the tracks: new segments beside an index that stays as it is."""
    base = estimate_index(workload, content, speeds, key_bits)
    part = workload.share(changed)
    layout = _layout(part, content, base.layout.key_bits)
    sizes = _sizes(part, content, layout)
    millions = workload.tracks / 1e6
    compare = Stage(
        "find what changed",
        millions * COMPARE_CPU_S,
        math.ceil(workload.tracks / (1 << 17)),
        base.index_bytes["tracks"] + _catalog_bytes(workload, content),
        0.0,
        PROCESS_BYTES,
    )
    stages = [compare, *_build_stages(part, content, speeds, layout, sizes)]
    temporary = _temporary(part, content, layout) + _catalog_bytes(workload, content)
    return Estimate(part, content, speeds, layout, stages, sizes, temporary, base)


def workers_for(estimate: Estimate, wall_s: float, read_bytes_per_s: float) -> int | None:
    """The fewest workers with which the job ends in time; None where no number of them does."""
    low, high = 1, MAX_WORKERS
    if estimate.wall_s(high, read_bytes_per_s) > wall_s:
        return None
    while low < high:
        middle = (low + high) // 2
        if estimate.wall_s(middle, read_bytes_per_s) <= wall_s:
            high = middle
        else:
            low = middle + 1
    return low


def _layout(workload: Workload, content: Content, key_bits: int | None) -> Layout:
    possible = workload.tracks * content.possible(workload.track_s)
    return plan_layout(
        workload.tracks,
        round(possible * content.heard),
        round(possible * content.numbered),
        content.hasher.quantizer,
        key_bits=key_bits,
        balance=content.balance,
    )


def _sizes(workload: Workload, content: Content, layout: Layout) -> dict[str, float]:
    def size(kind: str, snippet: int = 0, track: int = 0, second: float = 0.0) -> float:
        over = content.overhead(kind, workload.row)
        rows = workload.tracks * (over.track_bytes + track) + layout.snippets * snippet
        return layout.parts * over.file_bytes + rows + workload.audio_s * second

    return {
        **{kind: size(kind, snippet=width) for kind, width in content.fixed_widths().items()},
        "tables": float(layout.table_bytes),
        "tracks": size("tracks"),
        "matrices": layout.parts * MATRIX_FILE_BYTES + layout.numbers / 8,
        **{kind: size(kind, track=width) for kind, width in content.row_widths().items()},
        **{kind: size(kind, second=width) for kind, width in content.second_widths().items()},
    }


def _build_stages(
    workload: Workload,
    content: Content,
    speeds: Speeds,
    layout: Layout,
    sizes: dict[str, float],
) -> list[Stage]:
    written = sum(sizes.values())
    read_back = min(written, READ_BACK_BYTES)
    part = layout.snippets / layout.parts * sum(content.fixed_widths().values())
    part += workload.audio_s / layout.parts * sum(content.second_widths().values())
    spilled = layout.spilled * SPILLED_BYTES
    return [
        Stage(
            "decode and hash",
            workload.audio_s / 3600 * speeds.hash_cpu_s_per_hour,
            layout.parts,
            workload.audio_bytes,
            written - sizes["tables"],
            speeds.worker_bytes + PART_COPIES * part,
        ),
        Stage(
            "build tables",
            speeds.tables.cpu_s(layout),
            layout.shards,
            sizes["codes"] + spilled,
            sizes["tables"] + spilled,
            _table_memory(layout, sizes["codes"]),
        ),
        # One process, the one that was started by hand or by a timer, reads all of it, or a sample.
        Stage(
            "publish and verify",
            read_back / GB * speeds.verify_cpu_s_per_gb,
            1,
            read_back,
            0.0,
            PROCESS_BYTES,
        ),
    ]


def _table_memory(layout: Layout, codes_bytes: float) -> float:
    """Peak of a worker: the largest shard with postings, keys and directory, or the codes."""
    most = 0.0
    for segment in layout.segments:
        postings = POSTING_BYTES * segment.postings / segment.n
        # Keys and their places, and a directory that is made and then written.
        directory = segment.directory_bytes + KEY_BYTES * segment.distinct_keys
        # A piece that is spilled ends with a part.
        piece = SPILL_SNIPPETS + layout.snippets / layout.parts
        held = min(segment.snippets, KEPT_SNIPPETS if segment.kept else piece)
        codes = codes_bytes * held / max(1, layout.snippets)
        if segment.kept:
            most = max(most, postings + directory + codes)
        else:  # spills are written before any shard is built
            table = POSTING_BYTES * held * segment.postings / segment.snippets
            most = max(most, postings + directory, codes + table)
    return PROCESS_BYTES + most + 2 * codes_bytes / layout.parts


def _catalog_bytes(workload: Workload, content: Content) -> float:
    over = content.overhead("tracks", workload.row)
    return workload.tracks * over.track_bytes


def _temporary(workload: Workload, content: Content, layout: Layout) -> float:
    receipts = layout.parts * PART_RECEIPT_BYTES + layout.shards * SHARD_RECEIPT_BYTES
    return _catalog_bytes(workload, content) + receipts + layout.spilled * SPILLED_BYTES
