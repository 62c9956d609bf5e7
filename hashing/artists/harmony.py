"""Harmony of a segment of music: which pitch classes sound together, and how they change.

Most statistics do not depend on the key: of the twelve pitch classes, only distances count
(Bartsch and Wakefield, WASPAA 2001, for chroma; Bertin-Mahieux and Ellis, ISMIR 2012, for the
magnitudes of its Fourier transform; Krumhansl and Kessler, 1982, for the profiles of keys).
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from hashing.artists.timbre import decibel

Floats = npt.NDArray[np.float32]

CHROMA_HZ = (100.0, 2500.0)  # below, bins are wider than semitones; above are mostly overtones
REGISTERS = (36, 108)  # MIDI notes C2 to B7, 65 Hz to 4 kHz: six octaves
RANGE_DB = 70.0  # dB below the loudest semitone of a segment that still count

# Frames between two chromas that are compared: 0.09 to 1.5 s.
CHANGE_LAGS = (1, 2, 4, 8, 16)
STEP_LAG = 4  # frames between the chords of a step, 0.4 s: about a beat

# Which bins of the cepstrum of a spectrum's 800 lowest bins are averaged: octaves, then finer.
QUEFRENCIES = (2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 400)
_CEPSTRUM_BINS = (20, 820)  # 108 Hz to 4.4 kHz

_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def chroma(power: Floats, sample_rate: int) -> Floats:
    """Magnitude in each pitch class, C first, of length one or silent; [frames, 12].

    >>> tone = np.sin(2 * np.pi * 440 / 22050 * np.arange(8192)).astype(np.float32)
    >>> from hashing.artists.timbre import power_spectra
    >>> int(chroma(power_spectra(tone, 4096, 2048), 22050)[0].argmax())  # A
    9
    """
    found = np.sqrt(power) @ _chroma_filters(power.shape[1], sample_rate)
    return np.asarray(found / (np.linalg.norm(found, axis=1, keepdims=True) + np.float32(1e-4)))


@functools.lru_cache(maxsize=4)
def _chroma_filters(bins: int, sample_rate: int) -> Floats:
    """Each bin is shared by the two nearest semitones, [bins, 12]."""
    hz = np.linspace(0.0, sample_rate / 2, bins)
    used = np.flatnonzero((hz > CHROMA_HZ[0]) & (hz < CHROMA_HZ[1]))
    pitch = 12.0 * np.log2(hz[used] / 440.0) + 69.0
    low = np.floor(pitch).astype(int)
    filters = np.zeros((bins, 12), np.float32)
    np.add.at(filters, (used, low % 12), 1.0 - (pitch - low))
    np.add.at(filters, (used, (low + 1) % 12), pitch - low)
    return filters


@functools.lru_cache(maxsize=1)
def _circle() -> tuple[npt.NDArray[np.intp], Floats]:
    """Rotations of twelve classes, [12, 12]; standardised profiles of 24 keys, [24, 12]."""
    steps = np.arange(12)
    rotations = (steps[None, :] - steps[:, None]) % 12
    profiles = np.concatenate([np.array(profile)[rotations] for profile in (_MAJOR, _MINOR)])
    profiles -= profiles.mean(axis=1, keepdims=True)
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    return rotations, profiles.astype(np.float32)


def chords(power: Floats, sample_rate: int) -> dict[str, Floats]:
    """Statistics of the chroma of a segment, of `power` [frames, bins]."""
    frames = chroma(power, sample_rate)
    mean = frames.mean(axis=0)
    share = mean / (mean.sum() + np.float32(1e-6))
    rotations, profiles = _circle()
    centred = frames - frames.mean(axis=1, keepdims=True)
    total = frames.sum(axis=1, keepdims=True) + np.float32(1e-3)
    together = centred.T @ centred / np.float32(len(centred))
    lag = min(STEP_LAG, len(centred) - 1)
    steps = centred[lag:].T @ centred[: len(centred) - lag] / np.float32(len(centred) - lag)
    spread = np.linalg.norm(mean - mean.mean())
    fit = profiles @ (mean - mean.mean()) / (spread + np.float32(1e-6))
    major, minor = fit[:12].max(), fit[12:].max()
    return {
        "chroma mean": mean,
        "chroma deviation": frames.std(axis=0),
        "chroma sorted": np.sort(share),
        "chroma circle of the mean": _magnitudes(share[None]).mean(axis=0),
        "chroma circle": _magnitudes(frames / total).mean(axis=0),
        "chroma intervals": _by_interval(together, rotations)[:7],
        "chroma steps": _by_interval(steps, rotations),
        "chroma change": np.array([_change(frames, lag) for lag in CHANGE_LAGS], np.float32),
        "key": np.array([major, minor, major - minor], np.float32),
    }


def _magnitudes(classes: Floats) -> Floats:
    """Magnitudes 1 to 6 of the Fourier transform around the circle, [n, 6]."""
    return np.abs(np.fft.fft(classes, axis=1))[:, 1:7].astype(np.float32)


def _by_interval(products: Floats, rotations: npt.NDArray[np.intp]) -> Floats:
    """Sums of products [later, earlier] of classes whose distance upwards is 0 to 11."""
    rows = np.arange(12)
    return np.stack([products[rows, rotations[interval]].sum() for interval in range(12)])


def _change(frames: Floats, lag: int) -> float:
    """One less the mean similarity of frames so far apart."""
    lag = min(lag, len(frames) - 1)
    return float(1.0 - np.einsum("ij,ij->i", frames[lag:], frames[: len(frames) - lag]).mean())


def registers(power: Floats, sample_rate: int) -> dict[str, Floats]:
    """Level of each octave, how far its notes stand out, and how fine the spectrum is."""
    import scipy.fft

    semitones = decibel(power @ _semitones(power.shape[1], sample_rate), RANGE_DB)
    octaves = semitones.reshape(len(semitones), -1, 12)
    level = octaves.mean(axis=(0, 2))
    lines = decibel(power[:, slice(*_CEPSTRUM_BINS)], RANGE_DB)
    cepstrum = np.abs(scipy.fft.dct(lines, axis=1, norm="ortho")[:, : QUEFRENCIES[-1]])
    sums = np.add.reduceat(cepstrum.mean(axis=0), QUEFRENCIES[:-1])
    fineness = np.log(sums / np.diff(QUEFRENCIES) + 1e-3)
    return {
        "octaves": level - level.mean(),
        "tonality": (octaves.max(axis=2) - octaves.mean(axis=2)).mean(axis=0),
        "fineness": fineness.astype(np.float32),
    }


@functools.lru_cache(maxsize=4)
def _semitones(bins: int, sample_rate: int) -> Floats:
    """Which bins each semitone of the registers holds, [bins, 72]."""
    hz = np.linspace(0.0, sample_rate / 2, bins)
    edges = 440.0 * 2.0 ** ((np.arange(REGISTERS[0], REGISTERS[1] + 1) - 69.5) / 12.0)
    notes = np.searchsorted(edges, hz, side="right") - 1
    filters = np.zeros((bins, REGISTERS[1] - REGISTERS[0]), np.float32)
    used = np.flatnonzero((notes >= 0) & (notes < filters.shape[1]))
    filters[used, notes[used]] = 1.0
    return filters
