"""A score and a recording laid along one another at two scales, with a confidence.

First at the scale of codes: the distance of two steps is that of their hashes, which do not mind
other instruments, octaves and rooms, and of their frames, which tell where in the bar they are.
Then at the scale of frames within a band around that path, where constant-Q frames alone tell more
exactly which moment is which; tempo is taken to be steady for a second (`SMOOTH_S`).

Beyond the published aligner (`hashing.alignment.align`), which sees frames only and loses its way
in every third recording with other instruments; `hashbeam evaluate midi` compares them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hashing import cqt
from hashing.alignment import Alignment, align_matrix
from hashing.sequences import SequenceFeatures, TrackSequence

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

# Share of the hashes in the distance of two steps; the rest is of frames.
HASH_SHARE = 0.5
# Bits in which two foreign codes differ: that distance counts as much as that of foreign frames.
FOREIGN_BITS = 16.0
# Half the width of the band, frames: two codes, as much as a coarse path is off.
BAND = 16
# Penalty of a step to the next frame of one side alone, in mean distances of the band.
BAND_PENALTY = 0.2
# Half the time over which tempo is taken to be steady, s.
SMOOTH_S = 1.0


@dataclasses.dataclass(frozen=True)
class Matched:
    """A score and a recording, aligned.

    Attributes:
      coarse: the alignment of their steps, with score and confidence.
      score_s, recording_s: [k], the map of times, both rising: what the score has at
        ``score_s[i]`` is heard at ``recording_s[i]``.
    """

    coarse: Alignment
    score_s: Values
    recording_s: Values


def match(score: TrackSequence, recording: TrackSequence, features: SequenceFeatures) -> Matched:
    """Align a score with a recording at both scales.

    Raises: ValueError where one of them has no code, or too few frames for its codes.
    """
    coarse, x, y = _coarse(score, recording, features)
    path = refine(x, y, coarse.path, features.downsampling)
    times = smooth(path, round(SMOOTH_S / features.cqt.frame_s)) * features.cqt.frame_s
    return Matched(coarse, times[0], times[1])


def _coarse(
    score: TrackSequence, recording: TrackSequence, features: SequenceFeatures
) -> tuple[Alignment, Floats, Floats]:
    x, y = score.frames(features.cqt), recording.frames(features.cqt)
    if not (score.codes.size and recording.codes.size):
        raise ValueError("nothing to align: a sequence has no code")
    means = [
        _means(frames, len(one.codes), features.downsampling)
        for frames, one in ((x, score), (y, recording))
    ]
    distances = np.maximum(1 - means[0] @ means[1].T, 0)
    bits = np.bitwise_count(score.codes[:, None] ^ recording.codes[None]).astype(np.float32)
    distances = (1 - HASH_SHARE) * distances + HASH_SHARE / FOREIGN_BITS * bits
    return align_matrix(distances.astype(np.float32), penalty="mean"), x, y


def _means(frames: Floats, steps: int, each: int) -> Floats:
    """Unit frames [t, bins] → the unit means of each step's frames [steps, bins]."""
    return cqt.unit_frames(frames[: steps * each].reshape(steps, each, -1).mean(axis=1))


def refine(
    x: Floats, y: Floats, coarse: npt.NDArray[np.int32], downsampling: int
) -> npt.NDArray[np.int32]:
    """The cheapest path of frames near a path of steps.

    Args:
      x, y: [m, bins] and [n, bins], of length one.
      coarse: [k, 2], steps of both, none falling.
      downsampling: frames of a step.

    Returns:
      [l, 2], frames of both, none falling.
    """
    from hashing import band_kernel

    first, last = (
        coarse[0] * downsampling,
        np.minimum((coarse[-1] + 1) * downsampling, (len(x), len(y))),
    )
    rows = np.arange(first[0], last[0])
    # Middles of the steps; where several columns meet one row, their mean.
    steps, places = np.unique(coarse[:, 0], return_inverse=True)
    columns = np.bincount(places, coarse[:, 1]) / np.bincount(places)
    half = (downsampling - 1) / 2
    centres = np.interp(rows, steps * downsampling + half, columns * downsampling + half)
    # Beyond the middles of the first and the last step it goes on at the same pace.
    low, high = rows < steps[0] * downsampling + half, rows > steps[-1] * downsampling + half
    centres[low] += rows[low] - (steps[0] * downsampling + half)
    centres[high] += rows[high] - (steps[-1] * downsampling + half)
    starts = np.clip(np.round(centres).astype(np.int64) - BAND, -BAND, len(y) - 1 - BAND)
    # Where the path leaps along one row, the band rises towards it: else no path would be in it.
    ahead = BAND * np.arange(len(rows))
    starts = np.maximum.accumulate((starts - ahead)[::-1])[::-1] + ahead
    room = np.empty((2 * (len(rows) + len(y)) + 4 * BAND, 2), np.int32)
    begin = band_kernel.within_band(
        np.ascontiguousarray(x[rows]), np.ascontiguousarray(y), starts, 2 * BAND + 1,
        BAND_PENALTY, room,
    )  # fmt: skip
    path = room[begin:].copy()
    path[:, 0] += first[0]
    return path


def smooth(path: npt.NDArray[np.int32], half: int) -> Values:
    """Times of a path as a steady player has them: rows and columns [2, k], both rising.

    For each row the line that fits the path best within `half` rows on both sides (weights fall
    towards the ends: Epanechnikov) tells the column.

    >>> steps = np.array([[0, 0], [1, 1], [1, 2], [2, 3], [3, 3], [4, 4], [5, 5]], np.int32)
    >>> smooth(steps, 2).round(1).tolist()[0]
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    rows, places = np.unique(path[:, 0], return_inverse=True)
    columns = np.bincount(places, path[:, 1]) / np.bincount(places)
    span = np.arange(-half, half + 1)
    weights = 1 - (span / (half + 1)) ** 2
    # Rows of a path follow one another without gaps, so that sums over windows are convolutions.
    x, ones = (rows - rows[0]).astype(np.float64), np.ones(len(rows))

    def sums(values: Values) -> Values:
        return np.convolve(values, weights)[half : half + len(rows)]

    w, wx, wy = sums(ones), sums(x), sums(columns)
    wxx, wxy = sums(x * x), sums(x * columns)
    spread = w * wxx - wx * wx
    slope = np.divide(w * wxy - wx * wy, spread, out=np.ones(len(x)), where=spread > 1e-9)
    fitted = wy / w + slope * (x - wx / w)
    rising = np.maximum.accumulate(fitted)
    kept = np.concatenate([[True], np.diff(rising) > 1e-6])
    return np.stack([rows[kept].astype(np.float64), rising[kept]])
