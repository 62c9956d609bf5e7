"""Trained weights become ONNX graphs, built node by node so that they hold nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.track_fronts import Reach
from hashing.training.foreign import reads

Floats = npt.NDArray[np.float32]

# The opset of 2021, which every ONNX Runtime of the last years runs.
OPSET = 15

RESPONSES = "responses"  # name of the output that a quantizer makes codes of


def ensemble_graph(
    front: Floats, first: tuple[Floats, Floats], second: Sequence[Floats], bias: Floats
) -> bytes:
    """The forgiving-hash ensemble as one graph: snippets [n, inputs] → responses [n, outputs].

    Args:
      front: linear front, [inputs, components].
      first: weight [components, hidden] and bias [hidden] of all networks side by side.
      second: block-diagonal second layers by chunk of networks, each [hidden of the chunk, outputs
        of the chunk]; the chunks follow one another in `hidden`.
      bias: [outputs].

    Weights are stored as float16, half the bytes, and cast once when the graph is loaded.
    """
    graph = Graph()
    value = graph.add("MatMul", ["snippets", graph.weight("front", front)], "projected")
    hidden = graph.add("Tanh", [graph.linear(value, "first", first, "sum")], "hidden")
    parts = [f"hidden_{i}" for i in range(len(second))]
    graph.split(hidden, [chunk.shape[0] for chunk in second], parts)
    outs = [
        graph.add("MatMul", [part, graph.weight(f"second_{i}", chunk)], f"out_{i}")
        for i, (part, chunk) in enumerate(zip(parts, second, strict=True))
    ]
    joined = graph.add("Concat", outs, "joined", axis=1)
    graph.add("Add", [joined, graph.weight("bias", bias)], RESPONSES)
    return graph.serialise("forgiving", "snippets", front.shape[0], [(RESPONSES, bias.size)])


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with what follows it folded in: weight [out, in, kh, kw] and bias [out]."""

    weight: Floats
    bias: Floats
    strides: tuple[int, int]
    padding: tuple[int, int]


def encoder_graph(
    bands: int,
    frames: int,
    layers: Sequence[Convolution],
    project: tuple[Floats, Floats],
    head: tuple[Floats, Floats] | None = None,
) -> bytes:
    """A convolutional encoder: snippets [n, bands * frames] → embedding [n, d] of length one.

    A second output, ``norm`` [n, 1], is the length that the embedding had before.

    Args:
      layers: each followed by a ReLU.
      project: weight [features, d] and bias [d].
      head: weight [d, bits] and bias [bits] of the second output, ``responses`` [n, bits].

    Weights are stored as float16, half the bytes, and cast once when the graph is loaded.
    """
    graph = Graph()
    image = graph.add("Reshape", ["snippets", graph.shape(-1, 1, bands, frames)], "image")
    value = graph.add("Flatten", [graph.convolve(image, layers)], "features", axis=1)
    value = graph.linear(value, "projection", project, "projected")
    outputs = graph.normalise(value, project[1].size)
    if head is not None:
        graph.linear("embedding", "head", head, RESPONSES)
        outputs.insert(0, (RESPONSES, head[1].size))
    return graph.serialise("encoder", "snippets", bands * frames, outputs)


def track_graph(
    bands: int, layers: Sequence[Convolution], project: tuple[Floats, Floats], reach: Reach
) -> bytes:
    """An encoder of all snippets of a spectrogram: [frames, bands] → embedding [n, d], ``norm``.

    Args:
      layers: each followed by a ReLU.
      project: kernel [d, channels, bands, columns] over what the layers make, and bias [d].
      reach: of the snippets; the graph's metadata tells it (`hashing.track_fronts`).
    """
    graph = Graph()
    image = graph.add("Transpose", ["spectrogram"], "turned", perm=[1, 0])
    image = graph.add("Reshape", [image, graph.shape(1, 1, bands, -1)], "image")
    kernel, bias = project
    value = graph.convolve(image, layers)
    inputs = [value, graph.weight("projection", kernel), graph.weight("projection_bias", bias)]
    value = graph.add("Conv", inputs, "columns")
    value = graph.add("Reshape", [value, graph.shape(bias.size, -1)], "rows")
    value = graph.add("Transpose", [value], "answers", perm=[1, 0])
    # The first and the last answer are of what is around the snippets.
    ends = [graph.shape(1, name="first"), graph.shape(-1, name="last"), graph.shape(0, name="axis")]
    value = graph.add("Slice", [value, *ends], "projected")
    outputs = graph.normalise(value, bias.size)
    return graph.serialise("encoder", "spectrogram", bands, outputs, dataclasses.asdict(reach))


