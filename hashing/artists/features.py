"""Classic statistics of segments of music, by which artists are told apart.

A segment of some ten seconds becomes one vector: how its timbre, its dynamics, its harmony and its
rhythm are distributed (`timbre`, `harmony`, `rhythm` beside this file). Nothing is learned here;
`hashing.artists.encoder` makes embeddings of these vectors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists import harmony, rhythm, timbre
from hashing.errors import AudioError, ModelError

Floats = npt.NDArray[np.float32]

# Below this, seconds, there is no statistic of rhythm to speak of.
MIN_SEGMENT_S = 3.0


@dataclasses.dataclass(frozen=True)
class ArtistFeatures:
    """Which segments of a track are heard, and how.

    Two transforms are made of each: a short one for timbre and rhythm, as Royo-Letelier et al.
    (ISMIR 2018) have it, and a long one in which semitones are apart.

    >>> ArtistFeatures().segments_of(25.0)
    [(0.0, 10.0), (15.0, 10.0)]
    """

    sample_rate: int = 22050  # Hz; the production of a record shows above 4 kHz
    n_fft: int = 1024  # samples, 46 ms
    hop_length: int = 512  # samples, 23 ms
    n_bands: int = 64  # mel bands
    fmin: float = 30.0  # Hz, the lowest notes of a bass
    fmax: float = 10500.0  # Hz; below where lossy codecs cut
    n_mfcc: int = 20
    long_n_fft: int = 4096  # samples, 186 ms: bins are 5.4 Hz apart, a semitone at 100 Hz
    long_hop_length: int = 2048  # samples, 93 ms
    segment_s: float = 10.0  # seconds; 5, 20 and 30 s tell artists apart no better
    n_segments: int = 12  # at most; a track of two minutes is heard whole

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise ModelError(f"feature setting {field.name}={value!r} is not a number")
            if not 0 < value <= 1 << 20:
                raise ModelError(f"feature setting {field.name}={value!r} is not within 0 to 2**20")
            if field.type == "int" and not isinstance(value, int):
                raise ModelError(f"feature setting {field.name}={value!r} is not a whole number")
        if not self.fmin < self.fmax <= self.sample_rate / 2:
            raise ModelError(
                f"feature settings fmin={self.fmin} and fmax={self.fmax} must rise within "
                f"0 and half of sample_rate={self.sample_rate}"
            )
        if self.n_mfcc > self.n_bands or self.n_bands % rhythm.MODULATION_BANDS:
            raise ModelError(
                f"feature setting n_bands={self.n_bands} must be at least n_mfcc={self.n_mfcc}, "
                f"and a multiple of {rhythm.MODULATION_BANDS}"
            )
        if self.segment_s < MIN_SEGMENT_S:
            raise ModelError(f"feature setting segment_s={self.segment_s} is below {MIN_SEGMENT_S}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ArtistFeatures:
        """Settings as ``config.json`` holds them; raises `ModelError` for one that is unknown."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ModelError(f"unknown feature settings {unknown}: the model is of a later version")
        return cls(**values)

    def segments_of(self, duration_s: float) -> list[tuple[float, float]]:
        """Which parts of a track are heard: (start, duration) in seconds, linearly spaced.

        As many whole segments as there is room for, at most `n_segments`; the first begins and the
        last ends with the track. Of a track shorter than a segment, all is heard.

        >>> ArtistFeatures(n_segments=3).segments_of(60.0)
        [(0.0, 10.0), (25.0, 10.0), (50.0, 10.0)]
        >>> ArtistFeatures().segments_of(4.5)
        [(0.0, 4.5)]
        """
        if not (math.isfinite(duration_s) and duration_s > 0):
            raise ValueError(f"a track lasts some seconds, not {duration_s}")
        count = min(self.n_segments, int(duration_s / self.segment_s))
        if count <= 1:
            length = min(duration_s, self.segment_s)
            return [((duration_s - length) / 2, length)]
        starts = np.linspace(0.0, duration_s - self.segment_s, count)
        return [(float(start), self.segment_s) for start in starts]


def segment_statistics(samples: Floats, settings: ArtistFeatures) -> Floats:
    """The statistics of one segment, all blocks of `blocks` one after another.

    Args:
      samples: mono, at ``settings.sample_rate``, [n], `MIN_SEGMENT_S` or more.

    Returns:
      [F] float32, finite. See `blocks` for what stands where.

    Raises:
      AudioError: ``too-short``.

    >>> tone = np.sin(np.arange(110250, dtype=np.float32) * np.float32(0.1))
    >>> segment_statistics(tone, ArtistFeatures()).shape == (n_statistics(ArtistFeatures()),)
    True
    """
    found = segment_blocks(samples, settings)
    return np.concatenate([np.atleast_1d(values) for values in found.values()], dtype=np.float32)


def segment_blocks(samples: Floats, settings: ArtistFeatures) -> dict[str, Floats]:
    """The statistics of one segment by the name of their block; see `segment_statistics`."""
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if samples.size < MIN_SEGMENT_S * settings.sample_rate:
        raise AudioError(
            "too-short",
            f"segment of {samples.size / settings.sample_rate:.2f} s is shorter than "
            f"{MIN_SEGMENT_S:g} s",
        )
    rate = settings.sample_rate
    power = timbre.power_spectra(samples, settings.n_fft, settings.hop_length)
    bands = mel_bands(power, settings)
    frames_s = settings.hop_length / rate
    long_power = timbre.power_spectra(samples, settings.long_n_fft, settings.long_hop_length)
    zero_crossings = timbre.zero_crossings(samples, settings.hop_length, len(power))
    return {
        **timbre.cepstrum(bands, settings.n_mfcc),
        **timbre.bands(bands),
        **timbre.contrast(power, bands, rate),
        **timbre.shape(power, zero_crossings, rate),
        **timbre.dynamics(power, float(np.abs(samples).max())),
        **harmony.chords(long_power, rate),
        **harmony.registers(long_power, rate),
        **rhythm.onsets(bands, frames_s),
        **rhythm.modulation(bands),
    }


def mel_bands(power: Floats, settings: ArtistFeatures) -> Floats:
    """Mean power in each mel band, dB, at most 80 dB below the loudest, [frames, n_bands]."""
    return timbre.decibel(power @ _filters(settings), timbre.RANGE_DB)


@functools.lru_cache(maxsize=4)
def _filters(settings: ArtistFeatures) -> Floats:
    return timbre.mel_filters(
        settings.sample_rate, settings.n_fft, settings.n_bands, settings.fmin, settings.fmax
    )


@functools.lru_cache(maxsize=4)
def blocks(settings: ArtistFeatures) -> dict[str, slice]:
    """Where each block of statistics stands in the vector of a segment.

    >>> list(blocks(ArtistFeatures()))[:3], blocks(ArtistFeatures())["mfcc mean"]
    (['mfcc mean', 'mfcc deviation', 'delta deviation'], slice(0, 19, None))
    """
    noise = np.random.default_rng(0).standard_normal(int(MIN_SEGMENT_S * settings.sample_rate) + 1)
    places, at = {}, 0
    for name, values in segment_blocks(noise.astype(np.float32), settings).items():
        places[name] = slice(at, at + np.size(values))
        at += np.size(values)
    return places


def n_statistics(settings: ArtistFeatures) -> int:
    """Length of a segment's vector."""
    return sum(place.stop - place.start for place in blocks(settings).values())
