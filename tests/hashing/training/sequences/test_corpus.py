"""Songs as levels, and pairs of crops whose steps belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_songs import BINS, SONGS, song_frames, tiny_songs, write_songs

from hashing import cqt
from hashing.errors import HashbeamError
from hashing.scores import ROLL
from hashing.training.sequences import corpus
from hashing.training.sequences.corpus import (
    CHOOSE,
    EXAM,
    LEARN,
    SILENCE_DB,
    Song,
    Spoiling,
    crop,
    draw_pairs,
    load_songs,
    spoil,
    statistics,
    transposed,
)
from hashing.training.sequences.features import TRAINING_FONTS, Played

DOWN = 8


def test_songs_come_back_as_levels_in_order_of_name(tmp_path: Path) -> None:
    write_songs(tmp_path / "frames")
    said: list[str] = []
    songs = load_songs(tmp_path / "frames", said.append)
    assert said == [f"{SONGS} songs from {tmp_path / 'frames'}"]
    assert [song.name for song in songs] == sorted(song.name for song in tiny_songs())
    made, song = song_frames(4), songs[4]
    wanted = 20 * np.log10(np.maximum(made.scores[ROLL] / made.scores[ROLL].max(), 1e-5))
    assert song.scores[ROLL].dtype == np.float16
    assert np.abs(song.scores[ROLL] - wanted).max() < 0.1
    assert np.array_equal(song.played[1].score_frame, made.played[1].score_frame, equal_nan=True)
    with pytest.raises(HashbeamError, match="holds no songs: make them with hashbeam train"):
        load_songs(tmp_path)


def test_roles_are_tenths_by_name() -> None:
    roles = [Song(f"song {number}", {}, []).role for number in range(4000)]
    for role, share in ((EXAM, 0.1), (CHOOSE, 0.1), (LEARN, 0.8)):
        assert roles.count(role) / 4000 == pytest.approx(share, abs=0.02)
    # Dealt anew, songs that a shipped model has learned from would be examined.
    asked = {name: [s.name for s in tiny_songs() if s.role == name] for name in (EXAM, CHOOSE)}
    assert asked == {EXAM: ["a05", "a25"], CHOOSE: ["a15", "a20", "a22", "a23"]}


@given(st.integers(-30, 60), st.integers(1, 30), st.integers(0, 20))
def test_a_crop_is_what_lies_there_and_silence(start: int, frames: int, length: int) -> None:
    levels = np.arange(length * 3, dtype=np.float32).reshape(length, 3)
    found = crop(levels, start, frames)
    for row in range(frames):
        inside = 0 <= start + row < length
        assert found[row].tolist() == (levels[start + row].tolist() if inside else [SILENCE_DB] * 3)


def straight_song(tempo: float, frames: int = 400) -> Song:
    """A song in which every frame tells its number: pitch and level; played at another tempo."""
    score = np.full((frames, BINS), SILENCE_DB, np.float16)
    score[np.arange(frames), np.arange(frames) % BINS] = 0
    where = np.arange(int(frames / tempo)) * tempo
    played = np.full((len(where), BINS), SILENCE_DB, np.float16)
    played[np.arange(len(where)), np.round(where).astype(int) % BINS] = 0
    where[where > frames - 1] = np.nan
    one = Played(TRAINING_FONTS[0], played, where.astype(np.float32))  # type: ignore[arg-type]
    return Song("a", {"b": score}, [one])


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.9, 1.0, 1.1]), st.sampled_from([DOWN, 4]))
def test_steps_are_those_of_the_true_map(seed: int, tempo: float, down: int) -> None:
    """By what the frames in the middles of the two steps show."""
    rng = np.random.default_rng(seed)
    batch = draw_pairs([straight_song(tempo)], rng, 1, 96, down, None, scores=("b",))
    assert batch.audio.shape == (1, 96, BINS)
    assert batch.score.shape == (1, 120, BINS)
    assert batch.step.shape == (1, 96 // down)
    known = batch.step[0] >= 0
    assert known.sum() > 0.8 * len(known)
    for place in np.flatnonzero(known):
        # Which frame of the score is played around the middle of this step.
        own = batch.audio[0, place * down : (place + 1) * down]
        other = batch.score[0, batch.step[0, place] * down : (batch.step[0, place] + 1) * down]
        if not (own.any(axis=1).all() and other.any(axis=1).all()):
            continue
        one, two = own.argmax(axis=1), other.argmax(axis=1)
        middles = [one[down // 2 - 1 : down // 2 + 1], two[down // 2 - 1 : down // 2 + 1]]
        off = (middles[0] - middles[1] + BINS // 2) % BINS - BINS // 2
        assert np.abs(off.mean()) <= down / 2 + 1


def test_steps_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        frames, first, around = 48, int(rng.integers(-20, 30)), 64
        where = (rng.uniform(-5, 40) + np.arange(int(rng.integers(20, 49))) * 1.05).astype(
            np.float32
        )
        where[rng.random(len(where)) < 0.05] = np.nan
        heard = np.ones((frames, 2), np.float32)
        heard[8:16] = 0
        found = corpus._steps(where, frames, first, around, DOWN, heard)
        for place in range(frames // DOWN):
            # The middle of eight frames lies between the fourth and the fifth.
            two = where[place * DOWN + 3 : place * DOWN + 5]
            wanted = -1
            if len(two) == 2 and np.isfinite(two).all() and place != 1:
                # A middle of the score's steps: 3.5 frames after their beginnings.
                beginnings = first + np.arange(around // DOWN) * DOWN + 3.5
                off = np.abs(beginnings - two.mean())
                wanted = int(off.argmin()) if off.min() <= DOWN / 2 else -1
            assert found[place] == wanted


def test_pairs_are_of_different_songs_and_of_the_seed() -> None:
    songs = [song for song in tiny_songs() if song.role == LEARN]
    one, same, other = (
        draw_pairs(songs, np.random.default_rng(seed), 8, 96, DOWN, Spoiling())
        for seed in (1, 1, 2)
    )
    assert all(map(np.array_equal, vars(one).values(), vars(same).values()))
    assert not np.array_equal(one.audio, other.audio)
    assert one.audio.dtype == one.score.dtype == np.float32
    assert one.step.dtype == np.int64
    # What is spoilt still belongs to its own: likeness of steps by frames.
    mean = [part.reshape(8, -1, DOWN, BINS).mean(axis=2) for part in (one.audio, one.score)]
    own, foreign = [], []
    for song, place in zip(*np.nonzero(one.step >= 0), strict=True):
        own.append(mean[0][song, place] @ mean[1][song, one.step[song, place]])
        foreign.append(mean[0][song, place] @ mean[1][(song + 1) % 8, one.step[song, place]])
    assert np.mean(own) > 1.3 * np.mean(foreign)
    # As many as there are, where a batch is larger.
    few = draw_pairs(songs[:3], np.random.default_rng(1), 8, 96, DOWN, None)
    assert len(few.audio) == 3


def test_what_is_examined_by_is_never_learned_from() -> None:
    song = tiny_songs()[0]
    exam = [one for one in song.played if one.font not in TRAINING_FONTS]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pair = draw_pairs([song], rng, 1, 96, DOWN, None)
        heard = cqt.heard_frames(exam[0].magnitudes.astype(np.float32))
        starts = range(len(heard) - 95)
        assert not any(np.allclose(pair.audio[0], heard[s : s + 96], atol=1e-3) for s in starts)


def test_both_sides_of_all_pairs_are_transposed_together() -> None:
    levels = np.full((200, BINS), SILENCE_DB, np.float16)
    levels[:, 20] = 0
    where = np.arange(200, dtype=np.float32)
    one = Played(TRAINING_FONTS[0], levels, where)  # type: ignore[arg-type]
    songs = [Song(name, {"b": levels}, [one]) for name in "xyz"]
    only = Spoiling(transposed=4, level_db=0, curve_db=0, noise_db=(-200.0, -199.0))
    moved = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        batch = draw_pairs(songs, rng, 3, 96, DOWN, only, scores=("b",))
        sounds = np.concatenate([batch.audio.reshape(-1, BINS), batch.score.reshape(-1, BINS)])
        (place,) = set(sounds[sounds.any(axis=1)].argmax(axis=1).tolist())
        moved.add(place - 20)
    assert moved == set(range(-4, 5))


def test_what_is_transposed_out_of_range_does_not_come_back_on_the_other_side() -> None:
    levels = np.full((3, BINS), SILENCE_DB, np.float32)
    levels[:, [0, 20]] = 0
    for by in (-2, 3):
        found = transposed(levels, by)
        inside = [place + by for place in (0, 20) if 0 <= place + by < BINS]
        assert np.flatnonzero(found[0] == 0).tolist() == inside


def test_noise_only_adds() -> None:
    rng = np.random.default_rng(3)
    levels = rng.uniform(-90, 0, (50, BINS)).astype(np.float32)
    noisy = Spoiling(transposed=0, level_db=0, curve_db=0, noise_db=(-40.0, -30.0))
    louder = 0
    for seed in range(20):
        heard = spoil(levels, noisy, np.random.default_rng(seed))
        assert (heard >= levels - 1e-3).all()
        louder += bool((heard > levels + 3).mean() > 0.2)
    assert 4 <= louder <= 16


def test_statistics_are_those_of_all_frames() -> None:
    songs = tiny_songs()[:5]
    audio, score = statistics(songs, np.random.default_rng(1), (ROLL,))
    fonts = [one for song in songs for one in song.played if one.font in TRAINING_FONTS]
    for (mean, deviation), parts in (
        (audio, [one.magnitudes for one in fonts]),
        (score, [song.scores[ROLL] for song in songs]),
    ):
        frames = np.concatenate([cqt.heard_frames(part.astype(np.float32)) for part in parts])
        assert mean == pytest.approx(frames.mean(axis=0), abs=1e-5)
        assert deviation == pytest.approx(frames.std(axis=0) + 1e-3, abs=1e-5)
        assert deviation.min() > 0
