"""Where the marks of the charts stand, in the units of their drawing; templates draw them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 510  # of every chart: on a telephone it is shown at three quarters, its text at 10 px
LEFT, RIGHT = 168, 46  # margins with labels
TINTS = 5  # of the bars of a condition, in the style sheet

_BAR, _BAR_STEP, _GROUP_GAP = 12, 16, 18
_ROW, _ROW_GAP, _SPREAD, _SECTION = 30, 6, 22, 26
_GOLDEN = 0.618034  # multiples of it, modulo 1, never crowd


@dataclasses.dataclass(frozen=True)
class Bar:
    """A share: `accepted` and `top1` as lengths from `LEFT`, `label` at its end."""

    name: str
    y: float
    accepted: float
    top1: float
    label: str
    tint: int


@dataclasses.dataclass(frozen=True)
class Group:
    """The bars of one condition."""

    name: str
    y: float
    bars: list[Bar]


@dataclasses.dataclass(frozen=True)
class Dot:
    """The score of one recording."""

    x: float
    y: float
    verdict: str


@dataclasses.dataclass(frozen=True)
class Row:
    """The scores of recordings of one length."""

    name: str
    y: float
    dots: list[Dot]


@dataclasses.dataclass(frozen=True)
class Chart:
    """All that a template needs: `height`, `ticks` (position, text), and groups or rows."""

    height: float
    bottom: float
    ticks: list[tuple[float, str]]
    groups: list[Group]
    sections: list[tuple[str, float, list[Row]]]
    threshold: float = 0.0


def share_chart(figures: Mapping[str, Any]) -> Chart:
    """Bars: how often the right track was found, by condition and duration.

    >>> row = {"condition": "clean", "duration_s": 1.0, "accepted": 0.5, "top1": 1.0}
    >>> chart = share_chart({"conditions": [row]})
    >>> chart.groups[0].bars[0].accepted * 2 == chart.groups[0].bars[0].top1 == WIDTH - LEFT - RIGHT
    True
    """
    groups, y = [], 8.0
    rows = figures["conditions"]
    for name in dict.fromkeys(row["condition"] for row in rows):
        bars: list[Bar] = []
        start = y
        for row in sorted(
            (row for row in rows if row["condition"] == name), key=lambda row: row["duration_s"]
        ):
            length = f"{row['duration_s']:g} s"
            accepted, top1 = row["accepted"] or 0.0, row["top1"] or 0.0
            label = f"{100 * accepted:.0f} %"
            tint = min(len(bars) + 1, TINTS)
            bars.append(Bar(length, y, _across(accepted), _across(top1), label, tint))
            y += _BAR_STEP
        groups.append(Group(name, (start + y - _BAR_STEP + _BAR) / 2, bars))
        y += _GROUP_GAP
    bottom = y - _GROUP_GAP + 4
    ticks = [(LEFT + _across(share), f"{100 * share:.0f} %") for share in (0.0, 0.5, 1.0)]
    return Chart(bottom + 24, bottom, ticks, groups, [])


def score_chart(figures: dict[str, Any]) -> Chart:
    """Dots: the score of the best match of each recording, known tracks above, others below.

    >>> query = {"indexed": True, "duration_s": 1, "answer": {"score": 1.0}, "verdict": "right"}
    >>> chart = score_chart({"queries": [query], "min_score": 0.5})
    >>> [(title, rows[0].name, rows[0].dots[0].x) for title, _, rows in chart.sections]
    [('Tracks of the index', '1 s', 464.0)]
    """
    sections, y = [], 0.0
    for title, indexed in (("Tracks of the index", True), ("Tracks that are not in it", False)):
        chosen = [query for query in figures["queries"] if query["indexed"] == indexed]
        if not chosen:
            continue
        y += _SECTION
        top, rows = y - 8, []
        for seconds in sorted({query["duration_s"] for query in chosen}):
            of_length = [query for query in chosen if query["duration_s"] == seconds]
            rows.append(Row(f"{seconds:g} s", y + _ROW / 2, _dots(of_length, y + _ROW / 2)))
            y += _ROW + _ROW_GAP
        sections.append((title, top, rows))
    ticks = [(LEFT + _across(score), f"{score:g}") for score in (0.0, 0.25, 0.5, 0.75, 1.0)]
    threshold = LEFT + _across(figures["min_score"])
    return Chart(y + 24, y, ticks, [], sections, threshold)


def _dots(queries: Sequence[dict[str, Any]], middle: float) -> list[Dot]:
    dots = []
    for number, query in enumerate(queries):
        score = query["answer"]["score"] if query["answer"] else 0.0
        aside = (number * _GOLDEN % 1.0 - 0.5) * _SPREAD
        dots.append(
            Dot(round(LEFT + _across(score), 1), round(middle + aside, 1), query["verdict"])
        )
    return dots


def _across(share: float) -> float:
    return round(share * (WIDTH - LEFT - RIGHT), 1)
