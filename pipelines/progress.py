"""A progress bar on stderr."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable

from hashing.errors import HashbeamError

POLL_S = 0.5  # s between two looks at what is counted, which may be a listing of thousands of names


class Progress:
    """A bar on stderr that follows a number that somebody else increases.

    It polls, since with Beam the launcher hears nothing of its workers before the end.

    Args:
        total: the number at the end.
        count: gives the number now; called every `POLL_S` from a thread.
        unit: of what is counted.
        show: False for no bar at all.

    >>> with Progress(2, lambda: 2, unit="part", show=False):
    ...     pass
    """

    def __init__(self, total: int, count: Callable[[], int], *, unit: str, show: bool) -> None:
        self._total, self._count, self._unit, self._show = total, count, unit, show
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        if self._show:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._show:
            self._thread.join()

    def _follow(self) -> None:
        from tqdm import tqdm

        start = self._count()
        with tqdm(total=self._total, initial=start, unit=self._unit, file=sys.stderr) as bar:
            stopped = False
            while not stopped:
                stopped = self._stop.wait(POLL_S)
                with contextlib.suppress(HashbeamError):  # a listing that fails is tried again
                    bar.update(self._count() - bar.n)


def shows_progress(*, quiet: bool, asked: bool) -> bool:
    """Whether to draw a bar: on a terminal, or when asked to; never when told to be quiet.

    >>> shows_progress(quiet=True, asked=True)
    False
    """
    return not quiet and (asked or sys.stderr.isatty())
