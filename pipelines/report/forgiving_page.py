"""The page of ``hashbeam evaluate forgiving``: the paper's tables and plots beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report import forgiving_claims as published
from pipelines.report.forgiving_charts import NAMES, SELECTORS, VARIANTS, forgiving_charts
from pipelines.report.forgiving_claims import by_hidden, mean_of, only
from pipelines.report.lines import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH
from pipelines.report.page import render

NAMES_AT_MOST = 60  # of what was held out, in a sentence


def forgiving_page(figures: Mapping[str, Any]) -> str:
    """The page, as HTML, from what `pipelines.evaluation.forgiving` measured."""
    tables = figures["tables"]
    return render(
        "forgiving.html.j2",
        figures=figures,
        tables=tables,
        claims=figures["claims"],
        held=sum(row["holds"] is True for row in figures["claims"]),
        asked=sum(row["holds"] is not None for row in figures["claims"]),
        deviations=deviations(figures),
        findings=figures["findings"],
        charts=forgiving_charts(figures),
        single=_single(tables["single"]),
        bits_right=_bits_right(tables["single"]),
        selection=_selection(tables["selection"]),
        grids={name: _grid(tables["grid"], name) for name in ("excerpts", "songs")},
        bands=_bands(tables["grid"]),
        lengths=_lengths(tables["lengths"]),
        lengths_s=sorted({row["length_s"] for row in tables["lengths"]}),
        noise=_noise(tables["noise"]),
        noise_lengths_s=sorted({row["length_s"] for row in tables["noise"]}),
        names={name: title for name, (title, _) in {**NAMES, **SELECTORS, **VARIANTS}.items()},
        hashes={name: title for name, (title, _) in NAMES.items()},
        published=published,
        box={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "bottom": BOTTOM},
    )


def as_text(figures: Mapping[str, Any]) -> str:
    """The claims and what was found beyond them, for a person at a terminal."""
    verdicts = {True: "holds", False: "does not hold", None: "not measured"}
    lines = []
    for row in figures["claims"]:
        lines += [
            f"{verdicts[row['holds']]:14s}{row['claim']}",
            f"{'':14s}paper: {row['published']}",
            f"{'':14s}here:  {row['here']}",
        ]
    lines.append("")
    for row in figures["findings"]:
        lines += [row["question"], f"{'':14s}{row['here']}"]
    return "\n".join(lines)


def deviations(figures: Mapping[str, Any]) -> list[str]:
    """In what the study differs from the paper, one sentence or two each."""
    small, large = figures["small"], figures["large"]
    songs, outputs, bits = figures["songs_learned"], figures["outputs"], figures["bits"]
    moving = figures["rounds"] * figures["epochs_a_round"]
    out = [
        _split(figures),
        f"{songs} songs are learned and networks have {outputs} outputs; in the paper 1,024 songs "
        f"and 10 outputs. There are {bits} bits to choose from instead of 580; settings that "
        "need more than that use some of them in two tables.",
        f"The database that stands for the paper's 38,000 snippets of 3,800 songs holds "
        f"{small['snippets']:,} snippets of {small['songs']:,} excerpts, whose audio is disjoint "
        f"but comes from {small['recordings']} unheard recordings. Other excerpts of the same "
        "recording count as wrong.",
        f"The database that stands for 1,300,000 snippets of 6,500 songs holds "
        f"{large['snippets']:,} snippets of {large['songs']} unheard songs. Where two systems are "
        "compared, it is at the same share of the database, but a smaller database is easier.",
        "The spectrogram has 32 bands on the mel scale from 318 to 2,000 Hz, in dB, at most 60 dB "
        "below the loudest cell, and each snippet has mean 0 and deviation 1. The paper gives "
        "neither bands nor scaling.",
        f"Networks see {figures['components']} principal components of the 4,096 cells: "
        f"{100 * figures['variance_kept']:.1f} % of the variance of the music that is learned, "
        f"{100 * figures['variance_kept_unheard']:.1f} % of the unheard.",
        f"Gradient descent takes {figures['batch']} snippets a step, with a rate of "
        f"{figures['learning_rate']:g} a snippet; the paper takes one at a rate of 0.00025, on "
        "inputs whose scale it does not give. Other rates are measured below.",
        f"{figures['epochs']:,} epochs: {figures['rounds']} rounds of {figures['epochs_a_round']} "
        f"with targets that move, and {figures['epochs'] - moving:,} more; the paper: "
        "50 rounds of 10, and 500 more.",
        "Hidden units are tanh and outputs sigmoid; the paper does not say.",
        "“Min-Hash of wavelets” is Waveprint's hash with votes alone, as for the other hashes: "
        "without its comparison of whole signatures, and without dynamic programming.",
    ]
    return out


def _split(figures: Mapping[str, Any]) -> str:
    """What was looked up, by name, and that it was not learned from."""
    held_out = {name: values for name, values in figures["held_out"].items() if values}
    apart = " and no ".join(held_out) or "recording"
    text = (
        f"{figures['tracks']} tracks are {figures['recordings']} recordings. No {apart} is both "
        "learned from and looked up"
    )
    name = next(iter(held_out), "")
    values = held_out.get(name, [])
    if 0 < len(values) <= NAMES_AT_MOST:
        return f"{text}; looked up were, by {name}: {', '.join(values)}."
    return text + "."


def _bits_right(single: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for every third size: hidden units, and percent right of each procedure."""
    outputs = single[0]["outputs"]
    moved = by_hidden(single, "reassigned", "bits_right")
    fixed = dict(by_hidden(single, "static", "bits_right"))
    paper = {name: dict(values) for name, values in published.BITS_RIGHT.items()}
    rows = []
    for i, (hidden, value) in enumerate(moved):
        if i % 3 and hidden != 59 and i != len(moved) - 1:
            continue
        shown = {name: 10 * one[hidden] for name, one in paper.items() if hidden in one}
        here = {"reassigned": 100 * value / outputs, "static": 100 * fixed[hidden] / outputs}
        rows.append({"hidden": hidden, "paper": shown, **here})
    return rows


