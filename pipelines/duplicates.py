"""``hashbeam duplicates``: the index joined with itself, on Beam."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["duplicates", *sys.argv[1:]]))

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from pipelines import io
from pipelines.duplication.job import (
    EVERY,
    FORMAT_VERSION,
    MAX_BUCKET,
    TABLES,
    DuplicatesJob,
    DuplicatesOptions,
    plan_blocks,
    prepare,
)
from pipelines.options import Checker, add_job_arguments, workers

DESCRIPTION = f"""\
Find the tracks of an index that are the same recording, or share a part of one.

  hashbeam duplicates music.index --out duplicates
  hashbeam lookup --index music.index --duplicates duplicates snippet.mp3
  hashbeam disambiguate --catalog catalog.csv --out artists --duplicates duplicates

Nothing is decoded: candidates come from the hash tables, and codes tell how long two tracks are
alike. DIR then holds

  duplicates.parquet  pairs of tracks: relation, score, overlap_s, start_s in each, isrc
  groups.parquet      tracks that are one recording, and which of them represents it
  run.json            counters

relation is same (nearly all of both), part (nearly all of one: an excerpt, a preview, a medley) or
shared (a sample, a loop, a jingle). score is the chance that it is the same audio, 0 to 1. isrc is
equal or different where the catalogue has both; equal raises the score, different vetoes nothing.
Groups are made of pairs that are the same, each member with the representative.

Another take is another recording. A layer more or less, or a master of its own, is mostly the same;
a copy at another tempo or pitch is not found. Buckets of more than --max-bucket postings
({MAX_BUCKET}) are passed over and counted. A run that was stopped goes on by the same command."""

MIN_SCORE = 0.5  # of pairs that are written, as of matches


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam duplicates``."""
    add = parser.add_argument
    add("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add("--out", metavar="DIR", help="a new folder, or that of a run that was stopped")
    add("--model", metavar="M", help="the model that made the index, where it is not a shipped one")
    add(
        "--min-score",
        metavar="S",
        default=MIN_SCORE,
        help="pairs below it are left out, 0 to 1 (%(default)s); 0 shows all",
    )
    add(
        "--every",
        metavar="N",
        default=EVERY,
        help="of a pair of snippets one is every N-th of its track: more costs less and finds "
        "less (%(default)s)",
    )
    add(
        "--tables",
        metavar="N",
        default=TABLES,
        help="hash tables that are joined: more cost more and find more (%(default)s)",
    )
    add(
        "--max-bucket",
        metavar="N",
        default=MAX_BUCKET,
        help="larger buckets are passed over (%(default)s)",
    )
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> DuplicatesOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    options = DuplicatesOptions(
        index=args.index,
        out=checker.text("--out"),
        model=args.model or None,
        every=checker.integer("--every", low=1, high=1000),
        tables=checker.integer("--tables", low=1),
        max_bucket=checker.integer("--max-bucket", low=2, high=10_000),
        min_score=checker.number("--min-score", low=0, high=1),
        workers=workers(checker),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam duplicates``: 0 only if all results were written."""
    from pipelines.duplication.results import as_text

    options = options_from(args)
    summary = find_duplicates(options, beam_args)
    print(json.dumps(summary) if options.json else as_text(summary))
    return 0


def find_duplicates(options: DuplicatesOptions, beam_args: Sequence[str] = ()) -> dict[str, Any]:
    """All of it; returns what is printed.

    Raises: HashbeamError where the index or the folder of results cannot be used.
    """
    from pipelines.duplication.join import FindDuplicates
    from pipelines.duplication.results import join_counts, publish, unfinished
    from pipelines.job_folder import finish, remove_temporary
    from pipelines.live import count_live
    from pipelines.opened import find_hasher
    from pipelines.progress import Progress, shows_progress
    from pipelines.runner import make_pipeline_options, run_pipeline, workers_here
    from pipelines.versions import open_manifest

    started = time.time()
    manifest = open_manifest(options.index)
    find_hasher(manifest, options.model)  # before any work
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    job = prepare(options, manifest)
    blocks = plan_blocks(options.index, manifest, options.tables)
    missing, parts = unfinished(job, [block.name for block in blocks])
    total = len(blocks) + job.n_parts
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    with Progress(total, lambda: _finished(job), unit="piece", show=show):
        left = [block for block in blocks if block.name in missing]
        run_pipeline(
            lambda pipeline: pipeline | "find duplicates" >> FindDuplicates(job, left, parts),
            pipeline_options,
        )
    metadata = {
        "hashbeam_format": str(FORMAT_VERSION),
        "hasher_digest": manifest.model["digest"],
        "index_version": manifest.version,
    }
    counts = publish(job, metadata)
    summary = {
        "format_version": FORMAT_VERSION,
        "index": options.index,
        "index_version": manifest.version,
        "model": manifest.model,
        "out": options.out,
        "tracks": count_live(manifest),
        "tables_joined": min(options.tables, manifest.n_tables),
        "every": options.every,
        "max_bucket": options.max_bucket,
        "min_score": options.min_score,
        **join_counts(job),
        **counts,
        "pieces": total,
        "pieces_resumed": total - len(missing) - len(parts),
        "workers": workers_here(pipeline_options, options.workers),
        "wall_s": round(time.time() - started, 3),
    }
    finish(options.out, summary)
    io.remove_tree(job.path("work"))
    remove_temporary(options.out)
    return summary


def _finished(job: DuplicatesJob) -> int:
    folders = ("blocks", "parts")
    return sum(
        not name.startswith(".") for f in folders for name in io.list_dir(job.path("work", f))
    )
