"""How well scores find their recordings: what each stage says of each, and figures of it.

Definitions are Raffel's ("Learning-based methods for comparing sequences", 2016, chapters 5 to 7):
mean reciprocal rank, the rank below which a share of the true recordings lie, the share of the
database that a stage prunes, and the Bhattacharyya coefficient of distances.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.alignment import align, hash_scores
from hashing.cascade import CascadeSettings, confidences, likeness, nearest
from hashing.matched import match
from hashing.sequence_baselines import Summaries, summary, thresholded
from hashing.sequences import SequenceFeatures, TrackSequence

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating[Any]]
Seconds = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint32]

RECALLS = (0.5, 0.9, 0.95)  # shares of the queries for which a rank is told
MATCH = 0.5  # confidence above which two sequences count as one recording (Raffel 2016, chapter 7)


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A score whose recording is known.

    Attributes:
      heard: what the score becomes.
      truth: number of its recording.
      score_s, played_s: the true map of times, [k] each.
    """

    heard: TrackSequence
    truth: int
    score_s: Seconds
    played_s: Seconds


@dataclasses.dataclass(frozen=True)
class Laid:
    """A score along a recording.

    Attributes:
      order: the less, the better.
      confidence: None where it depends on the other candidates (`hashing.cascade.confidences`).
      score_s, recording_s: the map of times.
    """

    order: float
    confidence: float | None
    score_s: Seconds
    recording_s: Seconds


@dataclasses.dataclass(frozen=True, eq=False)
class Stages:
    """The first two stages over a database: the system's own, or a baseline's.

    Attributes:
      alike: score → how alike it is to each recording, [n].
      query: score → its codes.
      codes, offsets: those of all recordings one after another, and where each begins, [n + 1].
    """

    alike: Callable[[TrackSequence], Values]
    query: Callable[[TrackSequence], Codes]
    codes: Codes
    offsets: Ints

    @property
    def recordings(self) -> int:
        return len(self.offsets) - 1


def learned_stages(recordings: Sequence[TrackSequence]) -> Stages:
    """Embeddings and hash sequences."""
    embeddings = np.concatenate([one.embeddings for one in recordings])
    windows = _offsets(len(one.embeddings) for one in recordings)
    return Stages(
        lambda score: likeness(score.embeddings, embeddings, windows),
        lambda score: score.codes,
        np.concatenate([one.codes for one in recordings]),
        _offsets(len(one.codes) for one in recordings),
    )


def baseline_stages(
    recordings: Sequence[TrackSequence],
    features: SequenceFeatures,
    audio_mean: npt.NDArray[np.float32],
    score_mean: npt.NDArray[np.float32],
) -> Stages:
    """Means and deviations, and thresholded frames (`hashing.sequence_baselines`).

    Args:
      audio_mean, score_mean: [bins], of the frames of both sides in training.
    """
    frames = [one.frames(features.cqt) for one in recordings]
    summaries = Summaries.of([summary(one) for one in frames])
    codes = [thresholded(one, audio_mean, features.downsampling) for one in frames]

    def heard(score: TrackSequence) -> npt.NDArray[np.float32]:
        return score.frames(features.cqt)

    return Stages(
        lambda score: summaries.likeness(summary(heard(score))),
        lambda score: thresholded(heard(score), score_mean, features.downsampling),
        np.concatenate(codes),
        _offsets(map(len, codes)),
    )


def _offsets(sizes: Iterable[int]) -> Ints:
    return np.cumsum([0, *sizes]).astype(np.int64)


def lay_at_two_scales(
    score: TrackSequence, recording: TrackSequence, features: SequenceFeatures
) -> Laid:
    """As ``hashbeam match-midi`` lays them (`hashing.matched`)."""
    found = match(score, recording, features)
    return Laid(found.coarse.score, None, found.score_s, found.recording_s)


