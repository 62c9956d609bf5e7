"""Figures of all answers: by stage alone, of whole cascades, of distances, of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.cascade import CascadeSettings
from hashing.metrics import false_positive_threshold, wilson_interval
from hashing.midi_figures import MATCH, RECALLS, rank_figures
from hashing.sequences import SequenceFeatures
from pipelines.evaluation.midi.asking import BASELINE, CASCADES, OWN, PUBLISHED, Answer, Means
from pipelines.evaluation.midi.distances import Query, distances

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLOSE_S = 0.06  # what an alignment may be off: the time in which two onsets are one to listeners

# What is compared: stage, whose, name for people.
STAGES = (
    ("hashes", "own", "hash sequences"),
    ("hashes", "baseline", "thresholded frames"),
    ("embeddings", "own", "embeddings"),
    ("embeddings", "baseline", "mean and deviation"),
)
NAMES = {
    OWN: "whole cascade",
    PUBLISHED: "the same, published aligner",
    BASELINE: "baselines, published aligner",
}

QUANTILES = (0.01, 0.05, *np.arange(0.1, 0.91, 0.05).round(2).tolist(), 0.95, 0.99)
THRESHOLDS = np.linspace(0, 1, 41).round(3)


def summarise(
    queries: Sequence[Query],
    answers: Sequence[Answer],
    recordings: int,
    features: SequenceFeatures,
    means: Means,
    settings: CascadeSettings,
) -> dict[str, Any]:
    """All figures."""
    return {
        "stages": list(_stages(answers, recordings)),
        "cascades": [_cascade(name, answers, recordings, settings) for name in CASCADES],
        "distances": list(distances(queries, answers, features, means)),
        "hearing_s": {
            "rendering": _mean([one.score.rendering_s for one in queries]),
            "hashing": _mean([one.score.hashing_s for one in queries]),
            "hashing_a_recording": _mean([one.recording.hashing_s for one in queries]),
        },
    }


def _stages(answers: Sequence[Answer], recordings: int) -> Iterator[dict[str, Any]]:
    for stage, by, name in STAGES:
        found = [one.found[by] for one in answers]
        if stage == "hashes":
            places = np.array([one.by_hashes for one in found])
            seconds = [one.seconds[2] for one in found]
        else:
            places = np.array([one.by_likeness for one in found])
            seconds = [one.seconds[0] for one in found]
        yield {
            "name": name,
            "stage": stage,
            "by": by,
            **rank_figures(places, recordings),
            "cpu_s": _mean(seconds),
            "curve": _curve(places, recordings),
        }


def _curve(places: Ints, recordings: int) -> list[tuple[int, float]]:
    """Share of the queries within each rank, where it rises; 0 is no rank.

    >>> _curve(np.array([1, 1, 4, 0]), 9)
    [(1, 0.5), (4, 0.75), (9, 0.75)]
    """
    found = np.sort(places[places > 0])
    at = np.unique([1, *found.tolist(), recordings])
    shares = np.searchsorted(found, at, side="right") / len(places)
    return [(int(rank), round(float(share), 5)) for rank, share in zip(at, shares, strict=True)]


def _cascade(
    name: str, answers: Sequence[Answer], recordings: int, settings: CascadeSettings
) -> dict[str, Any]:
    by, _ = CASCADES[name]
    found, decided = [one.found[by] for one in answers], [one.decisions[name] for one in answers]
    places, n = np.array([one.rank for one in decided]), len(answers)
    errors = np.array([one.error_s for one in decided])
    own = np.array([one.own for one in decided])
    absent = np.array([one.absent for one in decided])
    limit = false_positive_threshold(absent)
    kept = settings.kept(recordings)
    left = np.array([one.left for one in found])
    in_order = np.sort(np.where(places > 0, places, np.inf))
    ranks = {
        f"rank_{round(100 * share)}": float(in_order[max(0, int(np.ceil(share * n)) - 1)])
        for share in RECALLS
    }
    first, sure = int((places == 1).sum()), int((absent > MATCH).sum())
    seconds = {
        "embeddings": _mean([one.seconds[0] for one in found]),
        "hashes": _mean([one.seconds[1] for one in found]),
        "alignment": _mean([one.seconds for one in decided]),
    }
    return {
        "name": NAMES[name],
        "by": name,
        "mrr": float(np.where(places > 0, 1 / np.maximum(places, 1), 0).mean()),
        "first": first / n,
        "first_interval": _interval(first, n),
        "first_5": float(((places > 0) & (places <= 5)).mean()),
        **{rank: value if np.isfinite(value) else None for rank, value in ranks.items()},
        "dropped_by_embeddings": float((~left).mean()),
        "dropped_by_hashes": float((left & (places == 0)).mean()),
        "found_and_sure": float(((places == 1) & (own > MATCH)).mean()),
        "wrong_and_sure": float(
            np.mean([one.rank != 1 and one.confidence > MATCH for one in decided])
        ),
        "at_1_percent": float(((places == 1) & (own > limit)).mean()),
        "threshold_at_1_percent": limit,
        "sure_where_absent": sure / n,
        "sure_where_absent_interval": _interval(sure, n),
        "confidence": {
            "right": _quantiles(own, (0.05, 0.5, 0.95)),
            "absent": _quantiles(absent, (0.5, 0.95, 0.99, 1.0)),
            "thresholds": THRESHOLDS.tolist(),
            "right_above": [float((own > limit).mean()) for limit in THRESHOLDS],
            "absent_above": [float((absent > limit).mean()) for limit in THRESHOLDS],
        },
        "pruned": {
            "embeddings": 1 - kept / recordings,
            "hashes": 1 - min(settings.candidates, kept) / kept,
            "both": 1 - min(settings.candidates, kept) / recordings,
        },
        "alignment_error_s": {
            "median": _quantiles(errors, (0.5,))["0.5"],
            "close": float((errors < CLOSE_S).mean()),
            "quantiles": _quantiles(errors, QUANTILES),
        },
        "cpu_s": {**seconds, "all": sum(seconds.values())},
        "curve": _curve(places, recordings),
    }


def _interval(count: int, n: int) -> list[float]:
    return [round(min(max(bound, 0.0), 1.0), 5) for bound in wilson_interval(count, n)]


def _quantiles(values: Floats, shares: Sequence[float]) -> dict[str, float | None]:
    """Values that a share of all are not above; None for one that is infinite.

    >>> _quantiles(np.array([1.0, 2.0, np.inf]), (0.5, 1.0))
    {'0.5': 2.0, '1': None}
    """
    found = {f"{share:g}": float(np.quantile(values, share, method="higher")) for share in shares}
    return {name: round(one, 5) if np.isfinite(one) else None for name, one in found.items()}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6)
