"""The comparator that every artist embedding must beat: mean and deviation of cepstra of a track.

After Logan (ISMIR 2000) and Mandel & Ellis (ISMIR 2005): 20 coefficients of all frames that the
artist features hear, without anything that was learned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.artists import timbre
from hashing.artists.encoder import unit
from hashing.artists.features import ArtistFeatures, mel_bands
from hashing.errors import AudioError

Floats = npt.NDArray[np.float32]

SETTINGS = ArtistFeatures()


def track_cepstra(samples: Floats, settings: ArtistFeatures = SETTINGS) -> Floats:
    """Mean and deviation of each coefficient over the frames of a track, [2 · n_mfcc].

    Args:
        samples: mono, at ``settings.sample_rate``, [n].

    Raises: AudioError, ``silent`` or ``too-short``.
    """
    if samples.size < settings.n_fft:
        raise AudioError("too-short", f"a track of {samples.size} samples has no frame")
    if not samples.any():
        raise AudioError("silent", "the track is silent")
    rate = settings.sample_rate
    frames = []
    for start_s, length_s in settings.segments_of(samples.size / rate):
        first = round(start_s * rate)
        part = samples[first : first + round(length_s * rate)]
        power = timbre.power_spectra(part, settings.n_fft, settings.hop_length)
        frames.append(timbre.mfcc(mel_bands(power, settings), settings.n_mfcc))
    values = np.concatenate(frames)
    return np.concatenate((values.mean(axis=0), values.std(axis=0)), dtype=np.float32)


def standardise(values: Floats) -> Floats:
    """Each column with mean 0 and deviation 1 over the tracks, each row of length one.

    No labels are looked at. On 27 artists of the shared music ARI was .228 so, .155 without the
    length, .197 for the statistics as they are, and .115 to .235 for other choices: it is among the
    best, so that nothing is beaten for being badly scaled.

    >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    spread = values.std(axis=0)
    return unit((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1))