def lay_frames(score: TrackSequence, recording: TrackSequence, features: SequenceFeatures) -> Laid:
    """As published: by the cosine distances of frames (`hashing.alignment.align`)."""
    config = features.cqt
    found = align(score.frames(config), recording.frames(config), penalty="mean")
    times_s = found.path.T.astype(np.float64) * config.frame_s
    return Laid(found.score, found.confidence, times_s[0], times_s[1])


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What the first two stages say of one score.

    Attributes:
      by_likeness, by_hashes: rank of the true recording among all by either alone, from 1.
      alike, bits: [n], what they say of each recording.
      left: whether likeness leaves the true recording.
      candidates: numbers of those that are left after both, the best first.
      others: likewise, were the true recording not there.
      seconds: of CPU, of both stages one after the other, and of hashes alone over all recordings.
    """

    by_likeness: int
    by_hashes: int
    alike: Values
    bits: Values
    left: bool
    candidates: Ints
    others: Ints
    seconds: tuple[float, float, float]


def search(asked: Asked, stages: Stages, settings: CascadeSettings) -> Found:
    """One score through the first two stages, with what each would say alone."""
    clock, truth = time.process_time, asked.truth
    kept = settings.kept(stages.recordings)
    times = [clock()]
    alike = stages.alike(asked.heard)
    left = np.zeros(stages.recordings, bool)
    left[np.argsort(-alike, kind="stable")[:kept]] = True
    times.append(clock())
    codes, sizes = stages.query(asked.heard), np.diff(stages.offsets)
    places, _ = nearest(
        codes, stages.codes[np.repeat(left, sizes)], _offsets(sizes[left]), settings
    )
    candidates = np.flatnonzero(left)[places]
    times.append(clock())
    bits = hash_scores(codes, stages.codes, stages.offsets)
    times.append(clock())
    without = np.array(alike, np.float64)
    without[truth] = -np.inf
    others = np.argsort(-without, kind="stable")[: min(kept, stages.recordings - 1)]
    others = np.sort(others[sizes[others] >= settings.shortest])
    others = others[np.argsort(bits[others], kind="stable")[: settings.candidates]]
    alone = np.array([truth])
    return Found(
        int(ranks(alike[None], alone)[0]),
        int(ranks(-bits[None], alone)[0]),
        alike,
        bits,
        bool(left[truth]),
        candidates,
        others,
        (times[1] - times[0], times[2] - times[1], times[3] - times[2]),
    )


@dataclasses.dataclass(frozen=True)
class Decision:
    """What alignment says of the candidates of one score.

    Attributes:
      best: number of the recording that it takes for the true one; -1 for none.
      confidence: in that one.
      rank: of the true recording; 0 where an earlier stage has dropped it.
      own: confidence in the true recording, whether dropped or not.
      other, absent: number of the recording that it would be surest of, were the true one not
        there, and the confidence in that; -1 for none.
      error_s: median error of the alignment with the true recording; infinite where it lies
        elsewhere altogether.
      seconds: of CPU, for the candidates.
    """

    best: int
    confidence: float
    rank: int
    own: float
    other: int
    absent: float
    error_s: float
    seconds: float


def decide(asked: Asked, found: Found, lay: Callable[[int], Laid]) -> Decision:
    """The last stage; `lay` lays the score along a recording."""
    started = time.process_time()
    laid = {number: lay(number) for number in found.candidates.tolist()}
    seconds = time.process_time() - started
    own = laid[asked.truth] if asked.truth in laid else lay(asked.truth)
    others = {n: laid[n] if n in laid else lay(n) for n in found.others.tolist()}
    absent = _sure(others)
    other = max(absent, key=lambda number: absent[number], default=-1)
    order = sorted(laid, key=lambda number: (laid[number].order, found.bits[number], number))
    sure = _sure({**laid, asked.truth: own})
    return Decision(
        order[0] if order else -1,
        sure[order[0]] if order else 0.0,
        order.index(asked.truth) + 1 if asked.truth in laid else 0,
        sure[asked.truth],
        other,
        absent[other] if absent else 0.0,
        alignment_error(own, asked),
        seconds,
    )


def _sure(laid: Mapping[int, Laid]) -> dict[int, float]:
    """The confidence in each of the candidates of one score."""
    by_crowd = confidences([one.order for one in laid.values()])
    return {
        number: crowd if one.confidence is None else one.confidence
        for (number, one), crowd in zip(laid.items(), by_crowd, strict=True)
    }


def alignment_error(laid: Laid, asked: Asked) -> float:
    """Median distance, seconds of the recording, of a map of times from the true one.

    Where both cover the score; infinite where they do not at all.
    """
    inside = (laid.score_s >= asked.score_s[0]) & (laid.score_s <= asked.score_s[-1])
    if not inside.any():
        return math.inf
    true_s = np.interp(laid.score_s[inside], asked.score_s, asked.played_s)
    return float(np.median(np.abs(laid.recording_s[inside] - true_s)))


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


def step_pairs(
    asked: Asked, steps: tuple[int, int], features: SequenceFeatures
) -> npt.NDArray[np.int64]:
    """Steps of score and recording that are the same moment of the song, [k, 2].

    Args:
      asked: with the true map of times.
      steps: how many the score has, and how many the recording.
    """
    middle_s = (np.arange(steps[1]) + 0.5) * features.code_s - features.cqt.frame_s / 2
    ends = {"left": np.nan, "right": np.nan}
    score_s = np.interp(middle_s, asked.played_s, asked.score_s, **ends)
    step = np.round((score_s + features.cqt.frame_s / 2) / features.code_s - 0.5)
    fits = np.isfinite(step) & (step >= 0) & (step < steps[0])
    return np.stack([step[fits].astype(np.int64), np.flatnonzero(fits)], axis=1)
