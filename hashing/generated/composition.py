"""Tunes from an artist's own habits: chords, steps and rhythms are Markov chains of its own."""

from __future__ import annotations

import dataclasses

import numpy as np

from hashing.generated.tunes import Tune

Chances = tuple[tuple[float, ...], ...]  # rows that each sum to one

LEAPS = 13  # melodic steps from six down to six up
BARS = 8  # of a part; songs repeat and vary three of them
# Which root follows which, as songbooks have it: rows and columns I to VII (weights).
_FOLLOW = np.array(
    [
        [2, 1, 0.6, 4, 4, 3, 0.6],
        [1, 0.5, 0.5, 1, 5, 0.5, 0.5],
        [0.5, 1, 0.3, 3, 0.5, 4, 0.3],
        [4, 1.5, 0.4, 1, 4, 1.5, 0.6],
        [5, 0.5, 0.6, 2, 1, 3, 0.3],
        [1.5, 2, 0.8, 4, 3, 0.5, 1],
        [3, 0.3, 1, 1, 0.5, 2, 0.2],
    ]
)
# Rhythms of a bar of four beats, in quarters of a beat; three beats take the first twelve.
_CELLS = (
    (0, 4, 8, 12), (0, 2, 4, 6, 8, 12), (0, 6, 8, 14), (0, 3, 6, 8, 11, 14), (2, 4, 6, 8, 12),
    (0, 2, 3, 4, 8, 10, 11, 12), (0, 8), (0, 6, 12), (4, 6, 8, 10, 12, 14), (0, 1, 2, 4, 6, 8, 12),
    (0, 2, 4, 6, 8, 10, 12, 14), (3, 6, 9, 12), (0, 10, 12), (0, 4, 6, 10, 12), (2, 6, 10, 14),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Habits:
    """How an artist composes.

    `follow` [7, 7] and `leaps` [13, 13] are chances of the next chord root and the next melodic
    step, given the last one; `cells` are the rhythms that it knows, with `cell_weights`.
    """

    follow: Chances
    leaps: Chances
    cells: tuple[tuple[int, ...], ...]
    cell_weights: tuple[float, ...]
    half_bars: float  # chance that the chord changes within a bar

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Habits:
        """Draw habits: Dirichlet around common practice, so that some turns become favourites."""
        follow = tuple(tuple(rng.dirichlet(0.35 * row).tolist()) for row in _FOLLOW)
        size = np.arange(LEAPS) - LEAPS // 2
        spread = rng.uniform(0.9, 2.4)
        near = np.exp(-np.abs(size) / spread) * np.where(size == 0, rng.uniform(0.2, 1.2), 1.0)
        # After a leap, tunes turn back.
        back = 1 + 0.4 * (np.sign(size)[:, None] * np.sign(size)[None] < 0) * np.abs(size)[:, None]
        likely = near[None] * back
        leaps = tuple(tuple(rng.dirichlet(2.0 * r / r.mean()).tolist()) for r in likely)
        known = rng.permutation(len(_CELLS))[: int(rng.integers(3, 7))]
        weights = tuple(rng.dirichlet(np.ones(len(known))).tolist())
        return cls(follow, leaps, tuple(_CELLS[i] for i in known), weights, rng.uniform(0, 0.5))


def compose(habits: Habits, bar: float, rng: np.random.Generator) -> Tune:
    """Compose a tune of three parts, in the order A A B A C B, with `bar` beats a bar.

    >>> tune = compose(Habits.draw(np.random.default_rng(1)), 4.0, np.random.default_rng(2))
    >>> tune.beats
    192.0
    """
    parts = [_part(habits, bar, rng) for _ in range(3)]
    order = [parts[i] for i in (0, 0, 1, 0, 2, 1)]
    starts = [part.start + i * BARS * bar for i, part in enumerate(order)]
    return Tune(
        np.concatenate(starts),
        np.concatenate([part.length for part in order]),
        np.concatenate([part.step for part in order]),
        np.zeros(sum(len(start) for start in starts), np.int64),
        np.concatenate([part.chords for part in order]),
        bar,
    )


def _part(habits: Habits, bar: float, rng: np.random.Generator) -> Tune:
    """Eight bars: four and their answer, which begins alike and ends anew."""
    chords = [int(rng.choice([0, 0, 5, 3]))]
    while len(chords) < 2 * BARS:
        stays = len(chords) % 2 and rng.random() > habits.half_bars
        last = chords[-1]
        chords.append(last if stays else int(rng.choice(7, p=habits.follow[last])))
    chords[BARS : BARS + 4] = chords[:4]
    starts: list[float] = []
    for number in range(BARS):
        if number == 4 and rng.random() < 0.8:
            first = [s for s in starts if s < 2 * bar]
            starts += [s + 4 * bar for s in first]
        elif number == 5 and rng.random() < 0.8:
            continue
        else:
            cell = habits.cells[rng.choice(len(habits.cells), p=habits.cell_weights)]
            starts += [number * bar + c / 4 for c in cell if c / 4 < bar]
    start = np.unique(starts)
    step, leap, steps = int(rng.integers(0, 8)), LEAPS // 2, []
    for at in start:
        leap = int(rng.choice(LEAPS, p=habits.leaps[leap]))
        step += leap - LEAPS // 2
        step = int(np.clip(step, -4, 12))
        if at % bar == 0:  # the first beat is on the chord
            root = chords[min(int(at / bar * 2), len(chords) - 1)]
            step += int(min((0, 1, -1), key=lambda d: (step + d - root) % 7 not in (0, 2, 4)))
        steps.append(step)
    gap = np.diff(np.append(start, BARS * bar))
    length = np.minimum(gap, rng.choice([0.5, 1.0, 2.0], len(gap), p=[0.2, 0.5, 0.3]) * 2)
    chord_row = np.array(chords[: 2 * BARS], np.int64)
    return Tune(
        start, length, np.array(steps, np.int64), np.zeros(len(start), np.int64), chord_row, bar
    )
