"""``hashbeam evaluate lookup``: how often look-up is right, and how often it is wrongly sure."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.conditions import Condition
from hashing.errors import CatalogError, HashbeamError, UsageError
from hashing.search import PROBES
from pipelines import io
from pipelines.accuracy import Result, as_text, summarise
from pipelines.answers import in_one_line
from pipelines.catalog import read_catalog
from pipelines.opened import open_index
from pipelines.options import Checker, IndexOptions, add_job_arguments, workers
from pipelines.progress import shows_progress
from pipelines.questions import Questions, Source
from pipelines.report.page import evaluate_page

DESCRIPTION = """\
Measure look-up: cut queries from a catalogue, degrade them, look them up, count.

  hashbeam evaluate lookup --catalog music/catalog.csv --out figures
  hashbeam evaluate lookup --catalog music/catalog.csv --noise noise --rooms rir \\
      --durations 1 5 --conditions clean mp3 ambience@0 --queries 400 --out figures

A share of the tracks (--left-out) is kept out of the index, and queries from them must get no
match. --out gets report.html, figures.json and queries.parquet (a row a query)."""

FORMAT_VERSION = 1  # of figures.json and queries.parquet

CONDITIONS = (
    "clean",
    "mp3",
    "white@5",
    "white@0",
    "ambience@5",
    "ambience@0",
    "reverb",
    "reverb+ambience@5",
)
DURATIONS = ("1", "2", "3", "5", "10")


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What ``hashbeam evaluate lookup`` was asked to do."""

    catalog: str
    out: str
    model: str | None
    index: str
    durations: tuple[float, ...]
    conditions: tuple[Condition, ...]
    queries: int
    left_out: float
    same: str
    noise: tuple[str, ...]
    rooms: tuple[str, ...]
    seed: int
    probes: int
    workers: int
    only: str
    json: bool
    quiet: bool
    progress: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam evaluate``."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="what to evaluate: lookup")
    add("--catalog", metavar="C", help="the tracks that queries are cut from")
    add("--out", metavar="DIR", help="a folder for the figures")
    add("--model", metavar="M", help="a shipped model or a model folder")
    add(
        "--index",
        metavar="INDEX",
        help="an index to ask, instead of one made for the purpose; tracks of the catalogue that "
        "it does not hold are the negatives",
    )
    add("--durations", metavar="S", nargs="+", default=DURATIONS, help="seconds of the queries")
    add(
        "--conditions",
        metavar="NAME",
        nargs="+",
        default=CONDITIONS,
        help=f"(default: {' '.join(CONDITIONS)})",
    )
    add(
        "--queries",
        metavar="N",
        default="100",
        help="queries of each duration and condition, and as many from tracks left out (100)",
    )
    add(
        "--left-out",
        metavar="SHARE",
        default="0.2",
        help="share of the tracks that is kept out of the index (0.2); 0 for none",
    )
    add("--same", metavar="COLUMN", default="", help="tracks that agree in it are one recording")
    add(
        "--only",
        metavar="FILE",
        default="",
        help="a file with the track_ids (one a line) that queries are cut from",
    )
    add("--noise", metavar="DIR", nargs="+", default=[], help="folders of ambient recordings")
    add("--rooms", metavar="DIR", nargs="+", default=[], help="folders of room responses")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--probes", metavar="N", default=PROBES, help="keys a snippet and table (%(default)s)")
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> EvaluateOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    if args.kind != "lookup":
        checker.problems.append(f"KIND: must be lookup, got {args.kind!r}")
    durations = []
    for text in args.durations:
        try:
            durations.append(float(text))
        except ValueError:
            checker.problems.append(f"--durations: must be numbers, got {text!r}")
    if any(not 0.5 <= seconds <= 3600 for seconds in durations):
        checker.problems.append("--durations: must be from 0.5 to 3600 seconds")
    conditions = []
    for name in args.conditions:
        try:
            conditions.append(Condition.parse(name))
        except UsageError as error:
            checker.problems.append(f"--conditions: {error}")
    for folder in (*args.noise, *args.rooms):
        if not Path(folder).is_dir():
            checker.problems.append(f"--noise, --rooms: {folder} is not a folder")
    options = EvaluateOptions(
        catalog=checker.text("--catalog"),
        out=checker.text("--out"),
        model=args.model or None,
        index=args.index or "",
        durations=tuple(durations),
        conditions=tuple(conditions),
        queries=checker.integer("--queries", low=1, high=1_000_000),
        left_out=checker.number("--left-out", low=0, high=0.9),
        same=args.same,
        noise=tuple(args.noise),
        rooms=tuple(args.rooms),
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        probes=checker.integer("--probes", low=1, high=64),
        workers=workers(checker),
        only=args.only,
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    if options.out and io.exists(options.out) and not io.is_dir(options.out):
        checker.problems.append(f"--out: {options.out} is a file; name a folder")
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam evaluate lookup``."""
    options = options_from(args)
    figures = evaluate_lookup(options, beam_args)
    print(json.dumps(figures) if options.json else as_text(figures))
    return 0


def evaluate_lookup(options: EvaluateOptions, beam_args: Sequence[str] = ()) -> dict[str, Any]:
    """Index what is not left out, ask, and write the figures; returns them."""
    catalog = read_catalog(options.catalog)
    if options.same and options.same not in catalog.column_names:
        raise CatalogError(f"{options.catalog}: no column {options.same!r} (--same)")
    sources = [
        Source(row["track_id"], row["uri"], _recording(row, options.same))
        for row in catalog.to_pylist()
    ]
    asked = _asked(options.only, sources)
    questions = Questions.prepare(
        options.durations,
        options.conditions,
        options.queries,
        options.noise,
        options.rooms,
        options.seed,
    )
    with tempfile.TemporaryDirectory() as scratch:
        index = options.index
        if not index:
            index = f"{scratch}/index"
            _make_index(options, catalog, scratch, index, beam_args)
        searcher, tracks, manifest = open_index(index, options.model, options.probes)
        held = _ids_of(index, manifest)
        known = {one.recording for one in sources if one.track_id in held}
        inside = [one for one in asked if one.track_id in held]
        outside = [one for one in asked if one.recording not in known]
        if not inside:
            raise HashbeamError(
                f"{index} holds no track of {options.catalog} to cut queries from: evaluate with "
                "the catalogue that was indexed"
            )
        results = list(
            questions.ask(
                searcher,
                tracks,
                inside,
                outside,
                {one.track_id: one.recording for one in sources},
                show=shows_progress(quiet=options.quiet, asked=options.progress),
            )
        )
    shares = summarise(results)
    if not shares["durations"]:
        kinds = ", ".join(shares["not_asked"])
        raise HashbeamError(f"{options.catalog}: no query could be cut from its tracks ({kinds})")
    figures = {
        "format_version": FORMAT_VERSION,
        "catalog": Path(options.catalog).name,
        "model": {"name": searcher.hasher.model.name, "digest": searcher.hasher.digest},
        "tracks_indexed": len(held),
        "tracks_left_out": len(outside),
        "key_bits": manifest.key_bits,
        "probes": options.probes,
        "seed": options.seed,
        **shares,
    }
    _write(options.out, figures, results)
    return figures


def _recording(row: dict[str, Any], column: str) -> str:
    """What tells recordings apart: the track itself, or what its column says.

    >>> _recording({"track_id": "a", "work": "w"}, "work"), _recording({"track_id": "a"}, "work")
    ("work='w'", 'a')
    """
    value = row.get(column)
    return f"{column}={value!r}" if value else str(row["track_id"])


def _asked(only: str, sources: Sequence[Source]) -> list[Source]:
    if not only:
        return list(sources)
    lines = io.read_bytes(only).decode("utf-8", "replace").splitlines()
    wanted = {line.strip() for line in lines} - {""}
    unknown = sorted(wanted - {one.track_id for one in sources})
    if unknown or not wanted:
        problem = f"no track {in_one_line(unknown)} in the catalogue" if unknown else "is empty"
        raise CatalogError(f"{only}: {problem}; give a track_id a line (--only)")
    return [one for one in sources if one.track_id in wanted]


def _ids_of(index: str, manifest: Any) -> set[str]:
    ids: set[str] = set()
    for (path,) in manifest.files.tuples("path", kind="tracks"):
        ids.update(io.read_table(io.join(index, path), ["track_id"])["track_id"].to_pylist())
    return ids


def _make_index(
    options: EvaluateOptions, catalog: pa.Table, scratch: str, index: str, beam_args: Sequence[str]
) -> None:
    from pipelines.index import build_index

    order = np.random.default_rng(options.seed).permutation(catalog.num_rows)
    kept = np.sort(order[int(options.left_out * catalog.num_rows) :])
    io.write_table(f"{scratch}/catalog.parquet", catalog.take(pa.array(kept)))
    build_index(
        IndexOptions(
            catalog=f"{scratch}/catalog.parquet",
            out=index,
            model=options.model,
            workers=options.workers,
            max_failures=1.0,
            quiet=options.quiet,
        ),
        beam_args,
    )


def _write(out: str, figures: dict[str, Any], results: Sequence[Result]) -> None:
    io.write_bytes(io.join(out, "figures.json"), json.dumps(figures, indent=1).encode() + b"\n")
    io.write_bytes(io.join(out, "report.html"), evaluate_page(figures).encode() + b"\n")
    table = pa.Table.from_pylist([dataclasses.asdict(result) for result in results])
    metadata = {
        "hashbeam_format": str(FORMAT_VERSION),
        "hasher_digest": figures["model"]["digest"],
    }
    io.write_table(io.join(out, "queries.parquet"), table, metadata=metadata)


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
