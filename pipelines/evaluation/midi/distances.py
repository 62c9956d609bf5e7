"""How far the same music is apart, and how far foreign music, by hashes, embeddings and frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.midi_figures import Asked, bhattacharyya, step_pairs
from hashing.sequence_baselines import step_directions, thresholded
from hashing.sequences import BITS, SequenceFeatures
from pipelines.evaluation.midi.asking import Answer, Means
from pipelines.evaluation.midi.hearing import Heard
from pipelines.evaluation.midi.songs import SongFile

Floats = npt.NDArray[np.float64]
Steps = Sequence[npt.NDArray[Any]]  # of each sequence [n] or [n, d]
Apart = Callable[[Any, Any], Any]  # distances of as many pairs of steps

EDGES = np.arange(BITS + 2.0) - 0.5  # of a distance in bits; others get as many bins


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """A song that asks: its score, its recording, and the number of that."""

    song: SongFile
    score: Heard
    recording: Heard
    place: int


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Steps of scores and of recordings, query by query.

    Attributes:
      same: [k, 2] of each query, steps that are the same moment.
      foreign: [k, 2] of each query, its score's steps and those of the next query's recording.
    """

    same: list[npt.NDArray[np.int64]]
    foreign: list[npt.NDArray[np.int64]]

    @classmethod
    def of(cls, queries: Sequence[Query], features: SequenceFeatures) -> Pairs:
        """Those of some queries; foreign ones are drawn."""
        same = []
        for one in queries:
            score, recording = one.score.sequence, one.recording.sequence
            asked = Asked(score, one.place, one.recording.score_s, one.recording.played_s)
            same.append(step_pairs(asked, (len(score.codes), len(recording.codes)), features))
        rng, foreign = np.random.default_rng(0xBC), []
        for own, other in zip(same, [*same[1:], same[0]], strict=True):
            size = min(len(own), len(other))
            drawn = [rng.permutation(own[:, 0])[:size], rng.permutation(other[:, 1])[:size]]
            foreign.append(np.stack(drawn, axis=1))
        return cls(same, foreign)

    def distances(self, scores: Steps, recordings: Steps, apart: Apart) -> tuple[Floats, Floats]:
        """Of the same moments, and of foreign ones."""
        others = [*recordings[1:], recordings[0]]
        found = []
        for pairs, heard in ((self.same, recordings), (self.foreign, others)):
            parts = [
                apart(score[steps[:, 0]], recording[steps[:, 1]])
                for score, recording, steps in zip(scores, heard, pairs, strict=True)
            ]
            found.append(np.concatenate(parts).astype(np.float64))
        return found[0], found[1]


def distances(
    queries: Sequence[Query], answers: Sequence[Answer], features: SequenceFeatures, means: Means
) -> Iterator[dict[str, Any]]:
    """Both kinds, of steps by each system, and of whole sequences; how much they overlap."""
    pairs, down = Pairs.of(queries, features), features.downsampling
    scores = [one.score.sequence for one in queries]
    recordings = [one.recording.sequence for one in queries]
    heard = [[one.frames(features.cqt) for one in side] for side in (scores, recordings)]
    codes = [[one.codes for one in side] for side in (scores, recordings)]
    found = pairs.distances(codes[0], codes[1], _bits)
    yield _told("hash sequences", "bits", found, EDGES, histogram=True)
    codes = [
        [thresholded(one, mean, down) for one in side]
        for side, mean in zip(heard, (means[1], means[0]), strict=True)
    ]
    found = pairs.distances(codes[0], codes[1], _bits)
    yield _told("thresholded frames", "bits", found, EDGES, histogram=True)
    raw = [[step_directions(one, down) for one in side] for side in heard]
    found = pairs.distances(raw[0], raw[1], _cosine)
    yield _told("raw frames", "1 - cosine", found, np.linspace(0, 1, len(EDGES)))
    found = _of_sequences(queries, answers, "own", 1.0)
    yield _told("embeddings", "1 - cosine", found, np.linspace(0, 2, len(EDGES)))
    found = _of_sequences(queries, answers, "baseline", 0.0)
    highest = float(np.quantile(found[1], 0.99))
    edges = np.linspace(0, max(highest, 1e-9), len(EDGES))
    yield _told("mean and deviation", "squared distance", found, edges)


def _of_sequences(
    queries: Sequence[Query], answers: Sequence[Answer], by: str, highest: float
) -> tuple[Floats, Floats]:
    """How much less alike than `highest` each score is to its recording, and to the others."""
    alike = [answer.found[by].alike.astype(np.float64) for answer in answers]
    same = [one[query.place] for query, one in zip(queries, alike, strict=True)]
    far = [np.delete(one, query.place) for query, one in zip(queries, alike, strict=True)]
    return highest - np.array(same), highest - np.concatenate(far)


def _bits(one: Any, other: Any) -> Any:
    return np.bitwise_count(one ^ other)


def _cosine(one: Any, other: Any) -> Any:
    return 1 - (one * other).sum(axis=1)


def _told(
    name: str, unit: str, found: tuple[Floats, Floats], edges: Floats, *, histogram: bool = False
) -> dict[str, Any]:
    """Both kinds over the same bins; what lies outside is put into the outermost."""
    same, foreign = (np.clip(part, edges[0], edges[-1]) for part in found)
    told = {
        "name": name,
        "unit": unit,
        "coefficient": bhattacharyya(same, foreign, edges),
        "same": float(same.mean()) if same.size else None,
        "foreign": float(foreign.mean()) if foreign.size else None,
        "pairs": len(same),
        "pairs_foreign": len(foreign),
    }
    if histogram:
        for kind, part in (("same", same), ("foreign", foreign)):
            counts = np.histogram(part, edges)[0] / max(len(part), 1)
            told[f"{kind}_shares"] = counts.round(5).tolist()
    return told
