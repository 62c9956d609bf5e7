"""Rhythm: clicks whose tempo is known, against librosa where it has the same."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from hashing.artists import rhythm

FRAMES_S = 512 / 22050


def clicks(period_s: float, seconds: float = 10.0, bands: int = 8) -> np.ndarray:
    """Bands in dB that rise every `period_s`, and fall by 30 dB a second in between."""
    times = np.arange(int(seconds / FRAMES_S)) * FRAMES_S
    decay = -30.0 * (times % period_s)
    rng = np.random.default_rng(0)
    levels = decay[:, None] + rng.normal(0, 0.1, (len(times), bands))
    return levels.astype(np.float32)


def test_autocorrelation_is_that_of_librosa_by_overlap() -> None:
    values = np.random.default_rng(1).standard_normal(500).astype(np.float32)
    theirs = librosa.autocorrelate(values)
    theirs = theirs / theirs[0] * 500 / (500 - np.arange(500))
    np.testing.assert_allclose(rhythm.autocorrelation(values), theirs, atol=1e-3)
    assert not rhythm.autocorrelation(np.zeros(10, np.float32)).any()


@pytest.mark.parametrize("period_s", [0.35, 0.5, 0.71])
def test_the_beat_is_the_period_of_clicks(period_s: float) -> None:
    found = rhythm.onsets(clicks(period_s), FRAMES_S)
    assert found["tempo"][0] == pytest.approx(np.log2(period_s), abs=0.16)  # one place off
    strength = rhythm.onset_strength(clicks(period_s))
    theirs = librosa.feature.tempo(onset_envelope=strength, sr=22050, hop_length=512)[0]
    octaves = abs(np.log2(60.0 / theirs) - found["tempo"][0]) % 1.0
    assert min(octaves, 1.0 - octaves) < 0.2


def test_clicks_have_a_clearer_pulse_than_noise() -> None:
    noise = np.random.default_rng(2).normal(0, 5, (430, 8)).astype(np.float32)
    assert rhythm.onsets(clicks(0.5), FRAMES_S)["tempo"][1] > 0.8
    assert rhythm.onsets(noise, FRAMES_S)["tempo"][1] < 0.4


def test_the_shape_of_a_tempogram_does_not_depend_on_the_tempo() -> None:
    slow = rhythm.onsets(clicks(0.6), FRAMES_S)
    fast = rhythm.onsets(clicks(0.5), FRAMES_S)
    near = np.linalg.norm(slow["tempogram shape"] - fast["tempogram shape"])
    noise = np.random.default_rng(3).normal(0, 5, (430, 8)).astype(np.float32)
    far = np.linalg.norm(
        slow["tempogram shape"] - rhythm.onsets(noise, FRAMES_S)["tempogram shape"]
    )
    assert near < far


def test_periods_longer_than_the_segment_have_no_strength() -> None:
    found = rhythm.tempogram(rhythm.onset_strength(clicks(0.25, seconds=1.0)), FRAMES_S)
    assert found[rhythm.PERIODS_S > 1.1].tolist() == [0.0] * int((rhythm.PERIODS_S > 1.1).sum())
    assert np.isfinite(found).all()


def test_modulation_is_at_the_rate_of_the_clicks() -> None:
    times = np.arange(430) * FRAMES_S
    slow = np.repeat(10 * np.sin(2 * np.pi * 1.2 * times)[:, None], 8, axis=1)
    fast = np.repeat(10 * np.sin(2 * np.pi * 8.0 * times)[:, None], 8, axis=1)
    edges_hz = np.array(rhythm.MODULATION_EDGES) / (rhythm.WINDOW * FRAMES_S)
    for hz, bands in ((1.2, slow), (8.0, fast)):
        shares = rhythm.modulation(bands.astype(np.float32))["modulation shares"].reshape(11, 8)
        place = int(shares[:, 0].argmax())
        assert edges_hz[place] <= hz < edges_hz[place + 1]
        assert shares[place, 0] > 0.5


def test_short_segments_are_filled_and_steady_ones_have_no_modulation() -> None:
    steady = rhythm.modulation(np.full((130, 16), -20.0, np.float32))
    assert not steady["modulation"].any()
    assert not steady["modulation shares"].any()
