"""What crosses the pipe between a `hashing.decoder.Decoder` and its child.

Frames of a type byte, a length (u32, little-endian) and a body: ``Q`` a request (JSON), ``B`` a
block of float32 samples, ``P`` still at work, ``C`` the codes of a track, ``E`` an error (JSON:
kind, message), ``D`` done, ``H`` ready. Nothing is unpickled.
"""

from __future__ import annotations

import math
import os
import select
import struct
import time
from typing import Any

import numpy as np

from hashing.encoders import TrackCodes

HEAD = struct.Struct("<cI")
_CODES = struct.Struct("<dII")


def send(fd: int, kind: bytes, *body: Any) -> None:
    """Write one frame whose body is the buffers `body`, without joining them."""
    views = [memoryview(part).cast("B") for part in body]
    views.insert(0, memoryview(HEAD.pack(kind, sum(map(len, views)))))
    while views:
        written = os.writev(fd, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


def pack_codes(track: TrackCodes) -> list[Any]:
    """The buffers of a ``C`` frame.

    Duration (s), number of snippets, values of an embedding (0: none are kept), then the numbers,
    the codes and the embeddings.
    """
    embeddings = track.embeddings
    dimensions = 0 if embeddings is None else embeddings.shape[1]
    head = _CODES.pack(track.duration_s, len(track.snippet), dimensions)
    body = [head, track.snippet.astype("<i4"), np.ascontiguousarray(track.codes)]
    # A buffer of no bytes cannot be sent.
    return body if embeddings is None else [*body, np.ascontiguousarray(embeddings, "<f2")]


def unpack_codes(body: bytearray, code_bytes: int) -> TrackCodes:
    """What `pack_codes` has packed; ValueError or struct.error for anything else.

    >>> codes = TrackCodes(np.ones((2, 3), np.uint8), np.array([0, 2], np.int32), 1.5)
    >>> packed = bytearray(b"".join(bytes(part) for part in pack_codes(codes)))
    >>> unpack_codes(packed, 3).snippet.tolist(), unpack_codes(packed, 3).duration_s
    ([0, 2], 1.5)
    """
    duration_s, n, dimensions = _CODES.unpack_from(body)
    if len(body) != _CODES.size + n * (4 + code_bytes + 2 * dimensions) or not n:
        raise ValueError(f"{len(body)} bytes do not hold {n} codes of {code_bytes} bytes")
    snippet = np.frombuffer(body, "<i4", n, _CODES.size).astype(np.int32)
    first = _CODES.size + 4 * n
    codes = np.frombuffer(body, np.uint8, n * code_bytes, first).reshape(n, code_bytes)
    embeddings = np.frombuffer(body, "<f2", n * dimensions, first + codes.size)
    kept = embeddings.reshape(n, dimensions) if dimensions else None
    return TrackCodes(codes, snippet, duration_s, kept)


def receive(fd: int, length: int, deadline: float) -> bytearray:
    """Read exactly `length` bytes; TimeoutError after `deadline`, EOFError at the end."""
    body = bytearray(length)
    view = memoryview(body)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(view):
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(None if left_ms == math.inf else left_ms):
            raise TimeoutError
        got = os.readv(fd, [view])
        if not got:
            raise EOFError
        view = view[got:]
    return body
