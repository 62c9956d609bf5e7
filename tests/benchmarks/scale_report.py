"""Tables and chart of `deploy/SCALE.md`, from the results of `bench_scale.py`.

A table stands in the document between ``<!-- table NAME -->`` and ``<!-- end -->``; what is between
them is written anew, all else is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scale_beyond import CHECKED, SECONDS, SIZES, beyond, every, wide
from scale_chart import draw

Figures = dict[str, Any]
Rows = list[list[str]]

PAPER = ("1", "10", "100")
BEYOND = ("10", "100", "10 of 4 min", "100 of 4 min")


def write(document: Path, results: Figures) -> None:
    """The document with its tables of these results, and ``scale.svg`` beside it."""
    text = document.read_text(encoding="utf-8")
    for name, make in BLOCKS.items():
        found = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not found.search(text):
            raise SystemExit(f"{document} has no place for the table {name}")
        text = found.sub(lambda at, make=make: at[1] + _table(make(results)) + at[2], text)
    document.write_text(text, encoding="utf-8")
    document.with_name("scale.svg").write_text(draw(results), encoding="utf-8")


def _table(rows: Rows) -> str:
    head, *others = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *others]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def balance(results: Figures) -> Rows:
    """Made-up codes against real and uniform ones."""
    found = results["balance"]
    kinds = {
        "real": found["real"],
        "made up": found[f"sigma {found['sigma']:g}"],
        "uniform": found["uniform"],
    }
    head = ["bits of a key", *(f"entropy, {name}" for name in kinds)]
    head += [f"met a key, {name}" for name in kinds]
    rows = [head]
    for bits in found["real"]:
        values = [kind[bits] for kind in kinds.values()]
        # Of a table of 2 ** (bits + 2) postings, as an index has it.
        met = [f"{value['load'] * 2 ** (int(bits) + 2):.1f}" for value in values]
        rows.append([bits, *(f"{value['entropy']:.2f}" for value in values), *met])
    return rows


BUILDS = {
    "1 M": "build 1M",
    "10 M": "build 10M",
    "100 M": "build 100M",
    "240 M (half)": "build half-0",
    "1 M × 13": "build 1M-all",
    "10 M × 13": "build 10M-all",
}


def builds(results: Figures) -> Rows:
    """What was built, by stages."""
    stages = ("hash", "spill", "build", "publish")
    rows = [
        ["postings × tables", "tracks", "shards", "bytes a posting"]
        + ["bytes of a spilled one", "CPU s a million postings: spills", "shards"]
        + [f"peak MB, {name}" for name in stages]
    ]
    for name, key in BUILDS.items():
        one = results[key]
        millions = one["postings_a_table"] * one["n_tables"] / 1e6
        rows.append(
            [
                name,
                f"{one['tracks']:,}",
                f"{one['shards']}",
                f"{one['table_bytes_a_posting']:.2f}",
                _spilled(one["stages"]["spill"]),
                *(f"{one['stages'][stage]['cpu_s'] / millions:.3f}" for stage in stages[1:3]),
                *(_mb(one["stages"][stage]["peak_rss_bytes"]) for stage in stages),
            ]
        )
    return rows


def _spilled(stage: Figures) -> str:
    """Bytes of a posting; nothing is spilled of a small index."""
    return f"{stage['bytes'] / stage['postings']:.2f}" if stage["postings"] else "-"


def bounds(results: Figures) -> Rows:
    """Peak memory against what `hashbeam plan` says a worker needs."""
    rows = [["", "measured, MB: spills", "shards", "`hashbeam plan`, MB"]]
    for name, built, planned in (
        ("100 M × 1", "build 100M", "keys-1 100M"),
        ("240 M × 1", "build half-0", "keys-1 half"),
        ("10 M × 13", "build 10M-all", "keys-13 10M"),
    ):
        stages = results[built]["stages"]
        (plan,) = (
            stage["memory_bytes"]
            for stage in results["plan"][planned]["stages"]
            if stage["stage"] == "build tables"
        )
        peaks = (stages[stage]["peak_rss_bytes"] for stage in ("spill", "build"))
        rows.append([name, *map(_mb, peaks), _mb(plan)])
    return rows


def merged(results: Figures) -> Rows:
    """The merge of two halves."""
    one = results["merge 480M"]
    stages = one["stages"]
    rows = [["", "pieces", "CPU s", "bytes written", "largest file"]]
    for name, key in (("parts, copied", "parts"), ("spills", "spills"), ("shards", "shards")):
        piece = stages[key]
        rows.append(
            [
                name,
                f"{piece['pieces']:,}",
                f"{piece['pieces_cpu_s']:.0f}",
                _size(piece["bytes"]),
                _size(piece["largest_file_bytes"]),
            ]
        )
    rows.append(["rows of both, in order", "1", f"{one['rows']['cpu_s']:.1f}",
                 _size(one["rows"]["bytes"]), _size(one["rows"]["bytes"])])  # fmt: skip
    whole = sum(one["bytes"].values())
    rows.append(["the whole command", "1", f"{stages['cpu_s']:.0f}", _size(whole), ""])
    return rows


def elements(results: Figures) -> Rows:
    """The largest element of each stage, on paper."""
    paper = [results["paper"][name] for name in PAPER]
    rows = [["", *(f"{name} M tracks" for name in PAPER)]]

    def row(name: str, tell: Callable[[Figures], str]) -> None:
        rows.append([name, *map(tell, paper)])

    row("segments, bits of a key", lambda one: f"{one['segments']}, {one['key_bits']}")
    row("parts", lambda one: f"{one['parts']['elements']:,}")
    row("largest part: tracks", lambda one: f"{one['parts']['largest_tracks']:,}")
    row("pieces that are spilled", lambda one: f"{one['spills']['elements']:,}")
    row("largest piece: snippets", lambda one: f"{one['spills']['largest_snippets']:,}")
    row("shards", lambda one: f"{one['shards']['elements']:,}")
    row("largest shard: postings", lambda one: f"{one['shards']['largest_postings']:,}")
    row("told of a segment", lambda one: _size(one["side_input"]["largest_segment_bytes"]))
    row(
        "spills of a segment, as told",
        lambda one: _size(one["side_input"]["spills_of_a_segment_bytes"]),
    )
    row("receipts of a segment", lambda one: f"{one['receipts']['largest_of_a_segment']:,}")
    row("footer that a part reads", lambda one: _size(one["rows_footer_bytes"]))
    row("*receipts of the run*", lambda one: f"{one['receipts']['all']:,}")
    row("*manifest*", lambda one: _size(one["manifest_bytes"]))
    return rows


def shuffle(results: Figures) -> Rows:
    """What is moved while tables are built."""
    rows = [["", *(f"{name} M tracks" for name in PAPER)]]
    moved = [results["paper"][name]["shuffle"] for name in PAPER]
    tables = [results["plan"][name]["index_bytes"]["tables"] for name in PAPER]
    whole = [one["bytes_of_postings"] for one in moved]
    rows.append(["postings, 8 bytes each", *map(_size, whole)])
    rows.append(["tables, finished", *map(_size, tables)])
    sums = [0.0 for _ in moved]
    for name, key in (
        ("spilled", "spilled_bytes"),
        ("moved by `Reshuffle`", "reshuffled_bytes"),
        ("fetched as side inputs, at most", "side_input_bytes"),
    ):
        rows.append([name, *(_size(one[key]) for one in moved)])
        sums = [total + one[key] for total, one in zip(sums, moved, strict=True)]
    for name, sizes in (("postings", whole), ("finished tables", tables)):
        ratios = [total / size for total, size in zip(sums, sizes, strict=True)]
        rows.append([f"**all of it by the {name}**", *(f"**{ratio:.3f}**" for ratio in ratios)])
    return rows


def lookups(results: Figures) -> Rows:
    """One table."""
    rows = [["postings of the table", "query, s", "keys", "met a key", "pages", "candidates"]]
    rows[0] += ["CPU ms: keys", "buckets", "votes", "comparison", "all", "all, 32 together"]
    for size in SIZES:
        for seconds in SECONDS:
            one = results[f"lookup {size}"][seconds]
            votes = one["candidates_cpu_ms"] - one["keys_cpu_ms"] - one["buckets_cpu_ms"]
            compared = one["search_cpu_ms"] - one["candidates_cpu_ms"]
            values = (one["keys_cpu_ms"], one["buckets_cpu_ms"], votes, compared)
            rows.append(
                [
                    size.replace("M", " M"),
                    seconds,
                    f"{one['keys']:.0f}",
                    f"{one['hits_a_key']:.1f}",
                    f"{one['pages']:.0f}",
                    f"{one['candidates']:.0f}",
                    *(f"{value:.2f}" for value in values),
                    f"{one['search_cpu_ms']:.1f}",
                    f"{one['search_batch_cpu_ms']:.1f}",
                ]
            )
    return rows


def cold(results: Figures) -> Rows:
    """The first queries, nothing in the cache."""
    rows = [["", "wall ms", "CPU ms", "pages waited for", "read from disk"]]
    for size in SIZES:
        for name, end in (("1 table", ""), ("13 × the probes", "-wide"), ("13 tables", "-all")):
            found = results.get(f"lookup {size}{end}")
            if found is None:
                continue
            one = found["cold"]["10"]
            rows.append(
                [
                    f"{size.replace('M', ' M')}, {name}",
                    f"{one['wall_ms']:.0f}",
                    f"{one['cpu_ms']:.0f}",
                    f"{one['major_faults']:,.0f}",
                    _size(one["read_bytes"]),
                ]
            )
    return rows


CHECKED_FIGURES = {
    "hits": "postings met",
    "candidates": "candidates",
    "candidates_cpu_ms": "CPU ms to candidates",
    "search_cpu_ms": "CPU ms in all",
    "pages": "pages",
}


def checked(results: Figures) -> Rows:
    """All tables, and what stands for them."""
    rows = [["", *(CHECKED_FIGURES.values())]]
    for size in CHECKED:
        for seconds in SECONDS:
            measured, expected = every(results, size), wide(results, size)
            assert measured is not None
            cells = []
            for name in CHECKED_FIGURES:
                one, other = measured[seconds][name], expected[seconds][name]
                cells.append(f"{_short(one)} / {_short(other)} = {one / other:.2f}")
            rows.append([f"{size.replace('M', ' M')}, {seconds} s", *cells])
    return rows


def all_tables(results: Figures) -> Rows:
    """Thirteen tables, warm: measured, what stands for them, and beyond."""
    rows = [["", "postings a table"]]
    rows[0] += [f"CPU ms, {seconds} s" for seconds in SECONDS]
    rows[0] += ["met a key, 10 s", "postings met, 10 s"]
    for size in SIZES:
        for name, found in (("13 tables", every(results, size)), ("stand-in", wide(results, size))):
            if found is None:
                continue
            last = found[SECONDS[-1]]
            rows.append(
                [
                    f"{name}, measured",
                    size.replace("M", " M"),
                    *(f"{found[seconds]['search_cpu_ms']:.0f}" for seconds in SECONDS),
                    f"{last['hits_a_key']:.1f}",
                    _short(last["hits"]),
                ]
            )
    for name in BEYOND:
        plan = results["plan"][name]
        asked = [beyond(results, plan, seconds) for seconds in SECONDS]
        tracks, *length = name.split(" ", 1)
        rows.append(
            [
                f"*expected, {tracks} M tracks{' ' + length[0] if length else ''}*",
                f"{plan['postings'] / plan['n_tables'] / 1e9:.1f} G",
                *(f"*{one['search_cpu_ms']:.0f}*" for one in asked),
                f"*{asked[-1]['hits_a_key']:.0f}*",
                f"*{_short(asked[-1]['hits'])}*",
            ]
        )
    return rows


def plans(results: Figures) -> Rows:
    """What `hashbeam plan` says."""
    names = ("1", *BEYOND)
    found = [results["plan"][name] for name in names]
    rows = [["", *(" M tracks ".join((name + " ").split(" ", 1)).strip() for name in names)]]

    def row(name: str, tell: Callable[[Figures], str]) -> None:
        rows.append([name, *map(tell, found)])

    row("snippets", lambda one: f"{one['snippets'] / 1e9:.2f} G")
    row("segments, shards", lambda one: f"{one['segments']}, {one['shards']:,}")
    row("bits of a key, wanted", lambda one: f"{one['key_bits']}, {one['wanted_key_bits']}")
    for kind in ("codes", "tables", "tracks", "matrices"):
        row(kind, lambda one, kind=kind: _size(one["index_bytes"][kind]))
    row("index", lambda one: _size(one["total_bytes"]))
    row("beside it while it is built", lambda one: _size(one["temporary_bytes"]))
    for number, stage in enumerate(("decode and hash", "build tables")):
        row(f"CPU hours, {stage}", lambda one, at=number: f"{one['stages'][at]['cpu_hours']:,.1f}")
    row("workers for a day", lambda one: f"{one['workers']:,}")
    row("memory of a worker", lambda one: _size(one["worker_memory_bytes"]))
    return rows


BLOCKS: dict[str, Callable[[Figures], Rows]] = {
    "balance": balance,
    "builds": builds,
    "bounds": bounds,
    "merged": merged,
    "shuffle": shuffle,
    "elements": elements,
    "lookups": lookups,
    "cold": cold,
    "checked": checked,
    "all tables": all_tables,
    "plans": plans,
}


def _mb(count: float) -> str:
    return f"{count / 1e6:.0f}"


def _size(count: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
