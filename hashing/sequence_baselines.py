"""What nobody has to train: hashes and summaries of frames that learned ones are compared with.

* `thresholded` is the published baseline of hash sequences: frames averaged over a step, each bin
  above or below its mean (there called TPAA, "thresholded piecewise aggregate approximation").
* `summary` is that of embeddings: mean and deviation of each bin over the whole track.

Source: Raffel, "Learning-based methods for comparing sequences" (2016), chapters 5 and 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.sequences import BITS, pack_codes

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint32]

LEAST_DEVIATION = 1e-6  # of a bin that is the same in all tracks, and tells nothing


def thresholded(frames: Floats, mean: Floats, downsampling: int = 8) -> Codes:
    """Frames [t, bins] → codes [t // downsampling] of their means, bit by bit above `mean` or not.

    Of the bins as many are left out on both sides as make 32: of 48 the 8 lowest and 8 highest.

    Args:
      frames: heard frames of one side (`hashing.cqt.heard_frames`).
      mean: [bins], what separates 0 and 1: the mean of that side's frames in training.

    Raises:
      ValueError: less than 32 bins.

    >>> frames = np.zeros((16, 48), np.float32)
    >>> frames[:8, 8] = frames[8:, 9] = 1
    >>> thresholded(frames, np.full(48, 0.5, np.float32)).tolist()
    [1, 2]
    """
    left_out, odd = divmod(frames.shape[1] - BITS, 2)
    if left_out < 0:
        raise ValueError(f"{frames.shape[1]} bins do not make {BITS} bits")
    above = step_means(frames, downsampling) - mean
    return pack_codes(above[:, left_out : frames.shape[1] - left_out - odd])


def step_means(frames: Floats, downsampling: int) -> Floats:
    """Means [t // downsampling, bins] of each step's frames.

    >>> step_means(np.array([[1.0], [3.0], [9.0]], np.float32), 2).tolist()
    [[2.0]]
    """
    steps = len(frames) // downsampling
    whole = frames[: steps * downsampling].reshape(steps, downsampling, -1)
    return np.asarray(whole.mean(axis=1), np.float32)


def step_directions(frames: Floats, downsampling: int) -> Floats:
    """The same of length one: products of two are cosines of raw frames."""
    return cqt.unit_frames(step_means(frames, downsampling))


def summary(frames: Floats) -> Floats:
    """Mean and deviation of each bin [2 · bins] of a track's frames [t, bins].

    >>> summary(np.array([[1.0, 0.0], [3.0, 0.0]], np.float32)).tolist()
    [2.0, 0.0, 1.0, 0.0]
    """
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Summaries:
    """Summaries of recordings, standardised over all of them.

    Attributes:
      mean, deviation: [d], of the recordings' summaries.
      standardised: [n, d].
    """

    mean: Floats
    deviation: Floats
    standardised: Floats

    @classmethod
    def of(cls, summaries: Sequence[Floats]) -> Summaries:
        """Those of some recordings."""
        found = np.stack(summaries)
        mean, deviation = found.mean(axis=0), found.std(axis=0) + np.float32(LEAST_DEVIATION)
        return cls(mean, deviation, (found - mean) / deviation)

    def likeness(self, query: Floats) -> Floats:
        """How alike the summary of a score is to each recording: less their squared distance [n].

        >>> one, other = np.array([0.0, 1.0], np.float32), np.array([2.0, 1.0], np.float32)
        >>> Summaries.of([one, other]).likeness(one).round(3).tolist()
        [-0.0, -4.0]
        """
        apart = self.standardised - (query - self.mean) / self.deviation
        return np.asarray(-(apart**2).sum(axis=1), np.float32)
