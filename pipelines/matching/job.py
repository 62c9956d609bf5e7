"""What every worker must know of a search for recordings, and the folder that it is written to.

::

    OUT/matches/part-*.parquet    recordings of each MIDI file
    OUT/failures/part-*.parquet   MIDI files that could not be heard
    OUT/aligned/                  MIDI files moved to the time of their recordings, if asked for
    OUT/run.json                  counters; written last
    OUT/plan.json OUT/work/       what a stopped run goes on from; work/ is deleted at the end

MIDI files are cut into parts, which are heard and aligned, and parts are put together to blocks,
which are searched for; the index is cut into pieces. A piece of work is a `Task`. It writes what it
makes, and then its receipt: counters, in a file of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hashing.cascade import CascadeSettings
from pipelines import io
from pipelines.matching.recordings import SequenceFile

FORMAT_VERSION = 1

# MIDI files of a part: half a minute of work, most of it alignment, so that nothing much is
# repeated after a stop; more where there are so many that parts would become a crowd of files.
QUERIES_PER_PART = 8
MAX_PARTS = 4096
# MIDI files that are searched for together: their embeddings and codes are some 6 MB, and the
# index is read once for all of them.
QUERIES_PER_BLOCK = 512
# Recordings of a piece, s or min of work for a block, and most pieces: of those that are counted
# each writes up to a few kB a query.
RECORDINGS_PER_PIECE = 4096
MAX_COUNTED_PIECES = 64
MAX_SEARCHED_PIECES = 4096

# In the order in which they are carried out; a step begins when the one before it has ended.
HEAR, COUNT, PRUNE, SEARCH, GATHER, ALIGN = "hear", "count", "prune", "search", "gather", "align"
STEPS = (HEAR, COUNT, PRUNE, SEARCH, GATHER, ALIGN)


@dataclasses.dataclass(frozen=True)
class MatchOptions:
    """What ``hashbeam match-midi`` was asked to do.

    Fields: `index`, `midi`, `out` folders; `model` of sequences where it is not a shipped one or
    has moved; `soundfont` as of `hashing.scores.hear_score`; `share` of recordings that embeddings
    leave, `candidates` that hash sequences leave; `top` matches of `min_score` 0 to 1 and more.
    """

    index: str
    midi: str
    out: str
    model: str | None
    soundfont: str | None
    share: float
    candidates: int
    top: int
    min_score: float
    aligned: bool
    workers: int
    json: bool
    quiet: bool
    progress: bool

    @property
    def settings(self) -> CascadeSettings:
        """How much each stage leaves."""
        return CascadeSettings(share=self.share, candidates=self.candidates)


@dataclasses.dataclass(frozen=True)
class Task:
    """A piece of work: a step for a part or a block, and where there are several a piece of it."""

    step: str
    number: int
    piece: int = 0

    @property
    def name(self) -> str:
        """What its files are called: ``search-00000-00012``."""
        return f"{self.step}-{self.number:05d}-{self.piece:05d}"


@dataclasses.dataclass(frozen=True)
class MatchJob:
    """A search for the recordings of MIDI files; small, and sent to every worker.

    Attributes:
        options: as they were given.
        settings: of the cascade.
        model: folder of the sequence model.
        digest: of it.
        n_midi: MIDI files.
        queries_per_part: of these.
        files: the sequences of the index.
        recordings_per_piece: how files are put together; no result depends on it.
    """

    options: MatchOptions
    settings: CascadeSettings
    model: str
    digest: str
    n_midi: int
    queries_per_part: int
    files: Sequence[SequenceFile]
    recordings_per_piece: int = RECORDINGS_PER_PIECE

    @property
    def n_parts(self) -> int:
        """Parts of the MIDI files."""
        return -(-self.n_midi // self.queries_per_part)

    @property
    def parts_per_block(self) -> int:
        """Parts that are searched for together."""
        return max(1, QUERIES_PER_BLOCK // self.queries_per_part)

    @property
    def n_blocks(self) -> int:
        """Blocks of parts."""
        return -(-self.n_parts // self.parts_per_block)

    def block_of(self, part: int) -> int:
        """The block that a part is in."""
        return part // self.parts_per_block

    def parts_of(self, block: int) -> range:
        """The parts of a block."""
        first = block * self.parts_per_block
        return range(first, min(first + self.parts_per_block, self.n_parts))

    @property
    def prunes(self) -> bool:
        """Whether embeddings leave anything out; where they do not, nothing is counted."""
        recordings = sum(file.rows for file in self.files)
        return self.settings.share < 1 and self.settings.kept(recordings) < recordings

    def pieces(self, step: str) -> list[range]:
        """Numbers of the files of each piece of the index."""
        most = MAX_COUNTED_PIECES if step == COUNT else MAX_SEARCHED_PIECES
        return cut([file.rows for file in self.files], self.recordings_per_piece, most)

    def tasks(self, step: str) -> list[Task]:
        """All of a step."""
        if step in (HEAR, ALIGN):
            return [Task(step, part) for part in range(self.n_parts)]
        if step in (COUNT, PRUNE) and not self.prunes:
            return []
        pieces = range(len(self.pieces(step))) if step in (COUNT, SEARCH) else range(1)
        return [Task(step, block, piece) for block in range(self.n_blocks) for piece in pieces]

    def path(self, *names: str) -> str:
        """Something in the folder of results."""
        return io.join(self.options.out, *names)

    def work_path(self, task: Task) -> str:
        """What a task makes for those that come after it."""
        return self.path("work", task.step, f"{task.name}.parquet")

    def part_path(self, kind: str, part: int, mark: str = "") -> str:
        """``…/matches/part-00012.parquet``."""
        return self.path(kind, f"part-{part:05d}{mark}.parquet")

    @property
    def listing(self) -> str:
        """The MIDI files: `query_id` and `bytes`, a row group a part."""
        return self.path("work", "midi.parquet")

    @property
    def receipts(self) -> str:
        """The folder of receipts."""
        return self.path("work", "receipts")

    def write_receipt(self, task: Task, counts: Mapping[str, float]) -> None:
        """Says that a task is done, and what it counted."""
        data = json.dumps({**counts, "step": task.step}).encode()
        io.write_bytes(io.join(self.receipts, f"{task.name}.json"), data)

    def done(self) -> set[str]:
        """Names of the tasks that have a receipt."""
        names = io.list_dir(self.receipts)
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}


def cut(sizes: Sequence[int], wanted: int, most: int) -> list[range]:
    """Consecutive numbers put together until their sizes are `wanted`; `most` pieces at most.

    >>> cut([3, 3, 3, 9, 1], 5, 10), cut([1, 1, 1, 1], 1, 2)
    ([range(0, 2), range(2, 4), range(4, 5)], [range(0, 2), range(2, 4)])
    """
    wanted = max(wanted, -(-sum(sizes) // most))
    pieces, first, held = [], 0, 0
    for number, size in enumerate(sizes):
        held += size
        if held >= wanted or number == len(sizes) - 1:
            pieces.append(range(first, number + 1))
            first, held = number + 1, 0
    return pieces


def totals(receipts: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Sums of what the tasks of each step have counted.

    >>> totals([{"step": "hear", "s": 1}, {"step": "hear", "s": 2}])["hear"]
    {'s': 3}
    """
    found: dict[str, dict[str, float]] = {step: {} for step in STEPS}
    for receipt in receipts:
        sums = found[receipt["step"]]
        for name, value in receipt.items():
            if name != "step":
                sums[name] = sums.get(name, 0) + value
    return found
