"""Line charts: where lines, dots and ticks stand, in the units of their drawing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

# Places of the axes in the drawing of a chart, whose width is that of all charts.
WIDTH, HEIGHT = 510, 290
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 44
TICKS = 6  # at most

# Colours of the style sheet that tell lines apart, in their order; a seventh is dashed.
COLOURS = ("--accent", "--good", "--miss", "--bad", "--quiet", "--ink")


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Attributes:
        name: as the legend has it; a line without a name is not listed.
        points: x and y in the chart's own units.
        labels: what stands beside the points, of as many of them as there are.
        ranges: lower and upper end of a bar at each point.
        colour: a colour of the style sheet.
        dashed: what was not measured here: a diagonal, an ideal, another's figures.
        faint: opacity.
    """

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()
    ranges: Sequence[tuple[float, float]] = ()
    colour: str = "--accent"
    dashed: bool = False
    faint: float = 1.0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A line as it is drawn: the path, its dots, texts (x, y, text) and bars (x, top, bottom)."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    texts: list[tuple[float, float, str]]
    bars: list[tuple[float, float, float]]
    colour: str
    dashed: bool
    faint: float


@dataclasses.dataclass(frozen=True)
class LineChart:
    """All that the template needs to draw a chart; positions in the units of the drawing."""

    lines: list[Drawn]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    x_label: str
    y_label: str

    @property
    def spoken(self) -> str:
        """What the chart shows, in words."""
        names = ", ".join(line.name for line in self.lines if line.name)
        return f"{self.y_label} by {self.x_label}: {names}"


def coloured(curves: Iterable[Curve]) -> list[Curve]:
    """The curves, each in a colour of its own while there are some.

    >>> [one.colour for one in coloured([Curve("a", []), Curve("b", [])])]
    ['--accent', '--good']
    """
    return [
        dataclasses.replace(
            one, colour=COLOURS[number % len(COLOURS)], dashed=number >= len(COLOURS)
        )
        for number, one in enumerate(curves)
    ]


def line_chart(
    curves: Iterable[Curve],
    x_label: str,
    y_label: str,
    *,
    x_log: bool = False,
    x_from: float | None = None,
    top: float = 0.0,
    ticks: Sequence[float] = (),
) -> LineChart:
    """Lines over a linear or logarithmic axis; the other starts at 0, and ends at `top` or above.

    Round numbers are marked below unless `ticks` are given; `x_from` is where a linear axis begins
    that should not begin with the first point.

    >>> chart = line_chart([Curve("a", [(0, 0), (10, 50)])], "x", "y", top=100)
    >>> chart.lines[0].dots[0] == (LEFT, HEIGHT - BOTTOM), [text for _, text in chart.y_ticks]
    (True, ['0', '20', '40', '60', '80', '100'])
    """
    kept = [one for one in curves if one.points]
    if x_log:  # which has no place for 0
        kept = [one for one in kept if all(x > 0 for x, _ in one.points)]
    xs = [x for one in kept for x, _ in one.points] or [1.0]
    ys = [y for one in kept for _, y in [*one.points, *one.ranges]] or [1.0]
    low, high = min(xs), max(xs)
    if x_from is not None and not x_log:
        low = min(low, x_from)
    if low == high:
        low, high = low * 0.5, high * 2 or 1.0
    highest = max(top, *ys, 1e-9)

    def across(x: float) -> float:
        share = math.log(x / low) / math.log(high / low) if x_log else (x - low) / (high - low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def up(y: float) -> float:
        return round(HEIGHT - BOTTOM - y / highest * (HEIGHT - BOTTOM - TOP), 1)

    lines = []
    for one in kept:
        order = sorted(range(len(one.points)), key=lambda at: one.points[at])
        dots = [(across(one.points[at][0]), up(one.points[at][1])) for at in order]
        texts = [
            (*_beside(across(one.points[at][0]), up(one.points[at][1])), label)
            for at, label in enumerate(one.labels)
        ]
        bars = [
            (across(one.points[at][0]), up(ends[1]), up(ends[0]))
            for at, ends in enumerate(one.ranges)
        ]
        path = "M" + " L".join(f"{x} {y}" for x, y in dots)
        lines.append(Drawn(one.name, path, dots, texts, bars, one.colour, one.dashed, one.faint))
    x_ticks = list(ticks) or (decades(low, high) if x_log else steps(low, high))
    return LineChart(
        lines,
        [(across(x), f"{x:g}") for x in x_ticks],
        [(up(y), f"{y:g}") for y in steps(0.0, highest)],
        x_label,
        y_label,
    )


def _beside(x: float, y: float) -> tuple[float, float]:
    """Where the text of a dot stands: above it, or below where it is high up."""
    return (x, y - 8 if y > TOP + 16 else y + 17)


def steps(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, `TICKS` at most.

    >>> steps(0, 87), steps(5, 61)
    ([0.0, 20.0, 40.0, 60.0, 80.0], [20.0, 40.0, 60.0])
    """
    rough = (high - low) / (TICKS - 1)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(size * scale for size in (1, 2, 5, 10) if size * scale >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, with 2 and 5 between where there are few.

    Any round numbers where even those are too few.

    >>> decades(0.05, 3), decades(0.0001, 100), decades(2.1, 4.9)
    ([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0], [3.0, 4.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    sizes = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [round(size * 10.0**power, 10) for power in range(first, last + 1) for size in sizes]
    ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    return ticks if len(ticks) > 1 else steps(low, high)
