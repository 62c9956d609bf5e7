"""Files of an object store in memory, page by page as they are needed; bounded.

A table there cannot be memory-mapped. What stands in for the map is memory of the file's size that
nothing has touched, and so costs nothing; before a look-up reads from it, the pages that it is
about to read are fetched by byte ranges, many at once.
"""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipelines import io
from pipelines.stores import side_by_side

Ints = npt.NDArray[np.int64]

PAGE_BYTES = 16 << 10  # comes in about the time of a byte
# What lies between two pages that are wanted comes along: 64 KiB take a millisecond at 64 MB/s, as
# long as a request of its own would keep the processor.
GAP_BYTES = 64 << 10
WHOLE_BYTES = 1 << 20  # smaller files are read whole
RUN_BYTES = 4 << 20  # of one request, so that a long run comes by several
# Memory for the pages of an index: half of what a worker of 1 GB has.
CACHE_BYTES = 512 << 20


class Pages:
    """One file: `data` has its size, and is right where `PageCache.fetch` has been asked for it.

    Attributes:
        path: of the file.
        data: memory of the file's size; zero where nothing has been fetched.
        held_bytes: how much has been.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path, self.size = path, size
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.data: bytes | mmap.mmap = mmap.mmap(-1, size, flags=flags) if size else b""
        self.held_bytes = 0
        self._held = np.zeros(-(-size // PAGE_BYTES), dtype=bool)

    def missing(self, starts: Ints, ends: Ints) -> Iterator[tuple[int, int]]:
        """Byte ranges to be fetched before ``data[start:end]`` is right for all starts and ends."""
        inside = (ends > starts) & (starts < self.size)
        if not inside.any():
            return
        steps = np.zeros(len(self._held) + 1, dtype=np.int64)
        np.add.at(steps, starts[inside] // PAGE_BYTES, 1)
        last = np.minimum(ends[inside] - 1, self.size - 1) // PAGE_BYTES
        np.add.at(steps, last + 1, -1)
        pages = np.flatnonzero((np.cumsum(steps[:-1]) > 0) & ~self._held)
        if not len(pages):
            return
        if self.size <= WHOLE_BYTES:
            yield 0, self.size
            return
        cuts = np.flatnonzero(np.diff(pages) > 1 + GAP_BYTES // PAGE_BYTES)
        firsts = pages[np.append(0, cuts + 1)] * PAGE_BYTES
        lasts = (pages[np.append(cuts, len(pages) - 1)] + 1) * PAGE_BYTES
        for first, end in zip(firsts.tolist(), lasts.tolist(), strict=True):
            for start in range(first, min(end, self.size), RUN_BYTES):
                yield start, min(start + RUN_BYTES, end, self.size)

    def fill(self, start: int, end: int) -> None:
        """Fetches a range that `missing` gave."""
        data = io.read_range(self.path, start, end - start)
        assert isinstance(self.data, mmap.mmap)
        self.data[start:end] = data
        held = self._held[start // PAGE_BYTES : -(-end // PAGE_BYTES)]
        held[:] = True

    def count(self) -> int:
        """Brings `held_bytes` up to date, and returns it."""
        self.held_bytes = min(self.size, int(self._held.sum()) * PAGE_BYTES)
        return self.held_bytes

    def drop(self) -> None:
        """Forgets what was fetched; `data` stays where it is, and is zero again."""
        if isinstance(self.data, mmap.mmap):
            self.data.madvise(mmap.MADV_DONTNEED)
        self._held[:] = False
        self.held_bytes = 0


class PageCache:
    """The files of an index, as far as they have been needed lately.

    What a look-up reads must not be dropped under it: whoever fetches and reads holds `lock`, and
    calls `trim` before.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = CACHE_BYTES if limit_bytes is None else limit_bytes
        self.lock = threading.RLock()
        self._files: OrderedDict[str, Pages] = OrderedDict()

    def file(self, path: str, size: int) -> Pages:
        """A file of this size, from here on the last to be dropped."""
        found = self._files.get(path)
        if found is None:
            found = self._files[path] = Pages(path, size)
        self._files.move_to_end(path)
        return found

    def fetch(self, wanted: Iterable[tuple[Pages, Ints, Ints]]) -> None:
        """Makes ``data[start:end]`` of files right for all their starts and ends.

        Raises: IndexFormatError where a file ends before; HashbeamError where it cannot be read.
        """
        ranges, files = [], []
        for pages, starts, ends in wanted:
            files.append(pages)
            ranges += [(pages, *place) for place in pages.missing(starts, ends)]
        side_by_side(lambda place: place[0].fill(place[1], place[2]), ranges)
        for pages in files:
            pages.count()

    def fetch_whole(self, files: Sequence[Pages]) -> None:
        """Makes all of the files right."""
        self.fetch((pages, np.array([0]), np.array([pages.size])) for pages in files)

    def trim(self) -> None:
        """Drops the files that were used longest ago until the rest is within the limit."""
        held = sum(pages.held_bytes for pages in self._files.values())
        for pages in self._files.values():
            if held <= self.limit_bytes:
                return
            held -= pages.held_bytes
            pages.drop()
