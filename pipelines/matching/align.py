"""Candidates → matches: the frames of both are laid along one another, and that decides."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.cascade import confidences
from hashing.matched import match
from hashing.midi import MidiError, aligned_midi
from hashing.scores import ScoreError
from hashing.sequences import SequenceEncoder, SequenceFeatures, TrackSequence
from hashing.time_pairs import thinned
from pipelines import io, parquet
from pipelines.matching.find import read_candidates
from pipelines.matching.job import ALIGN, FORMAT_VERSION, MatchJob, Task
from pipelines.matching.queries import failure, open_part, write_failures
from pipelines.midi_folder import read_midi_file
from pipelines.sequence_files import GROUP_TRACKS, sequences_of
from pipelines.time_maps import ALIGNMENT, as_rows

MATCHES = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.int32()),
        ("track_id", pa.string()),
        ("score", pa.float64()),
        ("path_score", pa.float64()),
        ("hash_score", pa.float64()),
        ("likeness", pa.float32()),
        ("offset_s", pa.float64()),
        ("query_start_s", pa.float64()),
        ("query_end_s", pa.float64()),
        ("alignment", ALIGNMENT),
    ]
)


def align_part(job: MatchJob, task: Task, encoder: SequenceEncoder) -> dict[str, float]:
    """Aligns the queries of a part with their candidates, and writes their matches.

    With ``--aligned``, the MIDI files that have a match are written as well, moved to its time.
    """
    started, part, features = time.thread_time(), task.number, encoder.features
    first, options = part * job.queries_per_part, job.options
    numbers, heard = open_part(job, part, ["codes", "embeddings", "levels"])
    found = read_candidates(job, job.block_of(part), first, first + job.queries_per_part)
    rows: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
    if heard is not None:
        scores = dict(zip(numbers, sequences_of(heard, features.cqt.frame_bytes), strict=True))
        _align_all(job, found, scores, features, rows)
    ids = [] if heard is None else heard["track_id"].to_pylist()
    matches, failures, aligned = list[dict[str, Any]](), list[dict[str, str]](), 0
    for number, query_id in zip(numbers, ids, strict=True):
        own = ranked(rows[number], options.min_score, options.top)
        matches += [{"query_id": query_id, **row} for row in own]
        if options.aligned and own:
            try:
                write_aligned(job, query_id, own[0]["alignment"])
                aligned += 1
            except (MidiError, ScoreError) as error:
                told = f"{query_id} {error}" if isinstance(error, MidiError) else str(error)
                failures.append(failure(job, query_id, ALIGN, "not-aligned", told))
    write_failures(job.part_path("failures", part, "-aligned"), failures)
    metadata = {"hashbeam_format": str(FORMAT_VERSION), "model_digest": job.digest}
    table = pa.Table.from_pylist(matches, schema=MATCHES)
    parquet.write_table(job.part_path("matches", part), table, metadata=metadata)
    return {
        "pairs": len(found),
        "midi_matched": len({row["query_id"] for row in matches}),
        "matches": len(matches),
        "midi_aligned": aligned,
        "midi_not_aligned": len(failures),
        "cpu_s": time.thread_time() - started,
    }


def _align_all(
    job: MatchJob,
    found: list[dict[str, Any]],
    scores: dict[int, TrackSequence],
    features: SequenceFeatures,
    rows: dict[int, list[dict[str, Any]]],
) -> None:
    """Fills `rows`; each row group of frames is read once, and no two are in memory together."""

    def place(one: dict[str, Any]) -> tuple[int, int]:
        return one["file"], one["row"] // GROUP_TRACKS

    for (file, group), ones in itertools.groupby(sorted(found, key=place), place):
        path = job.files[file].path
        table = parquet.read_table(path, row_groups=[group])
        recordings = sequences_of(table, features.cqt.frame_bytes)
        for one in ones:
            recording = recordings[one["row"] % GROUP_TRACKS]
            row = align_pair(scores[one["query"]], recording, features)
            kept = {name: one[name] for name in ("track_id", "hash_score", "likeness")}
            rows[one["query"]].append({**row, **kept})
    for own in rows.values():
        sure = confidences([row["path_score"] for row in own])
        for row, score in zip(own, sure, strict=True):
            row["score"] = score


def align_pair(
    score: TrackSequence, recording: TrackSequence, features: SequenceFeatures
) -> dict[str, Any]:
    """What a match says of how a score and a recording lie along one another.

    Returns:
        `path_score`, which tells how good the alignment is; `alignment` as pairs of seconds;
        `query_start_s` and `query_end_s`, the part of the score that the recording has; `offset_s`,
        the time of the recording at which the score begins, or would.
    """
    found = match(score, recording, features)
    times_s = np.round(np.stack(thinned(found.score_s, found.recording_s), axis=1), 4)
    return {
        "path_score": found.coarse.score,
        "offset_s": round(float(times_s[0, 1] - times_s[0, 0]), 3),
        "query_start_s": round(float(times_s[0, 0]), 3),
        "query_end_s": round(float(times_s[-1, 0]), 3),
        "alignment": as_rows(*times_s.T.tolist()),
    }


def ranked(rows: list[dict[str, Any]], min_score: float, top: int) -> list[dict[str, Any]]:
    """The best `top` of the candidates of a query that are good enough, with their ranks.

    >>> rows = [{"score": s, "hash_score": 5.0, "track_id": n} for s, n in ((0.2, "a"), (0.9, "b"))]
    >>> [(row["rank"], row["track_id"]) for row in ranked(rows, 0.5, 5)]
    [(1, 'b')]
    """
    rows = sorted(rows, key=lambda row: (-row["score"], row["hash_score"], row["track_id"]))
    good = [row for row in rows if row["score"] >= min_score][:top]
    return [{**row, "rank": rank} for rank, row in enumerate(good, 1)]


def write_aligned(job: MatchJob, query_id: str, alignment: list[dict[str, float]]) -> None:
    """Writes a MIDI file at the time of its recording.

    Raises: MidiError or ScoreError where it cannot be moved, or read again.
    """
    data = read_midi_file(job.options.midi, query_id)
    times = ([pair[name] for pair in alignment] for name in ("midi_s", "audio_s"))
    io.write_bytes(
        job.path("aligned", *aligned_name(query_id).split("/")), aligned_midi(data, *times)
    )


def aligned_name(query_id: str) -> str:
    """Where the moved file of a MIDI file stands below ``aligned/``.

    >>> aligned_name("a/b.mid"), aligned_name("b.kar"), aligned_name("../c.MID")
    ('a/b.mid', 'b.kar.mid', '_/c.MID')
    """
    parts = ["_" if part in ("", ".", "..") else part for part in query_id.split("/")]
    name = "/".join(parts)
    return name if name.lower().endswith(".mid") else f"{name}.mid"
