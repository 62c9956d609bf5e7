"""Timbre and dynamics of a segment of music: statistics over its frames.

Cepstra after Davis and Mermelstein (1980), as in Logan (ISMIR 2000); spectral contrast after Jiang
et al. (ICME 2002); means, deviations and correlations of cepstra for artists after Mandel and Ellis
(ISMIR 2005).
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import numpy.typing as npt

from hashing.features import mel_frequencies

Floats = npt.NDArray[np.float32]

RANGE_DB = 80.0  # dB below the loudest band of a segment that still count
FLOOR = 1e-9  # power, -90 dB re full scale: logarithms stay finite

# Hz: octaves from 200 Hz on, as in the paper on spectral contrast, up to where codecs cut.
CONTRAST_EDGES = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 10500.0)
CONTRAST_SHARE = 0.1  # of the bins of a band make its peak, and as many its valley

ROLLOFFS = (0.5, 0.85, 0.95)  # shares of the power below a frequency
LEVELS = (0.02, 0.1, 0.25, 0.75, 0.9, 0.98)  # quantiles of the level over frames


def power_spectra(samples: Floats, n_fft: int, hop_length: int) -> Floats:
    """Power of uncentred Hann windows, a full-scale sine at 0 dB; [frames, n_fft // 2 + 1].

    >>> tone = np.sin(2 * np.pi * np.arange(8192) / 16).astype(np.float32)
    >>> power_spectra(tone, 1024, 512)[:, 64].round(3).tolist()[:2]
    [1.0, 1.0]
    """
    import scipy.fft

    frames = (samples.size - n_fft) // hop_length + 1
    windows = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop_length][:frames]
    spectrum = scipy.fft.rfft(windows * _hann(n_fft), axis=1, overwrite_x=True)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


@functools.lru_cache(maxsize=4)
def _hann(n: int) -> Floats:
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / n)
    return np.asarray(hann * (2.0 / hann.sum()), dtype=np.float32)


def frequencies(power: Floats, sample_rate: int) -> Floats:
    """Frequency in Hz of each bin of `power_spectra`."""
    return np.linspace(0.0, sample_rate / 2, power.shape[1], dtype=np.float32)


def mel_filters(sample_rate: int, n_fft: int, n_bands: int, fmin: float, fmax: float) -> Floats:
    """Triangular filters whose weights sum to one, [n_fft // 2 + 1, n_bands].

    A filter narrower than a bin takes the nearest one.
    """
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    edges = mel_frequencies(n_bands + 2, fmin, fmax)
    widths = np.diff(edges)
    rising = (bins[:, None] - edges[None, :-2]) / widths[None, :-1]
    falling = (edges[None, 2:] - bins[:, None]) / widths[None, 1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    for band in np.flatnonzero(filters.sum(axis=0) == 0):
        filters[np.abs(bins - edges[band + 1]).argmin(), band] = 1.0
    return np.asarray(filters / filters.sum(axis=0), dtype=np.float32)


def decibel(power: Floats, range_db: float) -> Floats:
    """Power in dB, at most `range_db` below its maximum.

    >>> decibel(np.array([1.0, 0.1, 0.0], np.float32), 30.0).tolist()
    [0.0, -10.0, -30.0]
    """
    level = 10.0 * np.log10(np.maximum(power, np.float32(FLOOR)))
    return np.asarray(np.maximum(level, level.max() - np.float32(range_db)))


def zero_crossings(samples: Floats, hop_length: int, frames: int) -> Floats:
    """Share of neighbouring samples of unlike sign, in each hop, [frames]."""
    hops = np.signbit(samples[: frames * hop_length]).reshape(frames, hop_length)
    return np.asarray(np.mean(hops[:, 1:] != hops[:, :-1], axis=1, dtype=np.float32))


def mfcc(bands: Floats, n_mfcc: int) -> Floats:
    """Mel-frequency cepstral coefficients, orthonormal, of bands in dB; [frames, n_mfcc]."""
    import scipy.fft

    return np.asarray(scipy.fft.dct(bands, axis=1, norm="ortho")[:, :n_mfcc])


def delta(values: Floats) -> Floats:
    """Slope of the line through five frames, [frames - 4, ...].

    >>> delta(np.arange(6, dtype=np.float32) * 3).tolist()
    [3.0, 3.0]
    """
    slope = 2.0 * (values[4:] - values[:-4]) + values[3:-1] - values[1:-3]
    return np.asarray(slope / np.float32(10.0))


def cepstrum(bands: Floats, n_mfcc: int) -> dict[str, Floats]:
    """Mean but of the first, deviation, correlations of MFCC; deviation of two deltas."""
    cepstra = mfcc(bands, n_mfcc)
    first = delta(cepstra)
    mean, deviation = cepstra.mean(axis=0), cepstra.std(axis=0)
    # Near silence, correlations are not noise but zero.
    scale = deviation + np.float32(1e-2)
    centred = (cepstra - mean) / scale
    above = np.triu_indices(n_mfcc, 1)
    return {
        "mfcc mean": mean[1:],
        "mfcc deviation": deviation,
        "delta deviation": first.std(axis=0),
        "delta-delta deviation": delta(first).std(axis=0),
        "mfcc correlation": ((centred.T @ centred) / np.float32(len(centred)))[above],
    }


def bands(levels: Floats) -> dict[str, Floats]:
    """Statistics of each mel band [frames, bands] in dB, less the mean over bands and frames."""
    relative = levels - levels.mean()
    low, high = _quantiles(relative, (0.1, 0.9))
    return {
        "band mean": relative.mean(axis=0),
        "band deviation": relative.std(axis=0),
        "band low": low,
        "band high": high,
        "band flux": np.maximum(0.0, levels[1:] - levels[:-1]).mean(axis=0),
    }


def _quantiles(values: Floats, shares: tuple[float, ...]) -> list[Floats]:
    """Values [frames, ...] at some ranks; np.quantile costs three times as much."""
    ranks = [round(share * (len(values) - 1)) for share in shares]
    ordered = np.partition(values, ranks, axis=0)
    return [ordered[rank] for rank in ranks]


def contrast(power: Floats, levels: Floats, sample_rate: int) -> dict[str, Floats]:
    """Peaks less valleys of octave bands in dB, and valleys less the mean of the mel bands."""
    magnitude = np.sqrt(power)
    places = np.searchsorted(frequencies(power, sample_rate), CONTRAST_EDGES)
    peaks, valleys = [], []
    for first, end in itertools.pairwise(places):
        ordered = np.sort(magnitude[:, first:end], axis=1)
        count = max(1, round(CONTRAST_SHARE * (end - first)))
        peaks.append(ordered[:, -count:].mean(axis=1))
        valleys.append(ordered[:, :count].mean(axis=1))
    peak, valley = (20.0 * np.log10(np.stack(v, axis=1) + 1e-6) for v in (peaks, valleys))
    height, depth = peak - valley, valley - levels.mean(axis=1, keepdims=True)
    return {
        "contrast mean": height.mean(axis=0),
        "contrast deviation": height.std(axis=0),
        "valley mean": depth.mean(axis=0),
        "valley deviation": depth.std(axis=0),
    }


def shape(power: Floats, crossings: Floats, sample_rate: int) -> dict[str, Floats]:
    """Centroid and bandwidth of power and of magnitude, roll-offs, flatness, zero crossings.

    Frequencies in octaves; 50 Hz are added, so that silence has one.
    """
    hz = frequencies(power, sample_rate)
    columns = []
    for weights in (power, np.sqrt(power)):
        centre, width = centroid(weights, hz)
        columns += [np.log2(centre + 50.0), np.log2(width + 50.0)]
    below = np.cumsum(power, axis=1)
    total = below[:, -1:] + np.float32(FLOOR)
    for share in ROLLOFFS:
        columns.append(np.log2(hz[np.argmax(below >= share * below[:, -1:], axis=1)] + 50.0))
    flat = np.log(power + FLOOR).mean(axis=1) - np.log(total[:, 0] / power.shape[1] + FLOOR)
    columns += [flat, np.log2(crossings + 0.005)]
    values = np.stack(columns, axis=1)
    return {"shape mean": values.mean(axis=0), "shape deviation": values.std(axis=0)}


def centroid(weights: Floats, hz: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of frequency in Hz, weighted, each [frames]; 0 for silence.

    >>> centroid(np.array([[0.0, 1.0, 1.0]], np.float32), np.array([0.0, 100.0, 200.0], np.float32))
    (array([150.], dtype=float32), array([50.], dtype=float32))
    """
    total = np.maximum(weights.sum(axis=1), np.float32(1e-12))
    centre = (weights @ hz) / total
    square = (weights @ hz**2) / total
    return centre, np.sqrt(np.maximum(0.0, square - centre**2))


def dynamics(power: Floats, peak: float) -> dict[str, Floats]:
    """Level, and how it varies: deviation, quantiles, crest and mean step, dB."""
    level = 10.0 * np.log10(np.maximum(power.sum(axis=1), np.float32(FLOOR)))
    mean = level.mean()
    relative = level - mean
    crest = 20.0 * np.log10(peak + 1e-6) - mean
    step = np.abs(np.diff(relative)).mean()
    spread = [relative.std(), *_quantiles(relative, LEVELS), crest, step]
    return {"level": np.array([mean], np.float32), "dynamics": np.array(spread, np.float32)}
