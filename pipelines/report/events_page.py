"""What the evaluation of labelled clips found: its page, and tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.report import lines
from pipelines.report.events_parts import COST, GOAL, parts
from pipelines.report.events_tables import DQN, Figures, Rows, Table, finite, told
from pipelines.report.page import render

MOST_FAILURES = 30  # that the page lists; all of them are in figures.json


def events_page(figures: Figures) -> str:
    """The page of ``hashbeam evaluate events``, as HTML.

    Args:
        figures: what ``figures.json`` holds.
    """
    failures = figures.get("failures") or []
    return render(
        "events.html.j2",
        figures=figures,
        clips=figures.get("clips") or {},
        facts=[(name, *_reached(found)) for name, found in _of_dqn(figures).items()],
        parts=list(parts(figures)),
        failures=failures[:MOST_FAILURES],
        failure_count=len(failures),
        box={name.lower(): getattr(lines, name) for name in ("WIDTH", "HEIGHT", "BOTTOM")}
        | {"left": lines.LEFT, "right": lines.RIGHT},
    )


def as_text(figures: Figures, out: str) -> str:
    """Tables for a person at a terminal."""
    clips = figures.get("clips") or {}
    text = [
        f"{_plain(figures['catalog'])}: "
        + ", ".join(f"{count:,} {_plain(role)}" for role, count in clips.items())
        + f"; {figures['classes']} classes; clips that failed: {len(figures.get('failures') or [])}"
    ]
    for name, found in _of_dqn(figures).items():
        value, note = _reached(found)
        text.append(f"{_plain(name)}: closes {value} {note}")
    for part in parts(figures):
        for table in part.tables:
            if not table.folded and part.title != COST:
                text += ["", *_typed(table)]
    return "\n".join([*text, "", f"{out}/report.html"])


def _typed(table: Table) -> Iterator[str]:
    """A table without its published columns; heads that span columns stand above these."""
    kept = [at for at, grey in enumerate(table.grey) if not grey]
    own = [one for one in table.columns if not one.published]
    heads = [_plain(head) for one in own for head in one.heads]
    body = [
        (_plain(name), [cells[at] for at in kept])
        for _, rows in table.blocks
        for name, cells in rows
    ]
    widths = [max(map(len, (head, *(c[at] for _, c in body)))) for at, head in enumerate(heads)]
    first = 0
    for one in own:  # the columns are as wide as what stands above them
        spare = len(_plain(one.title)) - sum(w + 2 for w in widths[first : first + len(one.heads)])
        widths[first] += max(0, spare + 2)
        first += len(one.heads)
    left = max(len(name) for name, _ in body)
    yield _plain(table.name)
    if any(one.title for one in own):
        above, first = " " * left, 0
        for one in own:
            span = sum(width + 2 for width in widths[first : first + len(one.heads)])
            above += f"{_plain(one.title):>{span}s}"
            first += len(one.heads)
        yield above
    for name, cells in [("", heads), *body]:
        row = "".join(f"  {cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
        yield f"{name:{left}s}{row}".rstrip()


def _of_dqn(figures: Figures) -> dict[str, list[Figures]]:
    """What the forms of deep quantization close, by embedding."""
    found: dict[str, list[Figures]] = {}
    for row in figures.get("closed") or []:
        if row["system"] in DQN and finite(row.get("closed")):
            found.setdefault(f"{row['system']}, {row['embedding']}", []).append(row)
    return found


def _reached(rows: Rows) -> tuple[str, str]:
    """How much is closed, at least and at most, and how that stands to the goal.

    >>> _reached([{"bits": 8, "closed": 0.25}, {"bits": 16, "closed": 0.4}])
    ('25–40 %', 'of what PQ lacks to a mAP of 1; the goal of 30 % is reached at 1 of 2 lengths')
    """
    reached = sum(row["closed"] >= GOAL for row in rows)
    where = "all" if reached == len(rows) else f"{reached} of {len(rows)}"
    return (
        f"{told(rows, 'closed', 0)} %",
        f"of what PQ lacks to a mAP of 1; the goal of {100 * GOAL:.0f} % is reached at {where} "
        "lengths",
    )


def _plain(text: object) -> str:
    """Text without what moves a terminal's cursor or colours it.

    >>> _plain("a\\x1b[31m\\nb")
    'a�[31m�b'
    """
    return "".join(one if one.isprintable() else "\ufffd" for one in str(text))
