"""Piano rolls: a loop over notes and frames says the same, and so does pretty_midi."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import made_up_song

from hashing.cqt import CqtConfig
from hashing.midi import NO_CONTROLS, Controls, Song
from hashing.piano_rolls import piano_roll
from hashing.rendering import PEDAL, held_ends

CONFIG = CqtConfig()
FRAME_S = CONFIG.frame_s


def notes(rows: list[tuple[float, float, int, int]], controls: Controls = NO_CONTROLS) -> Song:
    """A song of one track: start and end in frames, pitch and velocity."""
    start, end, pitch, velocity = (np.array(column) for column in zip(*rows, strict=True))
    zeros = np.zeros(len(rows), np.int64)
    return Song(
        *(start * FRAME_S, end * FRAME_S, pitch, velocity, zeros, zeros.astype(bool), zeros),
        *(("",), np.zeros(0), controls),
    )


def by_loop(song: Song) -> np.ndarray:
    """Frame by frame, what sounds."""
    frames = int(song.duration_s / FRAME_S) + 1
    roll = np.zeros((frames, CONFIG.n_bins))
    ends_s = held_ends(song)
    for note in range(song.pitch.size):
        place = int(song.pitch[note]) - CONFIG.lowest
        if song.is_drum[note] or not 0 <= place < CONFIG.n_bins:
            continue
        start_s, end_s = song.start_s[note], ends_s[note]
        sounding = [t for t in range(frames) if start_s <= t * FRAME_S < end_s]
        after = [t for t in range(frames) if t * FRAME_S >= start_s]
        for t in sounding or after[:1] or [frames - 1]:
            roll[t, place] += song.velocity[note]
    return roll


@given(
    st.lists(
        st.tuples(
            *(st.floats(0, 40), st.floats(0.01, 20)),
            *(st.integers(30, 90), st.integers(1, 127)),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_loop_says_the_same(rows: list[tuple[float, float, int, int]]) -> None:
    song = notes([(start, start + length, *rest) for start, length, *rest in rows])
    found = piano_roll(song)
    assert found.dtype == np.float32
    assert np.array_equal(found, by_loop(song))
    # No note that has a bin is lost.
    own = np.zeros(CONFIG.n_bins, bool)
    bins = song.pitch - CONFIG.lowest
    own[bins[(bins >= 0) & (bins < CONFIG.n_bins)]] = True
    assert np.array_equal(found.any(axis=0), own)


def test_a_short_note_at_the_end_is_in_the_last_frame() -> None:
    found = piano_roll(notes([(0, 3.1, 50, 90), (3.2, 3.4, 60, 70)]))
    assert found.shape == (4, 48)
    assert found[:, 24].tolist() == [0, 0, 0, 70]


def test_drums_are_left_out_and_the_pedal_holds() -> None:
    song = made_up_song(3, 8.0, tracks=2)
    assert np.array_equal(piano_roll(song), by_loop(song))
    assert piano_roll(song).sum() > 0
    only_drums = song.where(song.is_drum)
    assert not piano_roll(only_drums).any()
    column = np.array([0, 0])
    pedal = Controls(np.array([0.0, 8 * FRAME_S]), column, column + PEDAL, np.array([127, 0]))
    held = piano_roll(notes([(0, 2, 60, 80), (11, 12, 40, 80)], pedal))
    assert np.flatnonzero(held[:, 24]).tolist() == list(range(8))


def test_pretty_midi_draws_the_same() -> None:
    """It takes the frame before a note that begins between two; ours the one after."""
    import pretty_midi

    song = made_up_song(5, 12.0, tracks=3, drums=False)
    # Between the frames, where no rounding tells.
    moved = [np.floor(times_s / FRAME_S) + 0.5 for times_s in (song.start_s, song.end_s)]
    moved[1] = np.maximum(moved[1], moved[0] + 1)
    song = dataclasses.replace(song, start_s=moved[0] * FRAME_S, end_s=moved[1] * FRAME_S)
    other = pretty_midi.Instrument(0)
    rows = zip(*(song.velocity, song.pitch, song.start_s, song.end_s), strict=True)
    other.notes = [pretty_midi.Note(*map(float, (v, p, s, e))) for v, p, s, e in rows]
    for note in other.notes:
        note.pitch = int(note.pitch)
    wanted = other.get_piano_roll(fs=1 / FRAME_S)[36:84].T
    found = piano_roll(song)
    assert found.sum() == pytest.approx(wanted.sum())
    assert np.array_equal(found[1:], wanted[: len(found) - 1])
