from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from training_fixture import FEATURES, RATE, Log, corpus_of

from hashing.conditions import Surroundings
from hashing.errors import HashbeamError
from hashing.features import spectrogram
from hashing.synthesis import render_track
from hashing.training import tiles
from hashing.training.pool import LEAD_SECONDS
from hashing.training.tiles import Tiling, lay_tiles, make_tiles, tile_samples

# Two seconds, so that a track of twelve seconds holds six.
FRAMES = 64
STEP = FRAMES * FEATURES.hop_length


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_FRAMES", FRAMES)
    monkeypatch.setattr(tiles, "TILES_A_BLOCK", 2)
    monkeypatch.setattr(tiles, "BLOCKS_A_LINE", 2)


TRACKS = [render_track(i, seconds, RATE) for i, seconds in enumerate((7.0, 2.0, 9.0))]


def tiling(seed: int = 1, versions: int = 3) -> Tiling:
    corpus = corpus_of(TRACKS)
    places = lay_tiles(corpus, [0, 1, 2], FEATURES)
    return Tiling(corpus, places, versions, FEATURES, Surroundings(RATE), seed)


def test_tiles_lie_side_by_side_in_the_tracks_that_are_asked_for() -> None:
    # 63 hops of 250 samples and a window of 1,024.
    assert tile_samples(FEATURES) == 16_774
    corpus = corpus_of(TRACKS)
    # A degraded version starts up to a frame late: 17,024 samples, which 16,000 do not hold.
    expected = [[2, STEP * i] for i in range(4)] + [[0, STEP * i] for i in range(3)]
    np.testing.assert_array_equal(lay_tiles(corpus, [2, 1, 0], FEATURES), expected)
    np.testing.assert_array_equal(lay_tiles(corpus, [0], FEATURES), expected[4:])
    assert lay_tiles(corpus, [0], FEATURES).dtype == np.int64
    exact = corpus_of([TRACKS[0][:17_024], TRACKS[0][:17_023]])
    np.testing.assert_array_equal(lay_tiles(exact, [0, 1], FEATURES), [[0, 0]])


def test_silence_makes_no_tile() -> None:
    track = TRACKS[2].copy()
    track[STEP : 2 * STEP + 2000] = 0.0
    np.testing.assert_array_equal(
        lay_tiles(corpus_of([track]), [0], FEATURES)[:, 1], [0, 2 * STEP, 3 * STEP]
    )


def test_music_without_a_tile_is_an_error() -> None:
    with pytest.raises(HashbeamError, match=r"none of 2 tracks holds 2\.1 s of music"):
        lay_tiles(corpus_of([TRACKS[1], np.zeros(60_000, np.float32)]), [0, 1], FEATURES)


def test_the_first_version_is_the_clean_music_where_it_lies() -> None:
    made = tiling()
    assert len(made.places) == 7
    for number, (track, first) in enumerate(made.places.tolist()):
        tile = made.tile(number)
        assert tile.shape == (3, FRAMES, 16)
        assert tile.dtype == np.float16
        whole = made.corpus.track(track)[first : first + tile_samples(FEATURES)]
        np.testing.assert_allclose(tile[0], spectrogram([whole], FEATURES), atol=0.05)


