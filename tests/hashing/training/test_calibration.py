from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixture import RATE, corpus_of, music

from hashing.conditions import Surroundings
from hashing.confidence import Evidence
from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.errors import HashbeamError
from hashing.memory_index import MemoryTracks, memory_searcher
from hashing.metrics import calibration_error
from hashing.quantizers import SignQuantizer
from hashing.search import Searcher
from hashing.synthesis import render_track
from hashing.training import calibration
from hashing.training.calibration import (
    MATCHES,
    QUERY_SECONDS,
    Answers,
    ask,
    chance_similarity,
    fit,
    key_bits_for,
    shared_recordings,
)
from hashing.training.corpus import Corpus

TRACKS = 12
AIR = Surroundings(RATE)


@pytest.fixture(scope="module")
def hasher() -> Hasher:
    return Hasher.load("forgiving")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return music(TRACKS, 14.0)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "CHANCE_QUERIES", 10)


NAMES = [f"song {i}" for i in range(TRACKS)]


def columns(answers: Answers) -> np.ndarray:
    """All evidence, [fields, matches]."""
    return np.stack(list(dataclasses.asdict(answers.evidence).values()))


def test_answers_of_indexes_of_several_sizes(hasher: Hasher, corpus: Corpus) -> None:
    answers, chance = ask(hasher, corpus, range(6), range(6, 12), [4, 8], 25, AIR, NAMES, seed=1)
    # Each size is asked twice, and each of 25 queries has up to three matches.
    assert np.unique(answers.size).tolist() == [4, 8]
    assert 2 * 2 * 25 <= answers.right.size <= 2 * 2 * 25 * MATCHES
    # Half of what is asked is in the index, so that about half of the queries have an answer; for
    # two parts of a query that repeats itself, a track may answer twice.
    assert 0.3 * 100 < answers.right.sum() < 0.9 * 100
    similarity = answers.evidence.similarity
    strength = answers.evidence.strength / answers.evidence.snippets
    assert similarity[answers.right].mean() > similarity[~answers.right].mean() + 0.06
    assert strength[answers.right].mean() > 2 * strength[~answers.right].mean()
    # Strength is what is above the chance that was measured first.
    np.testing.assert_allclose(strength, similarity - chance, atol=1e-5)
    fitted = fit(answers, chance)
    assert fitted.chance == chance
    scores = fitted.score(answers.evidence)
    assert scores[answers.right].mean() > 0.5
    assert scores[~answers.right].mean() < 0.2
    assert calibration_error(scores, answers.right) < 0.05


