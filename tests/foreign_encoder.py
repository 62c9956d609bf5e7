"""Small encoders that somebody else might have made, as ONNX files with every kind of end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hashing.features import FeatureConfig

# An eighth of the cells of the shipped hasher's snippets.
FEATURES = FeatureConfig(n_bands=16, snippet_frames=14, snippet_hop=16)
BANDS, FRAMES = FEATURES.n_bands, FEATURES.snippet_frames
CELLS = BANDS * FRAMES
DIMENSIONS = 16

Node = onnx.NodeProto


def projection(cells: int = CELLS, dimensions: int = DIMENSIONS, seed: int = 1) -> np.ndarray:
    """Random directions, [cells, dimensions]: nearby snippets keep nearby projections."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((cells, dimensions)) / np.sqrt(cells)).astype(np.float32)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Node:
    return helper.make_node(kind, list(inputs), [output], **attributes)


def encoder(
    shape: Sequence[int | str | None] = (BANDS, FRAMES),
    weights: np.ndarray | None = None,
    *,
    opset: int = 15,
    number: int = TensorProto.FLOAT,
    batch: int | str = "n",
    before: Sequence[Node] = (),
    after: Sequence[Node] = (),
    values: dict[str, np.ndarray] | None = None,
    outputs: Sequence[tuple[str, Sequence[int | str]]] | None = None,
    more_inputs: Sequence[str] = (),
    opsets: Sequence[tuple[str, int]] = (),
    functions: Sequence[Any] = (),
) -> onnx.ModelProto:
    """A model of one matrix: ``mel`` of any shape, flattened as it lies, times `weights`.

    `before` makes ``heard`` of ``mel`` (else the same), `after` makes the outputs of ``product``.
    """
    kind = helper.tensor_dtype_to_np_dtype(number)
    weights = projection() if weights is None else weights
    nodes = [*before] if before else [node("Identity", ["mel"], "heard")]
    nodes += [
        node("Flatten", ["heard"], "row", axis=1),
        node("MatMul", ["row", "weights"], "product"),
        *after,
    ]
    found = {"weights": weights.astype(kind), **(values or {})}
    ends = [helper.make_tensor_value_info("mel", number, [batch, *shape])]
    ends += [helper.make_tensor_value_info(name, number, ["n", 1]) for name in more_inputs]
    shapes = outputs or [(nodes[-1].output[0], [batch, weights.shape[1]])]
    graph = helper.make_graph(
        nodes,
        "theirs",
        ends,
        [helper.make_tensor_value_info(name, number, list(size)) for name, size in shapes],
        [numpy_helper.from_array(value, name) for name, value in found.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*pair) for pair in opsets)]
    model = helper.make_model(
        graph, opset_imports=imports, ir_version=8 if opset < 21 else 10, functions=list(functions)
    )
    assert isinstance(model, onnx.ModelProto)
    return model


def written(path: Path, model: onnx.ModelProto | None = None) -> Path:
    """A file of it."""
    path.write_bytes((model or encoder()).SerializeToString())
    return path


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
