"""The curve: what a query costs by the postings of a table, as an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scale_beyond import SECONDS, SIZES, beyond, every, wide

Figures = dict[str, Any]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 84, 48, 52  # margins with labels
POSTINGS = (1e6, 1e11)
MS = (1.0, 1000.0)
COLOURS = {"1": "#4c78a8", "5": "#54a24b", "10": "#e45756"}
BEYOND = ("10", "100")


def draw(results: Figures) -> str:
    """CPU milliseconds of queries of all lengths; measured, expected and extrapolated."""
    parts = [*_frame(results)]
    for seconds in SECONDS:
        known, far = list[tuple[float, float]](), list[tuple[float, float]]()
        for size in SIZES:
            postings = results[f"lookup {size}"]["postings_a_table"]
            known.append((postings, wide(results, size)[seconds]["search_cpu_ms"]))
        for name in BEYOND:
            plan = results["plan"][name]
            found = beyond(results, plan, seconds)
            far.append((plan["postings"] / plan["n_tables"], found["search_cpu_ms"]))
        colour = COLOURS[seconds]
        parts.append(_line(known, colour, ""))
        parts.append(_line([known[-1], *far], colour, ' stroke-dasharray="5 5"'))
        one = [
            (found["postings_a_table"], found[seconds]["search_cpu_ms"])
            for found in (results[f"lookup {size}"] for size in SIZES)
        ]
        parts += [_dot(*at, f'fill="white" stroke="{colour}"') for at in one]
        for size in SIZES:
            found = every(results, size)
            if found is not None:
                at = found["postings_a_table"], found[seconds]["search_cpu_ms"]
                parts.append(_dot(*at, f'fill="{colour}"'))
        x, y = _place(*far[-1])
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{seconds} s</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _frame(results: Figures) -> list[str]:
    parts = [
        f'<text x="{LEFT}" y="18" font-weight="bold">CPU ms a query, warm, by postings of a '
        "table</text>",
        f'<text x="{LEFT}" y="35" fill="#555">full: 13 tables; line: their stand-in; empty: 1 '
        "table; all measured. Dashed: extrapolated</text>",
    ]
    bottom = HEIGHT - BOTTOM
    for power in range(6, 12):
        x, _ = _place(10**power, MS[0])
        label = f"{10 ** (power - 6):,} M" if power < 9 else f"{10 ** (power - 9):,} G"
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    for ms in (1, 10, 100, 1000):
        _, y = _place(POSTINGS[0], ms)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{ms}</text>')
    for name in ("1", *BEYOND):
        plan = results["plan"][name]
        x, _ = _place(plan["postings"] / plan["n_tables"], MS[0])
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#bbb" stroke-dasharray="2 3"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 36}" text-anchor="middle" fill="#555">'
            f"{name} M tracks</text>"
        )
    return parts


def _place(postings: float, ms: float) -> tuple[float, float]:
    across = math.log(postings / POSTINGS[0]) / math.log(POSTINGS[1] / POSTINGS[0])
    up = math.log(ms / MS[0]) / math.log(MS[1] / MS[0])
    x = LEFT + across * (WIDTH - LEFT - RIGHT)
    return x, HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _line(points: Sequence[tuple[float, float]], colour: str, dashes: str) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (_place(*point) for point in points))
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'


def _dot(postings: float, ms: float, style: str) -> str:
    x, y = _place(postings, ms)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {style}/>'
