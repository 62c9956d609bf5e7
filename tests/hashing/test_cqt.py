"""Constant-Q spectra: tones are where they belong, and librosa sees the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hashing import cqt
from hashing.cqt import CqtConfig, log_frames, magnitudes, unit_frames
from hashing.errors import ModelError

CONFIG = CqtConfig()


def tone(pitch: float, seconds: float = 2.0, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * CONFIG.sample_rate)) / CONFIG.sample_rate
    hz = 440 * 2 ** ((pitch - 69) / 12)
    return (amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)


@pytest.mark.parametrize("pitch", [36, 37, 60, 71, 83])
def test_a_tone_has_its_amplitude_in_its_bin_and_little_elsewhere(pitch: int) -> None:
    middle = magnitudes(tone(pitch))[10:-10]
    assert np.all(middle.argmax(axis=1) == pitch - CONFIG.lowest)
    assert middle.max(axis=1) == pytest.approx(0.5, rel=0.02)
    # A semitone away it is 6 dB down, from two on it is gone.
    away = np.abs(CONFIG.pitches - pitch)
    assert middle[:, away == 1].max() == pytest.approx(0.25, rel=0.1)
    assert middle[:, away >= 3].max() < 0.02


@given(st.floats(35.5, 83.4))
def test_any_pitch_is_heard_in_the_nearest_bin(pitch: float) -> None:
    found = magnitudes(tone(pitch))[20]
    if abs(pitch % 1 - 0.5) > 0.05:
        assert CONFIG.pitches[found.argmax()] == round(pitch)


def test_frames_are_centred_and_silence_lies_around() -> None:
    samples = np.zeros(20 * CONFIG.hop_length, np.float32)
    samples[10 * CONFIG.hop_length] = 1.0
    found = magnitudes(samples)
    assert found.shape == (21, 48)
    assert np.all(found.argmax(axis=0) == 10)
    assert found[0].max() == found[-1].max() == 0.0


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 709, 711])
def test_short_audio_has_frames_too(length: int) -> None:
    found = magnitudes(np.ones(length, np.float32))
    assert found.shape == (1 + length // CONFIG.hop_length, 48)
    assert np.isfinite(found).all()


def test_librosa_sees_the_same() -> None:
    import librosa

    rng = np.random.default_rng(0)
    pitches = rng.integers(CONFIG.lowest + 2, CONFIG.lowest + 46, 12)
    samples = np.concatenate([tone(pitch, 0.7) + tone(pitch + 1.0, 0.7, 0.1) for pitch in pitches])
    own = magnitudes(samples)
    reference = librosa.resample(samples, orig_sr=CONFIG.sample_rate, target_sr=11040)
    theirs = np.abs(
        librosa.cqt(
            reference,
            sr=11040,
            hop_length=4 * CONFIG.hop_length,
            fmin=CONFIG.frequencies[0],
            n_bins=48,
            scale=False,
        )
    ).T
    theirs *= CONFIG.frequencies / (CONFIG.q * 11040)  # it sums over the window
    rows = min(len(own), len(theirs))
    strong = own[:rows] > 0.1
    ratio = theirs[:rows][strong] / own[:rows][strong]
    assert np.corrcoef(own[:rows].ravel(), theirs[:rows].ravel())[0, 1] > 0.98
    assert ratio.std() / ratio.mean() < 0.1


def test_level_changes_nothing_and_silence_is_zero() -> None:
    samples = tone(60) + tone(67, amplitude=0.05)
    frames = log_frames(magnitudes(samples))
    assert log_frames(magnitudes(samples / 50)) == pytest.approx(frames, abs=1e-4)
    assert np.linalg.norm(frames, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert not log_frames(magnitudes(np.zeros(5000, np.float32))).any()
    assert not unit_frames(np.zeros((2, 3), np.float32)).any()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sample_rate": 2000}, "above half of sample_rate=2000"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"lowest": 5}, "no MIDI pitch"),
        ({"hop_length": 1.5}, "hop_length=1.5"),
        ({"dynamic_range_db": 0}, "dynamic_range_db"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        CqtConfig(**settings)  # type: ignore[arg-type]


# Levels.

LEVELS = arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.integers(1, 9)),
    elements=st.floats(-130, 0, width=32),
)


@given(LEVELS, st.sampled_from([15.0, 60.0, 90.0]))
def test_packed_levels_are_the_nearest_of_sixteen(levels: np.ndarray, range_db: float) -> None:
    config = CqtConfig(n_bins=levels.shape[1], dynamic_range_db=range_db)
    packed = cqt.pack_levels(levels, config)
    assert packed.shape == (len(levels), config.frame_bytes)
    found = cqt.unpack_levels(packed, config)
    assert found.shape == levels.shape
    inside = np.maximum(levels, -range_db)
    assert np.abs(found - inside).max(initial=0.0) <= range_db / 30 + 1e-4
    # What is packed already stays as it is.
    assert np.array_equal(cqt.pack_levels(found, config), packed)


@given(LEVELS)
def test_heard_frames_are_what_stands_above_the_range(levels: np.ndarray) -> None:
    found = cqt.heard_frames(levels)
    for row, frame in zip(levels.astype(np.float64), found, strict=True):
        above = [max(level + 60.0, 0.0) for level in row]
        norm = sum(value**2 for value in above) ** 0.5
        wanted = [value / norm if norm else 0.0 for value in above]
        assert frame == pytest.approx(wanted, abs=1e-4)
        assert np.linalg.norm(frame) == pytest.approx(float(norm > 0), abs=1e-4)


def test_decibels_are_librosas() -> None:
    from librosa import amplitude_to_db

    amplitudes = np.random.default_rng(1).random((40, 48)).astype(np.float32) ** 8
    least = 1e-5 * amplitudes.max()
    wanted = amplitude_to_db(amplitudes, ref=np.max, amin=least, top_db=None)
    assert np.allclose(cqt.decibels(amplitudes), wanted, atol=1e-3)
    assert np.allclose(cqt.decibels(amplitudes * 7), wanted, atol=1e-3)
    assert np.allclose(cqt.decibels(np.zeros((2, 3), np.float32)), -100)
    assert cqt.decibels(np.zeros((0, 3), np.float32)).shape == (0, 3)
