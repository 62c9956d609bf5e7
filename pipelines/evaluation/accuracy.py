"""How often look-up is right: what came of each query, and the shares over many of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import metrics
from pipelines.answers import MIN_SCORE

Flags = npt.NDArray[np.bool_]

# A match is in the right place when it is this near, seconds: the hop of an index.
PLACE_TOLERANCE_S = 0.5

# What the rows over all conditions and all durations are called.
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Result:
    """One query, and what one system said to it.

    Attributes:
        condition, duration_s: how it was degraded, and how long it is.
        wanted: the track that it is from; empty where no answer is right.
        start_s: where in that track it starts.
        answer, score, offset_s: the first match; empty and 0 where there is none.
        right: the answer is that recording.
        right_place: and the offset is right within `PLACE_TOLERANCE_S`.
        right_audio: or the samples there are the same: the track repeats itself.
        hash_cpu_ms: CPU time from samples at the hasher's rate to responses; None: not measured.
        look_up_cpu_ms: CPU time of look-up, comparison and ranking.
        examined: share of the index's snippets that stand in the buckets looked into.
        compared: share of the index's snippets whose whole codes were compared.
        error: why it could not be asked (a kind of `AudioError`); such a query counts nowhere.
        query: its number; the same query has the same number in every system.
        system: who was asked.
        source: the track that it was cut from, also where no answer is right.
    """

    condition: str
    duration_s: float
    wanted: str
    start_s: float
    answer: str = ""
    score: float = 0.0
    offset_s: float = 0.0
    right: bool = False
    right_place: bool = False
    right_audio: bool = False
    hash_cpu_ms: float | None = None
    look_up_cpu_ms: float | None = None
    examined: float | None = None
    compared: float | None = None
    error: str = ""
    query: int = 0
    system: str = ""
    source: str = ""


def thresholds(results: Iterable[Result]) -> dict[float, float]:
    """The score that 1 % of the negatives of each duration are above, at most.

    Over all conditions together: look-up does not know under which one it is asked.

    >>> negatives = [Result("clean", 5.0, "", 0.0, "x", score) for score in (0.2, 0.6)]
    >>> thresholds(negatives)
    {5.0: 0.6}
    """
    scores: dict[float, list[float]] = {}
    for result in results:
        of_duration = scores.setdefault(result.duration_s, [])
        if not (result.wanted or result.error):
            of_duration.append(result.score)
    return {
        seconds: metrics.false_positive_threshold(np.array(scores[seconds]))
        for seconds in sorted(scores)
    }


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Figures of one system by duration and condition, over all conditions, and over everything.

    ``top1``: share of queries whose first match is the right recording, whatever its score;
    ``accepted``: the same with a score of 0.5 or more; ``at_1_percent``: the same with a score
    above ``threshold``, the one that at most 1 % of the ``negatives`` of that duration are above,
    None where there are none; ``false_positives``: share of negatives with a score of 0.5 or more.
    ``right_place``: share of the *right* answers that are at most 0.5 s off; ``right_audio``: or
    elsewhere in the track where the audio is the same. Each ``top1`` has its 95 % interval.
    ``hash_cpu_ms`` and ``look_up_cpu_ms`` are medians, ``examined`` and ``compared`` mean shares of
    the database. A share of no queries is None. ``not_asked`` counts the queries that could not be
    asked, by reason.

    >>> found = Result("clean", 5.0, "a", 1.0, "a", 0.9, 1.0, right=True, right_place=True)
    >>> missed = Result("clean", 5.0, "b", 1.0)
    >>> summarise([found, missed])["conditions"][0]["top1"]
    0.5
    """
    not_asked = Counter(result.error for result in results if result.error)
    results = [result for result in results if not result.error]
    limits = thresholds(results)
    columns = _Columns(results, limits)
    rows: list[dict[str, Any]] = []
    by_duration: list[dict[str, Any]] = []
    for seconds in limits:
        here = columns.duration == seconds
        for name in dict.fromkeys(columns.condition[here].tolist()):
            rows.append(columns.row(here & (columns.condition == name), name, seconds))
        by_duration.append(columns.row(here, ALL, seconds))
    answered = columns.scores > 0
    scores, right = columns.scores[answered], columns.right[answered]
    return {
        "conditions": rows,
        "durations": by_duration,
        "overall": columns.row(np.ones(len(results), dtype=bool), ALL, None),
        "expected_calibration_error": metrics.calibration_error(scores, right),
        "brier_score": metrics.brier_score(scores, right),
        "reliability": [dataclasses.asdict(one) for one in metrics.reliability(scores, right)],
        "not_asked": dict(not_asked.most_common()),
    }


class _Columns:
    """Results as arrays, and figures over some of them."""

    def __init__(self, results: Sequence[Result], limits: dict[float, float]) -> None:
        def column(name: str, kind: type) -> npt.NDArray[Any]:
            return np.array([getattr(result, name) for result in results], dtype=kind)

        self.scores = column("score", float)
        self.duration = column("duration_s", float)
        self.condition = column("condition", str)
        self.positive = np.array([bool(result.wanted) for result in results], dtype=bool)
        self.right = column("right", bool)
        self.placed = column("right_place", bool)
        self.same = column("right_audio", bool) | self.placed
        self.limit = np.array([limits[result.duration_s] for result in results], dtype=float)
        # None becomes NaN: what was not measured is left out of means and medians.
        self.measured = {
            name: column(name, float)
            for name in ("hash_cpu_ms", "look_up_cpu_ms", "examined", "compared")
        }

    def row(self, chosen: Flags, condition: str, seconds: float | None) -> dict[str, Any]:
        asked, left = chosen & self.positive, chosen & ~self.positive
        right = asked & self.right
        n, found = int(asked.sum()), int(right.sum())
        sure = self.right[asked] & (self.scores[asked] >= MIN_SCORE)
        above = self.right[asked] & (self.scores[asked] > self.limit[asked])
        with_negatives = np.isin(self.duration[chosen], self.duration[~self.positive])
        has_negatives = bool(with_negatives.size and with_negatives.all())
        return {
            "duration_s": seconds,
            "condition": condition,
            "queries": n,
            "negatives": int(left.sum()),
            "top1": _share(self.right[asked]),
            "top1_interval": metrics.wilson_interval(found, n),
            "accepted": _share(sure),
            "threshold": None if seconds is None or not has_negatives else self.limit[chosen][0],
            "at_1_percent": _share(above) if has_negatives else None,
            "false_positives": _share(self.scores[left] >= MIN_SCORE),
            "right_place": _share(self.placed[right]),
            "right_audio": _share(self.same[right]),
            "hash_cpu_ms": _middle(self.measured["hash_cpu_ms"][chosen], np.median, 3),
            "look_up_cpu_ms": _middle(self.measured["look_up_cpu_ms"][chosen], np.median, 3),
            "examined": _middle(self.measured["examined"][chosen], np.mean, 6),
            "compared": _middle(self.measured["compared"][chosen], np.mean, 6),
        }


def _share(flags: Flags) -> float | None:
    return round(float(flags.mean()), 4) if flags.size else None


def _middle(values: npt.NDArray[np.float64], mean: Any, digits: int) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(mean(known)), digits) if known.size else None
