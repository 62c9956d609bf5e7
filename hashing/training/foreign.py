"""An encoder that somebody else made, as an ONNX file: read, and checked before it is run.

A file is taken only if it holds nothing but a graph of standard operators with its weights inside,
so that a model folder made of it needs no more than any other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hashing.errors import HashbeamError, ModelError, UsageError
from hashing.models import MAX_FILE_BYTES

# Every ONNX Runtime runs opset 7 and later ones up to its own (its "Versioning" document); 21 and
# version 10 of the file format are those of the oldest one that hashbeam takes, 1.20.
OPSETS = (7, 21)
HIGHEST_IR_VERSION = 10
LOWEST_IR_VERSION = 4  # from it on, weights need not be inputs as well

STANDARD_DOMAINS = ("", "ai.onnx")


@dataclasses.dataclass(frozen=True)
class Source:
    """An ONNX file that was read and found to be a graph of standard operators.

    Attributes:
      name: of the file, without its folder.
      sha256: of the file, in hex.
      size: of the file, bytes.
      model: an ``onnx.ModelProto``.
      opset: of its operators.
    """

    name: str
    sha256: str
    size: int
    model: Any
    opset: int


def require_onnx() -> Any:
    """The package ``onnx``; raises `HashbeamError` where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise HashbeamError(
            "importing a model needs onnx, which is not installed: pip install onnx (or "
            "'hashbeam[train]', which brings torch as well)"
        ) from None
    return onnx


def read_source(path: Path) -> Source:
    """An ONNX file, checked but not run.

    Raises `ModelError` that names the file, what is wrong with it, and the remedy.
    """
    onnx = require_onnx()
    # It is onnx that brings protobuf along, and this is how it says that bytes are no message.
    from google.protobuf.message import DecodeError

    content = _read(path)
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        model = None
    if model is None or not model.graph.node or not model.ir_version:
        raise ModelError(f"{path} is no ONNX model: export one, for example with torch.onnx.export")
    _check_whole(path, model)
    opset = max((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), default=0)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ModelError(
            f"{path} has opset {opset}, hashbeam runs {OPSETS[0]} to {OPSETS[1]}: export it with "
            "opset 17, or convert it with onnx.version_converter"
        )
    model = _inlined(path, model)
    foreign = sorted({node.domain for node in _nodes(model.graph)} - set(STANDARD_DOMAINS))
    if foreign:
        example = next(n.op_type for n in _nodes(model.graph) if n.domain == foreign[0])
        raise ModelError(
            f"{path} uses operators of {', '.join(foreign)} ({example}), which not every ONNX "
            "Runtime has: export it with standard operators only, before any optimisation"
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"{path} is no valid ONNX model ({first_line(error)}): export it again"
        ) from None
    name = path.name if path.name.isprintable() else ascii(path.name)
    return Source(name, hashlib.sha256(content).hexdigest(), len(content), model, opset)


def batch_of(source: Source, name: str) -> int:
    """Size of an input's first axis where it is fixed, else 1."""
    kind = next(end.type.tensor_type for end in source.model.graph.input if end.name == name)
    return max(1, int(kind.shape.dim[0].dim_value))


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ModelError(f"{path} is a folder: name the encoder's .onnx file")
        if size > MAX_FILE_BYTES:
            raise ModelError(
                f"{path} has {size:,} bytes, an encoder may have {MAX_FILE_BYTES:,}: one that is "
                "to run over a catalogue has to be smaller"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}): name the encoder's .onnx file"
        ) from None


def _check_whole(path: Path, model: Any) -> None:
    """Raises `ModelError` for weights that lie in another file."""
    onnx = require_onnx()
    graphs = [model.graph, *(function for function in model.functions)]
    for tensor in (tensor for graph in graphs for tensor in _tensors(graph)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(
                f"{path} keeps weights in another file ({tensor.name}): save it in one piece, "
                "onnx.save(onnx.load(FILE), 'whole.onnx'), or export it with external_data=False"
            )


def _inlined(path: Path, model: Any) -> Any:
    """The model without functions of its own: their nodes stand where they are called."""
    if not model.functions:
        return model
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # errors of its C++ side have no class of their own
        raise ModelError(
            f"{path} has functions that cannot be resolved ({first_line(error)}): export it "
            "without them"
        ) from None


def subgraphs(node: Any) -> Iterator[Any]:
    """The branches and loops inside of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _nodes(graph: Any) -> Iterator[Any]:
    """Nodes of a graph (or function), those inside of branches and loops too."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    for level in (graph, *(inner for node in _nodes(graph) for inner in subgraphs(node))):
        yield from getattr(level, "initializer", ())
        for sparse in getattr(level, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
    for node in _nodes(graph):
        for attribute in node.attribute:
            sparse = [*attribute.sparse_tensors]
            sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors
            yield from (part for one in sparse for part in (one.values, one.indices))


def choose_output(source: Source, output: str) -> str:
    """The tensor that is asked for, or the only output where none is.

    Raises `UsageError` for one that is not there, and where there are several to choose from.
    """
    graph = source.model.graph
    named: list[str] = [end.name for end in graph.output]
    if not output:
        if len(named) != 1:
            raise UsageError(
                f"{source.name} has {len(named)} outputs: name the embedding with --output, one of "
                f"{', '.join(named)}"
            )
        return named[0]
    if output not in {name for node in graph.node for name in node.output if name}:
        raise UsageError(
            f"--output {output}: {source.name} has no such tensor; its outputs are "
            f"{', '.join(named)}"
        )
    return output


def reads(node: Any) -> set[str]:
    """Tensors that a node reads; those that its branches name, too, wherever they come from."""
    names = set(node.input)
    for graph in subgraphs(node):
        names |= {end.name for end in graph.output}
        names |= set().union(*(reads(inner) for inner in graph.node))
    return names - {""}


def needed_nodes(source: Source, output: str) -> tuple[list[Any], set[str]]:
    """The nodes that make a tensor, in order, and the names of all that they read."""
    wanted, kept = {output}, []
    for node in reversed(source.model.graph.node):  # the checker has seen that they are in order
        if wanted & set(node.output):
            kept.append(node)
            wanted |= reads(node)
    return kept[::-1], wanted


def inputs_of(source: Source, output: str) -> list[str]:
    """Inputs that a tensor depends on; those with a value of their own are weights."""
    graph = source.model.graph
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {sparse.values.name for sparse in graph.sparse_initializer}
    _, wanted = needed_nodes(source, output)
    return [end.name for end in graph.input if end.name in wanted - weights]


def sizes_of(source: Source, name: str) -> list[int | None]:
    """Sizes of an input behind the batch, None where they are free.

    Raises `ModelError` for one of no shape, or of what are no floating-point numbers.
    """
    onnx = require_onnx()
    kind = next(end.type.tensor_type for end in source.model.graph.input if end.name == name)
    if kind.elem_type not in (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.DOUBLE,
    ):
        given = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise ModelError(
            f"{source.name}: input {name} takes {given}, snippets are floating-point numbers: "
            "export an encoder of log-mel snippets"
        )
    if not kind.HasField("shape"):
        raise ModelError(
            f"{source.name}: input {name} has no shape: export it with one, of 2 to 4 dimensions"
        )
    return [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim][1:]


def first_line(error: Exception) -> str:
    """What an error of another library says, in one line that is not too long."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)[:200]
