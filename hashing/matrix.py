"""Codes by snippet number: where look-up finds the whole codes that it compares a query with.

Tables tell which snippets may be near; how near they are is computed from their whole codes. Those
stand in the Parquet shards of an index, one after another as they are (neither packed nor coded),
so that a shard is mapped into memory and a code is one read of it. What a shard does not tell is
where: silent snippets have a number but no code. A *code matrix* is the small file beside a shard
that says where in it rows lie, and which numbers have one.

The file (``.hbm``, little endian): magic ``HBMATRIX``, format version (uint32), bytes a row
(uint32), numbers (uint64), groups of rows (uint64); for each group its rows and the place of the
first one in the shard (two uint64); then a bitmap of the numbers that have a row (bit ``i % 8`` of
byte ``i // 8``), to whole bytes.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from hashing.errors import IndexFormatError
from hashing.shards import open_files_allowed
from hashing.table_format import REMEDY
from hashing.tables import ByteSink

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Mapped = bytes | mmap.mmap

MAGIC = b"HBMATRIX"
FORMAT_VERSION = 2
_HEADER = struct.Struct("<8sIIQQ")
_GROUP = struct.Struct("<QQ")


# Codes of a segment that are kept in memory, bytes: 145 hours at 32 bytes a quarter of a second.
# Rows of hundreds of small shards would take ten times as long as those of one.
HELD_BYTES = 64_000_000


def write_matrix(
    file: ByteSink | BinaryIO,
    width: int,
    groups: Sequence[tuple[int, int]],
    numbers: Ints,
    n: int,
) -> int:
    """Write which of `n` snippet numbers have a row, and where rows lie in a shard.

    Args:
      file: takes the bytes in order, without seeking.
      width: bytes of a row.
      groups: rows of each run of rows in the shard, and the place of its first byte there.
      numbers: of the rows, rising, [m].

    Returns:
      Bytes written.

    Raises:
      ValueError: the groups hold another number of rows.

    >>> import io
    >>> file = io.BytesIO()
    >>> _ = write_matrix(file, 1, [(2, 3)], np.array([0, 2]), 3)
    >>> found, present = CodeMatrix(file.getvalue(), b"PAR...", "example").rows(np.array([2, 1]))
    >>> found.tolist(), present.tolist()  # 46 is the full stop
    ([[46], [0]], [True, False])
    """
    if sum(rows for rows, _ in groups) != len(numbers):
        raise ValueError(f"{len(numbers)} numbers for groups {groups}")
    held = np.zeros(n, dtype=bool)
    held[numbers] = True
    data = _HEADER.pack(MAGIC, FORMAT_VERSION, width, n, len(groups))
    data += b"".join(_GROUP.pack(*group) for group in groups)
    data += np.packbits(held, bitorder="little").tobytes()
    file.write(memoryview(data))
    return len(data)


class CodeMatrix:
    """An opened code matrix.

    Args:
      data: the bytes of its file.
      shard: the bytes of the shard beside it, or a memory map of them.
      name: what to call it in errors.

    Raises:
      IndexFormatError: it is no code matrix, of another version, cut short, or does not fit the
        shard.
    """

    def __init__(self, data: bytes, shard: Mapped, name: str) -> None:
        if len(data) < _HEADER.size:
            raise IndexFormatError(
                f"{name} is truncated: {len(data)} bytes are fewer than a header; {REMEDY}"
            )
        magic, version, width, n, groups = _HEADER.unpack(data[: _HEADER.size])
        if magic != MAGIC:
            raise IndexFormatError(f"{name} is not a code matrix (wrong magic); {REMEDY}")
        if version != FORMAT_VERSION:
            raise IndexFormatError(
                f"{name} has matrix format version {version}, this hashbeam reads "
                f"{FORMAT_VERSION}; use the hashbeam that wrote it, or rebuild the index"
            )
        first = _HEADER.size + groups * _GROUP.size
        needed = first + -(-n // 8)
        if not width or len(data) != needed:
            what = "truncated" if width and len(data) < needed else "damaged"
            raise IndexFormatError(
                f"{name} is {what}: bytes={len(data)}, its header says {needed} "
                f"({n} numbers, rows of {width}); {REMEDY}"
            )
        self.width = int(width)
        self.n = int(n)
        # To whole words of 64 numbers, and how many rows come before each word.
        words = np.zeros(-(-self.n // 64), dtype="<u8")
        words.view(np.uint8)[: needed - first] = np.frombuffer(data, np.uint8, offset=first)
        if self.n % 64 and words[-1] >> np.uint64(self.n % 64):
            raise IndexFormatError(f"{name} is damaged: a number beyond its {n}; {REMEDY}")
        self._words = words
        counts = np.bitwise_count(words).astype(np.int64)
        self._before = np.concatenate(([0], np.cumsum(counts)))
        self._groups = self._map(list(_GROUP.iter_unpack(data[_HEADER.size : first])), shard, name)

    def _map(
        self, groups: list[tuple[int, int]], shard: Mapped, name: str
    ) -> list[tuple[int, Bytes]]:
        """First row and rows of each group, as they lie in the shard."""
        view, mapped, row = np.frombuffer(shard, dtype=np.uint8), [], 0
        for rows, place in groups:
            if place + rows * self.width > view.size:
                raise IndexFormatError(
                    f"{name} does not fit the shard beside it, which has {view.size} bytes; "
                    f"{REMEDY}"
                )
            part = view[place : place + rows * self.width].reshape(rows, self.width)
            mapped.append((row, part))
            row += rows
        if row != self.n_present:
            raise IndexFormatError(
                f"{name} is damaged: {row} rows for {self.n_present} numbers; {REMEDY}"
            )
        return mapped

    @classmethod
    def open(cls, path: str, shard: str) -> CodeMatrix:
        """Read a file and memory-map the shard beside it.

        Raises:
          IndexFormatError: one of them is missing, unreadable, damaged or cut short.
        """
        opened = path
        try:
            with open(path, "rb") as file:
                data = file.read()
            opened = shard
            with open(shard, "rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0  # an empty file has no map
                rows: Mapped = (
                    b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                )
        except OSError as error:
            raise IndexFormatError(
                f"code matrix {opened} cannot be opened ({error.strerror}); {REMEDY}"
            ) from None
        return cls(data, rows, path)

    @property
    def n_present(self) -> int:
        """Numbers that have a code: all but those of silent snippets."""
        return int(self._before[-1])

    def rows(self, numbers: Ints) -> tuple[Bytes, Flags]:
        """Codes [m, width] by number, and which of them there are [m]; absent ones are zero."""
        row, present = self._find(numbers)
        if len(self._groups) == 1 and present.all():
            return self._groups[0][1][row], present
        out = np.zeros((numbers.size, self.width), dtype=np.uint8)
        for first, part in self._groups:
            inside = np.flatnonzero(present & (row >= first) & (row < first + len(part)))
            out[inside] = part[row[inside] - first]
        return out, present

    def _find(self, numbers: Ints) -> tuple[Ints, Flags]:
        """Rows [m] of numbers, right for those that are present [m]."""
        word, bit = numbers >> 6, (numbers & 63).astype(np.uint64)
        bits = self._words[word]
        present = (bits >> bit & np.uint64(1)).astype(bool)
        below = bits & ((np.uint64(1) << bit) - np.uint64(1))
        return self._before[word] + np.bitwise_count(below), present


class _Together(NamedTuple):
    """Rows of several segments, and which of them there are; both end with one of nothing.

    `bases`: by number of a segment, where its rows begin, -1 where they are elsewhere; `ends`: how
    many snippet numbers it has.
    """

    codes: Bytes
    heard: Flags
    bases: Ints
    ends: Ints


class CodeMatrices:
    """The code matrices of an index: numbers of a segment are spread over its parts.

    Args:
      places: ``(name, shard, segment, part)`` of each matrix; parts count from 0 within a segment.
      starts: first snippet number of each part, and the end, by segment.
      width: bytes of a code.
      open_matrix: opens one by the names of it and its shard, when it is first needed.
      max_open: shards kept open at once, the one unused for longest going first; by default a
        quarter of the files that the process may open (tables take half): a map holds a file.
      held_bytes: a segment whose codes are not more than that is read whole and kept.
    """

    near = True  # what is small may be read whole; `hashing.shards.TableSet.near`

    def __init__(
        self,
        places: Iterable[tuple[str, str, int, int]],
        starts: Mapping[int, Ints],
        width: int,
        open_matrix: Callable[[str, str], CodeMatrix] = CodeMatrix.open,
        max_open: int | None = None,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._names = {(segment, part): names for *names, segment, part in places}
        self._starts = starts
        self.width = width
        self._open = open_matrix
        self._max_open = max(1, open_files_allowed() // 4 if max_open is None else max_open)
        self._opened: dict[tuple[int, int], CodeMatrix] = {}
        self._held_bytes = held_bytes
        self._held: dict[int, tuple[Bytes, Flags]] = {}
        self._together: _Together | None = None

    def rows_each(self, segment: Ints, gids: Ints) -> tuple[Bytes, Flags]:
        """`rows` of snippets [n] of any segments [n]; those of small ones are one read."""
        if self._together is None:
            self._together = self._put_together()
        small = self._together
        base = small.bases[segment]
        apart = np.flatnonzero(base < 0)
        ends = small.ends[segment]
        # Of those that are apart, too: their rows are put over these.
        at = np.where((gids >= 0) & (gids < ends) & (base >= 0), base + gids, len(small.codes) - 1)
        codes, heard = small.codes[at], small.heard[at]
        for one in np.unique(segment[apart]).tolist():
            chosen = apart[segment[apart] == one]
            codes[chosen], heard[chosen] = self.rows(one, gids[chosen])
        return codes, heard

    def _put_together(self) -> _Together:
        """The smallest segments, up to `held_bytes` of them, one after another."""
        sizes = {segment: int(starts[-1]) for segment, starts in self._starts.items()}
        ends = np.zeros(max(sizes, default=-1) + 1, dtype=np.int64)
        ends[list(sizes)] = list(sizes.values())
        bases, base = np.full(ends.size, -1, dtype=np.int64), 0
        parts = [(np.zeros((1, self.width), dtype=np.uint8), np.zeros(1, dtype=bool))]
        for segment in sorted(sizes, key=sizes.__getitem__):
            if not self.near or (base + sizes[segment]) * self.width > self._held_bytes:
                break
            bases[segment] = base
            base += sizes[segment]
            codes, heard = self._read_whole(segment)
            parts.insert(-1, (codes[:-1], heard[:-1]))
        codes, heard = (np.concatenate(column) for column in zip(*parts, strict=True))
        for segment in np.flatnonzero(bases >= 0).tolist():
            self._held.pop(segment, None)
        return _Together(codes, heard, bases, ends)

    def rows(self, segment: int, gids: Ints) -> tuple[Bytes, Flags]:
        """Codes [n, width] of snippets [n] of a segment, and which there are [n].

        Numbers outside the segment are absent, as silent snippets are.
        """
        starts = self._starts[segment]
        if self._together is not None and self._together.bases[segment] >= 0:
            return self.rows_each(np.full(gids.size, segment), gids)
        if starts[-1] * self.width <= self._held_bytes:
            codes, heard = self._whole(segment)
            inside = (gids >= 0) & (gids < starts[-1])
            # One more row, of zeros, stands for what is outside.
            at = np.where(inside, gids, starts[-1])
            return codes[at], heard[at]
        out = np.zeros((gids.size, self.width), dtype=np.uint8)
        present = np.zeros(gids.size, dtype=bool)
        inside = np.flatnonzero((gids >= 0) & (gids < starts[-1]))
        parts = np.searchsorted(starts, gids[inside], side="right") - 1
        for part in np.unique(parts).tolist():
            chosen = inside[parts == part]
            matrix = self._matrix(segment, part)
            out[chosen], present[chosen] = matrix.rows(gids[chosen] - starts[part])
        return out, present

    def _whole(self, segment: int) -> tuple[Bytes, Flags]:
        """All rows of a small segment, and which there are; both have one more, of nothing."""
        if segment not in self._held:
            self._held[segment] = self._read_whole(segment)
        return self._held[segment]

    def _read_whole(self, segment: int) -> tuple[Bytes, Flags]:
        starts = self._starts[segment]
        codes = np.zeros((int(starts[-1]) + 1, self.width), dtype=np.uint8)
        heard = np.zeros(len(codes), dtype=bool)
        for part in np.flatnonzero(np.diff(starts)).tolist():
            place = slice(int(starts[part]), int(starts[part + 1]))
            matrix = self._open_checked(segment, part)
            codes[place], heard[place] = matrix.rows(np.arange(matrix.n))
        return codes, heard

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
        names = self._names.get((segment, part))
        if names is None:
            raise IndexFormatError(
                f"part {part} of segment {segment} has snippets but no code matrix; {REMEDY}"
            )
        name, shard = names
        matrix, starts = self._open(name, shard), self._starts[segment]
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
