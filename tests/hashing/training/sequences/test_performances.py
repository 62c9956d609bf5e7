"""Other performances of a song: the map holds, the limits hold, and a seed is a performance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_files import made_up_song

from hashing.midi import Song
from hashing.training.sequences.accompaniment import EXTRAS, harmonies
from hashing.training.sequences.performances import REACH, SCORE, Changes, perform

SONGS = [made_up_song(seed, 10.0 * (1 + seed), 1 + seed, drums=seed > 0) for seed in range(8)]
seeds = st.integers(0, 2**32)
songs = st.sampled_from(SONGS)


@given(songs, seeds)
def test_the_map_rises_within_the_limits(song: Song, seed: int) -> None:
    made = perform(song, seed)
    steps, played = np.diff(made.score_s), np.diff(made.played_s)
    assert steps.min() > 0
    assert played.min() > 0
    assert made.played_s[0] == 0.0
    assert made.score_s[0] >= 0
    assert made.score_s[-1] <= song.duration_s + 1e-9
    assert (steps / played).max() <= 1.1 + 1e-6
    assert (steps / played).min() >= 1 / 1.1 - 1e-6
    if song.duration_s > 70:
        assert 30 <= made.played_s[-1] <= 60
    assert np.array_equal(made.played(made.score_s), made.played_s)


@given(songs, seeds)
def test_notes_land_where_the_map_says(song: Song, seed: int) -> None:
    """Without hands: exactly. With them: within three deviations."""
    only_time = dataclasses.replace(SCORE, tempo=0.1, drift=0.7, crop_s=(5.0, 9.0))
    made = perform(song, seed, only_time)
    inside = (song.start_s >= made.score_s[0]) & (song.start_s < made.score_s[-1])
    begun = (song.start_s < made.score_s[0]) & (song.end_s > made.score_s[0])
    wanted = np.append(made.played(song.start_s[inside]), np.zeros(begun.sum()))
    assert np.allclose(np.sort(made.song.start_s), np.sort(wanted), rtol=0, atol=1e-9)
    late = perform(song, seed, dataclasses.replace(only_time, late_s=0.01))
    assert np.array_equal(late.played_s, made.played_s)
    # Each note of the one has its own of the other; those who sort them may swap neighbours.
    assert np.abs(np.sort(late.song.start_s) - np.sort(wanted)).max() <= 0.03 + 1e-9


@settings(max_examples=30)
@given(songs, seeds)
def test_a_seed_is_a_performance(song: Song, seed: int) -> None:
    one, same, other = perform(song, seed), perform(song, seed), perform(song, seed + 1)
    assert one.description == same.description
    assert all(map(np.array_equal, one.song.columns(), same.song.columns()))
    assert np.array_equal(one.played_s, same.played_s)
    assert one.description != other.description


@given(songs, seeds)
def test_something_with_pitch_is_always_played(song: Song, seed: int) -> None:
    made = perform(song, seed, Changes(missing=1.0, left=0.0, extra=0.0))
    assert (~made.song.is_drum).any()
    assert np.unique(made.song.track).size == 1


@given(songs, seeds)
def test_half_of_the_moments_stay_when_notes_begin(song: Song, seed: int) -> None:
    made = perform(song, seed, Changes(missing=0.9, extra=0.0, dropped=0.0, crop_s=None))
    stays = np.isin(song.track, np.unique(made.song.track)) & ~song.is_drum
    moments = np.round(song.start_s / 0.05)
    assert 2 * np.unique(moments[stays]).size >= np.unique(moments[~song.is_drum]).size


@given(songs, seeds)
def test_the_score_itself_where_nothing_changes(song: Song, seed: int) -> None:
    made = perform(song, seed, SCORE)
    assert all(map(np.array_equal, made.song.columns(), song.columns()))
    assert made.played_s.tolist() == made.score_s.tolist()


def test_octaves_programs_and_dropped_notes() -> None:
    song = SONGS[3]
    made = perform(song, 1, dataclasses.replace(SCORE, octave=1.0, program=1.0))
    assert set(np.abs(made.song.pitch - song.pitch)[~song.is_drum].tolist()) == {12}
    assert np.array_equal(made.song.pitch[song.is_drum], song.pitch[song.is_drum])
    for track in range(4):
        assert np.unique(made.song.program[made.song.track == track]).size == 1
    assert np.any(made.song.program != song.program)
    fewer = perform(song, 1, dataclasses.replace(SCORE, dropped=0.5)).song.pitch.size
    assert 0.45 * song.pitch.size < fewer < song.pitch.size
    louder = perform(song, 1, dataclasses.replace(SCORE, velocity=20.0)).song.velocity
    assert np.abs(louder - song.velocity).max() > 5


def test_low_tracks_are_not_played_below_what_is_heard() -> None:
    song = SONGS[0]
    low = dataclasses.replace(song, pitch=song.pitch - 40)
    made = perform(low, 1, dataclasses.replace(SCORE, octave=1.0))
    assert set((made.song.pitch - low.pitch).tolist()) <= {0, 12}


def test_nobody_plays_what_their_instrument_does_not_reach() -> None:
    """FluidSynth would be silent: whole performances were, of a contrabass alone."""
    song = SONGS[3]
    high = dataclasses.replace(song, pitch=np.where(song.is_drum, song.pitch, song.pitch % 12 + 74))
    only = dataclasses.replace(SCORE, octave=0.5, program=1.0)
    played = set()
    for seed in range(300):
        made = perform(high, seed, only).song
        for track in range(4):
            mine = made.track == track
            program = int(made.program[mine][0])
            played.add(program)
            assert not mine[~made.is_drum].any() or made.pitch[mine].max() <= REACH.get(
                program, 103
            )
    assert 43 not in played
    # Who reaches it still plays, high or low.
    assert {0, 33, 40, 73} <= played
    low = dataclasses.replace(song, pitch=np.where(song.is_drum, song.pitch, 40))
    programs = {
        int(p) for seed in range(150) for p in np.unique(perform(low, seed, only).song.program)
    }
    assert set(REACH) <= programs


@pytest.mark.parametrize("name", EXTRAS)
def test_who_joins_is_in_key_and_on_the_beat(name: str) -> None:
    song = SONGS[2]
    joined = EXTRAS[name](song, np.random.default_rng(1))
    mine = joined.where(joined.track == len(song.names))
    assert joined.names == (*song.names, name)
    assert mine.pitch.size > 20
    assert np.all(np.isin(np.round(mine.start_s, 6) % 0.25, [0.0, 0.5]))
    assert mine.is_drum.all() == (name == "drums")
    if name != "drums":
        sounding = np.unique(song.pitch[~song.is_drum] % 12)
        assert np.isin(mine.pitch % 12, sounding).all()
    assert EXTRAS[name](dataclasses.replace(song, beats_s=np.zeros(0)), np.random.default_rng(1))


def test_harmonies_are_seconds_weighted_by_velocity() -> None:
    song = SONGS[1]
    one = song.where(np.arange(song.pitch.size) == int(np.argmax(~song.is_drum)))
    _, seconds = harmonies(one)
    expected = (one.end_s[0] - one.start_s[0]) * one.velocity[0]
    assert seconds.sum() == pytest.approx(expected)
    assert seconds[:, one.pitch[0] % 12].sum() == pytest.approx(expected)
