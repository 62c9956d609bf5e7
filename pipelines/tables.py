"""Codes become hash tables: segments, key ranges, and one shard file for each table and range.

Nothing is shuffled but small descriptions of shards. The codes of a small segment are in the memory
of the workers that build its tables; those of a large one are read once, and their postings sorted
out into spills (`pipelines.spills`), of which each shard reads its own slices. Either way memory is
bounded by `BLOCK_POSTINGS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from hashing.quantizers import Quantizer
from hashing.tables import BLOCK_POSTINGS, build_shard, pack_postings, plan_key_ranges
from pipelines import io
from pipelines.footprint import SHARD_BYTES, SPILL_BYTES, needing
from pipelines.options import MIN_KEY_BITS
from pipelines.runs import Receipt, Run, new_attempt
from pipelines.segment_codes import SegmentCodes, codes_of, segment_name
from pipelines.sent_quantizer import QuantizerByName
from pipelines.spills import SpillTask, finished_spills, plan_spills, read_slices, write_spill
from pipelines.versions import FileEntry

# Snippets of a segment of which a worker keeps what keys are made of: 64 MB at 64 bytes each. A
# larger one is spilled.
KEPT_SNIPPETS = 1_000_000
BUCKET_BITS = 2  # keys are so many bits shorter than one bucket for each posting would need

# What is told of a segment, by its number.
Segments = Mapping[int, Iterable[SegmentCodes]]
Spills = Mapping[int, Iterable[FileEntry]]


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to build: a table of a segment, for keys from `key_lo` to `key_hi` (exclusive)."""

    segment: int
    table: int
    number: int
    key_lo: int
    key_hi: int
    postings: int
    key_bits: int

    @property
    def name(self) -> str:
        """The name of its receipt: ``s000-t07-k0003``."""
        return f"{segment_name(self.segment)}t{self.table:02d}-k{self.number:04d}"

    def inputs(self, segment: SegmentCodes) -> str:
        """What the shard is made from, as a digest."""
        made_from = f"{segment.digest} {self.table} {self.key_lo} {self.key_hi} {self.key_bits}"
        return hashlib.sha256(made_from.encode()).hexdigest()


def choose_key_bits(segments: Sequence[SegmentCodes], quantizer: Quantizer) -> int:
    """Key length at which a bucket holds about four postings, if the model's keys are that long.

    Measured on 65,000 snippets with 16 probes: two bits less than one posting a bucket lose
    nothing, two bits more lose 5 of 100 degraded queries of one second.

    >>> from hashing.quantizers import SignQuantizer
    >>> quantizer = SignQuantizer(np.zeros(24), np.ones(24), np.arange(24)[None])
    >>> def sized(snippets):
    ...     return [SegmentCodes(0, range(1), ["c"], ["t"], [snippets], [0], "")]
    >>> [choose_key_bits(sized(n), quantizer) for n in (10, 62_000, 10**9)]
    [12, 14, 24]
    """
    return choose_key_bits_of(sum(segment.total for segment in segments), quantizer)


def choose_key_bits_of(snippets: int, quantizer: Quantizer) -> int:
    """`choose_key_bits` of an index of so many snippets."""
    postings = quantizer.replication * snippets
    bits = math.ceil(math.log2(max(postings, 1))) - BUCKET_BITS
    return min(max(bits, MIN_KEY_BITS), quantizer.key_bits_max)


