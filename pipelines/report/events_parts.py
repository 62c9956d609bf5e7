"""The parts of the page of labelled clips: what was measured, as tables and charts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

from pipelines.report.events_tables import (
    PUBLISHED,
    PUBLISHED_BITS,
    PUBLISHED_NAMES,
    PUBLISHED_RANDOM,
    Columns,
    Figures,
    Part,
    Rows,
    Table,
    base_of,
    blocks,
    by_embedding,
    curves_of,
    dashed,
    finite,
    kind_of,
    lengths_of,
    nearest,
    percent,
    percents,
    said,
    ticks,
    told,
    whole,
)
from pipelines.report.lines import Curve, LineChart, line_chart

Chart = tuple[LineChart, str, str]  # with its title and a note

GOAL = 0.3  # of what PQ lacks to a mAP of 1, DQN is to close

WITHOUT_LABELS = {"SH": "--quiet", "ITQ": "--good", "AGH": "--miss", "PQ": "--ink", "OPQ": "--bad"}
WITH_LABELS = {
    "DQN": "--accent",
    "DQN + words": "--quiet",
    "DQN + words + guesses": "--good",
    "OrthoHash": "--miss",
    "probe + PQ": "--bad",
    "PQ": "--ink",
}
IN_SHARES = {
    "DQN": "--accent",
    "DQN + words": "--good",
    "OrthoHash": "--miss",
    "linear probe": "--bad",
    "embedding": "--quiet",
}

COST = "What it costs"


def parts(figures: Figures) -> Iterator[Part]:
    """Those that were measured."""
    for section, make in _PARTS:
        rows = [row for row in figures.get("rows") or [] if row["section"] == section]
        if rows:
            yield make(figures, rows)


def _by_bits(name: str, rows: Rows, key: str, caption: str, dimensions: int | None) -> Table:
    """A figure by systems and bits, and the published one beside it where dimensions are given."""
    lengths = lengths_of(rows)
    paper = {} if dimensions is None else PUBLISHED[nearest(dimensions)]

    def cells(system: str, own: Rows) -> list[str]:
        codes = [told(own, key, bits=bits) if kind_of(system) < 2 else "" for bits in lengths]
        beside = [f"{value:.2f}" for value in paper.get(system, ())]
        room = len(PUBLISHED_BITS) if paper else 0
        floats = told(own, key) if kind_of(system) == 2 else ""
        return [*codes, floats, *(beside or [""] * room)]

    columns = [Columns("Measured, by bits", [*map(str, lengths), "floats"])]
    if dimensions is not None:
        title = f"Published, {PUBLISHED_NAMES[nearest(dimensions)]}"
        columns.append(Columns(title, [*map(str, PUBLISHED_BITS)], published=True))
    return Table(name, caption, columns, blocks(rows, cells), folded=key != "map")


def _table(figures: Figures, rows: Rows) -> Part:
    tables: list[Table] = []
    charts: list[Chart] = []
    top = max([*percents(rows, "map"), *PUBLISHED[1024]["DQN"]])
    for name, dimensions, own in by_embedding(figures, rows):
        caption = (
            "Mean average precision over the whole database, in %. Floats: vectors compared as "
            "they are; a range where one was trained for each length of codes. Grey: published "
            "figures of other clips (DCASE 2018 task 2: 41 classes, 1,600 queries, 9,473 clips; a "
            f"random order has about {PUBLISHED_RANDOM})."
        )
        tables.append(_by_bits(f"mAP by bits, {name}, %", own, "map", caption, dimensions))
        for at in figures.get("ranks") or []:
            caption = f"Mean average precision of the first {at}, in %."
            title = f"mAP@{at} by bits, {name}, %"
            tables.append(_by_bits(title, own, f"map_at_{at}", caption, None))
        paper = PUBLISHED[nearest(dimensions)]
        for colours, beside, title in (
            (WITH_LABELS, ("DQN",), f"With labels, {name}"),
            (WITHOUT_LABELS, tuple(WITHOUT_LABELS), f"Without labels, {name}"),
        ):
            curves = list(curves_of(own, colours, lambda row: row["bits"], "map"))
            curves += [
                dashed(f"{one}, published", paper[one], colours[one])
                for one in beside
                if one in paper
            ]
            chart = line_chart(curves, "bits", "mAP, %", top=top, ticks=ticks(curves))
            charts.append((chart, title, "Dashed: published, of other clips."))
        more, drawn = _closed(figures, name, dimensions)
        tables += more
        charts += drawn
    known = percent(figures.get("labelled"), 1).removesuffix(".0")
    words = (
        f"Deep quantization (DQN) was trained with {known} % of the labels. Its codes "
        "are held against codes that know none, and against simpler ones that know "
        "the same: a linear probe whose probabilities are quantized, and a byte that is the "
        "likeliest class. Words: those of labels are learned along. Guesses: so are labels that "
        "are guessed, of clips that have none, the database among them."
    )
    return Part("Codes by their length", words, tables, charts)


def _closed(figures: Figures, name: str, dimensions: int) -> tuple[list[Table], list[Chart]]:
    """How much of PQ's lack is made good, where that was measured."""
    closed = figures.get("closed") or []
    rows = [row for row in closed if row["embedding"] == name and kind_of(row["system"]) == 0]
    if not any(finite(row["closed"]) for row in rows):
        return [], []
    lengths = sorted({row["bits"] for row in rows})

    def cells(_: str, own: Rows) -> list[str]:
        return [told(own, "closed", 1, bits=bits) for bits in lengths]

    title = f"Closed of what PQ lacks, {name}, %"
    caption = "How much of what PQ's mAP lacks to 100 % each system makes good, by bits; in %."
    table = Table(title, caption, [Columns("", [*map(str, lengths)])], blocks(rows, cells))
    curves = [
        dataclasses.replace(one, points=[(x, max(0.0, y)) for x, y in one.points])
        for one in curves_of(rows, WITH_LABELS, lambda row: row["bits"], "closed")
    ]
    paper = PUBLISHED[nearest(dimensions)]
    values = [
        100 * (one - base) / (100 - base)
        for one, base in zip(paper["DQN"], paper["PQ"], strict=True)
    ]
    curves += [
        dashed("DQN, published", values, WITH_LABELS["DQN"]),
        dashed("goal", [100 * GOAL] * len(PUBLISHED_BITS), "--ink"),
    ]
    chart = line_chart(curves, "bits", "closed of what PQ lacks, %", ticks=ticks(curves))
    return [table], [
        (chart, f"Closed of what PQ lacks, {name}", f"The goal is {100 * GOAL:.0f} %.")
    ]


