"""Line charts: where dots stand, by hand; and the charts and tables of an evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.accuracy import Result, summarise
from pipelines.report.evaluation import comparison_charts
from pipelines.report.lines import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Curve,
    coloured,
    decades,
    line_chart,
    steps,
)


def test_a_logarithmic_axis_has_a_decade_in_equal_steps() -> None:
    chart = line_chart([Curve("a", [(1, 0), (10, 50), (100, 100)])], "x", "y", x_log=True, top=100)
    (line,) = chart.lines
    xs, ys = zip(*line.dots, strict=True)
    assert xs == (LEFT, LEFT + (WIDTH - LEFT - RIGHT) / 2, WIDTH - RIGHT)
    assert ys == (HEIGHT - BOTTOM, TOP + (HEIGHT - BOTTOM - TOP) / 2, TOP)
    assert [text for _, text in chart.x_ticks] == ["1", "2", "5", "10", "20", "50", "100"]
    assert chart.spoken == "y by x: a"


def test_points_are_joined_in_order_and_bars_reach_from_end_to_end() -> None:
    curve = Curve("a", [(2, 1), (1, 0)], labels=["late", "early"], ranges=[(0, 2), (0, 1)])
    (line,) = line_chart([curve], "x", "y").lines
    assert line.dots[0][0] < line.dots[1][0]
    assert line.path.startswith(f"M{line.dots[0][0]} {line.dots[0][1]} L")
    assert [text for *_, text in line.texts] == ["late", "early"]
    assert line.bars[0] == (line.dots[1][0], TOP, HEIGHT - BOTTOM)


def test_what_cannot_be_drawn_is_left_out() -> None:
    zero = Curve("zero", [(0, 1), (1, 2)])
    chart = line_chart([Curve("none", []), zero], "x", "y", x_log=True)
    assert chart.lines == []
    assert len(line_chart([zero], "x", "y").lines) == 1
    # One point alone has an axis around it.
    (line,) = line_chart([Curve("one", [(3, 1)])], "x", "y").lines
    assert LEFT < line.dots[0][0] < WIDTH - RIGHT
    assert [one.dashed for one in coloured([zero] * 7)] == [False] * 6 + [True]


@given(low=st.floats(1e-4, 1e3), wide=st.floats(1.05, 1e4))
def test_ticks_are_within_the_axis_and_few(low: float, wide: float) -> None:
    for ticks in (steps(low, low * wide), decades(low, low * wide)):
        assert len(ticks) <= 12
        assert all(low * 0.99 <= tick <= low * wide * 1.01 for tick in ticks)
        assert ticks == sorted(set(ticks))


def system(index: str, probes: int, right: int, cost: float) -> dict[str, Any]:
    """Of ten queries so many are right, above all negatives."""
    found = Result("clean", 5.0, "a", 0.0, "a", 0.9, hash_cpu_ms=1.0, look_up_cpu_ms=cost - 1.0)
    found = dataclasses.replace(found, examined=cost / 100, compared=0.001)
    results = [dataclasses.replace(found, right=n < right) for n in range(10)]
    results.append(dataclasses.replace(found, wanted="", score=0.2))
    name = f"{index}, {probes} probes"
    facts = {"name": name, "index": index, "probes": probes, "look_up_bytes_per_snippet": 300.0}
    return {**facts, **summarise(results)}


def test_systems_are_compared_by_what_they_cost() -> None:
    systems = [system("a", 1, 5, 2.0), system("a", 8, 9, 8.0), system("b", 8, 7, 4.0)]
    charts = comparison_charts(systems)
    # A line an index, a dot a number of probes, which are named where there are several.
    for name in ("examined", "milliseconds"):
        assert [len(line.dots) for line in charts[name].lines] == [2, 1]
        assert [text for *_, text in charts[name].lines[0].texts] == ["1", "8"]
        assert [line.name for line in charts[name].lines] == ["a", "b"]
    heights = [y for line in charts["milliseconds"].lines for _, y in line.dots]
    tall = HEIGHT - BOTTOM - TOP
    assert heights == [
        pytest.approx(HEIGHT - BOTTOM - share * tall, abs=0.1) for share in (0.5, 0.9, 0.7)
    ]
    # Of an index's bytes the probes change nothing: its best figure counts.
    assert [len(line.dots) for line in charts["bytes"].lines] == [1, 1]
    assert charts["bytes"].lines[0].dots[0][1] == heights[1]
    assert charts["lengths"].y_label == "right at 1 % false alarms, %"
    # Where one of them has no negatives, all are compared without a threshold.
    systems[2]["overall"]["at_1_percent"] = None
    assert comparison_charts(systems)["lengths"].y_label == "right track first, %"
