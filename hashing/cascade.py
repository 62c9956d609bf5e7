"""From a score to its recording among many, in three stages, each dearer and surer than the last.

Embeddings leave a share of the recordings, hash sequences some dozens of these, and constant-Q
frames decide: they give a confidence and the alignment (Raffel, "Learning-based methods for
comparing sequences", 2016, chapter 7).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.alignment import hash_scores
from hashing.errors import UsageError

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.integer[Any]]


@dataclasses.dataclass(frozen=True)
class CascadeSettings:
    """How much each stage leaves.

    Attributes:
      share: of the recordings that embeddings leave; at 1 they are not asked.
      least: recordings that they leave at least, since a few thousand cost nothing.
      candidates: recordings that hash sequences leave.
      shortest: codes of a sequence, or a query, below which it is not compared: what is shorter
        lies somewhere in everything (the published 30 are 11 s).
    """

    share: float = 0.1
    least: int = 200
    candidates: int = 20
    shortest: int = 30

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share of recordings that embeddings leave: {self.share}, not 0 to 1")
        if min(self.least, self.candidates, self.shortest) < 1:
            raise UsageError("counts of recordings and codes in the cascade must be 1 or more")

    def kept(self, recordings: int) -> int:
        """How many of so many recordings embeddings leave.

        >>> CascadeSettings().kept(10_000), CascadeSettings().kept(50)
        (1000, 50)
        """
        return min(recordings, max(self.least, int(np.ceil(self.share * recordings))))


def likeness(query: Floats, embeddings: Floats, offsets: Offsets) -> Floats:
    """How alike a score is to each of many recordings, by the embeddings of their windows.

    Each window of the side that has fewer is compared with the most alike of the other side; the
    mean over them counts, so that a part is like its whole, on either side.

    Args:
      query: [q, d], of length one.
      embeddings: [w, d], those of all recordings one after another.
      offsets: where each begins, and where the last one ends, [n + 1].

    Returns:
      [n] cosines, -1 for a recording without windows.

    >>> one, other = np.eye(2, dtype=np.float32)
    >>> likeness(one[None], np.stack([one, other, other]), np.array([0, 2, 2, 3])).tolist()
    [1.0, -1.0, 0.0]
    """
    offsets = np.asarray(offsets, np.int64)
    counts = np.diff(offsets)
    found = np.full(len(counts), -1.0, np.float32)
    some = np.flatnonzero(counts)
    if not len(some) or not len(query):
        return found
    first = offsets[:-1][some]
    cosines = query @ embeddings[: offsets[-1]].T
    of_windows = np.add.reduceat(cosines.max(axis=0), first) / counts[some]
    of_query = np.maximum.reduceat(cosines, first, axis=1).mean(axis=0)
    found[some] = np.where(counts[some] < len(query), of_windows, of_query)
    return found


def nearest(
    query: Codes, codes: Codes, offsets: Offsets, settings: CascadeSettings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The candidates among sequences of codes: their numbers, best first, and scores in bits.

    Args:
      query: [m]; shorter than ``settings.shortest`` it finds nothing.
      codes, offsets: as of `hashing.alignment.hash_scores`.
    """
    sizes = np.diff(offsets)
    if len(query) < settings.shortest or not len(sizes):
        return np.empty(0, np.int64), np.empty(0)
    long = sizes >= settings.shortest
    if not long.all():
        kept = np.flatnonzero(long)
        pieces = [codes[offsets[row] : offsets[row + 1]] for row in kept]
        joined = np.concatenate(pieces) if pieces else np.empty(0, np.uint32)
        ends = np.concatenate([[0], np.cumsum(sizes[kept])])
        rows, scores = nearest(query, joined, ends, settings)
        return kept[rows], scores
    scores = hash_scores(query, codes, offsets, best=settings.candidates)
    rows = np.argsort(scores, kind="stable")[: settings.candidates]
    rows = rows[np.isfinite(scores[rows])]
    return rows, scores[rows]


def confidences(scores: Sequence[float]) -> list[float]:
    """How sure it is that each candidate is the recording of a score, 0 to 1.

    What counts is how far a candidate stands out from the next best ones: where a tune shares its
    chords with others, all of these are near, and none is sure. Two copies of one recording among
    the candidates do each other little harm, since several others are looked at.

    Args:
      scores: of the paths of all candidates of one score (`hashing.matched.Matched.coarse`): cost
        by length, by what is usual in the box around the path; the less the better.

    A logistic curve, fitted to the candidates of 151 songs that choose models, recorded with two
    soundfonts, among 2,000 recordings with and without the true one, and moved until nearly all
    foreign ones were below 0.5; that was with an earlier model, and holds for the shipped one
    (`hashbeam evaluate midi` tells the share: 0.6 %).

    >>> [round(one, 2) for one in confidences([0.3, 0.85, 0.86, 0.9, 0.88, 0.87])]
    [0.98, 0.01, 0.01, 0.0, 0.0, 0.01]
    >>> round(confidences([0.3])[0], 2), confidences([])
    (0.97, [])
    """
    found = []
    for number, score in enumerate(scores):
        others = sorted([*scores[:number], *scores[number + 1 :]])[:CROWD]
        others += [FOREIGN_SCORE] * (CROWD - len(others))
        margin = sum(others) / CROWD - score
        logit = CONFIDENCE_BIAS - score + CONFIDENCE_SLOPE * margin
        found.append(float(1.0 / (1.0 + np.exp(-logit))))
    return found


# Of `confidences`: how many of the next best candidates are looked at, what one scores that is not
# there (the median of foreign ones), and the curve.
CROWD, FOREIGN_SCORE = 5, 0.85
CONFIDENCE_BIAS, CONFIDENCE_SLOPE = -3.0, 12.2
