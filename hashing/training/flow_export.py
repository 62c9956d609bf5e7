"""The projection and the flow of a balanced hash as ONNX nodes behind an encoder's embedding."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.training.export import RESPONSES

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Layer = tuple[Floats, Floats]  # weight [inputs, outputs] and bias [outputs]

EMBEDDING = "embedding"

# What else an encoder may tell of a snippet, and look-up uses.
NORM = "norm"

# zuko keeps the logarithm s of a scale within ±log(1000) by s / (1 + |s / log(1000)|).
LOG_SCALE_BOUND = math.log(1e3)


@dataclasses.dataclass(frozen=True)
class Coupling:
    """An affine coupling: some coordinates stay, and say how the others are scaled and shifted.

    Attributes:
      kept: numbers of the coordinates that stay, [a].
      moved: numbers of the others, [b].
      hidden: layers from the kept ones, each followed by a ReLU.
      shift: last layer of what is added, to [b].
      log_scale: last layer of the logarithm of the factor before it is bounded, to [b].
    """

    kept: Ints
    moved: Ints
    hidden: tuple[Layer, ...]
    shift: Layer
    log_scale: Layer


@dataclasses.dataclass(frozen=True)
class FlowWeights:
    """Everything that turns an embedding [n, d] into z [n, bits].

    Attributes:
      projection: weight [d, bits] and bias [bits].
      couplings: in the order in which they are applied.
      warp: ``z = warp[0] * u + warp[1] * tanh(warp[2] * u)`` at the end, [3, bits].
    """

    projection: Layer
    couplings: tuple[Coupling, ...]
    warp: Floats


class _Graph:
    """Collects nodes and weights, each under a name that the encoder has not."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.initialisers.append(numpy_helper.from_array(value, f"flow_{name}"))
        return f"flow_{name}"

    def weight(self, name: str, value: Floats) -> str:
        """Stored as float16, half the bytes, and cast once when the graph is loaded."""
        from onnx import TensorProto

        half = self.constant(f"{name}_half", np.asarray(value, dtype=np.float16))
        return self.add("Cast", [half], name, to=TensorProto.FLOAT)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        name = output if output == RESPONSES else f"flow_{output}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def layer(self, value: str, layer: Layer, name: str) -> str:
        weight, bias = (
            self.weight(f"{name}_weight", layer[0]),
            self.weight(f"{name}_bias", layer[1]),
        )
        return self.add("Gemm", [value, weight, bias], f"{name}_sum")

    def pick(self, value: str, columns: Ints, name: str) -> str:
        numbers = self.constant(f"{name}_columns", np.asarray(columns, dtype=np.int64))
        return self.add("Gather", [value, numbers], name, axis=1)


def append_flow(encoder: bytes, weights: FlowWeights) -> bytes:
    """An encoder's graph with the flow behind it: ``responses`` = z [n, bits], and its embedding.

    Args:
      encoder: a graph with an output ``embedding`` [n, d], and perhaps ``norm``; its other outputs,
        and what only they need, are taken off.

    Raises:
      ValueError: there is no such output, or it has another size than the projection takes.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(encoder)
    inputs, bits = weights.projection[0].shape
    embedding = [end for end in model.graph.output if end.name == EMBEDDING]
    sizes = [end.type.tensor_type.shape.dim[1].dim_value for end in embedding]
    if sizes != [inputs]:
        raise ValueError(f"the encoder has embeddings of {sizes}, the flow takes [{inputs}]")
    kept = [end for end in model.graph.output if end.name in (EMBEDDING, NORM)]
    _keep_only(model.graph, {end.name for end in kept})
    added = _flow(weights)
    model.graph.initializer.extend(added.initialisers)
    model.graph.node.extend(added.nodes)
    del model.graph.output[:]
    rows = kept[0].type.tensor_type.shape.dim[0].dim_param or "n"
    end = helper.make_tensor_value_info(RESPONSES, TensorProto.FLOAT, [rows, bits])
    model.graph.output.extend([end, *kept])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _flow(weights: FlowWeights) -> _Graph:
    graph = _Graph()
    bound = graph.constant("bound", np.array([1.0 / LOG_SCALE_BOUND], dtype=np.float32))
    one = graph.constant("one", np.array([1.0], dtype=np.float32))
    value = graph.layer(EMBEDDING, weights.projection, "projection")
    # Kept and moved coordinates are joined as they come out; where each stands now is kept here.
    place = np.arange(weights.projection[1].size)
    for i, coupling in enumerate(weights.couplings):
        name = f"coupling_{i}"
        kept = graph.pick(value, place[coupling.kept], f"{name}_kept")
        moved = graph.pick(value, place[coupling.moved], f"{name}_moved")
        hidden = kept
        for j, layer in enumerate(coupling.hidden):
            summed = graph.layer(hidden, layer, f"{name}_layer_{j}")
            hidden = graph.add("Relu", [summed], f"{name}_hidden_{j}")
        shift = graph.layer(hidden, coupling.shift, f"{name}_shift")
        raw = graph.layer(hidden, coupling.log_scale, f"{name}_scale")
        size = graph.add("Abs", [raw], f"{name}_abs")
        share = graph.add("Mul", [size, bound], f"{name}_share")
        divisor = graph.add("Add", [share, one], f"{name}_divisor")
        log_scale = graph.add("Div", [raw, divisor], f"{name}_log_scale")
        scale = graph.add("Exp", [log_scale], f"{name}_factor")
        scaled = graph.add("Mul", [moved, scale], f"{name}_scaled")
        shifted = graph.add("Add", [scaled, shift], f"{name}_shifted")
        value = graph.add("Concat", [kept, shifted], name, axis=1)
        place = np.argsort(np.concatenate((coupling.kept, coupling.moved)))
    value = graph.pick(value, place, "ordered")
    linear, height, steepness = (
        graph.weight(f"warp_{name}", row)
        for name, row in zip(("linear", "height", "steepness"), weights.warp, strict=True)
    )
    straight = graph.add("Mul", [value, linear], "straight")
    steep = graph.add("Mul", [value, steepness], "steep")
    bent = graph.add("Mul", [graph.add("Tanh", [steep], "bend"), height], "bent")
    graph.add("Add", [straight, bent], RESPONSES)
    return graph


def _keep_only(graph: Any, outputs: set[str]) -> None:
    """Take off the nodes and weights that `outputs` do not need."""
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    initialisers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(initialisers)
