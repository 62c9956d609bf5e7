"""The charts of an index's health: where bars stand, in the units of their drawing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pipelines.health.buckets import SizeClass, TableBalance
from pipelines.report.lines import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, steps
from pipelines.report.page import length, size
from pipelines.summary import Summary

_FLOOR = HEIGHT - BOTTOM  # where bars stand
_GAP = 0.24  # share of a bar's place that stays free
_EDGE = 28  # from the middle of a label to the end of the drawing, for the widest
_LABELS = 8  # below a chart, at most: more would touch each other on a telephone

# Bars that lie: rows of a name, a bar and a figure.
ROW, BAR, NAME, FIGURE = 30, 14, 148, 150
STAGES = ("start", "hash", "tables", "the rest")  # of a run, in the order of their colours


@dataclasses.dataclass(frozen=True)
class Column:
    """A bar that stands: its place, and where the perfect hash's would end."""

    x: float
    y: float
    width: float
    height: float
    perfect: float
    spoken: str


@dataclasses.dataclass(frozen=True)
class Columns:
    """Bars side by side; ticks are places with their texts, `band` is from where and how high."""

    bars: list[Column]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    x_label: str
    band: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a bar that lies: from where, how long, and the number of its colour from 1 on."""

    x: float
    width: float
    tint: int


@dataclasses.dataclass(frozen=True)
class Row:
    """A bar that lies."""

    name: str
    y: float
    pieces: list[Piece]
    figure: str


@dataclasses.dataclass(frozen=True)
class Rows:
    """Bars below each other."""

    rows: list[Row]
    height: float


def class_chart(classes: Sequence[SizeClass]) -> Columns:
    """Share of the postings by the size of their bucket.

    >>> chart = class_chart([SizeClass(1, 1, 0.5, 0.25), SizeClass(2, 2, 0.5, 0.75)])
    >>> chart.bars[0].height, chart.bars[0].y > chart.bars[0].perfect
    (157.3, False)
    >>> [text for _, text in chart.x_ticks]
    ['1', '2']
    """
    names = [f"{one.low:,}" if one.low == one.high else f"≤{_short(one.high)}" for one in classes]
    return _columns(
        [(100 * one.share, 100 * one.perfect) for one in classes],
        "postings of the bucket",
        names,
        [
            f"{100 * one.share:.1f} % of the postings stand in buckets of {one.low:,} to "
            f"{one.high:,}; with a perfect hash {100 * one.perfect:.1f} %"
            for one in classes
        ],
    )


def table_chart(tables: Sequence[TableBalance]) -> Columns:
    """Entropy of each table, in bits."""
    return _columns(
        [(one.entropy_bits, one.perfect_bits) for one in tables],
        "table",
        [str(one.table) for one in tables],
        [
            f"Table {one.table}: {one.entropy_bits:.2f} bits, a perfect hash "
            f"{one.perfect_bits:.2f}; the fullest bucket read holds {one.largest:,}"
            for one in tables
        ],
    )


def _columns(
    values: Sequence[tuple[float, float]], x_label: str, names: Sequence[str], spoken: Sequence[str]
) -> Columns:
    """Bars of the first of each pair of values, marks of the second."""
    highest = max([1e-9, *(value for pair in values for value in pair)])
    place = (WIDTH - LEFT - RIGHT) / max(1, len(values))

    def up(value: float) -> float:
        return round(_FLOOR - value / highest * (_FLOOR - TOP), 1)

    bars, ticks = [], []
    every = -(-len(values) // _LABELS)
    for number, (value, perfect) in enumerate(values):
        left = LEFT + number * place
        width, y = round(place * (1 - _GAP), 2), up(value)
        x = round(left + place * _GAP / 2, 2)
        bars.append(Column(x, y, width, round(_FLOOR - y, 1), up(perfect), spoken[number]))
        if number % every == 0:
            ticks.append((round(min(left + place / 2, WIDTH - _EDGE), 1), names[number]))
    y_ticks = [(up(value), f"{value:g}") for value in steps(0.0, highest)]
    return Columns(bars, ticks, y_ticks, x_label)


def bit_chart(shares: Sequence[float], even: tuple[float, float]) -> Columns:
    """How far the share of ones of each bit is from a half; `perfect` is the place of the half.

    The band reaches over the shares that are `even` enough.

    >>> chart = bit_chart([0.5, 1.0], (0.25, 0.75))
    >>> [bar.height for bar in chart.bars], chart.bars[1].y == TOP
    ([0.5, 118.0], True)
    """
    place = (WIDTH - LEFT - RIGHT) / max(1, len(shares))

    def up(share: float) -> float:
        return round(_FLOOR - share * (_FLOOR - TOP), 1)

    gap = _GAP if place > 4 else 0.0  # hundreds of bars are an outline
    bars = [
        Column(
            x=round(LEFT + (bit + gap / 2) * place, 2),
            y=min(up(share), up(0.5)),
            width=round(place * (1 - gap), 2),
            height=max(0.5, round(abs(up(share) - up(0.5)), 1)),
            perfect=up(0.5),
            spoken=f"Bit {bit}: {100 * share:.1f} %",
        )
        for bit, share in enumerate(shares)
    ]
    every = max(1, -(-len(shares) // (8 * _LABELS)) * 8)
    ticks = [
        (round(LEFT + (bit + 0.5) * place, 1), str(bit)) for bit in range(0, len(shares), every)
    ]
    marked = [(up(share), f"{100 * share:.0f}") for share in (0.0, even[0], 0.5, even[1], 1.0)]
    low, high = up(even[0]), up(even[1])
    return Columns(bars, ticks, marked, "bit", (high, round(low - high, 1)))


def speed_chart(runs: Sequence[tuple[str, Summary]]) -> Rows:
    """Wall time of runs by stage: `STAGES`, as `Summary` measures them."""
    longest = max([1e-9, *(run.wall_s for _, run in runs)])
    rows = []
    for number, (version, run) in enumerate(runs):
        known = [run.startup_s, run.hash_wall_s, run.tables_wall_s]
        stages = [*known, max(0.0, run.wall_s - sum(known))]
        rows.append(_row(version, number, stages, longest, length(run.wall_s)))
    return Rows(rows, ROW * len(rows))


def size_chart(kinds: Mapping[str, Mapping[str, int]], snippets: int) -> Rows:
    """Bytes of each kind of file, the largest first; the figure is also a snippet's share."""
    order = sorted(kinds, key=lambda kind: -kinds[kind]["bytes"])
    most = max([1, *(kinds[kind]["bytes"] for kind in order)])
    rows = []
    for number, kind in enumerate(order):
        n_bytes = kinds[kind]["bytes"]
        figure = f"{size(n_bytes)}, {n_bytes / max(1, snippets):.1f} B"
        rows.append(_row(kind.replace("_", " "), number, [n_bytes], most, figure))
    return Rows(rows, ROW * len(rows))


def _row(name: str, number: int, values: Sequence[float], most: float, figure: str) -> Row:
    pieces, x = [], float(NAME)
    for tint, value in enumerate(values):
        width = value / most * (WIDTH - NAME - FIGURE)
        if width > 0:
            pieces.append(Piece(round(x, 1), round(max(width, 0.8), 1), tint + 1))
        x += width
    return Row(name, number * ROW + (ROW - BAR) / 2, pieces, figure)


def _short(count: int) -> str:
    """
    >>> _short(512), _short(65_536), _short(1 << 21)
    ('512', '66k', '2M')
    """
    for unit, scale in (("M", 1_000_000), ("k", 1_000)):
        if count >= scale:
            return f"{count / scale:.0f}{unit}"
    return str(count)
