"""Baselines of hash sequences and embeddings, by hand and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from hashing.sequence_baselines import Summaries, step_directions, summary, thresholded


def frames(t: int, bins: int = 48, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((t, bins)).astype(np.float32)


def test_bits_are_the_middle_bins_above_their_means():
    heard, mean = frames(20), np.linspace(0.3, 0.7, 48, dtype=np.float32)
    codes = thresholded(heard, mean)
    assert codes.dtype == np.uint32
    assert len(codes) == 2  # four frames are left over
    for step in range(2):
        for bit in range(32):
            above = heard[8 * step : 8 * step + 8, 8 + bit].mean() > mean[8 + bit]
            assert codes[step] >> bit & 1 == above


def test_an_odd_bin_is_left_out_above():
    heard = np.zeros((8, 35), np.float32)
    heard[:, 1] = heard[:, 32] = 1
    assert thresholded(heard, np.full(35, 0.5, np.float32)).tolist() == [1 | 1 << 31]


def test_too_few_bins_are_refused():
    with pytest.raises(ValueError, match="31 bins do not make 32 bits"):
        thresholded(frames(8, 31), np.zeros(31, np.float32))


def test_directions_have_length_one_and_silence_none():
    heard = frames(16)
    heard[8:] = 0
    assert np.linalg.norm(step_directions(heard, 8), axis=1).round(5).tolist() == [1, 0]


def test_likeness_is_less_the_squared_distance_of_standardised_summaries():
    found = [summary(frames(50, seed=seed)) for seed in range(6)]
    query = summary(frames(40, seed=9))
    stacked = np.stack(found).astype(np.float64)
    scaled = (stacked - stacked.mean(axis=0)) / stacked.std(axis=0)
    asked = (query - stacked.mean(axis=0)) / stacked.std(axis=0)
    expected = -((scaled - asked) ** 2).sum(axis=1)
    np.testing.assert_allclose(Summaries.of(found).likeness(query), expected, rtol=1e-2)


def test_a_bin_that_is_always_the_same_says_nothing():
    found = [np.array([1.0, seed], np.float32) for seed in range(3)]
    assert Summaries.of(found).likeness(found[2]).argmax() == 2
    assert np.isfinite(Summaries.of(found).likeness(found[0])).all()
