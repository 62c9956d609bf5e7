"""Every figure that hashbeam reports about look-up, each with its definition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# Share of queries without an answer in the index that may be given one, where figures are compared
# at one operating point.
FALSE_POSITIVE_SHARE = 0.01

# Queries without an answer that a threshold for that share needs: of 300, three may be above it,
# and a share of 1 % is told from one of 3 %.
ENOUGH_NEGATIVES = 300

# Bootstrap samples of a comparison: the ends of a 95 % interval then stand on 250 samples each.
RESAMPLES = 10_000

# Bootstrap samples that are weighed at once: with 3,000 queries they are 6 MB.
_RESAMPLES_AT_ONCE = 500


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
    # Rounding must not take one away where the share of a number is a whole number.
    allowed = int(np.floor(share * negatives.size + 1e-9))
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


@dataclasses.dataclass(frozen=True)
class Reliability:
    """One bin of a reliability diagram.

    Attributes:
      score: mean score of its answers.
      right: share of them that are right.
      low, high: 95 % interval of that share.
      n: answers.
    """

    score: float
    right: float
    low: float
    high: float
    n: int


def reliability(scores: Values, right: Flags, bins: int = 10) -> list[Reliability]:
    """The reliability diagram of a score (Murphy & Winkler, 1977), in bins of equal numbers.

    The bins are those of `calibration_error`; a calibrated score has them on the diagonal.

    >>> scores, right = np.array([0.1, 0.9, 0.8, 0.2]), np.array([False, True, True, False])
    >>> [(one.score, one.right, one.n) for one in reliability(scores, right, bins=2)]
    [(0.15, 0.0, 2), (0.85, 1.0, 2)]
    """
    found = []
    order = np.argsort(scores, kind="stable")
    for part in np.array_split(order, min(bins, scores.size)) if scores.size else []:
        low, high = wilson_interval(int(right[part].sum()), part.size)
        mean, share = float(scores[part].mean()), float(right[part].mean())
        found.append(Reliability(round(mean, 12), share, low, high, int(part.size)))
    return found


def draws(groups: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> Iterator[Ints]:
    """How often each of `groups` is in each bootstrap sample, some samples at a time, [b, groups].

    Whole groups are drawn (cluster bootstrap: Davison & Hinkley, "Bootstrap methods and their
    application", 1997, section 3.8): queries from one track succeed and fail together.

    >>> weights = next(draws(3, np.random.default_rng(1), 5))
    >>> weights.shape, weights.sum(axis=1).tolist()
    ((5, 3), [3, 3, 3, 3, 3])
    """
    chances = np.full(groups, 1.0 / max(1, groups))
    for first in range(0, resamples, _RESAMPLES_AT_ONCE):
        n = min(_RESAMPLES_AT_ONCE, resamples - first)
        if groups:
            yield rng.multinomial(groups, chances, size=n).astype(np.int64)
        else:
            yield np.zeros((n, 0), dtype=np.int64)


def weighted_threshold(
    negatives: Values, weights: Ints, share: float = FALSE_POSITIVE_SHARE
) -> Values:
    """`false_positive_threshold` of samples in which each negative stands some times.

    Args:
      negatives: best score of each query that has no answer in the index, [n].
      weights: how often each is in each sample, [b, n].

    Returns:
      A threshold for each sample, [b]; 0 for a sample of none.

    >>> weighted_threshold(np.array([0.1, 0.9]), np.array([[1, 1], [3, 0]]), 0.25).tolist()
    [0.9, 0.1]
    """
    if not negatives.size:
        return np.zeros(len(weights))
    order = np.argsort(-negatives, kind="stable")
    total = np.cumsum(weights[:, order], axis=1)
    allowed = np.floor(share * total[:, -1] + 1e-9).astype(np.int64)
    # The first whose sample holds more than are allowed from the top down to it.
    first = np.argmax(total > allowed[:, None], axis=1)
    return np.where(total[:, -1] > 0, negatives[order][first], 0.0)


def weighted_above(scores: Values, weights: Ints, thresholds: Values) -> Ints:
    """How many of each sample's `scores` [n] are above its threshold; weights [b, n], both [b].

    >>> weights = np.array([[2, 0], [1, 1]])
    >>> weighted_above(np.array([0.5, 0.7]), weights, np.array([0.4, 0.6])).tolist()
    [2, 1]
    """
    order = np.argsort(-scores, kind="stable")
    total = np.zeros((len(weights), scores.size + 1), dtype=np.int64)
    np.cumsum(weights[:, order], axis=1, out=total[:, 1:])
    above = np.searchsorted(-scores[order], -thresholds, side="left")
    return np.asarray(total[np.arange(len(weights)), above])


def interval(samples: Values) -> tuple[float, float]:
    """The middle 95 % of bootstrap samples (percentile interval: Efron & Tibshirani, 1993).

    >>> interval(np.arange(1001.0))
    (25.0, 975.0)
    """
    low, high = np.quantile(samples, [0.025, 0.975])
    return (float(low), float(high))
