"""An encoder that was made elsewhere gets the ends of ours.

Nodes in front lay a snippet out as the encoder takes it, nodes behind make its answer an embedding
of length one; what it answers to trial snippets tells whether it can be used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError, UsageError
from hashing.features import FeatureConfig
from hashing.fronts import Answer, Front, session_of
from hashing.training.arrangement import Arrangement, arrange
from hashing.training.foreign import (
    HIGHEST_IR_VERSION,
    LOWEST_IR_VERSION,
    Source,
    batch_of,
    choose_output,
    first_line,
    inputs_of,
    needed_nodes,
    require_onnx,
    sizes_of,
    subgraphs,
)

Floats = npt.NDArray[np.float32]

# Numbers of an embedding. With less than 8 there are too few signs to make keys of; 4,096 take 8 KB
# for every snippet of an index that keeps them.
DIMENSIONS = (8, 4096)

# Snippets that an encoder is tried with, and by how much its answer to one, of length one, may
# depend on the others beside it: products of half precision are rounded at 1e-3.
TRIAL_SNIPPETS = 3
TRIAL_TOLERANCE = 5e-3

# Largest batch, of those that an encoder may have been exported with, that is tried: 500 MB of the
# largest snippets that anybody takes (a million cells).
MOST_TRIED = 128

TINY = 1e-12  # added to lengths, so that nothing is divided by zero

PREFIX = "encoder/"  # of every name in the encoder's own graph: none can meet one of ours

EMBEDDING = "embedding"


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """An encoder with the ends of ours.

    Attributes:
      source: what it was made of.
      input, output: names of the tensors of `source` that were taken.
      arrangement: how a snippet is laid out for it.
      dimensions: numbers that the encoder answers with.
    """

    source: Source
    input: str
    output: str
    arrangement: Arrangement
    dimensions: int

    def graph(self, mean: Floats | None = None) -> bytes:
        """Snippets [n, bands * frames] → ``embedding`` [n, dimensions] and ``norm`` [n, 1].

        The norm is the length of the encoder's own answer.

        Args:
          mean: [dimensions], taken off the embeddings after they were made one; they are made one
            again. Unrelated snippets are then about 0 alike, as `hashing.quantizers.Quantizer`
            asks, whatever all answers of the encoder have in common.
        """
        return _build(self, mean)


def wrap(
    source: Source, features: FeatureConfig, input: str = "", output: str = "", layout: str = ""
) -> Wrapped:
    """An encoder with the ends of ours, tried with a few snippets of noise.

    Args:
      source: the encoder.
      features: of the snippets that it will get.
      input, output: names of tensors; empty for the only one. An output may be any tensor of the
        graph, for example the one in front of a classifier.
      layout: see `hashing.training.arrangement.arrange`; empty to tell it by the input's shape.

    Raises:
      UsageError: a name that is not there, or a choice that has to be made.
      ModelError: an encoder that cannot be used.
    """
    graph, name = source.model.graph, source.name
    output = choose_output(source, output)
    taken = inputs_of(source, output)
    if input and input not in taken:
        known = ", ".join(end.name for end in graph.input) or "none"
        raise UsageError(
            f"--input {input}: {name} makes {output} of {', '.join(taken) or 'nothing'}; its "
            f"inputs are {known}"
        )
    if len(taken) != 1:
        raise ModelError(
            f"{name} makes {output} of {len(taken)} inputs ({', '.join(taken)}): export an encoder "
            "that takes nothing but snippets"
            + (", or name another tensor with --output" if len(graph.output) > 1 else "")
        )
    arrangement = arrange(f"{name}: input {taken[0]}", sizes_of(source, taken[0]), features, layout)
    wrapped = Wrapped(source, taken[0], output, arrangement, 0)
    raw = _try_out(_build(wrapped, None), wrapped)
    wrapped = dataclasses.replace(wrapped, dimensions=raw)
    _check_answers(wrapped)
    return wrapped


def open_encoder(graph: bytes, name: str) -> Front:
    """A graph with the ends of ours as a function of standardised snippets.

    Responses are the embeddings. Raises `ModelError` for a graph that cannot be run.
    """
    session = _session(graph, name)

    def run(values: Floats) -> Answer:
        embeddings, norms = _answers(session, name, ["embedding", "norm"], values)
        return Answer(embeddings, embeddings, norms[:, 0])

    return run


def _build(wrapped: Wrapped, mean: Floats | None) -> bytes:
    """The graph of `Wrapped.graph`; with no ``dimensions`` it only answers ``raw``.

    That is what the encoder says. All nodes are there in every opset of `OPSETS`.
    """
    onnx = require_onnx()
    from onnx import TensorProto, helper, numpy_helper

    source, plan = wrapped.source, wrapped.arrangement
    nodes: list[Any] = []
    weights: list[Any] = []

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def pad(value: str, output: str, ends: Sequence[int]) -> str:
        pads = [0] * len(ends) + list(ends)
        if source.opset < 11:
            return add("Pad", [value], output, pads=pads)
        return add("Pad", [value, constant(f"{output}_pads", np.array(pads, np.int64))], output)

    def length(value: str, output: str) -> str:
        if source.opset < 18:
            found = add("ReduceL2", [value], f"{output}_root", axes=[1], keepdims=1)
        else:
            axes = constant(f"{output}_axes", np.array([1], np.int64))
            found = add("ReduceL2", [value, axes], f"{output}_root", keepdims=1)
        return add("Add", [found, constant(f"{output}_tiny", np.float32(TINY))], output)

    def reshape(value: str, output: str, shape: Sequence[int]) -> str:
        sizes = constant(f"{output}_shape", np.array([-1, *shape], np.int64))
        return add("Reshape", [value, sizes], output)

    value = reshape("snippets", "plane", (plan.bands, plan.frames))
    if plan.missing:
        value = pad(value, "longer", [0, 0, plan.missing])
    if plan.transposed:
        value = add("Transpose", [value], "turned", perm=[0, 2, 1])
    value = reshape(value, "shaped", plan.shape)
    ends = {end.name: end.type.tensor_type for end in source.model.graph.input}
    add("Cast", [value], PREFIX + wrapped.input, to=ends[wrapped.input].elem_type)
    own, read = needed_nodes(source, wrapped.output)
    for node in own:
        nodes.append(_renamed(node))
    raw = add("Cast", [PREFIX + wrapped.output], "raw", to=TensorProto.FLOAT)
    outputs = [helper.make_tensor_value_info("raw", TensorProto.FLOAT, None)]
    if wrapped.dimensions:
        value = reshape(raw, "flat", [wrapped.dimensions])
        value = add(
            "Div", [value, length(value, "norm")], "unit" if mean is not None else EMBEDDING
        )
        if mean is not None:
            centre = constant("mean", np.asarray(mean, np.float32)[None])
            value = add("Sub", [value, centre], "centred")
            add("Div", [value, length(value, "distance")], EMBEDDING)
        sizes = ((EMBEDDING, wrapped.dimensions), ("norm", 1))
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
            for name, size in sizes
        ]
    graph = helper.make_graph(
        nodes,
        "imported",
        [helper.make_tensor_value_info("snippets", TensorProto.FLOAT, ["n", plan.cells])],
        outputs,
        weights,
    )
    _copy_weights(source.model.graph, read, graph)
    version = min(max(source.model.ir_version, LOWEST_IR_VERSION), HIGHEST_IR_VERSION)
    opset = [helper.make_opsetid("", source.opset)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=version)
    if wrapped.dimensions:
        onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _copy_weights(graph: Any, read: set[str], target: Any) -> None:
    for tensor in graph.initializer:
        if tensor.name in read:
            target.initializer.add().CopyFrom(tensor)
            target.initializer[-1].name = PREFIX + tensor.name
            target.initializer[-1].doc_string = ""
    for sparse in graph.sparse_initializer:
        if sparse.values.name in read:
            target.sparse_initializer.add().CopyFrom(sparse)
            target.sparse_initializer[-1].values.name = PREFIX + sparse.values.name


def _renamed(node: Any) -> Any:
    """A copy of a node with `PREFIX` before every name, in its branches too, and no comments.

    Exporters leave the folders of the machine that they ran on in comments.
    """
    copy = type(node)()
    copy.CopyFrom(node)
    _rename(copy)
    return copy


def _rename(node: Any) -> None:
    def renamed(names: Any) -> list[str]:
        return [PREFIX + name if name else "" for name in names]

    node.input[:], node.output[:] = renamed(node.input), renamed(node.output)
    for field in ("name", "doc_string", "metadata_props"):
        if field in node.DESCRIPTOR.fields_by_name:
            node.ClearField(field)
    for graph in subgraphs(node):
        for field in ("value_info", "quantization_annotation", "doc_string"):
            graph.ClearField(field)
        for end in (*graph.input, *graph.output, *graph.initializer):
            end.name = PREFIX + end.name
        for sparse in graph.sparse_initializer:
            sparse.values.name = PREFIX + sparse.values.name
        for inner in graph.node:
            _rename(inner)


def _session(graph: bytes, name: str) -> Any:
    try:
        return session_of(graph)
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise ModelError(
            f"{name} cannot be run on such snippets ({first_line(error)}): give the features that "
            "it was trained with, and the layout of its input, or export it again"
        ) from None


def _answers(session: Any, name: str, outputs: list[str], values: Floats) -> list[Floats]:
    try:
        return list(session.run(outputs, {"snippets": values}))
    except Exception as error:  # as above
        raise ModelError(
            f"{name} fails on {len(values)} snippets ({first_line(error)}): give the features that "
            "it was trained with, and the layout of its input, or export it again"
        ) from None


def _trial(cells: int, snippets: int = TRIAL_SNIPPETS) -> Floats:
    return np.random.default_rng(1).standard_normal((snippets, cells)).astype(np.float32)


def _try_out(graph: bytes, wrapped: Wrapped) -> int:
    """Numbers that the encoder answers each of a few snippets with."""
    name, cells = wrapped.source.name, wrapped.arrangement.cells
    values = _trial(cells)
    session = _session(graph, name)
    try:
        (raw,) = _answers(session, name, ["raw"], values)
    except ModelError:
        _blame_batch(session, wrapped)
        raise
    shape = "×".join(map(str, raw.shape))
    sizes = [size for size in raw.shape[1:] if size != 1]
    if raw.ndim < 2 or raw.shape[0] != len(values) or len(sizes) > 1:
        raise ModelError(
            f"{name} answers {len(values)} snippets with {wrapped.output} of {shape} numbers, an "
            f"encoder with {len(values)}×d: pool over time, or name another tensor with --output"
        )
    given = sizes[0] if sizes else 1
    if not DIMENSIONS[0] <= given <= DIMENSIONS[1]:
        raise ModelError(
            f"{name} answers a snippet with {given} numbers, embeddings have {DIMENSIONS[0]} to "
            f"{DIMENSIONS[1]}: name another tensor with --output, or train it anew"
        )
    return int(given)


def _blame_batch(session: Any, wrapped: Wrapped) -> None:
    """Raises `ModelError` where the encoder takes batches of the size that it was exported with."""
    name = wrapped.source.name
    for size in {1, min(batch_of(wrapped.source, wrapped.input), MOST_TRIED)}:
        try:
            _answers(session, name, ["raw"], _trial(wrapped.arrangement.cells, size))
        except ModelError:
            continue
        raise ModelError(
            f"{name} takes batches of {size} only: export it with a free first dimension "
            f"(torch.onnx.export: dynamic_axes={{{wrapped.input!r}: {{0: 'n'}}}})"
        )


def _check_answers(wrapped: Wrapped) -> None:
    """Raises `ModelError` for answers that are no numbers, or not of the snippet alone."""
    name = wrapped.source.name
    run = open_encoder(wrapped.graph(), name)
    values = _trial(wrapped.arrangement.cells)
    together = run(values)
    silence = run(np.zeros_like(values[:1]))
    for answer, what in ((together, "noise"), (silence, "nothing (all zeros)")):
        assert answer.norms is not None
        if not (np.isfinite(answer.responses).all() and np.isfinite(answer.norms).all()):
            raise ModelError(
                f"{name} answers a snippet of {what} with what is no number: check its weights, "
                "and what it divides by or takes the logarithm of"
            )
    alone = np.concatenate([run(one[None]).responses for one in values])
    if np.abs(alone - together.responses).max() > TRIAL_TOLERANCE:
        raise ModelError(
            f"{name} answers a snippet differently when others are beside it, or every time: "
            "export it in evaluation mode (model.eval()), without dropout"
        )
