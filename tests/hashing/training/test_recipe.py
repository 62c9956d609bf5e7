from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_fixture import FEATURES, RATE

from hashing import audio
from hashing.confidence import Confidence
from hashing.encoders import Hasher
from hashing.errors import AudioError, HashbeamError
from hashing.synthesis import render_track
from hashing.training import forgiving, recipe
from hashing.training.forgiving import ForgivingTraining
from hashing.training.recipe import (
    Recipe,
    noise_files,
    require_audio,
    surroundings,
    three_ways,
    train_forgiving,
)

SETTINGS = ForgivingTraining(
    songs=16,
    components=16,
    outputs=4,
    hidden=(5, 7, 9, 11, 6, 8, 10, 12),
    n_tables=4,
    key_bits=14,
    batch=8,
    rounds=2,
    steps=12,
    seed=1,
)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Rows of 16 short tracks by eight artists."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for i in range(16):
        path = folder / f"{i}.wav"
        audio.encode(render_track(i, 4.0, RATE), RATE, str(path), codec="wav")
        rows.append({"track_id": f"t{i}", "uri": str(path), "album": f"album {i % 8}"})
    return rows


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(dataclasses.replace, FEATURES)
    monkeypatch.setattr(recipe, "FeatureConfig", small)
    monkeypatch.setattr(forgiving, "STATISTICS_SNIPPETS", 1024)
    monkeypatch.setattr(recipe, "HOLD_OUT_SHARE", 0.25)
    monkeypatch.setattr(recipe, "CALIBRATION_SHARE", 0.25)


def made(rows: list[dict[str, str]], **changes: Any) -> Recipe:
    few = {"excerpts": 24, "versions": 2, "calibration_queries": 8}
    return Recipe(rows, **{**few, "command": "hashbeam train forgiving", **changes})


def test_a_model_is_trained_calibrated_and_told_about(
    music: list[dict[str, str]], tmp_path: Path
) -> None:
    lines: list[str] = []
    model = train_forgiving(made(music), SETTINGS, tmp_path / "m", tmp_path / "w", lines.append)
    training, checking, held_out = three_ways(music, ["album"], 1)
    counts = (len(training), len(checking), len(held_out))
    assert lines[0] == "{} tracks to train, {} to calibrate, {} held out".format(*counts)
    config = model.config
    # Figures are reported on music that was not heard, and anyone can see which that is.
    assert config["training"]["tracks_held_out"] == [f"t{i}" for i in held_out]
    assert config["training"]["tracks_trained"] == len(training)
    assert config["training"]["tracks_calibrated"] == len(checking)
    assert set(config["figures"]) == {"agreement", "nearest", "effective_bits"}
    fitted = config["calibration"]
    assert Confidence.from_json(fitted) != Confidence()
    assert fitted["matches"] > 0
    assert 0.0 <= fitted["expected_calibration_error"] <= 1.0
    assert 0.0 <= fitted["brier_score"] <= 1.0
    card = (tmp_path / "m/README.md").read_text()
    for text in (
        "# Forgiving hash",
        "8 networks of 4 outputs",
        f"{counts[0]} tracks (24 excerpts in\n  2 versions each)",
        f"| nearest | {config['figures']['nearest']:.3f} |",
        "**Seed**: 1.",
        "`hashbeam train forgiving`",
    ):
        assert text in card
    assert str(tmp_path) not in card + json.dumps(config)
    assert Hasher.load(str(tmp_path / "m")).digest == model.digest


def test_the_calibration_is_no_part_of_the_digest_and_the_rest_is_reproducible(
    music: list[dict[str, str]], tmp_path: Path
) -> None:
    first, again, more = (
        train_forgiving(
            made(music, calibration_queries=queries),
            SETTINGS,
            tmp_path / name / "m",
            tmp_path / name / "w",
            lambda _: None,
        )
        for name, queries in (("a", 8), ("b", 8), ("c", 12))
    )
    assert first.config["calibration"] == again.config["calibration"]
    assert first.config["figures"] == again.config["figures"]
    assert first.digest == again.digest == more.digest
    assert first.config["calibration"] != more.config["calibration"]


