"""A whole training run on a few files of tones, from sound to a model folder that is heard with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_sounds import PITCHES, any_network, same_weights, unlabelled, write_tones
from training_fixture import Log

from hashing.errors import HashbeamError, ModelError
from hashing.events.encoder import ClipEmbedder
from hashing.events.features import CLIP
from hashing.events.spectra import Spectra, hear
from hashing.features import FeatureConfig
from hashing.models import CLIP_KIND, load_model, save_model
from hashing.training import encoder as shared
from hashing.training.events.encoder import ClipTraining, Labelled, embed
from hashing.training.events.export import as_exported
from hashing.training.events.labels import LabelSets
from hashing.training.events.recipe import ClipRecipe, judge, open_network, train_clips
from hashing.training.events.sources import Source
from hashing.training.events.views import ViewSettings, whole_windows

TINY = ClipTraining(
    dimensions=8,
    steps=4,
    label_steps=4,
    batch=6,
    label_batch=6,
    warm_up=2,
    averaging=0.5,
    half_precision=False,
    views=ViewSettings(frames=32),
    seed=3,
)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Files of six windows, four of each kind to learn from and one not."""
    return write_tones(tmp_path_factory.mktemp("tones"), 4, 1, 14.0)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where spectra are kept, so that files are heard once."""
    return tmp_path_factory.mktemp("work")


def recipe(*sources: Source, **values: Any) -> ClipRecipe:
    training = dataclasses.replace(TINY, **values)
    return ClipRecipe(sources, training, command="hashbeam train clips --catalog tones.csv")


def heard_by(source: Source, work: Path) -> Spectra:
    return hear(source.paths, work / "spectra", CLIP)


def test_a_run_writes_an_encoder(
    tones: Source, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "STEPS_PER_REPORT", 2)
    bare = unlabelled(dataclasses.replace(tones, name="bare"))
    log = Log()
    model = train_clips(recipe(tones, bare), tmp_path / "model", work, log)
    assert "144 windows to learn from, 36 others" in log.lines
    assert [len(log.figures(name)) for name in ("loss", "labels", "neighbour_0")] == [2, 2, 4]
    config = model.config
    assert (config["kind"], config["bits"]) == (CLIP_KIND, 0)
    assert (config["dimensions"], config["dimensions_wide"]) == (8, 1024)
    assert FeatureConfig.from_json(config["features"]) == CLIP
    assert config["training"]["windows"] == 144
    assert config["training"]["seed"] == 3
    assert config["training"]["catalogues"] == [
        {"name": "tones", "files": 15, "labelled": 15, "labels": sorted(PITCHES)},
        {"name": "bare", "files": 15, "labelled": 0, "labels": []},
    ]
    # The last figures are those of what was written, but for rounding.
    assert set(config["figures"]) == {"views", "neighbour_0"}
    assert config["figures"]["neighbour_0"] == pytest.approx(
        log.figures("neighbour_0")[-1], abs=1e-3
    )
    card = (model.path / "README.md").read_text()
    for told in (
        "`hashbeam train clips --catalog tones.csv`",
        "144 windows of\n  * tones: 15 files, 15 of them with labels (3 labels)\n  * bare: 15",
        "4 steps of views alone, 4 with labels",
        f"| neighbour_0 | {config['figures']['neighbour_0']:.3f} |",
    ):
        assert told in card
    # What was trained answers as its graphs do, up to half precision.
    network = open_network(model)
    cut = heard_by(tones, work).cut(np.arange(20))
    windows = whole_windows(heard_by(tones, work), np.arange(20))
    found = ClipEmbedder(model).embed(cut)
    np.testing.assert_allclose(found, embed(network, windows), atol=1e-3)
    wide = ClipEmbedder(model, wide=True).embed(cut)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network(torch.from_numpy(windows))[0], dim=1)
    np.testing.assert_allclose(wide, expected.numpy(), atol=1e-3)
    assert np.abs(found[0] - found[-1]).max() > 0.01
    # The same command again takes no more steps, and writes the same.
    again = train_clips(recipe(tones, bare), tmp_path / "again", work, Log("views step"))
    assert again.digest == model.digest


def test_labels_are_learned_from_another_encoder_on(
    tones: Source, work: Path, tmp_path: Path
) -> None:
    first = train_clips(recipe(unlabelled(tones)), tmp_path / "first", work, Log())
    assert set(first.config["figures"]) == {"views"}
    made = dataclasses.replace(recipe(tones), begin_with=str(first.path))
    log = Log("views step")  # of which there is none
    second = train_clips(made, tmp_path / "second", tmp_path / "w", log)
    assert any(line.startswith("labels step") for line in log.lines)
    assert not same_weights(open_network(first), open_network(second))
    assert second.config["training"]["begun_with"] == "first"
    assert "goes on from `first`, 4 with labels" in (second.path / "README.md").read_text()
    # It began with that encoder: at a rate of zero nothing but statistics of batches has changed.
    still = dataclasses.replace(recipe(tones, learning_rate=0.0), begin_with=str(first.path))
    third = open_network(train_clips(still, tmp_path / "third", tmp_path / "w2", Log()))
    kept = dict(third.named_parameters())
    for name, value in open_network(first).named_parameters():
        assert torch.equal(value, kept[name])
    # With no step of labels it is the encoder itself.
    none = dataclasses.replace(recipe(tones, label_steps=0), begin_with=str(first.path))
    same = train_clips(none, tmp_path / "fourth", work, Log())
    assert same_weights(open_network(first), open_network(same))


def test_what_cannot_be_begun_with(tones: Source, work: Path, tmp_path: Path) -> None:
    config = {"kind": CLIP_KIND, "bits": 0, "features": {}, "dimensions": 8}
    save_model(tmp_path / "bare", config, {}, {}, "# No network")
    made = dataclasses.replace(recipe(tones), begin_with=str(tmp_path / "bare"))
    with pytest.raises(ModelError, match=r"bare cannot be trained further \(lacks the array"):
        train_clips(made, tmp_path / "out", work, Log())
    del config["dimensions"]
    model = save_model(tmp_path / "barer", config, {}, {}, "# No size")
    with pytest.raises(ModelError, match="cannot be trained further"):
        open_network(model)
    with pytest.raises(ModelError, match="cannot be trained further"):
        open_network(load_model("contrastive"))


def test_too_little_sound_is_refused(tones: Source, work: Path, tmp_path: Path) -> None:
    few = Source("few", tones.ids[:2], tones.paths[:2], tones.labels[:2])
    with pytest.raises(HashbeamError, match="12 windows of sound are too few to learn from: 64"):
        train_clips(recipe(few), tmp_path / "out", tmp_path / "w", Log())
    assert not (tmp_path / "out").exists()
    missing = Source("none", ["a"], [str(tmp_path / "a.wav")], [()])
    with pytest.raises(HashbeamError, match="none of 1 clips can be heard"):
        train_clips(recipe(missing), tmp_path / "out", tmp_path / "w", Log())


def test_figures_of_a_network_by_hand(tones: Source, work: Path) -> None:
    spectra = heard_by(tones, work)
    network = as_exported(any_network(64, 8))
    rows = np.arange(0, 60, 2)
    names = [("even",) if row % 4 else ("odd",) for row in rows]  # what nobody can hear
    clips = Labelled(rows, LabelSets.from_clips(names))
    alone = Labelled(rows[:1], LabelSets.from_clips(names[:1]))
    found = judge(network, spectra, [alone, clips], TINY)
    assert set(found) == {"views", "neighbour_1"}
    vectors = embed(network, whole_windows(spectra, rows))
    right = []
    for row, vector in enumerate(vectors):
        nearest = max((at for at in range(30) if at != row), key=lambda at: vector @ vectors[at])
        right.append(names[nearest] == names[row])
    assert found["neighbour_1"] == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1
    # Views that are not cut, mixed or coloured find one another.
    still = ViewSettings(CLIP.snippet_frames, 0.0, equaliser_db=0.0, shifted=0, masked=(0, 0))
    same = judge(network, spectra, [], dataclasses.replace(TINY, views=still))
    assert same == {"views": 1.0}
    assert found["views"] < 0.9
    assert judge(network, dataclasses.replace(spectra, levels=spectra.levels[:1]), [], TINY) == {}
