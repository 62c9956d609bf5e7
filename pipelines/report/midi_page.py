"""What the evaluation of MIDI files found: its page, and tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.report import lines
from pipelines.report.lines import Curve, LineChart, coloured, line_chart
from pipelines.report.page import render

Figures = Mapping[str, Any]

# Raffel 2016, chapters 5 to 7: among about a million previews of 30 s and 1,282 MIDI files.
PUBLISHED_STAGES = {
    "hash sequences": {"mrr": 0.704, "first": 0.592, "rank_95": 98},
    "thresholded frames": {"mrr": 0.270, "rank_95": 25_944},
    "embeddings": {"rank_95": 70_445, "kept_at_10": 0.913},
    "mean and deviation": {"rank_95": 242_573, "kept_at_10": 0.744},
}
PUBLISHED_CASCADE = {"first": 0.782, "first_5": 0.946, "dropped": 0.054}
PUBLISHED_COEFFICIENTS = {"hash sequences": 0.385, "embeddings": 0.393}

MOST_MISSED = 30  # queries that the page lists; all of them are in queries.parquet

RANKS = ("rank_50", "rank_90", "rank_95")


def midi_page(figures: Figures, rows: Sequence[Figures]) -> str:
    """The page of ``hashbeam evaluate midi``, as HTML.

    Args:
        figures: what ``figures.json`` holds.
        rows: those of ``queries.parquet``.
    """
    missed = [row for row in rows if row["rank"] != 1]
    missed.sort(key=lambda row: (-row["best_confidence"], row["name"]))
    return render(
        "midi.html.j2",
        figures=figures,
        hashes=_of(figures["stages"], "hashes"),
        embeddings=_of(figures["stages"], "embeddings"),
        own=figures["cascades"][0],
        published_stages=PUBLISHED_STAGES,
        published_cascade=PUBLISHED_CASCADE,
        published_coefficients=PUBLISHED_COEFFICIENTS,
        missed=missed[:MOST_MISSED],
        missed_count=len(missed),
        charts=list(_charts(figures)),
        box={name.lower(): getattr(lines, name) for name in ("WIDTH", "HEIGHT", "BOTTOM")}
        | {"left": lines.LEFT, "right": lines.RIGHT},
    )


def _of(stages: Sequence[Figures], stage: str) -> Figures:
    return next(one for one in stages if one["stage"] == stage and one["by"] == "own")


def _charts(figures: Figures) -> Iterator[tuple[LineChart, str, str]]:
    """Each with its title and a note."""
    whole = figures["cascades"]
    curves = coloured(
        Curve(one["name"], _stairs(one["curve"])) for one in (*figures["stages"], whole[0])
    )
    yield (
        _bare(
            line_chart(curves, "rank", "true recordings within the rank, %", x_log=True, top=100)
        ),
        "Recall",
        f"Each stage alone over all {figures['recordings']:,} recordings, and all together.",
    )
    stages = coloured(
        Curve(one["name"], _left(one, figures["recordings"]), [], [])
        for one in whole
        if one["by"] != "published"
    )
    yield (
        line_chart(
            stages, "% of the recordings left", "true recordings left, %", x_log=True, top=100
        ),
        "What each stage leaves",
        "From the right: all, after embeddings, after hash sequences, and the first after "
        "alignment.",
    )
    sure = []
    for one in whole[:2]:
        found = one["confidence"]
        at = found["thresholds"]
        sure += [
            Curve(f"{one['name']}: true recording", _percent(at, found["right_above"])),
            Curve(f"{one['name']}: absent", _percent(at, found["absent_above"])),
        ]
    yield (
        _bare(line_chart(coloured(sure), "confidence", "MIDI files above it, %", top=100)),
        "Confidence",
        "In the true recording; and in the best of all others where the true one was taken out of "
        "the database.",
    )
    errors = coloured(
        Curve(name, [(1000 * s, 100 * float(q)) for q, s in one.items() if s])
        for name, one in (
            ("two scales", whole[0]["alignment_error_s"]["quantiles"]),
            ("published aligner", whole[1]["alignment_error_s"]["quantiles"]),
        )
    )
    yield (
        _bare(
            line_chart(errors, "median error, ms", "MIDI files below it, %", x_log=True, top=100)
        ),
        "Alignment",
        "Each MIDI file laid along its true recording; the distance from the true map of times, "
        "half of the moments are nearer.",
    )
    bits = []
    for one in figures["distances"][:2]:
        for kind in ("same", "foreign"):
            shares = one[f"{kind}_shares"]
            bits.append(Curve(f"{one['name']}: {kind}", _percent(range(len(shares)), shares)))
    yield (
        _bare(line_chart(coloured(bits), "bits that differ", "steps, %")),
        "Distances of steps",
        "Of the same moment of a song in score and recording, and of two songs. The less they "
        "overlap, the better.",
    )


def _stairs(curve: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """A share that rises at ranks, as the corners of its stairs, in hundredths.

    >>> _stairs([(1, 0.5), (4, 1.0)])
    [(1, 50.0), (4, 50.0), (4, 100.0)]
    """
    found: list[tuple[float, float]] = []
    for rank, share in curve:
        if found:
            found.append((rank, found[-1][1]))
        found.append((rank, 100 * share))
    return found


def _left(cascade: Figures, recordings: int) -> list[tuple[float, float]]:
    """Shares of all recordings, and of the true ones, that are left after each stage."""
    pruned = cascade["pruned"]
    after_embeddings = 1 - cascade["dropped_by_embeddings"]
    after_hashes = after_embeddings - cascade["dropped_by_hashes"]
    points = [
        (1.0, 1.0),
        (1 - pruned["embeddings"], after_embeddings),
        (1 - pruned["both"], after_hashes),
        (1 / recordings, cascade["first"]),
    ]
    return [(100 * x, 100 * y) for x, y in points]


def _percent(xs: Any, shares: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(x), 100 * share) for x, share in zip(xs, shares, strict=True)]


def _bare(chart: LineChart) -> LineChart:
    """A chart of many points without their dots."""
    for line in chart.lines:
        line.dots.clear()
    return chart


def as_text(figures: Figures, out: str) -> str:
    """Tables for a person at a terminal."""
    fonts = figures["soundfonts"]
    text = [
        f"{figures['queries']} MIDI files ({fonts['scores']}) asked among {figures['recordings']} "
        f"recordings ({fonts['recordings']}), {figures['recordings_of_music']} of them real music",
        *(f"warning: {warning}" for warning in figures["warnings"]),
        "",
        f"{'':30s}" + "".join(f"{head:>9s}" for head in _HEADS),
    ]
    for one in (*figures["stages"], *figures["cascades"]):
        text.append(f"{one['name']:30s}" + "".join(f"{cell:>9s}" for cell in _cells(one)))
    for one in figures["cascades"]:
        error, pruned, cpu = one["alignment_error_s"], one["pruned"], one["cpu_s"]
        told = ", ".join(
            [
                f"first 5 {_share(one['first_5'])} %",
                f"dropped {_share(one['dropped_by_embeddings'] + one['dropped_by_hashes'])} %",
                f"right at 1 % false alarms {_share(one['at_1_percent'])} %",
                f"sure where absent {_share(one['sure_where_absent'])} %",
                f"confidence of right ones {one['confidence']['right']['0.5']:.3f}",
                f"alignment off {_milliseconds(error['median'])} ms (median), below 60 ms "
                f"{_share(error['close'])} %",
                f"pruned {_share(pruned['embeddings'])} % and {_share(pruned['hashes'])} % of the "
                "rest",
                "CPU " + ", ".join(f"{name} {1000 * cpu[name]:.0f} ms" for name in cpu),
            ]
        )
        text += ["", f"{one['name']}: {told}"]
    hearing = figures["hearing_s"]
    text += [
        "",
        "Bhattacharyya coefficients: "
        + ", ".join(f"{one['name']} {one['coefficient']:.3f}" for one in figures["distances"]),
        f"to hear a MIDI file: {hearing['rendering']:.2f} s of CPU to play it, "
        f"{hearing['hashing']:.2f} s to hash it",
        "",
        f"{out}/report.html",
    ]
    return "\n".join(text)


_HEADS = ("MRR", "first %", "50 %", "90 %", "95 %", "kept 10", "pruned 97")


def _cells(one: Figures) -> list[str]:
    """The cells of a row; ranks within which a share of the true recordings lie."""
    ranks = ["dropped" if one[rank] is None else f"{one[rank]:.0f}" for rank in RANKS]
    rest = [_share(one[name]) if name in one else "" for name in ("kept_at_10", "pruned_97")]
    return [f"{one['mrr']:.3f}", _share(one["first"]), *ranks, *rest]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{1000 * value:.0f}"
