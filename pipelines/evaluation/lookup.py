"""``hashbeam evaluate lookup``: how often look-up is right, and how often it is wrongly sure."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from hashing.conditions import Condition
from hashing.errors import UsageError
from hashing.search import PROBES
from pipelines.evaluation.options import EvaluateOptions
from pipelines.options import Checker, add_job_arguments, key_bits, workers

DESCRIPTION = """\
Measure look-up: cut queries from a catalogue, degrade them, look them up, count.

  hashbeam evaluate lookup --catalog music/catalog.csv --out figures
  hashbeam evaluate lookup --catalog music/catalog.csv --noise noise --rooms rir \\
      --durations 1 5 --conditions mp3 ambience@0 --queries 400 --left-out-by album --out figures
  hashbeam evaluate lookup --catalog music/catalog.csv --model contrastive forgiving \\
      --probes 1 4 8 32 --out figures
  hashbeam evaluate lookup --catalog music/catalog.csv --only unheard.txt --left-out 0.5 \\
      --left-out-by album --out figures

A share of the tracks (--left-out, of those in --only where it is given; all others are indexed) is
kept out of the index, and queries from them must get no match: the score that at most 1 % of them
are above is the threshold at which lengths and models are compared. It needs 300 such queries of
each length or more.

Several models, several --probes or several indexes are asked the same queries, and the differences
between any two of them get 95 % intervals (paired bootstrap over tracks).

Tracks that share audio are found first, with the index itself and by their samples, and count as
one: their queries may be answered with either, and a track that was left out is not asked for where
the index holds the other. --as-listed takes the catalogue's word instead.

Every query is cut from a track as it was indexed, and then degraded: by mp3, noise N dB below the
music (white@N, ambience@N), a room (reverb), or several joined with +.

--out gets report.html, figures.json, queries.parquet (a row a query and system)."""

# The index holds the samples of a query under `clean`, so that condition must be asked for.
CONDITIONS = (
    "mp3",
    "white@5",
    "white@0",
    "ambience@5",
    "ambience@0",
    "reverb",
    "reverb+ambience@5",
)
DURATIONS = ("1", "2", "3", "5", "10")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam evaluate lookup``."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="lookup")
    add("--catalog", metavar="C", help="the tracks that queries are cut from")
    add("--out", metavar="DIR", help="a folder for the figures")
    add(
        "--model",
        metavar="M",
        nargs="+",
        default=[],
        help="shipped models or model folders; each gets an index, and the same queries",
    )
    add(
        "--index",
        metavar="INDEX",
        nargs="+",
        default=[],
        help="indexes to ask, instead of some made for the purpose; tracks of the catalogue that "
        "none of them holds are the negatives",
    )
    add("--durations", metavar="S", nargs="+", default=DURATIONS, help="seconds of the queries")
    add(
        "--conditions",
        metavar="NAME",
        nargs="+",
        default=CONDITIONS,
        help=f"(default: {' '.join(CONDITIONS)}); clean, for samples that the index holds",
    )
    add("--queries", metavar="N", default="100", help="of each duration and condition (100)")
    add(
        "--negatives",
        metavar="N",
        help="queries of each duration and condition from tracks left out (as many)",
    )
    add(
        "--left-out",
        metavar="SHARE",
        default="0.2",
        help="share of the tracks that is kept out of the index (0.2); 0 for none",
    )
    add(
        "--left-out-by",
        metavar="COLUMN",
        default="",
        help="tracks that agree in it are left out together: albums, packages, artists",
    )
    add("--same", metavar="COLUMN", default="", help="tracks that agree in it are one recording")
    add("--as-listed", action="store_true", help="do not look for tracks that share audio")
    add(
        "--only",
        metavar="FILE",
        default="",
        help="a file with the track_ids (one a line) that queries are cut from",
    )
    add("--noise", metavar="DIR", nargs="+", default=[], help="folders of ambient recordings")
    add("--rooms", metavar="DIR", nargs="+", default=[], help="folders of room responses")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add(
        "--probes",
        metavar="N",
        nargs="+",
        default=[PROBES],
        help=f"keys a snippet and table ({PROBES}); several: each is asked the same queries",
    )
    add("--key-bits", metavar="N", default="auto", help="bits of a table's key (by the size)")
    add(
        "--keep-embeddings",
        action="store_true",
        help="compare queries with embeddings (float16), not with codes",
    )
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> EvaluateOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    conditions = []
    for name in args.conditions:
        try:
            conditions.append(Condition.parse(name))
        except UsageError as error:
            checker.problems.append(f"--conditions: {error}")
    for folder in (*args.noise, *args.rooms):
        if not Path(folder).is_dir():
            checker.problems.append(f"--noise, --rooms: {folder} is not a folder")
    if args.index and args.model and len(args.index) != len(args.model):
        checker.problems.append("--model: name none, or one for each --index")
    for flag in ("left_out_by", "keep_embeddings"):
        if args.index and getattr(args, flag):
            name = flag.replace("_", "-")
            checker.problems.append(f"--{name}: has no meaning for an --index that is there")
    queries = checker.integer("--queries", low=1, high=1_000_000)
    given = checker.given("--negatives")
    options = EvaluateOptions(
        catalog=checker.text("--catalog"),
        out=checker.text("--out"),
        models=tuple(args.model),
        indexes=tuple(args.index),
        durations=_durations(args.durations, checker),
        conditions=tuple(conditions),
        queries=queries,
        negatives=checker.integer("--negatives", low=1, high=1_000_000) if given else queries,
        left_out=checker.number("--left-out", low=0, high=0.9),
        left_out_by=args.left_out_by,
        same=args.same,
        as_listed=args.as_listed,
        noise=tuple(args.noise),
        rooms=tuple(args.rooms),
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        probes=_probes(args.probes, checker),
        key_bits=key_bits(checker),
        keep_embeddings=args.keep_embeddings,
        workers=workers(checker),
        only=args.only,
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    checker.folder("--out", options.out)
    checker.finish()
    return options


def _durations(texts: Sequence[str], checker: Checker) -> tuple[float, ...]:
    durations = []
    for text in texts:
        try:
            durations.append(float(text))
        except ValueError:
            checker.problems.append(f"--durations: must be numbers, got {text!r}")
    if any(not 0.5 <= seconds <= 3600 for seconds in durations):
        checker.problems.append("--durations: must be from 0.5 to 3600 seconds")
    return tuple(dict.fromkeys(durations))


def _probes(texts: Sequence[object], checker: Checker) -> tuple[int, ...]:
    probes = []
    for text in texts:
        one = Checker(argparse.Namespace(probes=text))
        probes.append(one.integer("--probes", low=1, high=64))
        checker.problems += one.problems
    return tuple(dict.fromkeys(probes))


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam evaluate lookup``."""
    from pipelines.evaluation.measure import (
        measure_lookup,  # brings Arrow, which --help does without
    )
    from pipelines.report.evaluation import as_text

    options = options_from(args)
    figures = measure_lookup(options, beam_args)
    print(json.dumps(figures) if options.json else as_text(figures))
    return 0
