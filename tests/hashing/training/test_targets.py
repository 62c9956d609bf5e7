from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.training import targets
from hashing.training.targets import all_codes, random_codes, reassign


def greedy_reference(responses: np.ndarray, capacity: int) -> list[int]:
    """The paper's matching: again and again the closest pair that is left."""
    codes = all_codes(responses.shape[1])
    songs = set(range(len(responses)))
    room = dict.fromkeys(range(len(codes)), capacity)
    found = [-1] * len(responses)
    while songs:
        _, song, code = min(
            (float(np.sum((codes[code] - responses[song]) ** 2)), song, code)
            for song in songs
            for code, left in room.items()
            if left
        )
        found[song] = code
        songs.remove(song)
        room[code] -= 1
    return found


# Eighths and their squares are exact in float32, so that equal distances are equal.
responses = st.integers(1, 3).flatmap(
    lambda outputs: st.lists(
        st.lists(st.integers(0, 8), min_size=outputs, max_size=outputs), min_size=1, max_size=12
    )
)


@given(responses)
def test_codes_are_dealt_out_as_in_the_paper(eighths: list[list[int]]) -> None:
    values = np.array(eighths, np.float32) / 8
    songs, outputs = values.shape
    capacity = -(-songs // 2**outputs)
    found = reassign(values)
    assert found.tolist() == greedy_reference(values, capacity)
    assert max(Counter(found.tolist()).values()) <= capacity


@pytest.mark.parametrize(("songs", "outputs"), [(16, 4), (8, 3), (64, 4), (50, 3)])
def test_real_valued_responses(songs: int, outputs: int) -> None:
    values = np.random.default_rng(songs).random((songs, outputs)).astype(np.float32)
    capacity = -(-songs // 2**outputs)
    assert reassign(values).tolist() == greedy_reference(values, capacity)


def test_as_many_songs_as_codes_use_every_code_once() -> None:
    values = np.random.default_rng(1).random((256, 8)).astype(np.float32)
    assert sorted(reassign(values).tolist()) == list(range(256))


def test_the_number_of_pairs_in_a_sweep_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random((100, 5)).astype(np.float32)
    whole = reassign(values)
    for pairs in (1, 7, 10**6):
        monkeypatch.setattr(targets, "PAIRS_PER_SWEEP", pairs)
        np.testing.assert_array_equal(reassign(values), whole)


def test_songs_that_answer_with_a_code_keep_it() -> None:
    rng = np.random.default_rng(3)
    wanted = rng.permutation(64)
    noisy = all_codes(6)[wanted] + rng.normal(0, 0.05, (64, 6))
    np.testing.assert_array_equal(reassign(noisy.astype(np.float32)), wanted)


def test_dealing_out_again_brings_targets_nearer_to_the_responses() -> None:
    rng = np.random.default_rng(4)
    values = rng.random((128, 7)).astype(np.float32)
    codes = all_codes(7)

    def distance(numbers: np.ndarray) -> float:
        return float(np.mean(np.sum((codes[numbers] - values) ** 2, axis=1)))

    random = [distance(random_codes(128, 7, rng)) for _ in range(20)]
    assert distance(reassign(values)) < 0.7 * min(random)


@given(songs=st.integers(1, 100), outputs=st.integers(1, 6), seed=st.integers(0, 99))
def test_random_codes_are_balanced(songs: int, outputs: int, seed: int) -> None:
    found = random_codes(songs, outputs, np.random.default_rng(seed))
    assert found.shape == (songs,)
    counts = np.bincount(found, minlength=2**outputs)
    assert counts.size == 2**outputs
    used = counts[counts > 0]
    assert counts.max() - (counts.min() if songs >= counts.size else used.min()) <= 1


def test_every_bit_of_balanced_codes_is_set_for_half_of_the_songs() -> None:
    codes = all_codes(8)[random_codes(1024, 8, np.random.default_rng(5))]
    np.testing.assert_array_equal(codes.mean(axis=0), 0.5)


def test_all_codes_count() -> None:
    codes = all_codes(5)
    assert codes.shape == (32, 5)
    np.testing.assert_array_equal(codes @ 2.0 ** np.arange(5), np.arange(32))
