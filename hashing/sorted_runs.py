"""Sorted postings in few bytes, for the way from the reader of codes to the builder of a table.

A *run* is what an external sort writes and merges: postings ``key << 32 | gid``, rising. Of eight
bytes a posting most say little: keys hardly differ from one to the next, and the gids of a run are
those of the few files of codes that it was made from. So a run is kept as differences, in blocks of
`BLOCK` postings, each of which says how wide its numbers are (frame of reference with exceptions,
as in PFOR: Zukowski et al., Super-Scalar RAM-CPU Cache Compression, 2006; whole bytes, so that
numpy packs and unpacks them)::

    header    postings, first key, lowest gid, exceptions (uint32 each); bytes of a difference of
              keys (1, 2 or 4), bytes of a gid (2, 3 or 4), 2 bytes of nothing
    large     uint32 [exceptions]: differences of keys that are too large for their bytes
    gids      above the lowest: uint32 [n], or their lower halves uint16 [n]
    keys      differences uint16 or uint32 [n]; all bits set: the next of the large ones
    bytes     differences uint8 [n], where they are bytes; third bytes of gids uint8 [n], where
              they have three

A million tracks, 480 million postings with keys of 27 bits: 4.0 bytes each; ten million: 5.0.
Little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Postings of a block: 512 KiB of uint64, so that what is made of a block stays in the L2 cache.
BLOCK = 1 << 16
_HEADER = struct.Struct("<IIIIBB2x")
_WIDTHS = {1: "u1", 2: "<u2", 4: "<u4"}


def encode_run(packed: NDArray[np.uint64]) -> Iterator[bytes]:
    """The blocks of a run, to be written one after the other; none of no postings.

    Args:
        packed: uint64 ``[n]``, ``key << 32 | gid``, rising.

    >>> run = np.array([5 << 32 | 70, 5 << 32 | 90, 8 << 32 | 3], np.uint64)
    >>> data = b"".join(encode_run(run))
    >>> decode_run(data, found := np.empty(3, np.uint64))
    >>> bool((found == run).all()), len(data)
    (True, 29)
    """
    for start in range(0, len(packed), BLOCK):
        yield _encode_block(packed[start : start + BLOCK])


def decode_run(data: bytes, out: NDArray[np.uint64]) -> None:
    """Fills `out` with the postings of a run.

    Args:
        data: all blocks of the run, as `encode_run` made them.
        out: uint64 ``[n]``, of as many postings as the run has.

    Raises:
        ValueError: the data are not those of so many postings.
    """
    at, held = 0, 0
    while at < len(data):
        at, held = _decode_block(data, at, out, held)
    if held != len(out):
        raise ValueError(f"a run of {held} postings, {len(out)} expected")


def _encode_block(packed: NDArray[np.uint64]) -> bytes:
    keys = (packed >> np.uint64(32)).astype(np.uint32)
    gids = packed.astype(np.uint32)  # truncation leaves the gid
    lowest = gids.min()
    gids -= lowest
    steps = np.diff(keys, prepend=keys[:1])
    key_bytes, exceptions = _key_width(steps)
    large = steps[exceptions]
    steps[exceptions] = np.uint32(256**key_bytes - 1)
    gid_bytes = next(size for size in (2, 3, 4) if int(gids.max()) < 256**size)
    header = _HEADER.pack(len(packed), keys[0], lowest, len(large), key_bytes, gid_bytes)
    pieces = [large.astype("<u4"), gids.astype("<u4" if gid_bytes == 4 else "<u2")]
    pieces.append(steps.astype(_WIDTHS[key_bytes]))
    if gid_bytes == 3:
        pieces.append((gids >> np.uint32(16)).astype(np.uint8))
    return b"".join([header, *(piece.tobytes() for piece in pieces)])


def _key_width(steps: NDArray[np.uint32]) -> tuple[int, NDArray[np.intp]]:
    """Bytes of a difference of keys that take least, and where the exceptions are."""
    choices = []
    for size in _WIDTHS:  # of the widest, only the number that stands for them
        exceptions = np.flatnonzero(steps >= 256**size - 1)
        choices.append((size * len(steps) + 4 * len(exceptions), size, exceptions))
    _, size, exceptions = min(choices, key=lambda choice: choice[:2])
    return size, exceptions


def _decode_block(data: bytes, at: int, out: NDArray[np.uint64], held: int) -> tuple[int, int]:
    """Where the next block begins, and how many postings `out` then holds."""
    if at + _HEADER.size > len(data):
        raise ValueError("a run ends within a header")
    n, first_key, lowest, n_large, key_bytes, gid_bytes = _HEADER.unpack_from(data, at)
    end = at + _HEADER.size + 4 * n_large + (key_bytes + gid_bytes) * n
    sound = 0 < n <= BLOCK and n_large <= n and key_bytes in _WIDTHS and gid_bytes in (2, 3, 4)
    if not sound or end > len(data) or held + n > len(out):
        raise ValueError("a run with an impossible block")
    place = at + _HEADER.size

    def take(kind: str, count: int) -> NDArray[np.unsignedinteger]:
        nonlocal place
        found = np.frombuffer(data, kind, count, place)
        place += found.nbytes
        return found

    large = take("<u4", n_large)
    gids = take("<u4" if gid_bytes == 4 else "<u2", n)
    steps = take(_WIDTHS[key_bytes], n)
    if n_large:
        exceptions = np.flatnonzero(steps == 256**key_bytes - 1)
        if len(exceptions) != n_large:
            raise ValueError("a run with a block of other exceptions")
        steps = steps.astype(np.uint32)
        steps[exceptions] = large
    block = out[held : held + n]
    np.cumsum(steps, dtype=np.uint64, out=block)
    block += np.uint64(first_key)
    block <<= np.uint64(32)
    block += np.uint64(lowest)
    block += gids
    if gid_bytes == 3:
        block += take("u1", n).astype(np.uint64) << np.uint64(16)
    return end, held + n
