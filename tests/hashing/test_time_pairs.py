"""Paths as a few pairs of times."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hashing.time_pairs import time_pairs

STEPS = st.lists(st.sampled_from([(1, 1), (1, 1), (1, 1), (0, 1), (1, 0)]), max_size=200)


def path_of(steps: list[tuple[int, int]], begin: tuple[int, int]) -> np.ndarray:
    return np.cumsum(np.array([begin, *steps]), axis=0)


def test_a_straight_path_is_its_ends() -> None:
    first_s, second_s = time_pairs(path_of([(1, 1)] * 100, (3, 0)), 0.05)
    np.testing.assert_allclose(first_s, [0.15, 5.15], rtol=1e-6)
    np.testing.assert_allclose(second_s, [0.0, 5.0], rtol=1e-6)


def test_one_cell_and_none() -> None:
    first_s, second_s = time_pairs(np.array([[2, 4]]), 0.5)
    assert (first_s.tolist(), second_s.tolist()) == ([1.0], [2.0])
    assert time_pairs(np.zeros((0, 2), np.int32), 0.5)[0].size == 0


@given(steps=STEPS, begin=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_what_is_left_out_lies_on_the_lines(
    steps: list[tuple[int, int]], begin: tuple[int, int]
) -> None:
    path, frame_s = path_of(steps, begin), 0.0464
    first_s, second_s = time_pairs(path, frame_s)
    assert (np.diff(first_s) > 0).all()
    assert (np.diff(second_s) >= 0).all()
    for frame in np.unique(path[:, 0]):
        mean = path[path[:, 0] == frame, 1].mean() * frame_s
        assert abs(np.interp(frame * frame_s, first_s, second_s) - mean) <= 0.0101
