"""Overlaps of codes that are made up: where they lie, what they make of two tracks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hashing.overlaps import PART, SAME, SHARED, Heard, Overlap, lay_over, score

RNG = np.random.default_rng(7)
BYTES = 32


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The cosine of bits as ±1."""
    equal = 8 * BYTES - np.bitwise_count(one ^ other).sum(axis=1)
    return np.asarray(equal / (4 * BYTES) - 1.0, np.float32)


def codes(n: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, BYTES), np.uint8)


def noisy(rows: np.ndarray, share: float) -> np.ndarray:
    """Codes of which a share of the bits has changed."""
    flips = np.packbits(RNG.random((len(rows), 8 * BYTES)) < share, axis=1)
    return np.asarray(rows ^ flips)


def heard(rows: np.ndarray, silent: list[int] | None = None) -> Heard:
    flags = np.ones(len(rows), bool)
    flags[silent or []] = False
    return Heard(rows, flags)


def found(one: Heard, other: Heard, *shifts: int) -> Overlap:
    overlap = lay_over(one, other, shifts, likeness)
    assert overlap is not None
    return overlap


SONG = codes(200)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.15])
def test_a_copy_is_the_same_from_end_to_end(share: float) -> None:
    overlap = found(heard(SONG), heard(noisy(SONG, share)), 3, 0, -7)
    assert (overlap.first, overlap.last, overlap.shift) == (0, 199, 0)
    assert overlap.relation == SAME
    assert overlap.likeness == pytest.approx(1 - 2 * share, abs=0.02)
    assert score(overlap) > 0.8


def test_a_copy_without_its_beginning_lies_where_it_was_cut() -> None:
    overlap = found(heard(SONG), heard(noisy(SONG[12:], 0.1)), 12)
    assert (overlap.first, overlap.last, overlap.snippets) == (12, 199, 188)
    assert (overlap.cover_one, overlap.cover_other) == (0.94, 1.0)
    assert overlap.relation == SAME
    back = found(heard(noisy(SONG[12:], 0.1)), heard(SONG), -12)
    assert (back.first, back.last, back.cover_other) == (0, 187, 0.94)


def test_an_excerpt_is_a_part_and_a_sample_is_shared() -> None:
    assert found(heard(SONG), heard(SONG[60:150]), 60).relation == PART
    guest = codes(180)
    guest[40:80] = SONG[100:140]
    overlap = found(heard(SONG), heard(guest), 60)
    assert (overlap.first, overlap.last, overlap.relation) == (100, 139, SHARED)
    assert score(overlap) > 0.8


def test_a_hole_does_not_end_a_long_overlap() -> None:
    other = SONG.copy()
    other[90:110] = codes(20)
    overlap = found(heard(SONG), heard(other), 0)
    assert (overlap.first, overlap.last) == (0, 199)
    assert overlap.share == pytest.approx(0.9)


def test_silence_is_no_evidence() -> None:
    silent = list(range(150, 200))
    overlap = found(heard(SONG, silent), heard(SONG, silent), 0)
    assert (overlap.last, overlap.snippets) == (149, 150)
    assert (overlap.cover_one, overlap.relation) == (1.0, SAME)
    # Heard in one of the two only: that much of the track is not in the other.
    overlap = found(heard(SONG), heard(SONG, silent), 0)
    assert (overlap.snippets, overlap.cover_one, overlap.cover_other) == (150, 0.75, 1.0)


def test_chance_is_not_believed() -> None:
    for seed in range(100, 120):
        other = np.random.default_rng(seed).integers(0, 256, (200, BYTES), np.uint8)
        overlap = lay_over(heard(SONG), heard(other), [0, 50, -50], likeness)
        assert overlap is None or score(overlap) < 0.01
    assert lay_over(heard(SONG), heard(SONG), [200], likeness) is None


def test_an_equal_isrc_raises_a_score() -> None:
    doubtful = Overlap(0, 30, 0, 31, 5.0, 0.7, 0.8, 0.9, 0.9)
    assert score(doubtful) < score(doubtful, isrc_equal=True) < 1.0
    longer = dataclasses.replace(doubtful, snippets=310)
    nearer = dataclasses.replace(doubtful, likeness=0.9)
    assert min(score(longer), score(nearer)) > score(doubtful)
