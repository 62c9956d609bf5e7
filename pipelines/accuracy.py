"""How often look-up is right: what came of each query, and the shares over many of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hashing import metrics
from pipelines.answers import MIN_SCORE

# A match is in the right place when it is this near, seconds: the hop of an index.
PLACE_TOLERANCE_S = 0.5


@dataclasses.dataclass(frozen=True)
class Result:
    """One query and what came of it.

    Attributes:
        condition, duration_s: how it was degraded, and how long it is.
        wanted: the track that it is from; empty where no answer is right.
        start_s: where in that track it starts.
        answer, score, offset_s: the first match; empty and 0 where there is none.
        right: the answer is that recording.
        right_place: and the offset is right within `PLACE_TOLERANCE_S`.
        cpu_ms: CPU time of look-up and voting.
        error: why it could not be asked (a kind of `AudioError`); such a query counts nowhere.
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
    cpu_ms: float = 0.0
    error: str = ""


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Figures by duration and condition.

    ``top1``: share of queries whose first match is the right recording, whatever its score;
    ``accepted``: the same with a score of 0.5 or more; ``at_1_percent``: the same with a score
    above the one that 1 % of the negatives of that duration reach; ``right_place``: the same as
    ``top1`` and at most 0.5 s off; ``false_positives``: share of negatives with a score of 0.5 or
    more. Each ``top1`` has its 95 % interval. A share of no queries is None. ``not_asked`` counts
    the queries that could not be asked, by reason.

    >>> found = Result("clean", 5.0, "a", 1.0, "a", 0.9, 1.0, right=True, right_place=True)
    >>> missed = Result("clean", 5.0, "b", 1.0)
    >>> summarise([found, missed])["conditions"][0]["top1"]
    0.5
    """
    not_asked = Counter(result.error for result in results if result.error)
    results = [result for result in results if not result.error]
    rows: list[dict[str, Any]] = []
    by_duration: list[dict[str, Any]] = []
    scores = np.array([result.score for result in results], dtype=np.float64)
    positive = np.array([bool(result.wanted) for result in results], dtype=bool)
    right = np.array([result.right for result in results], dtype=bool)
    placed = np.array([result.right_place for result in results], dtype=bool)
    duration = np.array([result.duration_s for result in results], dtype=np.float64)
    condition = np.array([result.condition for result in results], dtype=str)
    cpu_ms = np.array([result.cpu_ms for result in results], dtype=np.float64)
    durations = sorted(set(duration.tolist()))
    for seconds in durations:
        here = duration == seconds
        negatives = scores[here & ~positive]
        threshold = metrics.false_positive_threshold(negatives)
        names = list(dict.fromkeys(condition[here].tolist()))
        for name in [*names, "all"]:
            chosen = here & (condition == name) if name != "all" else here
            asked, left = chosen & positive, chosen & ~positive
            n = int(asked.sum())
            above = right[asked] & (scores[asked] > threshold)
            row = {
                "duration_s": seconds,
                "condition": name,
                "queries": n,
                "negatives": int(left.sum()),
                "top1": _share(right[asked]),
                "top1_interval": metrics.wilson_interval(int(right[asked].sum()), n),
                "right_place": _share(placed[asked]),
                "accepted": _share(right[asked] & (scores[asked] >= MIN_SCORE)),
                "at_1_percent": _share(above) if negatives.size else None,
                "false_positives": _share(scores[left] >= MIN_SCORE),
            }
            (by_duration if name == "all" else rows).append(row)
    answered = scores > 0
    return {
        "conditions": rows,
        "durations": by_duration,
        "expected_calibration_error": metrics.calibration_error(scores[answered], right[answered]),
        "brier_score": metrics.brier_score(scores[answered], right[answered]),
        "look_up_cpu_ms": {
            f"{seconds:g}": round(float(np.median(cpu_ms[duration == seconds])), 3)
            for seconds in durations
        },
        "not_asked": dict(not_asked.most_common()),
    }


def _share(flags: np.ndarray) -> float | None:
    return round(float(flags.mean()), 4) if flags.size else None


def as_text(figures: dict[str, Any]) -> str:
    """Tables for a person: conditions down, durations across.

    Args:
        figures: what `summarise` gives, and the facts about the index that
            `pipelines.evaluate.evaluate_lookup` adds.
    """
    durations = [row["duration_s"] for row in figures["durations"]]
    names = [*dict.fromkeys(row["condition"] for row in figures["conditions"]), "all"]
    cells = {
        (row["condition"], row["duration_s"]): row
        for row in (*figures["conditions"], *figures["durations"])
    }
    out = [
        f"{figures['tracks_indexed']} tracks indexed, {figures['tracks_left_out']} left out, "
        f"keys of {figures['key_bits']} bits, {figures['probes']} probes"
    ]
    for figure, title in (
        ("top1", "right track first, %"),
        ("accepted", "right and score at least 0.5, %"),
        ("false_positives", "queries of tracks left out with score at least 0.5, %"),
    ):
        out += ["", title, f"{'':20s}" + "".join(f"{seconds:7g} s" for seconds in durations)]
        for name in names:
            values = [cells.get((name, seconds), {}).get(figure) for seconds in durations]
            shown = ["      -  " if v is None else f"{100 * v:7.1f}  " for v in values]
            out.append(f"{name:20s}" + "".join(shown))
    out += ["", f"expected calibration error {figures['expected_calibration_error']:.3f}"]
    if figures["not_asked"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in figures["not_asked"].items())
        out.append(f"not asked: {kinds}")
    return "\n".join(out)
