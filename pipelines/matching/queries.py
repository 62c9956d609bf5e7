"""MIDI files become queries: heard part by part, and read again part by part or block by block."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import pyarrow as pa

from hashing.errors import AudioError
from hashing.scores import ScoreError, hear_score
from hashing.sequences import SequenceEncoder
from pipelines import io, parquet, sequence_files
from pipelines.matching.job import HEAR, MatchJob, Task
from pipelines.matching.recordings import Recordings, as_recordings
from pipelines.midi_folder import read_midi_file
from pipelines.track_tables import FAILURES

CACHED_BLOCKS = 2  # queries that a worker keeps: some 6 MB a block


@dataclasses.dataclass(frozen=True, eq=False)
class Queries:
    """The MIDI files of a block that were heard.

    Attributes:
        numbers: their places in the listing, rising; others could not be heard.
        heard: what was heard of them, without frames.
    """

    numbers: list[int]
    heard: Recordings


def hear_part(job: MatchJob, task: Task, encoder: SequenceEncoder) -> dict[str, float]:
    """Hears the MIDI files of a part; what cannot be heard is a row in ``failures/``."""
    started, failures = time.perf_counter(), list[dict[str, str]]()
    listed = parquet.read_table(job.listing, ["query_id"], row_groups=[task.number])
    kept, midi_s = list[sequence_files.Kept](), 0.0
    for row, query_id in enumerate(listed["query_id"].to_pylist()):
        try:
            found = _hear(job, query_id, encoder)
        except ScoreError as error:
            failures.append(failure(job, query_id, HEAR, error.kind, str(error)))
            continue
        kept.append(sequence_files.keep(row, query_id, found))
        midi_s += len(found.levels) * encoder.features.cqt.frame_s
    if kept:
        tracks = listed.rename_columns(["track_id"])
        sequence_files.write_sequences(job.work_path(task), tracks, kept, encoder.digest)
    else:
        io.remove(job.work_path(task))
    write_failures(job.part_path("failures", task.number), failures)
    heard = {"midi_heard": len(kept), "midi_failed": len(failures), "midi_s": midi_s}
    return {**heard, "s": time.perf_counter() - started}


def _hear(job: MatchJob, query_id: str, encoder: SequenceEncoder) -> Any:
    features = encoder.features
    data = read_midi_file(job.options.midi, query_id)
    sound = job.options.soundfont
    score = hear_score(data, features.cqt, sound, name=query_id, kind=features.score)
    shortest = job.settings.shortest
    if len(score.levels) < shortest * features.downsampling:
        seconds = len(score.levels) * features.cqt.frame_s
        raise ScoreError(
            "too-short",
            f"{query_id} lasts {seconds:.1f} s, less than the {shortest * features.code_s:.1f} s "
            "that are compared; give a longer part of the song",
        )
    try:
        return encoder.hear_levels(score.levels, "score")
    except AudioError as error:
        raise ScoreError(error.kind, f"{query_id}: {error}") from None


def failure(job: MatchJob, query_id: str, stage: str, kind: str, message: str) -> dict[str, str]:
    """A row of ``failures/``."""
    uri = io.join(job.options.midi, query_id)
    named = {"track_id": query_id, "uri": uri, "stage": stage}
    return {**named, "error": kind, "message": " ".join(message.split())}


def write_failures(path: str, rows: list[dict[str, str]]) -> None:
    """Writes rows of ``failures/``, or removes those of an attempt that was killed."""
    if rows:
        parquet.write_table(path, pa.Table.from_pylist(rows, schema=FAILURES))
    else:
        io.remove(path)


def open_part(job: MatchJob, part: int, columns: list[str]) -> tuple[list[int], pa.Table | None]:
    """Places in the listing of the MIDI files of a part that were heard, and what was heard."""
    path = job.work_path(Task(HEAR, part))
    if not io.exists(path):
        return [], None
    listed = parquet.read_table(job.listing, ["query_id"], row_groups=[part])
    first = part * job.queries_per_part
    places = {name: first + row for row, name in enumerate(listed["query_id"].to_pylist())}
    table = parquet.read_table(path, ["track_id", *columns])
    return [places[name] for name in table["track_id"].to_pylist()], table


def read_block(job: MatchJob, block: int) -> Queries | None:
    """The queries of a block; None where none of its MIDI files could be heard."""
    numbers, tables = list[int](), list[pa.Table]()
    for part in job.parts_of(block):
        found, table = open_part(job, part, ["codes", "embeddings"])
        if table is not None:
            numbers += found
            tables.append(table.replace_schema_metadata(None))
    if not tables:
        return None
    return Queries(numbers, as_recordings(job.path("work"), pa.concat_tables(tables)))


class Blocks:
    """The blocks that a worker has read last."""

    def __init__(self, job: MatchJob) -> None:
        self.read = functools.lru_cache(CACHED_BLOCKS)(lambda block: read_block(job, block))
