from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixture import random_model

from hashing import codes
from hashing.conditions import Condition, Surroundings
from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.errors import ModelError
from hashing.features import BALUJA_COVELL
from hashing.search import Match, Searcher
from hashing.shards import Shard, TableSet
from hashing.synthesis import render_track
from hashing.tables import build_shard
from hashing.training.calibration import MemoryTracks, memory_searcher
from hashing.voting import MAX_QUERIES

RATE, SECONDS, TRACKS, KEY_BITS = 8000, 16, 10, 12
STEP_S = 0.125


@pytest.fixture(scope="module")
def hasher() -> Hasher:
    return Hasher.load()


@pytest.fixture(scope="module")
def songs() -> list[np.ndarray]:
    return [render_track(seed, SECONDS, RATE) for seed in range(TRACKS)]


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


@pytest.mark.parametrize("start_s", [0.0, 0.5, 4.0, 9.5])
@pytest.mark.parametrize("length_s", [1.0, 2.0, 5.0])
def test_an_excerpt_is_found_where_it_was_cut(
    searcher: Searcher, songs: list[np.ndarray], start_s: float, length_s: float
) -> None:
    for track in (0, 4, 9):
        best = ask(searcher, cut(songs[track], start_s, start_s + length_s))[0]
        assert (best.segment, best.ordinal) == (0, track)
        assert best.offset_s == start_s
        assert best.score > 0.5
        assert best.query_start_s == 0.0
        assert best.query_end_s <= length_s
        assert best.surprise > 0
        assert best.margin > 0


@given(
    track=st.integers(0, TRACKS - 1),
    start=st.integers(0, (SECONDS - 3) * RATE),
    gain_db=st.floats(-12, 12),
)
def test_an_excerpt_from_anywhere_is_found_within_half_a_hop(
    searcher: Searcher, songs: list[np.ndarray], track: int, start: int, gain_db: float
) -> None:
    excerpt = songs[track][start : start + 3 * RATE] * np.float32(10 ** (gain_db / 20))
    best = ask(searcher, excerpt)[0]
    assert best.ordinal == track
    assert abs(best.offset_s - start / RATE) <= 2 * STEP_S


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
        right += best.ordinal == track and abs(best.offset_s - 3.0) <= 2 * STEP_S
    assert right >= TRACKS - 1


def test_a_query_that_begins_before_the_track(searcher: Searcher, songs: list[np.ndarray]) -> None:
    # The first track too: there is nothing before its first snippet in the index.
    for track in (0, 6):
        hiss = 0.003 * np.random.default_rng(1).standard_normal(4 * RATE).astype(np.float32)
        best = ask(searcher, np.concatenate((hiss, cut(songs[track], 0, 6))))[0]
        assert best.ordinal == track
        assert best.offset_s == -4.0
        assert 3.0 <= best.query_start_s <= 4.5
        assert best.query_end_s > 9.0


@pytest.mark.parametrize("track", [0, 5, 9])
def test_a_query_longer_than_the_track(
    searcher: Searcher, songs: list[np.ndarray], track: int
) -> None:
    others = [render_track(seed, 30.0, RATE) for seed in (100, 101)]
    best = ask(searcher, np.concatenate((others[0], songs[track], others[1])))[0]
    assert best.ordinal == track
    assert best.offset_s == -30.0
    # In an index this small, chance hits the diagonal of the track before and after it too.
    assert 24 < best.query_start_s < 31
    assert -1 < best.query_end_s - 30 - SECONDS < 6


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
    assert found[other].query_end_s > 11.5


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
    assert [match.ordinal for match in found].count(TRACKS) == 1
    assert found[0].ordinal == TRACKS
    assert found[0].score > 0.5
    assert found[0].offset_s in (0.0, 8.0, 16.0)


