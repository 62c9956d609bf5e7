from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import ModelError
from hashing.features import (
    BALUJA_COVELL,
    FRAMES_PER_BLOCK,
    POWER_FLOOR,
    FeatureConfig,
    filterbank,
    mel_frequencies,
    spectrogram,
)
from hashing.snippets import snippets, standardise
from hashing.synthesis import render_track

# Frames of 32 samples, so that a second of audio is several blocks of the transform.
SMALL = FeatureConfig(
    sample_rate=8000, n_fft=128, hop_length=32, n_bands=8, snippet_frames=5, snippet_hop=3
)


def librosa_db(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """The same spectrogram from librosa, [frames, bands]."""
    power = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        window="hann",
        center=False,
        power=2.0,
        n_mels=config.n_bands,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=False,
        norm=None,
    )
    hann = librosa.filters.get_window("hann", config.n_fft)
    power *= (2.0 / hann.sum()) ** 2  # a full-scale sine is 0 dB in its bin
    return 10.0 * np.log10(np.maximum(power, POWER_FLOOR)).T


@pytest.mark.parametrize("config", [FeatureConfig(), BALUJA_COVELL, SMALL])
@pytest.mark.parametrize("seed", [1, 2])
def test_spectrogram_agrees_with_librosa(config: FeatureConfig, seed: int) -> None:
    music = render_track(seed, 6.0, config.sample_rate)
    cuts = [1, 2, 100, config.n_fft + 3, 9000]
    spec = spectrogram(np.split(music, cuts), config)
    expected = librosa_db(music, config)
    assert spec.shape == expected.shape
    assert spec.dtype == np.float32
    # Below -90 dB the rounding of float32 samples is all that there is.
    heard = expected > -90.0
    assert heard.mean() > 0.9
    np.testing.assert_allclose(spec[heard], expected[heard], atol=0.01)
    assert np.all(spec[~heard] < -89.0)


def test_mel_frequencies_are_librosas() -> None:
    for n, low, high in ((34, 150.0, 3900.0), (5, 0.0, 900.0), (40, 1200.0, 8000.0)):
        expected = librosa.mel_frequencies(n_mels=n, fmin=low, fmax=high, htk=False)
        np.testing.assert_allclose(mel_frequencies(n, low, high), expected, rtol=1e-9)


def test_a_full_scale_sine_has_the_power_that_the_filters_say() -> None:
    config = FeatureConfig()
    # 1,000 Hz is bin 128 of 1,024 at 8 kHz. A Hann window puts a quarter of the power into either
    # neighbour, and the bin itself has a power of one.
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    bank = filterbank(config)
    expected = bank[128] + 0.25 * bank[127] + 0.25 * bank[129]
    spec = spectrogram([tone], config)
    loud = expected > 0.01
    np.testing.assert_allclose(spec[5][loud], 10 * np.log10(expected[loud]), atol=0.01)
    assert spec[5][expected == 0.0].max() < -60.0


def test_half_the_amplitude_is_six_decibels_less() -> None:
    music = render_track(3, 2.0, 8000)
    loud, quiet = (spectrogram([gain * music], FeatureConfig()) for gain in (1.0, 0.5))
    heard = quiet > -80.0
    np.testing.assert_allclose((loud - quiet)[heard], 20 * math.log10(2), atol=0.001)


AUDIO = np.random.default_rng(1).standard_normal(3 * FRAMES_PER_BLOCK * 32 + 1000)
AUDIO = AUDIO.astype(np.float32)


