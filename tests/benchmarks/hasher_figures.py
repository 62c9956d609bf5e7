"""Operating curves of systems, figures at equal recall, and their bootstrap intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from hasher_music import STEP, Music, Queries, Truth
from hasher_systems import System

from hashing.metrics import draws, interval

# Recalls at which systems are compared, as shares of the exact search's.
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

# Bootstrap samples: the ends of a 95 % interval then stand on 50 samples each.
RESAMPLES = 2000

# What separates tracks where a place is written as one number; above the frames of any track.
_TRACK = 1 << 32


@dataclasses.dataclass(frozen=True)
class Point:
    """One position of a dial, for queries [Q].

    Attributes:
      right: whether each query's answer is right.
      examined: items that its snippets were compared with, together.
      milliseconds: CPU time of a query, on average.
    """

    effort: Any
    right: np.ndarray
    examined: np.ndarray
    milliseconds: float


def curve(
    system: System,
    snippets: np.ndarray,
    music: Music,
    queries: Queries,
    truth: Truth,
    steps: Sequence[int],
) -> dict[int, list[Point]]:
    """Points of a system by the snippets of a query; `snippets` [Q, all steps, ...]."""
    n, longest = snippets.shape[:2]
    found: dict[int, list[Point]] = {count: [] for count in steps}
    for effort in system.efforts:
        answers = system.search(snippets.reshape(n * longest, -1), effort)
        items = answers.items.reshape(n, longest, -1)
        scores = answers.scores.reshape(n, longest, -1)
        examined = answers.examined.reshape(n, longest)
        for count in steps:
            best = begins(items[:, :count], scores[:, :count], music)
            seconds = answers.seconds / longest * count
            found[count].append(
                Point(effort, truth.right(best), examined[:, :count].sum(1), 1e3 * seconds / n)
            )
    return found


def begins(items: np.ndarray, scores: np.ndarray, music: Music) -> np.ndarray:
    """The item at which each query begins, [Q]; -1 where nothing was found.

    Sequence consensus: an item found for the snippet of number `m` says that the query begins `m`
    steps before it; the beginning with the largest sum of scores wins.

    Args:
      items, scores: [Q, steps, k] of each snippet's answers.
    """
    n, steps, _ = items.shape
    if steps == 1:
        return items[:, 0, 0]
    held = np.maximum(items, 0)
    back = np.arange(steps)[None, :, None] * STEP
    place = (music.track[held] + 1) * _TRACK + music.frame[held] - back
    query = np.broadcast_to(np.arange(n)[:, None, None], items.shape)
    step = np.broadcast_to(np.arange(steps)[None, :, None], items.shape)
    columns = [part[items >= 0] for part in (query, place, step)]
    score = scores[items >= 0].astype(np.float64)
    # An item in several buckets is found several times, and counts once for each snippet.
    order = np.lexsort((-score, columns[2], columns[1], columns[0]))
    query, place, step = (part[order] for part in columns)
    score = score[order]
    fresh = np.ones(order.size, bool)
    fresh[1:] = (np.diff(query) != 0) | (np.diff(place) != 0) | (np.diff(step) != 0)
    query, place, score = query[fresh], place[fresh], score[fresh]
    first = np.ones(query.size, bool)
    first[1:] = (np.diff(query) != 0) | (np.diff(place) != 0)
    sums = np.add.reduceat(score, np.flatnonzero(first)) if query.size else np.empty(0)
    query, place = query[first], place[first]
    order = np.lexsort((-sums, query))
    winners, at = np.unique(query[order], return_index=True)
    out = np.full(n, -1, np.int64)
    known = (music.track + 1) * _TRACK + music.frame
    # A place before the track, or in silence, is that of the next item.
    out[winners] = np.minimum(np.searchsorted(known, place[order][at]), known.size - 1)
    return out


def at_recall(recall: np.ndarray, cost: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Cost at a recall between points of curves, logarithmic in the cost, [b].

    NaN above the last point; the first point's cost below it, for there is no cheaper one.

    Args:
      recall, cost: [b, points], by rising effort.
      wanted: recall, [b].
    """
    # What more effort loses again is noise: the ranking is the same.
    rising = np.maximum.accumulate(recall, axis=1)
    log_cost = np.log(np.maximum(cost, 1e-12))
    row = np.arange(len(recall))
    reached = rising >= wanted[:, None]
    after = reached.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    span = np.maximum(rising[row, after] - rising[row, before], 1e-12)
    part = np.clip((wanted - rising[row, before]) / span, 0.0, 1.0)
    found = log_cost[row, before] + part * (log_cost[row, after] - log_cost[row, before])
    return np.where(reached.any(axis=1), np.exp(found), np.nan)


