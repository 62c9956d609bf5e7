"""Passing failures are waited out with growing pauses, up to a deadline."""

from __future__ import annotations

import errno

import pytest

from pipelines import patience
from pipelines.patience import GaveUpError, Patience, persist


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pauses = 0.0, list[float]()
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(patience.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def fail() -> None:
    raise ConnectionResetError("gone")


def is_lost(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def test_pauses_double_with_jitter_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(GaveUpError):
        persist(fail, is_lost, patience=Patience(1.0, 8.0, 100.0))
    most = [1.0, 2.0, 4.0] + [8.0] * (len(clock.pauses) - 3)
    assert all(m / 2 <= pause <= m for pause, m in zip(clock.pauses, most, strict=True))
    assert len(set(clock.pauses)) == len(clock.pauses)
    assert 92 <= clock.now <= 100


def test_the_end_tells_why_how_often_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    with pytest.raises(GaveUpError, match=r"lost: gone \(tried \d+ times in \d+ s\)") as caught:
        persist(fail, is_lost, lambda error: f"lost: {error}", patience=Patience(1.0, 8.0, 20.0))
    assert caught.value.errno == errno.EIO
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    with pytest.raises(GaveUpError, match=r"gone \(tried once in 0 s\)"):
        persist(fail, is_lost, patience=Patience(1.0, 8.0, 0.0))


def test_what_does_not_pass_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(ConnectionResetError):
        persist(fail, lambda error: False)
    assert clock.pauses == []
