"""Synthesisers other than soundfonts, and songs in another tuning."""

from __future__ import annotations

import ctypes
import dataclasses
import sys

import numpy as np
import pytest

from hashing.errors import HashbeamError
from hashing.generated import synthesisers
from hashing.generated.instruments import SOUNDS, medley
from hashing.generated.synthesisers import FREEPATS, SONIVOX, play, playable, require, tuned
from hashing.midi import Song
from hashing.rendering import RenderingError

RATE = 24_000
BY_LABEL = {sound.label: sound for sound in SOUNDS}
PLAYERS = ("FluidR3_GM.sf2", FREEPATS, "OPL-3_FM_128M.sf2", SONIVOX)


def notes(program: int, pitches: list[int], seconds: float = 1.0) -> Song:
    n = len(pitches)
    starts = np.arange(n) * seconds
    return Song(
        *(starts, starts + 0.8 * seconds, np.array(pitches), np.full(n, 100)),
        *(np.full(n, program), np.zeros(n, bool), np.zeros(n, np.int64), ("a",)),
        np.arange(0.0, n * seconds + 1, 0.5),
    )


def here(name: str) -> None:
    try:
        require(name)
    except HashbeamError as error:
        pytest.skip(str(error))


def pitch_near(samples: np.ndarray, pitch: int) -> float:
    """MIDI pitch, from where the autocorrelation is highest within half an octave."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * len(samples))) ** 2
    likeness = np.fft.irfft(spectrum)
    middle = RATE / (440.0 * 2.0 ** ((pitch - 69) / 12))
    least, most = int(middle / 2**0.5), int(middle * 2**0.5)
    period = least + int(likeness[least:most].argmax())
    return float(69 + 12 * np.log2(RATE / period / 440))


@pytest.mark.parametrize("name", PLAYERS)
@pytest.mark.parametrize("semitones", [0.0, 4.0, -3.0])
def test_tuned_songs_are_in_tune_and_in_time(name: str, semitones: float) -> None:
    here(name)
    song = notes(73, [72, 76, 79, 72])
    samples = play(tuned(song, semitones), round(RATE * 2 ** (-semitones / 12)), name)
    for start, end, pitch in zip(song.start_s, song.end_s, song.pitch, strict=True):
        heard = samples[int((start + 0.2) * RATE) : int((end - 0.05) * RATE)]
        assert pitch_near(heard, int(pitch)) == pytest.approx(pitch, abs=0.5)
        # Between the notes it is quieter: nothing is late.
        rest = samples[int((end + 0.17) * RATE) : int((start + 1.0) * RATE)]
        assert not len(rest) or np.square(rest).mean() < 0.5 * np.square(heard).mean()


@pytest.mark.parametrize("label", ["clavinet", "harmonica", "violin", "cello", "choir", "tom_tom"])
@pytest.mark.parametrize("name", [FREEPATS, SONIVOX])
def test_every_phrase_is_heard(name: str, label: str) -> None:
    here(name)
    own = playable(BY_LABEL[label], name)
    if own is None:
        return
    song = tuned(medley(own, 4, 1.0, 0.7, 3), 0.0)
    samples = play(song, RATE, name)
    for start in np.arange(4) * 1.7:
        assert np.abs(samples[int(start * RATE) : int((start + 1) * RATE)]).max() > 0.003


def test_tuning_leaves_drums_their_keys() -> None:
    song = dataclasses.replace(notes(0, [36, 40]), is_drum=np.array([True, False]))
    moved = tuned(song, -5.0)
    assert moved.pitch.tolist() == [36, 45]
    assert moved.end_s[-1] < song.end_s[-1]
    assert tuned(notes(0, [2]), 7.0).pitch.tolist() == [0]


def test_classes_have_the_programs_that_a_synthesiser_has() -> None:
    accordion = playable(BY_LABEL["accordion"], FREEPATS)
    assert accordion is not None
    assert accordion.programs == (21, 23)
    choir = playable(BY_LABEL["choir"], FREEPATS)
    assert choir is not None
    assert choir.programs == (53,)
    assert playable(BY_LABEL["pan_flute"], FREEPATS) is None
    for name in ("FluidR3_GM.sf2", SONIVOX):
        assert all(playable(sound, name) is sound for sound in SOUNDS)


def test_notes_out_of_reach_move_by_octaves() -> None:
    song = notes(22, [40, 60, 78, 84, 103])  # the harmonica of Sonivox: 60 to 78
    moved = synthesisers._within_reach(song)
    assert moved.pitch.tolist() == [64, 60, 78, 72, 67]
    assert synthesisers._within_reach(notes(73, [20, 120])).pitch.tolist() == [20, 120]
    drums = dataclasses.replace(song, is_drum=np.ones(5, bool))
    assert synthesisers._within_reach(drums).pitch.tolist() == song.pitch.tolist()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ctypes.CDLL:
        raise OSError(name)

    synthesisers._sonivox.cache_clear()
    monkeypatch.setattr(synthesisers.ctypes, "CDLL", absent)
    with pytest.raises(HashbeamError, match="apt-get install libsonivox3"):
        require(SONIVOX)
    monkeypatch.setattr(synthesisers.shutil, "which", lambda name: None)
    with pytest.raises(HashbeamError, match="apt-get install timidity freepats"):
        require(FREEPATS)
    monkeypatch.setattr(synthesisers, "fluidsynth_command", lambda: sys.executable)
    with pytest.raises(HashbeamError, match=r"none\.sf2: apt-get install"):
        require("none.sf2")


def test_a_synthesiser_that_is_silent_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesisers, "require", lambda name: None)
    monkeypatch.setattr(synthesisers, "played", lambda *rest: bytearray(2000))
    with pytest.raises(RenderingError, match="FreePats plays nothing"):
        play(notes(0, [60]), RATE, FREEPATS)
