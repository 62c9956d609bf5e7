"""Codes become hash tables: segments, key ranges, and one shard file for each table and range.

Nothing is shuffled but small descriptions of shards: a worker reads the codes of a segment from
their files and keeps the keys of its own range, so that memory is bounded by `BLOCK_POSTINGS`.
A segment of more postings than that is read once for each of its key ranges and tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from hashing.quantizers import Quantizer
from hashing.tables import (
    BLOCK_POSTINGS,
    build_shard,
    pack_postings,
    plan_key_ranges,
    plan_segments,
)
from pipelines import io, parquet
from pipelines.options import MIN_KEY_BITS
from pipelines.part_files import part_name
from pipelines.runs import Receipt, Run, new_attempt
from pipelines.versions import FileEntry

# Snippets of a segment of which a worker keeps what keys are made of: 64 MB at 64 bytes each.
KEPT_SNIPPETS = 1_000_000
BUCKET_BITS = 2  # keys are so many bits shorter than one bucket for each posting would need


@dataclasses.dataclass(frozen=True)
class SegmentCodes:
    """A segment before its tables: which parts, their code files, and how many snippets each.

    `paths` are files of codes, `tracks_paths` those of the same tracks, `snippets` the rows of
    codes, and `first_gids` the number that each file's first track begins with. `digest` changes
    with any of the files: tables of other files are not taken for these.
    """

    id: int
    parts: range
    paths: list[str]
    tracks_paths: list[str]
    snippets: list[int]
    first_gids: list[int]
    digest: str

    @property
    def total(self) -> int:
        """Snippets of the segment."""
        return sum(self.snippets)


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
        return f"s{self.segment:03d}-t{self.table:02d}-k{self.number:04d}"

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


def read_segments(run: Run, receipts: Mapping[str, Receipt]) -> list[SegmentCodes]:
    """The segments that the receipts of all parts make, in order; none where nothing has a code."""
    first_part = run.plan.first_part
    parts = [receipts[part_name(part)] for part in run.plan.parts]
    gids = [int(receipt.counters["gids"]) for receipt in parts]
    segments = []
    ranges = plan_segments(gids) if any(gids) else []
    for number, chosen in enumerate(ranges, run.plan.first_segment):
        codes, tracks, first_gids, gid = list[FileEntry](), list[FileEntry](), list[int](), 0
        for part in chosen:
            found = [entry for entry in parts[part].files if entry.kind == "codes"]
            codes += found
            tracks += [entry for entry in parts[part].files if entry.kind == "tracks"]
            first_gids += [gid] * len(found)  # none where every track of the part failed
            gid += gids[part]
        digest = hashlib.sha256("".join(entry.sha256 for entry in codes).encode()).hexdigest()
        segments.append(
            SegmentCodes(
                number,
                range(first_part + chosen.start, first_part + chosen.stop),
                [io.join(run.index, entry.path) for entry in codes],
                [io.join(run.index, entry.path) for entry in tracks],
                [entry.rows for entry in codes],
                first_gids,
                digest,
            )
        )
    return segments


def plan_shards(
    segment: SegmentCodes,
    quantizer: Quantizer,
    key_bits: int,
    block_postings: int = BLOCK_POSTINGS,
) -> Iterator[ShardTask]:
    """The shards of a segment, for keys of `key_bits` bits."""
    postings = math.ceil(segment.total * quantizer.replication)
    ranges = plan_key_ranges(postings, key_bits, block_postings)
    for table in range(quantizer.n_tables):
        for number, (key_lo, key_hi) in enumerate(ranges):
            expected = -(-postings // len(ranges))
            yield ShardTask(segment.id, table, number, key_lo, key_hi, expected, key_bits)


def build_table(run: Run, segment: SegmentCodes, task: ShardTask, quantizer: Quantizer) -> Receipt:
    """Builds one shard from the codes of its segment, and writes it and its receipt.

    Memory: 8 bytes for each posting of the range, and one file of codes.

    Raises: HashbeamError where codes cannot be read or the shard cannot be written.
    """
    started, cpu_s = time.time(), time.process_time()
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
    """What keys are made of; that of a small segment is made once for all tables of a worker."""
    made = ((quantizer.key_material(codes), gid) for codes, gid in _codes(segment))
    if segment.total > KEPT_SNIPPETS:
        return made
    # A worker builds the tables of one model.
    if segment.digest not in _kept:
        _kept.clear()
        _kept[segment.digest] = list(made)
    return _kept[segment.digest]


_kept: dict[str, list[tuple[NDArray[np.uint8], int]]] = {}


def _codes(segment: SegmentCodes) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The codes of a segment in runs of consecutive snippets, each with the number of its first."""
    for path, tracks_path, first_gid in zip(
        segment.paths, segment.tracks_paths, segment.first_gids, strict=True
    ):
        table = parquet.read_table(path, ["snippet", "code"]).combine_chunks()
        tracks = parquet.read_table(tracks_path, ["snippets", "gids"])
        chunk = table["code"].chunk(0)
        width = chunk.type.byte_width
        data = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :]
        codes = data[: len(chunk) * width].reshape(-1, width)
        numbers = (column.to_numpy() for column in (table["snippet"], *tracks.columns))
        gids = number_snippets(*numbers) + first_gid
        bounds = [0, *(np.flatnonzero(np.diff(gids) != 1) + 1).tolist(), len(gids)]
        for first, end in itertools.pairwise(bounds):
            yield codes[first:end], int(gids[first])


def number_snippets(
    snippet: NDArray[np.int32], snippets: NDArray[np.integer], gids: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Numbers of the snippets of consecutive tracks, counted through.

    A silent snippet keeps its number, so that numbers within a track tell the time.

    Args:
        snippet: numbers within their tracks, of all tracks one after the other, ``[n]``.
        snippets: how many of them each track has, ``[tracks]``.
        gids: how many numbers each track takes up, ``[tracks]``.

    >>> heard = np.array([0, 1, 3, 5, 6])  # the second track begins with silence
    >>> number_snippets(heard, np.array([3, 2]), np.array([4, 7])).tolist()
    [0, 1, 3, 9, 10]
    """
    firsts: NDArray[np.int64] = np.cumsum(gids, dtype=np.int64) - gids
    numbers = np.repeat(firsts, snippets)
    numbers += snippet
    return numbers


@dataclasses.dataclass
class BuildTables(beam.PTransform[Any, Any]):
    """Segments in, receipts of shards out; what has a receipt of the same inputs is skipped.

    Attributes:
        run: the run whose index it is.
        quantizer: makes keys of codes.
        key_bits: of a key, or None to choose by the number of snippets.
    """

    run: Run
    quantizer: Quantizer
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
        bits = self.key_bits or choose_key_bits(all_segments, self.quantizer)
        done = self.run.receipts()
        for task in plan_shards(segment, self.quantizer, bits):
            receipt = done.get(task.name)
            if receipt is not None and receipt.inputs == task.inputs(segment):
                continue
            if receipt is not None:
                self.run.discard(task.name)  # of other codes or another key length
            yield task

    def _build(self, task: ShardTask, segments: Sequence[SegmentCodes]) -> str:
        segment = next(one for one in segments if one.id == task.segment)
        return build_table(self.run, segment, task, self.quantizer).name
