from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.conditions import (
    CODECS,
    ROOM_SECONDS,
    Condition,
    Surroundings,
    add_noise,
    clip,
    coloured_noise,
    equalise,
    power,
    reverberate,
    room_response,
)
from hashing.errors import UsageError
from hashing.synthesis import render_track

RATE = 8000


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return render_track(1, 3.0, RATE)


def decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)


def lag(wet: np.ndarray, dry: np.ndarray) -> int:
    """Samples by which `wet` comes later, where the two look most alike."""
    n = 2 * dry.size
    spectrum = np.fft.rfft(wet, n) * np.conj(np.fft.rfft(dry, n))
    at = int(np.argmax(np.fft.irfft(spectrum, n)))
    return at if at < dry.size else at - n


@given(
    snr_db=st.floats(-20, 40),
    gain=st.floats(0.01, 10),
    length=st.integers(1, 9000),
)
def test_noise_is_as_far_below_the_music_as_asked(snr_db: float, gain: float, length: int) -> None:
    rng = np.random.default_rng(length)
    tone = np.sin(np.arange(8000, dtype=np.float32) * 0.3)
    noise = (gain * (1 + rng.random(length))).astype(np.float32)
    mixed = add_noise(tone, noise, snr_db)
    assert mixed.dtype == np.float32
    assert mixed.shape == tone.shape
    added = mixed.astype(np.float64) - tone
    assert abs(decibels(np.mean(tone.astype(float) ** 2) / np.mean(added**2)) - snr_db) < 0.05


def test_noise_is_repeated_where_it_is_short() -> None:
    mixed = add_noise(np.ones(6, np.float32), np.array([1, -1, 0], np.float32), 0.0)
    # Its power is 2/3, so it is raised by the square root of 3/2.
    np.testing.assert_allclose(mixed - 1, np.sqrt(1.5) * np.array([1, -1, 0] * 2), atol=1e-6)


def test_silence_has_no_ratio_to_noise() -> None:
    silence, noise = np.zeros(100, np.float32), np.ones(100, np.float32)
    np.testing.assert_array_equal(add_noise(silence, noise, 0.0), silence)
    np.testing.assert_array_equal(add_noise(noise, silence, 0.0), noise)
    np.testing.assert_array_equal(add_noise(noise, np.empty(0, np.float32), 0.0), noise)


@pytest.mark.parametrize(("exponent", "slope_db"), [(0.0, 0.0), (1.0, -3.01), (2.0, -6.02)])
def test_coloured_noise_falls_with_frequency(exponent: float, slope_db: float) -> None:
    noise = coloured_noise(1 << 17, exponent, np.random.default_rng(1))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [spectrum[1 << k : 2 << k].mean() for k in range(8, 15)]
    slopes = np.diff([decibels(value) for value in octaves])
    np.testing.assert_allclose(slopes, slope_db, atol=0.7)
    assert noise.dtype == np.float32


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_noise_has_the_length_asked_for(n: int, exponent: float) -> None:
    assert coloured_noise(n, exponent, np.random.default_rng(1)).shape == (n,)


@pytest.mark.parametrize("rt60_s", [0.2, 0.5, 1.0])
def test_a_room_decays_by_60_db_in_its_reverberation_time(rt60_s: float) -> None:
    # The mean over many rooms shows the envelope.
    rng = np.random.default_rng(2)
    energy = np.mean([room_response(RATE, rt60_s, rng) ** 2 for _ in range(200)], axis=0)
    assert np.all(energy[1 : int(0.005 * RATE)] == 0)  # nothing between direct sound and tail
    early, late = (
        energy[int(at * RATE) : int(at * RATE) + 400].mean() for at in (0.01, 0.01 + rt60_s / 2)
    )
    assert abs(decibels(early / late) - 30.0) < 1.0
    # Direct and diffuse energy are about equal, and the response is bounded.
    assert 0.8 < energy[1:].sum() / energy[0] < 1.05
    assert energy.size == int(min(ROOM_SECONDS, 1.2 * rt60_s) * RATE) + 1


def test_a_room_without_tail_changes_nothing(music: np.ndarray) -> None:
    np.testing.assert_allclose(reverberate(music, np.array([0.5], np.float32)), music, atol=1e-5)


def test_time_before_the_direct_sound_is_cut(music: np.ndarray) -> None:
    response = np.zeros(500, np.float32)
    response[123] = 2.0
    np.testing.assert_allclose(reverberate(music, response), music, atol=1e-5)


def test_reverberation_is_convolution() -> None:
    rng = np.random.default_rng(3)
    dry = rng.standard_normal(400).astype(np.float32)
    response = np.concatenate(([3.0], rng.standard_normal(90))).astype(np.float32)
    expected = np.convolve(dry.astype(float), response)[:400]
    expected *= np.sqrt(np.mean(dry.astype(float) ** 2) / np.mean(expected**2))
    np.testing.assert_allclose(reverberate(dry, response), expected, atol=1e-4)