def _single(single: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name, (candidates, found) in published.SINGLE.items():
        row: dict[str, Any] = {
            figure: mean_of(single, name, figure) for figure in ("candidates", "examined", "found")
        }
        row |= {"procedure": name, "paper_found": found}
        row["paper_examined"] = candidates / published.SINGLE_SNIPPETS
        rows.append(row)
    return rows


def _selection(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    out = []
    for b in sorted({row["key_bits"] for row in rows}):
        cells = {row["selector"]: row for row in rows if row["key_bits"] == b}
        out.append({"key_bits": b, "cells": cells, "paper": published.SELECTION.get(b)})
    return out


def _grid(rows: Sequence[Mapping[str, Any]], database: str) -> dict[str, Any]:
    chosen = only(rows, database=database)
    return {
        "key_bits": sorted({row["key_bits"] for row in chosen}),
        "n_tables": sorted({row["n_tables"] for row in chosen}),
        "cells": {(row["n_tables"], row["key_bits"]): row for row in chosen},
    }


def _bands(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Table I: the three best settings in each band of the share examined."""
    bands = []
    for low, high, paper in published.TABLE_I:
        inside = [r for r in only(rows, database="songs") if low <= r["examined"] < high]
        best = sorted(inside, key=lambda row: -row["right"])[:3]
        bands.append({"low": low, "high": high, "paper": paper, "best": best})
    return bands


def _lengths(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Table II: a row for each hash, way of adding votes and way of leaving the query out."""
    out: list[dict[str, Any]] = []
    for apart in sorted({row["apart"] for row in rows}):
        for rule in ("sum", "best"):
            for name in NAMES:
                chosen = only(rows, hash=name, apart=apart, rule=rule)
                if not chosen:
                    continue
                row = {"hash": name, "apart": apart, "rule": rule, "paper": None}
                row["cells"] = {one["length_s"]: one for one in chosen}
                if apart == 1 and rule == "sum":
                    row["paper"] = published.LENGTHS.get(name)
                out.append(row)
    return out


def _noise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[tuple[str, float], Any]]:
    out: dict[str, dict[tuple[str, float], Any]] = {}
    for row in rows:
        out.setdefault(row["condition"], {})[row["hash"], row["length_s"]] = row
    return out
