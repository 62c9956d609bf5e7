"""What happens to music on its way to a microphone: noise, rooms, equalisers, codecs, clipping.

Queries are degraded with these to measure look-up, and snippets are degraded with these to train
hashers. All functions take and give mono float32 of the same length; time is kept, so that an
offset in the result is the offset in the source.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.errors import UsageError

Floats = npt.NDArray[np.float32]

# A room response longer than this adds nothing that a one-second snippet could show.
ROOM_SECONDS = 1.5

# Reverberation times of synthetic rooms, seconds: from a furnished living room to a small hall.
RT60_S = (0.3, 1.0)

# Mean square below which a signal is silence (-100 dB), and a ratio to it would mean nothing.
SILENT_POWER = 1e-10


def power(samples: Floats) -> float:
    """Mean square of a signal.

    >>> power(np.array([1.0, -1.0], np.float32))
    1.0
    """
    return float(np.dot(samples, samples)) / max(1, samples.size)


def add_noise(samples: Floats, noise: Floats, snr_db: float) -> Floats:
    """`samples` with `noise` (repeated or cut to length) at `snr_db` below them, by mean square.

    Silent music or silent noise has no ratio: the samples come back as they are.

    >>> tone = np.sin(np.arange(8000, dtype=np.float32))
    >>> mixed = add_noise(tone, np.ones(10, np.float32), 0.0)
    >>> round(power(mixed - tone) / power(tone), 3)
    1.0
    """
    noise = np.resize(noise, samples.size)
    signal_power, noise_power = power(samples), power(noise)
    if signal_power < SILENT_POWER or noise_power < SILENT_POWER:
        return samples
    gain = np.sqrt(signal_power / noise_power * 10.0 ** (-snr_db / 10.0))
    return np.asarray(samples + noise * np.float32(gain), dtype=np.float32)


def coloured_noise(n: int, exponent: float, rng: np.random.Generator) -> Floats:
    """Gaussian noise whose power falls with frequency as ``f ** -exponent``: 0 white, 1 pink.

    >>> coloured_noise(8, 0.0, np.random.default_rng(1)).shape
    (8,)
    """
    white = rng.standard_normal(n).astype(np.float32)
    if exponent == 0.0:
        return white
    import scipy.fft

    spectrum = scipy.fft.rfft(white)
    shape = np.arange(1, spectrum.size + 1, dtype=np.float32) ** np.float32(-exponent / 2.0)
    return np.asarray(scipy.fft.irfft(spectrum * shape, n), dtype=np.float32)


def room_response(sample_rate: int, rt60_s: float, rng: np.random.Generator) -> Floats:
    """A synthetic room: a direct sound and an exponentially decaying diffuse tail.

    Polack's statistical model (1988): Gaussian noise under an envelope that falls by 60 dB in
    `rt60_s` seconds, 5 ms after the direct sound; direct and diffuse energy are about equal.

    >>> response = room_response(8000, 0.3, np.random.default_rng(1))
    >>> int(np.argmax(np.abs(response)))
    0
    """
    n = int(min(ROOM_SECONDS, 1.2 * rt60_s) * sample_rate) + 1
    time = np.arange(n) / sample_rate
    tail = rng.standard_normal(n) * 10.0 ** (-3.0 * time / rt60_s)
    tail[: int(0.005 * sample_rate)] = 0.0
    tail *= 1.0 / (np.sqrt(np.sum(tail**2)) + 1e-9)
    tail[0] = max(1.0, float(np.abs(tail).max()) * 1.01)
    return tail.astype(np.float32)


def reverberate(samples: Floats, response: Floats) -> Floats:
    """`samples` as heard in a room, the direct sound kept in its place, at the same power.

    >>> click = np.zeros(4, np.float32); click[1] = 1
    >>> wet = reverberate(click, np.array([0, 2, 1], np.float32))
    >>> [round(float(v / wet[1]), 3) for v in wet]
    [0.0, 1.0, 0.5, 0.0]
    """
    import scipy.fft

    direct = int(np.argmax(np.abs(response)))
    n = scipy.fft.next_fast_len(samples.size + response.size - 1, real=True)
    wet = scipy.fft.irfft(scipy.fft.rfft(samples, n) * scipy.fft.rfft(response, n), n)
    wet = wet[direct : direct + samples.size]
    scale = np.sqrt((power(samples) + 1e-12) / (power(wet.astype(np.float32)) + 1e-12))
    return np.asarray(wet * scale, dtype=np.float32)


def equalise(samples: Floats, gains_db: Sequence[float]) -> Floats:
    """`samples` through a zero-phase equaliser.

    Args:
      samples: [n].
      gains_db: at frequencies equally spaced from 0 to half the sample rate; linear in between.

    >>> flat = equalise(np.ones(16, np.float32), [0.0, 0.0])
    >>> bool(np.allclose(flat, 1.0, atol=1e-5))
    True
    """
    import scipy.fft

    n = scipy.fft.next_fast_len(samples.size, real=True)
    spectrum = scipy.fft.rfft(samples, n)
    places = np.linspace(0.0, len(gains_db) - 1.0, spectrum.size)
    gains = np.interp(places, np.arange(len(gains_db)), np.asarray(gains_db))
    shaped = scipy.fft.irfft(spectrum * (10.0 ** (gains / 20.0)).astype(np.float32), n)
    return np.asarray(shaped[: samples.size], dtype=np.float32)


def clip(samples: Floats, share: float) -> Floats:
    """`samples` with the loudest `share` of them cut to one level, as an overdriven input does.

    >>> clip(np.array([0.1, -0.2, 0.9, 1.0], np.float32), 0.5).round(2).tolist()
    [0.10000000149011612, -0.20000000298023224, 0.550000011920929, 0.550000011920929]
    """
    level = float(np.quantile(np.abs(samples), 1.0 - share))
    return np.clip(samples, -level, level) if level > 0.0 else samples


@dataclasses.dataclass(frozen=True)
class Condition:
    """A named degradation of queries, as ``evaluate lookup --conditions`` takes it.

    Steps joined with ``+`` happen in the order of the real world (room, then noise, then codec):
    ``clean``, ``white@5`` (dB), ``ambience@0``, ``reverb``, ``reverb+ambience@5``, ``mp3`` (at
    64 kb/s), ``opus`` (at 24 kb/s).

    >>> Condition.parse("reverb+ambience@5")
    Condition(name='reverb+ambience@5', reverb=True, noise='ambience', snr_db=5.0, codec='')
    """

    name: str
    reverb: bool = False
    noise: str = ""
    snr_db: float = 0.0
    codec: str = ""

    @classmethod
    def parse(cls, name: str) -> Condition:
        """Raises `UsageError` for a step that does not exist, naming those that do."""
        reverb, noise, snr_db, codec = False, "", 0.0, ""
        for step in name.split("+"):
            if step == "reverb":
                reverb = True
            elif (codec and step in CODECS) or (noise and "@" in step):
                raise UsageError(f"condition {name!r}: one noise and one codec at most, not {step}")
            elif step in CODECS:
                codec = step
            elif match := re.fullmatch(r"(white|ambience)@(-?\d{1,2})", step):
                noise, snr_db = match[1], float(match[2])
            elif step != "clean":
                raise UsageError(
                    f"condition {name!r}: no step {step!r}; use clean, white@DB, ambience@DB, "
                    f"reverb, {', '.join(CODECS)}, joined with +"
                )
        return cls(name, reverb, noise, snr_db, codec)


# Bit rates in bits/s at which the codecs of `Condition` run: a poor stream, and a voice call.
CODECS = {"mp3": 64_000, "opus": 24_000}


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Recorded ambiences and room responses at one rate; synthetic ones stand in for none.

    `ambiences` and `rooms` are mono float32 at the rate of the music that they are mixed with.
    """

    sample_rate: int
    ambiences: Sequence[Floats] = ()
    rooms: Sequence[Floats] = ()

    def ambience(self, n: int, rng: np.random.Generator) -> Floats:
        """`n` samples of one ambience from a random place on; pink noise where there is none."""
        if not self.ambiences:
            return coloured_noise(n, 1.0, rng)
        source = self.ambiences[int(rng.integers(len(self.ambiences)))]
        return np.resize(np.roll(source, -int(rng.integers(source.size))), n)

    def room(self, rng: np.random.Generator) -> Floats:
        """A recorded room, or a synthetic one with a reverberation time of `RT60_S`."""
        if not self.rooms:
            return room_response(self.sample_rate, float(rng.uniform(*RT60_S)), rng)
        return self.rooms[int(rng.integers(len(self.rooms)))]

    def degrade(self, samples: Floats, condition: Condition, rng: np.random.Generator) -> Floats:
        """`samples` under `condition`; `rng` draws the room and the noise.

        >>> tone = np.sin(np.arange(8000, dtype=np.float32))
        >>> noisy = Surroundings(8000).degrade(
        ...     tone, Condition.parse("white@0"), np.random.default_rng(1))
        >>> round(power(noisy - tone) / power(tone), 2)
        1.0
        """
        if condition.reverb:
            samples = reverberate(samples, self.room(rng))
        if condition.noise:
            if condition.noise == "white":
                noise = coloured_noise(samples.size, 0.0, rng)
            else:
                noise = self.ambience(samples.size, rng)
            samples = add_noise(samples, noise, condition.snr_db)
        if condition.codec:
            from hashing.audio import recode

            samples = recode(
                samples, self.sample_rate, codec=condition.codec, bit_rate=CODECS[condition.codec]
            )
        return samples
