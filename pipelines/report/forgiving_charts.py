"""The charts of ``hashbeam evaluate forgiving``: lines, the paper's dashed beside ours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.report import forgiving_claims as published
from pipelines.report.forgiving_claims import by_hidden, only

# Places of the axes in the drawing of a chart, whose width is that of all charts.
WIDTH, HEIGHT = 510, 290
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 44
TICKS = 6  # at most

NOISE_LENGTH_S = 5.0  # of the queries whose accuracy in noise is drawn

# What each hash and procedure is called, and its colour of the style sheet.
NAMES = {
    "reassigned": ("Forgiving hash, targets that move", "--accent"),
    "static": ("Targets that stay", "--miss"),
    "random": ("Random weights", "--quiet"),
    "random projections": ("Random projections", "--good"),
    "min-hash": ("Min-Hash of wavelets", "--bad"),
}
SELECTORS = {
    "random": ("Random bits", "--quiet"),
    "correlation": ("Least correlated", "--miss"),
    "information": ("Least mutual information", "--accent"),
}
VARIANTS = {
    "same songs": ("Eight bits, the same songs", "--accent"),
    "own songs": ("Eight bits, songs of its own", "--good"),
    "one bit": ("One bit, the same songs", "--miss"),
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line of a chart: `points` in the chart's own units; `read` off the paper is dashed."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = "--accent"
    read: bool = False
    faint: float = 1.0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A line as it is drawn: the path, and its dots."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    colour: str
    read: bool
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
        return f"{self.y_label} by {self.x_label}: {', '.join(line.name for line in self.lines)}"


def line_chart(
    curves: Iterable[Curve],
    x_label: str,
    y_label: str,
    *,
    x_log: bool = False,
    top: float = 0.0,
    ticks: Sequence[float] = (),
) -> LineChart:
    """Lines over a linear or logarithmic axis; the other starts at 0, and ends at `top` or above.

    Round numbers are marked below unless `ticks` are given.

    >>> chart = line_chart([Curve("a", [(0, 0), (10, 50)])], "x", "y", top=100)
    >>> chart.lines[0].dots[0] == (LEFT, HEIGHT - BOTTOM), [text for _, text in chart.y_ticks]
    (True, ['0', '20', '40', '60', '80', '100'])
    """
    # A logarithmic axis has no place for a share of 0.
    shown = [
        dataclasses.replace(one, points=[at for at in one.points if at[0] > 0 or not x_log])
        for one in curves
    ]
    kept = [one for one in shown if one.points]
    xs = [x for one in kept for x, _ in one.points] or [1.0]
    ys = [y for one in kept for _, y in one.points] or [1.0]
    low, high = min(xs), max(xs)
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
        dots = [(across(x), up(y)) for x, y in sorted(one.points)]
        path = "M" + " L".join(f"{x} {y}" for x, y in dots)
        lines.append(Drawn(one.name, path, dots, one.colour, one.read, one.faint))
    x_ticks = list(ticks) or (decades(low, high) if x_log else steps(low, high))
    return LineChart(
        lines,
        [(across(x), f"{x:g}") for x in x_ticks],
        [(up(y), f"{y:g}") for y in steps(0.0, highest)],
        x_label,
        y_label,
    )


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


def forgiving_charts(figures: Mapping[str, Any]) -> dict[str, LineChart]:
    """Every chart of the page by name."""
    tables = figures["tables"]
    first, found, examined = "right song first, %", "bins that hold the right song, %", "examined"
    here = [Curve("here", _points(tables["ranks"], "rank", "right"))]
    paper = [Curve("paper", list(enumerate(published.RANKS, 1)), "--quiet", read=True)]
    share = "% of the database examined"
    of = {
        "selection": _curves(tables["selection"], "selector", SELECTORS, examined, "found"),
        "hashes": [
            dataclasses.replace(curve, points=unbeaten(curve.points))
            for curve in _curves(tables["hashes"], "hash", NAMES, examined, "right")
        ],
        "variants": _curves(tables["variants"], "variant", VARIANTS, examined, "right"),
        "lengths": _curves(
            only(tables["lengths"], apart=1, rule="sum"), "hash", NAMES, "length_s", "right"
        ),
    }
    read = [
        Curve(f"{NAMES[name][0]}, paper", list(values.items()), NAMES[name][1], read=True)
        for name, values in published.LENGTHS.items()
    ]
    return {
        "bits_right": _bits_right(tables["single"]),
        "found": _by_hidden(tables["single"], "found", found, top=100),
        "examined": _by_hidden(tables["single"], examined, "of the database in the bin, %"),
        "selection": line_chart(of["selection"], "% of the database in the bin", found, x_log=True),
        "grid_excerpts": _grid(tables["grid"], "excerpts"),
        "grid_songs": _grid(tables["grid"], "songs"),
        "ranks": line_chart(here + paper, "rank", "of the right song, %", top=100),
        "lengths": line_chart(of["lengths"] + read, "seconds of query", first, x_log=True, top=100),
        "hashes": line_chart(of["hashes"], share, first, x_log=True, top=100),
        "variants": line_chart(of["variants"], share, first, x_log=True, top=100),
        "white": _noise(tables["noise"], "white"),
        "ambience": _noise(tables["noise"], "ambience"),
    }


def unbeaten(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats with as little of x and as much of y.

    >>> unbeaten([(1, 10), (2, 5), (3, 20)])
    [(1, 10), (3, 20)]
    """
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept


def _bits_right(single: Sequence[Mapping[str, Any]]) -> LineChart:
    outputs, curves = single[0]["outputs"], []
    for name in ("reassigned", "static"):
        title, colour = NAMES[name]
        here = [(h, 100 * value / outputs) for h, value in by_hidden(single, name, "bits_right")]
        paper = [(h, 100 * value / published.OUTPUTS) for h, value in published.BITS_RIGHT[name]]
        curves += [Curve(title, here, colour), Curve(f"{title}, paper", paper, colour, read=True)]
    return line_chart(curves, "hidden units", "bits right, %", top=100)


def _by_hidden(
    single: Sequence[Mapping[str, Any]], figure: str, label: str, top: float = 0.0
) -> LineChart:
    curves = []
    for name in ("reassigned", "static", "random"):
        title, colour = NAMES[name]
        points = [(hidden, 100 * value) for hidden, value in by_hidden(single, name, figure)]
        curves.append(Curve(title, points, colour))
    return line_chart(curves, "hidden units", label, top=top)


def _grid(grid: Sequence[Mapping[str, Any]], database: str) -> LineChart:
    chosen = only(grid, database=database)
    lengths = sorted({row["key_bits"] for row in chosen})
    curves = [
        Curve(
            f"{b} bits",
            _points(only(chosen, key_bits=b), "n_tables", "right"),
            faint=0.25 + 0.75 * i / max(1, len(lengths) - 1),
        )
        for i, b in enumerate(lengths)
    ]
    if database == "excerpts":
        paper = [(tables, float(right)) for tables, right in published.GRID_22_BITS.items()]
        curves.append(Curve("22 bits, paper", paper, "--quiet", read=True))
    return line_chart(curves, "tables", "right song first, %", top=100)


def _noise(rows: Sequence[Mapping[str, Any]], kind: str) -> LineChart:
    of_kind = [
        {**row, "level": float(row["condition"].split("@")[1])}
        for row in rows
        if row["condition"].startswith(f"{kind}@") and row["length_s"] == NOISE_LENGTH_S
    ]
    curves = _curves(of_kind, "hash", NAMES, "level", "right")
    return line_chart(
        curves, "dB that the noise lies below the music", "right song first, %", top=100
    )


def _curves(
    rows: Sequence[Mapping[str, Any]],
    column: str,
    kinds: Mapping[str, tuple[str, str]],
    x: str,
    y: str,
) -> list[Curve]:
    """A curve for each kind of row."""
    return [
        Curve(title, _points(only(rows, **{column: kind}), x, y), colour)
        for kind, (title, colour) in kinds.items()
    ]


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    return [(100 * row[x] if x == "examined" else row[x], 100 * row[y]) for row in rows]