def test_a_second_run_decodes_and_draws_nothing(
    music: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (SETTINGS, tmp_path / "m", tmp_path / "w")
    first = train_forgiving(made(music), *arguments, lambda _: None)
    monkeypatch.setattr(recipe, "build_pool", None)
    monkeypatch.setattr(recipe.corpus, "decode", None)
    lines: list[str] = []
    assert train_forgiving(made(music), *arguments, lines.append).digest == first.digest
    assert "resuming at step 12 of 12" in lines


def test_other_excerpts_are_drawn_anew_and_trained_on(
    music: list[dict[str, str]], tmp_path: Path
) -> None:
    lines: list[str] = []
    arguments = (SETTINGS, tmp_path / "m", tmp_path / "w")
    first = train_forgiving(made(music), *arguments, lambda _: None)
    more = train_forgiving(made(music, excerpts=32), *arguments, lines.append)
    fresh = train_forgiving(
        made(music, excerpts=32), SETTINGS, tmp_path / "f", tmp_path / "fw", lambda _: None
    )
    assert not any(line.startswith("resuming") for line in lines)
    assert more.digest == fresh.digest != first.digest


def test_music_that_cannot_be_split_is_refused(music: list[dict[str, str]], tmp_path: Path) -> None:
    one_album = [{**row, "album": "one"} for row in music]
    with pytest.raises(HashbeamError) as caught:
        train_forgiving(made(one_album), SETTINGS, tmp_path / "m", tmp_path / "w", lambda _: None)
    text = str(caught.value)
    assert text.startswith("16 tracks cannot be split so that no album or artist_name is on two")
    assert "--group" in text
    assert not (tmp_path / "m").exists()


def recordings(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_every_fourth_recording_of_noise_is_held_out(tmp_path: Path) -> None:
    one = recordings(tmp_path / "one", ["c.wav", "a.opus", "notes.txt", "b.mp3"])
    two = recordings(tmp_path / "two", ["f.flac", "d.ogg", "e.m4a", "g.wav", "h.wav"])
    heard, unheard = noise_files([two, one])
    order = [one / "a.opus", one / "b.mp3", one / "c.wav", two / "d.ogg"]
    order += [two / "e.m4a", two / "f.flac", two / "g.wav", two / "h.wav"]
    assert unheard == [order[3], order[7]]
    assert heard == [path for path in order if path not in unheard]
    assert noise_files([]) == ([], [])


def test_surroundings_are_decoded(tmp_path: Path) -> None:
    rooms = tmp_path / "rooms"
    rooms.mkdir()
    for name, size in (("b", 400), ("a", 200)):
        response = np.zeros(size, np.float32)
        response[size // 2] = 0.5
        audio.encode(response, RATE, str(rooms / f"{name}.wav"), codec="wav")
    (rooms / "licence.txt").write_text("free")
    noise = tmp_path / "n.wav"
    audio.encode(render_track(1, 1.0, RATE), RATE, str(noise), codec="wav")
    air = surroundings([noise], [rooms], RATE)
    assert [len(part) for part in air.ambiences] == [RATE]
    assert [int(np.argmax(room)) for room in air.rooms] == [100, 200]
    assert surroundings([], [], RATE).rooms == []
    noise.write_bytes(b"no noise")
    with pytest.raises(AudioError, match=r"n\.wav"):
        surroundings([noise], [rooms], RATE)


def test_a_folder_without_audio_is_named(tmp_path: Path) -> None:
    empty = recordings(tmp_path / "empty", ["readme.md"])
    with pytest.raises(HashbeamError, match=f"{empty} holds no audio"):
        require_audio([empty])
    with pytest.raises(HashbeamError, match="missing is not a folder"):
        require_audio([tmp_path / "missing"])
    require_audio([recordings(tmp_path / "full", ["a.wav"])])
