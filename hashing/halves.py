"""The two halves of a model's graph: an encoder, up to the embedding, and the head behind it.

Two models that stand on one encoder give a snippet the same embedding, and where that was kept, the
head of the other model makes responses of it: the snippet need not be heard again. Whether the
encoders are one is told by their nodes and weights, byte by byte. The package ``onnx`` belongs to
training, so of its format (protocol buffers: https://protobuf.dev/programming-guides/encoding,
fields as in ``onnx.proto``) what is needed is read here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

EMBEDDING, RESPONSES = "embedding", "responses"

# Numbers of fields in onnx.proto. Of a model:
_GRAPH, _METADATA, _FUNCTIONS, _OPSETS = 7, 14, 25, 8
# Of a graph: what is told of values in between is left out, and sparse or quantised tensors are
# not looked into.
_NODE, _NAME, _TENSOR, _INPUT, _OUTPUT, _QUANTISED, _SPARSE = 1, 2, 5, 11, 12, 14, 15
# Of a node, of an attribute (a graph, graphs), of a tensor, and of an input or an output.
_READS, _MAKES, _ATTRIBUTE = 1, 2, 5
_SUBGRAPHS = (6, 11)
_TENSOR_NAME, _END_NAME = 8, 1

_LONGEST_VARINT = 10  # bytes of 64 bits, seven at a time


@dataclasses.dataclass(frozen=True)
class Halves:
    """A graph that was cut at its embedding.

    Attributes:
      encoder: digest of all that the embedding is made with.
      head: a graph of its own, ``embedding`` [n, d] → ``responses`` [n, r]; None where the
        embedding is the response.
    """

    encoder: str
    head: bytes | None


class _Field(NamedTuple):
    number: int
    value: memoryview  # without tag and length; of a number, its bytes as they stand
    whole: memoryview


class _Node(NamedTuple):
    reads: list[str]
    makes: list[str]
    plain: bool  # it holds no graph of its own
    whole: memoryview


class _UnknownError(Exception):
    """Bytes that are no message, or a graph that is not understood."""


def cut_at_embedding(graph: bytes) -> Halves | None:
    """The halves of a graph (the bytes of an ``.onnx`` file).

    None where it has no embedding, where the responses are not made of that alone, or where it has
    functions, inner graphs or sparse tensors of its own, which are not looked into.

    >>> cut_at_embedding(b"no graph") is None
    True
    """
    try:
        return _cut(memoryview(graph))
    except _UnknownError:
        return None


def _cut(data: memoryview) -> Halves | None:
    model = list(_fields(data))
    graphs = [field.value for field in model if field.number == _GRAPH]
    if len(graphs) != 1 or any(field.number == _FUNCTIONS for field in model):
        return None
    fields = list(_fields(graphs[0]))
    if any(field.number in (_SPARSE, _QUANTISED) for field in fields):
        return None
    nodes = [_node(field) for field in fields if field.number == _NODE]
    tensors = {_name(field, _TENSOR_NAME): field for field in fields if field.number == _TENSOR}
    inputs = {_name(field, _END_NAME): field for field in fields if field.number == _INPUT}
    outputs = {_name(field, _END_NAME): field for field in fields if field.number == _OUTPUT}
    if EMBEDDING not in outputs or EMBEDDING in inputs:
        return None
    encoder, needed = _behind(nodes, EMBEDDING, ())
    digest = hashlib.sha256(b"encoder")
    for part in (
        sorted(bytes(field.whole) for field in model if field.number in (_OPSETS, _METADATA)),
        [inputs[name].whole for name in sorted(needed & inputs.keys())],
        [node.whole for node in encoder],
        [tensors[name].whole for name in sorted(needed & tensors.keys())],
    ):
        digest.update(len(part).to_bytes(8, "little"))
        for one in part:
            digest.update(hashlib.sha256(one).digest())
    if RESPONSES not in outputs:
        return Halves(digest.hexdigest(), None)
    head, needed = _behind(nodes, RESPONSES, (EMBEDDING,))
    if needed & inputs.keys() or EMBEDDING not in needed:
        return None
    parts = [bytes(node.whole) for node in head]
    parts.append(_message(_NAME, b"head"))
    parts += [bytes(tensors[name].whole) for name in tensors if name in needed]
    parts.append(_message(_INPUT, outputs[EMBEDDING].value))
    parts.append(bytes(outputs[RESPONSES].whole))
    others = [bytes(field.whole) for field in model if field.number not in (_GRAPH, _METADATA)]
    return Halves(digest.hexdigest(), b"".join([*others, _message(_GRAPH, b"".join(parts))]))


def _behind(
    nodes: Sequence[_Node], wanted: str, given: Sequence[str]
) -> tuple[list[_Node], set[str]]:
    """The nodes that a value needs, in order, and the names of all that they read.

    Args:
      given: values that are there: what they are made of is not needed.
    """
    needed, found = {wanted}, list[_Node]()
    for node in reversed(nodes):  # they stand in the order in which they are run
        if needed.intersection(node.makes) - set(given):
            if not node.plain:
                raise _UnknownError
            needed.update(node.reads)
            found.append(node)
    return found[::-1], needed


def _node(field: _Field) -> _Node:
    inner = list(_fields(field.value))
    attributes = (one.value for one in inner if one.number == _ATTRIBUTE)
    plain = not any(own.number in _SUBGRAPHS for one in attributes for own in _fields(one))
    reads, makes = (
        [_text(one.value) for one in inner if one.number == number] for number in (_READS, _MAKES)
    )
    return _Node([name for name in reads if name], makes, plain, field.whole)


def _name(field: _Field, number: int) -> str:
    return next((_text(one.value) for one in _fields(field.value) if one.number == number), "")


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "backslashreplace")


def _fields(data: memoryview) -> Iterator[_Field]:
    """The fields of a message, in order; raises `_UnknownError` where it is none."""
    at = 0
    while at < len(data):
        first = at
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(data, at)
            end = at + size
        elif kind == 0:
            _, end = _varint(data, at)
        elif kind in (1, 5):
            end = at + (8 if kind == 1 else 4)
        else:
            raise _UnknownError
        if end > len(data) or not tag >> 3:
            raise _UnknownError
        yield _Field(tag >> 3, data[at:end], data[first:end])
        at = end


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number, and where what follows it begins."""
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= len(data):
            raise _UnknownError
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _UnknownError


def _message(number: int, value: bytes | memoryview) -> bytes:
    """A field that holds bytes."""
    return _to_varint(number << 3 | 2) + _to_varint(len(value)) + bytes(value)


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
