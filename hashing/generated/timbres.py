"""Instruments of an artist's own: each note scans a row of wavetables, all at once.

One description covers additive, subtractive, plucked and voice-like sounds: a source with its
partials, a low-pass filter that closes along the note, and fixed resonances of the body (or the
vowels of a voice, one after another). Frequency modulation gives partials of its own. A note is
read from six tables of one period, each with the spectrum at one moment, blended in between.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

TABLE = 2048  # points of a period; the nearest one is 57 dB below the tone off
MOMENTS_S = np.array([0.0, 0.04, 0.12, 0.3, 0.7, 1.6])  # of the tables; nothing changes after
PARTIALS = 60
HIGHEST = 0.45  # of the sampling rate: no partial lies above
BODY_OCTAVES = 0.45  # width of a resonance (Gaussian over log frequency)
# Mean formants of a few vowels of adult speakers (Hz), in round numbers: Peterson and Barney,
# "Control methods used in a study of the vowels" (1952).
VOWELS = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
)
LEVEL = 0.1  # root mean square of the loud part of every note: instruments are mixed by level alone


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the instruments of one kind have in common; ranges, from which artists draw.

    `brightness` is where the filter stands at first, in octaves above the note, `darkening` how
    many octaves it closes in all. `shape` is the pick position, the duty cycle or the fall of the
    partials, by source.
    """

    source: str  # saw, pulse, pluck, pipe, voice, fm, bars
    middle: int  # MIDI pitch around which it plays
    seconds: float  # longest note
    attack_s: tuple[float, float]
    decay_s: tuple[float, float]
    brightness: tuple[float, float]
    darkening: tuple[float, float]
    shape: tuple[float, float]
    vibrato_cents: tuple[float, float] = (0.0, 4.0)
    breath: tuple[float, float] = (0.0, 0.01)
    body_db: float = 7.0  # spread of its resonances


