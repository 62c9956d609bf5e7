"""Pairs of one recording become groups, none of which hangs together by a chain.

Two tracks that are each the same as a third are mostly the same themselves, but not always: a
medley, or one wrong pair, would tie two recordings into one. So a group is not all that hangs
together. It is a track, its medoid, and those that are a pair with *it*; what else hung on them
makes groups of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Groups of two tracks or more, [m] members, group by group, the medoid of each first.

    Attributes:
      track: of each member.
      group: its group, from 0 in order of the lowest track of each.
      score: of its pair with the medoid; 1 for the medoid itself.
      split: tracks that hung on a group and do not agree with its medoid.
    """

    track: Ints
    group: Ints
    score: Values
    split: int


def group_recordings(one: Ints, other: Ints, scores: Values) -> Recordings:
    """The groups that pairs make.

    The medoid of what hangs together is the track with the largest sum of scores, the lowest of
    equals; it and its partners are a group, and what is left is looked at again.

    Args:
      one, other: tracks of each pair, [p]; every pair once.
      scores: of the pairs, 0 to 1.

    >>> scores = np.array([0.9, 1.0, 0.8])
    >>> chain = group_recordings(np.array([0, 1, 2]), np.array([1, 2, 3]), scores)
    >>> chain.track.tolist(), chain.group.tolist(), chain.split
    ([1, 0, 2], [0, 0, 0], 1)
    """
    partners: dict[int, dict[int, float]] = {}
    for a, b, score in zip(one.tolist(), other.tolist(), scores.tolist(), strict=True):
        partners.setdefault(a, {})[b] = score
        partners.setdefault(b, {})[a] = score
    groups: list[tuple[int, list[tuple[int, float]]]] = []
    split, seen = 0, set[int]()
    for start in sorted(partners):
        if start in seen:
            continue
        together = _reachable(start, partners)
        seen |= together
        found, left = _stars(together, partners)
        groups += found
        split += left + sum(len(members) for _, members in found[1:])
    groups.sort(key=lambda group: min(track for track, _ in group[1]))
    members = [
        (track, number, score) for number, (_, group) in enumerate(groups) for track, score in group
    ]
    columns = list(zip(*members, strict=True)) or [(), (), ()]
    return Recordings(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        split,
    )


def _reachable(start: int, partners: dict[int, dict[int, float]]) -> set[int]:
    found, open_ = {start}, [start]
    while open_:
        for near in partners[open_.pop()]:
            if near not in found:
                found.add(near)
                open_.append(near)
    return found


def _stars(
    together: Iterable[int], partners: dict[int, dict[int, float]]
) -> tuple[list[tuple[int, list[tuple[int, float]]]], int]:
    """Medoids with their members, the strongest first, and how many tracks are in none."""
    left = set(together)
    sums = {track: sum(partners[track].values()) for track in left}
    out = []
    while left:
        medoid = min(left, key=lambda track: (-sums[track], track))
        near = {track: score for track, score in partners[medoid].items() if track in left}
        if not near:
            break  # nor has any other a partner left
        members = [(medoid, 1.0), *sorted(near.items())]
        out.append((medoid, members))
        for track, _ in members:
            left.discard(track)
            for other, score in partners[track].items():
                sums[other] -= score
    return out, len(left)
