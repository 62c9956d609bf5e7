"""A part of the MIDI files is read: what is played in each, and what it is called."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from hashing.midi_content import content_of, titles_inside
from hashing.scores import MAX_SCORE_S, ScoreError, read_score
from pipelines import parquet
from pipelines.midi_folder import read_midi_file
from pipelines.pairing.job import SHORTEST_S, PairsJob

# `error` and `message` stand where a file could not be read; `exact` is equal for equal strokes.
FILES = pa.schema(
    [
        ("midi_path", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("key", pa.string()),
        ("exact", pa.string()),
        ("inside", pa.list_(pa.string())),
        ("onsets", pa.binary()),
    ]
)


def read_part(job: PairsJob, part: int) -> tuple[int, int]:
    """Reads the MIDI files of a part, and writes what came of it; returns read and broken.

    Raises: HashbeamError where something cannot be written; never for a file.
    """
    paths = parquet.read_table(job.files_path, row_groups=[part])["midi_path"].to_pylist()
    rows = [read_file(job.options.midi, path) for path in paths]
    table = pa.Table.from_pylist(rows, schema=FILES)
    parquet.write_table(job.part_path("read", part), table, use_dictionary=False)
    broken = sum(row["error"] is not None for row in rows)
    return len(rows) - broken, broken


def read_file(root: str, path: str) -> dict[str, Any]:
    """A MIDI file as a row of `FILES`; what is wrong with it stands there as well."""
    row = dict.fromkeys(FILES.names) | {"midi_path": path}
    try:
        data = read_midi_file(root, path)
        song = read_score(data, path)
        if song.duration_s < SHORTEST_S:
            raise ScoreError(
                "too-short",
                f"{path} lasts {song.duration_s:.1f} s, less than {SHORTEST_S:g}: it would lie "
                "somewhere in everything",
            )
        if song.duration_s > MAX_SCORE_S:
            raise ScoreError(
                "too-long",
                f"{path} lasts {song.duration_s / 60:.1f} minutes, more than {MAX_SCORE_S / 60:g}; "
                "cut it into parts",
            )
        content = content_of(song)
        onsets = (content.onsets - content.onsets.min()).astype("<f4").tobytes()
        exact = hashlib.sha256(content.key.encode() + onsets).hexdigest()
        row |= {"key": content.key, "exact": exact, "onsets": onsets}
        row["inside"] = titles_inside(data)
    except ScoreError as error:
        row |= {"error": error.kind, "message": " ".join(str(error).split())}
    except Exception as error:  # whatever one file does, the others go on
        said = " ".join(f"{path}: {error}".split())[:1000]
        row |= {"error": type(error).__name__, "message": said}
    return row
