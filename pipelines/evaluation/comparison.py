"""Whether one hasher is better than another: the same queries, drawn anew ten thousand times.

Two systems that are asked the same queries fail on the same hard ones, so the interval of their
difference is much narrower than that of either (paired bootstrap: Efron & Tibshirani, "An
introduction to the bootstrap", 1993; Koehn, EMNLP 2004, for system comparisons). Tracks are drawn,
with all of their queries, and those of the index and those left out each for themselves; where the
figure has a threshold, it is set anew in every sample, so that the interval also holds what the
choice of the negatives adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import metrics
from pipelines.evaluation.accuracy import Result

Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Figures that are compared: top-1, and top-1 at 1 % false positives.
FIGURES = ("top1", "at_1_percent")


class Bootstrap:
    """Bootstrap samples of the figures of several systems on the same queries.

    Args:
        results: of each system. Queries that one of them could not ask are left out for all.
        seed: the same gives the same samples.
        resamples: how many samples.

    Attributes:
        queries: positive queries that all systems were asked, by duration; None for all of them.
        negatives: the same of negative ones.

    >>> found = [Result("clean", 5.0, "a", 0.0, "a", 0.9, right=True, query=0)]
    >>> missed = [Result("clean", 5.0, "a", 0.0, query=0)]
    >>> both = Bootstrap({"one": found, "other": missed}, seed=1, resamples=100)
    >>> both.difference("one", "other", 5.0)["top1"]
    {'difference': 1.0, 'low': 1.0, 'high': 1.0}
    """

    def __init__(
        self,
        results: Mapping[str, Sequence[Result]],
        seed: int,
        resamples: int = metrics.RESAMPLES,
    ) -> None:
        table = _paired(results)
        self.systems = list(results)
        rows = table[self.systems[0]] if self.systems else []
        self.durations: list[float] = sorted({row.duration_s for row in rows})
        known, _ = _numbered(row.source or row.wanted for row in rows if row.wanted)
        others, _ = _numbered(row.source for row in rows if not row.wanted)
        of_duration = np.array([row.duration_s for row in rows], dtype=np.float64)
        positive = np.array([bool(row.wanted) for row in rows], dtype=bool)
        score = {s: np.array([row.score for row in table[s]], dtype=float) for s in self.systems}
        right = {s: np.array([row.right for row in table[s]], dtype=bool) for s in self.systems}
        self.queries: dict[float | None, int] = {None: int(positive.sum())}
        self.negatives: dict[float | None, int] = {None: int((~positive).sum())}
        chosen: dict[float, tuple[Ints, Ints]] = {}
        for seconds in self.durations:
            here = of_duration == seconds
            asked, left = np.flatnonzero(here & positive), np.flatnonzero(here & ~positive)
            chosen[seconds] = (asked, left)
            self.queries[seconds], self.negatives[seconds] = asked.size, left.size
        place = np.cumsum(positive) - 1, np.cumsum(~positive) - 1  # of a row among its kind
        self._n = {seconds: np.zeros(resamples) for seconds in self.durations}
        self._counts = {
            (system, figure, seconds): np.zeros(resamples)
            for system in self.systems
            for figure in FIGURES
            for seconds in self.durations
        }
        rng = np.random.default_rng([seed, 0xB007])
        first = 0
        for inside, outside in zip(
            metrics.draws(int(known.max(initial=-1)) + 1, rng, resamples),
            metrics.draws(int(others.max(initial=-1)) + 1, rng, resamples),
            strict=True,
        ):
            part = slice(first, first + len(inside))
            first += len(inside)
            for seconds, (asked, left) in chosen.items():
                weights = inside[:, known[place[0][asked]]]
                of_left = outside[:, others[place[1][left]]]
                self._n[seconds][part] = weights.sum(axis=1)
                for system in self.systems:
                    hit = right[system][asked]
                    limits = metrics.weighted_threshold(score[system][left], of_left)
                    above = metrics.weighted_above(
                        score[system][asked][hit], weights[:, hit], limits
                    )
                    total = weights[:, hit].sum(axis=1)
                    self._counts[system, "top1", seconds][part] = total
                    self._counts[system, "at_1_percent", seconds][part] = above
        self._measured = {
            system: {figure: _measured(table[system], figure) for figure in FIGURES}
            for system in self.systems
        }

    def interval(self, system: str, figure: str, seconds: float | None) -> tuple[float, float]:
        """95 % interval of a figure of one system; (0, 1) where no query was asked."""
        if not self.queries[seconds]:
            return (0.0, 1.0)
        low, high = metrics.interval(self._samples(system, figure, seconds))
        return round(low, 4), round(high, 4)

    def difference(self, one: str, other: str, seconds: float | None) -> dict[str, Any]:
        """By how much the figures of `one` are above those of `other`, with 95 % intervals.

        None for a figure that there is none of: no queries, or no negatives to set a threshold on.

        Args:
            seconds: length of the queries; None for all of them, each at the threshold of its own.
        """
        found: dict[str, Any] = {}
        for figure in FIGURES:
            if not self.queries[seconds] or (figure != "top1" and not self.negatives[seconds]):
                found[figure] = None
                continue
            samples = self._samples(one, figure, seconds) - self._samples(other, figure, seconds)
            low, high = metrics.interval(samples)
            first, second = (self._measured[system][figure][seconds] for system in (one, other))
            found[figure] = {
                "difference": round(first - second, 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        return found

    def differences(self) -> list[dict[str, Any]]:
        """`difference` of every two systems, by duration and over all of them."""
        rows = []
        for one, other in itertools.combinations(self.systems, 2):
            for seconds in (None, *self.durations):
                facts = {"one": one, "other": other, "duration_s": seconds}
                counts = {"queries": self.queries[seconds], "negatives": self.negatives[seconds]}
                rows.append({**facts, **counts, **self.difference(one, other, seconds)})
        return rows

    def _samples(self, system: str, figure: str, seconds: float | None) -> Values:
        chosen = self.durations if seconds is None else [seconds]
        counts = sum(self._counts[system, figure, one] for one in chosen)
        n = sum(self._n[one] for one in chosen)
        # A sample may hold no query of some duration.
        return np.asarray(counts / np.maximum(n, 1.0), dtype=np.float64)


def _paired(results: Mapping[str, Sequence[Result]]) -> dict[str, list[Result]]:
    """The results of each system, query by query, of the queries that all of them were asked."""
    numbers = [
        {result.query for result in of_system if not result.error} for of_system in results.values()
    ]
    common = set.intersection(*numbers) if numbers else set()
    return {
        system: sorted((one for one in rows if one.query in common), key=lambda one: one.query)
        for system, rows in results.items()
    }


def _numbered(names: Any) -> tuple[Ints, list[str]]:
    """Names as numbers counted from 0, [n], and the names."""
    distinct: dict[str, int] = {}
    numbers = [distinct.setdefault(name, len(distinct)) for name in names]
    return np.array(numbers, dtype=np.int64), list(distinct)


def _measured(rows: Sequence[Result], figure: str) -> dict[float | None, float]:
    """A figure as it was measured, by duration, and over all of them."""
    found: dict[float | None, float] = {}
    counted = asked = 0
    for seconds in sorted({row.duration_s for row in rows}):
        here = [row for row in rows if row.duration_s == seconds]
        negatives = np.array([row.score for row in here if not row.wanted], dtype=np.float64)
        limit = metrics.false_positive_threshold(negatives) if figure != "top1" else -1.0
        count = sum(row.right and row.score > limit for row in here)
        n = sum(bool(row.wanted) for row in here)
        found[seconds] = count / max(n, 1)
        counted, asked = counted + count, asked + n
    found[None] = counted / max(asked, 1)
    return found
