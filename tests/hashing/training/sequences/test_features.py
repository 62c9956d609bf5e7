"""Songs as frames: files of them, what is left out, and the moments that performances play."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from midi_files import END, made_up_song, note, song
from sequence_songs import song_frames

from hashing import cqt
from hashing.conditions import Surroundings
from hashing.cqt import CqtConfig
from hashing.errors import HashbeamError
from hashing.midi import parse_song
from hashing.midi_writing import midi_bytes
from hashing.piano_rolls import piano_roll
from hashing.scores import PLAIN, RENDER_HZ, ROLL, ScoreError, score_levels
from hashing.training.sequences import features
from hashing.training.sequences.features import (
    EXAM_FONTS,
    SCORE_FONTS,
    load_song,
    make_frames,
    make_song,
    play,
    save_song,
)
from hashing.training.sequences.performances import Changes, perform

CONFIG = CqtConfig()
AROUND = Surroundings(RENDER_HZ)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is played by FluidSynth; two soundfonts for scores, as before."""
    for name in ("TRAINING_FONTS", "EXAM_FONTS"):
        monkeypatch.setattr(features, name, (PLAIN,))
    monkeypatch.setattr(features, "SCORE_FONTS", (PLAIN,))


def test_songs_survive_their_files(tmp_path: Path) -> None:
    made = song_frames(3)
    path = tmp_path / "a.safetensors"
    save_song(path, made)
    found = load_song(path)
    assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]
    assert found.name == made.name
    assert list(found.scores) == sorted(made.scores)
    for font, frames in made.scores.items():
        assert found.scores[font].dtype == np.float32
        assert np.allclose(found.scores[font], frames, rtol=2e-3, atol=1e-7)
    # In their order, with their moments whole.
    assert [one.font for one in found.played] == [one.font for one in made.played]
    for one, other in zip(found.played, made.played, strict=True):
        assert np.allclose(one.magnitudes, other.magnitudes, rtol=2e-3, atol=1e-7)
        assert np.array_equal(one.score_frame, other.score_frame, equal_nan=True)


def test_many_performances_stay_in_order(tmp_path: Path) -> None:
    made = song_frames(3)
    ten = [dataclasses.replace(made.played[0], font=f"f{n}.sf2") for n in range(12)]
    save_song(tmp_path / "a.safetensors", dataclasses.replace(made, played=ten))
    assert [one.font for one in load_song(tmp_path / "a.safetensors").played] == [
        one.font for one in ten
    ]


def test_a_performance_plays_the_moments_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames are like those frames of the score that it says to play."""
    only_time = Changes(missing=0, extra=0, octave=0, program=0)
    monkeypatch.setattr(features, "record", lambda samples, *_: samples)
    monkeypatch.setattr(features, "perform", lambda song, seed: perform(song, seed, only_time))
    made = made_up_song(4, 25.0, tracks=1, drums=False)
    score = cqt.heard_frames(score_levels(made, CONFIG, PLAIN))
    like = []
    for seed in range(6):
        one, performance = play(made, PLAIN, seed, AROUND, CONFIG)
        assert one.font == PLAIN
        assert one.score_frame.shape == (len(one.magnitudes),)
        times_s = np.arange(len(one.magnitudes)) * CONFIG.frame_s
        assert (times_s <= performance.song.duration_s).all()
        known = np.isfinite(one.score_frame)
        assert known.mean() > 0.9
        back = performance.played(one.score_frame[known].astype(np.float64) * CONFIG.frame_s)
        assert back == pytest.approx(times_s[known], abs=1e-4)
        heard = cqt.log_frames(one.magnitudes)[known]
        places = np.round(one.score_frame[known]).astype(int)
        rows = (places >= 8) & (places < len(score) - 8)
        beside = [score[places[rows] + by] for by in range(-8, 9)]
        like.append([np.einsum("tb,tb->t", heard[rows], part).mean() for part in beside])
    # Nowhere else is it more alike, and a third of a second off much less.
    mean = np.mean(like, axis=0)
    assert mean.argmax() == 8
    assert mean[8] > max(mean[0], mean[16]) + 0.2


@pytest.mark.usefixtures("plainly")
def test_a_file_becomes_a_song(tmp_path: Path) -> None:
    path = tmp_path / "x" / "a.mid"
    path.parent.mkdir()
    path.write_bytes(midi_bytes(made_up_song(5, 8.0, tracks=2)))
    made = make_song(path, 3, AROUND, CONFIG)
    assert sorted(made.scores) == [PLAIN, ROLL]
    assert len(made.played) == 4
    read = parse_song(path.read_bytes())
    assert np.array_equal(made.scores[ROLL], piano_roll(read, CONFIG))
    # What a search hears of the file is what is learned from.
    assert np.array_equal(cqt.decibels(made.scores[PLAIN]), score_levels(read, CONFIG, PLAIN))
    again = make_song(path, 3, AROUND, CONFIG)
    for one, other in zip(made.played, again.played, strict=True):
        assert np.array_equal(one.magnitudes, other.magnitudes)
    assert not np.array_equal(made.played[0].magnitudes, made.played[1].magnitudes)


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a Standard MIDI file"),
        (song(note(60, 96) + END)[:-6], "is cut off"),
        (song(note(60, 96) + END), "lasts less than 2 s"),
        # One note of twelve minutes: nothing is left after ten.
        (song(bytes([0, 0x90, 60, 90, 0x88, 0xB8, 0x00, 0x80, 60, 0]) + END), "lasts less than 2"),
    ],
)
def test_files_that_are_no_songs(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(data)
    with pytest.raises(ScoreError, match=words):
        make_song(path, 1, AROUND, CONFIG)


class HereAndNow:
    """A pool of processes that has none."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> HereAndNow:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call, *args):  # type: ignore[no-untyped-def]
        from concurrent.futures import Future

        future: Future[str] = Future()
        future.set_result(call(*args))
        return future