@given(
    size=st.integers(0, AUDIO.size),
    cuts=st.lists(st.integers(0, AUDIO.size), max_size=12),
)
def test_how_the_samples_arrive_changes_no_bit(size: int, cuts: list[int]) -> None:
    samples = AUDIO[:size]
    whole = spectrogram([samples], SMALL)
    split = spectrogram(np.split(samples, sorted(min(cut, size) for cut in cuts)), SMALL)
    assert np.array_equal(whole, split)
    assert whole.shape == (max(0, (size - 128) // 32 + 1), 8)


@pytest.mark.parametrize("step", [1000, 4096, 65_536])
def test_blocks_of_a_decoder_change_no_bit(step: int) -> None:
    music = render_track(4, 30.0, 8000)
    blocks = [music[first : first + step] for first in range(0, music.size, step)]
    whole = spectrogram([music], FeatureConfig())
    assert np.array_equal(whole, spectrogram(blocks, FeatureConfig()))
    # In another order of blocks, the frames are of other audio.
    assert not np.array_equal(whole, spectrogram(blocks[::-1], FeatureConfig()))


def test_no_audio_has_no_frames() -> None:
    for blocks in ([], [np.empty(0, np.float32)], [np.zeros(1023, np.float32)]):
        assert spectrogram(blocks, FeatureConfig()).shape == (0, 64)
    assert spectrogram([np.zeros(1024, np.float32)], FeatureConfig()).shape == (1, 64)


def test_digital_silence_is_the_floor() -> None:
    spec = spectrogram([np.zeros(8000, np.float32)], FeatureConfig())
    np.testing.assert_allclose(spec, -100.0)
    cut, starts = snippets(spec, FeatureConfig())
    assert cut.shape == (0, 64, 28)
    assert starts.size == 0


def test_the_papers_window() -> None:
    # Baluja & Covell 2007: 128 frames of 32 bands, 11.6 ms apart; windows of 371 ms.
    config = BALUJA_COVELL
    assert round(config.n_fft / config.sample_rate, 3) == 0.372
    assert round(1000 * config.frame_s, 1) == 11.6
    assert round(1000 * config.snippet_hop_s) == 116
    cut, starts = snippets(spectrogram([render_track(1, 4.0, 5512)], config), config)
    assert cut.shape[1:] == (32, 128)
    assert starts.tolist() == list(range(0, 10 * len(starts), 10))
    # The last snippet ends within the audio, and another would not.
    last = starts[-1] * 64 + config.snippet_samples
    assert last <= 4 * 5512 < last + 10 * 64
    assert standardise(cut, config).shape == (len(starts), 4096)


def test_a_query_of_one_second_holds_a_snippet() -> None:
    config = FeatureConfig()
    assert config.snippet_samples == 27 * 250 + 1024 == 7774
    spec = spectrogram([render_track(1, 1.0, 8000)], config)
    assert snippets(spec, config)[1].tolist() == [0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sample_rate": "8000"}, "sample_rate='8000' is not a number"),
        ({"silence_db": None}, "silence_db=None is not a number"),
        ({"snippet_hop": True}, "snippet_hop=True is not a number"),
        ({"repeats_short": 1}, "repeats_short=1 is neither true nor false"),
        ({"repeats_short": "true"}, "repeats_short='true' is neither true nor false"),
        ({"repeats_short": None}, "repeats_short=None is neither true nor false"),
        ({"n_fft": 0}, "n_fft=0 is not a count"),
        ({"n_bands": 64.0}, "n_bands=64.0 is not a count"),
        ({"n_bands": 1 << 40}, "is not a count up to 2**20"),
        ({"fmin": 4000.0}, "fmin=4000.0"),
        ({"fmax": 4001.0}, "fmax=4001.0"),
        ({"fmin": math.nan}, "fmin=nan"),
        ({"hop_length": 1025}, "hop_length=1025 is above n_fft=1024"),
        ({"dynamic_range_db": 0.0}, "dynamic_range_db=0.0"),
        ({"silence_db": math.inf}, "silence_db=inf"),
        ({"bands": 64}, "unknown feature settings ['bands']"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        FeatureConfig.from_json(settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_survive_json() -> None:
    for config in (FeatureConfig(), BALUJA_COVELL, FeatureConfig(repeats_short=True)):
        for settings in (dataclasses.asdict(config), config.to_json()):
            assert FeatureConfig.from_json(json.loads(json.dumps(settings))) == config


def test_a_setting_that_models_of_before_lack_is_off() -> None:
    settings = FeatureConfig().to_json()
    assert "repeats_short" not in settings
    assert FeatureConfig.from_json(settings).repeats_short is False
    assert FeatureConfig(repeats_short=True).to_json() == {**settings, "repeats_short": True}
