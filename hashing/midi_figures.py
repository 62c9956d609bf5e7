"""How well scores find their recordings: the figures of each stage of the cascade.

Definitions are Raffel's ("Learning-based methods for comparing sequences", 2016, chapters 5 to 7):
mean reciprocal rank, the rank below which a share of the true recordings lie, the share of the
database that a stage prunes, and the Bhattacharyya coefficient of distances.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.alignment import Alignment, align, hash_scores
from hashing.cascade import CascadeSettings, likeness
from hashing.cqt import CqtConfig
from hashing.sequences import TrackSequence

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.uint32]

RECALLS = (0.5, 0.9, 0.95)  # shares of the queries for which a rank is told
MATCH = 0.5  # confidence above which two sequences count as one recording (Raffel 2016, chapter 7)


@dataclasses.dataclass(frozen=True)
class Asked:
    """A score whose recording is known.

    Attributes:
      name: for people.
      heard: what the score becomes.
      truth: number of its recording.
      score_s, played_s: the true map of times where it is known, [k] each.
    """

    name: str
    heard: TrackSequence
    truth: int
    score_s: npt.NDArray[np.float64] | None = None
    played_s: npt.NDArray[np.float64] | None = None


@dataclasses.dataclass(frozen=True)
class Together:
    """Sequences of recordings one after another.

    Attributes:
      recordings: as they came.
      codes, offsets: of all, and where each begins, [n + 1].
      embeddings, windows: likewise.
    """

    recordings: Sequence[TrackSequence]
    codes: Codes
    offsets: Ints
    embeddings: npt.NDArray[np.float32]
    windows: Ints

    @classmethod
    def of(cls, recordings: Sequence[TrackSequence]) -> Together:
        """All of them."""
        ends = [np.cumsum([0, *(len(one.codes) for one in recordings)])]
        ends.append(np.cumsum([0, *(len(one.embeddings) for one in recordings)]))
        return cls(
            recordings,
            np.concatenate([one.codes for one in recordings]),
            ends[0],
            np.concatenate([one.embeddings for one in recordings]),
            ends[1],
        )


def ranks(likeness: Values, truth: Ints) -> Ints:
    """Rank of the true column in each row, from 1; of equals the true one is the last.

    >>> ranks(np.array([[0.1, 0.9, 0.5], [0.7, 0.7, 0.1]]), np.array([2, 0])).tolist()
    [2, 2]
    """
    own = likeness[np.arange(len(truth)), truth][:, None]
    return np.asarray((likeness >= own).sum(axis=1), dtype=np.int64)


def mean_reciprocal_rank(found: Ints) -> float:
    """The mean of 1 / rank.

    >>> mean_reciprocal_rank(np.array([1, 2]))
    0.75
    """
    return float((1.0 / found).mean())


def rank_figures(found: Ints, database: int) -> dict[str, float]:
    """Figures of ranks among so many recordings.

    ``mrr``, ``first`` (share of rank 1), ``rank_50`` and so on: the rank within which that share of
    the true recordings lie; ``pruned_97`` the share of the database that can be left out while 97 %
    of them stay; ``kept_at_10`` the share of them that stay in the best tenth.

    >>> rank_figures(np.array([1, 1, 1, 4]), 100)["first"]
    0.75
    """
    in_order = np.sort(found)

    def within(share: float) -> int:
        return int(in_order[max(0, int(np.ceil(share * len(found))) - 1)])

    return {
        "mrr": mean_reciprocal_rank(found),
        "first": float((found == 1).mean()),
        **{f"rank_{round(100 * share)}": float(within(share)) for share in RECALLS},
        "pruned_97": 1.0 - within(0.97) / database,
        "kept_at_10": float((found <= np.ceil(database / 10)).mean()),
    }


def bhattacharyya(one: Values, other: Values, edges: Values) -> float:
    """How much two histograms over the same bins overlap: 0 not at all, 1 wholly.

    >>> bhattacharyya(np.array([1, 2]), np.array([1, 2]), np.arange(4))
    1.0
    >>> bhattacharyya(np.array([1]), np.array([2]), np.arange(4))
    0.0
    """
    shares = [np.histogram(part, edges)[0] / max(len(part), 1) for part in (one, other)]
    return round(float(np.sqrt(shares[0] * shares[1]).sum()), 12)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One score through the cascade.

    Attributes:
      name: of the score.
      by_embedding, by_hash: rank of the true recording among all, by each stage alone.
      order: numbers of the candidates as the cascade ranks them.
      confidences: theirs.
      rank: of the true recording by the cascade; 0 where a stage has dropped it.
      absent: the highest confidence where the true recording is not there.
      error_s: median error of the alignment, where the true map is known, else nan.
      seconds: of the three stages.
    """

    name: str
    by_embedding: int
    by_hash: int
    order: Ints
    confidences: Values
    rank: int
    absent: float
    error_s: float
    seconds: tuple[float, float, float]


