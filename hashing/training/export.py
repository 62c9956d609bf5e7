"""Trained weights become ONNX graphs, built node by node so that they hold nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# The opset of 2021, which every ONNX Runtime of the last years runs.
OPSET = 15


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
