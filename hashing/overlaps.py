"""Two tracks laid over one another: how long they are alike, how surely, and what they are then.

Codes of the same moments are compared along one shift, as look-up does along a diagonal
(`hashing.ranking`): the stretch with the largest sum of likeness beyond `FLOOR` is the overlap. One
recording under two names is alike nearly from end to end; an excerpt, a preview or a medley is
alike in nearly all of one of the two; a sample, a loop or a jingle in little of both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.ranking import Likeness, largest_part

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

SAME, PART, SHARED = "same", "part", "shared"
RELATIONS = (SAME, PART, SHARED)

# Likeness of codes of one moment that counts for nothing. Of moments that copies share, mixed with
# noise as loud as a third of the music, 93 in a hundred are above; of chance, four.
FLOOR = 0.45
# And from which on a moment is alike.
ALIKE = 0.5

# Share of what is heard of each of two tracks that is in the overlap of one recording: with an
# intro, a fade or an ending of its own it is still one. An excerpt's own share is that as well.
SAME_COVER = 0.65
PART_COVER = 0.8

# What equal ISRCs add to the logit of the score. They are given to recordings, and are wrong in a
# few of a hundred rows: odds of 20 to 1. No catalogue with ISRCs was at hand to measure that.
ISRC_LOGIT = 3.0


@dataclasses.dataclass(frozen=True)
class Heard:
    """The codes of a track by snippet number: rows [n, width], and which were heard [n]."""

    codes: Bytes
    heard: Flags


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Where one track is laid over another, and how well they fit.

    Attributes:
      first, last: snippets of the one track where it begins and ends.
      shift: snippets by which the one is later: the other begins at ``first - shift``.
      snippets: heard in both.
      strength: likeness beyond `FLOOR`, summed over them.
      likeness: mean over them, about 0 for chance and 1 for equal codes.
      share: of them, those that are `ALIKE`.
      cover_one, cover_other: share of what is heard of each track that is in the overlap.
    """

    first: int
    last: int
    shift: int
    snippets: int
    strength: float
    likeness: float
    share: float
    cover_one: float
    cover_other: float

    @property
    def relation(self) -> str:
        """`SAME` recording, `PART` of the other one, or `SHARED` material.

        >>> Overlap(0, 9, 0, 10, 5.0, 0.9, 1.0, 0.5, 1.0).relation
        'part'
        """
        if min(self.cover_one, self.cover_other) >= SAME_COVER:
            return SAME
        return PART if max(self.cover_one, self.cover_other) >= PART_COVER else SHARED


def lay_over(one: Heard, other: Heard, shifts: Sequence[int], likeness: Likeness) -> Overlap | None:
    """The strongest overlap of two tracks at some shifts; None where nothing is alike.

    Args:
      one, other: the tracks.
      shifts: snippets by which the one is later, each to be tried.
      likeness: of codes.

    >>> rows = np.arange(8, dtype=np.uint8)[:, None]
    >>> equal = lambda a, b: (a == b).mean(axis=1, dtype=np.float32)
    >>> ones = np.ones(8, bool)
    >>> found = lay_over(Heard(rows, ones), Heard(rows[3:], ones[3:]), [0, 3], equal)
    >>> found.first, found.last, found.shift, found.cover_one, found.cover_other
    (3, 7, 3, 0.625, 1.0)
    """
    found = [_at_shift(one, other, shift, likeness) for shift in shifts]
    return max(filter(None, found), key=lambda overlap: overlap.strength, default=None)


def _at_shift(one: Heard, other: Heard, shift: int, likeness: Likeness) -> Overlap | None:
    low = max(0, shift)
    high = min(one.heard.size, other.heard.size + shift)
    if high <= low:
        return None
    both = one.heard[low:high] & other.heard[low - shift : high - shift]
    similar = likeness(one.codes[low:high][both], other.codes[low - shift : high - shift][both])
    excess = np.zeros(high - low)
    excess[both] = similar - FLOOR
    firsts, lasts, strengths = largest_part(excess[None])
    first, last, strength = int(firsts[0]), int(lasts[0]), float(strengths[0])
    if strength <= 0.0:
        return None
    inside = excess[first : last + 1][both[first : last + 1]] + FLOOR
    first, last = first + low, last + low
    return Overlap(
        first,
        last,
        shift,
        inside.size,
        strength,
        float(inside.mean()),
        float((inside >= ALIKE).mean()),
        _cover(one.heard, first, last),
        _cover(other.heard, first - shift, last - shift),
    )


def _cover(heard: Flags, first: int, last: int) -> float:
    return float(heard[first : last + 1].sum() / max(1, heard.sum()))


# The score is a logistic of the mean likeness and of the logarithm of the snippets, fitted for the
# default model on 523 tracks of game music, 96 of them copies in six conditions, without the pairs
# within one half of the packages, which tell how good it is (tests/benchmarks/bench_duplicates.py);
# with a ridge of 0.3 deviations. The share of alike snippets adds nothing to these two.
INTERCEPT, BY_LIKENESS, BY_LENGTH = -23.5, 19.95, 2.12


def score(overlap: Overlap, *, isrc_equal: bool = False) -> float:
    """The chance that an overlap is the same audio, 0 to 1.

    An equal ISRC raises it. A different one is no veto: labels give one each, and a recording that
    two of them have sold has two.

    >>> overlap = Overlap(0, 99, 0, 100, 40.0, 0.75, 1.0, 1.0, 1.0)
    >>> round(score(overlap), 3), round(score(overlap, isrc_equal=True), 3)
    (0.773, 0.986)
    """
    logit = (
        INTERCEPT
        + BY_LIKENESS * overlap.likeness
        + BY_LENGTH * math.log(overlap.snippets)
        + ISRC_LOGIT * isrc_equal
    )
    return 1.0 / (1.0 + math.exp(-min(max(logit, -700.0), 700.0)))
