from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from model_fixture import learned_model, random_model
from segmented import segmented

from hashing import codes
from hashing.conditions import Condition, Surroundings
from hashing.confidence import NAMES, Evidence
from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.errors import ModelError
from hashing.features import BALUJA_COVELL
from hashing.memory_index import MemoryCodes, MemoryTracks, memory_searcher
from hashing.models import DEFAULT_MODEL, list_models
from hashing.quantizers import SignQuantizer
from hashing.search import Match, Searcher
from hashing.shards import TableSet
from hashing.synthesis import render_track
from hashing.voting import MAX_QUERIES

RATE, SECONDS, TRACKS, KEY_BITS = 8000, 16, 10, 12
STEP_S = 0.125

# A place is told to half a hop of the index.
HALF_HOP_S = 0.25


@pytest.fixture(scope="module")
def songs() -> list[np.ndarray]:
    return [render_track(seed, SECONDS, RATE) for seed in range(TRACKS)]


@pytest.fixture(scope="module", params=["made", DEFAULT_MODEL])
def hasher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    """A hasher that is the same for ever, and the one that is shipped."""
    if request.param == "made":
        return Hasher(learned_model(tmp_path_factory.mktemp("models") / "learned"))
    return Hasher.load(request.param)


@pytest.fixture(scope="module")
def hashed(hasher: Hasher, songs: list[np.ndarray]) -> list[TrackCodes]:
    return [hasher.hash_track([song]) for song in songs]


@pytest.fixture(scope="module")
def searcher(hasher: Hasher, hashed: list[TrackCodes]) -> Searcher:
    return memory_searcher(hasher, hashed, KEY_BITS)


def ask(searcher: Searcher, audio: np.ndarray, top: int = 10) -> list[Match]:
    return searcher.search([searcher.hasher.hash_query([audio])], top)[0]


