"""Pairs of snippets between the two steps of the job: written by block, read by part.

A file (little endian): magic ``HBPAIRS``, format version (uint32), parts (uint32); how many pairs
come before each part, and all (uint64 [parts + 1]); then the pairs (`hashing.joining.PAIR`) in the
order of their parts. A reader takes only its own part of each file, so that the pairs of a
catalogue never stand in one place, and no runner has to hold or to move them.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from hashing.errors import IndexFormatError
from hashing.joining import PAIR
from pipelines import io

MAGIC = b"HBPAIRS\0"
_HEADER = struct.Struct("<8sII")
_VERSION = 1


def write_pairs(path: str, pairs: npt.NDArray[np.void], n_parts: int, tracks_per_part: int) -> None:
    """Write pairs, whose part is told by their owner."""
    part = pairs["owner"] // np.uint32(tracks_per_part)
    bounds = np.concatenate(([0], np.cumsum(np.bincount(part, minlength=n_parts))))
    if n_parts > 1:
        pairs = pairs[np.argsort(part, kind="stable")]
    with io.open_write(path) as file:
        file.write(_HEADER.pack(MAGIC, _VERSION, n_parts))
        file.write(bounds.astype("<u8"))
        file.write(np.ascontiguousarray(pairs).view(np.uint8))


def read_pairs(path: str, part: int, n_parts: int) -> npt.NDArray[np.void]:
    """The pairs of one part.

    Raises: IndexFormatError where it is no such file, or is cut short.
    """
    start = _HEADER.size
    head = io.read_range(path, 0, start + 8 * (part + 2))
    if _HEADER.unpack(head[:start]) != (MAGIC, _VERSION, n_parts):
        raise IndexFormatError(f"{path} is no file of pairs: remove the folder, and run again")
    low, high = (int(bound) for bound in np.frombuffer(head, "<u8", offset=start)[-2:])
    at = start + 8 * (n_parts + 1) + PAIR.itemsize * low
    data = io.read_range(path, at, PAIR.itemsize * (high - low)) if high > low else b""
    return np.frombuffer(data, PAIR)
