"""A file that is read by byte ranges, as an object store gives them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

# Read around what is asked for. A request costs some 30 ms at a distance, in which 100 MB/s bring
# 3 MB: small files are read whole, and who reads on is given more at a time.
LEAST_BYTES = 1 << 20
MOST_BYTES = 8 << 20  # of one request: what a failure repeats, and the memory of a reader


class RangedFile(io.RawIOBase):
    """A seekable file of `size` bytes behind ``fetch(start, end)``; every read is full.

    >>> data = bytes(range(100))
    >>> file = RangedFile(100, lambda start, end: data[start:end])
    >>> file.seek(-3, io.SEEK_END), file.read()
    (97, b'abc')
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._fetch = size, fetch
        self._at = 0
        self._held, self._held_at = b"", 0
        self._ahead = LEAST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to a byte; nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to byte {base + offset}")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes: fewer only at the end of the file."""
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        pieces = []
        while self._at < end:
            held_end = self._held_at + len(self._held)
            if not self._held_at <= self._at < held_end:
                self._fill(end)
                continue
            piece = self._held[self._at - self._held_at : end - self._held_at]
            pieces.append(piece)
            self._at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(view.nbytes)
        view[: len(data)] = data
        return len(data)

    def _fill(self, end: int) -> None:
        reads_on = bool(self._held) and self._at == self._held_at + len(self._held)
        self._ahead = min(2 * self._ahead, MOST_BYTES) if reads_on else LEAST_BYTES
        stop = min(max(end, self._at + self._ahead), self._at + MOST_BYTES, self._size)
        self._held, self._held_at = self._fetch(self._at, stop), self._at
        if len(self._held) != stop - self._at:
            raise OSError(f"{len(self._held)} bytes came instead of {stop - self._at}")
