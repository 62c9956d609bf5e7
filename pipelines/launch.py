"""When a command was given: for one that is given again on a worker, when its launcher was started.

What was done since then is this command's work; what is older was finished by an earlier start.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

_LAUNCHED: ContextVar[float | None] = ContextVar("launched", default=None)


def launch_time() -> float:
    """Unix seconds: now, but where a launcher has said otherwise."""
    launched = _LAUNCHED.get()
    return time.time() if launched is None else launched


def is_given_again() -> bool:
    """Whether this is the last step of a job that a launcher has sent."""
    return _LAUNCHED.get() is not None


@contextlib.contextmanager
def launched_at(when: float) -> Iterator[None]:
    """In the block a command is given again that was launched then, Unix seconds.

    >>> with launched_at(5.0):
    ...     launch_time(), is_given_again()
    (5.0, True)
    >>> is_given_again()
    False
    """
    token = _LAUNCHED.set(when)
    try:
        yield
    finally:
        _LAUNCHED.reset(token)
