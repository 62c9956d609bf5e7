"""What a studio does to a mix: equaliser, room, compressor, saturation, noise and bandwidth.

The equaliser and the room are one product of spectra; everything else works on the whole signal at
once, so that a minute costs some tenths of a second.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from hashing.generated.genres import Genre
from hashing.generated.timbres import Samples

CENTRES_HZ = (50, 110, 230, 480, 1000, 2100, 4300, 8600)  # bands of the equaliser, an octave wide
LONGEST_S = 2.0  # of a room's tail; longer ones have fallen by 24 dB there, and are cut
PEAK = 0.97  # full scale that lossy codecs do not push over
FRAME = 256  # samples of one step of the compressor: 12 ms at 22,050 Hz
PINK_SECONDS = 8.0  # the noise floor repeats after that, far below what is heard


@dataclasses.dataclass(frozen=True)
class Production:
    """Settings of a studio. `eq_db` are gains at `CENTRES_HZ`."""

    eq_db: tuple[float, ...]
    reverb_s: float  # until it has fallen by 60 dB
    reverb_dark: float  # how much faster the highs fall
    wet: float  # level of the room against the direct sound
    ratio: float  # of the compressor
    release_s: float
    loudness_db: float  # root mean square, full scale
    drive: float  # saturation; 0 is none
    noise_db: float  # of the noise floor, full scale
    hum: float  # share of mains hum in it
    bandwidth_hz: float
    room: int  # seed of the room's reflections

    @classmethod
    def draw(cls, genre: Genre, year: int, spread: float, rng: np.random.Generator) -> Production:
        """Draw a studio as artists of a genre use one in a year; `spread` is of `eq_db`."""
        tilt = rng.uniform(*genre.tilt_db)
        # Bass and treble of recordings grew with the medium: shellac and tape to disc and file.
        age = float(np.clip((1995 - year) / 40, 0, 1))
        octaves = np.log2(np.array(CENTRES_HZ) / 1000)
        # Against the -5 dB an octave that a mix of these instruments has by itself, roughly.
        eq = (tilt + 5.0) * octaves + rng.normal(0, spread, len(octaves))
        eq -= age * np.array([5, 2, 0, 0, 0, 0, 2, 5])
        return cls(
            tuple(eq.tolist()),
            float(np.exp(rng.uniform(*np.log(genre.reverb_s)))),
            rng.uniform(0.3, 0.9),
            rng.uniform(*genre.wet),
            rng.uniform(*genre.ratio),
            float(np.exp(rng.uniform(*np.log((0.04, 0.4))))),
            rng.uniform(*genre.loudness_db) - 3 * age,
            rng.uniform(*genre.drive) / 4,
            rng.uniform(-84, -66) + 16 * age,
            rng.choice([0.0, 0.0, rng.uniform(0.2, 0.8)]),
            float(rng.uniform(9000, 16000) * (1 - 0.45 * age)),
            int(rng.integers(1 << 30)),
        )

    def vary(
        self, rng: np.random.Generator, eq_db: float, amount: float, *, room: bool = True
    ) -> Production:
        """Another session in the same hands: `eq_db` is the spread of the bands in dB.

        `amount` is the spread of the logarithm of wetness, ratio, noise and, where `room` is true,
        of the reverberation.
        """
        factor = np.exp(rng.normal(0, amount, 4))
        # Neighbouring bands move together: a mix is bright or dull, thin or warm.
        wander = rng.normal(0, eq_db, len(CENTRES_HZ) + 2)
        smooth = np.convolve(wander, [0.5, 0.7, 0.5], "valid")
        return dataclasses.replace(
            self,
            eq_db=tuple((np.array(self.eq_db) + smooth).tolist()),
            reverb_s=float(np.clip(self.reverb_s * factor[0] ** room, 0.15, 6)),
            wet=float(np.clip(self.wet * factor[1], 0, 0.8)),
            ratio=float(np.clip(self.ratio * factor[2], 1, 12)),
            loudness_db=float(np.clip(self.loudness_db + rng.normal(0, 4 * amount), -30, -9)),
            noise_db=float(np.clip(self.noise_db + rng.normal(0, 10 * amount), -95, -42)),
            bandwidth_hz=float(np.clip(self.bandwidth_hz * factor[3], 4500, 18000)),
        )


def produce(
    dry: Samples, sent: Samples, production: Production, sample_rate: int, seed: int
) -> Samples:
    """Return the finished mix [n] of the dry mix [n] and of what is sent to the room [n].

    >>> studio = Production((0.0,) * 8, 0.5, 0.5, 0.1, 2.0, 0.1, -18.0, 0.0, -80.0, 0.0, 9000.0, 1)
    >>> x = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    >>> y = produce(x, x, studio, 8000, 0)
    >>> len(y), abs(20 * float(np.log10(y.std())) + 18) < 1
    (8000, True)
    """
    n = len(dry)
    size = _transform_size(n + round(min(production.reverb_s, LONGEST_S) * sample_rate))
    room = _room(production.room, production.reverb_s, production.reverb_dark, sample_rate, size)
    spectrum = scipy.fft.rfft(dry, size)
    spectrum += scipy.fft.rfft(sent, size) * (room * np.float32(production.wet))
    spectrum *= _curve(production.eq_db, production.bandwidth_hz, sample_rate, size)
    mix: Samples = scipy.fft.irfft(spectrum, size)[:n]
    mix *= np.float32(0.1 / max(_rms(mix), 1e-9))
    if production.ratio > 1:
        _compress(mix, production, sample_rate)
    if production.drive > 0:
        drive = np.float32(production.drive * 2)
        np.tanh(mix * drive, out=mix)
        mix /= drive
    mix *= np.float32(10 ** (production.loudness_db / 20) / max(_rms(mix), 1e-9))
    _add_noise(mix, production, sample_rate, seed)
    peak = float(np.abs(mix).max())
    if peak > PEAK:  # a limiter's soft knee: half of what is above, then the rest by gain
        np.tanh(mix * np.float32(0.9), out=mix)
        mix *= np.float32(min(1.0 / 0.9, PEAK / max(float(np.abs(mix).max()), 1e-9)))
    return mix


def _rms(x: Samples) -> float:
    return float(np.sqrt(np.dot(x, x) / len(x)))


def _transform_size(n: int) -> int:
    """A fast size in coarse steps, so that responses of one album can be kept."""
    return int(scipy.fft.next_fast_len(-(-n // 16384) * 16384, real=True))


def _curve(eq_db: tuple[float, ...], bandwidth_hz: float, sample_rate: int, size: int) -> Samples:
    """Gains [size // 2 + 1] of the equaliser and its band limit."""
    place, part = _knots_of(sample_rate, size)
    hz = _knots(sample_rate)
    db = np.interp(np.log2(hz), np.log2(CENTRES_HZ), eq_db)
    window = np.hanning(11)[1:-1]
    db = np.convolve(np.pad(db, 4, "edge"), window / window.sum(), "valid")
    db -= 20 * np.log10(1 + (hz / bandwidth_hz) ** 8) + 10 * np.log10(1 + (35 / hz) ** 6)
    log_gain = (db * (np.log(10) / 20)).astype(np.float32)
    slope = np.append(np.diff(log_gain), np.float32(0))
    curve: Samples = np.exp(log_gain[place] + slope[place] * part)
    curve[0] = 0
    return curve


def _knots(sample_rate: int) -> npt.NDArray[np.float64]:
    """Frequencies at which the equaliser is worked out, 16 an octave or so."""
    return np.geomspace(20, sample_rate / 2, 160)


@functools.lru_cache(maxsize=4)
def _knots_of(sample_rate: int, size: int) -> tuple[npt.NDArray[np.int32], Samples]:
    """For each bin of a spectrum, the knot below it and how far it is to the next."""
    knots = np.log2(_knots(sample_rate))
    hz = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 20)
    place = np.interp(np.log2(hz), knots, np.arange(len(knots)))
    below = place.astype(np.int32)
    return below, (place - below).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _room(
    seed: int, reverb_s: float, dark: float, sample_rate: int, size: int
) -> npt.NDArray[np.complex64]:
    """Spectrum [size // 2 + 1] of a room of unit energy.

    Some early reflections, then noise that falls by 60 dB in `reverb_s`, the highs of it faster.
    """
    rng = np.random.default_rng(seed)
    n = max(64, round(min(reverb_s, LONGEST_S) * sample_rate))
    t = np.arange(n) / sample_rate
    fall = 6.9 / reverb_s
    noise = rng.standard_normal((2, n))
    low = scipy.signal.lfilter([0.15], [1, -0.85], noise[0])
    tail = low * np.exp(-fall * t) + 0.15 * noise[1] * np.exp(-fall * (1 + 4 * dark) * t)
    tail[: round(0.012 * sample_rate)] *= 0.1
    for _ in range(6):
        tail[min(n - 1, round(rng.uniform(0.005, 0.05) * sample_rate))] += rng.normal(0, 2)
    tail /= np.sqrt(np.sum(tail * tail)) + 1e-12
    spectrum: npt.NDArray[np.complex64] = scipy.fft.rfft(tail.astype(np.float32), size)
    return spectrum


