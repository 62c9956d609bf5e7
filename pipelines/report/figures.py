"""What came of the demo's recordings: one by one, and as the shares of ``figures.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.answers import MIN_SCORE, Answer
from pipelines.evaluation.accuracy import PLACE_TOLERANCE_S, Result, summarise

FORMAT_VERSION = 1

# What is kept of a match.
_KEPT = ("track_id", "title", "artist_name", "score", "votes", "offset_s")


@dataclasses.dataclass(frozen=True)
class Recording:
    """A query, and what it is a recording of.

    Attributes:
        file, original: it and the clean one of the same part, relative to the demo's folder.
        condition: a name of `hashing.conditions.Condition`.
        duration_s: its length.
        track: row of the catalogue that it was cut from.
        start_s: where in the track.
        indexed: whether the index holds the track.
    """

    file: str
    original: str
    condition: str
    duration_s: int
    track: dict[str, str]
    start_s: float
    indexed: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What look-up said about a recording, and the wall time that it took, decoding included.

    >>> track = {"track_id": "a", "title": "A"}
    >>> recording = Recording("q.flac", "q.flac", "clean", 1, track, 3.0, True)
    >>> answer = Answer(None, [{"track_id": "a", "score": 0.9, "offset_s": 3.1}])
    >>> Outcome(recording, answer, 5.0).verdict
    'right'
    """

    recording: Recording
    answer: Answer
    wall_ms: float

    @property
    def best(self) -> dict[str, Any] | None:
        """The first match, whatever its score."""
        return self.answer.matches[0] if self.answer.matches else None

    @property
    def on_target(self) -> bool:
        """Whether the first match is the track that was recorded."""
        best, recording = self.best, self.recording
        return bool(best and recording.indexed and best["track_id"] == recording.track["track_id"])

    @property
    def in_place(self) -> bool:
        """Whether it is that track, and the right place in it."""
        error_s = (self.best or {}).get("offset_s", np.inf) - self.recording.start_s
        return self.on_target and abs(error_s) <= PLACE_TOLERANCE_S

    @property
    def verdict(self) -> str:
        """``right``; ``missed``: no match, but there is one; ``wrong``: a match with another."""
        if self.best is None or self.best["score"] < MIN_SCORE:
            return "missed" if self.recording.indexed or self.answer.error else "right"
        return "right" if self.on_target else "wrong"

    def row(self) -> dict[str, Any]:
        """As ``figures.json`` lists it."""
        best = self.best
        return {
            **dataclasses.asdict(self.recording),
            "start_s": round(self.recording.start_s, 3),
            "verdict": self.verdict,
            "in_place": self.in_place,
            "answer": {name: best.get(name) for name in _KEPT} if best else None,
            "message": self.answer.message,
            "wall_ms": round(self.wall_ms, 2),
        }

    def result(self) -> Result:
        """As `pipelines.evaluation.accuracy` counts it."""
        recording, best = self.recording, self.best or {}
        return Result(
            condition=recording.condition,
            duration_s=float(recording.duration_s),
            wanted=recording.track["track_id"] if recording.indexed else "",
            start_s=recording.start_s,
            answer=best.get("track_id", ""),
            score=best.get("score", 0.0),
            offset_s=best.get("offset_s", 0.0),
            right=self.on_target,
            right_place=self.in_place,
        )


def make_figures(index: dict[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What ``figures.json`` holds.

    Args:
        index: facts about the index, units in the names.
        outcomes: at least one of a track that is indexed and one of a track that is not.

    Returns:
        ``conditions`` and ``durations`` are figures of `pipelines.evaluation.accuracy.summarise`,
        ``queries`` has a row for each recording, with the best match whatever its score.
    """
    shares = summarise([outcome.result() for outcome in outcomes])
    return {
        "format_version": FORMAT_VERSION,
        "index": index,
        "min_score": MIN_SCORE,
        "answer_wall_ms": round(float(np.median([outcome.wall_ms for outcome in outcomes])), 2),
        "conditions": shares["conditions"],
        "durations": shares["durations"],
        "queries": [outcome.row() for outcome in outcomes],
    }
