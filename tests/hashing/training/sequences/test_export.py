"""A model folder hears what the networks hear, and a damaged one is a clear error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from sequence_songs import BINS, any_statistics

from hashing import cqt
from hashing.errors import AudioError, ModelError
from hashing.models import SEQUENCE_KIND, load_model, save_model
from hashing.sequences import SIDES, SequenceEncoder, Side
from hashing.training.export import Graph
from hashing.training.sequences import checking
from hashing.training.sequences.export import export
from hashing.training.sequences.networks import EmbeddingPair, HashPair
from hashing.training.sequences.settings import Head, Network, SequenceTraining
from hashing.training.sequences.trunk import EmbeddingHead, Trunk, TrunkSize

SMALL = TrunkSize((12, 16, 24, 32), around=3)
SYSTEMS = {
    "trunk": SequenceTraining(size=SMALL, attention=8, dimensions=24),
    "trunk, mean": SequenceTraining(size=SMALL, attention=None, dimensions=24),
    "published": SequenceTraining(system="published", narrow=0.04, dimensions=24),
    "published, mean": SequenceTraining(system="published", narrow=0.04, attention=None),
}


def untrained(settings: SequenceTraining) -> tuple[Network, Head]:
    """Networks whose statistics of batches are not those that they begin with."""
    torch.manual_seed(1)
    network = settings.network(any_statistics(1), any_statistics(2)).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
    return network, settings.head().eval()


def levels_of(frames: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    notes = rng.uniform(-90, 0, (frames // 4 + 1, BINS)).repeat(4, axis=0)[:frames]
    return notes.astype(np.float32)


@pytest.mark.parametrize("name", SYSTEMS)
def test_graphs_hear_what_the_networks_hear(name: str, tmp_path: Path) -> None:
    network, head = untrained(SYSTEMS[name])
    assert isinstance(network, Trunk if "trunk" in name else HashPair)
    assert isinstance(head, EmbeddingHead if "trunk" in name else EmbeddingPair)
    model = export(tmp_path / "m", network, head, {"training": {}, "figures": {}}, "# Untrained")
    encoder = SequenceEncoder(model)
    kept = ["embedding", "trunk"]
    if "published" in name:
        kept = ["audio", "audio_embedding", "score", "score_embedding"]
    assert model.graphs == kept
    for side in SIDES:
        for frames in (8, 15, 23, 700, 1003):
            levels = levels_of(frames)
            heard = encoder.hear_levels(levels, side)
            _, responses = checking.outputs(network, cqt.heard_frames(levels), side)
            bits = (heard.codes[:, None] >> np.arange(32, dtype=np.uint32)) & 1
            assert bits.shape == responses.shape == (frames // 8, 32)
            # Weights of half precision may turn a bit only at the threshold.
            turned = bits != (responses > 0)
            assert np.abs(responses[turned]).max(initial=0.0) < 5e-3
            assert turned.mean() < 0.02
            wanted = checking.embed(network, head, cqt.heard_frames(levels), side)
            assert heard.embeddings == pytest.approx(wanted, abs=1e-3)
            assert np.linalg.norm(heard.embeddings, axis=1) == pytest.approx(1.0, abs=1e-4)
    # Both sides are not one.
    levels = levels_of(400)
    one, other = (encoder.hear_levels(levels, side) for side in SIDES)
    assert not np.array_equal(one.codes, other.codes)
    # Weights are stored in half the bytes.
    for graph in model.graphs:
        stored = onnx.load_from_string(model.graph(graph)).graph.initializer
        large = {weight.data_type for weight in stored if np.prod(weight.dims) > 1}
        assert onnx.TensorProto.FLOAT16 in large
        assert onnx.TensorProto.FLOAT not in large


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a trunk; not to be changed."""
    network, head = untrained(SYSTEMS["trunk"])
    return export(tmp_path_factory.mktemp("m") / "m", network, head, {}, "#", "roll").path


