"""A hash sequence as bytes: what crosses the pipe from the child that has made it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from hashing.sequences import TrackSequence

_HEAD = struct.Struct("<IIIII")


def pack(sequence: TrackSequence) -> list[Any]:
    """The buffers of an answer: the shapes, then codes, embeddings and levels.

    >>> codes, embeddings = np.arange(2, dtype=np.uint32), np.ones((1, 3), np.float32)
    >>> sequence = TrackSequence(codes, embeddings, np.zeros((16, 24), np.uint8))
    >>> again = unpack(bytearray(b"".join(bytes(part) for part in pack(sequence))))
    >>> again.codes.tolist(), again.embeddings.shape, again.levels.shape
    ([0, 1], (1, 3), (16, 24))
    """
    shapes = (len(sequence.codes), *sequence.embeddings.shape, *sequence.levels.shape)
    return [
        _HEAD.pack(*shapes),
        np.ascontiguousarray(sequence.codes, "<u4"),
        np.ascontiguousarray(sequence.embeddings, "<f4"),
        np.ascontiguousarray(sequence.levels),
    ]


def unpack(body: bytearray) -> TrackSequence:
    """What `pack` has packed; ValueError or struct.error for anything else."""
    n, windows, dimensions, frames, width = _HEAD.unpack_from(body)
    ends = np.cumsum([_HEAD.size, 4 * n, 4 * windows * dimensions, frames * width]).tolist()
    if len(body) != ends[-1] or not (n and windows and dimensions and frames and width):
        raise ValueError(f"{len(body)} bytes do not hold a sequence of {n} codes")
    return TrackSequence(
        np.frombuffer(body, "<u4", n, ends[0]).astype(np.uint32),
        np.frombuffer(body, "<f4", windows * dimensions, ends[1])
        .astype(np.float32)
        .reshape(windows, dimensions),
        np.frombuffer(body, np.uint8, frames * width, ends[2]).reshape(frames, width).copy(),
    )