def cut(song: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    return song[round(start_s * RATE) : round(end_s * RATE)]


def indexed(hasher: Hasher, seconds: float) -> int:
    """Snippets of an index that lie wholly in so many seconds, the first of them at the start."""
    features = hasher.features
    room = seconds - features.snippet_samples / features.sample_rate
    return int(room / features.snippet_hop_s) + 1


def least_score(hasher: Hasher) -> float:
    """Of a right match; that of the shipped model is calibrated on recordings, not on these."""
    return 0.1 if hasher.model.name == DEFAULT_MODEL else 0.5


def assert_same(found: Sequence[Match], expected: Sequence[Match]) -> None:
    """The same matches, to the last digit of their evidence."""
    assert [dataclasses.replace(m, evidence=None) for m in found] == [  # type: ignore[arg-type]
        dataclasses.replace(m, evidence=None)  # type: ignore[arg-type]
        for m in expected
    ]
    for one, other in zip(found, expected, strict=True):
        for field in dataclasses.fields(Evidence):
            values = [getattr(match.evidence, field.name) for match in (one, other)]
            np.testing.assert_array_equal(*values)


# --- where


@pytest.mark.parametrize("start_s", [0.0, 0.5, 4.0, 9.5])
@pytest.mark.parametrize("length_s", [2.0, 5.0])
def test_an_excerpt_is_found_where_it_was_cut(
    searcher: Searcher, songs: list[np.ndarray], start_s: float, length_s: float
) -> None:
    for track in (0, 4, 9):
        best = ask(searcher, cut(songs[track], start_s, start_s + length_s))[0]
        assert (best.segment, best.ordinal) == (0, track)
        assert abs(best.offset_s - start_s) <= (HALF_HOP_S if length_s < 5 else 0)
        assert best.score > least_score(searcher.hasher)
        assert best.query_start_s <= HALF_HOP_S
        assert length_s - 1 < best.query_end_s <= length_s


def test_a_second_is_enough(searcher: Searcher, songs: list[np.ndarray]) -> None:
    right = []
    for track in range(TRACKS):
        for start_s in (1.0, 3.3, 7.1):
            best = ask(searcher, cut(songs[track], start_s, start_s + 1))[0]
            assert 0.0 <= best.query_start_s < best.query_end_s <= 1.0
            right.append(best.ordinal == track and abs(best.offset_s - start_s) <= 2 * HALF_HOP_S)
    assert np.mean(right) > 0.7


def test_excerpts_from_anywhere_are_found_within_half_a_hop(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    rng = np.random.default_rng(1)
    tracks, places = [], []
    for _ in range(40):
        track, start = int(rng.integers(TRACKS)), int(rng.integers((SECONDS - 4) * RATE))
        gain = np.float32(10 ** (rng.uniform(-12, 12) / 20))
        best = ask(searcher, songs[track][start : start + 4 * RATE] * gain)[0]
        tracks.append(best.ordinal == track)
        places.append(abs(best.offset_s - start / RATE) <= HALF_HOP_S)
    assert np.mean(tracks) > 0.97
    # A bar that is played again is found there too.
    assert np.mean(places) > 0.9


@pytest.mark.parametrize("condition", ["white@10", "reverb", "mp3", "ambience@10"])
def test_a_degraded_excerpt_is_found(
    searcher: Searcher, songs: list[np.ndarray], condition: str
) -> None:
    right = 0
    for track in range(TRACKS):
        heard = Surroundings(RATE).degrade(
            cut(songs[track], 3.0, 8.0), Condition.parse(condition), np.random.default_rng(track)
        )
        best = ask(searcher, heard)[0]
        right += best.ordinal == track and abs(best.offset_s - 3.0) <= HALF_HOP_S
    assert right >= TRACKS - 1


# The first track too: there is nothing before its first snippet in the index.
@pytest.mark.parametrize("track", [0, 6])
def test_a_query_that_begins_before_the_track(
    searcher: Searcher, songs: list[np.ndarray], track: int
) -> None:
    hiss = 0.003 * np.random.default_rng(1).standard_normal(4 * RATE).astype(np.float32)
    best = ask(searcher, np.concatenate((hiss, cut(songs[track], 0, 6))))[0]
    assert best.ordinal == track
    assert best.offset_s == -4.0
    # What is before the track is no part of it.
    assert best.query_start_s == 4.0
    assert best.query_end_s > 9.0
    assert best.score > 0.5


@pytest.mark.parametrize("track", [0, 5, 9])
def test_a_query_longer_than_the_track(
    searcher: Searcher, songs: list[np.ndarray], track: int
) -> None:
    others = [render_track(seed, 30.0, RATE) for seed in (100, 101)]
    best = ask(searcher, np.concatenate((others[0], songs[track], others[1])))[0]
    assert best.ordinal == track
    assert best.offset_s == -30.0
    assert best.query_start_s == 30.0
    # The last snippet of the track begins 15 s into it.
    assert best.query_end_s == pytest.approx(30 + 15 + 0.97, abs=0.01)
    assert best.evidence.snippets == indexed(searcher.hasher, SECONDS)


@pytest.mark.parametrize(("one", "other"), [(2, 7), (7, 2), (3, 4), (9, 0)])
def test_two_tracks_in_one_query(
    searcher: Searcher, songs: list[np.ndarray], one: int, other: int
) -> None:
    query = np.concatenate((cut(songs[one], 2, 8), cut(songs[other], 5, 11)))
    found = {match.ordinal: match for match in ask(searcher, query) if match.score > 0.5}
    assert set(found) == {one, other}
    assert found[one].offset_s == 2.0
    assert found[other].offset_s == 5.0 - 6.0
    assert found[one].query_start_s == 0.0
    assert abs(found[one].query_end_s - 6) < 1.2
    assert abs(found[other].query_start_s - 6) < 1.2
    assert found[other].query_end_s > 11.4


def test_many_tracks_in_one_query(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    # A minute of radio: none of the others speaks against a track that is heard at its own time,
    # nor is it what chance would find.
    others = [hasher.hash_track([render_track(seed, 12.0, RATE)]) for seed in range(300, 320)]
    index = memory_searcher(hasher, [*hashed, *others], KEY_BITS)
    query = np.concatenate([cut(songs[track], 4, 12) for track in range(7)])
    found = ask(index, query, top=20)
    for track in range(7):
        (match,) = [m for m in found if m.ordinal == track and m.score > 0.5]
        assert match.offset_s == 4.0 - 8.0 * track
        assert abs(match.query_start_s - 8 * track) < 1.2
        assert abs(match.query_end_s - 8 * (track + 1)) < 1.2


def test_two_places_of_one_track_are_two_matches(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    query = np.concatenate((cut(songs[3], 9, 14), cut(songs[3], 1, 6)))
    found = [match for match in ask(searcher, query) if match.score > 0.5]
    assert sorted((match.ordinal, match.offset_s) for match in found) == [(3, -4.0), (3, 9.0)]


def test_a_track_is_one_answer_for_one_part_of_a_query(
    hasher: Hasher, hashed: list[TrackCodes]
) -> None:
    # A refrain that comes three times in a track lies on three diagonals.
    refrain, verses = render_track(50, 4.0, RATE), render_track(51, 12.0, RATE)
    parts = [piece for at in (0, 4, 8) for piece in (refrain, cut(verses, at, at + 4))]
    song = hasher.hash_track([np.concatenate(parts)])
    found = ask(memory_searcher(hasher, [*hashed, song], KEY_BITS), refrain)
    whole = [match for match in found if match.query_end_s - match.query_start_s > 3]
    assert [match.ordinal for match in whole].count(TRACKS) == 1
    assert found[0].ordinal == TRACKS
    assert found[0].score > 0.5
    assert found[0].offset_s in (0.0, 8.0, 16.0)


# --- the same recording more than once


@pytest.mark.parametrize("copies", [1, 2, 3, 5, 9])
def test_every_copy_of_a_recording_is_an_answer(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray], copies: int
) -> None:
    index = memory_searcher(hasher, [*hashed, *[hashed[4]] * copies], KEY_BITS)
    alone = ask(memory_searcher(hasher, hashed, KEY_BITS), cut(songs[4], 2, 7))[0]
    found = ask(index, cut(songs[4], 2, 7), top=20)
    right = {4, *range(TRACKS, TRACKS + copies)}
    assert {match.ordinal for match in found[: 1 + copies]} == right
    for match in found[: 1 + copies]:
        # As sure as if it were alone, but for there being fewer other tracks.
        assert match.score > max(0.5, alone.score - 0.1)
        assert match.offset_s == 2.0
    assert all(match.score < 0.5 for match in found[1 + copies :])


def test_a_copy_that_begins_later(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    later = hasher.hash_track([songs[4][RATE // 2 :]])
    index = memory_searcher(hasher, [*hashed, later], KEY_BITS)
    found = {match.ordinal: match for match in ask(index, cut(songs[4], 2, 9))[:2]}
    assert set(found) == {4, TRACKS}
    assert (found[4].offset_s, found[TRACKS].offset_s) == (2.0, 1.5)
    assert all(match.score > 0.5 for match in found.values())


# --- removed tracks


class Removed(MemoryTracks):
    """Tracks of which some have been removed."""

    def __init__(self, tracks: object, removed: set[int]) -> None:
        assert isinstance(tracks, MemoryTracks)
        self.firsts, self.removed = tracks.firsts, removed

    def locate(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ordinal, first, end = super().locate(segment, gids)
        return np.where(np.isin(ordinal, list(self.removed)), -1, ordinal), first, end


def test_a_removed_track_is_never_an_answer(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    searcher = memory_searcher(hasher, hashed, KEY_BITS)
    query = cut(songs[4], 2, 7)
    before = ask(searcher, query)
    assert before[0].ordinal == 4
    searcher.tracks = Removed(searcher.tracks, {4})
    after = ask(searcher, query)
    assert after
    assert all(match.ordinal not in (4, -1) for match in after)
    assert after[0].score < before[0].score
    assert after[0].evidence.strength < before[0].evidence.strength / 2
    # Nor is it a rival: a copy of it is now the only answer, as sure as if it had been alone.
    searcher = memory_searcher(hasher, [*hashed, hashed[4]], KEY_BITS)
    searcher.tracks = Removed(searcher.tracks, {4})
    other = ask(searcher, query)[0]
    assert other.ordinal == TRACKS
    assert other.score == pytest.approx(before[0].score, abs=0.02)
    assert other.evidence.strength == pytest.approx(float(before[0].evidence.strength))


def test_an_index_of_removed_tracks_gives_no_answer(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    searcher = memory_searcher(hasher, hashed, KEY_BITS)
    searcher.tracks = Removed(searcher.tracks, set(range(TRACKS)))
    assert ask(searcher, cut(songs[4], 2, 7)) == []


# --- segments


def test_segments_are_searched_as_one_index(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    searcher = segmented(hasher, [hashed[:4], hashed[4:5], [], hashed[5:]], KEY_BITS)
    for track, place in ((0, (0, 0)), (3, (0, 3)), (4, (1, 0)), (5, (3, 0)), (9, (3, 4))):
        best = ask(searcher, cut(songs[track], 3, 8))[0]
        assert (best.segment, best.ordinal) == place
        assert best.offset_s == 3.0
        assert best.score > least_score(hasher)
    # A query of two tracks of different segments.
    query = np.concatenate((cut(songs[2], 2, 7), cut(songs[8], 2, 7)))
    found = ask(searcher, query)[:2]
    assert {(m.segment, m.ordinal) for m in found} == {(0, 2), (3, 3)}
    # Tracks of one ordinal in two segments are two tracks, here of one recording: both are answers.
    twice = segmented(hasher, [hashed[:2], hashed[:2]], KEY_BITS)
    found = ask(twice, cut(songs[1], 3, 8))
    assert [(m.segment, m.ordinal) for m in found[:2]] == [(0, 1), (1, 1)]
    assert all(m.score > least_score(hasher) for m in found[:2])


def test_one_segment_or_several_give_the_same_evidence(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    whole, parts = (
        segmented(hasher, spread, KEY_BITS) for spread in ([hashed], [hashed[:5], hashed[5:]])
    )
    for track in (1, 7):
        one, other = (ask(index, cut(songs[track], 3, 8))[0] for index in (whole, parts))
        assert one.ordinal == 5 * other.segment + other.ordinal == track
        for name in ("strength", "similarity", "snippets", "contrast", "norm"):
            assert getattr(one.evidence, name) == pytest.approx(getattr(other.evidence, name))


# --- nothing to find


def test_an_empty_index_gives_no_answer(hasher: Hasher, songs: list[np.ndarray]) -> None:
    width = hasher.quantizer.code_bytes
    nothing = MemoryCodes(np.empty((0, width), np.uint8), np.empty(0, np.int64), 0)
    tables = TableSet([], hasher.quantizer.n_tables, KEY_BITS)
    searcher = Searcher(hasher, tables, nothing, MemoryTracks([]), KEY_BITS, 0)
    assert ask(searcher, songs[0]) == []
    assert searcher.search([]) == []
    assert ask(segmented(hasher, [[], []], KEY_BITS), songs[0]) == []


def test_an_index_of_one_snippet(hasher: Hasher, songs: list[np.ndarray]) -> None:
    one = hasher.hash_track([cut(songs[3], 2, 3)])
    assert one.snippet.tolist() == [0]
    searcher = memory_searcher(hasher, [one], KEY_BITS)
    best = ask(searcher, cut(songs[3], 2, 3))[0]
    assert best.ordinal == 0
    assert abs(best.offset_s) <= HALF_HOP_S
    assert np.isnan(best.evidence.rival)
    assert np.isnan(best.evidence.mean)
    assert 0.0 < best.score < 1.0
    # In the middle of a longer query it is still where it is.
    best = ask(searcher, cut(songs[3], 0, 6))[0]
    assert best.offset_s == -2.0
    assert best.evidence.snippets == 1
    assert best.query_start_s == 2.0
    assert best.query_end_s == pytest.approx(2.97, abs=0.01)


def test_a_query_that_meets_no_bucket_gives_no_answer(tmp_path: Path) -> None:
    hasher = Hasher(random_model(tmp_path / "m"))
    quantizer = hasher.quantizer
    assert isinstance(quantizer, SignQuantizer)
    track = hasher.hash_track([render_track(1, 1.0, RATE)])
    searcher = memory_searcher(hasher, [track], 23)
    # The opposite of every bit: no key of the snippet, nor one within two flips of it.
    bits = codes.unpack(track.codes, quantizer.bits)
    opposite = QueryCodes(np.where(bits, -1, 1).astype(np.float32), np.zeros(1, np.int32), 1.0)
    assert searcher.search([opposite]) == [[]]


def test_unknown_music_scores_lower(searcher: Searcher, songs: list[np.ndarray]) -> None:
    unknown = []
    for seed in range(200, 220):
        found = ask(searcher, render_track(seed, 5.0, RATE))
        unknown.append(found[0].score if found else 0.0)
    known = [ask(searcher, cut(song, 2, 7))[0].score for song in songs]
    assert np.median(unknown) < 0.5
    assert np.mean(np.array(unknown) < min(known)) >= 0.9


# --- several queries, and what is asked of them


def test_queries_of_a_batch_do_not_disturb_each_other(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    queries = [
        searcher.hasher.hash_query([cut(songs[i % TRACKS], i % 7, i % 7 + 1 + i % 4)])
        for i in range(MAX_QUERIES + 7)
    ]
    together = searcher.search(queries, top=3)
    assert len(together) == len(queries)
    for query, found in zip(queries, together, strict=True):
        assert_same(found, searcher.search([query], top=3)[0])


def test_answers_are_in_order_and_no_more_than_asked(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    query = np.concatenate([cut(song, 2, 7) for song in songs[:3]])
    found = ask(searcher, query, top=50)
    scores = [match.score for match in found]
    assert len(scores) > 3
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score < 1.0 for score in scores)
    assert {match.ordinal for match in found[:3]} == {0, 1, 2}
    assert ask(searcher, query, top=0) == []


def test_the_first_answer_is_the_best_however_many_are_asked_for(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    # Twelve seconds of one track in loud noise, then three clean ones of another: the first has
    # the larger sum, the second fits better.
    index = copy.copy(searcher)
    index.confidence = dataclasses.replace(
        searcher.confidence, weights=tuple(20.0 * (name == "similarity") for name in NAMES)
    )
    rng = np.random.default_rng(1)
    loud = Surroundings(RATE).degrade(cut(songs[0], 2, 14), Condition.parse("white@0"), rng)
    query = np.concatenate((loud, cut(songs[5], 5, 8)))
    found = ask(index, query)
    assert found[0].ordinal == 5
    assert found[0].evidence.strength < max(match.evidence.strength for match in found)
    for top in (1, 3, 10):
        assert_same(ask(index, query, top=top), found[:top])


def test_scores_have_no_plateaus(searcher: Searcher, songs: list[np.ndarray]) -> None:
    # Longer and longer excerpts have more and more evidence; none share a score.
    found = [ask(searcher, cut(songs[2], 1, 1 + length))[0] for length in range(2, 12)]
    strength = [float(match.evidence.strength) for match in found]
    assert strength == sorted(strength)
    assert len({match.score for match in found}) == len(found)
    assert all(match.score <= 1.0 for match in found)


def test_matches_say_how_much_was_heard(searcher: Searcher, songs: list[np.ndarray]) -> None:
    hasher = searcher.hasher
    query = hasher.hash_query([cut(songs[2], 2, 7)])
    best = searcher.search([query])[0][0]
    evidence = best.evidence
    # Half a second apart, snippets of the index lie at 2, 2.5 … 6 s; those at 1.5 and
    # 6.5 s reach beyond the query too far for a snippet of the query to be of the same moment.
    n = indexed(hasher, 5)
    assert evidence.snippets == n
    # Each is met in most of the tables.
    assert best.votes > n * hasher.quantizer.n_tables / 2
    excess = evidence.similarity - searcher.confidence.chance
    assert evidence.strength == pytest.approx(n * excess, rel=1e-4)
    assert 0.6 < evidence.similarity < 1.1
    assert evidence.rival < evidence.strength / 2
    assert query.contrast is not None
    assert evidence.contrast == pytest.approx(query.contrast.mean())
    assert query.norms is not None
    assert evidence.norm == pytest.approx(query.norms.mean())


def test_the_strongest_of_other_tracks_is_the_rival(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    found = ask(searcher, cut(songs[1], 2, 5) + cut(songs[8], 3, 6), top=200)
    best = found[0]
    # Its part is the whole query, so every other track is about the same music.
    assert (best.query_start_s, best.query_end_s > 2.9) == (0.0, True)
    others = [float(m.evidence.strength) for m in found if m.ordinal != best.ordinal]
    assert best.evidence.rival == max(others)
    rivals = [float(m.evidence.rival) for m in found if m.ordinal != best.ordinal]
    assert max(rivals) == best.evidence.strength


# --- silence


def test_silent_parts_of_a_query_do_not_count(searcher: Searcher, songs: list[np.ndarray]) -> None:
    query = cut(songs[2], 2, 10).copy()
    query[3 * RATE : 5 * RATE] = 0.0
    best = ask(searcher, query)[0]
    assert best.ordinal == 2
    assert best.offset_s == 2.0
    # 15 snippets of the index, half a second apart, lie in 8 s; three are silence in the query.
    hasher = searcher.hasher
    assert best.evidence.snippets == indexed(hasher, 8) - indexed(hasher, 2)
    # What is no number is no sound either.
    query[3 * RATE : 5 * RATE] = np.nan
    broken = ask(searcher, query)[0]
    assert (broken.ordinal, broken.offset_s) == (2, 2.0)
    assert np.isfinite(broken.score)


def test_silent_parts_of_a_track_do_not_count(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    gap = songs[2].copy()
    gap[5 * RATE : 7 * RATE] = 0.0
    index = memory_searcher(hasher, [*hashed[:2], hasher.hash_track([gap]), *hashed[3:]], KEY_BITS)
    best = ask(index, cut(songs[2], 2, 10))[0]
    assert best.ordinal == 2
    assert best.offset_s == 2.0
    assert best.evidence.snippets == indexed(hasher, 8) - indexed(hasher, 2)
    assert (best.query_start_s, best.query_end_s > 7.9) == (0.0, True)


# --- other ways to compare, and other models


def test_embeddings_are_compared_in_place_of_codes(
    hasher: Hasher, songs: list[np.ndarray], searcher: Searcher
) -> None:
    kept = [hasher.hash_track([song], embeddings=True) for song in songs]
    index = memory_searcher(hasher, kept, KEY_BITS, embeddings=True)
    query = hasher.hash_query([cut(songs[6], 4, 8)])
    best, coded = (one.search([query])[0][0] for one in (index, searcher))
    assert (best.ordinal, best.offset_s) == (coded.ordinal, coded.offset_s) == (6, 4.0)
    # A clean excerpt on the grid of the index has the same embedding, but for its rounding and for
    # a graph of its own for queries.
    assert best.evidence.similarity > (0.7 if "query" in hasher.model.graphs else 0.99)
    assert abs(best.evidence.similarity - coded.evidence.similarity) < 0.1
    without = dataclasses.replace(kept[0], embeddings=None)
    with pytest.raises(ValueError, match="without their embeddings"):
        memory_searcher(hasher, [without], KEY_BITS, embeddings=True)


def test_the_papers_window_finds_its_tracks(tmp_path: Path) -> None:
    # Snippets 116 ms apart, not a multiple of the usual hop of queries; one bit a response.
    hasher = Hasher(random_model(tmp_path / "paper", features=BALUJA_COVELL))
    rate = BALUJA_COVELL.sample_rate
    music = [render_track(seed, 8.0, rate) for seed in range(3)]
    searcher = memory_searcher(hasher, [hasher.hash_track([track]) for track in music], KEY_BITS)
    best = searcher.search([hasher.hash_query([music[1][2 * rate : 5 * rate]])])[0][0]
    assert best.ordinal == 1
    assert best.offset_s == pytest.approx(2.0, abs=0.06)


def test_keys_longer_than_the_models_are_refused(hasher: Hasher, hashed: list[TrackCodes]) -> None:
    longest = hasher.quantizer.key_bits_max
    with pytest.raises(ModelError, match=f"keys of 1 to {longest} bits"):
        memory_searcher(hasher, hashed, longest + 1)


@pytest.mark.parametrize("name", [name for name in list_models() if name != DEFAULT_MODEL])
def test_other_shipped_models_find_music_in_noise(name: str, songs: list[np.ndarray]) -> None:
    hasher = Hasher.load(name)
    index = memory_searcher(hasher, [hasher.hash_track([song]) for song in songs], KEY_BITS)
    right = 0
    for track in range(TRACKS):
        heard = Surroundings(RATE).degrade(
            cut(songs[track], 3.0, 8.0), Condition.parse("white@10"), np.random.default_rng(track)
        )
        best = ask(index, heard)[0]
        right += best.ordinal == track and best.score > 0.5
    assert right >= TRACKS - 2
