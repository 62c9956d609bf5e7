"""Rhythm of a segment of music: onsets, their periods, and how bands are modulated.

The tempogram is that of Grosche, Müller and Kurth (ICASSP 2010) by autocorrelation; modulation
spectra of bands after Pampalk's fluctuation patterns (ACM Multimedia 2002).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Periods, seconds, of which the tempogram tells the strength: 340 to 25 a minute, 0.15 octaves
# apart.
PERIODS_S = 2.0 ** np.linspace(-2.5, 1.25, 26)
_HALF_STEP = 2.0**0.075
_PREFERRED_OCTAVE, _OCTAVES_SPREAD = -1.0, 0.9  # log2 s: people hear periods around 0.5 s as beats

MODULATION_BANDS = 8
WINDOW = 256  # frames of a modulation spectrum, 5.9 s
# Bins of it that are averaged, 0.17 Hz each: 0.17 Hz to the frames' 21 Hz, about half an octave.
MODULATION_EDGES = (1, 2, 4, 6, 9, 13, 19, 28, 42, 64, 96, 129)


def onset_strength(bands: Floats) -> Floats:
    """Mean rise of the mel bands [frames, bands] in dB, [frames - 1].

    >>> onset_strength(np.array([[0.0, 0.0], [4.0, -4.0], [4.0, -4.0]], np.float32)).tolist()
    [2.0, 0.0]
    """
    return np.asarray(np.maximum(0.0, bands[1:] - bands[:-1]).mean(axis=1))


def autocorrelation(values: Floats) -> Floats:
    """Mean product of values [n] so far apart, by that of lag 0, [n]; 0 for all-zero values."""
    import scipy.fft

    n = len(values)
    spectrum = scipy.fft.rfft(values, scipy.fft.next_fast_len(2 * n, real=True))
    power = spectrum.real**2 + spectrum.imag**2
    products = scipy.fft.irfft(power, scipy.fft.next_fast_len(2 * n, real=True))[:n]
    return np.asarray(products / (products[0] + 1e-6) * (n / (n - np.arange(n))), np.float32)


def tempogram(strength: Floats, frames_s: float) -> Floats:
    """Strength of each period of `PERIODS_S`: the largest autocorrelation around it, [26].

    Periods that do not fit into the segment have strength 0.
    """
    smooth = max(1, round(1.0 / frames_s))  # a second
    around = np.convolve(strength, np.full(smooth, 1.0 / smooth))[(smooth - 1) // 2 :]
    found = autocorrelation(strength - around[: len(strength)])
    lags = PERIODS_S / frames_s
    out = np.zeros(len(lags), np.float32)
    for i, (low, high) in enumerate(zip(lags / _HALF_STEP, lags * _HALF_STEP, strict=True)):
        first, end = int(low), max(int(low) + 1, int(high) + 1)
        if end <= len(found):
            out[i] = found[first:end].max()
    return out


def onsets(bands: Floats, frames_s: float) -> dict[str, Floats]:
    """Statistics of onsets of mel bands [frames, bands] in dB, frames `frames_s` seconds apart."""
    strength = onset_strength(bands)
    mean, deviation = strength.mean(), strength.std()
    skew = ((strength - mean) ** 3).mean() / (deviation + 0.01) ** 3
    peaks = (strength > mean + 1.5 * deviation).mean()
    periods = tempogram(strength, frames_s)
    # Magnitudes of its Fourier transform over log periods: the same at any tempo.
    scale = np.abs(np.fft.rfft(periods - periods.mean(), 64))[1:13]
    octaves = np.log2(PERIODS_S)
    weights = np.exp(-0.5 * ((octaves - _PREFERRED_OCTAVE) / _OCTAVES_SPREAD) ** 2)
    beat = octaves[int((periods * weights).argmax())]
    tempo = [beat, periods.max(), periods.mean(), periods.std()]
    height = np.log(strength.max() + 0.1)
    return {
        "tempogram": periods,
        "tempogram shape": scale.astype(np.float32),
        "tempo": np.array(tempo, np.float32),
        "onsets": np.array([mean, deviation, skew, peaks, height], np.float32),
    }


def modulation(bands: Floats) -> dict[str, Floats]:
    """Modulation of eight groups of mel bands: power by frequency, in all and as a share.

    A segment shorter than a window is followed by nothing.
    """
    import scipy.fft

    groups = bands.reshape(len(bands), MODULATION_BANDS, -1).mean(axis=2)
    groups = groups - groups.mean(axis=0)
    if len(groups) < WINDOW:
        groups = np.pad(groups, ((0, WINDOW - len(groups)), (0, 0)))
    taper = np.hanning(WINDOW).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(groups, WINDOW, axis=0)[:: WINDOW // 2]
    spectrum = scipy.fft.rfft(windows * taper, axis=2)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0).T  # [129, groups]
    sums = np.add.reduceat(power, MODULATION_EDGES[:-1], axis=0)
    means = sums / np.diff(MODULATION_EDGES)[:, None]
    total = power[1:].sum(axis=0) + np.float32(1.0)
    return {
        "modulation": np.log(means + 1.0).ravel().astype(np.float32),
        "modulation shares": (sums / total).ravel().astype(np.float32),
    }
