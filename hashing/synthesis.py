"""Procedural music: tracks that differ from one another, from nothing but a seed.

For the demo, the tests and the benchmarks, which must run without anybody's recordings. Each seed
draws a tempo, a key, a mode, chord progressions for two parts, four voices with timbres of their
own, and a drum pattern; the melody wanders, and timing and loudness vary by a human amount, so
that no two bars of a track are the same samples.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from hashing import audio

STREAM = 0x5EED  # keeps these draws apart from other users of the same seed
MODES = (
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 3, 5, 7, 9, 10),
    (0, 2, 4, 5, 7, 9, 10),
)
PARTIALS = 12
JITTER_S = 0.008  # what separates players from a machine; below what is heard as an echo
PEAK = 0.8
TABLE = 4096  # points of a wavetable: the nearest one is 65 dB below the tone off

_FIRST = (
    "Amber",
    "Cobalt",
    "Distant",
    "Golden",
    "Hollow",
    "Ivory",
    "Lunar",
    "Quiet",
    "Silver",
    "Velvet",
)
_SECOND = (
    "Avenue",
    "Bridge",
    "Engine",
    "Garden",
    "Harbour",
    "Lantern",
    "Meadow",
    "River",
    "Signal",
    "Tower",
)
_BANDS = (
    "Drifters",
    "Ensemble",
    "Foxes",
    "Kites",
    "Lights",
    "Orchestra",
    "Quartet",
    "Rivals",
    "Trio",
    "Waves",
)


@dataclasses.dataclass(frozen=True)
class _Voice:
    """A timbre: strengths of its partials, and how its loudness begins and ends."""

    partials: tuple[float, ...]
    attack_s: float
    decay_s: float  # time constant; long for what sustains
    level: float


def render_track(seed: int, duration_s: float, sample_rate: int = 22050) -> np.ndarray:
    """Return a piece of music as mono float32 [round(duration_s · sample_rate)], peak 0.8.

    The same arguments give the same samples.

    >>> render_track(1, 2.0, 8000).shape
    (16000,)
    """
    total = round(duration_s * sample_rate)
    if seed < 0 or total < 1 or sample_rate < 1000:
        raise ValueError(f"{seed=} {duration_s=} {sample_rate=}: nothing to render")
    rng = np.random.default_rng([STREAM, seed])
    beat_s = 60.0 / rng.uniform(72, 168)
    root, mode = int(rng.integers(38, 50)), MODES[rng.integers(len(MODES))]
    beats = int(rng.choice([3, 4, 4, 4]))  # of a bar
    progressions = rng.integers(0, 7, (2, int(rng.choice([4, 6, 8]))))  # degrees of two parts
    bass, pad, lead, pluck = (_draw_voice(rng, *limits) for limits in _VOICES)
    drums = _draw_drums(rng, beats, sample_rate)
    out = np.zeros(total + sample_rate, np.float32)

    @functools.cache
    def note(voice: _Voice, midi: int, length: int) -> np.ndarray:
        return _render_note(voice, midi, length, sample_rate)

    def play(voice: _Voice, degree: int, octave: int, at_s: float, length_s: float) -> None:
        at = round((at_s + rng.normal(0, JITTER_S)) * sample_rate)
        midi = root + 12 * (octave + degree // 7) + mode[degree % 7]
        # Lengths on a grid of 50 ms, so that most notes have been rendered before.
        sound = note(voice, midi, max(1, round(length_s / 0.05)) * sample_rate // 20)
        _add(out, at, sound, voice.level * rng.uniform(0.7, 1.0))

    tune, bar = int(rng.integers(0, 7)), 0
    while bar * beats * beat_s < duration_s:
        start_s, part = bar * beats * beat_s, bar // progressions.shape[1] % 2
        chord = int(progressions[part, bar % progressions.shape[1]])
        for third in (0, 2, 4):
            play(pad, chord + third, 1, start_s, beats * beat_s)
        for half in range(2 * beats):
            at_s = start_s + half * beat_s / 2
            if half % 2 == 0 or rng.random() < 0.3:
                play(bass, chord + (4 if rng.random() < 0.2 else 0), 0, at_s, beat_s / 2)
            if rng.random() < (0.75 if half % 2 == 0 else 0.45):
                tune = int(np.clip(tune + rng.integers(-2, 3), -3, 11))
                play(lead, tune, 2, at_s, beat_s * rng.choice([0.5, 1.0, 1.5]))
            if part == 1 or rng.random() < 0.2:
                play(pluck, chord + 2 * int(rng.integers(0, 5)), 2, at_s, beat_s / 2)
            for sound, chances in drums:
                if rng.random() < chances[half]:
                    at = round((at_s + rng.normal(0, JITTER_S / 2)) * sample_rate)
                    _add(out, at, sound, rng.uniform(0.6, 1.0))
        bar += 1
    out = out[:total]
    return out * np.float32(PEAK / max(float(np.abs(out).max()), 1e-9))


# Each voice's limits: attack (s), decay (s), level, how fast the partials fall (exponent).
_VOICES = (
    ((0.005, 0.02), (0.3, 0.9), 0.5, (1.2, 2.2)),
    ((0.05, 0.3), (2.0, 6.0), 0.14, (1.0, 2.5)),
    ((0.01, 0.06), (0.4, 2.0), 0.35, (0.7, 1.8)),
    ((0.002, 0.004), (0.1, 0.35), 0.25, (0.6, 1.4)),
)


def _draw_voice(
    rng: np.random.Generator,
    attack_s: tuple[float, float],
    decay_s: tuple[float, float],
    level: float,
    fall: tuple[float, float],
) -> _Voice:
    strengths = rng.uniform(0.15, 1.0, PARTIALS) * np.arange(1, PARTIALS + 1) ** -rng.uniform(*fall)
    if rng.random() < 0.3:  # a closed pipe: odd partials only
        strengths[1::2] *= 0.05
    strengths /= np.abs(strengths).sum()
    partials = tuple(strengths.tolist())
    return _Voice(partials, rng.uniform(*attack_s), rng.uniform(*decay_s), level)


def _render_note(voice: _Voice, midi: int, length: int, sample_rate: int) -> np.ndarray:
    """One note [length + release] by looking up a wavetable that holds no partial above Nyquist."""
    frequency = 440.0 * 2.0 ** ((midi - 69) / 12)
    turns = np.arange(TABLE) / TABLE * 2 * np.pi
    table = np.zeros(TABLE)
    for number, strength in enumerate(voice.partials, 1):
        if number * frequency < 0.45 * sample_rate:
            table += strength * np.sin(number * turns)
    n = length + sample_rate // 10  # released over 0.1 s
    t = np.arange(n, dtype=np.float64)
    sound: np.ndarray = table.astype(np.float32)[
        (t * (frequency * TABLE / sample_rate)).astype(np.int64) % TABLE
    ]
    attack = max(1, round(voice.attack_s * sample_rate))
    envelope = np.exp(t * (-1 / (voice.decay_s * sample_rate))).astype(np.float32)
    envelope[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)[:n]
    envelope[length:] *= np.linspace(1, 0, n - length, dtype=np.float32)
    sound *= envelope
    return sound


def _draw_drums(
    rng: np.random.Generator, beats: int, sample_rate: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kick, snare and hat [n], each with its chance at every half beat of a bar."""
    t = np.arange(sample_rate // 4) / sample_rate
    low, high = rng.uniform(40, 60), rng.uniform(100, 220)
    fall_s = rng.uniform(0.02, 0.05)
    kick = np.sin(2 * np.pi * (low * t - high * fall_s * np.exp(-t / fall_s))) * np.exp(-t / 0.08)
    noise = rng.standard_normal((2, len(t)))
    body = np.sin(2 * np.pi * rng.uniform(150, 260) * t)
    snare = (0.3 * noise[0] + 0.4 * body) * np.exp(-t / rng.uniform(0.04, 0.09))
    hat = np.diff(noise[1], prepend=0.0) * np.exp(-t / rng.uniform(0.01, 0.04))
    half = np.arange(2 * beats)
    chances = (
        np.where(half == 0, 0.98, np.where(half == beats, 0.8, rng.uniform(0.0, 0.25))),
        np.where(half % 4 == 2, 0.95, rng.uniform(0.0, 0.1)),
        np.where(half % 2 == 1, rng.uniform(0.3, 0.95), 0.7),
    )
    levels = (0.5, 0.45, 0.12)
    return [
        ((level * sound).astype(np.float32), chance)
        for level, sound, chance in zip(levels, (kick, snare, hat), chances, strict=True)
    ]


def _add(out: np.ndarray, at: int, sound: np.ndarray, level: float) -> None:
    at = max(0, at)
    n = min(len(sound), len(out) - at)
    if n > 0:
        out[at : at + n] += sound[:n] * np.float32(level)


def render_catalogue(
    folder: str | Path, n_tracks: int, duration_s: float, *, seed: int, codec: str = "ogg"
) -> list[dict[str, Any]]:
    """Write `n_tracks` tagged files and their ``catalog.csv`` to `folder`; returns its rows.

    Rows hold ``track_id``, ``uri`` (relative to the catalogue), ``title``, ``artist_name`` and
    ``album``. Track i is ``render_track(seed + i, …)``; three tracks share an artist and an album.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     render_catalogue(folder, 1, 1.0, seed=1, codec="wav")[0]["uri"]
    'track-0000.wav'
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n_tracks):
        track_id = f"track-{i:04d}"
        path = folder / f"{track_id}.{codec}"
        row = {"track_id": track_id, "uri": path.name, **_names(seed, i)}
        audio.encode(render_track(seed + i, duration_s), 22050, str(path), codec=codec)
        _tag(path, row)
        rows.append(row)
    with (folder / "catalog.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["track_id", "uri", "title", "artist_name", "album"])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _names(seed: int, number: int) -> dict[str, str]:
    artist = number // 3
    titles = np.random.default_rng([STREAM, seed, 1]).permutation(len(_FIRST) * len(_SECOND))
    bands = np.random.default_rng([STREAM, seed, 2]).permutation(len(_FIRST) * len(_BANDS))
    first, second = divmod(int(titles[number % len(titles)]), len(_SECOND))
    adjective, band = divmod(int(bands[artist % len(bands)]), len(_BANDS))
    title = f"{_FIRST[first]} {_SECOND[second]}"
    suffix = f" {number // len(titles) + 1}" if number >= len(titles) else ""
    return {
        "title": title + suffix,
        "artist_name": f"The {_FIRST[adjective]} {_BANDS[band]}",
        "album": f"{_SECOND[(band + adjective) % len(_SECOND)]} Sessions",
    }


def _tag(path: Path, row: dict[str, str]) -> None:
    import mutagen

    file = mutagen.File(path, easy=True)
    if file is None or path.suffix == ".wav":  # RIFF has no tags that players agree on
        return
    if file.tags is None:
        file.add_tags()
    for key, value in (("title", "title"), ("artist", "artist_name"), ("album", "album")):
        file[key] = row[value]
    file.save()