def test_an_equaliser_has_the_gains_asked_for() -> None:
    t = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * f * t).astype(np.float32) for f in (1000, 3000))
    # Knots at 0, 1, 2, 3 and 4 kHz.
    np.testing.assert_allclose(equalise(low, [0, 6, 0, 0, 0]), low * 10 ** (6 / 20), atol=1e-3)
    np.testing.assert_allclose(equalise(high, [0, 6, 0, -20, 0]), high * 0.1, atol=1e-3)
    both = equalise(low + high, [0, 6, 0, -20, 0])
    np.testing.assert_allclose(both, low * 10 ** (6 / 20) + high * 0.1, atol=1e-3)
    # Half-way between knots the gain in dB is the mean.
    middle = np.sin(2 * np.pi * 1500 * t).astype(np.float32)
    np.testing.assert_allclose(
        equalise(middle, [0, 6, 0, 0, 0]), middle * 10 ** (3 / 20), atol=1e-3
    )


def test_the_loudest_share_is_clipped() -> None:
    ramp = np.linspace(-1, 1, 1001).astype(np.float32)
    for share in (0.1, 0.5):
        out = clip(ramp, share)
        assert abs(np.mean(np.abs(out) >= np.abs(out).max() - 1e-6) - share) < 0.01
        assert abs(out.max() - (1 - share)) < 0.01
        quiet = np.abs(ramp) < 0.99 - share
        np.testing.assert_array_equal(out[quiet], ramp[quiet])
    np.testing.assert_array_equal(clip(np.zeros(9, np.float32), 0.5), 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: add_noise(x, coloured_noise(x.size, 1.0, np.random.default_rng(1)), 0.0),
        lambda x: reverberate(x, room_response(RATE, 0.5, np.random.default_rng(1))),
        lambda x: equalise(x, [0, 3, -8, 5, -4]),
        lambda x: clip(x, 0.05),
        *(
            lambda x, name=name: Surroundings(RATE).degrade(
                x, Condition.parse(name), np.random.default_rng(1)
            )
            for name in ("mp3", "opus", "reverb+ambience@5+mp3")
        ),
    ],
)
def test_time_and_type_are_kept(
    music: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    before = music.copy()
    out = change(music)
    assert out.shape == music.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert not np.array_equal(out, music)
    np.testing.assert_array_equal(music, before)
    assert abs(lag(out, music)) <= 8  # 1 ms


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clean", Condition("clean")),
        ("white@5", Condition("white@5", noise="white", snr_db=5.0)),
        ("ambience@-3", Condition("ambience@-3", noise="ambience", snr_db=-3.0)),
        ("reverb", Condition("reverb", reverb=True)),
        ("mp3", Condition("mp3", codec="mp3")),
        (
            "opus+white@0+reverb",
            Condition("opus+white@0+reverb", True, "white", 0.0, "opus"),
        ),
        ("clean+mp3", Condition("clean+mp3", codec="mp3")),
    ],
)
def test_names_of_conditions(name: str, expected: Condition) -> None:
    assert Condition.parse(name) == expected


@pytest.mark.parametrize(
    "name", ["", "+", "noisy", "white", "white@", "white@1000", "pink@5", "mp3@5", "reverb+", "MP3"]
)
def test_a_step_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Condition.parse(name)
    text = str(caught.value)
    assert f"condition {name!r}: no step" in text
    assert all(word in text for word in ("clean", "white@DB", "ambience@DB", "reverb", *CODECS))


@pytest.mark.parametrize("name", ["mp3+opus", "white@5+ambience@0", "opus+reverb+opus"])
def test_two_of_a_kind_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="one noise and one codec at most"):
        Condition.parse(name)


def test_clean_is_untouched(music: np.ndarray) -> None:
    out = Surroundings(RATE).degrade(music, Condition("clean"), np.random.default_rng(1))
    np.testing.assert_array_equal(out, music)


def test_recordings_are_used_where_there_are_some(music: np.ndarray) -> None:
    hum = np.sin(np.arange(700, dtype=np.float32))
    room = np.zeros(50, np.float32)
    room[[10, 40]] = 1.0, -0.5
    air = Surroundings(RATE, [hum], [room])
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(air.room(rng), room)
    ambience = air.ambience(2000, rng)
    assert ambience.shape == (2000,)
    np.testing.assert_array_equal(ambience[:700], ambience[700:1400])  # repeated
    np.testing.assert_allclose(np.sort(ambience[:700]), np.sort(hum))  # from a random place on
    wet = air.degrade(music, Condition("reverb", reverb=True), rng)
    expected = music.astype(float)
    expected[30:] -= 0.5 * music[:-30]
    scale = np.sqrt(power(music) / np.mean(expected**2))
    np.testing.assert_allclose(wet, expected * scale, atol=1e-4)


def test_room_comes_before_noise(music: np.ndarray) -> None:
    # The noise is not reverberated: what is left without the wet music is white.
    air = Surroundings(RATE)
    wet = air.degrade(music, Condition.parse("reverb"), np.random.default_rng(7))
    both = air.degrade(music, Condition.parse("reverb+white@0"), np.random.default_rng(7))
    noise = (both - wet).astype(np.float64)
    assert abs(decibels(power(wet) / np.mean(noise**2))) < 0.05
    neighbours = np.mean(noise[1:] * noise[:-1]) / np.mean(noise**2)
    assert abs(neighbours) < 0.03


def test_the_generator_decides(music: np.ndarray) -> None:
    condition = Condition.parse("reverb+ambience@5")
    first, same, other = (
        Surroundings(RATE).degrade(music, condition, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
