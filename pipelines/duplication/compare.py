"""A part of the candidates becomes pairs of tracks: their codes are laid over one another."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.joining import PAIR, Candidates, Numbering, count_votes
from hashing.overlaps import Heard, Overlap, lay_over, score
from hashing.search import Searcher
from pipelines import io, parquet
from pipelines.duplication.job import (
    FORMAT_VERSION,
    MIN_VOTES,
    MOST_SHIFTS,
    BlockReceipt,
    DuplicatesJob,
    DuplicatesOptions,
)
from pipelines.duplication.numbering import number_tracks
from pipelines.duplication.pair_files import read_pairs
from pipelines.opened import IndexTracks, open_index
from pipelines.stores import in_turn, is_remote

# Pairs whose codes are read at once: 16 MB for tracks of four minutes. From an object store that is
# one round of requests.
BATCH_PAIRS = 256

# Numbers are kept in the parts, to sort and to group by; ids stand in what is published.
NUMBERS = ("number", "other_number")
PAIRS = pa.schema(
    [
        ("track_id", pa.string()),
        ("other_track_id", pa.string()),
        ("relation", pa.string()),
        ("score", pa.float64()),
        ("overlap_s", pa.float64()),
        ("start_s", pa.float64()),
        ("other_start_s", pa.float64()),
        ("snippets", pa.int32()),
        ("likeness", pa.float64()),
        ("alike_share", pa.float64()),
        ("coverage", pa.float64()),
        ("other_coverage", pa.float64()),
        ("votes", pa.int32()),
        ("isrc", pa.string()),
    ]
)
PART_PAIRS = pa.schema([*((name, pa.uint32()) for name in NUMBERS), *PAIRS])


@dataclasses.dataclass
class Opened:
    """An open index, and its tracks counted through."""

    searcher: Searcher
    tracks: IndexTracks
    numbering: Numbering


def open_parts(options: DuplicatesOptions) -> Opened:
    """The index of the job, opened for `compare_part`."""
    searcher, tracks, manifest = open_index(options.index, options.model)
    return Opened(searcher, tracks, number_tracks(options.index, manifest))


def compare_part(job: DuplicatesJob, part: int, opened: Opened) -> None:
    """Compares the candidates of a part, and writes its pairs of tracks.

    Raises: HashbeamError where something cannot be read or written.
    """
    started = time.process_time()
    candidates = count_votes(_read_part(job, part), MIN_VOTES, MOST_SHIFTS)
    rows, compared = list[dict[str, Any]](), 0
    for batch in _batches(candidates):
        heard = _hear(opened, np.unique([[owner, other] for owner, other, *_ in batch]))
        for owner, other, shifts, votes in batch:
            compared += 1
            overlap = lay_over(heard[owner], heard[other], shifts, opened.searcher.likeness)
            if overlap is not None:
                rows += _row(job, opened, owner, other, overlap, votes)
    rows.sort(key=lambda row: (row["number"], row["other_number"]))
    metadata = {
        "hashbeam_format": str(FORMAT_VERSION),
        "hasher_digest": opened.searcher.hasher.digest,
        "compared": str(compared),
        "shifts": str(candidates.shift.size),
        "cpu_s": str(time.process_time() - started),
    }
    table = pa.Table.from_pylist(rows, schema=PART_PAIRS)
    parquet.write_table(job.part_path(part), table, metadata=metadata)


def read_receipts(job: DuplicatesJob) -> list[BlockReceipt]:
    """The receipts of all blocks that are joined, in the order of their names."""
    folder = job.path("work", "blocks")
    paths = [io.join(folder, name) for name in io.list_dir(folder) if name.endswith(".json")]
    return [
        BlockReceipt.from_json(json.loads(data), path)
        for path, data in zip(paths, io.read_all(paths), strict=True)
        if data is not None
    ]


def _read_part(job: DuplicatesJob, part: int) -> npt.NDArray[np.void]:
    paths = [job.path(name) for receipt in read_receipts(job) for name in receipt.files]

    def read(path: str) -> npt.NDArray[np.void]:
        return read_pairs(path, part, job.n_parts)

    found = in_turn(read, paths, is_remote(job.options.out))
    return np.concatenate([np.empty(0, PAIR), *found])


def _batches(candidates: Candidates) -> Iterator[list[tuple[int, int, list[int], int]]]:
    """Owner, other, shifts and the most votes of each pair, some pairs at a time."""
    new = (np.diff(candidates.owner, prepend=-1) != 0) | (
        np.diff(candidates.other, prepend=-1) != 0
    )
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], candidates.owner.size)
    for first in range(0, starts.size, BATCH_PAIRS):
        batch = []
        for start, end in zip(
            starts[first : first + BATCH_PAIRS].tolist(),
            ends[first : first + BATCH_PAIRS].tolist(),
            strict=True,
        ):
            owner, other = int(candidates.owner[start]), int(candidates.other[start])
            shifts = candidates.shift[start:end].tolist()
            batch.append((owner, other, shifts, int(candidates.votes[start:end].max())))
        yield batch


def _hear(opened: Opened, tracks: npt.NDArray[np.int64]) -> dict[int, Heard]:
    """The codes of tracks, by their numbers."""
    found: dict[int, Heard] = {}
    for segment, base in opened.numbering.bases.items():
        firsts = opened.numbering.firsts[segment]
        mine = tracks[(tracks >= base) & (tracks < base + firsts.size - 1)]
        if not mine.size:
            continue
        bounds_of = (firsts[mine - base].tolist(), firsts[mine - base + 1].tolist())
        spans = [np.arange(first, end) for first, end in zip(*bounds_of, strict=True)]
        codes, heard = opened.searcher.codes.rows(segment, np.concatenate(spans))
        bounds = np.cumsum([0, *map(len, spans)]).tolist()
        for number, track in enumerate(mine.tolist()):
            part = slice(bounds[number], bounds[number + 1])
            found[track] = Heard(codes[part], heard[part])
    return found


def _row(
    job: DuplicatesJob, opened: Opened, owner: int, other: int, overlap: Overlap, votes: int
) -> list[dict[str, Any]]:
    """A pair as a row, the lower track first; none where its score is too low."""
    # An equal ISRC only raises a score: what is far too low with one is not worth reading rows for.
    if score(overlap, isrc_equal=True) < job.options.min_score:
        return []
    facts = {number: _facts(opened, number) for number in (owner, other)}
    codes = [isrc_of(facts[number]) for number in (owner, other)]
    isrc = None if not all(codes) else "equal" if codes[0] & codes[1] else "different"
    value = score(overlap, isrc_equal=isrc == "equal")
    if value < job.options.min_score:
        return []
    features = opened.searcher.hasher.features
    hop_s = features.snippet_hop_s
    first, cover = {}, {}
    first[owner], cover[owner] = overlap.first, overlap.cover_one
    first[other], cover[other] = overlap.first - overlap.shift, overlap.cover_other
    low, high = sorted((owner, other))
    snippet_s = features.snippet_samples / features.sample_rate
    return [
        {
            "number": low,
            "other_number": high,
            "track_id": facts[low]["track_id"],
            "other_track_id": facts[high]["track_id"],
            "relation": overlap.relation,
            "score": value,
            "overlap_s": round((overlap.last - overlap.first) * hop_s + snippet_s, 3),
            "start_s": round(first[low] * hop_s, 3),
            "other_start_s": round(first[high] * hop_s, 3),
            "snippets": overlap.snippets,
            "likeness": overlap.likeness,
            "alike_share": overlap.share,
            "coverage": cover[low],
            "other_coverage": cover[high],
            "votes": votes,
            "isrc": isrc,
        }
    ]


def _facts(opened: Opened, track: int) -> dict[str, Any]:
    """What the catalogue says about a track, by its number."""
    numbering = opened.numbering
    segment = next(
        segment
        for segment, base in numbering.bases.items()
        if base <= track < base + numbering.firsts[segment].size - 1
    )
    first = numbering.firsts[segment][track - numbering.bases[segment]]
    ordinal, _, _ = opened.tracks.locate(segment, np.array([first], np.int64))
    return opened.tracks.row(segment, int(ordinal[0]))


def isrc_of(facts: dict[str, Any]) -> set[str]:
    """The ISRCs of a row of a catalogue, as letters and digits: labels print hyphens, rows do not.

    >>> sorted(isrc_of({"isrc": "us-rc1-76-07839; GBAYE0601498"})), isrc_of({})
    (['GBAYE0601498', 'USRC17607839'], set())
    """
    value = facts.get("isrc") or ""
    codes = value if isinstance(value, list) else str(value).split(";")
    plain = ("".join(filter(str.isalnum, str(code))).upper() for code in codes)
    return {code for code in plain if code}
