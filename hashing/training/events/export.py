"""Trained clip encoders and quantizers as ONNX graphs and model folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashing.features import FeatureConfig
from hashing.training.events.networks import STRIDES, ClipEncoder
from hashing.training.export import RESPONSES, Convolution, Graph

Floats = npt.NDArray[np.float32]
Layers = Sequence[tuple[Floats, Floats]]

# Arrays of a model folder that hold the network, for whoever trains it further.
PREFIX = "network."


def clip_graph(network: ClipEncoder, config: FeatureConfig, wide: bool, head: Layers = ()) -> bytes:
    """Snippets [n, bands * frames] → ``embedding`` [n, d] of length one, and ``norm``.

    Args:
      wide: the wide embedding.
      head: layers on the embedding, with a ReLU between them, that make ``responses`` of length
        one.
    """
    graph = Graph()
    image = graph.shape(-1, 1, config.n_bands, config.snippet_frames)
    value = graph.convolve(graph.add("Reshape", ["snippets", image], "image"), _layers(network))
    mean = graph.add("ReduceMean", [value], "mean", axes=[3], keepdims=0)
    most = graph.add("ReduceMax", [value], "most", axes=[3], keepdims=0)
    parts = [graph.add("Flatten", [one], f"{one}_flat", axis=1) for one in (mean, most)]
    pooled = graph.add("Concat", parts, "pooled", axis=1)
    gain, shift = _balance(network)
    scaled = graph.add("Mul", [pooled, graph.constant("gain", gain)], "scaled")
    value = graph.add("Add", [scaled, graph.constant("shift", shift)], "balanced")
    size = network.wide
    if not wide:
        value = graph.linear(value, "narrow", _linear(network.narrow), "projected")
        size = network.narrow.out_features
    outputs = graph.normalise(value, size)
    if head:
        value = "embedding"
        for number, layer in enumerate(head):
            value = graph.linear(value, f"head_{number}", layer, f"head_sum_{number}")
            if number < len(head) - 1:
                value = graph.add("Relu", [value], f"head_{number}_on")
        length = graph.add("ReduceL2", [value], "head_length", axes=[1], keepdims=1)
        tiny = graph.constant("head_tiny", np.array(1e-12, dtype=np.float32))
        graph.add("Div", [value, graph.add("Max", [length, tiny], "head_norm")], RESPONSES)
        outputs.insert(0, (RESPONSES, head[-1][1].size))
    return graph.serialise("clips", "snippets", config.n_bands * config.snippet_frames, outputs)


def network_arrays(network: ClipEncoder) -> dict[str, npt.NDArray[Any]]:
    """The network's weights in half precision, by their names behind `PREFIX`."""
    return {
        f"{PREFIX}{name}": value.detach().cpu().numpy().astype(np.float16)
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }


def network_from(
    arrays: Mapping[str, npt.NDArray[Any]], bands: int, dimensions: int
) -> ClipEncoder:
    """The network of `network_arrays`; raises ValueError where arrays are missing or do not fit."""
    network = ClipEncoder(bands, dimensions)
    state = network.state_dict()
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        found = arrays.get(PREFIX + name)
        if found is None or found.shape != tuple(value.shape):
            raise ValueError(f"lacks the array {PREFIX + name} of shape {tuple(value.shape)}")
        state[name] = torch.from_numpy(np.asarray(found, np.float32))
    network.load_state_dict(state)
    return network.eval()


def as_exported(network: ClipEncoder) -> ClipEncoder:
    """The network with its weights as a model folder has them, in half precision."""
    return network_from(network_arrays(network), network.bands, network.narrow.out_features)


def _array(value: torch.Tensor) -> Floats:
    return np.asarray(value.detach().cpu().numpy(), np.float32)


def _linear(layer: torch.nn.Linear) -> tuple[Floats, Floats]:
    return _array(layer.weight).T, _array(layer.bias)


def _balance(network: ClipEncoder) -> tuple[Floats, Floats]:
    norm = network.balance
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = 1 / np.sqrt(_array(norm.running_var) + np.float32(norm.eps))
    return gain, -_array(norm.running_mean) * gain


def _layers(network: ClipEncoder) -> list[Convolution]:
    layers = []
    for number, stride in enumerate(STRIDES):
        convolution, norm = network.trunk[3 * number], network.trunk[3 * number + 1]
        assert isinstance(convolution, torch.nn.Conv2d)
        assert isinstance(norm, torch.nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = _array(norm.weight) / np.sqrt(_array(norm.running_var) + np.float32(norm.eps))
        shift = _array(norm.bias) - _array(norm.running_mean) * gain
        weight = _array(convolution.weight) * gain[:, None, None, None]
        layers.append(Convolution(weight, shift, stride, (1, 1)))
    return layers
