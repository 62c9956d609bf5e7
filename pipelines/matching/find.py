"""Queries → candidates: embeddings and hash sequences of a piece of the index, a block at a time.

The recordings that embeddings leave are the most alike of the whole index, not of a piece: pieces
are counted first (`count_piece`), and the counts of all of them say what is left
(`settle_block`). Then each piece gives its best candidates (`search_piece`), and the best of these
are the best of all (`gather_block`), whatever the pieces were.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.cascade import likeness, nearest
from hashing.pruning import BINS, bins_of, lowest_bins
from pipelines import io, parquet
from pipelines.matching.job import COUNT, GATHER, PRUNE, SEARCH, MatchJob, Task
from pipelines.matching.queries import Queries
from pipelines.matching.recordings import Recordings, read_recordings

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Candidates of queries: place of the query in the listing, bits, cosine, the recording, and where
# its frames are: number of the file, and row.
CANDIDATES = pa.schema(
    [
        ("query", pa.int64()),
        ("hash_score", pa.float64()),
        ("likeness", pa.float32()),
        ("track_id", pa.string()),
        ("file", pa.int32()),
        ("row", pa.int64()),
    ]
)
# Of equal bits the first by name: files do not decide.
ORDER = [("query", "ascending"), ("hash_score", "ascending"), ("track_id", "ascending")]


def count_piece(job: MatchJob, task: Task, queries: Queries | None) -> dict[str, float]:
    """Counts how many recordings of a piece are how alike to each query of a block."""
    started, recordings = time.thread_time(), 0
    if queries is not None:
        counts = np.zeros((len(queries.numbers), BINS), np.int32)
        for number in job.pieces(COUNT)[task.piece]:
            for batch in read_recordings(job.files[number]):
                recordings += len(batch)
                for row, alike in enumerate(_likeness(queries, batch)):
                    counts[row] += np.bincount(bins_of(alike), minlength=BINS).astype(np.int32)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(counts.reshape(-1)), BINS)
        parquet.write_table(job.work_path(task), pa.table({"counts": flat}))
    return {"recordings": recordings, "cpu_s": time.thread_time() - started}


def settle_block(job: MatchJob, task: Task, queries: Queries | None) -> dict[str, float]:
    """Adds the counts of all pieces, and writes how alike a recording must be to be left."""
    started = time.thread_time()
    if queries is not None:
        counts = np.zeros((len(queries.numbers), BINS), np.int64)
        for piece in range(len(job.pieces(COUNT))):
            table = parquet.read_table(job.work_path(Task(COUNT, task.number, piece)))
            counts += table["counts"].combine_chunks().flatten().to_numpy().reshape(-1, BINS)
        kept = job.settings.kept(int(counts[0].sum()))
        bins = pa.array(lowest_bins(counts, kept), pa.int32())
        parquet.write_table(job.work_path(task), pa.table({"lowest_bin": bins}))
    return {"cpu_s": time.thread_time() - started}


def search_piece(job: MatchJob, task: Task, queries: Queries | None) -> dict[str, float]:
    """Writes the best candidates of each query among the recordings of a piece."""
    counts = dict.fromkeys(
        (
            "recordings",
            "recordings_too_short",
            "pairs",
            "pairs_left",
            "embeddings_cpu_s",
            "hashes_cpu_s",
        ),
        0.0,
    )
    if queries is None:
        return counts
    bins = _lowest(job, task.number, len(queries.numbers))
    best = CANDIDATES.empty_table()
    for number in job.pieces(SEARCH)[task.piece]:
        for batch in read_recordings(job.files[number]):
            counts["recordings"] += len(batch)
            short = np.diff(batch.code_offsets) < job.settings.shortest
            counts["recordings_too_short"] += int(short.sum())
            found = [best]
            for row, query in enumerate(queries.numbers):
                started = time.thread_time()
                alike = _alike(queries, row, batch)
                left = bins_of(alike) >= bins[row]
                pruned = time.thread_time()
                places, bits = _nearest(job, queries.heard, row, batch, left)
                found.append(_candidates(query, batch, places, bits, alike, number))
                counts["embeddings_cpu_s"] += pruned - started
                counts["hashes_cpu_s"] += time.thread_time() - pruned
                counts["pairs"] += len(batch)
                counts["pairs_left"] += int(left.sum())
            best = best_of(pa.concat_tables(found), job.settings.candidates)
    parquet.write_table(job.work_path(task), best)
    return counts


def gather_block(job: MatchJob, task: Task, queries: Queries | None) -> dict[str, float]:
    """Writes the best candidates of each query among those of all pieces."""
    started, best = time.thread_time(), CANDIDATES.empty_table()
    if queries is not None:
        for piece in range(len(job.pieces(SEARCH))):
            found = parquet.read_table(job.work_path(Task(SEARCH, task.number, piece)))
            best = best_of(pa.concat_tables([best, found]), job.settings.candidates)
        parquet.write_table(job.work_path(task), best)
    return {"candidates": best.num_rows, "cpu_s": time.thread_time() - started}


def best_of(table: pa.Table, wanted: int) -> pa.Table:
    """The best so many candidates of each query, in order.

    >>> rows = {"query": [2, 1, 2], "hash_score": [3.0, 5.0, 2.0], "track_id": ["a", "b", "c"]}
    >>> best_of(pa.table(rows), 1)["track_id"].to_pylist()
    ['b', 'c']
    """
    table = table.sort_by(ORDER)
    query = table["query"].to_numpy()
    if not len(query):
        return table
    first = np.flatnonzero(np.diff(query, prepend=query[0] - 1))
    rank = np.arange(len(query)) - np.repeat(first, np.diff([*first, len(query)]))
    return table.filter(pa.array(rank < wanted))


def _nearest(
    job: MatchJob, heard: Recordings, row: int, batch: Recordings, left: Bools
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Places in the batch of the best candidates of a query among those that are left, and bits."""
    chosen, sizes = np.flatnonzero(left), np.diff(batch.code_offsets)
    codes = heard.codes[heard.code_offsets[row] : heard.code_offsets[row + 1]]
    among, offsets = batch.codes, batch.code_offsets
    if len(chosen) < len(batch):
        among = among[np.repeat(left, sizes)]
        offsets = np.concatenate(([0], np.cumsum(sizes[chosen]))).astype(np.int64)
    places, bits = nearest(codes, among, offsets, job.settings)
    return chosen[places], bits


