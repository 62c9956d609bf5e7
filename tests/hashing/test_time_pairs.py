"""Maps of times as a few pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hashing.time_pairs import TOLERANCE_S, thinned

# Of the second, for each step of the first: standing still, steady, and leaps.
STEPS = st.lists(st.sampled_from([0.0, 1.0, 1.0, 1.0, 1.1, 3.0]), max_size=200)
FRAME_S = 0.0464


def test_a_straight_map_is_its_ends() -> None:
    times_s = np.arange(101) * 0.05
    first_s, second_s = thinned(times_s + 0.15, times_s)
    np.testing.assert_allclose(first_s, [0.15, 5.15], rtol=1e-6)
    np.testing.assert_allclose(second_s, [0.0, 5.0], rtol=1e-6)


def test_one_pair_and_none() -> None:
    first_s, second_s = thinned(np.array([1.0]), np.array([2.0]))
    assert (first_s.tolist(), second_s.tolist()) == ([1.0], [2.0])
    assert thinned(np.zeros(0), np.zeros(0))[0].size == 0


@given(steps=STEPS, begin=st.integers(0, 9))
def test_what_is_left_out_lies_on_the_lines(steps: list[float], begin: int) -> None:
    first = np.arange(len(steps) + 1) * FRAME_S
    second = (begin + np.cumsum([0.0, *steps])) * FRAME_S
    first_s, second_s = thinned(first, second)
    assert (np.diff(first_s) > 0).all()
    assert (np.diff(second_s) >= 0).all()
    off = np.interp(first, first_s, second_s) - second
    assert np.abs(off).max() <= TOLERANCE_S + 1e-4
