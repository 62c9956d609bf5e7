"""Timbre: against librosa where it has the same, and by hand where it has not."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from hashing.artists import timbre

RATE = 22050


@pytest.fixture(scope="module")
def power() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(3 * RATE) * np.linspace(0.01, 0.3, 3 * RATE)
    tone = 0.2 * np.sin(2 * np.pi * 440 / RATE * np.arange(3 * RATE))
    return timbre.power_spectra((noise + tone).astype(np.float32), 1024, 512)


def test_power_spectra_are_those_of_librosa(power: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    samples = rng.standard_normal(8192).astype(np.float32)
    ours = timbre.power_spectra(samples, 1024, 512)
    theirs = np.abs(librosa.stft(samples, n_fft=1024, hop_length=512, center=False)).T ** 2
    # A full-scale sine is at 0 dB: the window sums to two.
    np.testing.assert_allclose(ours, theirs * (2.0 / 512.0) ** 2, rtol=1e-3, atol=1e-9)


def test_mel_filters_are_those_of_librosa_with_sums_of_one() -> None:
    ours = timbre.mel_filters(RATE, 1024, 64, 30.0, 10500.0)
    theirs = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=64, fmin=30, fmax=10500, norm=None).T
    np.testing.assert_allclose(ours, theirs / theirs.sum(axis=0), atol=1e-5)


def test_a_filter_narrower_than_a_bin_takes_the_nearest_one() -> None:
    filters = timbre.mel_filters(RATE, 256, 128, 30.0, 10500.0)
    np.testing.assert_allclose(filters.sum(axis=0), 1.0, rtol=1e-5)


def test_mfcc_and_deltas_are_those_of_librosa(power: np.ndarray) -> None:
    bands = timbre.decibel(power @ timbre.mel_filters(RATE, 1024, 64, 30.0, 10500.0), 80.0)
    ours = timbre.mfcc(bands, 20)
    theirs = librosa.feature.mfcc(S=bands.T, n_mfcc=20).T
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    slopes = librosa.feature.delta(theirs, width=5, axis=0)[2:-2]
    np.testing.assert_allclose(timbre.delta(ours), slopes, atol=1e-3)


def test_shape_is_that_of_librosa(power: np.ndarray) -> None:
    hz = timbre.frequencies(power, RATE)
    centre, width = timbre.centroid(power, hz)
    theirs = librosa.feature.spectral_centroid(S=power.T, freq=hz)[0]
    np.testing.assert_allclose(centre, theirs, rtol=1e-4)
    spread = librosa.feature.spectral_bandwidth(S=power.T, freq=hz)[0]
    np.testing.assert_allclose(width, spread, rtol=1e-3)
    found = timbre.shape(power, np.zeros(len(power), np.float32), RATE)["shape mean"]
    for column, share in zip((4, 5, 6), timbre.ROLLOFFS, strict=True):
        rolloff = librosa.feature.spectral_rolloff(S=power.T, freq=hz, roll_percent=share)[0]
        assert found[column] == pytest.approx(np.log2(rolloff + 50.0).mean(), abs=1e-4)
    flatness = librosa.feature.spectral_flatness(S=np.sqrt(power.T), amin=1e-12)[0]
    assert found[7] == pytest.approx(np.log(flatness).mean(), abs=0.01)


def test_zero_crossings_are_those_of_librosa_within_hops() -> None:
    samples = np.random.default_rng(2).standard_normal(2048).astype(np.float32)
    ours = timbre.zero_crossings(samples, 512, 4)
    theirs = [
        librosa.zero_crossings(samples[at : at + 512], pad=False).sum() / 511
        for at in range(0, 2048, 512)
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_contrast_agrees_with_librosa(power: np.ndarray) -> None:
    levels = np.zeros((len(power), 64), np.float32)
    ours = timbre.contrast(power, levels, RATE)
    theirs = librosa.feature.spectral_contrast(
        S=np.sqrt(power.T), sr=RATE, n_fft=1024, fmin=200.0, n_bands=5, quantile=0.1
    ).mean(axis=1)
    # It takes ten logarithms of a magnitude, and a bin more or less at the ends of bands.
    np.testing.assert_allclose(ours["contrast mean"][1:5], 2.0 * theirs[1:5], atol=1.5)


def test_a_tone_stands_out_in_its_octave_alone() -> None:
    rng = np.random.default_rng(3)
    tone = np.sin(2 * np.pi * 1200 / RATE * np.arange(RATE)) + 1e-3 * rng.standard_normal(RATE)
    power = timbre.power_spectra(tone.astype(np.float32), 1024, 512)
    height = timbre.contrast(power, np.zeros((len(power), 8)), RATE)["contrast mean"]
    assert height.argmax() == 3  # 800 to 1600 Hz


def test_bands_do_not_depend_on_level() -> None:
    rng = np.random.default_rng(4)
    levels = rng.normal(-40, 10, (100, 16)).astype(np.float32)
    one, other = timbre.bands(levels), timbre.bands(levels + 6.0)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4)
    np.testing.assert_allclose(one["band deviation"], levels.std(axis=0), rtol=1e-4)
    assert (one["band low"] < one["band mean"]).all()
    assert (one["band high"] > one["band mean"]).all()


def test_correlations_of_cepstra_are_numpys() -> None:
    bands = np.random.default_rng(5).normal(0, 10, (400, 8)).astype(np.float32)
    found = timbre.cepstrum(bands, 4)
    expected = np.corrcoef(timbre.mfcc(bands, 4).T)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(found["mfcc correlation"], expected, atol=0.01)
    assert found["mfcc mean"].shape == (3,)  # the first tells the level


def test_twice_the_level_is_six_decibels_and_nothing_else() -> None:
    samples = np.random.default_rng(6).standard_normal(RATE).astype(np.float32) * 0.1
    one = timbre.dynamics(timbre.power_spectra(samples, 1024, 512), float(abs(samples).max()))
    two = timbre.dynamics(
        timbre.power_spectra(2 * samples, 1024, 512), float(2 * abs(samples).max())
    )
    assert two["level"][0] - one["level"][0] == pytest.approx(6.02, abs=0.01)
    np.testing.assert_allclose(one["dynamics"], two["dynamics"], atol=1e-3)
