"""Stages of the search: what a loop over recordings says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.alignment import hash_score
from hashing.cascade import CascadeSettings, confidences, likeness, nearest
from hashing.errors import UsageError


def by_loop(query: np.ndarray, recordings: list[np.ndarray]) -> list[float]:
    """Each window of the side that has fewer, and the most alike of the other side."""
    found = []
    for windows in recordings:
        fewer, more = (windows, query) if len(windows) < len(query) else (query, windows)
        best = [max(float(one @ other) for other in more) for one in fewer] if len(more) else []
        found.append(sum(best) / len(best) if best else -1.0)
    return found


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.lists(st.integers(0, 5), max_size=8))
def test_likeness_is_that_of_a_loop(seed: int, asked: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)

    def unit(n: int) -> np.ndarray:
        rows = rng.standard_normal((n, 6)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    query, recordings = unit(asked), [unit(size) for size in sizes]
    offsets = np.cumsum([0, *sizes])
    stacked = np.concatenate([np.zeros((0, 6), np.float32), *recordings])
    found = likeness(query, stacked, offsets)
    wanted = by_loop(query, recordings) if asked else [-1.0] * len(sizes)
    assert found.dtype == np.float32
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_part_is_like_its_whole_on_either_side() -> None:
    rows = np.eye(8, dtype=np.float32)
    assert likeness(rows[:2], rows, np.array([0, 8])).tolist() == [1.0]
    assert likeness(rows, rows[3:5], np.array([0, 2])).tolist() == [1.0]
    assert likeness(rows[:2], rows, np.array([0, 1, 8])).tolist() == [1.0, 0.5]


@given(st.integers(0, 2**32 - 1))
def test_candidates_are_the_best_that_are_long_enough(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = CascadeSettings(candidates=int(rng.integers(1, 6)), shortest=6)
    query = rng.integers(0, 2**32, int(rng.integers(4, 12)), dtype=np.uint32)
    sizes = rng.integers(0, 15, int(rng.integers(0, 9)))
    offsets = np.cumsum([0, *sizes])
    codes = rng.integers(0, 2**32, offsets[-1], dtype=np.uint32)
    songs = [codes[a:b] for a, b in itertools.pairwise(offsets)]
    wanted = []
    if len(query) >= 6:
        scores = [(hash_score(query, s), n) for n, s in enumerate(songs) if len(s) >= 6]
        wanted = sorted(scores)[: settings.candidates]
    rows, bits = nearest(query, codes, offsets, settings)
    assert rows.dtype == np.int64
    assert rows.tolist() == [number for _, number in wanted]
    assert bits.tolist() == [score for score, _ in wanted]


def test_confidence_falls_with_the_cost_of_the_path_and_where_others_are_as_good() -> None:
    crowd = [0.8, 0.81, 0.82, 0.83, 0.84, 0.9]
    found = [confidences([score, *crowd])[0] for score in np.linspace(0, 1.2, 50)]
    assert (np.diff(found) < 0).all()
    assert found[0] > 0.99
    assert found[-1] < 0.01
    # Among tunes over the same chords none is sure; a copy of the same recording does little harm.
    assert max(confidences([0.4, 0.42, 0.43, 0.45, 0.46, 0.47])) < 0.1
    assert min(confidences([0.3, 0.3, *crowd])[:2]) > 0.8


@pytest.mark.parametrize(
    ("settings", "recordings", "kept"),
    [
        ({}, 0, 0),
        ({}, 200, 200),
        ({}, 2001, 201),
        ({"share": 1.0}, 5000, 5000),
        ({"share": 0.01, "least": 1}, 1, 1),
        ({"share": 0.01, "least": 1}, 101, 2),
    ],
)
def test_how_many_embeddings_leave(settings: dict[str, float], recordings: int, kept: int) -> None:
    assert CascadeSettings(**settings).kept(recordings) == kept  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01, math.nan])
def test_shares_that_cannot_be(share: float) -> None:
    with pytest.raises(UsageError, match="share of recordings"):
        CascadeSettings(share)


@pytest.mark.parametrize("name", ["least", "candidates", "shortest"])
def test_counts_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="must be 1 or more"):
        CascadeSettings(**{name: 0})  # type: ignore[arg-type]
