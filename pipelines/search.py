"""``hashbeam lookup``: which track is this recording from? A few files at once, without Beam."""

from __future__ import annotations

import argparse
import json

from hashing.errors import HashbeamError
from hashing.search import PROBES
from pipelines.answers import MIN_SCORE, TOP, Query, ask, in_one_line
from pipelines.options import (
    MAX_TRACK_HOURS,
    Checker,
    LookupOptions,
    add_decode_arguments,
    add_detach_argument,
    add_job_arguments,
    workers,
)

DESCRIPTION = """\
Say which track of an index a recording is from, and from where in it.

  hashbeam lookup --index music.index snippet.mp3 other.wav
  hashbeam lookup --index music.index --queries queries.csv --out answers

A match has a score: the share of such matches that are right. Below --min-score there is no match.
A recording that holds several tracks gives several matches, each with the part that it explains.
--queries is CSV, JSON Lines or Parquet with query_id and uri, and start_s and duration_s if only a
part is asked for; it runs on Beam and writes matches/ and failures/ (Parquet) into --out."""

# Keys of a snippet and table looked up at most with --probes: more cost time and gain nothing.
HIGHEST_PROBES = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam lookup``."""
    add = parser.add_argument
    add("files", metavar="FILE", nargs="*", help="recordings to look up at once")
    add("--index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add("--queries", metavar="Q", help="many queries: CSV, JSON Lines or Parquet")
    add("--out", metavar="DIR", help="a new folder for the answers to --queries")
    add("--model", metavar="M", help="the model that made the index, where it is not a shipped one")
    add("--top", metavar="K", default=TOP, help="matches of a query at most (%(default)s)")
    add(
        "--min-score",
        metavar="S",
        default=MIN_SCORE,
        help="matches below it are left out, 0 to 1 (%(default)s); 0 shows all",
    )
    add(
        "--probes",
        metavar="N",
        default=PROBES,
        help="keys looked up for each snippet and table: more find more and cost more "
        "(%(default)s)",
    )
    add(
        "--duplicates",
        metavar="DIR",
        help="what `hashbeam duplicates` wrote: copies of one recording are one match",
    )
    add(
        "--max-query-hours",
        metavar="H",
        default=MAX_TRACK_HOURS,
        help="longer queries fail (%(default)s)",
    )
    add_decode_arguments(parser)
    add_detach_argument(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> LookupOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    index = checker.text("--index")
    if args.files and args.queries:
        checker.problems.append("--queries: give either files or --queries, not both")
    elif not args.files and not args.queries:
        checker.problems.append("FILE: name recordings to look up, or --queries and --out")
    if args.queries and not args.out:
        checker.problems.append("--out: is needed with --queries")
    if args.out and not args.queries:
        checker.problems.append("--out: goes with --queries; answers to files are printed")
    if args.detach and not args.queries:
        checker.problems.append("--detach: goes with --queries; files are answered at once")
    options = LookupOptions(
        index=index,
        files=tuple(args.files),
        queries=args.queries or "",
        out=args.out or "",
        model=args.model or None,
        top=checker.integer("--top", low=1, high=1000),
        min_score=checker.number("--min-score", low=0, high=1),
        probes=checker.integer("--probes", low=1, high=HIGHEST_PROBES),
        workers=workers(checker),
        max_query_hours=checker.number("--max-query-hours", low=0.001, high=2),
        decode_timeout_s=checker.number("--decode-timeout", low=0.1),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
        duplicates=args.duplicates or "",
    )
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Answer; status 1 where a file could not be looked up (the others are answered first)."""
    options = options_from(args)
    if options.queries:
        from pipelines.lookup import look_up_many

        return int(look_up_many(options, beam_args))
    return look_up_files(options)


def look_up_files(options: LookupOptions) -> int:
    """``hashbeam lookup FILE…``: an answer each, printed as soon as it is known."""
    from hashing.decoder import Decoder

    with Decoder() as decoder:
        decoder.start()  # it loads while the index is opened
        from pipelines.duplication.collapse import open_groups
        from pipelines.opened import open_index

        searcher, tracks, _ = open_index(options.index, options.model, options.probes)
        queries = [Query(name, name) for name in options.files]
        failures: list[str] = []
        for answer in ask(
            queries,
            searcher,
            tracks,
            decoder,
            top=options.top,
            min_score=options.min_score,
            max_seconds=options.max_query_hours * 3600,
            timeout_s=options.decode_timeout_s,
            groups=open_groups(options.duplicates),
            allowed=options.allowed,
        ):
            failures += [answer.message] * bool(answer.error)
            if options.json:
                print(json.dumps(answer.to_json()), flush=True)
            elif not answer.error:
                print(answer.to_text(), flush=True)
    if failures:
        n = len(options.files)
        counted = f"{len(failures)} of {n} files could not be looked up: " if n > 1 else ""
        raise HashbeamError(counted + in_one_line(failures))
    return 0
