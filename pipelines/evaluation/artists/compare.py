"""How certain figures of groups are, and differences between systems: over groups, over artists.

Groups that share artists are not independent of each other, and with few artists the same ones
come again and again: an interval over groups says how another draw of groups of *these* artists
would come out, one over artists how other artists would. For the latter, artists are drawn anew,
and a group counts as often as all of its artists together were drawn (product of their counts:
Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 2007; for pairs, the vertex bootstrap of Snijders
& Borgatti, Connections 1999); where artists hardly recur, that is wider than it must be. Systems
are compared on the same groups (paired), and tuned cuts stay as they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.metrics import RESAMPLES, draws, interval
from pipelines.evaluation.artists.trees import FIGURES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OVER = ("groups", "artists")


class GroupBootstrap:
    """Bootstrap samples of the mean figures of several systems on the same groups.

    Args:
        figures: of each system, [groups, len(FIGURES)].
        artists: of each group.
        seed: the same gives the same samples.
        resamples: how many samples.

    >>> worse, better = np.zeros((3, len(FIGURES))), np.ones((3, len(FIGURES)))
    >>> both = GroupBootstrap({"a": better, "b": worse}, [(0, 1), (0, 2), (1, 2)], 1, 100)
    >>> both.difference("a", "b", "ari")["groups"]
    [1.0, 1.0]
    """

    def __init__(
        self,
        figures: Mapping[str, Floats],
        artists: Sequence[tuple[int, ...]],
        seed: int,
        resamples: int = RESAMPLES,
    ) -> None:
        self.systems = list(figures)
        values = np.concatenate([figures[name] for name in self.systems], axis=1)
        self._means = values.mean(axis=0)
        self._samples = {
            "groups": _over_groups(values, np.random.default_rng([seed, 0x6B]), resamples),
            "artists": _over_artists(
                values, artists, np.random.default_rng([seed, 0xA7]), resamples
            ),
        }

    def figure(self, system: str, name: str) -> dict[str, Any]:
        """Mean of a figure, and its 95 % intervals over groups and over artists."""
        place = self._place(system, name)
        return self._told(
            self._means[place], {over: one[:, place] for over, one in self._samples.items()}
        )

    def difference(self, one: str, other: str, name: str) -> dict[str, Any]:
        """By how much the figure of `one` is above that of `other`, and the intervals of that."""
        here, there = self._place(one, name), self._place(other, name)
        return self._told(
            self._means[here] - self._means[there],
            {over: rows[:, here] - rows[:, there] for over, rows in self._samples.items()},
        )

    def differences(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """`difference` of every two systems, of several figures."""
        return [
            {"one": one, "other": other, **{n: self.difference(one, other, n) for n in names}}
            for one, other in itertools.combinations(self.systems, 2)
        ]

    def _place(self, system: str, name: str) -> int:
        return self.systems.index(system) * len(FIGURES) + FIGURES.index(name)

    @staticmethod
    def _told(mean: float, samples: Mapping[str, Floats]) -> dict[str, Any]:
        ends = {over: list(interval(one)) if one.size else None for over, one in samples.items()}
        return {
            "mean": round(float(mean), 4),
            **{over: one and [round(end, 4) for end in one] for over, one in ends.items()},
        }


def _over_groups(values: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    n = len(values)
    return np.concatenate([weights @ values / n for weights in draws(n, rng, resamples)])


def _over_artists(
    values: Floats, artists: Sequence[tuple[int, ...]], rng: np.random.Generator, resamples: int
) -> Floats:
    """Means of the samples that have a group left, [samples, ...]."""
    known = sorted({one for group in artists for one in group})
    place = {one: number for number, one in enumerate(known)}
    widest = max(map(len, artists))
    # Groups of fewer artists are filled up with one who is always there once.
    members = np.full((len(artists), widest), len(known), np.int64)
    for row, group in enumerate(artists):
        members[row, : len(group)] = [place[one] for one in group]
    found = []
    for counts in draws(len(known), rng, resamples):
        filled = np.concatenate((counts, np.ones((len(counts), 1), np.int64)), axis=1)
        weights = np.ones((len(counts), len(artists)))
        for column in members.T:
            weights *= filled[:, column]
        total = weights.sum(axis=1)
        some = total > 0
        found.append(weights[some] @ values / total[some, None])
    return np.concatenate(found)
