from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixture import RATE, corpus_of, music

from hashing.conditions import Surroundings
from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.errors import HashbeamError
from hashing.metrics import calibration_error
from hashing.synthesis import render_track
from hashing.training import calibration
from hashing.training.calibration import (
    MATCHES,
    QUERY_SECONDS,
    Answers,
    MemoryTracks,
    ask,
    fit,
    memory_searcher,
)
from hashing.training.corpus import Corpus

TRACKS = 12
AIR = Surroundings(RATE)


@pytest.fixture(scope="module")
def hasher() -> Hasher:
    return Hasher.load()


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return music(TRACKS, 14.0)


NAMES = [f"song {i}" for i in range(TRACKS)]


def test_answers_of_indexes_of_several_sizes(hasher: Hasher, corpus: Corpus) -> None:
    answers = ask(hasher, corpus, range(6), range(6, 12), [4, 8], 40, AIR, NAMES, seed=1)
    # Each size is asked twice, and each of 40 queries has up to three matches.
    assert np.unique(answers.size).tolist() == [4, 8]
    assert 2 * 2 * 40 <= answers.right.size <= 2 * 2 * 40 * MATCHES
    # Half of what is asked is in the index, so that about half of the queries have an answer.
    assert 0.3 * 160 < answers.right.sum() < 0.7 * 160
    surprise, margin = answers.evidence.surprise, answers.evidence.margin
    assert surprise[answers.right].mean() > surprise[~answers.right].mean() + 30
    assert margin[answers.right].mean() > 0 > margin[~answers.right].mean()
    fitted = fit(answers)
    scores = fitted.score(answers.evidence)
    assert scores[answers.right].mean() > 0.6
    assert scores[~answers.right].mean() < 0.15
    assert calibration_error(scores, answers.right) < 0.05


def test_the_seed_decides_the_answers(hasher: Hasher, corpus: Corpus) -> None:
    first, again, other = (
        ask(hasher, corpus, range(3), range(3, 6), [4], 6, AIR, NAMES, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.evidence.surprise, again.evidence.surprise)
    np.testing.assert_array_equal(first.right, again.right)
    assert first.evidence.surprise.tolist() != other.evidence.surprise.tolist()


def test_another_version_of_a_recording_is_right(hasher: Hasher) -> None:
    # The same music stands under two ids: to find the other one is no mistake.
    tracks = [render_track(seed, 12.0, RATE) for seed in (1, 2)]
    twice = corpus_of([*tracks, *tracks])
    asked = [0, 1, 2, 3]
    alone, together = (
        ask(hasher, twice, [], asked, [4], 30, AIR, names, seed=1)
        for names in (["a", "b", "c", "d"], ["a", "b", "a", "b"])
    )
    np.testing.assert_array_equal(alone.evidence.surprise, together.evidence.surprise)
    assert np.all(together.right >= alone.right)
    assert together.right.sum() > 1.5 * alone.right.sum()


def test_silent_tracks_are_not_asked(hasher: Hasher) -> None:
    tracks = [render_track(seed, 8.0, RATE) for seed in range(4)]
    quiet = corpus_of([*tracks, np.zeros(8 * RATE, np.float32)])
    answers = ask(hasher, quiet, [0, 1], [2, 3, 4], [3], 5, AIR, NAMES, seed=1)
    assert answers.right.any()
    with pytest.raises(HashbeamError, match="no track to calibrate the score with"):
        ask(hasher, quiet, [0, 1, 2, 3], [4], [3], 5, AIR, NAMES, seed=1)


def test_queries_are_of_all_lengths(
    hasher: Hasher, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = []
    hash_query = Hasher.hash_query

    def kept(self: Hasher, blocks: list[np.ndarray]) -> QueryCodes:
        seconds.append(sum(block.size for block in blocks) / RATE)
        return hash_query(self, blocks)

    monkeypatch.setattr(Hasher, "hash_query", kept)
    drawn = calibration._queries(hasher, corpus, [3, 5], 80, AIR, np.random.default_rng(1))
    assert len(drawn) == 80
    assert {track for track, _ in drawn} == {3, 5}
    low, high = QUERY_SECONDS
    assert low <= min(seconds) < 1.2
    assert 10.0 < max(seconds) <= high
    # On a logarithmic scale the middle is the geometric mean, 3.5 s.
    assert 2.6 < np.median(seconds) < 4.7


@given(spans=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_snippets_know_their_track(spans: list[int]) -> None:
    owner = [track for track, span in enumerate(spans) for _ in range(span)]
    first = [owner.index(track) for track in owner]
    ordinal, start = MemoryTracks(spans).locate(0, np.arange(len(owner)))
    assert ordinal.tolist() == owner
    assert start.tolist() == first


def test_silent_snippets_take_up_their_numbers(hasher: Hasher) -> None:
    gap = render_track(1, 12.0, RATE)
    gap[3 * RATE : 8 * RATE] = 0.0
    songs = [gap, *(render_track(seed, 6.0, RATE) for seed in range(2, 8))]
    tracks = [hasher.hash_track([song]) for song in songs]
    assert tracks[0].snippet.size < 23
    searcher = memory_searcher(hasher, tracks, 12)
    assert searcher.n_snippets == sum(track.codes.shape[0] for track in tracks)
    late = hasher.hash_query([gap[9 * RATE : 11 * RATE]])
    best = searcher.search([late])[0][0]
    assert best.ordinal == 0
    assert abs(best.offset_s - 9.0) <= 0.25
    second = hasher.hash_query([render_track(2, 6.0, RATE)[2 * RATE : 4 * RATE]])
    best = searcher.search([second])[0][0]
    assert best.ordinal == 1
    assert abs(best.offset_s - 2.0) <= 0.25


def test_an_index_of_one_snippet(hasher: Hasher) -> None:
    song = render_track(3, 1.0, RATE)
    track: TrackCodes = hasher.hash_track([song])
    searcher = memory_searcher(hasher, [track], 12)
    best = searcher.search([hasher.hash_query([song])])[0][0]
    assert (best.ordinal, best.offset_s, best.votes) == (0, 0.0, 20)


def test_answers_are_columns_of_matches(hasher: Hasher) -> None:
    song = render_track(3, 4.0, RATE)
    searcher = memory_searcher(hasher, [hasher.hash_track([song])], 12)
    match = searcher.search([hasher.hash_query([song])])[0][0]
    answers = Answers.gather([(match, True, 7), (match, False, 9)])
    assert answers.right.tolist() == [True, False]
    assert answers.size.tolist() == [7, 9]
    assert answers.evidence.margin.tolist() == [match.margin] * 2
    assert answers.evidence.snippets.tolist() == [match.snippets] * 2
    nothing = Answers.gather([])
    assert nothing.right.size == 0
    assert np.isfinite(fit(nothing).weights).all()
