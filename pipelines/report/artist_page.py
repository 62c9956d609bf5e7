"""What the evaluation of artists found: its page, and tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hashing.artists.published import BALANCED, SHAPED, SIDE_INFORMATION
from pipelines.report import lines
from pipelines.report.lines import Curve, LineChart, coloured, line_chart
from pipelines.report.page import render

Figures = Mapping[str, Any]

# Figures of a table of the page: the name in `figures.json`, the head of its column.
COLUMNS = (
    ("ami", "AMI"),
    ("v_measure", "V"),
    ("pair_precision", "Pairs P"),
    ("pair_recall", "Pairs R"),
    ("b_cubed_precision", "B³ P"),
    ("b_cubed_recall", "B³ R"),
    ("b_cubed_f1", "B³ F1"),
    ("clusters", "Clusters"),
)

# Kinds of groups of several artists, as the page calls them.
TITLES = {
    "mixed": "Names of several artists",
    "within": "Of one genre",
    "across": "Of different genres",
}

# What the page shows of the published figures: what it is, ARI and AMI on its own homonyms.
PAPER = (
    ("classifier, 600 artists, balanced", *BALANCED["classifier", 600]),
    ("metric, 600 artists, balanced", *BALANCED["metric", 600]),
    ("metric, 1749 artists, as they come", *SHAPED["metric", "long-tailed"]),
    ("metric, 3023 artists, p = 0", *SIDE_INFORMATION[0.0]),
    ("metric, 3023 artists, genre negatives p = 0.5", *SIDE_INFORMATION[0.5]),
)

# Rows of the table of sizes: name in the figures, what it is, and the values shown.
_SIZES = (
    ("tracks_per_artist", "tracks of an artist in a group"),
    ("tracks_per_group", "tracks of a group"),
    ("majority_share", "share of the artist with the most tracks"),
)


def artist_page(figures: Figures) -> str:
    """The page of ``hashbeam evaluate artists``, as HTML, from its figures."""
    systems = [one for one in figures["systems"] if one["curve"]]
    return render(
        "artists.html.j2",
        figures=figures,
        best=best(figures),
        rival=next((one for one in figures["systems"] if one["name"] == "MFCC"), None),
        columns=COLUMNS,
        titles=TITLES,
        paper=PAPER,
        sizes=_SIZES,
        charts=list(_charts(systems)) if systems else [],
        box={name.lower(): getattr(lines, name) for name in ("WIDTH", "HEIGHT", "BOTTOM")}
        | {"left": lines.LEFT, "right": lines.RIGHT},
    )


def best(figures: Figures) -> Figures:
    """The first system that was asked for: what the page is about."""
    first: Figures = figures["systems"][0]
    return first


def _charts(systems: Sequence[Figures]) -> Iterator[tuple[LineChart, str, str]]:
    """Each with its title and a note."""

    def curves(x: str, y: str) -> list[Curve]:
        return coloured(Curve(one["name"], _best_of(one["curve"], x, y)) for one in systems)

    relative = coloured(
        Curve(
            one["name"],
            [(row["cut"] / _middle_cut(one), 100 * max(0.0, row["ami"])) for row in one["curve"]],
        )
        for one in systems
    )
    yield (
        _bare(
            line_chart(relative, "cut, as a multiple of the tuned one", "AMI", x_log=True, top=100)
        ),
        "How much hangs on the cut",
        "Mean AMI of names of several artists, in hundredths. 1 is the cut that was tuned on other "
        "artists (the median over folds and seeds).",
    )
    yield (
        _bare(line_chart(curves("whole", "ari"), "one-artist names left whole, %", "ARI", top=100)),
        "What splitting costs",
        "Each line follows the cut from low to high: the higher, the more names of one artist stay "
        "whole, and the fewer names of several are split. In hundredths.",
    )
    yield (
        _bare(
            line_chart(
                curves("pair_recall", "pair_precision"),
                "pairwise recall, %",
                "pairwise precision, %",
                top=100,
            )
        ),
        "Precision and recall",
        "Of pairs of tracks, as the cut rises. Recall is the share of pairs of one artist that are "
        "together, precision the share of pairs together that are of one artist.",
    )
    spread = coloured(
        Curve(
            one["name"],
            [
                (100 * place / (len(one["ari_quantiles"]) - 1), 100 * max(0.0, ari))
                for place, ari in enumerate(one["ari_quantiles"])
            ],
        )
        for one in systems
    )
    yield (
        _bare(line_chart(spread, "of names, the worst first, %", "ARI", x_from=0.0, top=100)),
        "Not every name is alike",
        "ARI of each name of several artists at the tuned cut, sorted, in hundredths; below 0 is "
        "shown as 0.",
    )


def _bare(chart: LineChart) -> LineChart:
    """A chart of many points without their dots."""
    for line in chart.lines:
        if len(line.dots) > 1:
            line.dots.clear()
    return chart


def _middle_cut(system: Figures) -> float:
    cuts = sorted(system["cuts"].values())
    return float(cuts[len(cuts) // 2])


def _best_of(curve: Sequence[Figures], x: str, y: str) -> list[tuple[float, float]]:
    """One figure against another in hundredths; where several cuts have one `x`, the best `y`.

    >>> _best_of([{"x": 1.0, "y": 0.2}, {"x": 1.0, "y": 0.5}, {"x": 0.5, "y": -0.1}], "x", "y")
    [(50.0, 0.0), (100.0, 50.0)]
    """
    best: dict[float, float] = {}
    for row in curve:
        best[row[x]] = max(best.get(row[x], 0.0), row[y])
    return [(100 * one, 100 * best[one]) for one in sorted(best)]


def as_text(figures: Figures, out: str) -> str:
    """Tables for a person at a terminal."""
    found = figures["statistics"]["mixed"]
    several = found["artists_of_a_group"]
    text = [
        f"{figures['tracks']} tracks of {figures['artists']} artists ({figures['labels']}), "
        f"{figures['folds']} folds, seeds {', '.join(map(str, figures['seeds']))}",
        f"{found['groups']} groups of several artists ("
        + ", ".join(f"{count} of {n}" for n, count in several.items())
        + f"), median {found['tracks_per_group']['median']:g} tracks, "
        f"{found['tracks_per_artist']['median']:g} an artist, "
        f"majority share {found['majority_share']['median']:.3f}",
        *(f"warning: {warning}" for warning in figures["warnings"]),
    ]
    width = max(len(one["name"]) for one in figures["systems"])
    for kind, title in {**TITLES, "single": "Names of one artist"}.items():
        if kind not in figures["systems"][0]["groups"]:
            continue
        heads = [h for _, h in _text_columns(kind)]
        text += ["", title, " " * width + "".join(f"{head:>27s}" for head in heads)]
        for one in figures["systems"]:
            row = one["groups"][kind]
            cells = [_cell(row[name]) for name, _ in _text_columns(kind)]
            text.append(f"{one['name']:{width}s}" + "".join(f"{cell:>27s}" for cell in cells))
    if figures["identity"]:
        text += ["", f"Who is who, {figures['identity']['compared_with']} artists"]
        for one in figures["identity"]["systems"]:
            eer, right = one["eer"], one["accuracy"]
            text.append(
                f"{one['name']:{width}s}  equal error rate {eer['mean']:.3f}, "
                f"nearest artist right {right['mean']:.3f}"
            )
    for one in figures["systems"]:
        if "confidence" in one:
            bins = one["confidence"]["bins"]
            pairs = ", ".join(f"{row['confidence']:.2f}/{row['overlap']:.2f}" for row in bins)
            text += ["", f"{one['name']}: sure/right by fifths of the tracks {pairs}"]
            text += _side_lines(one["confidence"]["sides"])
    text += ["", "Differences, with 95 % intervals over groups and over artists"]
    for row in figures["differences"]["mixed"]:
        if row["one"] == figures["systems"][0]["name"]:
            text.append(
                f"{row['one']} - {row['other']}: ARI {_difference(row['ari'])}, "
                f"AMI {_difference(row['ami'])}"
            )
    return "\n".join([*text, "", f"{out}/report.html"])


def _side_lines(sides: Figures) -> Iterator[str]:
    """Of names that are sure enough to be applied, and of the others; a line each.

    >>> row = {"names": 2, "ari": 0.25, "one_artist": 0, "split": 0, "split_share": None}
    >>> none = {**row, "names": 0, "ari": None}
    >>> list(_side_lines({"min_confidence": 0.6, "below": row, "above": none}))
    ['confidence below 0.6: 2 names of several artists, ARI 0.250; 0 of one artist, 0 split']
    """
    for side, told in (("below", "below"), ("above", "from")):
        row = sides[side]
        if row["names"] + row["one_artist"]:
            ari = "" if row["ari"] is None else f", ARI {row['ari']:.3f}"
            yield (
                f"confidence {told} {sides['min_confidence']:g}: {row['names']} names of several "
                f"artists{ari}; {row['one_artist']} of one artist, {row['split']} split"
            )


def _text_columns(kind: str) -> tuple[tuple[str, str], ...]:
    if kind == "single":
        return (("whole", "left whole"), ("clusters", "clusters"))
    return (("ari", "ARI"), ("ami", "AMI"), ("b_cubed_f1", "B-cubed F1"), ("clusters", "clusters"))


def _cell(row: Figures) -> str:
    low, high = row["artists"] or row["groups"]
    return f"{row['mean']:.3f} ({low:.3f} to {high:.3f})"


def _difference(row: Figures) -> str:
    ends = [f"{one[0]:+.3f} to {one[1]:+.3f}" for one in (row["groups"], row["artists"]) if one]
    return f"{row['mean']:+.3f} ({'; '.join(ends)})"
