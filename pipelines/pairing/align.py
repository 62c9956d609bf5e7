"""A part of the candidates is aligned: each MIDI file is played, and laid along its recordings.

As ``hashbeam match-midi`` does it, by hash sequences and frames: that keeps 83 % of the true pairs
with a confidence of 0.5 and more where the published aligner, which has frames only, keeps 55 %
(`tests/benchmarks/bench_pairs.py`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.cascade import confidences
from hashing.decoder import Decoder
from hashing.errors import AudioError, HashbeamError
from hashing.matched import match
from hashing.scores import ScoreError, hear_score
from hashing.sequences import SequenceEncoder, SequenceFeatures, TrackSequence
from hashing.time_pairs import thinned
from pipelines import parquet
from pipelines.allowed import ANYWHERE, Allowed
from pipelines.credentials import one_line
from pipelines.midi_folder import read_midi_file
from pipelines.options import MAX_TRACK_HOURS
from pipelines.pairing.job import FAILURES, MAX_CELLS, PAIRS, SHORTEST_S, PairsJob
from pipelines.time_maps import as_rows
from pipelines.track_tables import MAX_LETTERS

Ear = Callable[[str], TrackSequence]

RECORDINGS_HELD = 8  # of a part; files that may mean one track stand together
MAX_RECORDING_S = MAX_TRACK_HOURS * 3600

# `stage`, `error` and `message` stand where a pair could not be aligned.
ALIGNED = pa.schema([*PAIRS, *(field for field in FAILURES if field.name not in PAIRS.names)])


def align_part(job: PairsJob, part: int, ear: Ear, encoder: SequenceEncoder) -> tuple[int, int]:
    """Aligns the candidates of a part, and writes what came of it; returns aligned and failed.

    Args:
        ear: what hears a recording by its uri, `hear_recording`.
        encoder: what hears MIDI files.

    Raises: HashbeamError where something cannot be written; never for a pair.
    """
    rows = parquet.read_table(job.todo_path, row_groups=[part]).to_pylist()
    hear = functools.lru_cache(RECORDINGS_HELD)(ear)
    found: list[dict[str, Any]] = []
    for path, group in itertools.groupby(rows, key=lambda row: row["midi_path"]):
        found += _align_file(job, path, list(group), hear, encoder)
    table = pa.Table.from_pylist(found, schema=ALIGNED)
    parquet.write_table(job.part_path("align", part), table)
    failed = sum(row["error"] is not None for row in found)
    return len(found) - failed, failed


def hear_recording(
    uri: str,
    decoder: Decoder,
    timeout_s: float,
    encoder: SequenceEncoder,
    allowed: Allowed = ANYWHERE,
) -> TrackSequence:
    """A recording as the model hears it, decoded in a child process.

    Raises: AudioError, also for what is too short or silent; HashbeamError where a store fails.
    """
    rate = encoder.features.cqt.sample_rate
    with allowed.local_copy(uri) as path:
        blocks = list(decoder.blocks(path, rate, max_seconds=MAX_RECORDING_S, timeout_s=timeout_s))
    samples = np.concatenate([np.zeros(0, np.float32), *blocks])
    seconds = samples.size / rate
    if seconds < SHORTEST_S:
        raise AudioError("too-short", f"{uri} lasts {seconds:.1f} s, less than {SHORTEST_S:g}")
    try:
        return encoder.hear(samples)
    except AudioError as error:
        raise AudioError(error.kind, f"{uri}: {error}") from None


def _align_file(
    job: PairsJob, path: str, rows: list[dict[str, Any]], hear: Ear, encoder: SequenceEncoder
) -> Iterator[dict[str, Any]]:
    """The pairs of one MIDI file as rows of `ALIGNED`."""
    options, features = job.options, encoder.features
    try:
        data = read_midi_file(options.midi, path)
        heard = hear_score(data, features.cqt, options.soundfont, name=path, kind=features.score)
        score = encoder.hear_levels(heard.levels, "score")
    except Exception as error:  # whatever one file does, the others go on
        for row in rows:
            yield _row(row) | _explain(error, "render", path)
        return
    for row in rows:
        stage = "decode"
        try:
            recording = hear(row["uri"])
            stage = "align"
            yield _row(row) | lay_along(score, recording, features, options.min_confidence)
        except Exception as error:
            yield _row(row) | _explain(error, stage, row["uri"])


def lay_along(
    score: TrackSequence,
    recording: TrackSequence,
    features: SequenceFeatures,
    min_confidence: float,
) -> dict[str, Any]:
    """The confidence that a score and a recording are one piece, and how they are aligned.

    Each pair by itself, without regard to other candidates: these have the same name, and two of
    them may well be right. The alignment is None below `min_confidence`.

    Raises: ScoreError where the two are too long to be compared.
    """
    if len(score.codes) * len(recording.codes) > MAX_CELLS:
        minutes = [len(one.codes) * features.code_s / 60 for one in (score, recording)]
        raise ScoreError(
            "too-long",
            f"{minutes[0]:.1f} minutes against {minutes[1]:.1f} are too long to be aligned; cut "
            "one of them",
        )
    found = match(score, recording, features)
    (confidence,) = confidences([found.coarse.score])
    alignment = None
    if confidence >= min_confidence:
        midi_s, audio_s = thinned(found.score_s, found.recording_s)
        alignment = as_rows(midi_s.tolist(), audio_s.tolist())
    return {"confidence": round(confidence, 6), "alignment": alignment}


def _row(todo: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(ALIGNED.names) | todo


def _explain(error: Exception, stage: str, name: str) -> dict[str, str]:
    message = one_line(error)[:MAX_LETTERS]
    shown = message if name in message else f"{name}: {message}"
    if isinstance(error, AudioError | ScoreError):
        return {"stage": stage, "error": error.kind, "message": shown}
    if isinstance(error, HashbeamError | OSError):  # a remote file, or one that has just gone
        return {"stage": stage, "error": "unreadable", "message": shown}
    return {"stage": stage, "error": type(error).__name__, "message": shown}
