"""The charts of ``hashbeam evaluate forgiving``: lines, the paper's dashed beside ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report import forgiving_claims as published
from pipelines.report.forgiving_claims import by_hidden, only
from pipelines.report.lines import Curve, LineChart, line_chart

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


def forgiving_charts(figures: Mapping[str, Any]) -> dict[str, LineChart]:
    """Every chart of the page by name."""
    tables = figures["tables"]
    first, found, examined = "right song first, %", "bins that hold the right song, %", "examined"
    here = [Curve("here", _points(tables["ranks"], "rank", "right"))]
    paper = [Curve("paper", list(enumerate(published.RANKS, 1)), colour="--quiet", dashed=True)]
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
        Curve(f"{NAMES[name][0]}, paper", list(values.items()), colour=NAMES[name][1], dashed=True)
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
        curves.append(Curve(title, here, colour=colour))
        curves.append(Curve(f"{title}, paper", paper, colour=colour, dashed=True))
    return line_chart(curves, "hidden units", "bits right, %", top=100)


def _by_hidden(
    single: Sequence[Mapping[str, Any]], figure: str, label: str, top: float = 0.0
) -> LineChart:
    curves = []
    for name in ("reassigned", "static", "random"):
        title, colour = NAMES[name]
        points = [(hidden, 100 * value) for hidden, value in by_hidden(single, name, figure)]
        curves.append(Curve(title, points, colour=colour))
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
        curves.append(Curve("22 bits, paper", paper, colour="--quiet", dashed=True))
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
        Curve(title, _points(only(rows, **{column: kind}), x, y), colour=colour)
        for kind, (title, colour) in kinds.items()
    ]


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    if x != "examined":
        return [(row[x], 100 * row[y]) for row in rows]
    # Shares examined have a logarithmic axis, which has no place for those that examine nothing.
    return [(100 * row[x], 100 * row[y]) for row in rows if row[x] > 0]
