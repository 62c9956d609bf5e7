"""The same done to many things, in several processes or in this one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from hashing.errors import HashbeamError

Given = TypeVar("Given")
Made = TypeVar("Made")

_doing: list[Callable[[Any], Any]] = []  # in a worker process, what `_begin` has made


def each(
    make: Callable[[], Callable[[Given], Made]], given: Sequence[Given], workers: int
) -> Iterator[Made]:
    """What ``make()`` makes of each, in order; it is called once in every process.

    Where what it makes has a ``close``, that is called in the end; processes end anyway.

    Args:
      make: what crosses to another process: a function of a module, or a partial of one.
      workers: 1 for no process but this one.

    Raises: HashbeamError where a process dies.

    >>> list(each(lambda: abs, [-1, 2], 1))
    [1, 2]
    """
    if workers == 1 or len(given) < 2:
        do = make()
        with contextlib.ExitStack() as stack:
            stack.callback(getattr(do, "close", lambda: None))
            yield from map(do, given)
        return
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(given)), context, _begin, (make,)
    )
    try:
        yield from pool.map(_do, given)
    except concurrent.futures.process.BrokenProcessPool:
        raise HashbeamError(
            "a worker process died, of too little memory perhaps: try fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(make: Callable[[], Callable[[Any], Any]]) -> None:
    _doing[:] = [make()]


def _do(given: Any) -> Any:
    return _doing[0](given)