def _shares(figures: Figures, rows: Rows) -> Part:
    tables, charts = [], []
    for name, _, own in by_embedding(figures, rows):
        shares = sorted({row["share"] for row in own})

        def cells(_: str, of: Rows, shares: Sequence[float] = shares) -> list[str]:
            return [told(of, "map", share=share) for share in shares]

        clips = {row["share"]: row.get("clips") for row in own}
        heads = [f"{100 * one:g} % ({whole(clips[one])} clips)" for one in shares]
        caption = "mAP over the whole database in %, by the share of clips whose labels are known."
        title = f"mAP by known labels, {name}, %"
        tables.append(Table(title, caption, [Columns("", heads)], blocks(own, cells)))
        curves = list(curves_of(own, IN_SHARES, lambda row: 100 * row["share"], "map"))
        chart = line_chart(curves, "known labels, %", "mAP, %", x_log=True, ticks=ticks(curves))
        charts.append(
            (chart, f"By known labels, {name}", f"Codes of {said(lengths_of(own))} bits.")
        )
    words = "Each class keeps the same share of its labels, one clip at least."
    return Part("With few labels", words, tables, charts)


def _unseen(figures: Figures, rows: Rows) -> Part:
    parts = ("seen", "unseen")
    named = list(by_embedding(figures, rows))

    def cells(_: str, own: Rows) -> list[str]:
        return [told(own, "map", embedding=name, part=one) for name, _, _ in named for one in parts]

    table = Table(
        "mAP of seen and unseen classes, %",
        "mAP in % among the clips of one half of the classes.",
        [Columns(name, parts) for name, _, _ in named],
        blocks(rows, cells),
    )
    words = (
        "Half of the classes were learned. Clips of each half ask among each other; what helps "
        "with the unseen half was not learned by heart. Chance differs between the halves, so "
        f"compare systems within a column. Codes of {said(lengths_of(rows))} bits."
    )
    return Part("Classes that were never learned", words, [table])


def _taxonomy(figures: Figures, rows: Rows) -> Part:
    ways, keys = ("flat", "hierarchical"), {"mAP": "map", "hierarchical mAP": "ahp"}
    tables = []
    for name, _, own in by_embedding(figures, rows):
        # "DQN flat symmetric": which way it was trained is a column here.
        split = [{**row, **_way(row["system"], ways)} for row in own]

        def cells(_: str, of: Rows) -> list[str]:
            return [told(of, key, way=way) for key in keys.values() for way in ways]

        columns = [Columns(title, ways) for title in keys]
        caption = (
            "Trained with labels alone (flat) and with the taxonomy (hierarchical); in %. "
            "Hierarchical mAP counts clips of a related class in part."
        )
        title = f"With and without the taxonomy, {name}, %"
        tables.append(Table(title, caption, columns, blocks(split, cells)))
    words = f"{figures.get('taxonomy_levels') or 0} levels. Codes of {said(lengths_of(rows))} bits."
    return Part("What a taxonomy adds", words, tables)


def _way(system: str, ways: Sequence[str]) -> dict[str, str]:
    """A system apart from the way in which it was trained.

    >>> _way("DQN flat symmetric", ("flat",))
    {'system': 'DQN symmetric', 'way': 'flat'}
    """
    words = system.split(" ")
    way = next((one for one in ways if one in words), "")
    return {"system": " ".join(word for word in words if word != way), "way": way}


