"""What an evaluation found: its page, and tables for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report import lines
from pipelines.report.charts import share_chart
from pipelines.report.lines import Curve, LineChart, coloured, line_chart
from pipelines.report.page import render

Figures = Mapping[str, Any]

# Tables of a system: title, what is in it, name of the figure.
_TABLES = (
    ("Right track first, %", "whatever the score", "top1"),
    (
        "Right at 1 % false alarms, %",
        "the right track first, with a score that at most 1 % of the queries of tracks left out "
        "are above; the score is chosen for each length",
        "at_1_percent",
    ),
    ("Right and sure, %", "the right track first, with a score of 0.5 or more", "accepted"),
    (
        "False alarms, %",
        "queries of tracks left out that got a match with a score of 0.5 or more",
        "false_positives",
    ),
    (
        "In the right place, % of right answers",
        "the offset is at most 0.5 s off, as the track was cut",
        "right_place",
    ),
    (
        "In a place that sounds the same, % of right answers",
        "the offset is at most 0.5 s off, or the samples are the same there: a loop",
        "right_audio",
    ),
)

# Kinds of files of an index, as a person would call them.
KINDS = {
    "tables": "hash tables",
    "matrices": "where rows lie",
    "codes": "codes",
    "embeddings": "embeddings",
    "tracks": "tracks",
    "failures": "failures",
}


def evaluate_page(figures: Figures) -> str:
    """The page of `hashbeam evaluate lookup`, as HTML, from its figures."""
    systems = figures["systems"]
    return render(
        "evaluate.html.j2",
        figures=figures,
        systems=systems,
        kinds=KINDS,
        tables=_TABLES,
        comparison=comparison_charts(systems) if len(systems) > 1 else {},
        single=[_charts(system) for system in systems],
        cells=[_cells(system) for system in systems],
        box={name.lower(): getattr(lines, name) for name in ("WIDTH", "HEIGHT", "BOTTOM")}
        | {"left": lines.LEFT, "right": lines.RIGHT},
    )


def comparison_charts(systems: Sequence[Figures]) -> dict[str, LineChart]:
    """Charts of several systems: by length of the query, and against what a query costs.

    A line of the latter is an index, its dots are numbers of probes. Shares of queries are of all
    lengths together.
    """
    figure, label = _compared(systems)
    by_length = [
        Curve(
            system["name"],
            [(row["duration_s"], 100 * row[figure]) for row in system["durations"]],
        )
        for system in systems
        if all(row[figure] is not None for row in system["durations"])
    ]
    seconds = [row["duration_s"] for row in systems[0]["durations"]]
    found = {
        "lengths": line_chart(
            coloured(by_length), "seconds of query", label, x_log=True, top=100, ticks=seconds
        )
    }
    for name, cost, x_label, x_log in (
        (
            "examined",
            lambda one: 100 * (one["overall"]["examined"] or 0),
            "% of the database",
            True,
        ),
        ("milliseconds", _cpu_ms, "CPU ms a query, hashing and look-up", True),
        (
            "bytes",
            lambda one: one["look_up_bytes_per_snippet"],
            "bytes a snippet that a look-up reads",
            False,
        ),
    ):
        curves = []
        for index in dict.fromkeys(system["index"] for system in systems):
            of_index = [one for one in systems if one["index"] == index]
            of_index = [one for one in of_index if one["overall"][figure] is not None]
            curves.append(
                Curve(
                    index,
                    [(cost(one), 100 * one["overall"][figure]) for one in of_index],
                    [str(one["probes"]) for one in of_index] if len(of_index) > 1 else [],
                )
            )
        if name == "bytes":  # which the number of probes does not change
            curves = [_best(one) for one in curves]
        found[name] = line_chart(coloured(curves), x_label, label, x_log=x_log, x_from=0.0, top=100)
    return found


def _compared(systems: Sequence[Figures]) -> tuple[str, str]:
    """The figure that systems are compared by, and what it is called."""
    if all(system["overall"]["at_1_percent"] is not None for system in systems):
        return "at_1_percent", "right at 1 % false alarms, %"
    return "top1", "right track first, %"


def _cpu_ms(system: Figures) -> float:
    row = system["overall"]
    return (row["hash_cpu_ms"] or 0.0) + (row["look_up_cpu_ms"] or 0.0)


def _best(curve: Curve) -> Curve:
    points = sorted(curve.points, key=lambda point: -point[1])[:1]
    return dataclasses.replace(curve, points=points, labels=[])


def _charts(system: Figures) -> dict[str, Any]:
    """Charts of one system."""
    bins = system["reliability"]
    answers = Curve(
        "answers, ten bins of as many",
        [(one["score"], one["right"]) for one in bins],
        ranges=[(one["low"], one["high"]) for one in bins],
    )
    calibrated = Curve("calibrated", [(0, 0), (1, 1)], colour="--quiet", dashed=True)
    load = system["buckets"]["load"]
    sizes = load["sizes"]
    filled = [
        Curve("this hash", [(s, 100 * v) for s, v in zip(sizes, load["share"], strict=True)]),
        Curve(
            "a perfect hash",
            [(s, 100 * v) for s, v in zip(sizes, load["perfect"], strict=True)],
            colour="--quiet",
            dashed=True,
        ),
    ]
    return {
        "shares": share_chart(system),
        "reliability": line_chart(
            [calibrated, answers], "score", "share that is right", x_from=0.0, top=1.0
        ),
        "load": line_chart(
            filled,
            "postings of the bucket",
            "of postings in buckets up to it, %",
            x_log=True,
            top=100,
        ),
    }


def _cells(system: Figures) -> dict[str, dict[float, Figures]]:
    """Rows by condition and duration."""
    cells: dict[str, dict[float, Figures]] = {}
    for row in (*system["conditions"], *system["durations"]):
        cells.setdefault(row["condition"], {})[row["duration_s"]] = row
    return cells


def as_text(figures: Figures) -> str:
    """Tables for a person at a terminal: conditions down, durations across, then comparisons.

    Args:
        figures: what `pipelines.evaluation.measure.measure_lookup` gives.
    """
    out = [
        f"{figures['tracks_indexed']} tracks indexed, {figures['tracks_asked']} of them asked for, "
        f"{figures['tracks_left_out']} left out"
    ]
    if figures["shared_audio"] is not None:
        groups = figures["shared_audio"]["groups"]
        refused = figures["shared_audio"]["no_negatives"]
        out.append(
            f"{len(groups)} groups of tracks share audio and count as one; {len(refused)} tracks "
            "are no negatives for that"
        )
    out += [f"warning: {warning}" for warning in figures["warnings"]]
    for system in figures["systems"]:
        out += ["", *_system_text(system, figures["verbatim"])]
    if len(figures["systems"]) > 1:
        out += ["", *_comparison_text(figures)]
    return "\n".join(out)


def _system_text(system: Figures, verbatim: Sequence[str]) -> list[str]:
    cells = _cells(system)
    durations = [row["duration_s"] for row in system["durations"]]
    out = [
        f"{system['name']}: {system['n_tables']} tables, keys of {system['key_bits']} bits, "
        f"{system['probes']} probes, {system['look_up_bytes_per_snippet']:.0f} bytes a snippet"
    ]
    for title, _, figure in _TABLES:
        out += ["", title, f"{'':20s}" + "".join(f"{seconds:7g} s" for seconds in durations)]
        for name, row in cells.items():
            values = [row.get(seconds, {}).get(figure) for seconds in durations]
            shown = ["      -  " if v is None else f"{100 * v:7.1f}  " for v in values]
            marked = f"{name} *" if name in verbatim else name
            out.append(f"{marked:20s}" + "".join(shown))
    if verbatim:
        out.append("* these samples are in the index")
    counts = ", ".join(
        f"{row['negatives']} of {row['duration_s']:g} s" for row in system["durations"]
    )
    overall, buckets = system["overall"], system["buckets"]
    return [
        *out,
        "",
        f"queries of tracks left out: {counts}",
        f"a query, median: {_number(overall['hash_cpu_ms'])} ms of CPU to hash, "
        f"{_number(overall['look_up_cpu_ms'])} ms to look up; "
        f"{_number(overall['examined'], 100)} % of the database in its buckets, "
        f"{_number(overall['compared'], 100)} % compared (means)",
        f"buckets: {buckets['entropy_bits']:.2f} bits of entropy, a perfect hash "
        f"{buckets['perfect_entropy_bits']:.2f}; the largest holds {buckets['largest']} postings",
        f"expected calibration error {system['expected_calibration_error']:.3f}, "
        f"Brier score {system['brier_score']:.3f}",
    ]


def _number(value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.3g}"


def _comparison_text(figures: Figures) -> list[str]:
    width = max(len(system["name"]) for system in figures["systems"])
    heads = ("top-1", "at 1 %", "examined", "compared", "hash ms", "look-up ms", "bytes")
    out = [
        "all lengths and conditions together",
        " " * width + "".join(f"{head:>12s}" for head in heads),
    ]
    for system in figures["systems"]:
        row = system["overall"]
        values = [
            *(_number(row[name], 100) for name in ("top1", "at_1_percent", "examined", "compared")),
            _number(row["hash_cpu_ms"]),
            _number(row["look_up_cpu_ms"]),
            f"{system['look_up_bytes_per_snippet']:.0f}",
        ]
        out.append(f"{system['name']:{width}s}" + "".join(f"{value:>12s}" for value in values))
    out += ["", "differences in points, with 95 % intervals (paired bootstrap over tracks)"]
    for row in figures["differences"]:
        if row["duration_s"] is not None:
            continue
        parts = [
            f"{name} {_points(row[figure])}"
            for figure, name in (("top1", "top-1"), ("at_1_percent", "at 1 %"))
            if row[figure] is not None
        ]
        out.append(f"{row['one']} - {row['other']}: {', '.join(parts)}")
    return out


def _points(row: Figures) -> str:
    difference, low, high = (100 * row[name] for name in ("difference", "low", "high"))
    return f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
