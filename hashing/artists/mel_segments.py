"""Segments of a track's mel spectrogram, as networks that tell artists apart hear them.

A track is heard in at most ten segments, linearly spaced over it, of three or nine seconds
(Royo-Letelier et al., ISMIR 2018). Levels are those of `hashing.features.spectrogram`: dB re full
scale.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hashing.errors import AudioError
from hashing.features import FeatureConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Segments of a track: the paper's number.
N_SEGMENTS = 10

# 128 mel bands up to half of 22,050 Hz, windows of 46 ms half over one another. 388 frames are nine
# seconds, 129 frames three; `snippet_hop` is as long, because segments that fit in do not overlap.
MEL_9S = FeatureConfig(
    sample_rate=22050,
    n_fft=1024,
    hop_length=512,
    n_bands=128,
    fmin=0.0,
    fmax=11025.0,
    snippet_frames=388,
    snippet_hop=388,
)
MEL_3S = dataclasses.replace(MEL_9S, snippet_frames=129, snippet_hop=129)
LENGTHS = {"3s": MEL_3S, "9s": MEL_9S}


def linear_starts(frames: int, config: FeatureConfig, n: int = N_SEGMENTS) -> Ints:
    """First frames of `n` segments, linearly spaced over a track of `frames`; they may overlap.

    The first begins and the last ends with the track; equal ones are one. A track that is shorter
    than a segment has the start 0.

    >>> linear_starts(1000, MEL_9S, 3).tolist(), linear_starts(200, MEL_9S).tolist()
    ([0, 306, 612], [0])
    """
    room = max(0, frames - config.snippet_frames)
    if n == 1:
        return np.array([room // 2])
    return np.unique(np.linspace(0, room, n).round().astype(np.int64))


def cut_segments(levels: npt.NDArray[np.floating], starts: Ints, config: FeatureConfig) -> Floats:
    """The segments that begin at `starts`, float32 [n, n_bands, snippet_frames].

    A track that is shorter than a segment is heard again from its beginning.

    Args:
      levels: the track's spectrogram in dB, [frames, n_bands].

    Raises:
      AudioError: ``too-short``: the track has no frame.
    """
    if not len(levels):
        raise AudioError("too-short", f"a track is shorter than {config.n_fft} samples")
    if len(levels) < config.snippet_frames:
        levels = np.resize(levels, (config.snippet_frames, config.n_bands))
        starts = np.zeros_like(starts)
    cut = np.stack([levels[start : start + config.snippet_frames].T for start in starts])
    return np.ascontiguousarray(cut, dtype=np.float32)


def spans_of(
    duration_s: float, config: FeatureConfig, n: int = N_SEGMENTS
) -> list[tuple[float, float]]:
    """Start and duration, seconds, of the parts that `linear_starts` names of such a track.

    The spectrogram of a part is the segment, frame for frame, so that no more need be decoded.

    >>> [(round(start, 2), round(length, 2)) for start, length in spans_of(30.0, MEL_9S, 2)]
    [(0.0, 9.03), (20.94, 9.03)]
    """
    samples = int(duration_s * config.sample_rate)
    frames = max(0, (samples - config.n_fft) // config.hop_length + 1)
    if frames < config.snippet_frames:
        return [(0.0, duration_s)]
    length = config.snippet_samples / config.sample_rate
    return [(float(start) * config.frame_s, length) for start in linear_starts(frames, config, n)]
