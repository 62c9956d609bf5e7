"""The clip encoder as it is shipped: what it embeds, of windows and of files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from clip_sounds import SMALL, any_network, noisy
from onnx import numpy_helper

from hashing.errors import ModelError
from hashing.events import encoder
from hashing.events.encoder import ClipEmbedder
from hashing.fronts import session_of
from hashing.models import CLIP_KIND, Model, save_model
from hashing.snippets import standardise
from hashing.training.events.export import clip_graph

CELLS = SMALL.n_bands * SMALL.snippet_frames


def folder_of(path: Path, features: Any = None, **graphs: bytes) -> Model:
    """A model folder of windows of `SMALL`, with such graphs."""
    told = dataclasses.asdict(SMALL) if features is None else features
    config = {"kind": CLIP_KIND, "bits": 0, "features": told}
    return save_model(path, config, graphs, {}, "# For tests")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """An untrained encoder of windows of `SMALL`."""
    network = any_network()
    graphs = {name: clip_graph(network, SMALL, name == "wide") for name in ("model", "wide")}
    return folder_of(tmp_path_factory.mktemp("models") / "clips", **graphs)


@pytest.mark.parametrize(("wide", "size"), [(False, 8), (True, 256)])
def test_windows_are_embedded_by_the_graph(
    model: Model, wide: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "BATCH", 3)
    embedder = ClipEmbedder.load(str(model.path), wide)
    assert embedder.dimensions == size
    assert embedder.features == SMALL
    assert embedder.digest == model.digest
    cut = noisy(7).cut(np.arange(7))
    found = embedder.embed(cut)
    assert found.shape == (7, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    session = session_of(model.graph("wide" if wide else "model"))
    flat = standardise(cut, SMALL).reshape(7, CELLS)
    (expected,) = session.run(["embedding"], {"snippets": flat})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Loudness does not count, and either shape will do for what is standardised.
    np.testing.assert_allclose(embedder.embed(cut - np.float32(10)), found, atol=1e-3)
    for values in (flat, flat.reshape(cut.shape)):
        np.testing.assert_array_equal(embedder.embed_standardised(values), found)
    assert embedder.embed(cut[:0]).shape == (0, size)


def test_files_are_means_of_their_windows(model: Model) -> None:
    embedder, spectra = ClipEmbedder(model), noisy(6)
    spectra = dataclasses.replace(spectra, file=np.array([0, 0, 0, 2, 4, 4]))
    found = embedder.embed_files(spectra, 6)
    vectors = embedder.embed(spectra.cut(np.arange(6)))
    assert found.shape == (6, 8)
    for file, rows in {0: [0, 1, 2], 2: [3], 4: [4, 5]}.items():
        mean = vectors[rows].mean(axis=0)
        np.testing.assert_allclose(found[file], mean / np.linalg.norm(mean), atol=1e-5)
    # Nothing was heard of the others.
    assert not found[[1, 3, 5]].any()


def test_long_files_are_embedded_part_by_part(model: Model) -> None:
    embedder = ClipEmbedder(model)
    spectra = dataclasses.replace(noisy(1100), file=np.repeat([0, 1], [1050, 50]))
    vectors = embedder.embed(spectra.cut(np.arange(1100)))
    found = embedder.embed_files(spectra, 2)
    for file, rows in enumerate((slice(1050), slice(1050, 1100))):
        mean = vectors[rows].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(found[file], mean / np.linalg.norm(mean), atol=1e-4)


def test_models_that_embed_no_clips(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'learned': name one of the kind 'clips'"):
        ClipEmbedder.load("contrastive")
    with pytest.raises(ModelError, match="no model"):
        ClipEmbedder.load(str(tmp_path / "none"))
    graph = model.graph("model")
    with pytest.raises(ModelError, match=r"wide.onnx cannot be read"):
        ClipEmbedder(folder_of(tmp_path / "narrow", model=graph), wide=True)
    with pytest.raises(ModelError, match=r"model.onnx cannot be run"):
        ClipEmbedder(folder_of(tmp_path / "damaged", model=graph[:-300]))
    # Windows of another size than the graph's.
    other = dataclasses.asdict(dataclasses.replace(SMALL, snippet_frames=40))
    with pytest.raises(ModelError, match=r"model.onnx makes no embeddings: copy it anew"):
        ClipEmbedder(folder_of(tmp_path / "other", other, model=graph))


def test_features_that_are_missing_or_wrong(model: Model, tmp_path: Path) -> None:
    graph = model.graph("model")
    bare = save_model(tmp_path / "bare", {"kind": CLIP_KIND}, {"model": graph}, {}, "# Bare")
    with pytest.raises(ModelError, match="lacks 'features': copy it anew"):
        ClipEmbedder(bare)
    for name, features in (("none", 3), ("odd", {"n_bands": "many"})):
        with pytest.raises(ModelError):
            ClipEmbedder(folder_of(tmp_path / name, features, model=graph))


def test_a_graph_that_fails_is_a_damaged_model(model: Model, tmp_path: Path) -> None:
    """It has the ends that it must have, but cannot fold a window into so many bands."""
    graph = onnx.load_from_string(model.graph("model"))
    shape = numpy_helper.from_array(np.array([-1, 1, SMALL.n_bands - 1, SMALL.snippet_frames]))
    (image,) = (one for one in graph.graph.initializer if one.name in graph.graph.node[0].input)
    shape.name = image.name
    image.CopyFrom(shape)
    with pytest.raises(ModelError, match=r"model.onnx cannot be run"):
        ClipEmbedder(folder_of(tmp_path / "m", model=graph.SerializeToString()))
