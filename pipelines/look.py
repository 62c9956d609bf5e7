"""Looking at many files without opening them, local or remote: their sizes and times, in parallel.

Whatever cannot be looked at counts as not there: the next to try is the decoder, which says why.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipelines import stores
from pipelines.content import content_checksum
from pipelines.stores import is_remote, local, side_by_side

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GONE = -1  # the size of a file that is not there
# Asked at once: a question to a local disk costs 2 µs and to a network drive a thousand times more,
# all of it waiting. Of an object store, `stores.READERS`.
LOCAL_THREADS = 4
CHUNK = 1024  # local files that a thread is given at once, so that handing over costs nothing

Item = TypeVar("Item")


def look_at(uris: Sequence[str]) -> tuple[Ints, Floats]:
    """Sizes (bytes, `GONE` where there is no such file) and modification times (Unix seconds).

    The time is nan where the store tells none.

    >>> sizes, times = look_at([__file__, "no such file"])
    >>> sizes.tolist()[1], times.tolist()[1]
    (-1, nan)
    """
    found = _in_threads(_ask, uris)
    return (
        np.array([size for size, _ in found], np.int64),
        np.array([time for _, time in found], np.float64),
    )


def checksums(uris: Sequence[str]) -> list[bytes | None]:
    """The `pipelines.content` checksums of files; None where one cannot be read."""
    return _in_threads(_checksum, uris)


def modified(uri: str) -> float | None:
    """When a file was modified, Unix seconds; None where that is not known."""
    _, time = _ask(uri)
    return None if np.isnan(time) else time


def _in_threads(ask: Callable[[str], Item], uris: Sequence[str]) -> list[Item]:
    if any(map(is_remote, uris)):
        return side_by_side(ask, uris)
    chunks = [uris[first : first + CHUNK] for first in range(0, len(uris), CHUNK)]
    asked = side_by_side(lambda chunk: list(map(ask, chunk)), chunks, LOCAL_THREADS)
    return [item for part in asked for item in part]


def _ask(uri: str) -> tuple[int, float]:
    try:
        if is_remote(uri):
            size, time = stores.remote(uri).stat(uri) or (GONE, None)
            return size, np.nan if time is None else time
        status = os.stat(local(uri))
    except Exception:  # every store has errors of its own
        return GONE, np.nan
    if not stat.S_ISREG(status.st_mode):
        return GONE, np.nan
    return status.st_size, status.st_mtime


def _checksum(uri: str) -> bytes | None:
    size, _ = _ask(uri)
    with contextlib.suppress(Exception):  # as above
        if size != GONE:
            with stores.open_read(uri) as file:
                return content_checksum(file, size)
    return None
