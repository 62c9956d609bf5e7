from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixture import RATE, corpus_of

from hashing import audio
from hashing.errors import HashbeamError
from hashing.synthesis import render_track
from hashing.training import corpus
from hashing.training.recipe import three_ways

names = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])
rows_of_music = st.lists(
    st.fixed_dictionaries({"artist": names, "album": names, "package": names}), max_size=40
)
COLUMNS = ["artist", "album"]


def linked(one: dict[str, str], other: dict[str, str]) -> bool:
    return any(one[column] and one[column] == other[column] for column in COLUMNS)


@given(rows=rows_of_music, seed=st.integers(0, 99), share=st.floats(0, 1))
def test_no_group_stands_on_both_sides(rows: list[dict[str, str]], seed: int, share: float) -> None:
    training, held_out = corpus.split(rows, COLUMNS, seed, share)
    assert sorted([*training, *held_out]) == list(range(len(rows)))
    assert len(held_out) <= share * len(rows)
    assert not any(linked(rows[i], rows[j]) for i in training for j in held_out)


@given(rows=rows_of_music, seed=st.integers(0, 99))
def test_no_group_is_in_two_of_three_parts(rows: list[dict[str, str]], seed: int) -> None:
    parts = three_ways(rows, COLUMNS, seed)
    assert sorted(i for part in parts for i in part) == list(range(len(rows)))
    sides = {i: side for side, part in enumerate(parts) for i in part}
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            assert sides[i] == sides[j] or not linked(one, other)


def test_groups_are_linked_through_others() -> None:
    # 0 and 1 share an album, 1 and 2 an artist: 0 and 2 share nothing, and stay together.
    chain = [
        {"artist": "x", "album": "p"},
        {"artist": "y", "album": "p"},
        {"artist": "y", "album": "q"},
    ]
    rows = [*chain, *({"artist": f"s{i}", "album": ""} for i in range(27))]
    held = 0
    for seed in range(40):
        training, held_out = corpus.split(rows, COLUMNS, seed, 0.25)
        assert len({0, 1, 2} & set(training)) in (0, 3)
        held += 0 in held_out
    assert 0 < held < 40  # it does come to both sides


def test_a_group_that_is_most_of_the_hold_out_is_trained_on() -> None:
    rows = [{"artist": "all", "album": ""}] * 12 + [{"artist": "", "album": ""}] * 88
    for seed in range(20):
        training, held_out = corpus.split(rows, COLUMNS, seed, 0.2)
        assert set(range(12)) <= set(training)
        assert len(held_out) == 20


def test_a_split_is_decided_by_its_seed() -> None:
    rows = [{"artist": f"a{i // 2}", "album": ""} for i in range(60)]
    first, again, other = (corpus.split(rows, COLUMNS, seed, 0.3) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first[1]) == 18


def test_parts_have_the_shares_that_they_should() -> None:
    rows = [{"artist": f"a{i}", "album": ""} for i in range(200)]
    training, checking, held_out = three_ways(rows, COLUMNS, 1)
    assert len(held_out) == 40
    assert len(checking) in (29, 30)
    assert len(training) == 160 - len(checking)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, seconds in enumerate((1.0, 2.5, 1.5)):
        path = tmp_path / f"{i}.wav"
        audio.encode(render_track(i, seconds, RATE), RATE, str(path), codec="wav")
    return tmp_path


def rows_in(folder: Path) -> list[dict[str, str]]:
    return [{"track_id": f"t{i}", "uri": str(folder / f"{i}.wav")} for i in range(3)]


def test_tracks_are_decoded_once_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    music = corpus.load(rows_in(folder), RATE, folder / "cache")
    assert music.track_ids == ["t0", "t1", "t2"]
    assert len(music) == 3
    assert [music.seconds(i) for i in range(3)] == [1.0, 2.5, 1.5]
    for i in range(3):
        assert music.track(i).dtype == np.float32
        expected = audio.decode(str(folder / f"{i}.wav"), RATE)
        np.testing.assert_allclose(music.track(i), expected, atol=5e-4)
    monkeypatch.setattr(corpus, "decode", None)
    again = corpus.load(rows_in(folder), RATE, folder / "cache")
    np.testing.assert_array_equal(again.samples, music.samples)


def test_another_catalogue_or_rate_is_decoded_anew(folder: Path) -> None:
    cache = folder / "cache"
    assert len(corpus.load(rows_in(folder), RATE, cache)) == 3
    assert len(corpus.load(rows_in(folder)[:2], RATE, cache)) == 2
    assert corpus.load(rows_in(folder), 4000, cache).track(0).size == 4000
    assert len(list(cache.glob("*.json"))) == 3


def test_a_track_that_cannot_be_decoded_is_named_and_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "1.wav").write_bytes(b"")
    music = corpus.load(rows_in(folder), RATE, folder / "cache")
    assert music.track_ids == ["t0", "t2"]
    assert [music.seconds(i) for i in range(2)] == [1.0, 1.5]
    assert capsys.readouterr().out.startswith("left out of training: t1: ")


def test_no_music_at_all_is_an_error_until_it_is_mended(folder: Path) -> None:
    kept = {path: path.read_bytes() for path in folder.glob("*.wav")}
    for path in kept:
        path.write_bytes(b"nothing")
    for _ in range(2):
        with pytest.raises(HashbeamError, match="no track of the training catalogue"):
            corpus.load(rows_in(folder), RATE, folder / "cache")
    for path, data in kept.items():
        path.write_bytes(data)
    assert len(corpus.load(rows_in(folder), RATE, folder / "cache")) == 3


def test_a_run_killed_while_decoding_starts_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = corpus.load(rows_in(folder), RATE, folder / "whole")
    decode = corpus.decode

    def stopped(path: str, rate: int) -> np.ndarray:
        if path.endswith("2.wav"):
            raise KeyboardInterrupt
        return decode(path, rate)

    monkeypatch.setattr(corpus, "decode", stopped)
    with pytest.raises(KeyboardInterrupt):
        corpus.load(rows_in(folder), RATE, folder / "cache")
    monkeypatch.setattr(corpus, "decode", decode)
    again = corpus.load(rows_in(folder), RATE, folder / "cache")
    np.testing.assert_array_equal(again.samples, whole.samples)
    assert json.loads(next((folder / "cache").glob("*.json")).read_text())["starts"] == [
        0,
        8000,
        28_000,
        40_000,
    ]


@given(first=st.integers(-40, 40), n=st.integers(0, 60), track=st.integers(0, 2))
def test_an_excerpt_is_zero_outside_of_its_track(first: int, n: int, track: int) -> None:
    tracks = [np.arange(1, size + 1, dtype=np.float32) for size in (10, 25, 7)]
    music = corpus_of(tracks)
    expected = [
        float(tracks[track][at]) if 0 <= at < tracks[track].size else 0.0
        for at in range(first, first + n)
    ]
    found = music.excerpt(track, first, n)
    assert found.dtype == np.float32
    assert found.tolist() == expected
