"""What tests of disambiguation share: a catalogue of tones, and an encoder that hears their pitch.

The encoder is a stand-in that is exact: the embedding of a tone is a point on a circle, so that a
person can say which tracks must be together.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from hashing.artists.decoder import HeardTrack
from hashing.artists.encoder import TrackEmbedding
from hashing.artists.measures import MEASURES
from hashing.errors import AudioError
from pipelines.cli import main

RATE = 8000  # Hz
CUT = 0.5  # of the stand-in: chords on the unit circle


class PitchEncoder:
    """Hears the pitch of a tone: 500 Hz more is a third of the way around the circle."""

    digest = hashlib.sha256(b"pitch").hexdigest()
    cut = CUT

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._known: dict[str, HeardTrack] = {}  # a thousand tracks may have one file

    def embed_file(self, path: str) -> HeardTrack:
        """The embedding of a file; raises AudioError as the true encoder does."""
        self.heard.append(Path(path).stem)
        if path not in self._known:
            self._known[path] = self._embed(path)
        return self._known[path]

    def _embed(self, path: str) -> HeardTrack:
        if not Path(path).exists():
            raise AudioError("missing", f"{path} does not exist")
        try:
            samples, rate = soundfile.read(path, dtype="float32")
        except soundfile.LibsndfileError:
            raise AudioError("not-audio", f"{path} is no audio") from None
        if not np.abs(samples).max(initial=0):
            raise AudioError("silent", f"{path} is silent")
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        pitch = np.argmax(spectrum) * rate / len(samples)
        angle = 2 * np.pi * pitch / 1500
        point = np.array([np.cos(angle), np.sin(angle), 0], np.float32)
        if pitch > 3500:  # what a broken file may do to a network
            point[:] = np.nan
        measures = np.zeros(len(MEASURES), np.float32)
        measures[2] = pitch  # its brightness
        return HeardTrack(TrackEmbedding(point, 1, len(samples) / rate), measures)


@contextlib.contextmanager
def pitch_encoder(encoder: PitchEncoder | None = None) -> Iterator[PitchEncoder]:
    """Puts the stand-in in the place of every artist model."""
    from pipelines.disambiguation import embed

    encoder = encoder or PitchEncoder()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(embed, "load_encoder", lambda model: encoder)
        ear = contextlib.nullcontext(encoder.embed_file)
        patched.setattr(embed, "open_ear", lambda encoder, job: ear)
        yield encoder


def write_tone(path: Path, pitch: float, seconds: float = 0.5) -> None:
    """A tone in Hz; 0 is silence."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = 0.5 * np.sin(2 * np.pi * pitch * t)
    soundfile.write(path, wave.astype(np.float32), RATE, subtype="FLOAT")


def write_tones(folder: Path, rows: Sequence[dict[str, Any]], name: str = "catalog.jsonl") -> Path:
    """A catalogue of tones, JSON Lines: rows with `track_id`, `pitch` (None: no file), and more.

    A file that is there already stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows:
        pitch = row.get("pitch")
        path = folder / f"{row['track_id']}.wav"
        if pitch is not None and not path.exists():
            write_tone(path, pitch)
        kept = {key: value for key, value in row.items() if key != "pitch"}
        lines.append(json.dumps({"uri": path.name, **kept}) + "\n")
    catalog = folder / name
    catalog.write_text("".join(lines), encoding="utf-8")
    return catalog


def tracks(name: Any, pitches: Sequence[float | None], first: int = 0, **more: Any) -> list[dict]:
    """Rows of one artist name, called after its letters: Nina → nina00, nina01, …"""
    stem = "".join(filter(str.isalnum, str(name).lower()))[:12] or "x"
    return [
        {"track_id": f"{stem}{place:02d}", "artist_name": name, "pitch": pitch, **more}
        for place, pitch in enumerate(pitches, start=first)
    ]


def run(catalog: Path, out: Path, *flags: str) -> int:
    """The exit status of ``hashbeam disambiguate`` in this process."""
    names = ["--catalog", str(catalog), "--out", str(out), "--workers", "1", "--snippets", "0"]
    return main(["disambiguate", *names, *flags])


def clusters(out: Path) -> dict[str, tuple[str | None, int, str]]:
    """Track id → artist name, cluster and status."""
    rows = pq.read_table(out / "clusters.parquet").to_pylist()
    return {row["track_id"]: (row["artist_name"], row["cluster"], row["status"]) for row in rows}


def numbers(out: Path) -> dict[str, int]:
    """Track id → cluster."""
    return {track_id: cluster for track_id, (_, cluster, _) in clusters(out).items()}


def facts(out: Path) -> dict[str, Any]:
    """The content of ``run.json``."""
    return dict(json.loads((out / "run.json").read_text()))


def failures(out: Path) -> dict[str, tuple[str, str]]:
    """Track id → stage and error."""
    files = sorted((out / "failures").glob("*.parquet")) if (out / "failures").exists() else []
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return {row["track_id"]: (row["stage"], row["error"]) for row in rows}


def write_review(path: Path, out: Path, decisions: Sequence[tuple[str, int, list[str]]]) -> Path:
    """A review as the report exports it: (name, artist, track ids)."""
    data = {
        "format": "hashbeam-review",
        "format_version": 1,
        "run": facts(out)["run_id"],
        "decisions": [
            {"name": name, "artist": artist, "tracks": ids} for name, artist, ids in decisions
        ],
        "proposals": [],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path