def test_degraded_versions_are_of_the_same_moment() -> None:
    made = tiling(versions=6)
    parts = [made.tile(number).astype(np.float64) for number in range(7)]

    def likeness(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    same = [likeness(tile[0], version) for tile in parts for version in tile[1:]]
    unlike = [likeness(parts[i][0], parts[(i + 1) % 7][0]) for i in range(7)]
    assert np.mean(same) > np.mean(unlike) + 0.1
    assert all(np.isfinite(tile).all() for tile in parts)


def test_a_degraded_version_starts_up_to_a_frame_late(monkeypatch: pytest.MonkeyPatch) -> None:
    # A ramp tells where it is heard from: its samples are their own numbers.
    heard: list[int] = []

    def kept(blocks: list[np.ndarray], config: object) -> np.ndarray:
        assert blocks[0].size == tile_samples(FEATURES)
        heard.append(int(blocks[0][0]))
        return np.zeros((FRAMES, 16), np.float32)

    class Ramp:
        sample_rate = RATE

        def excerpt(self, track: int, first: int, n: int) -> np.ndarray:
            assert (track, n) == (2, 4000 + tile_samples(FEATURES) + 250)
            return np.arange(first, first + n, dtype=np.float32)

    assert LEAD_SECONDS == 0.5  # the tail of a room holds what came before
    monkeypatch.setattr(tiles, "spectrogram", kept)
    monkeypatch.setattr(tiles, "degrade", lambda audio, air, rng: audio)
    places = np.array([[2, 48_000]] * 2)
    made = Tiling(Ramp(), places, 200, FEATURES, Surroundings(RATE), 1)  # type: ignore[arg-type]
    made.tile(0)
    made.tile(1)
    first, second = (np.array(heard) - 48_000).reshape(2, 200)
    for late in (first, second):
        assert late[0] == 0
        assert 0 <= late[1:].min() < 20
        assert 230 < late[1:].max() < 250
    # Tiles of one place are not degraded alike.
    assert np.mean(first == second) < 0.1


def test_a_tile_is_decided_by_the_seed_and_its_number() -> None:
    made, again, other = tiling(), tiling(), tiling(seed=2)
    backwards = {number: again.tile(number) for number in (3, 0)}
    for number in (0, 3):
        np.testing.assert_array_equal(made.tile(number), backwards[number])
        assert not np.array_equal(made.tile(number), other.tile(number))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE_FRAMES", FRAMES)
        made = tiling()
        return np.stack([made.tile(number) for number in range(7)])


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_processes_makes_the_same_tiles(
    undisturbed: np.ndarray, tmp_path: Path, workers: int
) -> None:
    log = Log()
    pool = make_tiles(tiling(), tmp_path, "mine", workers, log)
    np.testing.assert_array_equal(pool.spectra, undisturbed)
    assert pool.config == FEATURES
    assert log.lines == ["50% of 7 tiles", "100% of 7 tiles"]


def test_a_run_that_was_stopped_makes_only_what_is_missing(
    undisturbed: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_tiles(tiling(), tmp_path, "mine", 1, Log("50%"))
    done = json.loads((tmp_path / "state.json").read_text())["done"]
    assert done == [0, 2]
    made = tmp_path / "made"
    tile = Tiling.tile

    def noted(self: Tiling, number: int) -> np.ndarray:
        with made.open("a") as file:  # the tile is made in another process
            file.write(f"{number} ")
        return tile(self, number)

    monkeypatch.setattr(Tiling, "tile", noted)
    pool = make_tiles(tiling(), tmp_path, "mine", 1, Log())
    np.testing.assert_array_equal(pool.spectra, undisturbed)
    assert made.read_text() == "4 5 6 "
    # A third run makes nothing.
    log = Log()
    again = make_tiles(tiling(), tmp_path, "mine", 1, log)
    np.testing.assert_array_equal(again.spectra, undisturbed)
    assert made.read_text() == "4 5 6 "
    assert log.lines == []


def test_a_tile_that_fails_stops_the_run_at_once(
    undisturbed: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, tile = tmp_path / "started", Tiling.tile

    def failing(self: Tiling, number: int) -> np.ndarray:
        with started.open("a") as file:
            file.write(".")
        if number == 2:
            raise OSError("no space left")
        return tile(self, number)

    many = tiling()
    many = dataclasses.replace(many, places=np.tile(many.places, (6, 1)))
    with monkeypatch.context() as patch:
        patch.setattr(Tiling, "tile", failing)
        with pytest.raises(OSError, match="no space left"):
            make_tiles(many, tmp_path, "mine", 1, Log())
    # Not the 39 others: a few had been handed to the process before.
    assert len(started.read_text()) < 20
    pool = make_tiles(many, tmp_path, "mine", 1, Log())
    np.testing.assert_array_equal(pool.spectra[:7], undisturbed)


def test_tiles_of_another_kind_are_made_anew(undisturbed: np.ndarray, tmp_path: Path) -> None:
    make_tiles(tiling(seed=2), tmp_path, "other", 1, Log())
    pool = make_tiles(tiling(), tmp_path, "mine", 1, Log())
    np.testing.assert_array_equal(pool.spectra, undisturbed)
    (tmp_path / "spectra.npy").unlink()
    pool = make_tiles(tiling(), tmp_path, "mine", 1, Log())
    np.testing.assert_array_equal(pool.spectra, undisturbed)


def test_a_run_killed_while_it_notes_what_is_done_goes_on(
    undisturbed: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text, parent = Path.write_text, os.getpid()

    def half_written(self: Path, text: str) -> int:
        assert os.getpid() == parent
        if '"done": [0, 2]' in text:
            write_text(self, text[:10])
            raise KeyboardInterrupt
        return write_text(self, text)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half_written)
        with pytest.raises(KeyboardInterrupt):
            make_tiles(tiling(), tmp_path, "mine", 1, Log())
    assert json.loads((tmp_path / "state.json").read_text())["done"] == [0]
    pool = make_tiles(tiling(), tmp_path, "mine", 1, Log())
    np.testing.assert_array_equal(pool.spectra, undisturbed)
