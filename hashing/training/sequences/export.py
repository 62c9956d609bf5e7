"""A trained trunk and its embeddings as ONNX graphs and a model folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashing.models import SEQUENCE_KIND, Model, save_model
from hashing.sequences import BITS, SequenceFeatures
from hashing.training.export import Graph
from hashing.training.sequences.networks import POOLED, EmbeddingHead, Trunk

Floats = npt.NDArray[np.float32]


def trunk_graph(trunk: Trunk) -> bytes:
    """Standardised frames [t, bins] → features [t // 8, n] and responses [t // 8, 32].

    Weights are stored as float16 and cast once when the graph is loaded. What normalises batches
    is folded into the convolutions, and the responses are as before the tanh: their signs are all
    that a code keeps.
    """
    graph = Graph()
    bins = trunk.size.bins
    value = graph.add("Transpose", ["frames"], "turned", perm=[1, 0])
    value = graph.add("Reshape", [value, graph.shape(1, bins, -1)], "channels")
    features = bins
    for number, layer in enumerate(trunk.convolve):
        if isinstance(layer, torch.nn.MaxPool1d):
            shape = {"kernel_shape": [POOLED], "strides": [POOLED]}
            value = graph.add("MaxPool", [value], f"pooled_{number}", **shape)
            continue
        assert isinstance(layer, torch.nn.Sequential)
        weight, bias = _folded(layer[0], layer[1])
        names = [graph.weight(f"kernel_{number}", weight), graph.weight(f"bias_{number}", bias)]
        around = weight.shape[2] // 2
        value = graph.add("Conv", [value, *names], f"sum_{number}", pads=[around, around])
        value = graph.add("Relu", [value], f"layer_{number}")
        features = len(bias)
    value = graph.add("Reshape", [value, graph.shape(features, -1)], "columns")
    value = graph.add("Transpose", [value], "features", perm=[1, 0])
    hash_layer = _array(trunk.hash.weight)[:, :, 0].T, _array(_bias(trunk.hash))
    graph.linear(value, "hash", hash_layer, "responses")
    ends = [("features", features), ("responses", trunk.size.bits)]
    return graph.serialise("sequences", "frames", bins, ends)


def embedding_graph(head: EmbeddingHead) -> bytes:
    """Features [steps, n] of a window → embedding [1, d] of length one."""
    graph = Graph()
    first, last = head.dense[0], head.dense[2]
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(last, torch.nn.Linear)
    value = "features"
    if head.attention.energy is None:
        value = graph.add("ReduceMean", [value], "mean", axes=[0], keepdims=1)
    else:
        energy = head.attention.energy
        assert isinstance(energy, torch.nn.Sequential)
        inner = graph.linear(value, "energy", _linear(energy[0]), "inner")
        inner = graph.add("Tanh", [inner], "bounded")
        direction = graph.weight("direction", _array(energy[2].weight).T)  # type: ignore[arg-type]
        energies = graph.add("MatMul", [inner, direction], "energies")
        weights = graph.add("Softmax", [energies], "weights", axis=0)
        weighted = graph.add("Mul", [value, weights], "weighted")
        value = graph.add("ReduceSum", [weighted, graph.shape(0)], "mean", keepdims=1)
    value = graph.linear(value, "hidden", _linear(first), "sum")
    value = graph.add("Relu", [value], "layer")
    value = graph.linear(value, "project", _linear(last), "projected")
    ends = graph.normalise(value, last.out_features)[:1]
    return graph.serialise("embedding", "features", first.in_features, ends)


def export(
    folder: Path,
    trunk: Trunk,
    head: EmbeddingHead,
    settings: Mapping[str, Any],
    card: str,
) -> Model:
    """Write the model folder; `settings` go into its ``config.json``."""
    features = SequenceFeatures(
        downsampling=trunk.size.downsampling,
        dimensions=head.dense[-1].out_features,  # type: ignore[arg-type]
    )
    arrays = {}
    for name, side in trunk.sides.items():
        arrays[f"{name}.mean"] = _array(side.mean)  # type: ignore[arg-type]
        arrays[f"{name}.deviation"] = _array(side.deviation)  # type: ignore[arg-type]
    config = {
        "kind": SEQUENCE_KIND,
        "bits": BITS,
        "features": dataclasses.asdict(features),
        **settings,
    }
    graphs = {"trunk": trunk_graph(trunk), "embedding": embedding_graph(head)}
    return save_model(folder, config, graphs, arrays, card)


def _folded(layer: Any, norm: Any) -> tuple[Floats, Floats]:
    """A convolution with what normalises its batches, which is a scale and a shift afterwards."""
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return _array(layer.weight * gain[:, None, None]), _array(norm.bias - norm.running_mean * gain)


def _linear(layer: Any) -> tuple[Floats, Floats]:
    return _array(layer.weight).T, _array(layer.bias)


def _bias(layer: torch.nn.Conv1d) -> torch.Tensor:
    assert layer.bias is not None
    return layer.bias


def _array(value: torch.Tensor) -> Floats:
    return np.ascontiguousarray(value.detach().cpu().float().numpy())