def _compress(mix: Samples, production: Production, sample_rate: int) -> None:
    """Turn down, in place, what is louder than 6 dB below the mean level."""
    frames = -(-len(mix) // FRAME)
    padded = np.pad(mix, (0, frames * FRAME - len(mix))).reshape(frames, FRAME)
    power = np.einsum("ij,ij->i", padded, padded) / FRAME
    a = float(np.exp(-FRAME / sample_rate / production.release_s))
    level = 10 * np.log10(scipy.signal.lfilter([1 - a], [1, -a], power) + 1e-9)
    gain_db = -(1 - 1 / production.ratio) * np.maximum(level + 26, 0)
    gain = (10 ** (np.append(gain_db, gain_db[-1:]) / 20)).astype(np.float32)
    ramp = np.arange(FRAME, dtype=np.float32) / np.float32(FRAME)
    between = gain[:-1, None] + np.diff(gain)[:, None] * ramp
    mix *= between.ravel()[: len(mix)]


@functools.lru_cache(maxsize=2)
def _pink(sample_rate: int) -> Samples:
    """Noise [n] whose power falls as 1/f, of unit variance, that loops without a seam."""
    n = round(PINK_SECONDS * sample_rate)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(n))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[: round(PINK_SECONDS * 30)] = 0
    noise = np.fft.irfft(spectrum, n)
    pink: Samples = (noise / noise.std()).astype(np.float32)
    return pink


def _add_noise(mix: Samples, production: Production, sample_rate: int, seed: int) -> None:
    """Add tape hiss and hum to `mix`, in place."""
    loop = np.roll(_pink(sample_rate), seed % 9973)
    if production.hum:
        t = np.arange(len(loop)) / sample_rate
        hum = np.sum([np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 2, 3, 5)], axis=0)
        loop = loop + (2 * production.hum * hum).astype(np.float32)
    loop = loop * np.float32(10 ** (production.noise_db / 20))
    for at in range(0, len(mix), len(loop)):
        part = mix[at : at + len(loop)]
        part += loop[: len(part)]
