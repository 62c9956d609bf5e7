"""Tables and lines of what the evaluation of labelled clips found, and published figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from pipelines.report.lines import Curve, LineChart

Figures = Mapping[str, Any]
Rows = Sequence[Figures]

# Jati & Emmanouilidou, slides of "Supervised deep hashing for efficient audio event retrieval"
# (ICASSP 2020): mAP in % over the whole database, DCASE 2018 task 2, 41 classes, 1,600 queries,
# 9,473 clips. By the dimensions of the embedding, and the bits of PUBLISHED_BITS.
PUBLISHED_BITS = (8, 16, 24, 32, 64)
PUBLISHED_RANDOM = 2.5  # mAP of a random order, %
PUBLISHED_NAMES = {128: "VGGish, 128-d", 1024: "TLWeak, 1024-d"}
PUBLISHED: dict[int, dict[str, tuple[float, ...]]] = {
    128: {
        "SH": (9.23, 11.34, 12.18, 12.85, 12.90),
        "ITQ": (10.10, 12.18, 14.25, 14.61, 15.64),
        "AGH": (13.37, 15.04, 15.52, 16.34, 15.41),
        "PQ": (16.12, 16.34, 16.23, 16.24, 15.65),
        "DQN": (33.84, 38.93, 39.68, 40.31, 41.43),
    },
    1024: {
        "SH": (8.14, 10.97, 11.93, 12.84, 13.31),
        "ITQ": (8.34, 12.03, 14.17, 15.52, 17.62),
        "AGH": (9.40, 13.03, 15.13, 15.35, 16.49),
        "PQ": (15.06, 16.15, 16.30, 16.39, 16.36),
        "DQN": (39.07, 44.24, 45.50, 45.77, 46.83),
    },
}

DQN = ("DQN", "DQN + words", "DQN + words + guesses")
SYSTEMS = (
    *("SH", "ITQ", "AGH", "PQ", "OPQ"),
    *(*DQN, "DTQ", "OrthoHash", "probe + PQ", "probe + guesses + PQ", "class code"),
)
OTHER_WAYS = (" symmetric", " asymmetric")
FLOATS = " real-valued"
VECTORS = ("embedding", "linear probe")  # real-valued as well
BLOCKS = ("Codes", "Codes, compared the other way", "Real-valued, for comparison")

NOTHING = "–"  # where there is no figure


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns under a common head; grey where they were not measured here."""

    title: str
    heads: Sequence[str]
    published: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: columns, and blocks (title, lines) of lines (name, a text for each column)."""

    name: str
    caption: str
    columns: Sequence[Columns]
    blocks: Sequence[tuple[str, Sequence[tuple[str, Sequence[str]]]]]
    folded: bool = False

    @property
    def grey(self) -> list[bool]:
        """Of each column."""
        return [one.published for one in self.columns for _ in one.heads]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the page; charts with a title and a note each."""

    title: str
    words: str
    tables: Sequence[Table]
    charts: Sequence[tuple[LineChart, str, str]] = ()


def by_embedding(figures: Figures, rows: Rows) -> Iterator[tuple[str, int, list[Figures]]]:
    """Names and dimensions of embeddings, and their rows, where they have some."""
    for name, dimensions in (figures.get("embeddings") or {}).items():
        if own := [row for row in rows if row["embedding"] == name]:
            yield name, dimensions, own


def lengths_of(rows: Rows) -> list[int]:
    """Bits of the codes in rows."""
    return sorted({row["bits"] for row in rows if kind_of(row["system"]) < 2})


def kind_of(system: str) -> int:
    """Which of `BLOCKS` a system is in.

    >>> [kind_of(one) for one in ("PQ", "PQ symmetric", "DQN real-valued", "embedding")]
    [0, 1, 2, 2]
    """
    if system.endswith(FLOATS) or system in VECTORS:
        return 2
    return int(system.endswith(OTHER_WAYS))


def base_of(system: str) -> str:
    """A system without the way in which it is compared.

    >>> base_of("DQN real-valued")
    'DQN'
    """
    for ending in (*OTHER_WAYS, FLOATS):
        system = system.removesuffix(ending)
    return system


def blocks(
    rows: Rows, cells: Callable[[str, Rows], Sequence[str]]
) -> list[tuple[str, list[tuple[str, Sequence[str]]]]]:
    """A line for each system of the rows, those of one kind together and in the usual order."""
    order = [*VECTORS, *SYSTEMS]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    systems.sort(key=lambda one: order.index(base_of(one)) if base_of(one) in order else len(order))
    found = []
    for kind, title in enumerate(BLOCKS):
        own = [
            (one, cells(one, [row for row in rows if row["system"] == one]))
            for one in systems
            if kind_of(one) == kind
        ]
        if own:
            found.append((title, own))
    return found


def told(
    rows: Iterable[Figures], key: str, digits: int = 2, scale: float = 100.0, **where: Any
) -> str:
    """A figure of the rows that `where` means: in hundredths, or from the least to the largest.

    >>> told([{"map": 0.5, "bits": 8}, {"map": 0.25, "bits": 8}, {"map": 1, "bits": 9}], "map",
    ...      bits=8)
    '25.00–50.00'
    """
    own = [row for row in rows if all(row.get(name) == value for name, value in where.items())]
    values = sorted(scale * row[key] for row in own if finite(row.get(key)))
    if not values:
        return NOTHING if own else ""
    ends = [f"{values[at]:.{digits}f}" for at in (0, -1)]
    return "–".join(dict.fromkeys(ends))


def percent(value: Any, digits: int = 2) -> str:
    """A share in hundredths.

    >>> percent(0.1234), percent(float("nan"))
    ('12.34', '–')
    """
    return f"{100 * value:.{digits}f}" if finite(value) else NOTHING


def whole(value: Any) -> str:
    """A number without decimals."""
    return f"{value:,.0f}" if finite(value) else NOTHING


def finite(value: Any) -> TypeGuard[float]:
    """Whether that is a figure."""
    return isinstance(value, int | float) and math.isfinite(value)


def said(numbers: Sequence[int]) -> str:
    """Numbers in a sentence.

    >>> said([8, 16, 32])
    '8, 16 and 32'
    """
    *rest, last = [str(one) for one in numbers] or ["no"]
    return f"{', '.join(rest)} and {last}" if rest else last


def nearest(dimensions: int) -> int:
    """The dimensions of the published embedding that stands beside one."""
    return min(PUBLISHED, key=lambda one: abs(one - dimensions))


def percents(rows: Rows, key: str) -> list[float]:
    """The figures of rows, in hundredths."""
    return [100 * row[key] for row in rows if finite(row.get(key))]


def curves_of(
    rows: Rows, colours: Mapping[str, str], x: Callable[[Figures], float], key: str
) -> Iterator[Curve]:
    """Lines of the systems that have a colour, in hundredths."""
    for system, colour in colours.items():
        own = [row for row in rows if row["system"] == system and finite(row.get(key))]
        yield Curve(system, [(x(row), 100 * row[key]) for row in own], colour=colour)


def dashed(name: str, values: Sequence[float], colour: str) -> Curve:
    """A line that was not measured here, over `PUBLISHED_BITS`."""
    points = list(zip(map(float, PUBLISHED_BITS), values, strict=True))
    return Curve(name, points, colour=colour, dashed=True)


def ticks(curves: Iterable[Curve]) -> list[float]:
    """Where the curves have points."""
    return sorted({x for one in curves for x, _ in one.points})
