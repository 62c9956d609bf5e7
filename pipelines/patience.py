"""Waiting out what passes: calls to an object store, tried again with growing pauses."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import random
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a call is tried; all in seconds.

    Attributes:
        first_s: pause after the first failure, on average three quarters of it.
        longest_s: pauses double up to this.
        deadline_s: no further attempt begins later than this after the first.
        request_s: how long one attempt may wait for the store to say something.
    """

    first_s: float = 0.5
    longest_s: float = 32.0
    deadline_s: float = 240.0
    request_s: float = 60.0


# Object stores ask for exponential back-off that begins at about a second and ends at 32 s or 64 s
# (Google's "Retry strategy"). Four minutes outlast a rollout or a burst of 429 while a bucket is
# scaled to a new load; a job that fails after that is run again by its scheduler.
PATIENCE = Patience()


class GaveUpError(OSError):
    """A call that kept failing until the deadline; `__cause__` is the last failure."""


def persist(
    action: Callable[[], Result],
    passes: Callable[[Exception], bool],
    told: Callable[[Exception], str] = str,
    *,
    patience: Patience | None = None,
) -> Result:
    """The result of `action`, called again while it raises what passes.

    Args:
        action: may be called any number of times.
        passes: whether an error is worth another attempt; any other is raised at once.
        told: an error in a few words, for the message.
        patience: how long; by default `PATIENCE`.

    Raises: GaveUpError (errno EIO) at the deadline, with the reason, attempts and time.

    >>> answers = iter([TimeoutError("busy"), TimeoutError("busy"), 7])
    >>> def ask():
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> persist(ask, lambda e: isinstance(e, TimeoutError), patience=Patience(first_s=0.001))
    7
    """
    patience = patience or PATIENCE
    started, pause = time.monotonic(), patience.first_s
    for attempt in itertools.count(1):
        try:
            return action()
        except Exception as error:
            if not passes(error):
                raise
            # Jitter, so that workers that failed together do not come back together; not seeded,
            # because they must differ.
            wait = pause * random.uniform(0.5, 1.0)
            spent = time.monotonic() - started
            if spent + wait > patience.deadline_s:
                times = "once" if attempt == 1 else f"{attempt} times"
                raise GaveUpError(
                    errno.EIO, f"{told(error)} (tried {times} in {spent:.0f} s)"
                ) from error
            time.sleep(wait)
            pause = min(2 * pause, patience.longest_s)
    raise AssertionError("unreachable")