class Graph:
    """A graph in the making: nodes, and the tensors that they read."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node of one output; the output's name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """A tensor; its name."""
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str, value: Floats) -> str:
        """A tensor that is stored as float16."""
        from onnx import TensorProto

        half = self.constant(f"{name}_half", value.astype(np.float16))
        return self.add("Cast", [half], name, to=TensorProto.FLOAT)

    def shape(self, *sizes: int, name: str = "") -> str:
        """A tensor of sizes."""
        return self.constant(name or f"shape_{len(self.tensors)}", np.array(sizes, dtype=np.int64))

    def linear(self, value: str, name: str, layer: tuple[Floats, Floats], output: str) -> str:
        """``value @ weight + bias``."""
        weight, bias = self.weight(name, layer[0]), self.weight(f"{name}_bias", layer[1])
        return self.add("Gemm", [value, weight, bias], output)

    def split(self, value: str, sizes: Sequence[int], outputs: Sequence[str]) -> None:
        """Columns of a value, so many for each output."""
        from onnx import helper

        inputs = [value, self.shape(*sizes, name="sizes")]
        self.nodes.append(helper.make_node("Split", inputs, list(outputs), axis=1))

    def convolve(self, value: str, layers: Sequence[Convolution]) -> str:
        """Convolutions, each followed by a ReLU."""
        for i, layer in enumerate(layers):
            kernel, bias = f"kernel_{i}", f"bias_{i}"
            inputs = [value, self.weight(kernel, layer.weight), self.weight(bias, layer.bias)]
            pads = [*layer.padding, *layer.padding]
            value = self.add("Conv", inputs, f"sum_{i}", strides=list(layer.strides), pads=pads)
            value = self.add("Relu", [value], f"layer_{i}")
        return value

    def normalise(self, value: str, dimensions: int) -> list[tuple[str, int]]:
        """The outputs ``embedding``, of length one, and ``norm``, what it was before."""
        length = self.add("ReduceL2", [value], "root", axes=[1], keepdims=1)
        tiny = self.constant("tiny", np.array(1e-12, dtype=np.float32))
        self.add("Div", [value, self.add("Max", [length, tiny], "norm")], "embedding")
        return [("embedding", dimensions), ("norm", 1)]

    def serialise(
        self,
        name: str,
        source: str,
        width: int,
        outputs: Sequence[tuple[str, int]],
        metadata: Mapping[str, int] | None = None,
    ) -> bytes:
        """The model, with one input [n, width]."""
        import onnx
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["n", width])],
            [
                helper.make_tensor_value_info(end, TensorProto.FLOAT, ["answers", size])
                for end, size in outputs
            ],
            self.tensors,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        helper.set_model_props(model, {key: str(value) for key, value in (metadata or {}).items()})
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def folded(layer: Any, norm: Any) -> tuple[Floats, Floats]:
    """A convolution over time with what normalises its batches: a scale and a shift afterwards.

    Args:
      layer: a torch convolution without a bias of its own, weight [out, in, width].
      norm: the normalisation of its outputs, as it is after training.

    Returns:
      weight and bias [out].
    """
    state = {name: value.detach().cpu().numpy() for name, value in norm.state_dict().items()}
    gain = state["weight"] / np.sqrt(state["running_var"] + np.float32(norm.eps))
    weight = layer.weight.detach().cpu().numpy() * gain[:, None, None]
    return weight, state["bias"] - state["running_mean"] * gain


def append_linear(encoder: bytes, weights: Floats, bias: Floats) -> bytes:
    """An encoder's graph with ``responses = embedding @ weights + bias`` as its first output.

    Args:
      encoder: a graph with an output ``embedding`` [n, d]; its own ``responses`` are taken off.
      weights: [d, r]; `bias`: [r].
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(encoder)
    graph = model.graph
    embedding = [end for end in graph.output if end.name != RESPONSES]
    del graph.output[:]
    # The old head goes with its weights: their names must not meet those of the new one.
    needed = {end.name for end in embedding}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= reads(node)
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)
    for name, value in (("linear", weights), ("linear_bias", bias)):
        half = numpy_helper.from_array(np.asarray(value, dtype=np.float16), f"{name}_half")
        graph.initializer.append(half)
        graph.node.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Gemm", ["embedding", "linear", "linear_bias"], [RESPONSES]))
    # As many rows as the embedding has, which are fewer than frames where a track is heard.
    rows = embedding[0].type.tensor_type.shape.dim[0].dim_param or "n"
    end = helper.make_tensor_value_info(RESPONSES, TensorProto.FLOAT, [rows, int(bias.size)])
    graph.output.extend([end, *embedding])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
