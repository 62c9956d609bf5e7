"""Tracks that share audio, and places that sound the same: music made for the purpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.duplicates import (
    SAME_PLACE,
    Shared,
    correlation,
    correlation_at,
    find_shared,
    join,
)
from hashing.encoders import Hasher
from hashing.errors import AudioError
from hashing.memory_index import memory_searcher
from hashing.search import Searcher
from hashing.synthesis import render_track

RATE = 8000
KEY_BITS = 12


@pytest.fixture(scope="module")
def hasher() -> Hasher:
    return Hasher.load()


def index_of(hasher: Hasher, songs: list[np.ndarray]) -> Searcher:
    return memory_searcher(hasher, [hasher.hash_track([song]) for song in songs], KEY_BITS)


def pairs_in(searcher: Searcher, songs: list[np.ndarray]) -> list[Shared[int]]:
    """All pairs that are found among tracks that are all in the index."""
    return list(find_shared(searcher, range(len(songs)), songs.__getitem__, lambda _, at: at))


@pytest.fixture(scope="module")
def music() -> list[np.ndarray]:
    """Tracks 0 to 3; 4: the second half of 0, quieter; 5: 1 in noise; 6: music of its own around
    five seconds of 2.
    """
    songs = [render_track(seed, 15.0, RATE) for seed in range(4)]
    noise = np.random.default_rng(1).standard_normal(songs[1].size).astype(np.float32)
    own = render_track(9, 15.0, RATE)
    own[5 * RATE : 10 * RATE] = songs[2][5 * RATE : 10 * RATE]
    return [*songs, 0.1 * songs[0][7 * RATE :], songs[1] + 0.01 * noise, own]


def test_shared_audio_is_found_from_both_sides(hasher: Hasher, music: list[np.ndarray]) -> None:
    found = pairs_in(index_of(hasher, music), music)
    assert {(pair.one, pair.other) for pair in found} == {
        *((0, 4), (4, 0), (1, 5), (5, 1), (2, 6), (6, 2)),
    }
    for pair in found:
        assert pair.correlation > 0.7
        assert 0 <= pair.excerpts <= pair.tried <= 3
        shift = {(0, 4): -7, (1, 5): 0, (2, 6): 0}.get((pair.one, pair.other))
        if shift is not None:
            assert pair.other_start_s - pair.start_s == pytest.approx(shift, abs=0.3)


def test_what_is_near_but_not_the_same_audio_is_not_believed(
    hasher: Hasher, music: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a hasher to which everything is near: the samples decide."""
    monkeypatch.setattr("hashing.duplicates.NEAR", 0.0)
    songs = music[:4]
    assert pairs_in(index_of(hasher, songs), songs) == []


def test_tracks_that_cannot_be_heard_share_nothing(hasher: Hasher, music: list[np.ndarray]) -> None:
    searcher = index_of(hasher, music[:2])

    def audio(key: str) -> np.ndarray:
        if key == "broken":
            raise AudioError("not-audio", "no audio at all")
        return np.zeros(9 * RATE, np.float32) if key == "silent" else music[0]

    def named(_: int, ordinal: int) -> str:
        return "broken" if ordinal == 0 else "other"

    found = find_shared(searcher, ["broken", "silent"], audio, named)
    assert list(found) == []
    # Its copy is as near to it from end to end, and that is believed without samples.
    (pair,) = find_shared(searcher, ["copy"], audio, named)
    assert (pair.one, pair.other, pair.correlation) == ("copy", "broken", 0.0)
    assert pair.excerpts == pair.tried == 3


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12),
)
def test_joined_are_the_tracks_that_a_chain_of_pairs_connects(links: list[tuple[int, int]]) -> None:
    names = {track: f"{track}" for track in range(10)}
    pairs = [Shared(one, other, 0.0, 0.0, 1.0, 1.0, 1, 1) for one, other in links]
    joined = join(names, pairs)
    reached = np.eye(10, dtype=bool)
    for one, other in links:
        reached[one, other] = reached[other, one] = True
    reached = np.linalg.matrix_power(reached.astype(int), 10) > 0
    for one in range(10):
        assert joined[one] == str(int(np.flatnonzero(reached[one])[0]))


@given(gain=st.sampled_from([-3.0, 0.01, 1.0]), shift=st.integers(0, 500), seed=st.integers(0, 99))
def test_a_copy_correlates_at_any_level_and_shift(gain: float, shift: int, seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(1500).astype(np.float32)
    assert correlation(gain * noise[shift : shift + 1000], noise) == pytest.approx(1.0, abs=1e-3)


def test_correlation_by_hand() -> None:
    one = np.array([1.0, 0.0, 0.0, -1.0], np.float32)
    # Samples: 1 / sqrt(2 * 1); differences (-1, 0, -1) and (-1, 0, 0): 1 / sqrt(2 * 1).
    assert correlation(one, np.array([1, 0, 0, 0], np.float32)) == pytest.approx(0.5**0.5, abs=1e-3)
    assert correlation(one, np.zeros(8, np.float32)) == 0.0
    assert correlation(np.zeros(4, np.float32), one) == 0.0
    assert correlation(one, one[:3]) == 0.0


def test_a_loop_sounds_the_same_one_turn_later() -> None:
    turn = render_track(1, 6.0, RATE)
    song = np.concatenate((turn, turn, render_track(2, 6.0, RATE)))
    excerpt = song[2 * RATE : 5 * RATE]
    for start_s, same in ((2.0, 1), (1.6, 1), (8.3, 1), (5.0, 0), (14.0, 0), (40.0, 0), (-9.0, 0)):
        assert (correlation_at(excerpt, song, start_s, RATE) >= SAME_PLACE) == same, start_s
    # With something as loud over it half of the energy is common; with what is twice as loud, less.
    noise = np.random.default_rng(1).standard_normal(excerpt.size).astype(np.float32)
    noise *= np.sqrt(np.mean(excerpt**2))
    assert 0.6 < correlation_at(excerpt, excerpt + noise, 0.0, RATE) < 0.8
    assert correlation_at(excerpt, excerpt + 2 * noise, 0.0, RATE) < SAME_PLACE
    # What begins before the track is silent there: two of the three seconds are left.
    assert 0.6 < correlation_at(excerpt, song[3 * RATE :], -1.0, RATE) < 0.99