@pytest.mark.usefixtures("plainly")
def test_a_folder_is_made_and_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features.concurrent.futures, "ProcessPoolExecutor", HereAndNow)
    monkeypatch.setattr(features, "fluidsynth_command", lambda: "fluidsynth")
    for name in ("one/x/a", "two/x/a", "one/b", "one/broken"):
        path = tmp_path / f"{name}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(midi_bytes(made_up_song(len(name), 5.0, tracks=1)))
    (tmp_path / "one" / "broken.mid").write_bytes(b"nothing")
    said: list[str] = []
    folders, out = [str(tmp_path / name) for name in ("one", "two")], tmp_path / "out"
    make_frames(folders, out, 1, 1, said.append)
    assert sorted(path.name for path in out.iterdir()) == [
        "one-b.safetensors",
        "x-a.safetensors",
    ]
    assert load_song(out / "x-a.safetensors").name == "x-a"
    left = sorted(line for line in said if line.startswith("left out"))
    assert len(left) == 2
    assert "broken.mid is not a Standard MIDI file" in left[0]
    assert f"{tmp_path}/two/x/a.mid: has the name of {tmp_path}/one/x/a.mid" in left[1]
    assert said[-1] == "3 of 3 songs rendered"
    before = {path: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(features, "play", None)
    make_frames(folders, out, 1, 1, said.append)
    assert before == {path: path.read_bytes() for path in out.iterdir()}


def test_what_rendering_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "fluidsynth_command", lambda: None)
    with pytest.raises(HashbeamError, match="needs FluidSynth: apt-get install"):
        make_frames([str(tmp_path)], tmp_path / "out", 1, 1)
    monkeypatch.setattr(features, "fluidsynth_command", lambda: "fluidsynth")
    monkeypatch.setattr(features, "EXAM_FONTS", ("no such.sf2",))
    with pytest.raises(HashbeamError, match=r"sf2 is no file, nor in"):
        make_frames([str(tmp_path)], tmp_path / "out", 1, 1)
    for name in ("EXAM_FONTS", "TRAINING_FONTS", "SCORE_FONTS"):
        monkeypatch.setattr(features, name, (PLAIN,))
    with pytest.raises(HashbeamError, match="no MIDI files"):
        make_frames([str(tmp_path)], tmp_path / "out", 1, 1)
    assert not (tmp_path / "out").exists()


def test_nobody_is_examined_by_the_sound_that_was_learned() -> None:
    fonts = [*SCORE_FONTS, *features.TRAINING_FONTS, *EXAM_FONTS]
    assert len(set(fonts)) == len(fonts)
