"""Tunes: what is found in a MIDI file, and what is cut out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hashing.generated.tunes import SCALES, Tune, excerpt, pitches, read_tune, tune_files, tune_of
from hashing.midi import MidiFile, MidiTrack


def track(name: str, rows: list[tuple[float, float, int]]) -> MidiTrack:
    start, length, pitch = (np.array(column) for column in zip(*rows, strict=True))
    full = np.full(len(rows), 90)
    return MidiTrack(name, start.astype(float), length.astype(float), pitch, full, full * 0)


def in_key(tonic: int, upbeat: float = 0.0) -> MidiFile:
    """Eight bars of I IV V I in a major key, a scale above it, all `upbeat` beats late."""
    roots = [0, 5, 7, 0] * 2
    chords = [
        (upbeat + 4.0 * bar, 4.0, 48 + tonic + root + third)
        for bar, root in enumerate(roots)
        for third in (0, 4, 7)
    ]
    scale = [*SCALES["major"], 12, *reversed(SCALES["major"]), 0]
    notes = [(upbeat + 2.0 * i, 2.0, 72 + tonic + s) for i, s in enumerate(scale)]
    steps = [(upbeat + 2.0 * i + 1, 0.5, 72 + tonic) for i in range(12)]
    return MidiFile((track("PIANO", chords), track("MELODY", sorted(notes + steps))), 4.0)


@pytest.mark.parametrize("tonic", [0, 3, 10])
@pytest.mark.parametrize("upbeat", [0.0, 1.0, 3.0])
def test_key_bars_melody_and_chords_are_found(tonic: int, upbeat: float) -> None:
    tune = tune_of(in_key(tonic, upbeat))
    assert tune is not None
    assert tune.bar == 4.0
    assert tune.start[0] == 0.0
    assert not tune.accidental.any()
    assert tune.chords[:16].tolist() == [0, 0, 3, 3, 4, 4, 0, 0] * 2
    longer = tune.length > 0.5
    assert (tune.step[longer] % 7).tolist()[:8] == [0, 1, 2, 3, 4, 5, 6, 0]


def test_too_few_notes_are_no_tune() -> None:
    assert tune_of(MidiFile((track("MELODY", [(0.0, 1.0, 60)]),), 4.0)) is None
    assert tune_of(MidiFile((), 4.0)) is None


def test_broken_files_are_no_tune(tmp_path: Path) -> None:
    (tmp_path / "b.mid").write_bytes(b"MThd nothing")
    (tmp_path / "a.txt").write_bytes(b"")
    assert tune_files(tmp_path) == [tmp_path / "b.mid"]
    assert read_tune(tmp_path / "b.mid") is None


@pytest.mark.parametrize(("first", "bars"), [(0, 1), (3, 4), (7, 20)])
def test_an_excerpt_has_its_bars_and_wraps_around(first: int, bars: int) -> None:
    steps = np.arange(32)
    tune = Tune(np.arange(32.0), np.ones(32), steps, steps * 0, np.arange(16) % 7, 4.0)
    cut = excerpt(tune, first, bars)
    assert cut.beats == 4.0 * bars
    assert cut.start.tolist() == list(range(4 * bars))
    assert cut.step.tolist() == [(4 * first + i) % 32 for i in range(4 * bars)]
    assert cut.chords.tolist() == [(2 * first + i) % 16 % 7 for i in range(2 * bars)]


@pytest.mark.parametrize("name", SCALES)
def test_seven_steps_are_an_octave(name: str) -> None:
    steps = np.arange(-14, 15)
    heights = pitches(steps, SCALES[name])
    assert np.all(np.diff(heights) > 0)
    assert np.array_equal(pitches(steps + 7, SCALES[name]), heights + 12)
