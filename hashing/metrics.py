"""Every figure that hashbeam reports about look-up, each with its definition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Share of queries without an answer in the index that may be given one, where figures are compared
# at one operating point.
FALSE_POSITIVE_SHARE = 0.01


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval that holds the true share with 95 % confidence (Wilson, 1927).

    >>> tuple(round(bound, 3) for bound in wilson_interval(95, 100))
    (0.888, 0.978)
    """
    if n == 0:
        return (0.0, 1.0)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (float(centre - half), float(centre + half))


def false_positive_threshold(negatives: Values, share: float = FALSE_POSITIVE_SHARE) -> float:
    """The lowest score above which at most `share` of the negatives lie.

    Args:
      negatives: best score of each query that has no answer in the index; 0 for no match.

    Returns:
      A score; a match counts when its score is strictly greater.

    >>> false_positive_threshold(np.array([0.1, 0.9, 0.2, 0.3]), 0.25)
    0.3
    """
    if not negatives.size:
        return 0.0
    allowed = int(np.floor(share * negatives.size))
    return float(np.sort(negatives)[::-1][min(allowed, negatives.size - 1)])


def calibration_error(scores: Values, right: Flags, bins: int = 10) -> float:
    """Expected calibration error: mean distance of score and share of right answers.

    Scores are put into `bins` bins of equal numbers (Naeini et al., AAAI 2015, with equal-mass
    bins); each bin weighs as much as it holds.

    >>> calibration_error(np.array([0.5, 0.5]), np.array([True, False]), bins=1)
    0.0
    """
    if not scores.size:
        return 0.0
    order = np.argsort(scores, kind="stable")
    error = 0.0
    for part in np.array_split(order, min(bins, scores.size)):
        error += part.size / scores.size * abs(float(scores[part].mean() - right[part].mean()))
    return error


def brier_score(scores: Values, right: Flags) -> float:
    """Mean squared distance of score and truth (Brier, 1950); 0 is perfect, 0.25 a coin.

    >>> brier_score(np.array([1.0, 0.0]), np.array([True, True]))
    0.5
    """
    return float(np.mean((scores - right) ** 2)) if scores.size else 0.0
