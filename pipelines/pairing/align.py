"""A part of the candidates is aligned: each MIDI file is played, and laid along its recordings."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing import cqt
from hashing.alignment import align
from hashing.cqt import CqtConfig
from hashing.decoder import Decoder
from hashing.errors import AudioError, HashbeamError
from hashing.scores import ScoreError, hear_score
from hashing.time_pairs import time_pairs
from pipelines import io, parquet
from pipelines.midi_folder import read_midi_file
from pipelines.options import MAX_TRACK_HOURS
from pipelines.pairing.job import FAILURES, MAX_CELLS, PAIRS, SHORTEST_S, PairsJob
from pipelines.time_maps import as_rows

Floats = npt.NDArray[np.float32]
Ear = Callable[[str], Floats]

CONFIG = CqtConfig()
RECORDINGS_HELD = 8  # of a part; files that may mean one track stand together
MAX_RECORDING_S = MAX_TRACK_HOURS * 3600

# `stage`, `error` and `message` stand where a pair could not be aligned.
ALIGNED = pa.schema([*PAIRS, *(field for field in FAILURES if field.name not in PAIRS.names)])


def align_part(job: PairsJob, part: int, ear: Ear) -> tuple[int, int]:
    """Aligns the candidates of a part, and writes what came of it; returns aligned and failed.

    Raises: HashbeamError where something cannot be written; never for a pair.
    """
    rows = parquet.read_table(job.todo_path, row_groups=[part]).to_pylist()
    hear = functools.lru_cache(RECORDINGS_HELD)(ear)
    found: list[dict[str, Any]] = []
    for path, group in itertools.groupby(rows, key=lambda row: row["midi_path"]):
        found += _align_file(job, path, list(group), hear)
    table = pa.Table.from_pylist(found, schema=ALIGNED)
    parquet.write_table(job.part_path("align", part), table)
    failed = sum(row["error"] is not None for row in found)
    return len(found) - failed, failed


def hear_recording(uri: str, decoder: Decoder, timeout_s: float) -> Floats:
    """The frames [t, 48] of a recording, decoded in a child process.

    Raises: AudioError, also for what is too short or silent; HashbeamError where a store fails.
    """
    with io.local_copy(uri) as path:
        blocks = list(
            decoder.blocks(
                path, CONFIG.sample_rate, max_seconds=MAX_RECORDING_S, timeout_s=timeout_s
            )
        )
    samples = np.concatenate([np.zeros(0, np.float32), *blocks])
    seconds = samples.size / CONFIG.sample_rate
    if seconds < SHORTEST_S:
        raise AudioError("too-short", f"{uri} lasts {seconds:.1f} s, less than {SHORTEST_S:g}")
    frames = cqt.log_frames(cqt.magnitudes(samples, CONFIG), CONFIG)
    if not frames.any():
        raise AudioError("silent", f"{uri} is silent: nothing of it can be heard")
    return frames


def _align_file(
    job: PairsJob, path: str, rows: list[dict[str, Any]], hear: Ear
) -> Iterator[dict[str, Any]]:
    """The pairs of one MIDI file as rows of `ALIGNED`."""
    options = job.options
    try:
        data = read_midi_file(options.midi, path)
        levels = hear_score(data, CONFIG, options.soundfont, name=path).levels
    except Exception as error:  # whatever one file does, the others go on
        for row in rows:
            yield _row(row) | _explain(error, "render", path)
        return
    frames = cqt.heard_frames(levels, CONFIG)
    for row in rows:
        stage = "decode"
        try:
            recording = hear(row["uri"])
            stage = "align"
            yield _row(row) | lay_along(frames, recording, options.min_confidence)
        except Exception as error:
            yield _row(row) | _explain(error, stage, row["uri"])


def lay_along(score: Floats, recording: Floats, min_confidence: float) -> dict[str, Any]:
    """The confidence that two sequences of frames are one piece, and how they are aligned.

    The alignment is None below `min_confidence`.

    Raises: HashbeamError where the two are too long to be compared.
    """
    if len(score) * len(recording) > MAX_CELLS:
        minutes = [len(frames) * CONFIG.frame_s / 60 for frames in (score, recording)]
        raise ScoreError(
            "too-long",
            f"{minutes[0]:.1f} minutes against {minutes[1]:.1f} are too long to be aligned; cut "
            "one of them",
        )
    found = align(score, recording, penalty="mean")
    alignment = None
    if found.confidence >= min_confidence:
        midi_s, audio_s = time_pairs(found.path, CONFIG.frame_s)
        alignment = as_rows(midi_s.tolist(), audio_s.tolist())
    return {"confidence": round(found.confidence, 6), "alignment": alignment}


def _row(todo: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(ALIGNED.names) | todo


def _explain(error: Exception, stage: str, name: str) -> dict[str, str]:
    message = " ".join(str(error).split())[:1000]
    shown = message if name in message else f"{name}: {message}"
    if isinstance(error, AudioError | ScoreError):
        return {"stage": stage, "error": error.kind, "message": shown}
    if isinstance(error, HashbeamError | OSError):  # a remote file, or one that has just gone
        return {"stage": stage, "error": "unreadable", "message": shown}
    return {"stage": stage, "error": type(error).__name__, "message": shown}
