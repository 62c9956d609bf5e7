"""How well hash sequences and embeddings find the recording that belongs to a score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.alignment import hash_scores

Codes = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Code sequences one after another: codes uint32, and offsets [n + 1]."""

    codes: Codes
    offsets: Ints

    @classmethod
    def of(cls, parts: Sequence[Codes]) -> Sequences:
        """Sequences of a list."""
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return cls(np.concatenate(parts).astype(np.uint32), offsets)


def ranks_by_hash(queries: Sequence[Codes], database: Sequences, truth: Ints) -> Ints:
    """Rank of the true sequence for each query, from 1, by Hamming DTW."""
    found = [hash_scores(query, database.codes, database.offsets) for query in queries]
    return ranks(-np.stack(found), truth)


def ranks(likeness: npt.NDArray[np.floating], truth: Ints) -> Ints:
    """Rank of the true column in each row, from 1; of equals the true one is the last.

    >>> ranks(np.array([[0.1, 0.9, 0.5]]), np.array([2])).tolist()
    [2]
    """
    own = likeness[np.arange(len(truth)), truth][:, None]
    return np.asarray((likeness >= own).sum(axis=1), dtype=np.int64)


def mean_reciprocal_rank(found: Ints) -> float:
    """The mean of 1 / rank.

    >>> mean_reciprocal_rank(np.array([1, 2]))
    0.75
    """
    return float((1.0 / found).mean())


def bhattacharyya(same: Ints, other: Ints, bits: int = 32) -> float:
    """How much histograms of Hamming distances overlap, 0 to 1 (Raffel 2016, chapter 5).

    >>> bhattacharyya(np.array([1, 2]), np.array([1, 2])), bhattacharyya(np.array([1]),
    ...     np.array([9]))
    (1.0, 0.0)
    """
    one, two = (np.bincount(part, minlength=bits + 1) / max(len(part), 1) for part in (same, other))
    return round(float(np.sqrt(one * two).sum()), 12)
