"""Work that is spread over processes; whoever is done first comes first."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Task = TypeVar("Task")


def spread(work: Callable[[Task], int], tasks: Sequence[Task], workers: int) -> Iterator[int]:
    """What `work`, a function of a module, gives for each task, as they are done.

    One worker, or one task, needs no process but this one.

    >>> sorted(spread(len, ["ab", "c"], 1))
    [1, 2]
    """
    if workers < 2 or len(tasks) < 2:
        yield from map(work, tasks)
        return
    # Spawned, because threads of the caller do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(work, task) for task in tasks]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
