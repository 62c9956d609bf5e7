"""Notes have their pitch and nothing above Nyquist folds down; a studio does what it is set to."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from hashing.generated.drums import PIECES, Kit, hits
from hashing.generated.production import Production, produce
from hashing.generated.timbres import KINDS, LEVEL, Instrument, tone

RATE = 22050
FLAT = Production((0.0,) * 8, 0.5, 0.5, 0.0, 1.0, 0.1, -20.0, 0.0, -120.0, 0.0, 10000.0, 1)


def still(kind: str, seed: int) -> Instrument:
    """An instrument without vibrato and breath."""
    drawn = Instrument.draw(kind, np.random.default_rng(seed))
    return dataclasses.replace(drawn, vibrato_cents=0.0, breath=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_all_energy_of_a_note_lies_at_its_partials(kind: str) -> None:
    pitch = KINDS[kind].middle
    sound = tone(still(kind, 1), pitch, RATE)[:RATE]
    power = np.abs(np.fft.rfft(sound * np.hanning(RATE))) ** 2  # bins of 1 Hz
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    hz = np.arange(len(power))
    off = np.abs(hz - frequency * np.maximum(np.round(hz / frequency), 1))
    # Within 12 Hz: decays and filters that close widen the lines.
    assert power[off < 12].sum() > 0.99 * power.sum()


@pytest.mark.parametrize("kind", ["piano", "sawlead", "pulselead", "bell"])
def test_the_highest_notes_do_not_alias(kind: str) -> None:
    pitch = 100
    sound = tone(still(kind, 2), pitch, RATE)[:RATE]
    power = np.abs(np.fft.rfft(sound * np.hanning(RATE))) ** 2
    lowest = 440 * 2 ** ((pitch - 69) / 12)
    assert power[: int(0.9 * lowest)].sum() < 1e-3 * power.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_instruments_are_equally_loud_and_differ(kind: str) -> None:
    first, second = still(kind, 3), still(kind, 4)
    notes = [tone(player, KINDS[kind].middle, RATE) for player in (first, second)]
    for note in notes:
        assert np.sqrt(np.mean(note[: RATE // 2] ** 2)) == pytest.approx(LEVEL, rel=1e-3)
    assert not np.allclose(*notes, atol=0.01)
    varied = first.vary(np.random.default_rng(1), 0.2)
    assert varied != first
    assert varied.kind == first.kind


def test_every_drum_sounds_and_ends() -> None:
    for style in ("acoustic", "brushes", "electronic", "chip"):
        sounds = hits(Kit.draw(style, np.random.default_rng(5)), RATE)
        assert tuple(sounds) == PIECES
        for sound in sounds.values():
            assert np.isfinite(sound).all()
            assert np.abs(sound).max() > 0.05
            assert np.abs(sound[-10:]).max() < 0.01


def bands(samples: np.ndarray, *edges: float) -> np.ndarray:
    """Level in dB between the edges (Hz)."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    at = [round(edge * len(samples) / RATE) for edge in edges]
    return 10 * np.log10([power[a:b].mean() for a, b in pairwise(at)])


def studio(**settings: object) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    return produce(noise, noise, dataclasses.replace(FLAT, **settings), RATE, 1)  # type: ignore[arg-type]


def test_the_equaliser_lifts_its_band() -> None:
    flat = bands(studio(), 900, 1100, 7000, 9000)
    lifted = bands(studio(eq_db=(0.0,) * 6 + (6.0, 6.0)), 900, 1100, 7000, 9000)
    change = lifted - flat  # loudness is kept, so everything else moves down
    assert change[2] - change[0] == pytest.approx(6, abs=0.5)


def test_bandwidth_is_cut_and_loudness_is_kept() -> None:
    dull = bands(studio(bandwidth_hz=5000.0), 1000, 2000, 9000, 10000)
    assert dull[0] - dull[-1] > 30
    for loudness in (-26.0, -18.0):
        samples = studio(loudness_db=loudness)
        assert 20 * np.log10(samples.std()) == pytest.approx(loudness, abs=0.3)


def test_a_room_goes_on_when_the_music_has_stopped() -> None:
    click = np.zeros(2 * RATE, np.float32)
    click[1000] = 1.0
    dry = produce(click, click, FLAT, RATE, 1)
    wet = produce(click, click, dataclasses.replace(FLAT, wet=0.5, reverb_s=1.0), RATE, 1)
    late = slice(6000, 12000)
    assert np.mean(wet[late] ** 2) / np.mean(wet**2) > 100 * np.mean(dry[late] ** 2) / np.mean(
        dry**2
    )


def test_the_compressor_evens_out_loud_and_soft() -> None:
    x = np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    x[: 2 * RATE] *= 0.1
    ranges = []
    for ratio in (1.0, 4.0):
        y = produce(x, x, dataclasses.replace(FLAT, ratio=ratio), RATE, 1)
        ranges.append(float(20 * np.log10(y[3 * RATE :].std() / y[RATE // 2 : RATE].std())))
    assert ranges[0] == pytest.approx(20, abs=0.5)
    assert ranges[1] < 14


def test_noise_fills_silence() -> None:
    silence = np.zeros(4 * RATE, np.float32)
    noisy = dataclasses.replace(FLAT, noise_db=-50.0)
    assert 20 * np.log10(produce(silence, silence, noisy, RATE, 3).std()) == pytest.approx(
        -50, abs=1
    )
