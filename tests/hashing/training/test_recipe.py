from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_fixture import FEATURES, RATE, TINY_ENCODER

from hashing import audio
from hashing.conditions import Surroundings
from hashing.confidence import Confidence
from hashing.encoders import Hasher
from hashing.errors import AudioError, HashbeamError
from hashing.memory_index import memory_searcher
from hashing.synthesis import render_track
from hashing.track_fronts import SharedLayers
from hashing.training import ambience, calibration, encoder, forgiving, recipe, tiles
from hashing.training.ambience import (
    noise_files,
    noise_spectra,
    require_audio,
    richer,
    surroundings,
)
from hashing.training.forgiving import ForgivingTraining
from hashing.training.light import LightTraining
from hashing.training.recipe import (
    Material,
    Recipe,
    three_ways,
    train_encoder,
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
ENCODER = dataclasses.replace(TINY_ENCODER, key_bits=14, steps=30, seed=1)


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
    monkeypatch.setitem(recipe.WINDOWS, "second", FEATURES)
    monkeypatch.setattr(forgiving, "STATISTICS_SNIPPETS", 1024)
    monkeypatch.setattr(encoder, "STATISTICS_SNIPPETS", 1024)
    monkeypatch.setattr(calibration, "CHANCE_QUERIES", 4)
    monkeypatch.setattr(tiles, "TILE_FRAMES", 56)
    monkeypatch.setattr(recipe, "HOLD_OUT_SHARE", 0.25)
    monkeypatch.setattr(recipe, "CALIBRATION_SHARE", 0.25)
    light = functools.partial(LightTraining, channels=(4, 6), steps=12)
    monkeypatch.setattr(recipe, "LightTraining", light)
    for name, few in {
        "SIMULATED_ROOMS": 2,
        "BABBLES": 3,
        "BABBLE_SECONDS": 2,
        "VOICES": 2,
        "COLOURED_SECONDS": 2,
    }.items():
        monkeypatch.setattr(ambience, name, few)
    monkeypatch.setattr(recipe, "UNHEARD_VERSIONS", 2)


def made(rows: list[dict[str, str]], **changes: Any) -> Recipe:
    few = {"excerpts": 24, "versions": 2, "tile_versions": 3, "calibration_queries": 5}
    return Recipe(rows, **{**few, "workers": 1, "command": "hashbeam train", **changes})


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
        f"{counts[0]} tracks to train, {counts[1]} others to\n  calibrate",
        f"score, {counts[2]} held out",
        "**Pool**: 24 excerpts in 2 versions each.",
        f"| nearest | {config['figures']['nearest']:.3f} |",
        "**Seed**: 1.",
        "`hashbeam train`",
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
        for name, queries in (("a", 4), ("b", 4), ("c", 6))
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


# The encoder.


@dataclasses.dataclass(frozen=True)
class Made:
    """What one run of the recipe gave."""

    folder: Path
    hasher: Hasher
    lines: list[str]


@pytest.fixture
def made_once(
    music: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory, shared: dict[str, Made]
) -> Made:
    """A trained encoder; not to be changed."""
    if not shared:  # once for all tests, with the small settings that each test has
        folder = tmp_path_factory.mktemp("encoder")
        lines: list[str] = []
        model = train_encoder(made(music), ENCODER, folder / "m", folder / "w", lines.append)
        shared["made"] = Made(folder, Hasher(model), lines)
    return shared["made"]


@pytest.fixture(scope="module")
def shared() -> dict[str, Made]:
    """What tests of this module share."""
    return {}


def test_an_encoder_is_trained_calibrated_and_told_about(
    made_once: Made, music: list[dict[str, str]]
) -> None:
    folder, lines, config = made_once.folder, made_once.lines, made_once.hasher.config
    training, checking, held_out = three_ways(music, ["album"], 1)
    counts = (len(training), len(checking), len(held_out))
    assert lines[0] == "{} tracks to train, {} to calibrate, {} held out".format(*counts)
    # Two tiles a track, in blocks of 16.
    assert f"tiles: 100% of {2 * counts[0]} tiles" in lines
    assert f"tiles-unheard: 100% of {2 * counts[1]} tiles" in lines
    assert any(line.startswith("step     30 of 30  loss ") for line in lines)
    assert any(line.startswith("light step     12 of 12  nearest ") for line in lines)
    assert lines[-1] == "calibrating the score"
    assert config["kind"] == "learned"
    assert config["features"] == dataclasses.asdict(FEATURES)
    assert config["training"]["tracks_held_out"] == [f"t{i}" for i in held_out]
    assert config["training"]["tile_versions"] == 3
    assert config["training"]["channels"] == [4, 6, 8]
    assert set(config["figures"]) == {"recall", "recall_binary", "likeness", "recall_light"}
    fitted = config["calibration"]
    assert Confidence.from_json(fitted) != Confidence()
    assert fitted["matches"] > 0
    card = (folder / "m/README.md").read_text()
    for text in (
        "# Contrastive encoder, snippets of 0.53 s",
        "3 layers (4, 6, 8\nchannels)",
        "16 bands and 14 frames\ninto 16 numbers",
        f"{counts[0]} tracks to train, {counts[1]} others to\n  calibrate",
        f"score, {counts[2]} held out",
        "in 3 versions each; 30 steps of\n  16 pairs",
        f"| recall | {config['figures']['recall']:.3f} |",
        f"| likeness | {config['figures']['likeness']:.3f} |",
        "**Seed**: 1.",
        "`hashbeam train`",
    ):
        assert text in card
    assert str(folder) not in card + json.dumps(config)


def test_the_encoder_is_ready_to_be_used(made_once: Made) -> None:
    # That a trained one finds music is for the tests of the encoder: this one has 30 steps.
    hasher = Hasher.load(str(made_once.folder / "m"))
    assert hasher.digest == made_once.hasher.digest
    assert hasher.model.graphs == ["model", "query"]
    # The light encoder hears whole tracks; two layers of it have an answer every four frames.
    assert isinstance(hasher.track_front, SharedLayers)
    assert hasher.track_front.reach.stride == 4
    songs = [render_track(i, 4.0, RATE) for i in range(16)]
    searcher = memory_searcher(hasher, [hasher.hash_track([song]) for song in songs], 12)
    assert searcher.confidence == Confidence.from_json(hasher.config["calibration"])
    found = searcher.search([hasher.hash_query([song[RATE:]]) for song in songs])
    assert sum(map(bool, found)) >= len(songs) // 2
    assert all(0.0 < match.score < 1.0 for answers in found for match in answers)


def test_a_second_encoder_of_the_same_seed_is_the_same(
    made_once: Made, music: list[dict[str, str]], tmp_path: Path
) -> None:
    # Made by two processes, and asked other questions for its score.
    many = made(music, workers=2, calibration_queries=4)
    model = train_encoder(many, ENCODER, tmp_path / "m", tmp_path / "w", lambda _: None)
    assert model.digest == made_once.hasher.digest
    assert model.config["figures"] == made_once.hasher.config["figures"]
    assert model.config["calibration"] != made_once.hasher.config["calibration"]


def test_a_stopped_encoder_goes_on(
    made_once: Made, music: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (ENCODER, tmp_path / "m", tmp_path / "w")
    monkeypatch.setattr(encoder, "STEPS_PER_REPORT", 10)

    def run(stop_at: str) -> list[str]:
        lines: list[str] = []

        def log(line: str) -> None:
            lines.append(line)
            if line.startswith(stop_at):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_encoder(made(music), *arguments, log)
        return lines

    run("tiles: ")
    run("step     20")
    lines = run("light step     12")
    assert not any("of 18 tiles" in line for line in lines)
    assert "resuming at step 20 of 30" in lines
    lines = run("calibrating")
    assert "light encoder: resuming at step 12 of 12" in lines
    model = train_encoder(made(music), *arguments, lambda _: None)
    assert model.digest == made_once.hasher.digest
    assert model.config["calibration"] == made_once.hasher.config["calibration"]


def test_an_encoder_that_learns_more_teaches_another_light_one(
    made_once: Made, music: list[dict[str, str]], tmp_path: Path
) -> None:
    arguments = (tmp_path / "m", tmp_path / "w")
    short, longer = (dataclasses.replace(ENCODER, steps=steps) for steps in (4, 8))
    train_encoder(made(music), short, *arguments, lambda _: None)
    lines: list[str] = []
    train_encoder(made(music), longer, *arguments, lines.append)
    assert "resuming at step 4 of 8" in lines
    assert not any("light encoder: resuming" in line for line in lines)
    # More versions are other tiles: everything begins again.
    lines = []
    train_encoder(made(music, tile_versions=2), longer, *arguments, lines.append)
    assert any(line.startswith("tiles: 100%") for line in lines)
    assert not any("resuming" in line for line in lines)


def test_tracks_that_hold_no_tile_are_refused(
    music: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_FRAMES", 256)
    with pytest.raises(HashbeamError, match=r"tracks holds 8\.1 s of music .* add longer ones"):
        train_encoder(made(music), ENCODER, tmp_path / "m", tmp_path / "w", lambda _: None)
    assert not (tmp_path / "m").exists()


# What music is heard in.


def test_material_is_split_and_named(music: list[dict[str, str]], tmp_path: Path) -> None:
    rows = [{**row, "piece": "" if i % 2 else f"piece {i // 4}"} for i, row in enumerate(music)]
    (tmp_path / "n").mkdir()
    for i in range(5):
        hiss = 0.1 * np.random.default_rng(i).standard_normal(RATE // 2 + i).astype(np.float32)
        audio.encode(hiss, RATE, str(tmp_path / "n" / f"{i}.wav"), codec="wav")
    lines: list[str] = []
    asked = made(rows, same_column="piece", noise=[tmp_path / "n"])
    material = Material.prepare(asked, 1, tmp_path / "w", lines.append)
    parts = (material.training, material.checking, material.held_out)
    assert parts == three_ways(rows, ["album"], 1)
    # Tracks of one piece have one name; those of none have their own.
    assert material.names[:6] == ["piece 0", "t1", "piece 0", "t3", "piece 1", "t5"]
    # Every fourth noise is heard by no one but the hold-out.
    sizes = [one.size for one in material.heard.ambiences]
    assert sizes == [RATE // 2 + i for i in (0, 1, 2, 4)]
    assert [one.size for one in material.unheard.ambiences] == [RATE // 2 + 3]
    story = material.story(asked)
    assert story["noise_held_out"] == ["3.wav"]
    assert story["tracks_held_out"] == [f"t{i}" for i in material.held_out]


def test_recordings_are_joined_by_what_can_be_computed() -> None:
    own = [np.ones(100, np.float32)]
    air = Surroundings(RATE, own, own)
    more, again, other = (richer(air, seed) for seed in (1, 1, 2))
    assert len(more.ambiences) == 1 + 3
    assert len(more.rooms) == 1 + 2
    assert more.ambiences[0] is own[0]
    assert more.rooms[0] is own[0]
    for one, same, another in (
        (more.ambiences[1], again.ambiences[1], other.ambiences[1]),
        (more.rooms[1], again.rooms[1], other.rooms[1]),
    ):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, another)
    assert {one.size for one in more.ambiences[1:]} == {2 * RATE}
    assert air.ambiences is own


def test_spectra_of_noises_follow_one_another() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    short = np.ones(FEATURES.snippet_samples - 1, np.float32)  # holds no snippet
    found = noise_spectra(Surroundings(RATE, [tone, short]), FEATURES, seed=1)
    # A window of 1,024 every 250 samples: 28 frames of the tone, 60 of each of five colours.
    assert found.shape == (28 + 5 * 60, 16)
    assert found.dtype == np.float16
    assert np.isfinite(found).all()
    bands = found[:28].astype(float).mean(axis=0)
    assert bands.max() > np.sort(bands)[-4] + 30
    white, red = found[28:88].astype(float), found[-60:].astype(float)
    # White noise is louder in wide bands, red noise in low ones.
    assert white.mean(axis=0)[0] < white.mean(axis=0)[-1]
    assert red.mean(axis=0)[0] > red.mean(axis=0)[-1] + 10
    np.testing.assert_array_equal(found, noise_spectra(Surroundings(RATE, [tone]), FEATURES, 1))


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