def _ablation(figures: Figures, rows: Rows) -> Part:
    named = list(by_embedding(figures, rows))
    kinds = ("codes", "symmetric", "floats")

    def cell(own: Rows, name: str, kind: int) -> str:
        return told([row for row in own if kind_of(row["system"]) == kind], "map", embedding=name)

    lines = []
    for base in dict.fromkeys(base_of(row["system"]) for row in rows):
        own = [row for row in rows if base_of(row["system"]) == base]
        lines.append((base, [cell(own, name, kind) for name, _, _ in named for kind in range(3)]))
    table = Table(
        "mAP without parts of DQN, %",
        "mAP in %: of codes against the query as it is, of codes against codes, and of what the "
        "network gives before it becomes codes.",
        [Columns(name, kinds) for name, _, _ in named],
        [("", lines)],
    )
    words = f"DQN, with parts of it changed. Codes of {said(lengths_of(rows))} bits."
    return Part("What the parts are worth", words, [table])


def _text(figures: Figures, rows: Rows) -> Part:
    keys = {f"mAP@{at}": f"map_at_{at}" for at in figures.get("ranks") or []} | {"mAP": "map"}
    tables = []
    for name, _, own in by_embedding(figures, rows):
        lines = []
        for row in own:
            shown = [percent(row.get(key)) for key in keys.values()]
            lines.append((row["system"], [whole(row["bits"]), whole(row.get("queries")), *shown]))
        caption = "In %. Sound: the same network, asked by clips."
        columns = [Columns("", ["bits", "queries", *keys])]
        tables.append(Table(f"mAP of words, {name}, %", caption, columns, [("", lines)]))
    words = "Words of labels, and of the families above them, ask for clips."
    return Part("Asked by words", words, tables)


def _multi_index(figures: Figures, rows: Rows) -> Part:
    tables, curves = [], []
    colours = ("--accent", "--good", "--miss", "--bad")
    for number, (name, _, own) in enumerate(by_embedding(figures, rows)):
        own = sorted(own, key=lambda row: row.get("asked_share") or math.inf)
        lines = []
        for row in own:
            asked = row.get("asked_share")
            cost = row.get("cpu_us_a_query")
            figures_of = [percent(row.get(key)) for key in ("looked_at", "map_at_100", "kept")]
            title = f"{100 * asked:g} % of the codes" if finite(asked) else "all codes"
            lines.append((title, [*figures_of, whole(cost)]))
        caption = "How many codes are looked at, and what is left of mAP@100 among all of them."
        columns = [Columns("", ["looked at, %", "mAP@100, %", "kept, %", "CPU a query, µs"])]
        tables.append(Table(f"Nearest cells only, {name}", caption, columns, [("", lines)]))
        points = [
            (100 * row["looked_at"], 100 * row["kept"])
            for row in own
            if finite(row.get("kept")) and finite(row.get("looked_at")) and row["looked_at"] > 0
        ]
        curves.append(Curve(name, points, colour=colours[number % len(colours)]))
    chart = line_chart(curves, "codes looked at, %", "kept of mAP@100, %", x_log=True, top=100)
    words = f"A query looks at the cells nearest to it. Codes of {said(lengths_of(rows))} bits."
    return Part("The multi-index", words, tables, [(chart, "Looked at, and kept", "By embedding.")])


def _cost(figures: Figures, rows: Rows) -> Part:
    tables = []
    for name, _, own in by_embedding(figures, rows):
        lengths = lengths_of(own)
        # What is compared the other way is the same codes; 0 is what nobody measured.
        cost = [
            {**row, "encoded_us": row.get("encoded_us") or None}
            for row in own
            if kind_of(row["system"]) != 1
        ]

        def cells(_: str, of: Rows, lengths: Sequence[int] = lengths) -> list[str]:
            held = sorted({-(-row["bits"] // 8) for row in of})
            bytes_of = f"{held[0]:,}" + (f"–{held[-1]:,}" if held[1:] else "")
            return [
                bytes_of,
                *(told(of, "encoded_us", 1, 1.0, bits=bits) for bits in lengths),
                *(told(of, "fitted_cpu_s", 1, 1.0, bits=bits) for bits in lengths),
            ]

        columns = [
            Columns("A clip", ["bytes"]),
            Columns("CPU to encode a clip by bits, µs", [*map(str, lengths)]),
            Columns("CPU to fit by bits, s", [*map(str, lengths)]),
        ]
        caption = "From the embedding on; hearing a clip comes before that and is the same for all."
        if cost:
            tables.append(Table(f"Cost, {name}", caption, columns, blocks(cost, cells)))
    return Part(COST, "Bytes of a clip in the database, and time of one core.", tables)


_PARTS: tuple[tuple[str, Callable[[Figures, Rows], Part]], ...] = (
    ("table", _table),
    ("shares", _shares),
    ("unseen", _unseen),
    ("taxonomy", _taxonomy),
    ("ablation", _ablation),
    ("text", _text),
    ("multi-index", _multi_index),
    ("table", _cost),
)
