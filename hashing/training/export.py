"""Trained weights become ONNX graphs, built node by node so that they hold nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, initialisers = [], []

    def weight(name: str, value: Floats) -> str:
        initialisers.append(numpy_helper.from_array(value.astype(np.float16), f"{name}_half"))
        nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
        return name

    nodes.append(helper.make_node("MatMul", ["snippets", weight("front", front)], ["projected"]))
    nodes.append(
        helper.make_node(
            "Gemm",
            ["projected", weight("first", first[0]), weight("first_bias", first[1])],
            ["sum"],
        )
    )
    nodes.append(helper.make_node("Tanh", ["sum"], ["hidden"]))
    sizes = np.array([chunk.shape[0] for chunk in second], dtype=np.int64)
    initialisers.append(numpy_helper.from_array(sizes, "sizes"))
    parts = [f"hidden_{i}" for i in range(len(second))]
    nodes.append(helper.make_node("Split", ["hidden", "sizes"], parts, axis=1))
    outs = []
    for i, chunk in enumerate(second):
        outs.append(f"out_{i}")
        nodes.append(
            helper.make_node("MatMul", [parts[i], weight(f"second_{i}", chunk)], [outs[i]])
        )
    nodes.append(helper.make_node("Concat", outs, ["joined"], axis=1))
    nodes.append(helper.make_node("Add", ["joined", weight("bias", bias)], ["responses"]))
    graph = helper.make_graph(
        nodes,
        "forgiving",
        [helper.make_tensor_value_info("snippets", TensorProto.FLOAT, ["n", front.shape[0]])],
        [helper.make_tensor_value_info("responses", TensorProto.FLOAT, ["n", bias.size])],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


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
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, initialisers = [], []

    def weight(name: str, value: Floats) -> str:
        initialisers.append(numpy_helper.from_array(value.astype(np.float16), f"{name}_half"))
        nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    shape = np.array([-1, 1, bands, frames], dtype=np.int64)
    initialisers.append(numpy_helper.from_array(shape, "image_shape"))
    value = add("Reshape", ["snippets", "image_shape"], "image")
    for i, layer in enumerate(layers):
        kernel = [value, weight(f"kernel_{i}", layer.weight), weight(f"bias_{i}", layer.bias)]
        pads = [*layer.padding, *layer.padding]
        value = add("Conv", kernel, f"sum_{i}", strides=list(layer.strides), pads=pads)
        value = add("Relu", [value], f"layer_{i}")
    value = add("Flatten", [value], "features", axis=1)
    inputs = [value, weight("projection", project[0]), weight("projection_bias", project[1])]
    value = add("Gemm", inputs, "projected")
    length = add("ReduceL2", [value], "root", axes=[1], keepdims=1)
    initialisers.append(numpy_helper.from_array(np.array(1e-12, dtype=np.float32), "tiny"))
    add("Div", [value, add("Max", [length, "tiny"], "norm")], "embedding")
    outputs = [("embedding", project[1].size), ("norm", 1)]
    if head is not None:
        add("Gemm", ["embedding", weight("head", head[0]), weight("head_bias", head[1])], RESPONSES)
        outputs.insert(0, (RESPONSES, head[1].size))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("snippets", TensorProto.FLOAT, ["n", bands * frames])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", size]) for n, size in outputs],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


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
    end = helper.make_tensor_value_info(RESPONSES, TensorProto.FLOAT, ["n", int(bias.size)])
    graph.output.extend([end, *embedding])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