def plan_shards(
    segment: SegmentCodes,
    quantizer: Quantizer,
    key_bits: int,
    block_postings: int = BLOCK_POSTINGS,
) -> Iterator[ShardTask]:
    """The shards of a segment, for keys of `key_bits` bits."""
    postings, ranges = _key_ranges(segment, quantizer, key_bits, block_postings)
    for table in range(quantizer.n_tables):
        for number, (key_lo, key_hi) in enumerate(ranges):
            expected = -(-postings // len(ranges))
            yield ShardTask(segment.id, table, number, key_lo, key_hi, expected, key_bits)


def spills_of(
    segment: SegmentCodes,
    quantizer: Quantizer,
    key_bits: int,
    block_postings: int = BLOCK_POSTINGS,
) -> list[SpillTask]:
    """The pieces in which a segment is spilled; none of one that is kept in memory."""
    if segment.total <= KEPT_SNIPPETS:
        return []
    _, ranges = _key_ranges(segment, quantizer, key_bits, block_postings)
    return plan_spills(segment, key_bits, ranges)


def _key_ranges(
    segment: SegmentCodes, quantizer: Quantizer, key_bits: int, block_postings: int
) -> tuple[int, list[tuple[int, int]]]:
    """Postings of one table of a segment, and the key ranges that each table is cut into."""
    postings = math.ceil(segment.total * quantizer.replication)
    return postings, plan_key_ranges(postings, key_bits, block_postings)


def build_table(
    run: Run,
    segment: SegmentCodes,
    task: ShardTask,
    quantizer: Quantizer,
    spills: Sequence[FileEntry] = (),
) -> Receipt:
    """Builds one shard, and writes it and its receipt.

    Args:
        spills: of the segment, all of them; none: it is built from the codes.

    Memory: 8 bytes for each posting of the range, and without spills the codes of the segment.

    Raises: HashbeamError where something cannot be read or the shard cannot be written.
    """
    started, cpu_s = time.time(), time.process_time()
    if spills:
        packed = read_slices(run.index, spills, task.table, task.number)
    else:
        packed = pack_postings(
            (
                (*quantizer.postings(material, task.table, task.key_bits), gid)
                for material, gid in _kept_material(segment, quantizer)
            ),
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
            key_bits=task.key_bits,
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


def _kept_material(
    segment: SegmentCodes, quantizer: Quantizer
) -> Iterable[tuple[NDArray[np.uint8], int]]:
    """What keys are made of, made once for all tables of a segment that a worker builds."""
    # A worker builds the tables of one model.
    if segment.digest not in _kept:
        _kept.clear()
        made = [(quantizer.key_material(codes), gid) for codes, gid in codes_of(segment)]
        _kept[segment.digest] = made
    return _kept[segment.digest]


_kept: dict[str, list[tuple[NDArray[np.uint8], int]]] = {}


@dataclasses.dataclass
class BuildTables(QuantizerByName, beam.PTransform[Any, Any]):
    """Segments in, receipts of shards out; what has a receipt of the same inputs is skipped.

    Attributes:
        run: the run whose index it is.
        model: name or folder of the hasher.
        quantizer: makes keys of codes.
        key_bits: of a key, or None to choose by the number of snippets.
    """

    run: Run
    model: str
    quantizer: Quantizer
    key_bits: int | None = None

    @property
    def made_for(self) -> Run:
        """See `QuantizerByName`."""
        return self.run

    def expand(self, segments: Any) -> Any:
        """The steps."""
        # A worker fetches by number what is told of its own segment: lists of all segments, and of
        # all their spills, grow with the catalogue.
        own = beam.pvalue.AsMultiMap(
            segments
            | "by number" >> beam.Map(_numbered).with_output_types(tuple[int, SegmentCodes])
        )
        totals = beam.pvalue.AsList(segments | "count" >> beam.Map(lambda segment: segment.total))
        spilled = (
            segments
            | "plan spills" >> beam.FlatMap(self._pieces, totals)
            # Moves some kilobytes a piece of four million snippets.
            | "spread spills" >> beam.Reshuffle()
            | "spill"
            >> needing(
                SPILL_BYTES, beam.Map(self._spill, own), segments.pipeline
            ).with_output_types(tuple[int, FileEntry])
        )
        spills = beam.pvalue.AsMultiMap(spilled)
        return (
            segments
            # The entries of the spills hold it back until all are written.
            | "plan shards" >> beam.FlatMap(self._missing, totals, spills)
            # Moves some hundred bytes a shard; without it one worker would build them all.
            | "spread shards" >> beam.Reshuffle()
            | "build shards"
            >> needing(SHARD_BYTES, beam.Map(self._build, own, spills), segments.pipeline)
        )

    def is_built(self, segments: Sequence[SegmentCodes], done: Mapping[str, Receipt]) -> bool:
        """Whether all shards of these segments have receipts."""
        bits = self._key_bits([segment.total for segment in segments])
        return all(next(self._unbuilt(one, bits, done), None) is None for one in segments)

    def _key_bits(self, totals: Iterable[int]) -> int:
        return self.key_bits or choose_key_bits_of(sum(totals), self.quantizer)

    def _unbuilt(
        self, segment: SegmentCodes, key_bits: int, done: Mapping[str, Receipt]
    ) -> Iterator[ShardTask]:
        for task in plan_shards(segment, self.quantizer, key_bits):
            receipt = done.get(task.name)
            if receipt is None or receipt.inputs != task.inputs(segment):
                yield task

    def _pieces(
        self, segment: SegmentCodes, totals: Iterable[int]
    ) -> Iterator[tuple[SpillTask, FileEntry | None]]:
        """The pieces of a segment that lacks a shard, each with its spill where it has one."""
        bits = self._key_bits(totals)
        tasks = spills_of(segment, self.quantizer, bits)
        if not tasks:
            return
        done = self.run.receipts(segment.name)
        if next(self._unbuilt(segment, bits, done), None) is None:
            return
        written = {one.name: one.files[0] for one in finished_spills(segment, tasks, done)}
        for task in tasks:
            if task.name in done and task.name not in written:
                self.run.discard(task.name)  # of other codes or another key length
            yield task, written.get(task.name)

    def _spill(
        self, piece: tuple[SpillTask, FileEntry | None], segments: Segments
    ) -> tuple[int, FileEntry]:
        task, written = piece
        if written is None:
            (segment,) = segments[task.segment]
            written = write_spill(self.run, segment, task, self.quantizer).files[0]
        return task.segment, written

    def _missing(
        self, segment: SegmentCodes, totals: Iterable[int], _: Spills
    ) -> Iterator[ShardTask]:
        done = self.run.receipts(segment.name)
        for task in self._unbuilt(segment, self._key_bits(totals), done):
            if task.name in done:
                self.run.discard(task.name)  # of other codes or another key length
            yield task

    def _build(self, task: ShardTask, segments: Segments, spilled: Spills) -> str:
        (segment,) = segments[task.segment]
        spills = list(spilled[task.segment])
        return build_table(self.run, segment, task, self.quantizer, spills).name


def _numbered(segment: SegmentCodes) -> tuple[int, SegmentCodes]:
    return segment.id, segment
