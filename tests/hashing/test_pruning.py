"""The nearest of all recordings, found a part of them at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hashing.cascade import likeness
from hashing.pruning import BINS, bins_of, lowest_bins, on_grid


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60),
    st.integers(1, 70),
    st.integers(1, 9),
)
def test_what_is_left_are_the_nearest_and_those_that_share_a_bin_with_the_last(
    values: list[float], kept: int, pieces: int
) -> None:
    alike = np.array(values, np.float32)
    parts = np.array_split(alike, pieces)
    counts = sum(np.bincount(bins_of(part), minlength=BINS) for part in parts)
    left = bins_of(alike) >= lowest_bins(np.asarray(counts)[None], kept)[0]
    last = np.sort(alike)[::-1][: min(kept, len(alike))][-1]
    assert left[alike >= last].all()  # none of the nearest is lost
    assert (bins_of(alike[left]) >= bins_of(last[None])[0]).all()  # and nothing beyond its bin kept


def test_likeness_is_the_same_in_whatever_company() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 64, 50)
    vectors = rng.standard_normal((counts.sum() + 20, 128)) + 1
    vectors = on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    query, windows = vectors[:20], vectors[20:]
    bounds = np.concatenate(([0], np.cumsum(counts)))
    whole = likeness(query, windows, bounds)
    for size in (1, 3, 7):
        for first in range(0, 50, size):
            end = min(first + size, 50)
            own = bounds[first : end + 1]
            part = likeness(query, windows[own[0] : own[-1]], own - own[0])
            np.testing.assert_array_equal(part, whole[first:end])


def test_the_grid_hardly_moves_a_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, 500, 128))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    one, other = on_grid(vectors)
    moved = (one * other).sum(axis=1) - (vectors[0] * vectors[1]).sum(axis=1)
    assert np.abs(moved).max() < 0.006
    assert np.sqrt((moved**2).mean()) < 0.001
