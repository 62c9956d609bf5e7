from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
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
from hashing.training.artists import network_recipe
from hashing.training.artists import training as artist_training
from hashing.training.artists.folds import Listing
from hashing.training.artists.network_recipe import (
    NetworkRecipe,
    train_network,
    train_network_folds,
)
from hashing.training.artists.segments import load_music
from hashing.training.artists.training import embed_tracks, new_network

RATE = 22050
TRAINING = dataclasses.replace(TINY_ARTISTS, steps=2, every=1, artists=3)


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    """Artists with a filter each, two tracks of seven seconds."""
    folder = tmp_path_factory.mktemp("artists")
    rng = np.random.default_rng(5)
    rows, artists = [], []
    for artist in range(9):
        poles = np.poly(rng.uniform(-0.9, 0.9, 2))
        for track in range(2):
            sound = lfilter([1.0], poles, rng.standard_normal(7 * RATE))
            path = folder / f"{artist}-{track}.wav"
            soundfile.write(path, 0.3 * sound / np.abs(sound).max(), RATE)
            rows.append({"track_id": path.stem, "uri": str(path), "genres": "rock"})
            artists.append(f"artist {artist}")
    return Listing(rows, artists, [frozenset([artist]) for artist in artists])


def part(listing: Listing, rows: slice) -> Listing:
    return Listing(listing.rows[rows], listing.artist[rows], listing.kin[rows])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module", autouse=True)
def few_names() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_recipe, "NAMES", 10)
        yield


@pytest.fixture(scope="module")
def model(listing: Listing, work: Path) -> Model:
    recipe = NetworkRecipe([listing], TRAINING, "3s", command="hashbeam train artist")
    return train_network(recipe, work / "model", work, Log())


def test_a_model_embeds_a_file_as_its_network_does(
    listing: Listing, work: Path, model: Model
) -> None:
    encoder = ArtistEncoder(load_model(str(model.path)))
    config = FeatureConfig.from_json(model.config["network"])
    rows = [{**row, "artist_id": "x"} for row in listing.rows[:3]]
    music = load_music(rows, work / "own", config)
    network = new_network(TRAINING, music, 5)
    network.load_state_dict(torch.load(work / "state.pt", weights_only=True)["best"])
    expected = embed_tracks(network.eval(), music, np.arange(3))
    found = np.stack([encoder.embed_file(row["uri"]).embedding for row in rows])
    # What is on disk is half precision, and segments are cut from the file by the second.
    assert (np.sum(found * expected, axis=1) > 0.98).all()


def test_the_story_tells_what_was_held_out(model: Model) -> None:
    story = model.config["training"]
    assert len(story["artists_chosen_by"]) == 4
    assert story["artists_trained"] == 5
    assert set(story["artists_chosen_by"]) <= {f"artist {i}" for i in range(9)}
    assert len(story["trained_on"]) == 18
    assert {"ari", "ami", "eer"} <= set(model.config["figures"])
    assert model.config["cut"] > 0


def test_artists_of_two_catalogues_are_different_ones(listing: Listing, tmp_path: Path) -> None:
    recipe = NetworkRecipe([part(listing, slice(8))] * 2, TRAINING, "3s")
    model = train_network(recipe, tmp_path / "m", tmp_path, Log())
    story = model.config["training"]
    assert story["artists_trained"] + len(story["artists_chosen_by"]) == 8
    assert len(story["trained_on"]) == 16


def test_a_fold_s_network_has_met_nothing_of_it(listing: Listing, tmp_path: Path) -> None:
    folds = ["a"] * 2 + ["b"] * 2 + [""] * 14
    other = part(listing, slice(4))  # the same artists by other music
    recipe = NetworkRecipe([listing, other], TRAINING, "3s")
    models = train_network_folds(recipe, folds, tmp_path / "cv", tmp_path, Log())
    assert sorted(models) == ["a", "b"]
    story = models["a"].config["training"]
    assert story["held_out"] == {"fold": "a", "artists": ["artist 0"], "tracks": [2, 2]}
    assert not {"0-0", "0-1"} & set(story["trained_on"])
    assert story["trained_on"].count("1-0") == 2
    assert story["artists_trained"] + len(story["artists_chosen_by"]) == 9
    assert set(models["b"].config["training"]["trained_on"]) >= {"0-0", "0-1"}


def test_too_few_artists_are_one_line(listing: Listing, work: Path) -> None:
    with pytest.raises(HashbeamError, match="3 artists are too few to train a network: 8 are"):
        train_network(
            NetworkRecipe([part(listing, slice(6))], TRAINING, "3s"), work / "x", work, Log()
        )


def test_a_collapse_is_told(
    listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artist_training, "COLLAPSED", 2.0)
    training = dataclasses.replace(TRAINING, steps=4)
    with pytest.raises(HashbeamError, match="have become one: put more artists in a batch"):
        train_network(NetworkRecipe([listing], training, "3s"), tmp_path / "m", tmp_path, Log())


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
