"""Networks that tell artists apart as ONNX graphs, in the way of `hashing.training.export`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.training.artists.networks import (
    CENTRE,
    CLASSIFIER_POOLS,
    POOL_STRIDES,
    SPREAD,
    AnyNetwork,
    ArtistClassifier,
    ArtistNetwork,
    compression_line,
    length_padding,
    pool_padding,
)
from hashing.training.export import Graph, folded

Floats = npt.NDArray[np.float32]


def artist_graph(network: AnyNetwork) -> bytes:
    """The network as one graph: segments [n, bands * frames] → embedding [n, d] of length one.

    Segments are in dB re full scale, all frames of the first band first. Weights are stored as
    float16 and cast once when the graph is loaded; what is computed is float32.
    """
    graph = Graph()
    if isinstance(network, ArtistClassifier):
        value, dimensions = _classifier(graph, network)
    else:
        value, dimensions = _network(graph, network)
    outputs = graph.normalise(value, dimensions)[:1]
    return graph.serialise("artists", "segments", network.bands * network.frames, outputs)


def _network(graph: Graph, network: ArtistNetwork) -> tuple[str, int]:
    value = _compressed(graph, 1, network.bands, network.frames)
    for i, (layer, stride) in enumerate(zip(network.convolutions, POOL_STRIDES, strict=True)):
        weights = [
            graph.weight(f"kernel_{i}", _array(layer.weight)),
            graph.weight(f"bias_{i}", _array(layer.bias)),
        ]
        value = graph.add("Conv", [value, *weights], f"sum_{i}", pads=[1, 1, 1, 1])
        value = graph.add("Relu", [value], f"layer_{i}")
        pads = [pool_padding(stride)] * 4
        shape = {"kernel_shape": [3, 3], "strides": [stride, stride], "pads": pads}
        value = graph.add("MaxPool", [value], f"pool_{i}", **shape)
    # [n, channels, bands, frames]
    axis = 3 if network.averaging == "time" else 1
    value = graph.add("ReduceMean", [value], "mean", axes=[axis], keepdims=0)
    value = graph.add("Flatten", [value], "features", axis=1)
    dense = _array(network.project.weight).T, _array(network.project.bias)
    value = graph.linear(value, "projection", dense, "projected")
    return graph.add("Tanh", [value], "bounded"), network.project.out_features


def _classifier(graph: Graph, network: ArtistClassifier) -> tuple[str, int]:
    value, width = _compressed(graph, network.bands, network.frames), 0
    layers = zip(network.convolutions, network.norms, (*CLASSIFIER_POOLS, 1), strict=True)
    for i, (layer, norm, pool) in enumerate(layers):
        weight, bias = folded(layer, norm)
        names = [graph.weight(f"kernel_{i}", weight), graph.weight(f"bias_{i}", bias)]
        pads = list(length_padding(weight.shape[2]))
        value = graph.add("Conv", [value, *names], f"sum_{i}", pads=pads)
        value = graph.add("Relu", [value], f"layer_{i}")
        if pool > 1:
            shape = {"kernel_shape": [pool], "strides": [pool]}
            value = graph.add("MaxPool", [value], f"pool_{i}", **shape)
        width = bias.size
    return graph.add("ReduceMean", [value], "mean", axes=[2], keepdims=0), width


def _compressed(graph: Graph, *shape: int) -> str:
    """`hashing.training.artists.networks.compress`, around zero; [n, *shape]."""
    value = graph.add("Reshape", ["segments", graph.shape(-1, *shape)], "levels")
    slope, offset = compression_line()
    # Not as float16: these numbers are not learned, and all levels stand on them.
    numbers = {"slope": slope, "offset": offset, "centre": CENTRE, "spread": SPREAD}
    names = {
        name: graph.constant(name, np.array(number, dtype=np.float32))
        for name, number in numbers.items()
    }
    value = graph.add("Mul", [value, names["slope"]], "scaled")
    value = graph.add("Softplus", [graph.add("Add", [value, names["offset"]], "line")], "log")
    return graph.add(
        "Div", [graph.add("Sub", [value, names["centre"]], "off"), names["spread"]], "x"
    )


def _array(value: Any) -> Floats:
    return np.ascontiguousarray(value.detach().cpu().numpy())