# Attack and decay in seconds: what players and makers of such instruments reach, roughly.
KINDS: dict[str, Kind] = {
    "piano": Kind("pluck", 62, 2.5, (0.001, 0.006), (0.5, 1.4), (2.2, 4.2), (1, 3), (0.08, 0.14)),
    "guitar": Kind("pluck", 60, 2.0, (0.001, 0.004), (0.4, 1.2), (2.5, 4.5), (1, 3), (0.1, 0.35)),
    "electric": Kind(
        "pluck", 57, 2.5, (0.001, 0.006), (0.8, 2.5), (3.0, 4.6), (0.2, 1.5), (0.06, 0.3), (0, 18)
    ),
    "harp": Kind("pluck", 67, 2.0, (0.001, 0.003), (0.4, 1.0), (2.0, 4.0), (1.5, 3), (0.3, 0.5)),
    "bass": Kind("pluck", 38, 1.5, (0.002, 0.012), (0.4, 1.2), (2.2, 4.4), (0.6, 2.5), (0.1, 0.4)),
    "upright": Kind("pluck", 38, 1.5, (0.004, 0.015), (0.3, 0.7), (1.5, 3), (1, 2.5), (0.2, 0.5)),
    "organ": Kind("pipe", 60, 3.0, (0.004, 0.03), (9, 30), (3, 6), (0, 0.2), (0.3, 1.3), (0, 22)),
    "flute": Kind(
        "pipe", 74, 2.0, (0.03, 0.12), (3, 9), (1.5, 3.2), (0, 0.5), (1.3, 2.6), (5, 35),
        (0.03, 0.2),
    ),
    "reed": Kind(
        "pulse", 66, 2.0, (0.02, 0.07), (3, 9), (2, 4), (0, 0.8), (0.3, 0.5), (4, 30), (0.01, 0.1)
    ),
    "brass": Kind(
        "saw", 62, 2.0, (0.02, 0.09), (2, 7), (1.8, 3.8), (-0.6, 1), (0.8, 1.2), (3, 25),
        (0.01, 0.06),
    ),
    "violin": Kind(
        "saw", 70, 2.0, (0.04, 0.14), (4, 9), (3, 5), (-0.4, 0.6), (0.8, 1.3), (8, 40), (0.01, 0.07)
    ),
    "strings": Kind(
        "saw", 60, 3.5, (0.08, 0.35), (5, 15), (2.4, 4.4), (-0.3, 0.5), (0.9, 1.4), (4, 22),
        (0.02, 0.1),
    ),
    "voice": Kind(
        "voice", 62, 2.0, (0.03, 0.1), (3, 9), (5, 7), (0, 0.4), (0.7, 1.4), (8, 55), (0.02, 0.15)
    ),
    "epiano": Kind("fm", 60, 2.5, (0.002, 0.008), (0.5, 1.6), (4, 7), (0, 2), (0.4, 2.4), (0, 6)),
    "bell": Kind("fm", 74, 2.5, (0.001, 0.005), (0.4, 1.6), (4, 7), (0, 2), (0.6, 3.0), (0, 4)),
    "mallet": Kind("bars", 70, 1.5, (0.001, 0.004), (0.15, 0.6), (3, 6), (1, 3), (0.6, 1.6)),
    "sawlead": Kind("saw", 69, 2.0, (0.003, 0.05), (1.5, 9), (2, 5), (0, 2.5), (0.9, 1.1), (0, 30)),
    "pulselead": Kind(
        "pulse", 69, 1.5, (0.001, 0.01), (0.3, 6), (4, 7), (0, 1.5), (0.1, 0.5), (0, 25)
    ),
    "triangle": Kind("pulse", 40, 1.5, (0.001, 0.005), (1, 9), (1.2, 2.6), (0, 0.3), (0.45, 0.5)),
    "pad": Kind(
        "saw", 60, 4.0, (0.1, 0.7), (6, 20), (1.4, 3.6), (-1, 1), (0.9, 1.3), (2, 16), (0, 0.08)
    ),
    "synthbass": Kind("saw", 36, 1.5, (0.001, 0.01), (0.3, 3), (2.2, 5), (0.5, 3), (0.8, 1.2)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Instrument:
    """One drawn instrument. Equal instruments sound the same, sample by sample."""

    kind: str
    attack_s: float
    decay_s: float
    brightness: float
    darkening: float
    shape: float
    vibrato_cents: float
    vibrato_hz: float
    breath: float
    even: float  # strength of even partials against odd ones
    ratio: int  # of the modulator, for fm
    tract: float  # length of the vocal tract against the mean, or size of the body
    body: tuple[tuple[float, float], ...]  # resonances: Hz, dB
    vowels: tuple[int, ...]  # for a voice, one for each moment
    seed: int

    @classmethod
    def draw(cls, kind: str, rng: np.random.Generator) -> Instrument:
        """Draw an instrument of a kind of `KINDS`."""
        k = KINDS[kind]
        voice = k.source == "voice"
        hz = 2.0 ** rng.uniform(np.log2(120), np.log2(7000), 5)
        return cls(
            kind,
            float(np.exp(rng.uniform(*np.log(k.attack_s)))),
            float(np.exp(rng.uniform(*np.log(k.decay_s)))),
            rng.uniform(*k.brightness),
            rng.uniform(*k.darkening),
            rng.uniform(*k.shape),
            rng.uniform(*k.vibrato_cents),
            rng.uniform(4.2, 7.2),
            rng.uniform(*k.breath),
            float(rng.choice([1.0, 1.0, rng.uniform(0.05, 0.8)])),
            int(rng.integers(1, 8)),
            float(np.exp(rng.normal(0, 0.13))),
            tuple(
                (float(f), float(g)) for f, g in zip(hz, rng.normal(0, k.body_db, 5), strict=True)
            ),
            tuple(rng.integers(0, len(VOWELS), len(MOMENTS_S)).tolist()) if voice else (),
            int(rng.integers(1 << 30)),
        )

    def vary(self, rng: np.random.Generator, amount: float) -> Instrument:
        """Set the instrument up anew: as another album or another microphone would.

        `amount` is the spread: of levels in units of 4 dB, of times by a factor e ** amount.
        """
        changes: dict[str, Any] = {
            name: getattr(self, name) * float(np.exp(rng.normal(0, amount)))
            for name in ("attack_s", "decay_s", "breath", "vibrato_cents")
        }
        changes["brightness"] = self.brightness + rng.normal(0, amount)
        changes["body"] = tuple((f, g + rng.normal(0, 4.0 * amount)) for f, g in self.body)
        return dataclasses.replace(self, **changes)


@functools.lru_cache(maxsize=384)  # about 70 MB: the notes of one album
def tone(instrument: Instrument, pitch: int, sample_rate: int) -> Samples:
    """Return the longest note [n] of an instrument at a MIDI pitch; shorter ones are cut from it.

    >>> flute = Instrument.draw("flute", np.random.default_rng(0))
    >>> tone(flute, 69, 8000).shape
    (16000,)
    """
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
    kind = KINDS[instrument.kind]
    tables = _tables(instrument, frequency, sample_rate)
    t, segment, blend = _time(kind.seconds, sample_rate)
    depth = (2.0 ** (instrument.vibrato_cents / 1200) - 1) * np.minimum(t * 3, 1)  # sets in late
    turn = 2 * np.pi * instrument.vibrato_hz
    warped = t + depth / turn * np.sin(turn * t + instrument.seed)
    at = (warped * (frequency * TABLE) + TABLE).astype(np.int32) & (TABLE - 1)
    at += segment
    sound: Samples = tables[at]
    at += TABLE
    sound += (tables[at] - sound) * blend
    start = instrument.seed % (_NOISE_SAMPLES - len(t))
    sound += np.float32(instrument.breath) * _noise()[start : start + len(t)]
    sound *= np.exp(t * np.float32(-1 / instrument.decay_s))
    sound *= np.minimum(t * np.float32(1 / instrument.attack_s), 1)
    loud = sound[: sample_rate // 2]
    sound *= np.float32(LEVEL / max(float(np.sqrt(np.mean(loud * loud))), 1e-9))
    sound.setflags(write=False)
    return sound


_NOISE_SAMPLES = 1 << 18


@functools.lru_cache(maxsize=1)
def _noise() -> Samples:
    """Breath and bow: noise of unit variance that lacks its lows."""
    noise = np.random.default_rng(0).standard_normal(_NOISE_SAMPLES + 1).astype(np.float32)
    return np.diff(noise) / np.float32(np.sqrt(2))


@functools.lru_cache(maxsize=32)
def _time(seconds: float, sample_rate: int) -> tuple[Samples, npt.NDArray[np.int32], Samples]:
    """Seconds of each sample, the offset of its table, and how far it is to the next one."""
    t = np.arange(round(seconds * sample_rate), dtype=np.float32) / np.float32(sample_rate)
    place = np.interp(t, MOMENTS_S, np.arange(len(MOMENTS_S)))
    table = np.minimum(place.astype(np.int32), len(MOMENTS_S) - 2)
    return t, table * TABLE, (place - table).astype(np.float32)


def _tables(instrument: Instrument, frequency: float, sample_rate: int) -> Samples:
    """One period for each moment, in a row [moments * TABLE]."""
    n = int(np.clip(HIGHEST * sample_rate / frequency, 1, PARTIALS))
    h = np.arange(1, n + 1)
    hz = h.astype(np.float64) * frequency
    spectrum = np.zeros((len(MOMENTS_S), TABLE // 2 + 1), np.complex64)
    spectrum[:, 1 : n + 1] = _source(instrument, h)
    late = 1 - np.exp(-MOMENTS_S / (0.4 * min(instrument.decay_s, 1.5)))
    # Filters follow the pitch half-way: low notes are brighter in partials, not in Hz.
    corner = np.sqrt(frequency * 261.6) * 2.0 ** (
        instrument.brightness - instrument.darkening * late
    )
    gain = 1 / np.sqrt(1 + (hz / corner[:, None]) ** 4)
    spectrum[:, 1 : n + 1] *= gain * _resonances(instrument, hz)
    table = np.fft.irfft(spectrum, TABLE, axis=1)
    table /= np.sqrt(np.mean(table * table)) + 1e-12
    return table.astype(np.float32).ravel()


def _source(instrument: Instrument, h: npt.NDArray[np.int64]) -> npt.NDArray[np.complex128]:
    """Strengths of partials `h` [n] at each moment [moments, n], before filter and body."""
    source, shape = KINDS[instrument.kind].source, instrument.shape
    rows = np.ones((len(MOMENTS_S), 1))
    partials: npt.NDArray[np.complex128]
    if source == "fm":
        theta = np.arange(TABLE) / TABLE * 2 * np.pi
        index = 0.15 + shape * np.exp(-MOMENTS_S / (0.6 * instrument.decay_s))
        wave = np.sin(theta + index[:, None] * np.sin(instrument.ratio * theta))
        partials = np.fft.rfft(wave, axis=1)[:, h] / TABLE
        return partials
    if source in ("pluck", "pulse"):
        strength = np.sin(np.pi * h * shape) / h
    elif source == "bars":  # a tuned bar: fundamental, double octave, and a third above the third
        strength = np.where(h == 1, 1.0, np.where(h == 4, 0.5, np.where(h == 10, 0.25, 0.0)))
    else:
        strength = h**-shape * np.where(h % 2 == 0, instrument.even, 1.0)
    phases = np.exp(1j * 2 * np.pi * np.random.default_rng(instrument.seed).random(PARTIALS))
    partials = rows * (strength * phases[: len(h)])
    return partials


def _resonances(instrument: Instrument, hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gain of body or mouth at frequencies `hz` [n] for each moment [moments, n]."""
    octaves = np.log2(hz)[None, :]
    db = np.zeros((len(MOMENTS_S), len(hz)))
    for centre, gain in instrument.body:
        db += gain * np.exp(-(((octaves - np.log2(centre)) / BODY_OCTAVES) ** 2))
    for moment, vowel in enumerate(instrument.vowels):
        for number, formant in enumerate(VOWELS[vowel]):
            off = (octaves[0] - np.log2(formant / instrument.tract)) / 0.16
            db[moment] += (22 - 5 * number) * np.exp(-(off**2))
    gains: npt.NDArray[np.float64] = 10 ** (db / 20)
    return gains
