"""Harmony: pitch classes of tones, and what does not depend on the key."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from hashing.artists import harmony
from hashing.artists.timbre import power_spectra

RATE = 22050
C_MAJOR, A_MINOR = (60, 64, 67), (57, 60, 64)


def sound(*chords: tuple[int, ...], seconds: float = 1.0, shift: int = 0) -> np.ndarray:
    """Power spectra of chords of sines, one after another."""
    t = np.arange(int(seconds * RATE)) / RATE
    parts = [
        sum(np.sin(2 * np.pi * 440 * 2 ** ((note + shift - 69) / 12) * t) for note in chord)
        for chord in chords
    ]
    samples = np.concatenate(parts).astype(np.float32) * np.float32(0.1)
    return power_spectra(samples, 4096, 2048)


@pytest.mark.parametrize("note", [57, 60, 66, 71])
def test_the_class_of_a_tone_is_that_of_librosa(note: int) -> None:
    power = sound((note,))
    ours = harmony.chroma(power, RATE).mean(axis=0)
    theirs = librosa.feature.chroma_stft(S=power.T, sr=RATE, n_fft=4096, tuning=0.0).mean(axis=1)
    assert ours.argmax() == theirs.argmax() == note % 12


def test_chroma_has_length_one_and_silence_none() -> None:
    frames = harmony.chroma(sound(C_MAJOR), RATE)
    np.testing.assert_allclose(np.linalg.norm(frames, axis=1), 1.0, atol=1e-2)
    assert not harmony.chroma(np.zeros((3, 2049), np.float32), RATE).any()


def test_the_circle_does_not_depend_on_the_key() -> None:
    # High enough that the transform tells semitones apart.
    low = harmony.chords(sound(C_MAJOR, A_MINOR, shift=17), RATE)
    high = harmony.chords(sound(C_MAJOR, A_MINOR, shift=22), RATE)
    for name in ("chroma circle", "chroma intervals", "chroma steps", "chroma sorted", "key"):
        np.testing.assert_allclose(low[name], high[name], atol=0.06, err_msg=name)
    assert np.abs(low["chroma mean"] - high["chroma mean"]).max() > 0.3


def test_major_and_minor_are_told_apart() -> None:
    # The scales with their chords: tonic, subdominant, dominant.
    major = harmony.chords(sound((60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67)), RATE)
    minor = harmony.chords(sound((60, 63, 67), (65, 68, 72), (67, 70, 74), (60, 63, 67)), RATE)
    assert major["key"][2] > 0 > minor["key"][2]


def test_a_chord_that_is_held_does_not_change() -> None:
    held = harmony.chords(sound(C_MAJOR, C_MAJOR, C_MAJOR), RATE)["chroma change"]
    moved = harmony.chords(sound(C_MAJOR, (62, 65, 69), (59, 62, 67)), RATE)["chroma change"]
    assert held.max() < 0.05 < moved[-1]
    assert (np.diff(moved) > 0).all()  # further apart, less alike


def test_steps_tell_which_way_a_melody_goes() -> None:
    up = harmony.chords(sound(*[(60 + 2 * i,) for i in range(8)], seconds=0.372), RATE)
    down = harmony.chords(sound(*[(76 - 2 * i,) for i in range(8)], seconds=0.372), RATE)
    assert up["chroma steps"][2] > up["chroma steps"][10]
    assert down["chroma steps"][2] < down["chroma steps"][10]


def test_registers_follow_the_octave() -> None:
    low = harmony.registers(sound((45,)), RATE)
    high = harmony.registers(sound((93,)), RATE)
    assert low["octaves"].argmax() == 0  # A2 in the octave from C2
    assert high["octaves"].argmax() == 4  # A6
    assert low["octaves"].sum() == pytest.approx(0.0, abs=1e-3)


def test_noise_is_less_tonal_than_a_chord() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    plain = harmony.registers(power_spectra(noise, 4096, 2048), RATE)
    chord = harmony.registers(sound(C_MAJOR), RATE)
    assert plain["tonality"][2] < chord["tonality"][2]
