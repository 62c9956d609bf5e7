from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import fftconvolve, find_peaks

from hashing.training import babble as speech
from hashing.training.babble import PAUSE_CHANCE, PITCH_HZ, VOWELS_HZ, babble, voice

RATE = 8000


def drawn(seed: int, seconds: float = 20.0, rate: int = RATE) -> np.ndarray:
    return voice(int(seconds * rate), rate, np.random.default_rng(seed))


@given(n=st.integers(0, 5000), seed=st.integers(0, 99), rate=st.sampled_from([5512, 8000, 22050]))
def test_any_length_at_any_rate(n: int, seed: int, rate: int) -> None:
    one = voice(n, rate, np.random.default_rng(seed))
    many = babble(n, rate, np.random.default_rng(seed), 3)
    for sound in (one, many):
        assert sound.shape == (n,)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()


def test_a_seed_decides_what_is_said() -> None:
    np.testing.assert_array_equal(drawn(1, 2.0), drawn(1, 2.0))
    assert not np.array_equal(drawn(1, 2.0), drawn(2, 2.0))
    first, again = (babble(RATE, RATE, np.random.default_rng(3), 4) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_voice_pauses_between_syllables() -> None:
    shares, runs = [], []
    for seed in range(20):
        silent = drawn(seed) == 0.0
        shares.append(silent.mean())
        edges = np.flatnonzero(np.diff(silent.astype(int), prepend=0))
        # The last pause may be cut by the end.
        runs += (edges[1::2] - edges[: edges.size // 2 * 2 : 2]).tolist()
    # Syllables and pauses have one distribution of lengths.
    assert np.mean(shares) == pytest.approx(PAUSE_CHANCE, abs=0.03)
    assert len(runs) > 200
    assert min(runs) >= int(speech.SYLLABLE_S[0] * RATE)


def test_syllables_come_at_about_four_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "PAUSE_CHANCE", 0.0)
    peaks = 0
    for seed in range(10):
        sound = drawn(seed).astype(np.float64)
        # The level in 50 ms, which holds several periods of the pitch.
        level = 10.0 * np.log10(fftconvolve(sound**2, np.hanning(400), "same") + 1e-9)
        peaks += find_peaks(level, prominence=6.0, distance=int(0.06 * RATE))[0].size
    # Lengths from 0.12 to 0.35 s are 4.3 a second.
    assert peaks / 200 == pytest.approx(2 / sum(speech.SYLLABLE_S), rel=0.1)


@pytest.mark.parametrize("pitch", [110.0, 200.0])
def test_a_voiced_syllable_has_its_pitch_and_its_formants(
    monkeypatch: pytest.MonkeyPatch, pitch: float
) -> None:
    vowel = np.array([[500.0, 1500.0, 2500.0]])
    for name, value in {
        "VOWELS_HZ": vowel,
        "VOICE_SCALE": (1.0, 1.0),
        "PITCH_HZ": (pitch, pitch),
        "GLIDE": 0.0,
        "PAUSE_CHANCE": 0.0,
        "HISS_CHANCE": 0.0,
        "SYLLABLE_S": (1.0, 1.0),
    }.items():
        monkeypatch.setattr(speech, name, value)
    sound = drawn(1, 1.0)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(RATE)))  # bins of one Hz
    harmonics = (pitch * np.arange(1, int(3800 / pitch) + 1)).astype(int)
    between = (harmonics + pitch / 2).astype(int)
    height = np.array([spectrum[at - 5 : at + 6].max() for at in harmonics])
    gaps = np.array([spectrum[at - 5 : at + 6].max() for at in between])
    # A pulse train without a filter against aliasing is no pure one.
    assert np.median(height / gaps) > 5
    # Harmonics at a formant stand out from those half way to the next.
    for formant, valley in ((500, 1000), (1500, 2000), (2500, 3300)):
        near = height[np.abs(harmonics - formant).argmin()]
        far = height[np.abs(harmonics - valley).argmin()]
        assert near > 2 * far


def test_vowels_are_those_of_the_source() -> None:
    # Peterson & Barney (1952), men: the vowels of "heed" and "hod"; formants rise in every vowel.
    assert VOWELS_HZ.shape == (10, 3)
    assert VOWELS_HZ[0].tolist() == [270, 2290, 3010]
    assert VOWELS_HZ[4].tolist() == [730, 1090, 2440]
    assert np.all(np.diff(VOWELS_HZ, axis=1) > 0)
    assert PITCH_HZ[0] < PITCH_HZ[1] < VOWELS_HZ[0, 0]


def test_formants_above_what_a_rate_can_hold_are_left_out() -> None:
    # 3,000 Hz is above half of 5,512 Hz: a resonance there would be heard mirrored.
    sound = drawn(2, 5.0, 5512)
    assert np.isfinite(sound).all()
    assert 0.05 < np.sqrt(np.mean(sound**2)) < 5.0


def test_voices_add_up() -> None:
    def powers(voices: int) -> list[float]:
        return [
            float(np.mean(babble(2 * RATE, RATE, np.random.default_rng(seed), voices) ** 2))
            for seed in range(12)
        ]

    one, eight = np.mean(powers(1)), np.mean(powers(8))
    assert 4 < eight / one < 16
    # Where one speaker pauses another goes on: eight leave no gap.
    many = babble(10 * RATE, RATE, np.random.default_rng(1), 8)
    alone = babble(10 * RATE, RATE, np.random.default_rng(1), 1)
    assert np.mean(many == 0.0) < 0.001 < np.mean(alone == 0.0)
    assert not babble(100, RATE, np.random.default_rng(1), 0).any()