def go_through(
    asked: Asked, all_of: Together, settings: CascadeSettings, config: CqtConfig
) -> Outcome:
    """One score through all stages, with what each would say alone."""
    clock = time.perf_counter
    times = [clock()]
    alike = likeness(asked.heard.embeddings, all_of.embeddings, all_of.windows)
    kept = np.sort(np.argsort(-alike, kind="stable")[: settings.kept(len(alike))])
    times.append(clock())
    # All are scored, for the rank by hashes alone; what the cascade would take of it is timed.
    bits = hash_scores(asked.heard.codes, all_of.codes, all_of.offsets)
    middle = clock()
    sizes = np.diff(all_of.offsets)
    share = sizes[kept].sum() / max(sizes.sum(), 1)
    candidates = kept[np.argsort(bits[kept], kind="stable")]
    # One more, so that as many are left where the true one is taken out.
    candidates = candidates[: settings.candidates + 1]
    times.append(times[-1] + (middle - times[-1]) * float(share))
    before = clock()
    frames = asked.heard.frames(config)
    candidate_frames = [all_of.recordings[n].frames(config) for n in candidates]
    aligned = [align(frames, one, penalty="mean") for one in candidate_frames]
    spent = clock() - before
    sure = np.array([one.confidence for one in aligned])
    scores = np.array([one.score for one in aligned])
    chosen = np.arange(len(candidates))[: settings.candidates]
    order = chosen[np.argsort(scores[chosen], kind="stable")]
    there = np.flatnonzero(candidates[order] == asked.truth)
    others = candidates != asked.truth
    error_s = np.nan
    if there.size and asked.score_s is not None and asked.played_s is not None:
        error_s = alignment_error(aligned[order[there[0]]], config, asked.score_s, asked.played_s)
    truth = np.array([asked.truth])
    return Outcome(
        asked.name,
        int(ranks(alike[None], truth)[0]),
        int(ranks(-bits[None], truth)[0]),
        candidates[order],
        sure[order],
        int(there[0]) + 1 if there.size else 0,
        float(sure[others].max(initial=0.0)),
        error_s,
        (times[1] - times[0], times[2] - times[1], spent * settings.candidates / max(len(sure), 1)),
    )


def alignment_error(
    found: Alignment,
    config: CqtConfig,
    score_s: npt.NDArray[np.float64],
    played_s: npt.NDArray[np.float64],
) -> float:
    """Median distance, seconds of the recording, of a path from the true map of times.

    Where the path lies within what the map covers; nan where it does not at all.
    """
    score, recording = (found.path.T * config.frame_s).astype(np.float64)
    inside = (score >= score_s[0]) & (score <= score_s[-1])
    if not inside.any():
        return float("nan")
    true_s = np.interp(score[inside], score_s, played_s)
    return float(np.median(np.abs(recording[inside] - true_s)))


def cascade_figures(
    outcomes: Sequence[Outcome], recordings: int, settings: CascadeSettings
) -> dict[str, Any]:
    """The figures of a whole examination, by stage."""
    ranked = np.array([one.rank for one in outcomes])
    errors = np.array([one.error_s for one in outcomes])
    errors = errors[np.isfinite(errors)]
    own = np.array([one.confidences[one.rank - 1] if one.rank else 0.0 for one in outcomes])
    absent = np.array([one.absent for one in outcomes])
    kept = settings.kept(recordings)

    def stage(values: Callable[[Outcome], int]) -> dict[str, float]:
        return rank_figures(np.array([values(one) for one in outcomes]), recordings)

    seconds = np.array([one.seconds for one in outcomes]).mean(axis=0)
    names = ("embeddings", "hashes", "alignment")
    return {
        "queries": len(outcomes),
        "recordings": recordings,
        "embeddings": stage(lambda one: one.by_embedding),
        "hashes": stage(lambda one: one.by_hash),
        "cascade": {
            "first": float((ranked == 1).mean()),
            "first_5": float(((ranked > 0) & (ranked <= 5)).mean()),
            "mrr": float(np.where(ranked > 0, 1 / np.maximum(ranked, 1), 0).mean()),
            "dropped_by_mistake": float((ranked == 0).mean()),
            "found_and_sure": float(((ranked == 1) & (own > MATCH)).mean()),
            "sure_where_absent": float((absent > MATCH).mean()),
            "confidence_of_right_ones": float(np.median(own)),
            "confidence_where_absent_99": float(np.quantile(absent, 0.99)),
        },
        "pruned": {
            "embeddings": 1 - kept / recordings,
            "hashes": 1 - min(settings.candidates, kept) / kept,
        },
        "alignment_error_s": {
            "median": float(np.median(errors)) if errors.size else None,
            "below_60ms": float((errors < 0.06).mean()) if errors.size else None,
        },
        "seconds": dict(zip(names, map(float, seconds), strict=True)),
    }