class Comparison:
    """Bootstrap samples of all curves at one length of queries, the same samples for all.

    Args:
      curves: points by system.
      exact: right answers of the exact search, [Q].
      groups: recording of each query, [Q]: queries from one are drawn together.
      items: of the database.
    """

    def __init__(
        self,
        curves: dict[str, list[Point]],
        exact: np.ndarray,
        groups: np.ndarray,
        items: int,
        seed: int,
    ) -> None:
        number = np.unique(groups, return_inverse=True)[1]
        rng = np.random.default_rng([seed, 0xB0])
        drawn = np.concatenate(list(draws(int(number.max()) + 1, rng, RESAMPLES)))
        # The first row is the queries as they were asked.
        weights = np.vstack((np.ones(number.size), drawn[:, number])).astype(np.float64)
        weights /= weights.sum(axis=1, keepdims=True)
        self._shares: dict[tuple[str, float], np.ndarray] = {}
        self.exact = weights @ exact
        self.recall = {
            name: np.stack([weights @ point.right for point in points], axis=1)
            for name, points in curves.items()
        }
        self.share = {
            name: np.stack([weights @ point.examined / items for point in points], axis=1)
            for name, points in curves.items()
        }
        self.milliseconds = {
            name: np.array([point.milliseconds for point in points])
            for name, points in curves.items()
        }

    def share_at(self, name: str, level: float) -> np.ndarray:
        """Share of the database at `level` of the exact recall: as measured, then samples."""
        if (name, level) not in self._shares:
            self._shares[name, level] = at_recall(
                self.recall[name], self.share[name], level * self.exact
            )
        return self._shares[name, level]

    def milliseconds_at(self, name: str, level: float) -> float:
        """CPU milliseconds of a query at `level` of the exact recall."""
        found = at_recall(
            self.recall[name][:1], self.milliseconds[name][None], level * self.exact[:1]
        )
        return float(found[0])

    def recall_at(self, name: str, share: float) -> np.ndarray:
        """Recall where a `share` of the database is examined: as measured, then samples."""
        return np.array(
            [
                np.interp(np.log(share), np.log(np.maximum(cost, 1e-12)), recall)
                for cost, recall in zip(self.share[name], self.recall[name], strict=True)
            ]
        )

    def ratio(self, one: str, other: str, level: float) -> dict[str, Any]:
        """How many times as much of the database `one` examines as `other`, at equal recall."""
        ratios = self.share_at(one, level) / self.share_at(other, level)
        kept = ratios[1:][np.isfinite(ratios[1:])]
        # An interval of the samples that reach the recall would be one of the lucky ones.
        whole = kept.size == ratios.size - 1
        low, high = interval(kept) if whole else (float("nan"), float("nan"))
        return {"ratio": float(ratios[0]), "low": low, "high": high}

    def difference(self, one: str, other: str, share: float) -> dict[str, float]:
        """By how much the recall of `one` is above that of `other` at an equal `share` examined."""
        samples = self.recall_at(one, share) - self.recall_at(other, share)
        low, high = interval(samples[1:])
        return {"difference": float(samples[0]), "low": low, "high": high}