def test_the_same_recording_twice_is_answered_twice(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    twice = memory_searcher(hasher, [*hashed, hashed[4]], KEY_BITS)
    found = ask(twice, cut(songs[4], 2, 7))
    assert {match.ordinal for match in found[:2]} == {4, TRACKS}
    alone = ask(memory_searcher(hasher, hashed, KEY_BITS), cut(songs[4], 2, 7))
    for match in found[:2]:
        assert match.score == pytest.approx(alone[0].score, abs=0.02)
    assert all(match.score < 0.5 for match in found[2:])


class Removed:
    """Tracks of which one has been removed."""

    def __init__(self, tracks: MemoryTracks, removed: set[int]) -> None:
        self.tracks, self.removed = tracks, removed

    def locate(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordinal, first = self.tracks.locate(segment, gids)
        return np.where(np.isin(ordinal, list(self.removed)), -1, ordinal), first


def test_a_removed_track_is_never_an_answer(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    searcher = memory_searcher(hasher, hashed, KEY_BITS)
    query = cut(songs[4], 2, 7)
    before = ask(searcher, query)
    assert before[0].ordinal == 4
    assert isinstance(searcher.tracks, MemoryTracks)
    searcher.tracks = Removed(searcher.tracks, {4})
    after = ask(searcher, query)
    assert after
    assert all(match.ordinal not in (4, -1) for match in after)
    assert after[0].score < 0.5
    # Nor is it a rival: a copy of it is now the only answer, as sure as if it had been alone.
    searcher = memory_searcher(hasher, [*hashed, hashed[4]], KEY_BITS)
    assert isinstance(searcher.tracks, MemoryTracks)
    searcher.tracks = Removed(searcher.tracks, {4})
    copy = ask(searcher, query)[0]
    assert copy.ordinal == TRACKS
    assert copy.margin > 100


class Segmented:
    """Tracks of several segments."""

    def __init__(self, spans: Sequence[Sequence[int]]) -> None:
        self.segments = [MemoryTracks(part) for part in spans]

    def locate(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.segments[segment].locate(segment, gids)


def segmented(hasher: Hasher, parts: Sequence[Sequence[TrackCodes]]) -> Searcher:
    """An index in memory with a segment for each part."""
    shards, total = {}, 0
    for segment, part in enumerate(parts):
        firsts = MemoryTracks([int(track.snippet[-1]) + 1 for track in part]).firsts
        gids = np.concatenate([t.snippet + f for t, f in zip(part, firsts[:-1], strict=True)])
        packed_codes = np.concatenate([track.codes for track in part])
        total += len(gids)
        for table, positions in enumerate(hasher.table_bits(KEY_BITS)):
            keys = codes.keys(packed_codes, positions).astype(np.uint64)
            file = io.BytesIO()
            build_shard(
                keys << np.uint64(32) | gids.astype(np.uint64),
                file,
                table=table,
                segment=segment,
                key_bits=KEY_BITS,
                key_lo=0,
                key_hi=1 << KEY_BITS,
            )
            shards[f"{segment} {table}"] = file.getvalue()
    listed = [(name, *map(int, name.split()), 0, 1 << KEY_BITS) for name in shards]
    tables = TableSet(
        listed,  # type: ignore[arg-type]
        hasher.n_tables,
        KEY_BITS,
        open_shard=lambda name: Shard(shards[name], name),
    )
    tracks = Segmented([[int(track.snippet[-1]) + 1 for track in part] for part in parts])
    return Searcher(hasher, tables, tracks, KEY_BITS, total)


def test_segments_are_searched_as_one_index(
    hasher: Hasher, hashed: list[TrackCodes], songs: list[np.ndarray]
) -> None:
    searcher = segmented(hasher, [hashed[:4], hashed[4:5], hashed[5:]])
    for track, place in ((0, (0, 0)), (3, (0, 3)), (4, (1, 0)), (5, (2, 0)), (9, (2, 4))):
        best = ask(searcher, cut(songs[track], 3, 7))[0]
        assert (best.segment, best.ordinal) == place
        assert best.offset_s == 3.0
        assert best.score > 0.5
    # Tracks of one ordinal in two segments are two tracks, here of one recording: both are answers.
    twice = segmented(hasher, [hashed[:2], hashed[:2]])
    found = ask(twice, cut(songs[1], 3, 7))
    assert [(m.segment, m.ordinal) for m in found[:2]] == [(0, 1), (1, 1)]
    assert all(m.score > 0.5 for m in found[:2])


def test_an_empty_index_gives_no_answer(hasher: Hasher, songs: list[np.ndarray]) -> None:
    tables = TableSet([], hasher.n_tables, KEY_BITS)
    searcher = Searcher(hasher, tables, MemoryTracks([]), KEY_BITS, 0)
    assert ask(searcher, songs[0]) == []
    assert searcher.search([]) == []


def test_a_query_that_meets_no_bucket_gives_no_answer(
    hasher: Hasher, hashed: list[TrackCodes]
) -> None:
    one = dataclasses.replace(hashed[0], codes=hashed[0].codes[:1], snippet=hashed[0].snippet[:1])
    searcher = memory_searcher(hasher, [one], 23)
    # The opposite of every bit: no key of the snippet, nor one within two flips of it.
    bits = codes.unpack(one.codes, hasher.bits)
    opposite = QueryCodes(np.where(bits, -1, 1).astype(np.float32), np.zeros(1, np.int32), 1.0)
    assert searcher.search([opposite]) == [[]]


def test_unknown_music_scores_low(searcher: Searcher) -> None:
    scores = []
    for seed in range(200, 230):
        found = ask(searcher, render_track(seed, 5.0, RATE))
        scores.append(found[0].score if found else 0.0)
    assert np.mean(np.array(scores) >= 0.5) <= 0.1
    assert np.median(scores) < 0.1


def test_queries_of_a_batch_do_not_disturb_each_other(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    queries = [
        searcher.hasher.hash_query([cut(songs[i % TRACKS], i % 7, i % 7 + 1 + i % 4)])
        for i in range(2 * MAX_QUERIES + 3)
    ]
    together = searcher.search(queries, top=3)
    assert len(together) == len(queries)
    assert together == [searcher.search([query], top=3)[0] for query in queries]


def test_answers_are_in_order_and_no_more_than_asked(
    searcher: Searcher, songs: list[np.ndarray]
) -> None:
    query = np.concatenate([cut(song, 2, 7) for song in songs[:3]])
    found = ask(searcher, query, top=50)
    scores = [match.score for match in found]
    assert len(scores) > 3
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 < score < 1.0 for score in scores)
    assert {match.ordinal for match in found[:3]} == {0, 1, 2}
    for top in (1, 3):
        assert ask(searcher, query, top=top) == found[:top]
    assert ask(searcher, query, top=0) == []


def test_scores_have_no_plateaus(searcher: Searcher, songs: list[np.ndarray]) -> None:
    # Longer and longer excerpts have more and more evidence, up to certainty; none share a score.
    found = [ask(searcher, cut(songs[2], 1, 1 + length))[0] for length in range(1, 15)]
    evidence = [match.surprise for match in found]
    assert evidence == sorted(evidence)
    assert len({match.score for match in found}) == len(found)
    assert max(match.score for match in found) < 1.0


def test_matches_say_how_much_was_heard(searcher: Searcher, songs: list[np.ndarray]) -> None:
    best = ask(searcher, cut(songs[2], 2, 7))[0]
    # Snippets start every 0.125 s up to 4 s: 33 of them, 20 tables and 8 probes each.
    assert best.snippets == 33
    assert best.share == pytest.approx(best.votes / (33 * 20 * 8))
    # One of four snippets lies on the grid of the index, and is met in every table.
    assert best.votes >= 9 * 20


def test_silent_parts_of_a_query_do_not_count(searcher: Searcher, songs: list[np.ndarray]) -> None:
    query = cut(songs[2], 2, 10).copy()
    query[3 * RATE : 5 * RATE] = 0.0
    best = ask(searcher, query)[0]
    assert best.ordinal == 2
    assert best.offset_s == 2.0
    # 57 snippets start in 8 s less one; those that lie in the gap are left out.
    assert best.snippets < 57


def test_the_papers_window_finds_its_tracks(tmp_path: Path) -> None:
    # Snippets 116 ms apart, not a multiple of the usual hop of queries.
    hasher = Hasher(random_model(tmp_path / "paper", features=BALUJA_COVELL))
    rate = BALUJA_COVELL.sample_rate
    music = [render_track(seed, 8.0, rate) for seed in range(3)]
    searcher = memory_searcher(hasher, [hasher.hash_track([track]) for track in music], KEY_BITS)
    best = searcher.search([hasher.hash_query([music[1][2 * rate : 5 * rate]])])[0][0]
    assert best.ordinal == 1
    assert best.offset_s == pytest.approx(2.0, abs=0.06)


def test_keys_longer_than_the_models_are_refused(hasher: Hasher, hashed: list[TrackCodes]) -> None:
    with pytest.raises(ModelError, match=f"keys of 1 to {hasher.key_bits_max} bits"):
        memory_searcher(hasher, hashed, hasher.key_bits_max + 1)
