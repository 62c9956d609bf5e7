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
from hashing.sequences import BITS, SIDES, SequenceFeatures
from hashing.training.export import Graph, folded
from hashing.training.sequences.networks import (
    POOLED,
    Attention,
    EmbeddingNetwork,
    EmbeddingPair,
    HashNetwork,
    Standardise,
)
from hashing.training.sequences.settings import Head, Network
from hashing.training.sequences.trunk import EmbeddingHead, Trunk

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
        weight, bias = folded(layer[0], layer[1])
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
    value = _attended(graph, "features", head.attention)
    value = graph.linear(value, "hidden", _linear(first), "sum")
    value = graph.add("Relu", [value], "layer")
    value = graph.linear(value, "project", _linear(last), "projected")
    ends = graph.normalise(value, last.out_features)[:1]
    return graph.serialise("embedding", "features", first.in_features, ends)


def published_hash_graph(network: HashNetwork) -> bytes:
    """Standardised frames [t, bins] → responses [t // 8, 32], as published."""
    graph = Graph()
    bins = network.standardise.mean.numel()
    value = graph.add("Reshape", ["frames", graph.shape(1, 1, -1, bins)], "image")
    value, channels = _convolved(graph, value, network.convolve)
    value = graph.add("Transpose", [value], "steps", perm=[0, 2, 1, 3])
    value = graph.add("Reshape", [value, graph.shape(-1, channels * bins)], "flat")
    _layers(graph, value, network.dense, "responses")
    return graph.serialise("sequences", "frames", bins, [("responses", BITS)])


def published_embedding_graph(network: EmbeddingNetwork) -> bytes:
    """Standardised frames [t, bins] of a window → embedding [1, d], of length one."""
    graph = Graph()
    bins = network.standardise.mean.numel()
    value = graph.add("Reshape", ["frames", graph.shape(1, 1, -1, bins)], "image")
    value, channels = _convolved(graph, value, network.convolve)
    value = graph.add("Transpose", [value], "steps", perm=[0, 2, 1, 3])
    width = channels * (bins // 2)
    value = graph.add("Reshape", [value, graph.shape(-1, width)], "flat")
    value = _attended(graph, value, network.attention)
    last = network.dense[-1]
    assert isinstance(last, torch.nn.Linear)
    value = graph.add("Tanh", [_layers(graph, value, network.dense, "sum")], "bounded")
    ends = graph.normalise(value, last.out_features)[:1]
    return graph.serialise("embedding", "frames", bins, ends)


def _convolved(graph: Graph, value: str, layers: torch.nn.Sequential) -> tuple[str, int]:
    """Convolutions and poolings of an image [1, 1, t, bins]; the value and its channels."""
    channels = 1
    for number, layer in enumerate(layers):
        if isinstance(layer, torch.nn.Conv2d):
            names = [
                graph.weight(f"kernel_{number}", _array(layer.weight)),
                graph.weight(f"bias_{number}", _array(_bias(layer))),
            ]
            value = graph.add("Conv", [value, *names], f"sum_{number}", pads=[1, 1, 1, 1])
            channels = layer.out_channels
        elif isinstance(layer, torch.nn.MaxPool2d):
            sides = layer.kernel_size if isinstance(layer.kernel_size, tuple) else [POOLED] * 2
            shape = {"kernel_shape": list(sides), "strides": list(sides)}
            value = graph.add("MaxPool", [value], f"pooled_{number}", **shape)
        else:
            value = graph.add("Relu", [value], f"layer_{number}")
    return value, channels


def _layers(graph: Graph, value: str, layers: torch.nn.Sequential, output: str) -> str:
    """Dense layers with a ReLU between them."""
    for number, layer in enumerate(layers):
        if isinstance(layer, torch.nn.Linear):
            name = output if number == len(layers) - 1 else f"dense_{number}"
            value = graph.linear(value, f"weight_{number}", _linear(layer), name)
        else:
            value = graph.add("Relu", [value], f"active_{number}")
    return value


def _attended(graph: Graph, value: str, attention: Attention) -> str:
    """The mean [1, n] of steps [t, n], weighted by what each holds."""
    if attention.energy is None:
        return graph.add("ReduceMean", [value], "mean", axes=[0], keepdims=1)
    energy = attention.energy
    assert isinstance(energy, torch.nn.Sequential)
    inner = graph.linear(value, "energy", _linear(energy[0]), "inner")
    inner = graph.add("Tanh", [inner], "bounded_energy")
    direction = graph.weight("direction", _array(energy[2].weight).T)  # type: ignore[arg-type]
    energies = graph.add("MatMul", [inner, direction], "energies")
    weights = graph.add("Softmax", [energies], "weights", axis=0)
    weighted = graph.add("Mul", [value, weights], "weighted")
    return graph.add("ReduceSum", [weighted, graph.shape(0)], "mean", keepdims=1)


def graphs_of(network: Network, head: Head) -> dict[str, bytes]:
    """The graphs of a model folder, by name: a side's own, or those that both share."""
    if isinstance(network, Trunk):
        assert isinstance(head, EmbeddingHead)
        return {"trunk": trunk_graph(network), "embedding": embedding_graph(head)}
    assert isinstance(head, EmbeddingPair)
    found: dict[str, bytes] = {}
    for side in SIDES:
        hashes, embeddings = network.sides[side], head.sides[side]
        assert isinstance(hashes, HashNetwork)
        assert isinstance(embeddings, EmbeddingNetwork)
        found[side] = published_hash_graph(hashes)
        found[f"{side}_embedding"] = published_embedding_graph(embeddings)
    return found


def statistics_of(network: Network) -> dict[str, Floats]:
    """Mean and deviation of the frames of each side, as arrays of a model folder."""
    found = {}
    for name, side in network.sides.items():
        standardise = side.standardise if isinstance(side, HashNetwork) else side
        assert isinstance(standardise, Standardise)
        found[f"{name}.mean"] = _array(standardise.mean)
        found[f"{name}.deviation"] = _array(standardise.deviation)
    return found


def export(
    folder: Path,
    network: Network,
    head: Head,
    settings: Mapping[str, Any],
    card: str,
    score: str = "rendered",
) -> Model:
    """Write the model folder; `settings` go into its ``config.json``, `score` into its features."""
    features = SequenceFeatures(
        downsampling=network.size.downsampling, dimensions=head.dimensions, score=score
    )
    arrays = statistics_of(network)
    config = {
        "kind": SEQUENCE_KIND,
        "bits": BITS,
        "features": dataclasses.asdict(features),
        **settings,
    }
    return save_model(folder, config, graphs_of(network, head), arrays, card)


def _linear(layer: Any) -> tuple[Floats, Floats]:
    return _array(layer.weight).T, _array(layer.bias)


def _bias(layer: torch.nn.Conv1d | torch.nn.Conv2d) -> torch.Tensor:
    assert layer.bias is not None
    return layer.bias


def _array(value: torch.Tensor) -> Floats:
    return np.ascontiguousarray(value.detach().cpu().float().numpy())
