"""The codes of a segment before its tables: which files they are in, and how they are numbered."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from hashing.tables import plan_segments
from pipelines import io, parquet
from pipelines.part_files import part_name
from pipelines.runs import Receipt, Run
from pipelines.versions import FileEntry


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
    def name(self) -> str:
        """What the names of all its receipts begin with."""
        return segment_name(self.id)

    @property
    def total(self) -> int:
        """Snippets of the segment."""
        return sum(self.snippets)


def segment_name(number: int) -> str:
    """What the names of receipts of a segment begin with: ``s000-``."""
    return f"s{number:03d}-"


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


def codes_of(
    segment: SegmentCodes, files: range | None = None
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The codes of a segment in runs of consecutive snippets, each with the number of its first.

    Args:
        files: which of its files of codes; None: all.
    """
    for file in range(len(segment.paths)) if files is None else files:
        path, tracks_path = segment.paths[file], segment.tracks_paths[file]
        first_gid = segment.first_gids[file]
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
