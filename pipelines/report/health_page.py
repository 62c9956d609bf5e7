"""The page of ``hashbeam info INDEX --html FILE``: how an index is doing, at a glance.

One HTML file that asks nothing of any network and runs no script. What strangers typed (ids, uris,
messages) is text, and isolated, since it may run from right to left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.health.examine import Health
from pipelines.health.past import Past
from pipelines.health.verdict import BAD, EVEN_BIT, GOOD, LOOK, worst
from pipelines.report import lines
from pipelines.report.health_charts import (
    BAR,
    FIGURE,
    NAME,
    STAGES,
    bit_chart,
    class_chart,
    size_chart,
    speed_chart,
    table_chart,
)
from pipelines.report.page import length, render, size
from pipelines.summary import Summary

# Nothing is loaded and nothing runs; the icon is an empty address.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)

_MARKS = {GOOD: "right", LOOK: "missed", BAD: "wrong"}  # of the levels, in the style sheet
_WORDS = {GOOD: "well", LOOK: "look", BAD: "damaged"}
_STATES = {"published": "right", "damaged": "wrong"}  # all others are to be looked at, or past

SHOWN_SEGMENTS = 50  # in the table, the newest; a page of hundreds would not be read
SHOWN_KINDS = 20  # of failures
SHOWN_BITS = 10  # the least even


def health_page(health: Health) -> str:
    """The page, as HTML."""
    facts, grave = health.facts, worst(health.findings)
    runs = [(one.version.version, one.run) for one in health.history.versions if one.run]
    kinds = health.failures.kinds
    return render(
        "health.html.j2",
        policy=POLICY,
        health=health,
        facts=facts,
        name=facts["index"].rstrip("/").rsplit("/", 1)[-1],
        grave=grave,
        doubtful=sum(finding.level != GOOD for finding in health.findings),
        marks=_MARKS,
        words=_WORDS,
        states=_STATES,
        cards=list(_facts(health)),
        classes=class_chart(health.buckets.classes),
        tables=table_chart(health.buckets.tables),
        bits=bit_chart(health.bits.shares, EVEN_BIT),
        even=[round(100 * share) for share in EVEN_BIT],
        uneven=_least_even(health.bits.shares),
        speeds=speed_chart(runs) if runs else None,
        runs=[[version, *_speed(run)] for version, run in reversed(runs)],
        stages=STAGES,
        sizes=size_chart(facts["kinds"], int(facts.get("snippets", 0))),
        versions=[(one, list(_changed(one))) for one in reversed(health.history.versions)],
        segments=health.segments.rows[-SHOWN_SEGMENTS:],
        kinds=kinds[:SHOWN_KINDS],
        kinds_left_out=len(kinds[SHOWN_KINDS:]),
        most=max((kind.tracks for kind in kinds), default=1),
        box={"width": lines.WIDTH, "height": lines.HEIGHT, "left": lines.LEFT, "top": lines.TOP}
        | {"right": lines.RIGHT, "bottom": lines.BOTTOM, "bar": BAR, "name": NAME}
        | {"figure": FIGURE},
    )


def _facts(health: Health) -> Iterator[tuple[str, str, str]]:
    """Term, value and note of the figures at the top."""
    facts = health.facts
    audio_s = float(facts.get("audio_s", 0.0))
    snippets = int(facts.get("snippets", 0))
    yield "Tracks", f"{health.tracks:,}", f"{length(audio_s)} of audio, {snippets:,} snippets"
    tables = f"{facts['n_tables']} × {facts['key_bits']} bits"
    yield "Tables", tables, f"{health.buckets.mean_load:.1f} postings a bucket"
    yield "Version", facts["version"], str(facts["created"]).replace("T", " ").rstrip("Z")
    model = facts["model"]
    yield "Model", model["name"], model["digest"][:12]


def _least_even(shares: Sequence[float]) -> list[tuple[int, float]]:
    """Number and share of ones of the bits that are farthest from a half.

    >>> _least_even([0.5, 0.1, 0.7])
    [(1, 0.1), (2, 0.7), (0, 0.5)]
    """
    order = sorted(range(len(shares)), key=lambda bit: -abs(shares[bit] - 0.5))
    return [(bit, shares[bit]) for bit in order[:SHOWN_BITS]]


def _speed(run: Summary) -> list[str]:
    """What the table of speeds says of a run, in the order of its columns."""
    return [
        length(run.audio_s),
        str(run.workers),
        f"{run.times_real_time:,.0f}",
        f"{run.times_real_time_per_cpu:,.0f}",
        *(_seconds(value) for value in (run.hash_cpu_s, run.tables_cpu_s)),
        size(run.max_rss_bytes),
    ]


def _seconds(value: float) -> str:
    """
    >>> _seconds(0.42), _seconds(95)
    ('0.4 s', '95 s')
    """
    return f"{value:.1f} s" if value < 10 else length(value)


def _changed(past: Past) -> Iterator[str]:
    """What a version changed, in words: by class where its run counted them."""
    if past.changes:
        shown = (name for name in past.changes if name != "unchanged")
        yield from (f"{past.changes[name]:,} {name}" for name in shown)
    elif past.version.added is not None:
        yield f"{past.version.added:,} new"
        if past.version.removed:
            yield f"{past.version.removed:,} removed"
