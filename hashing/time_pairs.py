"""A map of times as a few pairs of them, between which lines are true enough."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float32]

TOLERANCE_S = 0.010  # half of what listeners take for two onsets in place of one


def thinned(
    first_s: npt.NDArray[np.float64],
    second_s: npt.NDArray[np.float64],
    tolerance_s: float = TOLERANCE_S,
) -> tuple[Seconds, Seconds]:
    """Those of some pairs of times that linear interpolation needs to be near all the others.

    Args:
      first_s, second_s: [n] s; the first rises, the second does not fall.
      tolerance_s: by how much the others may be off, s of the second.

    >>> one, other = thinned(np.arange(5.0), np.array([0.0, 1.0, 2.0, 4.0, 6.0]))
    >>> one.tolist(), other.tolist()
    ([0.0, 2.0, 4.0], [0.0, 2.0, 6.0])
    """
    if not len(first_s):
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    kept = _needed(first_s.tolist(), second_s.tolist(), tolerance_s)
    return first_s[kept].astype(np.float32), second_s[kept].astype(np.float32)


def _needed(x: list[float], y: list[float], tolerance: float) -> list[int]:
    """Numbers of the points that are kept.

    From the last one that is kept, each point leaves open the slopes of lines that pass it within
    the tolerance. A line may end at a point whose slope all points before it leave open.
    """
    kept, at = [0], 0
    low, high = -np.inf, np.inf
    for i in range(1, len(x)):
        slope = (y[i] - y[at]) / (x[i] - x[at])
        if not low <= slope <= high:
            at = i - 1
            kept.append(at)
            low, high = -np.inf, np.inf
        run = x[i] - x[at]
        low = max(low, (y[i] - tolerance - y[at]) / run)
        high = min(high, (y[i] + tolerance - y[at]) / run)
    if len(x) > 1:
        kept.append(len(x) - 1)
    return kept
