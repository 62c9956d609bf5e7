"""Codes by snippet number: the file that look-up compares a query with.

Tables tell which snippets may be near; how near they are is computed from their whole codes. A
*code matrix* holds the codes of a part of an index, row by snippet number, so that a code is one
read of a memory-mapped file. Snippets that are silent have a number but no code; a bitmap tells
them apart.

The file (``.hbm``, little endian): magic ``HBMATRIX``, format version (uint32), bytes a row
(uint32), rows (uint64), then the bitmap (bit ``i % 8`` of byte ``i // 8``), padded to 64 bytes, and
the rows.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hashing.errors import IndexFormatError
from hashing.shards import open_files_allowed
from hashing.table_format import REMEDY
from hashing.tables import ByteSink

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

MAGIC = b"HBMATRIX"
FORMAT_VERSION = 1
_HEADER = struct.Struct("<8sIIQ")
ALIGNMENT = 64  # bytes, a cache line: rows of 32 bytes lie in one


def write_matrix(file: ByteSink | BinaryIO, rows: Bytes, numbers: Ints, n: int) -> int:
    """Write rows [m, width] to the snippet numbers [m], rising, of `n` numbers in all.

    Args:
      file: takes the bytes in order, without seeking.

    Returns:
      Bytes written.

    >>> import io
    >>> file = io.BytesIO()
    >>> _ = write_matrix(file, np.array([[7], [9]], np.uint8), np.array([0, 2]), 3)
    >>> found, present = CodeMatrix(file.getvalue(), "example").rows(np.array([2, 1]))
    >>> found.tolist(), present.tolist()
    ([[9], [0]], [True, False])
    """
    width = rows.shape[1]
    heard = np.zeros(n, dtype=bool)
    heard[numbers] = True
    bitmap = np.packbits(heard, bitorder="little").tobytes()
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, width, n) + bitmap
    head += b"\0" * (-len(head) % ALIGNMENT)
    file.write(memoryview(head))
    matrix = np.zeros((n, width), dtype=np.uint8)
    matrix[numbers] = rows
    file.write(matrix.data)
    return len(head) + matrix.nbytes


class CodeMatrix:
    """An opened code matrix.

    Args:
      data: the file's bytes, or a memory map of it.
      name: what to call it in errors.

    Raises:
      IndexFormatError: it is no code matrix, of another version, or cut short.
    """

    def __init__(self, data: bytes | mmap.mmap, name: str) -> None:
        view = np.frombuffer(data, dtype=np.uint8)
        if view.size < _HEADER.size:
            raise IndexFormatError(
                f"{name} is truncated: {view.size} bytes are fewer than a header; {REMEDY}"
            )
        magic, version, width, n = _HEADER.unpack(view[: _HEADER.size].tobytes())
        if magic != MAGIC:
            raise IndexFormatError(f"{name} is not a code matrix (wrong magic); {REMEDY}")
        if version != FORMAT_VERSION:
            raise IndexFormatError(
                f"{name} has matrix format version {version}, this hashbeam reads "
                f"{FORMAT_VERSION}; use the hashbeam that wrote it, or rebuild the index"
            )
        bitmap_bytes = -(-n // 8)
        first = _HEADER.size + bitmap_bytes
        first += -first % ALIGNMENT
        needed = first + n * width
        if not width or view.size != needed:
            what = "truncated" if width and view.size < needed else "damaged"
            raise IndexFormatError(
                f"{name} is {what}: bytes={view.size}, its header says {needed} "
                f"({n} rows of {width}); {REMEDY}"
            )
        self.width = int(width)
        self.n = int(n)
        self._bitmap = view[_HEADER.size : _HEADER.size + bitmap_bytes]
        self._rows = view[first:].reshape(n, width)

    @classmethod
    def open(cls, path: str) -> CodeMatrix:
        """Memory-map a file.

        Raises:
          IndexFormatError: the file is missing, unreadable, damaged or cut short.
        """
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < _HEADER.size:  # an empty file has no map
                    return cls(file.read(), path)
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise IndexFormatError(
                f"code matrix {path} cannot be opened ({error.strerror}); {REMEDY}"
            ) from None
        return cls(data, path)

    @property
    def n_present(self) -> int:
        """Numbers that have a code: all but those of silent snippets."""
        return int(np.bitwise_count(self._bitmap).sum())

    def rows(self, numbers: Ints) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """Codes [m, width] by number, and which of them there are [m]; absent ones are zero."""
        present = (self._bitmap[numbers >> 3] >> (numbers & 7).astype(np.uint8) & 1).astype(bool)
        return self._rows[numbers], present


class CodeMatrices:
    """The code matrices of an index: numbers of a segment are spread over its parts.

    Args:
      places: ``(name, segment, part)`` of each matrix; parts count from 0 within a segment.
      starts: first snippet number of each part, and the end, by segment.
      width: bytes of a code.
      open_matrix: opens one by name, when it is first needed.
      max_open: matrices kept open at once, the one unused for longest going first; by default a
        quarter of the files that the process may open (tables take half): a map holds a file.
    """

    def __init__(
        self,
        places: Iterable[tuple[str, int, int]],
        starts: Mapping[int, Ints],
        width: int,
        open_matrix: Callable[[str], CodeMatrix] = CodeMatrix.open,
        max_open: int | None = None,
    ) -> None:
        self._names = {(segment, part): name for name, segment, part in places}
        self._starts = starts
        self.width = width
        self._open = open_matrix
        self._max_open = max(1, open_files_allowed() // 4 if max_open is None else max_open)
        self._opened: dict[tuple[int, int], CodeMatrix] = {}

    def rows(self, segment: int, gids: Ints) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """Codes [n, width] of snippets [n] of a segment, and which there are [n].

        Numbers outside the segment are absent, as silent snippets are.
        """
        starts = self._starts[segment]
        out = np.zeros((gids.size, self.width), dtype=np.uint8)
        present = np.zeros(gids.size, dtype=bool)
        inside = np.flatnonzero((gids >= 0) & (gids < starts[-1]))
        parts = np.searchsorted(starts, gids[inside], side="right") - 1
        for part in np.unique(parts).tolist():
            chosen = inside[parts == part]
            matrix = self._matrix(segment, part)
            out[chosen], present[chosen] = matrix.rows(gids[chosen] - starts[part])
        return out, present

    def _matrix(self, segment: int, part: int) -> CodeMatrix:
        place = (segment, part)
        matrix = self._opened.pop(place, None)
        if matrix is None:
            while len(self._opened) >= self._max_open:
                self._opened.pop(next(iter(self._opened)))
            matrix = self._open_checked(segment, part)
        self._opened[place] = matrix  # last in the dict: used last
        return matrix

    def _open_checked(self, segment: int, part: int) -> CodeMatrix:
        name = self._names.get((segment, part))
        if name is None:
            raise IndexFormatError(
                f"part {part} of segment {segment} has snippets but no code matrix; {REMEDY}"
            )
        matrix, starts = self._open(name), self._starts[segment]
        expected = int(starts[part + 1] - starts[part])
        if matrix.width != self.width or matrix.n != expected:
            raise IndexFormatError(
                f"{name} holds {matrix.n} rows of {matrix.width} bytes, not {expected} of "
                f"{self.width}; {REMEDY}"
            )
        return matrix


def as_rows(embeddings: npt.NDArray[Any]) -> Bytes:
    """float16 rows [n, d] as bytes [n, 2 d], for a matrix of embeddings."""
    return np.ascontiguousarray(embeddings, dtype="<f2").view(np.uint8)
