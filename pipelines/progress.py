"""How far a job is: a bar on a terminal, a line a minute in the log of a scheduled job."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from hashing.errors import HashbeamError

POLL_S = 0.5  # s between two looks at what is counted, which may be a listing of thousands of names
LINE_S = 60.0  # s between two lines in a log
# s whose work tells the rate: long enough for a few large parts, short enough to follow a change.
RATE_S = 600.0


@dataclasses.dataclass
class Pace:
    """Lines that say how far a job is, how fast it goes and how long it will take.

    Args:
        name: of the job, with which every line begins.
        total: the number at the end.
        unit: of what is counted.
        rate_s: s whose work tells the rate.

    >>> pace = Pace("hashbeam index", 4096, "part")
    >>> pace.line(0.0, 1000, "")
    'hashbeam index: 1000 of 4096 parts (24 %)'
    >>> pace.line(60.0, 1186, "3 tracks failed")
    'hashbeam index: 1186 of 4096 parts (28 %), 3.1 parts/s, 16 min left, 3 tracks failed'
    """

    name: str
    total: int
    unit: str
    rate_s: float = RATE_S

    def __post_init__(self) -> None:
        self._past: deque[tuple[float, int]] = deque()

    def line(self, now_s: float, done: int, said: str) -> str:
        """The line at a time of a clock that only rises; `said` stands at its end."""
        past = self._past
        past.append((now_s, done))
        while len(past) > 2 and past[1][0] <= now_s - self.rate_s:
            past.popleft()
        share = 100 * min(done, self.total) // max(1, self.total)
        pieces = [f"{self.name}: {done} of {self.total} {self.unit}s ({share} %)"]
        (first_s, first), left = past[0], max(0, self.total - done)
        if done > first and now_s > first_s:
            rate = (done - first) / (now_s - first_s)
            pieces.append(self._rate(rate))
            if left:
                pieces.append(f"{_time(left / rate)} left")
        elif now_s > first_s and left:
            pieces.append(f"nothing finished for {_time(now_s - first_s)}")
        return ", ".join([*pieces, said] if said else pieces)

    def _rate(self, rate: float) -> str:
        for per, seconds in (("s", 1), ("min", 60)):
            if rate * seconds >= 1:
                return f"{rate * seconds:.1f} {self.unit}s/{per}"
        return f"{rate * 3600:.1f} {self.unit}s/h"


def _time(seconds: float) -> str:
    from pipelines.report.page import length  # with what pages need: not before it is needed

    return length(seconds)


class Progress:
    """Follows a number that somebody else increases, on stderr.

    It polls, since with Beam the launcher hears nothing of its workers before the end.

    Args:
        total: the number at the end, or what gives it, where that is known better later on.
        count: gives the number now; called every `POLL_S` or `LINE_S` from a thread.
        unit: of what is counted.
        show: whether to draw a bar.
        name: of the job, where there is no bar: a line every `LINE_S` begins with it; "" for none.
        news: lines to be said once each, between the others; it is told whether the job has ended.
        said: what stands at the end of a line.
        wait: waits so many seconds, and tells whether the job has ended meanwhile.
        clock: seconds that only rise.

    >>> with Progress(2, lambda: 2, unit="part", show=False):
    ...     pass
    """

    def __init__(
        self,
        total: int | Callable[[], int],
        count: Callable[[], int],
        *,
        unit: str,
        show: bool,
        name: str = "",
        news: Callable[[bool], Iterable[str]] = lambda ended: (),
        said: Callable[[], str] = str,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total if callable(total) else lambda: total
        self._count, self._unit, self._show = count, unit, show
        self._name, self._news, self._said, self._clock = name, news, said, clock
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._thread = threading.Thread(
            target=self._draw if show else self._tell, name="progress", daemon=True
        )

    def __enter__(self) -> Progress:
        if self._show or self._name:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._show or self._name:
            self._thread.join()

    def _draw(self) -> None:
        from tqdm import tqdm

        start = self._count()
        with tqdm(total=self._total(), initial=start, unit=self._unit, file=sys.stderr) as bar:
            stopped = False
            while not stopped:
                stopped = self._wait(POLL_S)
                with contextlib.suppress(HashbeamError):  # a listing that fails is tried again
                    for line in self._news(stopped):
                        bar.write(line, file=sys.stderr)
                    bar.total = self._total()
                    bar.update(self._count() - bar.n)

    def _tell(self) -> None:
        pace = Pace(self._name, self._total(), self._unit)
        with contextlib.suppress(HashbeamError):
            pace.line(self._clock(), self._count(), "")  # where the rate is counted from
        stopped = False
        while not stopped:
            stopped = self._wait(LINE_S)
            with contextlib.suppress(HashbeamError):
                lines = list(self._news(stopped))
                pace.total = self._total()
                if not stopped:
                    lines.append(pace.line(self._clock(), self._count(), self._said()))
                for line in lines:
                    print(line, file=sys.stderr, flush=True)


def shows_progress(*, quiet: bool, asked: bool) -> bool:
    """Whether to draw a bar: on a terminal, or when asked to; never when told to be quiet.

    >>> shows_progress(quiet=True, asked=True)
    False
    """
    return not quiet and (asked or sys.stderr.isatty())