def test_samples_become_a_sequence(folder: Path) -> None:
    encoder = SequenceEncoder.load(str(folder))
    assert encoder.digest == load_model(str(folder)).digest
    assert encoder.features.score == "roll"
    samples = np.random.default_rng(1).standard_normal(2760 * 45).astype(np.float32)
    heard = encoder.hear(samples)
    frames = 1 + len(samples) // 128
    assert heard.codes.shape == (frames // 8,)
    assert heard.embeddings.shape == (len(encoder.features.windows(frames // 8)), 24)
    assert heard.levels.shape == (frames, 24)
    levels = cqt.decibels(cqt.magnitudes(samples))
    assert np.array_equal(heard.codes, encoder.hear_levels(levels).codes)
    assert np.array_equal(heard.levels, cqt.pack_levels(levels))
    # The loudness of a track is nothing of it.
    assert np.mean(encoder.hear(samples / 16).codes == heard.codes) > 0.9


def test_tracks_that_cannot_be_heard(folder: Path) -> None:
    encoder = SequenceEncoder.load(str(folder))
    loud = np.ones(4000, np.float32)
    damaged = loud.copy()
    damaged[7] = np.nan
    for samples, kind in (
        (loud[:0], "too-short"),
        (loud[: 128 * 7 - 1], "too-short"),
        (loud * 0, "silent"),
        (damaged, "unreadable"),
    ):
        with pytest.raises(AudioError) as caught:
            encoder.hear(samples)
        assert caught.value.kind == kind
    assert len(encoder.hear(np.sin(np.arange(128 * 7), dtype=np.float32)).codes) == 1
    with pytest.raises(AudioError, match="shorter than a code"):
        encoder.hear_levels(levels_of(7), "score")


# Damaged and hostile folders.


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))


def rearray(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    arrays = safetensors.numpy.load((path / "arrays.safetensors").read_bytes())
    change(arrays)
    (path / "arrays.safetensors").write_bytes(safetensors.numpy.save(arrays))


def features(**values: Any) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda config: config["features"].update(values))


def array(name: str, value: Any) -> Callable[[Path], None]:
    return lambda path: rearray(path, lambda arrays: arrays.update({name: value}))


def linear_graph(inputs: int, outputs: list[tuple[str, int]], each: int = 1) -> bytes:
    """A graph of steps that are joined, and turned into as many outputs."""
    graph = Graph()
    joined = graph.add("Reshape", ["x", graph.shape(-1, each * inputs)], "joined")
    for name, size in outputs:
        weight = np.zeros((each * inputs, size), np.float32)
        graph.linear(joined, f"w {name}", (weight, np.zeros(size, np.float32)), name)
    return bytes(graph.serialise("sequences", "x", inputs, outputs))


def graph(name: str, data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / f"{name}.onnx").write_bytes(data)

    return change


def endless(path: Path) -> None:
    """Responses that are no numbers."""
    made = Graph()
    weight = np.zeros((BINS, 32), np.float32), np.full(32, np.nan, np.float32)
    joined = made.add("Reshape", ["x", made.shape(-1, 8, BINS)], "joined")
    mean = made.add("ReduceMean", [joined], "mean", axes=[1], keepdims=0)
    made.linear(mean, "w", weight, "responses")
    graph("trunk", made.serialise("sequences", "x", BINS, [("responses", 32)]))(path)
    graph("embedding", linear_graph(BINS, [("embedding", 24)], each=16))(path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "another kind": (lambda p: rewrite(p, lambda c: c.update(kind="learned")), "of the kind 'lea"),
    "no features": (lambda p: rewrite(p, lambda c: c.pop("features")), r"damaged \('features'\)"),
    "strange features": (lambda p: rewrite(p, lambda c: c.update(features=3)), "damaged"),
    "no cqt": (lambda p: rewrite(p, lambda c: c["features"].pop("cqt")), r"damaged \('cqt'\)"),
    "strange cqt": (features(cqt=[1]), "damaged"),
    "unknown in cqt": (features(cqt={"tuning": 1}), "damaged .*tuning"),
    "unknown": (features(tuning=1), "unknown feature settings"),
    "of bits": (features(downsampling="8"), "downsampling='8'"),
    "other downsampling": (features(downsampling=4), "do not make a code of 4 frames"),
    "other dimensions": (features(dimensions=23), "embeddings of 23"),
    "other bins": (features(cqt={"n_bins": 47}), "is not 47 numbers"),
    "huge windows": (features(cqt={"sample_rate": 1 << 20, "lowest": 12}), "longer than 65536"),
    "no mean": (lambda p: rearray(p, lambda a: a.pop("score.mean")), r"damaged \('score.mean'\)"),
    "short mean": (array("audio.mean", np.zeros(3, np.float32)), "audio.mean is not 48 numbers"),
    "mean of nan": (array("audio.mean", np.full(48, np.nan)), "audio.mean is not 48 numbers"),
    "no deviation": (array("score.deviation", np.zeros(48)), "deviation must be above 0"),
    "no trunk": (lambda p: (p / "trunk.onnx").unlink(), "audio.onnx cannot be read"),
    "no embedding": (lambda p: (p / "embedding.onnx").unlink(), "embedding.onnx cannot be read"),
    "cut graph": (graph("trunk", b"\x08\x07"), "trunk.onnx cannot be run"),
    "31 bits": (graph("trunk", linear_graph(48, [("f", 32), ("r", 31)], 8)), "do not make 32 bits"),
    "other input": (graph("trunk", linear_graph(47, [("f", 32), ("r", 32)], 8)), "of 48 bins"),
    "other features": (
        graph("trunk", linear_graph(48, [("f", 9), ("r", 32)], 8)),
        "do not make 32 bits",
    ),
    "three outputs": (
        graph("trunk", linear_graph(48, [("f", 32), ("g", 32), ("r", 32)], 8)),
        "do not make 32 bits",
    ),
    "one output": (graph("embedding", linear_graph(32, [("e", 24), ("f", 24)])), "damaged"),
    "sixteen frames": (
        graph("trunk", linear_graph(48, [("f", 32), ("r", 32)], 16)),
        "do not make a code of 8 frames",
    ),
    "seventeen frames": (
        graph("trunk", linear_graph(48, [("f", 32), ("r", 32)], 17)),
        "its graphs cannot be run",
    ),
    "an embedding each": (graph("embedding", linear_graph(32, [("e", 24)])), "do not make a code"),
    "no numbers": (endless, "do not make a code"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_one_clear_line(name: str, folder: Path, tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    copy = tmp_path / "m"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(ModelError, match=words) as caught:
        SequenceEncoder.load(str(copy))
    assert "\n" not in str(caught.value)


def test_the_undamaged_copy_is_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    assert SequenceEncoder.load(str(tmp_path / "m")).digest == load_model(str(folder)).digest
    # And hand-made graphs that fit are taken: what is refused above is refused for its fault.
    fitting = {
        "trunk": linear_graph(48, [("f", 32), ("r", 32)], 8),
        "embedding": linear_graph(32, [("e", 24)], 2),
    }
    config = {**load_model(str(folder)).config, "kind": SEQUENCE_KIND}
    arrays = load_model(str(folder)).arrays
    SequenceEncoder(save_model(tmp_path / "n", config, fitting, arrays, "#"))


def test_a_name_that_is_none() -> None:
    with pytest.raises(ModelError, match="no model 'nothing'"):
        SequenceEncoder.load("nothing")
    side: Side = "audio"
    assert side in SIDES
