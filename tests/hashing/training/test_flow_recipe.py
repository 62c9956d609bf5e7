from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_fixture import learned_model
from training_fixture import RATE

from hashing import audio
from hashing.confidence import Confidence
from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.features import FeatureConfig
from hashing.flow import FlowQuantizer
from hashing.memory_index import memory_searcher
from hashing.models import Model, load_model, save_model
from hashing.synthesis import render_track
from hashing.training import ambience, calibration, flow_data, recipe
from hashing.training.flow import FlowTraining
from hashing.training.flow_recipe import apart, train_flow
from hashing.training.recipe import Material, Recipe

SETTINGS = FlowTraining(
    bits=6, couplings=2, hidden=(8,), pairs=16, items=32, steps=20, warm_up=5, radius=0.5
)
TRACKS, SECONDS = 16, 4.0


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Rows of 16 short tracks by eight artists."""
    folder = tmp_path_factory.mktemp("music")
    rows = []
    for i in range(TRACKS):
        path = folder / f"{i}.wav"
        audio.encode(render_track(i, SECONDS, RATE), RATE, str(path), codec="wav")
        rows.append({"track_id": f"t{i}", "uri": str(path), "album": f"album {i % 8}"})
    return rows


def encoder_model(folder: Path, unheard: list[str]) -> Model:
    """An encoder that says which tracks it has held out."""
    model = learned_model(folder)
    config = {**model.config, "training": {"tracks_held_out": unheard}}
    graphs = {"model": model.graph("model"), "query": model.graph("model")}
    return save_model(folder, config, graphs, model.arrays, "# Encoder")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    encoder_model(folder, ["t3", "t11"])
    return folder


@pytest.fixture(autouse=True, scope="module")
def _small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "CHANCE_QUERIES", 4)
        patch.setattr(recipe, "HOLD_OUT_SHARE", 0.25)
        patch.setattr(recipe, "CALIBRATION_SHARE", 0.25)
        patch.setattr(flow_data, "PAIRS", 64)
        patch.setattr(flow_data, "UNHEARD_PAIRS", 16)
        for name, few in {"SIMULATED_ROOMS": 2, "BABBLES": 2, "BABBLE_SECONDS": 2}.items():
            patch.setattr(ambience, name, few)
        yield


def made(rows: list[dict[str, str]], **changes: Any) -> Recipe:
    return Recipe(
        rows, **{"calibration_queries": 4, "workers": 1, "command": "hashbeam train", **changes}
    )


@dataclasses.dataclass(frozen=True)
class Trained:
    model: Model
    work: Path
    lines: list[str]


@pytest.fixture(scope="module")
def trained(
    music: list[dict[str, str]],
    encoder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    _small: None,
) -> Trained:
    folder, lines = tmp_path_factory.mktemp("trained"), []
    model = train_flow(
        made(music), SETTINGS, str(encoder), folder / "m", folder / "w", lines.append
    )
    return Trained(model, folder / "w", lines)


def test_a_flow_model_says_what_it_is(trained: Trained, encoder: Path) -> None:
    config = trained.model.config
    assert (config["kind"], config["bits"], config["dimensions"]) == ("flow", 6, 64)
    story = config["training"]
    assert story["encoder"] == {"name": encoder.name, "digest": load_model(str(encoder)).digest}
    assert (story["steps"], story["radius"], story["query_radius"]) == (20, 0.5, None)
    assert {"t3", "t11"} <= set(story["tracks_held_out"])
    parts = len(story["tracks_held_out"]) + story["tracks_trained"] + story["tracks_calibrated"]
    assert parts == TRACKS
    for part in ("train", "kept", "unheard"):
        assert 0.0 < config["figures"][f"{part}_entropy"] <= 6.0
        assert 0.0 < config["figures"][f"{part}_clumped_entropy"] <= 6.0
    assert Confidence.from_json(config["calibration"]) != Confidence()
    card = (trained.model.path / "README.md").read_text()
    for text in (
        f"# Balanced flow hash of 6 bits on the embeddings of `{encoder}`",
        "`hashbeam train`",
        "| same tracks, other moments | ",
        "| unheard | ",
        "--keep-embeddings",
    ):
        assert text in card
    json.dumps(config, allow_nan=False)  # numbers that any reader knows


def test_a_flow_model_hashes_with_both_graphs_of_its_encoder(
    trained: Trained, encoder: Path
) -> None:
    hasher, plain = Hasher(trained.model), Hasher.load(str(encoder))
    assert trained.model.graphs == ["model", "query"]
    assert isinstance(hasher.quantizer, FlowQuantizer)
    samples = render_track(1, SECONDS, RATE)
    track, expected = (one.hash_track([samples], embeddings=True) for one in (hasher, plain))
    np.testing.assert_array_equal(track.embeddings, expected.embeddings)
    query, same = (one.hash_query([samples]) for one in (hasher, plain))
    np.testing.assert_array_equal(query.embeddings, same.embeddings)
    np.testing.assert_array_equal(query.norms, same.norms)
    assert query.responses.shape == (len(same.embeddings), 6)


def test_a_flow_index_with_embeddings_finds_music(trained: Trained) -> None:
    hasher = Hasher(trained.model)
    songs = [render_track(seed, SECONDS, RATE) for seed in range(8)]
    tracks = [hasher.hash_track([song], embeddings=True) for song in songs]
    searcher = memory_searcher(hasher, tracks, key_bits=6, probes=8, embeddings=True)
    for number, song in enumerate(songs):
        found = searcher.search([hasher.hash_query([song[RATE : 3 * RATE]])])[0]
        assert found[0].ordinal == number
        assert found[0].offset_s == pytest.approx(1.0, abs=0.13)
        assert float(found[0].evidence.similarity) > 0.9  # inner products, not bits


def test_the_same_command_goes_on(
    trained: Trained, music: list[dict[str, str]], encoder: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    again = train_flow(
        made(music), SETTINGS, str(encoder), tmp_path / "m", trained.work, lines.append
    )
    assert "embeddings are those of an earlier run" in lines
    assert "resuming at step 20 of 20" in lines
    assert again.digest == trained.model.digest
    assert again.config["calibration"] == trained.model.config["calibration"]


def test_tracks_that_the_encoder_held_out_stay_held_out(
    music: list[dict[str, str]], encoder: Path, trained: Trained
) -> None:
    whole = Material.prepare(made(music), SETTINGS.seed, trained.work, lambda _: None)
    parts = apart(whole, Hasher.load(str(encoder)))
    names = np.array(whole.music.track_ids)
    assert {"t3", "t11"} <= set(names[parts.held_out])
    assert not {"t3", "t11"} & set(names[[*parts.training, *parts.checking]])
    assert set(whole.held_out) <= set(parts.held_out)
    together = sorted([*parts.training, *parts.checking, *parts.held_out])
    assert together == list(range(TRACKS))


def test_an_encoder_that_knows_none_of_the_music(
    music: list[dict[str, str]], trained: Trained, tmp_path: Path
) -> None:
    encoder_model(tmp_path / "e", [f"t{i}" for i in range(TRACKS)])
    with pytest.raises(HashbeamError, match="was not trained on any of the music"):
        train_flow(made(music), SETTINGS, str(tmp_path / "e"), tmp_path / "m", trained.work, print)
    assert not (tmp_path / "m").exists()


def test_music_at_another_rate(
    music: list[dict[str, str]], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = FeatureConfig(sample_rate=4000, fmax=1900.0)
    monkeypatch.setitem(recipe.WINDOWS, "slow", slow)
    with pytest.raises(HashbeamError, match=r"hears music at 8000 Hz, the window 'slow' is at"):
        train_flow(
            made(music, window="slow"),
            SETTINGS,
            str(encoder),
            tmp_path / "m",
            tmp_path / "w",
            lambda _: None,
        )
