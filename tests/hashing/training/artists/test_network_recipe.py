from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from artist_fixture import TINY_ARTISTS
from scipy.signal import lfilter
from training_fixture import Log

from hashing.artists.encoder import ArtistEncoder
from hashing.errors import HashbeamError, ModelError
from hashing.features import FeatureConfig
from hashing.models import Model, load_model
from hashing.training.artists import training as artist_training
from hashing.training.artists.network_recipe import NetworkRecipe, train_artist_network
from hashing.training.artists.segments import load_music
from hashing.training.artists.training import embed_tracks, new_network

RATE = 22050
TRAINING = dataclasses.replace(TINY_ARTISTS, steps=2, every=1, artists=3)
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Artists with a filter each, two tracks of seven seconds."""
    folder = tmp_path_factory.mktemp("artists")
    rng = np.random.default_rng(5)
    rows = []
    for artist in range(9):
        poles = np.poly(rng.uniform(-0.9, 0.9, 2))
        for track in range(2):
            sound = lfilter([1.0], poles, rng.standard_normal(7 * RATE))
            path = folder / f"{artist}-{track}.wav"
            soundfile.write(path, 0.3 * sound / np.abs(sound).max(), RATE)
            name = {"track_id": path.stem, "uri": str(path), "artist_name": f"artist {artist}"}
            rows.append({**name, "genres": "rock"})
    return rows


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def model(rows: Rows, work: Path) -> Model:
    recipe = NetworkRecipe([rows], TRAINING, "3s", command="hashbeam train artist")
    return train_artist_network(recipe, work / "model", work, Log())


def test_a_model_embeds_a_file_as_its_network_does(rows: Rows, work: Path, model: Model) -> None:
    encoder = ArtistEncoder(load_model(str(model.path)))
    config = FeatureConfig.from_json(model.config["network"])
    music = load_music(rows, work / "levels", config, "artist_name")
    network = new_network(TRAINING, music, 5)
    network.load_state_dict(torch.load(work / "state.pt", weights_only=True)["best"])
    expected = embed_tracks(network.eval(), music, np.arange(3))
    found = np.stack([encoder.embed_file(row["uri"]).embedding for row in rows[:3]])
    # What is on disk is half precision, and segments are cut from the file by the second.
    assert (np.sum(found * expected, axis=1) > 0.98).all()


def test_the_story_tells_what_was_held_out(model: Model) -> None:
    story = model.config["training"]
    assert len(story["artists_held_out"]) == 4
    assert story["artists_trained"] == 5
    assert set(story["artists_held_out"]) <= {f"artist {i}" for i in range(9)}
    assert len(story["trained_on"]) == 18
    assert {"ari", "ami", "eer"} <= set(model.config["figures"])
    assert model.config["cut"] > 0


def test_artists_of_two_catalogues_are_different_ones(rows: Rows, tmp_path: Path) -> None:
    recipe = NetworkRecipe([rows[:8], rows[:8]], TRAINING, "3s")
    model = train_artist_network(recipe, tmp_path / "m", tmp_path, Log())
    story = model.config["training"]
    assert story["artists_trained"] + len(story["artists_held_out"]) == 8
    assert {"0/0-0", "1/0-0"} <= set(story["trained_on"])


def test_too_few_artists_are_one_line(rows: Rows, work: Path) -> None:
    with pytest.raises(HashbeamError, match="3 artists are too few to train a network: 8 are"):
        train_artist_network(NetworkRecipe([rows[:6]], TRAINING, "3s"), work / "x", work, Log())


def test_a_collapse_is_told(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artist_training, "COLLAPSED", 2.0)
    training = dataclasses.replace(TRAINING, steps=4)
    with pytest.raises(HashbeamError, match="have become one: put more artists in a batch"):
        train_artist_network(NetworkRecipe([rows], training, "3s"), tmp_path / "m", tmp_path, Log())


def test_a_damaged_network_is_refused(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for path in Path(model.path).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"snippet_frames": 130}, "takes .* not segments of 16640 levels"),
        ({"sample_rate": 44100, "fmax": 11025.0}, "hears 44100 Hz, its segments have 22050 Hz"),
        ({"nonsense": 1}, "unknown feature settings"),
    ):
        other = {**config, "network": {**config["network"], **change}}
        (folder / "config.json").write_text(json.dumps(other))
        with pytest.raises(ModelError, match=message):
            ArtistEncoder.load(str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "network.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"network.onnx cannot be run"):
        ArtistEncoder.load(str(folder))