def _candidates(
    query: int,
    batch: Recordings,
    places: npt.NDArray[np.int64],
    bits: npt.NDArray[np.float64],
    alike: Floats,
    file: int,
) -> pa.Table:
    names = [batch.track_ids[place] for place in places.tolist()]
    columns = [
        pa.array(np.full(len(places), query, np.int64)),
        pa.array(bits, pa.float64()),
        pa.array(np.clip(alike[places], -1, 1), pa.float32()),  # but for rounding it is one
        pa.array(names, pa.string()),
        pa.array(np.full(len(places), file, np.int32)),
        pa.array(batch.rows[places], pa.int64()),
    ]
    return pa.table(columns, schema=CANDIDATES)


def _likeness(queries: Queries, batch: Recordings) -> list[Floats]:
    return [_alike(queries, row, batch) for row in range(len(queries.numbers))]


def _alike(queries: Queries, row: int, batch: Recordings) -> Floats:
    heard = queries.heard
    own = heard.embeddings[heard.window_offsets[row] : heard.window_offsets[row + 1]]
    return likeness(own, batch.embeddings, batch.window_offsets)


def _lowest(job: MatchJob, block: int, queries: int) -> npt.NDArray[np.int32]:
    """From which bin on recordings are left of each query; 0 where nothing is left out."""
    if not job.prunes:
        return np.zeros(queries, np.int32)
    table = parquet.read_table(job.work_path(Task(PRUNE, block)))
    return np.asarray(table["lowest_bin"].to_numpy(), np.int32)


def read_candidates(job: MatchJob, block: int, first: int, end: int) -> list[dict[str, object]]:
    """Candidates of the queries from `first` to `end` in the listing, by query, best first."""
    path = job.work_path(Task(GATHER, block))
    if not io.exists(path):
        return []
    table = parquet.read_table(path)
    query = table["query"].to_numpy()
    return list(table.filter(pa.array((query >= first) & (query < end))).to_pylist())
