"""The Beam job: blocks of hash tables → pairs of snippets → pairs of tracks, part by part.

What moves between workers is names of blocks and numbers of parts. Pairs go through files, so that
memory does not grow with the index, and a run that is stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared

from hashing.joining import JoinCounts, Numbering, join_shards
from hashing.shards import Shard
from pipelines import io
from pipelines.duplication.compare import Opened, compare_part, open_parts
from pipelines.duplication.job import TRACKS_PER_PART, Block, BlockReceipt, DuplicatesJob
from pipelines.duplication.numbering import number_tracks
from pipelines.duplication.pair_files import write_pairs
from pipelines.versions import dump_json, open_manifest

# Pairs that are sorted and written at once: 96 MB, and as much again while they are sorted.
FLUSH_PAIRS = 8_000_000


def join_block(
    job: DuplicatesJob, block: Block, numbering: Numbering, flush_pairs: int = FLUSH_PAIRS
) -> BlockReceipt:
    """Joins the buckets of a block, and writes files of pairs and then the block's receipt.

    Raises: HashbeamError where a shard cannot be read, or a file not be written.
    """
    started, counts, names = time.process_time(), JoinCounts(), list[str]()

    def flush(waiting: list[Any]) -> None:
        pairs = np.concatenate(waiting)
        path = job.pairs_path(block.name, len(names))
        write_pairs(path, pairs, job.n_parts, TRACKS_PER_PART)
        names.append(path.removeprefix(job.path("")))
        waiting.clear()

    with _open_shards(block) as shards:
        waiting, held = list[Any](), 0
        found = join_shards(
            shards, block.key_lo, block.key_hi, numbering, job.options.rules, counts
        )
        for pairs in found:
            waiting.append(pairs)
            held += pairs.size
            if held >= flush_pairs:
                flush(waiting)
                held = 0
        if held:
            flush(waiting)
    receipt = BlockReceipt(
        block.name,
        names,
        counts.postings,
        counts.long_buckets,
        counts.long_postings,
        counts.pairs,
        time.process_time() - started,
    )
    io.write_bytes(job.block_path(block.name), dump_json(receipt))
    return receipt


@contextlib.contextmanager
def _open_shards(block: Block) -> Iterator[list[tuple[int, Shard]]]:
    """Segment and shard of each; what lies on an object store is fetched whole, one file a time."""
    with contextlib.ExitStack() as stack:
        yield [
            (segment, Shard.open(stack.enter_context(io.local_copy(path))))
            for segment, path in block.shards
        ]


@dataclasses.dataclass
class FindDuplicates(beam.PTransform[Any, Any]):
    """Blocks → numbers of parts whose pairs of tracks are written.

    Attributes:
        job: what the workers must know.
        blocks: those that are not joined yet.
        parts: those that are not compared yet.
    """

    job: DuplicatesJob
    blocks: Sequence[Block]
    parts: Sequence[int]

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        joined = (
            pbegin
            | "blocks" >> beam.Create(list(self.blocks), reshuffle=False)
            # Moves some hundred bytes a block; without it one worker would join them all.
            | "spread blocks" >> beam.Reshuffle()
            | "join blocks" >> beam.ParDo(JoinBlocks(self.job))
        )
        return (
            pbegin
            | "parts" >> beam.Create(list(self.parts), reshuffle=False)
            # A part needs the pairs of all blocks: waits for their names, which are a few bytes.
            | "after all blocks" >> beam.Map(_first, beam.pvalue.AsList(joined))
            # Moves one number a part; without it one worker would compare them all.
            | "spread parts" >> beam.Reshuffle()
            | "compare parts" >> beam.ParDo(CompareParts(self.job))
        )


def _first(part: int, _: Sequence[str]) -> int:
    return part


class JoinBlocks(beam.DoFn):
    """Blocks in, their names out; one numbering of the tracks a worker."""

    def __init__(self, job: DuplicatesJob) -> None:
        self._job = job
        self._shared = Shared()

    def setup(self) -> None:
        """Numbers the tracks, once for all threads of a worker."""
        index = self._job.options.index
        self._held = self._shared.acquire(lambda: _Held(number_tracks(index, open_manifest(index))))

    def process(self, block: Block) -> Iterable[str]:
        """Joins one block."""
        yield join_block(self._job, block, self._held.numbering).name


@dataclasses.dataclass
class _Held:
    """What `Shared` can hold: something with a weak reference."""

    numbering: Numbering


class CompareParts(beam.DoFn):
    """Numbers of parts in and out; one open index a worker."""

    def __init__(self, job: DuplicatesJob) -> None:
        self._job = job
        self._shared = Shared()

    def setup(self) -> None:
        """Opens the index, once for all threads of a worker."""
        self._opened: Opened = self._shared.acquire(lambda: open_parts(self._job.options))

    def process(self, part: int) -> Iterable[int]:
        """Compares the candidates of one part."""
        compare_part(self._job, part, self._opened)
        yield part
