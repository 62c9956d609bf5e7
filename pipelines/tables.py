"""Codes become hash tables: segments, key ranges, and one shard file for each table and range.

Nothing is shuffled but small descriptions of shards: a worker reads the codes of a segment from
their files and keeps the keys of its own range, so that memory is bounded by `BLOCK_POSTINGS`.
A segment of more postings than that is read once for each of its key ranges and tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from hashing.codes import keys
from hashing.tables import (
    BLOCK_POSTINGS,
    build_shard,
    pack_postings,
    plan_key_ranges,
    plan_segments,
)
from pipelines import io
from pipelines.options import MIN_KEY_BITS
from pipelines.parts import part_name
from pipelines.runs import Receipt, Run, new_attempt


@dataclasses.dataclass(frozen=True)
class SegmentCodes:
    """A segment before its tables: which parts, their code files, and how many snippets each.

    `digest` changes with any of the files: tables of other files are not taken for these.
    """

    id: int
    parts: range
    paths: list[str]
    snippets: list[int]
    digest: str

    @property
    def total(self) -> int:
        """Snippets of the segment, which is postings of each of its tables."""
        return sum(self.snippets)


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to build: a table of a segment, for keys from `key_lo` to `key_hi` (exclusive).

    `positions` are the bits of a code that make the key, most significant first.
    """

    segment: int
    table: int
    number: int
    key_lo: int
    key_hi: int
    postings: int
    positions: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of its receipt: ``s000-t07-k0003``."""
        return f"s{self.segment:03d}-t{self.table:02d}-k{self.number:04d}"

    def inputs(self, segment: SegmentCodes) -> str:
        """What the shard is made from, as a digest."""
        made_from = f"{segment.digest} {self.key_lo} {self.key_hi} {self.positions}"
        return hashlib.sha256(made_from.encode()).hexdigest()


def choose_key_bits(segments: Sequence[SegmentCodes], longest: int) -> int:
    """Key length at which a bucket holds about one posting, if the model's keys are that long.

    >>> def sized(snippets):
    ...     return [SegmentCodes(0, range(1), ["a"], [snippets], "")]
    >>> [choose_key_bits(sized(n), 24) for n in (10, 62_000, 10**9)]
    [12, 16, 24]
    """
    snippets = sum(segment.total for segment in segments)
    return min(max(math.ceil(math.log2(max(snippets, 1))), MIN_KEY_BITS), longest)


def read_segments(run: Run, receipts: Mapping[str, Receipt]) -> list[SegmentCodes]:
    """The segments that the receipts of all parts make, in order."""
    parts = [receipts[part_name(part)] for part in range(run.plan.n_parts)]
    snippets = [int(receipt.counters["snippets"]) for receipt in parts]
    segments = []
    for number, chosen in enumerate(plan_segments(snippets)):
        files = [entry for part in chosen for entry in parts[part].files if entry.kind == "codes"]
        digest = hashlib.sha256("".join(entry.sha256 for entry in files).encode()).hexdigest()
        segments.append(
            SegmentCodes(
                number,
                chosen,
                [io.join(run.index, entry.path) for entry in files],
                [entry.rows for entry in files],
                digest,
            )
        )
    return segments


def plan_shards(
    segment: SegmentCodes, table_bits: NDArray[np.integer], block_postings: int = BLOCK_POSTINGS
) -> Iterator[ShardTask]:
    """The shards of a segment.

    Args:
        table_bits: positions of the bits of each table's key, ``[n_tables, key_bits]``.
    """
    n_tables, key_bits = table_bits.shape
    ranges = plan_key_ranges(segment.total, key_bits, block_postings)
    for table in range(n_tables):
        positions = tuple(table_bits[table].tolist())
        for number, (key_lo, key_hi) in enumerate(ranges):
            expected = -(-segment.total // len(ranges))
            yield ShardTask(segment.id, table, number, key_lo, key_hi, expected, positions)


def build_table(run: Run, segment: SegmentCodes, task: ShardTask) -> Receipt:
    """Builds one shard from the codes of its segment, and writes it and its receipt.

    Memory: 8 bytes for each posting of the range, and one file of codes.

    Raises: HashbeamError where codes cannot be read or the shard cannot be written.
    """
    started, cpu_s = time.time(), time.process_time()
    positions = np.array(task.positions)
    packed = pack_postings(
        ((keys(codes, positions), gid) for codes, gid in _codes(segment)),
        task.key_lo,
        task.key_hi,
        task.postings,
    )
    attempt = new_attempt()
    with io.open_write(run.attempt_path("tables", task.name, attempt, ".hbt")) as file:
        stats = build_shard(
            packed,
            file,
            table=task.table,
            segment=task.segment,
            key_bits=len(task.positions),
            key_lo=task.key_lo,
            key_hi=task.key_hi,
        )
    place = {"segment": task.segment, "table": task.table}
    entry = run.entry(
        "tables", file.info, rows=stats.postings, key_lo=task.key_lo, key_hi=task.key_hi, **place
    )
    counters = {
        **dataclasses.asdict(stats),
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.time() - started,
    }
    return run.write_receipt(
        Receipt(task.name, attempt, [entry], counters, started, time.time(), task.inputs(segment))
    )


def _codes(segment: SegmentCodes) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The codes of a segment file by file, each with the number of its first snippet."""
    gid = 0
    for path in segment.paths:
        for chunk in io.read_table(path, ["code"])["code"].chunks:
            width = chunk.type.byte_width
            data = np.frombuffer(chunk.buffers()[1], np.uint8)
            first = chunk.offset * width
            yield data[first : first + len(chunk) * width].reshape(-1, width), gid
            gid += len(chunk)


@dataclasses.dataclass
class BuildTables(beam.PTransform[Any, Any]):
    """Segments in, receipts of shards out; what has a receipt of the same inputs is skipped.

    Attributes:
        run: the run whose index it is.
        table_bits: positions of the bits of the longest key of each table; a key is its beginning.
        key_bits: of a key, or None to choose by the number of snippets.
    """

    run: Run
    table_bits: NDArray[np.integer]
    key_bits: int | None = None

    def expand(self, segments: Any) -> Any:
        """The steps."""
        return (
            segments
            | "plan shards" >> beam.FlatMap(self._missing, beam.pvalue.AsList(segments))
            # Moves some hundred bytes a shard; without it one worker would build them all.
            | "spread shards" >> beam.Reshuffle()
            | "build shards" >> beam.Map(self._build, beam.pvalue.AsList(segments))
        )

    def _missing(self, segment: SegmentCodes, all_segments: Sequence[SegmentCodes]) -> Any:
        bits = self.key_bits or choose_key_bits(all_segments, self.table_bits.shape[1])
        done = self.run.receipts()
        for task in plan_shards(segment, self.table_bits[:, :bits]):
            receipt = done.get(task.name)
            if receipt is not None and receipt.inputs == task.inputs(segment):
                continue
            if receipt is not None:
                self.run.discard(task.name)  # of other codes or another key length
            yield task

    def _build(self, task: ShardTask, segments: Sequence[SegmentCodes]) -> str:
        segment = next(one for one in segments if one.id == task.segment)
        return build_table(self.run, segment, task).name
