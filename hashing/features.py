"""Log-mel spectrograms, and the settings of what is cut from them.

Every constant stands in `FeatureConfig`, with its unit; values that follow from others are
computed. `hashing.snippets` cuts.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError

Floats = npt.NDArray[np.float32]

# Power below which a band counts as digital silence: -100 dB re full scale, under the noise floor
# of 16-bit audio (-96 dB), so that the logarithm stays finite and quantisation noise is kept out.
POWER_FLOOR = 1e-10

# Frames transformed at once. 64 frames of 1,024 samples are 256 KB: they stay in the L2 cache, and
# the allocator hands the same memory out again instead of asking the kernel for fresh pages.
FRAMES_PER_BLOCK = 64

# Products that the bands are computed with; see `_filter_groups`.
FILTER_GROUPS = 4

# Frames between the snippets of a query, where the index's hop is a multiple of it: 0.125 s. One of
# four is then within 62 ms of a snippet of an index with a hop of 0.5 s.
QUERY_HOP = 4


@dataclasses.dataclass(frozen=True)
class FeatureConfig:
    """What a snippet is. The defaults are hashbeam's one-second snippet.

    The window is uncentred, so that the 28 frames of a snippet need 7,774 samples: a query of one
    second (8,000 samples) always holds a whole snippet, also when a codec has shaved off its edge.

    >>> config = FeatureConfig()
    >>> config.snippet_samples / config.sample_rate, config.snippet_hop_s
    (0.97175, 0.5)
    """

    sample_rate: int = 8000  # Hz; music is recognised below 4 kHz, where small loudspeakers reach
    n_fft: int = 1024  # samples, 128 ms: long against the hop, so that a shift changes little
    hop_length: int = 250  # samples, 31.25 ms; a whole number of hops in a second
    n_bands: int = 64  # 32 of them tell 5 points fewer degraded snippets apart (linear front)
    fmin: float = 150.0  # Hz; below it telephones and small loudspeakers are silent
    fmax: float = 3900.0  # Hz; just below half the sample rate, where the resampler cuts
    snippet_frames: int = 28  # frames of a snippet: 0.97 s
    snippet_hop: int = 16  # frames between the snippets of an index: 0.5 s
    dynamic_range_db: float = 60.0  # dB below a snippet's loudest cell that still count
    silence_db: float = -60.0  # dB re full scale; quieter snippets are left out of index and query
    repeats_short: bool = False  # what is shorter than a snippet is repeated until it fills one

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise ModelError(
                        f"feature setting {field.name}={value!r} is neither true nor false"
                    )
                continue
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise ModelError(f"feature setting {field.name}={value!r} is not a number")
        counts = ("sample_rate", "n_fft", "hop_length", "n_bands", "snippet_frames", "snippet_hop")
        for name in counts:
            value = getattr(self, name)
            if not (isinstance(value, int) and 1 <= value <= 1 << 20):
                raise ModelError(f"feature setting {name}={value!r} is not a count up to 2**20")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ModelError(
                f"feature settings fmin={self.fmin} and fmax={self.fmax} must rise within "
                f"0 and half of sample_rate={self.sample_rate}"
            )
        if self.hop_length > self.n_fft:
            raise ModelError(
                f"feature setting hop_length={self.hop_length} is above n_fft={self.n_fft}: "
                "samples between frames would be heard by none"
            )
        if not 0 < self.dynamic_range_db < math.inf or not math.isfinite(self.silence_db):
            raise ModelError(
                f"feature settings dynamic_range_db={self.dynamic_range_db} and "
                f"silence_db={self.silence_db} must be finite, the first above 0"
            )

    @property
    def snippet_samples(self) -> int:
        """Samples that one snippet needs."""
        return (self.snippet_frames - 1) * self.hop_length + self.n_fft

    @property
    def snippet_hop_s(self) -> float:
        """Seconds between two snippets of an index."""
        return self.snippet_hop * self.frame_s

    @property
    def query_hop(self) -> int:
        """Frames between two snippets of a query; `snippet_hop` is a multiple of it.

        >>> FeatureConfig().query_hop, BALUJA_COVELL.query_hop
        (4, 2)
        """
        return math.gcd(QUERY_HOP, self.snippet_hop)

    @property
    def query_margin(self) -> int:
        """Frames that a query's snippets reach beyond it: half the hop of an index.

        A whole number of query hops, and less than half a snippet.

        >>> FeatureConfig().query_margin
        8
        """
        half = min(self.snippet_hop, self.snippet_frames - 1) // 2
        return half - half % self.query_hop

    @property
    def frame_s(self) -> float:
        """Seconds between two frames."""
        return self.hop_length / self.sample_rate

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, for digests of what is made with the settings.

        A setting of later versions is left out where it is off: what was made before it keeps its
        digest.

        >>> settings = FeatureConfig().to_json()
        >>> "repeats_short" in settings, len(settings)
        (False, 10)
        """
        return {
            name: value for name, value in dataclasses.asdict(self).items() if value is not False
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FeatureConfig:
        """Settings as a model's ``config.json`` holds them.

        Raises `ModelError` for a setting that this version does not know: ignoring it would give
        other codes than the model was made for.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ModelError(f"unknown feature settings {unknown}: the model is of a later version")
        return cls(**values)


# The window of Forgiving Hash (Baluja & Covell, IJCAI 2007), with the spectrogram of the same
# authors' Waveprint (2006): 128 frames, 11.6 ms apart, of 371 ms, in 32 bands from 318 to 2,000 Hz.
BALUJA_COVELL = FeatureConfig(
    sample_rate=5512,
    n_fft=2048,
    hop_length=64,
    n_bands=32,
    fmin=318.0,
    fmax=2000.0,
    snippet_frames=128,
    snippet_hop=10,
)

# Windows that `hashbeam train` knows by name. An index of the dense one has a snippet every quarter
# of a second: of one that is at most 62 ms off, a query of a second holds all but 0.125 s.
WINDOWS = {
    "second": FeatureConfig(),
    "dense": FeatureConfig(snippet_hop=8),
    "baluja-covell": BALUJA_COVELL,
}


def mel_frequencies(n: int, fmin: float, fmax: float) -> npt.NDArray[np.float64]:
    """`n` frequencies in Hz, equally spaced on Slaney's mel scale (Auditory Toolbox, 1998).

    The scale is linear below 1 kHz (200/3 Hz a mel) and logarithmic above (27 mels for 6.4 times).

    >>> mel_frequencies(3, 0.0, 1000.0).tolist()
    [0.0, 500.0, 1000.0]
    """
    linear, corner, step = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0

    def to_mel(hz: float) -> float:
        return hz / linear if hz < corner else corner / linear + float(np.log(hz / corner)) / step

    mels = np.linspace(to_mel(fmin), to_mel(fmax), n)
    above = corner * np.exp(step * (mels - corner / linear))
    return np.where(mels < corner / linear, mels * linear, above)


@functools.lru_cache(maxsize=8)
def filterbank(config: FeatureConfig) -> Floats:
    """Triangular filters of height one, shape [n_fft // 2 + 1, n_bands].

    >>> filterbank(FeatureConfig()).shape
    (513, 64)
    """
    bins = np.fft.rfftfreq(config.n_fft, 1.0 / config.sample_rate)
    edges = mel_frequencies(config.n_bands + 2, config.fmin, config.fmax)
    widths = np.diff(edges)
    rising = (bins[:, None] - edges[None, :-2]) / widths[None, :-1]
    falling = (edges[None, 2:] - bins[:, None]) / widths[None, 1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return np.ascontiguousarray(filters, dtype=np.float32)


@functools.lru_cache(maxsize=8)
def _window(config: FeatureConfig) -> Floats:
    # Periodic Hann, scaled so that a full-scale sine has a power of one (0 dB) in its bin.
    n = config.n_fft
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / n)
    return np.asarray(hann * (2.0 / hann.sum()), dtype=np.float32)


def spectrogram(blocks: Iterable[Floats], config: FeatureConfig) -> Floats:
    """Log-mel spectrogram of a track that arrives in blocks.

    Args:
      blocks: mono float32 samples at ``config.sample_rate``, in pieces of any length, which do
        not change the result; few are held at a time, so memory grows with the spectrogram and
        not with the audio.
      config: the settings.

    Returns:
      dB re full scale, shape [frames, n_bands], float32, frames ``config.frame_s`` apart; frame
      `i` covers the samples from ``i * hop_length`` on. Audio shorter than a window has 0 frames.

    Agrees with librosa's ``melspectrogram`` (``center=False``, ``norm=None``) to 0.01 dB.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    >>> spec = spectrogram([tone[:3000], tone[3000:]], FeatureConfig())
    >>> spec.shape, bool(abs(spec.max()) < 3.0)
    ((28, 64), True)
    """
    hop, n_fft = config.hop_length, config.n_fft
    # Frames are transformed in blocks counted from the start of the track: the last digits of a
    # product depend on its rows, and codes must not depend on the pieces that a decoder gives.
    step = FRAMES_PER_BLOCK * hop
    needed = step - hop + n_fft
    pieces: list[Floats] = []
    waiting: list[Floats] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += block.size
        if held < needed:
            continue
        samples = np.concatenate(waiting)
        first = 0
        for first in range(0, held - needed + 1, step):
            pieces.append(_bands(samples[first : first + needed], config))
        waiting = [samples[first + step :].copy()]
        held = waiting[0].size
    if held >= n_fft:
        pieces.append(_bands(np.concatenate(waiting), config))
    if not pieces:
        return np.empty((0, config.n_bands), dtype=np.float32)
    power = np.concatenate(pieces)
    np.maximum(power, POWER_FLOOR, out=power)
    np.log10(power, out=power)
    power *= np.float32(10.0)
    return power


def _bands(samples: Floats, config: FeatureConfig) -> Floats:
    """Power in each band of every whole frame of `samples`, [frames, n_bands]."""
    # scipy's float32 transform is several times faster than numpy's; its import costs 50 ms.
    import scipy.fft

    # A view of overlapping windows; numpy's own function for it costs as much as the transform.
    frames = (samples.size - config.n_fft) // config.hop_length + 1
    windows: Floats = np.ndarray(
        (frames, config.n_fft),
        np.float32,
        np.ascontiguousarray(samples, dtype=np.float32),
        strides=(4 * config.hop_length, 4),
    )
    spectrum = scipy.fft.rfft(windows * _window(config), axis=1, overwrite_x=True)
    # Squares of real and imaginary parts as they lie in memory, side by side: the filters are
    # doubled instead of adding the two.
    parts = spectrum.view(np.float32)
    np.multiply(parts, parts, out=parts)
    power = np.empty((parts.shape[0], config.n_bands), dtype=np.float32)
    for bands, columns, filters in _filter_groups(config):
        np.matmul(parts[:, columns], filters, out=power[:, bands])
    return power


@functools.lru_cache(maxsize=8)
def _filter_groups(config: FeatureConfig) -> list[tuple[slice, slice, Floats]]:
    """The filters in groups of neighbouring bands: which bands, which columns, the weights.

    A band is made of few bins: four products over the bins of 16 bands each cost a third of one
    product over all bins. Columns are real and imaginary parts in turns.
    """
    doubled = np.repeat(filterbank(config), 2, axis=0)
    groups = []
    for bands in np.array_split(np.arange(config.n_bands), min(FILTER_GROUPS, config.n_bands)):
        first, end = int(bands[0]), int(bands[-1]) + 1
        used = np.flatnonzero(doubled[:, first:end].any(axis=1))
        low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 2)
        weights = np.ascontiguousarray(doubled[low:high, first:end])
        groups.append((slice(first, end), slice(low, high), weights))
    return groups