def test_the_seed_decides_the_answers(hasher: Hasher, corpus: Corpus) -> None:
    (first, chance), (again, same_chance), (other, _) = (
        ask(hasher, corpus, range(3), range(3, 6), [4], 6, AIR, NAMES, seed) for seed in (1, 1, 2)
    )
    assert chance == same_chance
    np.testing.assert_array_equal(columns(first), columns(again))
    np.testing.assert_array_equal(first.right, again.right)
    assert first.evidence.strength.tolist() != other.evidence.strength.tolist()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tracks of each index that is asked, for a run that answers nothing."""
    sizes: list[int] = []

    def none_found(self: Searcher, queries: list[QueryCodes], top: int = 10) -> list[list[object]]:
        assert isinstance(self.tracks, MemoryTracks)
        sizes.append(self.tracks.firsts.size - 1)
        return [[] for _ in queries]

    monkeypatch.setattr(Searcher, "search", none_found)
    return sizes


def test_half_of_what_is_asked_is_in_each_index(
    hasher: Hasher, corpus: Corpus, asked: list[int]
) -> None:
    # Two of four asked tracks and as many others as the size wants; there are only three others.
    answers, _ = ask(hasher, corpus, range(3), range(3, 7), [2, 4, 9], 1, AIR, NAMES, seed=1)
    assert [size for size in asked if size != 7] == [2, 2, 4, 4, 5, 5]
    assert answers.right.size == 0


def test_another_version_of_a_recording_is_right(hasher: Hasher) -> None:
    # The same music stands under two ids, and no column of the catalogue says so: to find the
    # other one is no mistake.
    tracks = [render_track(seed, 12.0, RATE) for seed in (1, 2)]
    twice = corpus_of([*tracks, *tracks])
    unknown, known = (
        ask(hasher, twice, [], [0, 1, 2, 3], [4], 14, AIR, names, seed=1)[0]
        for names in (["a", "b", "c", "d"], ["a", "b", "a", "b"])
    )
    np.testing.assert_array_equal(columns(unknown), columns(known))
    np.testing.assert_array_equal(unknown.right, known.right)
    # One of each pair is in each index: most queries have an answer, and not only half of them.
    assert known.right.sum() > 0.6 * 28


# Tracks that share audio.


def test_a_copy_of_a_track_is_the_same_recording(hasher: Hasher) -> None:
    one, two, three = (render_track(seed, 22.0, RATE) for seed in (1, 2, 3))
    late = one[6 * RATE :]  # begins elsewhere
    medley = np.concatenate((render_track(5, 9.0, RATE), two[3 * RATE : 12 * RATE]))
    noisy = three + 0.01 * np.random.default_rng(1).standard_normal(three.size).astype(np.float32)
    corpus = corpus_of([one, two, three, late, medley, noisy, render_track(6, 22.0, RATE)])
    hashed = {i: hasher.hash_track([corpus.track(i)]) for i in range(7)}
    names = ["a", "b", "c", "d", "e", "f", "g"]
    found = shared_recordings(hasher, corpus, hashed, names)
    assert found == ["a", "b", "c", "a", "b", "c", "g"]
    assert names == ["a", "b", "c", "d", "e", "f", "g"]
    # What the catalogue knows already is kept, and carried on to what shares audio.
    assert shared_recordings(hasher, corpus, hashed, ["x", "b", "x", "d", "e", "f", "g"]) == (
        ["d", "b", "d", "d", "b", "d", "g"]
    )
    # Tracks that were not hashed, being silent, are no one's copies.
    del hashed[3]
    assert shared_recordings(hasher, corpus, hashed, names)[3] == "d"


def test_silence_is_no_shared_audio(hasher: Hasher) -> None:
    one, other = render_track(1, 12.0, RATE), render_track(2, 12.0, RATE)
    for song in (one, other):
        song[5 * RATE : 10 * RATE] = 0.0  # the second excerpt of each
    corpus = corpus_of([one, other, render_track(1, 4.0, RATE)])
    hashed = {i: hasher.hash_track([corpus.track(i)]) for i in range(3)}
    # The third is as short as an excerpt, and the beginning of the first.
    assert shared_recordings(hasher, corpus, hashed, ["a", "b", "c"]) == ["a", "b", "a"]


# What chance reaches.


def test_chance_by_hand(hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    # Codes of one byte, each as similar to any query as its number says.
    def scores(self: SignQuantizer, responses: np.ndarray) -> np.ndarray:
        return np.tile(np.arange(256, dtype=np.float32), (len(responses), 1, 1))

    monkeypatch.setattr(type(hasher.quantizer), "byte_scores", scores)
    monkeypatch.setattr(calibration, "CHANCE_PAIRS", 50)
    query = QueryCodes(np.zeros((3, 464), np.float32), np.arange(3, dtype=np.int32), 1.0)
    codes = np.array([[10], [30]], np.uint8)
    track = TrackCodes(codes, np.arange(2, dtype=np.int32), 1.0)
    found = chance_similarity(hasher, [query] * 40, [track], seed=1)
    # Tens and thirties in equal parts: twenty on average, ten off.
    assert found == pytest.approx(20 + 2 * 10, abs=1.0)
    assert chance_similarity(hasher, [query] * 40, [track], seed=1) == found
    same = dataclasses.replace(track, codes=np.array([[7]], np.uint8))
    assert chance_similarity(hasher, [query], [same], seed=1) == 7.0


def test_chance_is_what_strangers_reach(hasher: Hasher) -> None:
    songs = [render_track(seed, 6.0, RATE) for seed in range(8)]
    tracks = [hasher.hash_track([song]) for song in songs]
    queries = [hasher.hash_query([render_track(50 + i, 4.0, RATE)]) for i in range(8)]
    chance = chance_similarity(hasher, queries, tracks, seed=1)
    scores = [hasher.quantizer.byte_scores(query.responses) for query in queries]
    width = np.arange(hasher.quantizer.code_bytes)
    values = np.concatenate(
        [
            one[:, width, track.codes[at]].sum(axis=1)
            for one in scores
            for track in tracks
            for at in range(len(track.codes))
        ]
    )
    assert chance == pytest.approx(values.mean() + 2 * values.std(), abs=0.06)
    # Two deviations: few strangers are nearer.
    assert 0.005 < np.mean(values > chance) < 0.08


def test_keys_as_the_index_chooses_them() -> None:
    # About four postings a bucket, and twelve bits at least.
    assert [key_bits_for(n) for n in (0, 1, 2**13, 2**14, 2**14 + 1, 2**20)] == (
        [12, 12, 12, 12, 13, 18]
    )


def test_silent_tracks_are_not_asked(hasher: Hasher) -> None:
    tracks = [render_track(seed, 8.0, RATE) for seed in range(4)]
    quiet = corpus_of([*tracks, np.zeros(8 * RATE, np.float32)])
    answers, _ = ask(hasher, quiet, [0, 1], [2, 3, 4], [3], 5, AIR, NAMES, seed=1)
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
    ordinal, start, end = MemoryTracks(spans).locate(0, np.arange(len(owner)))
    assert ordinal.tolist() == owner
    assert start.tolist() == first
    assert end.tolist() == [at + spans[track] for at, track in zip(first, owner, strict=True)]


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
    searcher = memory_searcher(hasher, [hasher.hash_track([song])], 12)
    best = searcher.search([hasher.hash_query([song])])[0][0]
    assert (best.ordinal, best.offset_s) == (0, 0.0)
    assert best.evidence.snippets == 1


def test_answers_are_columns_of_matches(hasher: Hasher) -> None:
    song = render_track(3, 4.0, RATE)
    searcher = memory_searcher(hasher, [hasher.hash_track([song])], 12)
    match = searcher.search([hasher.hash_query([song])])[0][0]
    answers = Answers.gather([(match, True, 7), (match, False, 9)])
    assert answers.right.tolist() == [True, False]
    assert answers.size.tolist() == [7, 9]
    for field in dataclasses.fields(Evidence):
        column = getattr(answers.evidence, field.name)
        assert column.dtype == np.float64
        np.testing.assert_array_equal(column, [float(getattr(match.evidence, field.name))] * 2)
    assert np.isnan(answers.evidence.rival).all()  # there is no other track
    assert np.isfinite(fit(answers).weights).all()
    nothing = Answers.gather([])
    assert nothing.right.size == 0
    assert np.isfinite(fit(nothing).weights).all()
