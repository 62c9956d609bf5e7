"""Rendered samples as recordings."""

from __future__ import annotations

import numpy as np

from hashing.conditions import Surroundings
from hashing.generated.recording import record


def test_a_recording_keeps_time_and_length() -> None:
    rate, clicks = 11_025, np.zeros(11_025, np.float32)
    clicks[4000:4050] = 1.0
    around = Surroundings(rate)
    different = []
    for seed in range(12):
        heard = record(clicks, around, np.random.default_rng(seed))
        assert heard.shape == clicks.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert abs(int(np.argmax(np.abs(heard))) - 4025) < 120
        different.append(heard)
        assert np.array_equal(heard, record(clicks, around, np.random.default_rng(seed)))
    assert len({heard.tobytes() for heard in different}) == 12
    assert record(clicks * 0, around, np.random.default_rng(3)).shape == clicks.shape
