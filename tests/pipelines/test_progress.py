"""Lines of progress by a clock that the test turns, and what is said beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hashing.errors import HashbeamError
from pipelines.progress import LINE_S, Pace, Progress


def test_rate_and_time_left_are_those_of_the_last_minutes() -> None:
    pace = Pace("job", 1000, "part", rate_s=120.0)
    assert pace.line(0.0, 100, "") == "job: 100 of 1000 parts (10 %)"
    # What was finished before the start does not count as work.
    assert pace.line(60.0, 160, "") == "job: 160 of 1000 parts (16 %), 1.0 parts/s, 14 min left"
    assert pace.line(120.0, 160, "") == "job: 160 of 1000 parts (16 %), 30.0 parts/min, 28 min left"
    # The fast first minute is forgotten.
    assert pace.line(180.0, 160, "") == "job: 160 of 1000 parts (16 %), nothing finished for 2 min"
    assert pace.line(240.0, 161, "") == ("job: 161 of 1000 parts (16 %), 30.0 parts/h, 28.0 h left")


def test_the_end_is_not_left_over() -> None:
    pace = Pace("job", 10, "part")
    pace.line(0.0, 0, "")
    assert pace.line(5.0, 10, "2 tracks failed") == (
        "job: 10 of 10 parts (100 %), 2.0 parts/s, 2 tracks failed"
    )
    # There may be more table shards than were thought.
    assert pace.line(10.0, 12, "") == "job: 12 of 10 parts (100 %), 1.2 parts/s"
    assert Pace("job", 0, "part").line(0.0, 0, "") == "job: 0 of 0 parts (0 %)"


class Clock:
    """Time passes when somebody waits; the job ends after so many waits."""

    def __init__(self, waits: int) -> None:
        self.now, self._left, self.waited = 0.0, waits, list[float]()

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        self.waited.append(seconds)
        self._left -= 1
        return self._left <= 0


def run_with(
    clock: Clock, counts: list[int | None], *, show: bool = False, **named: object
) -> None:
    """A job whose number is `counts` at each look, None where it cannot be read."""
    looks = iter(counts)

    def count() -> int:
        found = next(looks)
        if found is None:
            raise HashbeamError("the listing failed")
        return found

    with Progress(
        100, count, unit="part", show=show, wait=clock.wait, clock=lambda: clock.now, **named
    ) as progress:
        progress._thread.join()


def test_a_line_a_minute_where_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(waits=4)
    run_with(clock, [0, 6, None, 60], name="hashbeam index", said=lambda: "1 track failed")
    # Three minutes and the end; the second line is missing, as nothing was known then.
    assert clock.waited == [LINE_S] * 4
    assert capsys.readouterr().err.splitlines() == [
        "hashbeam index: 6 of 100 parts (6 %), 6.0 parts/min, 16 min left, 1 track failed",
        "hashbeam index: 60 of 100 parts (60 %), 20.0 parts/min, 2 min left, 1 track failed",
    ]


def test_news_are_said_once_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    said = iter([["first"], ["second", "last"]])
    ends = list[bool]()

    def news(ended: bool) -> list[str]:
        ends.append(ended)
        return next(said)

    run_with(Clock(waits=2), [0, 50], name="job", news=news)
    assert ends == [False, True]
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("job:")] == ["first", "second", "last"]
    assert lines[-1] == "last"


def test_a_short_job_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_with(Clock(waits=1), [0, 100], name="job")
    assert capsys.readouterr().err == ""
    with Progress(2, lambda: 2, unit="part", show=False):
        pass
    assert capsys.readouterr().err == ""


def test_a_bar_lets_news_pass(capsys: pytest.CaptureFixture[str]) -> None:
    news: Iterator[list[str]] = iter([["a track failed"], []])
    run_with(Clock(waits=2), [0, 40, 100], show=True, news=lambda ended: next(news))
    shown = capsys.readouterr().err
    assert "a track failed\n" in shown
    assert "100/100" in shown
