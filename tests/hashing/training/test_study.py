from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_fixture import corpus_of

from hashing.conditions import Surroundings
from hashing.errors import HashbeamError
from hashing.features import FeatureConfig
from hashing.synthesis import render_track
from hashing.training import study, study_beyond, study_paper, targets
from hashing.training.networks import Ensemble
from hashing.training.study import Front, StudyTraining, Trained, pick, respond, train_ensemble
from hashing.training.study_lookup import (
    SongVotes,
    Tables,
    ask,
    byte_keys,
    song_interval,
)
from hashing.training.study_music import Database, excerpts, songs_to_learn, span, whole_songs

# A snippet of 14 frames and a hop of 4: half a second, an eighth of a second apart.
FEATURES = FeatureConfig(n_bands=16, snippet_frames=14, snippet_hop=4)
TINY = StudyTraining(outputs=3, hidden=(5, 9, 5), epochs=60, learning_rate=0.01, batch=8, seed=3)


def clusters(songs: int, snippets: int = 5, components: int = 6, seed: int = 1) -> np.ndarray:
    """Snippets of a song near one place, [songs, snippets, components]."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0.0, 1.5, (songs, 1, components))
    return (centres + rng.normal(0.0, 0.1, (songs, snippets, components))).astype(np.float32)


# --- the front -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_the_front_agrees_with_a_singular_value_decomposition(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=shape) * np.arange(1, shape[1] + 1)).astype(np.float32)
    front = Front.fit(values, 4)
    left, sizes, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    assert front.kept == pytest.approx((sizes[:4] ** 2).sum() / (sizes**2).sum(), abs=1e-4)
    assert front.share(values) == pytest.approx(front.kept, abs=1e-4)
    np.testing.assert_allclose(
        np.abs(front.project(values)), np.abs(left * sizes)[:, :4], rtol=1e-3, atol=2e-3
    )


def test_a_front_of_full_rank_keeps_distances() -> None:
    values = np.random.default_rng(2).normal(size=(6, 40)).astype(np.float32)
    front = Front.fit(values, 40)
    assert front.axes.shape == (40, 5)  # six points have five directions
    assert front.kept == 1.0
    projected = front.project(values)
    np.testing.assert_allclose(
        np.linalg.norm(projected[:, None] - projected[None], axis=2),
        np.linalg.norm(values[:, None] - values[None], axis=2),
        atol=1e-4,
    )


# --- training ------------------------------------------------------------------------------------


def test_an_epoch_is_plain_gradient_descent_on_squared_errors() -> None:
    once = dataclasses.replace(TINY, hidden=(4,), epochs=1)
    songs = clusters(8)
    trained = train_ensemble(songs, once, "static")

    # The same in numpy, with back-propagation by hand.
    torch.manual_seed(once.seed)
    start = Ensemble(6, once.hidden, 3)
    w1, b1, w2, b2 = (
        p.detach().numpy()[0].astype(np.float64)
        for p in (start.first, start.first_bias, start.second, start.second_bias)
    )
    codes = targets.all_codes(3)[targets.random_codes(8, 3, once.seeds(0))]
    order = once.seeds(1, 0).permutation(40)
    flat = songs.reshape(40, 6)
    for first in range(0, 40, once.batch):
        rows = order[first : first + once.batch]
        x, wanted = flat[rows], codes[rows // 5]
        hidden = np.tanh(x @ w1 + b1)
        out = 1.0 / (1.0 + np.exp(-(hidden @ w2 + b2)))
        back = 2.0 * (out - wanted) * out * (1.0 - out)
        below = (back @ w2.T) * (1.0 - hidden**2)
        w2, b2 = w2 - 0.01 * hidden.T @ back, b2 - 0.01 * back.sum(axis=0)
        w1, b1 = w1 - 0.01 * x.T @ below, b1 - 0.01 * below.sum(axis=0)
    found = trained.network
    np.testing.assert_allclose(found.first.detach().numpy()[0], w1, atol=1e-5)
    np.testing.assert_allclose(found.second.detach().numpy()[0], w2, atol=1e-5)
    np.testing.assert_allclose(found.second_bias.detach().numpy()[0], b2, atol=1e-5)


def test_targets_that_move_are_learned_better_than_those_that_stay() -> None:
    songs = clusters(8, components=2)
    moved, fixed = (train_ensemble(songs, TINY, name) for name in ("reassigned", "static"))
    assert (moved.bits_right > fixed.bits_right).all()
    assert len(moved.code_changes) == TINY.rounds == 30
    assert fixed.code_changes == []
    assert moved.code_changes[0] > 0.3 > moved.code_changes[-1]


def test_random_weights_are_left_as_they_were_drawn() -> None:
    trained = train_ensemble(clusters(8), TINY, "random")
    torch.manual_seed(TINY.seed)
    drawn = Ensemble(6, TINY.hidden, TINY.outputs)
    assert torch.equal(trained.network.first, drawn.first)
    assert np.isnan(trained.bits_right).all()


@pytest.mark.parametrize("procedure", ["reassigned", "random"])
def test_half_of_the_training_snippets_lie_above_each_threshold(
    procedure: study.Procedure,
) -> None:
    songs = clusters(8)
    bits = train_ensemble(songs, TINY, procedure).bits(songs.reshape(-1, 6))
    assert bits.shape == (40, 9)
    assert (bits.sum(axis=0) == 20).all()


def same(one: Trained, other: Trained) -> bool:
    inputs = clusters(3, seed=9).reshape(-1, 6)
    return np.array_equal(respond(one.network, inputs), respond(other.network, inputs))


@pytest.mark.parametrize("stopped_at", [20, 40, 60])
def test_a_run_that_was_stopped_goes_on(
    stopped_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "EPOCHS_PER_CHECKPOINT", 20)
    songs = clusters(8)
    whole = train_ensemble(songs, TINY, "reassigned")

    def stop(line: str) -> None:
        if line.startswith(f"epoch {stopped_at} of 60"):
            raise KeyboardInterrupt

    file = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train_ensemble(songs, TINY, "reassigned", checkpoint=file, log=stop)
    lines: list[str] = []
    again = train_ensemble(songs, TINY, "reassigned", checkpoint=file, log=lines.append)
    assert same(again, whole)
    assert again.code_changes == whole.code_changes
    assert len(lines) == 3 - max(0, stopped_at // 20 - 1)
    # Nothing is left to do, and nothing of another run is taken over.
    assert same(train_ensemble(songs, TINY, "reassigned", checkpoint=file, log=lines.append), whole)
    other = train_ensemble(songs, TINY, "static", checkpoint=file)
    assert same(other, train_ensemble(songs, TINY, "static"))


def test_each_network_learns_its_own_songs() -> None:
    songs = clusters(24)
    members = np.arange(24).reshape(3, 8)
    own = train_ensemble(songs, TINY, "static", members=members)
    assert (own.bits_right > 1.8).all()  # of 3; 1.5 is chance
    half = own.bits(songs[:8].reshape(-1, 6))[:, :3].mean(axis=0)
    assert half == pytest.approx(0.5)  # the first network's thresholds are of its own songs
    everyone = train_ensemble(songs[:8], TINY, "static", members=np.tile(np.arange(8), (3, 1)))
    inputs = songs[20]
    np.testing.assert_allclose(
        respond(everyone.network, inputs),
        respond(train_ensemble(songs[:8], TINY, "static").network, inputs),
        atol=1e-4,
    )


def test_a_part_of_an_ensemble_gives_the_same_bits() -> None:
    songs = clusters(8)
    trained = train_ensemble(songs, TINY, "reassigned")
    flat = songs.reshape(-1, 6)
    part = pick(trained, [0, 2])  # without the widest
    assert np.array_equal(part.bits(flat), trained.bits(flat)[:, [0, 1, 2, 6, 7, 8]])
    assert part.bits_right.tolist() == trained.bits_right[[0, 2]].tolist()


# --- look-up -------------------------------------------------------------------------------------


def random_database(seed: int, songs: int = 4, each: int = 12) -> tuple[Database, np.ndarray]:
    """Keys of three tables, and places with gaps where silence was left out."""
    rng = np.random.default_rng(seed)
    place = np.concatenate([np.sort(rng.permutation(each + 4)[:each]) for _ in range(songs)])
    song = np.repeat(np.arange(songs), each)
    keys = rng.integers(0, 5, (songs * each, 3)).astype(np.uint32)
    return Database(song, place, {}, list(range(songs))), keys


def counted(keys: np.ndarray, query: np.ndarray) -> np.ndarray:
    return (keys == query).sum(axis=1)


@given(st.integers(0, 1000))
def test_votes_are_the_tables_that_agree(seed: int) -> None:
    _, keys = random_database(seed)
    queries = np.random.default_rng(seed + 1).integers(0, 7, (5, 3)).astype(np.uint32)
    votes = Tables(keys).votes(queries).toarray()
    assert np.array_equal(votes, [counted(keys, query) for query in queries])


@given(st.integers(0, 1000), st.integers(1, 6))
@settings(max_examples=30)
def test_answers_agree_with_a_count_by_hand(seed: int, apart: int) -> None:
    database, keys = random_database(seed)
    queries = np.arange(0, 48, 3)
    rng = np.random.default_rng(seed)
    answers = ask(Tables(keys), keys[queries], database, queries, apart=apart, ranks=4, rng=rng)
    for i, query in enumerate(queries):
        own = database.song == database.song[query]
        near = own & (np.abs(database.place - database.place[query]) < apart)
        votes = np.where(near, 0, counted(keys, keys[query]))
        assert answers.candidates[i] == (votes > 0).sum()
        assert answers.found[i] == (votes[own] > 0).any()
        best = (votes == votes.max()) & (votes > 0)
        assert answers.right[i] == pytest.approx(own[best].mean() if best.any() else 0.0)
        # As many of the first candidates are right as some order of falling votes allows.
        firm = np.sort(votes[votes > 0])[::-1][:4]
        sure = (own & (votes > firm[-1])).sum() if firm.size else 0
        assert sure <= answers.ranked[i].sum() <= (own & (votes > 0)).sum()
    assert answers.examined == pytest.approx(answers.candidates.mean() / 48)


@pytest.mark.parametrize("rule", ["sum", "best"])
@pytest.mark.parametrize("apart", [1, 3])
@pytest.mark.parametrize("length", [1, 5, 16])
def test_longer_queries_agree_with_a_count_by_hand(rule: str, apart: int, length: int) -> None:
    database, keys = random_database(5)
    chances, songs, firsts = SongVotes.count(Tables(keys), keys, database).right(
        length, 3, apart=apart, rule=rule
    )
    asked = 0
    for chance, song, first in zip(chances, songs, firsts, strict=True):
        own = database.song == song
        inside = own & (database.place >= first) & (database.place < first + length)
        last = first + length - 1
        distance = np.maximum(first - database.place, database.place - last)
        scores = np.zeros(4)
        for query in np.flatnonzero(inside):
            votes = counted(keys, keys[query])
            votes[query] = 0
            if apart > 1:
                votes[own & (distance < apart)] = 0
            for other in range(4):
                of_song = votes[database.song == other]
                scores[other] += of_song.sum() if rule == "sum" else of_song.max()
        tied = (scores == scores.max()).sum()
        assert chance == pytest.approx((scores[song] == scores.max()) / tied)
        asked += 1
    assert asked == len(set(zip(songs.tolist(), firsts.tolist(), strict=True)))
    if apart == 1 and length < 16:
        assert set(songs.tolist()) == {0, 1, 2, 3}


def test_byte_keys_join_bytes_and_refuse_more_than_there_are() -> None:
    signatures = np.array([[1, 2, 3, 4, 5, 6]], np.uint8)
    assert byte_keys(signatures, 1, 5).tolist() == [[0x0102030405]]
    with pytest.raises(ValueError, match="do not fit 6 bytes"):
        byte_keys(signatures, 2, 4)


def test_an_interval_is_over_songs_and_not_over_queries() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.random(20) < 0.5, 50).astype(float)
    one_song_each = song_interval(values, np.arange(1000), np.random.default_rng(2))
    twenty_songs = song_interval(values, np.repeat(np.arange(20), 50), np.random.default_rng(2))
    assert twenty_songs[0] < one_song_each[0] < values.mean() < one_song_each[1] < twenty_songs[1]
    # A share of about a half over 20 songs: two standard errors are 0.22.
    assert twenty_songs[1] - twenty_songs[0] == pytest.approx(0.44, abs=0.06)


# --- music ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracks() -> list[np.ndarray]:
    return [render_track(seed, 4.0, 8000) for seed in range(6)]


VIEWS = {"cells": lambda snippets: snippets}


def test_a_database_holds_the_middle_of_each_song_without_silence(
    tracks: list[np.ndarray],
) -> None:
    quiet = tracks[1].copy()
    quiet[12_000:20_000] = 0.0
    music = corpus_of([tracks[0], quiet, np.zeros(32_000, np.float32)])
    database = whole_songs(music, [2, 0, 1], 20, FEATURES, VIEWS)
    assert database.tracks == [0, 1]
    assert np.bincount(database.song)[0] == 20
    places = database.place[database.song == 1]
    assert 0 < len(places) < 20
    assert (np.diff(places) > 1).any()
    longest = whole_songs(music, [0], 10_000, FEATURES, VIEWS)
    assert span(len(longest), FEATURES) <= 32_000 < span(len(longest) + 1, FEATURES)


def test_degraded_snippets_are_those_of_the_clean_database(tracks: list[np.ndarray]) -> None:
    quiet = tracks[1].copy()
    quiet[12_000:20_000] = 0.0
    music = corpus_of([tracks[0], quiet])
    clean = whole_songs(music, [0, 1], 20, FEATURES, VIEWS)
    unchanged = whole_songs(music, [0, 1], 20, FEATURES, VIEWS, lambda samples, _: samples)
    condition = study_beyond.conditions()[-2]
    assert condition.name == "ambience@0"
    degrade = study_beyond.degrader(condition, Surroundings(8000), 1)
    noisy, again = (whole_songs(music, [0, 1], 20, FEATURES, VIEWS, degrade) for _ in range(2))
    for other in (unchanged, noisy):
        assert np.array_equal(other.song, clean.song)
        assert np.array_equal(other.place, clean.place)
    assert np.array_equal(unchanged.views["cells"], clean.views["cells"])
    assert np.array_equal(noisy.views["cells"], again.views["cells"])
    alike = np.mean(noisy.views["cells"] * clean.views["cells"], axis=1)
    assert 0.1 < alike.mean() < 0.95


def test_excerpts_are_songs_of_their_own_that_share_no_sample(tracks: list[np.ndarray]) -> None:
    music = corpus_of(tracks)
    needed = span(4, FEATURES)
    found = excerpts(music, [0, 1, 2], 100, FEATURES, VIEWS, np.random.default_rng(1), each=4)
    assert found.songs == 3 * (32_000 // needed)
    assert np.bincount(found.song).tolist() == [4] * found.songs
    few = excerpts(music, [0, 1, 2], 5, FEATURES, VIEWS, np.random.default_rng(1), each=4)
    assert few.songs == 5


def test_songs_to_learn_are_loud_and_too_few_are_refused(tracks: list[np.ndarray]) -> None:
    music = corpus_of([*tracks, np.zeros(32_000, np.float32), tracks[0][:1000]])
    rng = np.random.default_rng(1)
    songs = songs_to_learn(music, range(8), 6, FEATURES, rng, each=4)
    assert songs.shape == (6, 4, 16 * 14)
    assert songs.std(axis=2) == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(HashbeamError, match=r"8 songs are to be learned, and 6 .* --outputs to 2"):
        songs_to_learn(music, range(8), 8, FEATURES, rng, each=4)


# --- tables --------------------------------------------------------------------------------------


def test_the_database_in_another_order_is_the_same() -> None:
    database, keys = random_database(3)
    named = dataclasses.replace(database, views={"keys": keys}, tracks=[7, 8, 9, 10])
    other = study_beyond.in_random_order(named, np.random.default_rng(1))
    rows = {
        (track, place): key.tolist()
        for song, place, key in zip(other.song, other.place, other.views["keys"], strict=True)
        for track in [other.tracks[song]]
    }
    assert (np.diff(other.song) >= 0).all()
    for song, place, key in zip(named.song, named.place, keys, strict=True):
        assert rows[named.tracks[song], place] == key.tolist()


def test_larger_databases_are_asked_for_the_same_songs_and_answer_worse() -> None:
    database, keys = random_database(4, songs=8)
    keys = np.repeat(np.arange(96) // 12, 3).reshape(96, 3).astype(np.uint32) % 4
    named = dataclasses.replace(database, views={"keys": keys})
    setting = study_paper.Setting("x", 3, 2, lambda one: one.views["keys"])
    rows = study_beyond.by_size([setting], named, named, [2, 4, 8], np.arange(96))
    # Songs 0 to 3 have keys of their own, 4 to 7 repeat them: half are right; then a quarter.
    assert [row["songs"] for row in rows] == [2, 4, 8, 16]
    assert [row["queries"] for row in rows] == [24] * 4
    assert [row["right"] for row in rows] == pytest.approx([1, 1, 11 / 23, 11 / 47], abs=1e-4)


def test_bits_of_projections_are_dealt_out_evenly() -> None:
    bits = np.random.default_rng(1).random((9, 24)) < 0.5
    packed = np.packbits(bits, axis=1, bitorder="little")
    database = Database(np.zeros(9, int), np.arange(9), {"p": packed}, [0])
    keys = study_paper.projection_setting("p", 24, 3, 8).keys(database)
    weights = 1 << np.arange(7, -1, -1)
    expected = [[int(bits[i, 8 * t : 8 * t + 8] @ weights) for t in range(3)] for i in range(9)]
    assert keys.tolist() == expected


def test_the_setting_nearest_in_share_is_chosen_by_ratio() -> None:
    chosen = [study_paper.Setting(name, 1, 1, lambda one: one.views["keys"]) for name in ("a", "b")]
    rows = [{"examined": 0.001}, {"examined": 0.02}]
    # 0.005 is 5 times the one and a quarter of the other.
    assert study_paper.nearest_setting(chosen, rows, 0.005).name == "b"


def test_selectors_are_measured_on_bits_of_known_worth() -> None:
    # Bits that tell the song: four songs by two bits, each bit in four copies.
    database, _ = random_database(1)
    truth = np.stack([database.song % 2 == 1, database.song // 2 == 1], axis=1)
    bits = np.repeat(truth, 4, axis=1)
    rows = study_paper.compare_selectors(
        bits, bits, database, np.arange(48), (2,), np.random.default_rng(3)
    )
    by_name = {row["selector"]: row for row in rows}
    assert all(row["found"] == 1.0 for row in rows)
    # Two bits that are not copies leave 11 others of the song; copies leave 23.
    assert by_name["information"]["candidates"] == 11.0
    assert by_name["correlation"]["candidates"] == 11.0
    assert 11.0 < by_name["random"]["candidates"] < 23.0


@pytest.mark.parametrize("seconds", study_paper.LENGTHS_S)
def test_a_longer_query_has_a_snippet_a_hop(seconds: float) -> None:
    hop_s = 640 / 5512
    places = study_paper.places_of(seconds, 1 / hop_s)
    assert abs((places - 1) * hop_s - (seconds - 1.4)) <= hop_s / 2


def test_rank_shares_fall_where_votes_tell_songs_apart() -> None:
    database, _ = random_database(2)
    keys = np.stack([database.song, database.song // 2, database.song * 0], axis=1)
    setting = study_paper.Setting("x", 3, 2, lambda _: keys.astype(np.uint32))
    rows = study_paper.rank_shares(setting, database, np.arange(48), np.random.default_rng(1))
    # Eleven others of the song have three votes, and come first; none of it come after.
    assert [row["right"] for row in rows] == [1.0] * 11 + [0.0] * 14
    assert all(a["rank"] + 1 == b["rank"] for a, b in itertools.pairwise(rows))
