"""MIDI files made by hand, and songs made up, for tests."""

from __future__ import annotations

import numpy as np

from hashing.midi import Controls, Song

END = bytes([0, 0xFF, 0x2F, 0])


def chunk(kind: bytes, data: bytes) -> bytes:
    return kind + len(data).to_bytes(4, "big") + data


def song(*tracks: bytes, division: int = 96) -> bytes:
    """The bytes of a file of format 1."""
    head = bytes([0, 1, 0, len(tracks)]) + division.to_bytes(2, "big")
    return chunk(b"MThd", head) + b"".join(chunk(b"MTrk", track) for track in tracks)


def note(pitch: int, ticks: int, *, after: int = 0, channel: int = 0, velocity: int = 90) -> bytes:
    """A note; times below 128 ticks."""
    return bytes([after, 0x90 | channel, pitch, velocity, ticks, 0x80 | channel, pitch, 0])


def tempo(beat_us: int, *, after: int = 0) -> bytes:
    return bytes([after, 0xFF, 0x51, 3]) + beat_us.to_bytes(3, "big")


def made_up_song(seed: int, duration_s: float = 40.0, tracks: int = 3, drums: bool = True) -> Song:
    """A song whose melody, chords and so on are drawn; beats at 120 a minute."""
    rng = np.random.default_rng(seed)
    rows = []
    for track in range(tracks + drums):
        is_drum = track == tracks
        for start in np.arange(0, duration_s - 1, rng.choice([0.25, 0.5, 1.0])):
            pitch = (
                36 if is_drum else int(60 + 5 * (track % 9) + rng.choice([0, 2, 4, 5, 7, 9, 11]))
            )
            end = start + float(rng.uniform(0.1, 0.9))
            velocity = int(rng.integers(50, 110))
            rows.append(
                (start, end, pitch, velocity, 0 if is_drum else 8 * (track % 14), is_drum, track)
            )
    rows.sort()
    table = np.array(rows)
    integers = table[:, 2:].astype(np.int64)
    first = np.zeros(tracks, np.int64)
    return Song(
        *(table[:, 0].copy(), table[:, 1].copy()),
        *(integers[:, 0], integers[:, 1], integers[:, 2], integers[:, 3].astype(bool)),
        integers[:, 4],
        tuple(f"track {track}" for track in range(tracks + drums)),
        np.arange(0, duration_s + 0.5, 0.5),
        Controls(np.zeros(tracks), np.arange(tracks), first + 7, first + 100),
    )
