"""``hashbeam reindex``: an index is brought up to date with its catalogue.

Wiring only: `pipelines.changes` finds out what has changed, `pipelines.reindexing` does it.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported, as in `pipelines.index`.
    from pipelines.cli import main

    sys.exit(main(["reindex", *sys.argv[1:]]))

import argparse
import json
from collections.abc import Sequence
from typing import Any

from pipelines.also import add_moved_models, models_named
from pipelines.catalog import read_catalog
from pipelines.changes.classes import CLASSES, Changes, Estimate
from pipelines.gates import add_gate_arguments, gate_options
from pipelines.metrics_text import RunMetrics, add_metrics_argument
from pipelines.options import (
    MAX_TRACK_HOURS,
    Checker,
    add_decode_arguments,
    add_detach_argument,
    add_job_arguments,
    workers,
)
from pipelines.reindexing.begin import ReindexOptions, look_for_changes
from pipelines.reindexing.remodel import look_before, remodel, takes_over
from pipelines.reindexing.rivals import QUERIES
from pipelines.reindexing.run import reindex
from pipelines.runner import make_pipeline_options
from pipelines.summary import Summary, read_summary, summary_of
from pipelines.versions import Manifest, open_manifest

DESCRIPTION = """\
Bring an index up to date with its catalogue: only what has changed is decoded, and a new version is
published all or nothing. Who reads the old version goes on reading it.

  hashbeam reindex --catalog catalog.csv --index music.index --dry-run
  hashbeam reindex --catalog catalog.csv --index music.index
  hashbeam rollback music.index

A track has changed where its etag differs, else the size of its file, else the time of change, else
its content. Tracks that the catalogue no longer has are removed; a file under another track_id or
uri is recognised, and not decoded again. Nothing changed: nothing is published, exit status 0.

With --model and another model than the index's, the whole catalogue is hashed by that one, beside
the published version, and both are asked the same queries, cut from the tracks with noise: it is
published only if it finds no less. Where snippet embeddings were kept and both models stand on one
encoder, codes are made of these, and only what has changed is decoded.

A run that was stopped goes on when the same command is given again; one of an older catalogue is
given up."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam reindex``."""
    add = parser.add_argument
    add("--catalog", metavar="C", help="CSV, JSON Lines or Parquet with track_id and uri")
    add("--index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add("--dry-run", action="store_true", help="only say what has changed and what it would cost")
    add("--force", action="store_true", help="take every track to have changed")
    add("--retry-failed", action="store_true", help="try again what failed, changed or not")
    add(
        "--model",
        metavar="M",
        help="make all anew by this model, if it is no worse; or the index's",
    )
    add(
        "--old-model",
        metavar="M",
        help="with a new --model: folder of the index's, if it has moved",
    )
    add(
        "--compare-queries",
        metavar="N",
        default=QUERIES,
        help="queries that both models are asked before a new one takes over (%(default)s)",
    )
    add_moved_models(add)
    add(
        "--max-track-hours",
        metavar="H",
        default=MAX_TRACK_HOURS,
        help="longer tracks fail (%(default)s)",
    )
    add_gate_arguments(parser)
    add_metrics_argument(parser)
    add_decode_arguments(parser)
    add_detach_argument(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> ReindexOptions:
    """The options of ``hashbeam reindex``; raises UsageError that names every wrong flag."""
    checker = Checker(args)
    if args.old_model and not args.model:
        checker.problems.append("--old-model: is for a new --model; add that, or leave this out")
    options = ReindexOptions(
        catalog=checker.text("--catalog"),
        index=checker.text("--index"),
        workers=workers(checker),
        model=args.model or None,
        old_model=args.old_model or None,
        compare_queries=checker.integer("--compare-queries", low=20, high=100_000),
        also_models=models_named(args),
        max_track_hours=checker.number("--max-track-hours", low=0.001),
        decode_timeout_s=checker.number("--decode-timeout", low=0.1),
        dry_run=args.dry_run,
        force=args.force,
        retry_failed=args.retry_failed,
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
        bounds=gate_options(checker, args.no_gates),
        metrics=args.metrics or "",
    )
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """``hashbeam reindex``: 0 only if the index is up to date, or, with --dry-run, was compared."""
    options = options_from(args)
    if options.dry_run:
        manifest = open_manifest(options.index)
        catalog = read_catalog(options.catalog)
        pipeline_options = make_pipeline_options(options.workers, beam_args)
        if takes_over(options.model, manifest):
            changes, cost = look_before(options, manifest, catalog, pipeline_options)
        else:
            changes = look_for_changes(
                options.index, manifest, catalog, pipeline_options, options.asked
            )
            cost = changes.estimate(catalog)
        told = preview(options.index, manifest, changes, cost)
        print(json.dumps(told) if options.json else as_text(told))
        return 0
    with RunMetrics(options.metrics, "reindex", options.index) as metrics:
        another = bool(options.model) and takes_over(options.model, open_manifest(options.index))
        result = (remodel if another else reindex)(options, beam_args)
        metrics.note(result.summary or read_summary(options.index))
    if result.summary is not None:
        print(result.summary.to_line() if options.json else result.summary.to_text())
        return 0
    version = result.manifest.version
    if options.json:
        told = {"index": options.index, "version": version, "published": False}
        print(json.dumps({**told, "changes": _counts(result.changes)}))
    else:
        print(
            f"{options.index}: nothing has changed since version {version} "
            f"({result.changes.to_text()}); nothing was published"
        )
    return 0


def preview(index: str, manifest: Manifest, changes: Changes, cost: Estimate) -> dict[str, Any]:
    """What a run would do and what it would cost, by the speed of the versions before."""
    speed = _speed(index, manifest)
    return {
        "index": index,
        "version": manifest.version,
        "changes": _counts(changes),
        "tracks_to_decode": cost.tracks,
        "audio_to_decode_s": cost.audio_s,
        "files_looked_at": int(changes.counts["files_looked_at"]),
        "times_real_time_per_cpu": speed,
        "hash_cpu_s": cost.audio_s / speed if speed else None,
    }


def as_text(told: dict[str, Any]) -> str:
    """What `preview` says, in a few lines for people."""
    counts = [f"{count} {name}" for name, count in told["changes"].items() if count]
    lines = [
        f"{told['index']}: against version {told['version']}: {', '.join(counts) or 'nothing'}",
        f"  {told['tracks_to_decode']} tracks to decode, {told['audio_to_decode_s'] / 3600:.2f} h",
    ]
    if told["hash_cpu_s"] is not None:
        lines.append(
            f"  some {told['hash_cpu_s'] / 60:.1f} minutes of CPU at "
            f"{told['times_real_time_per_cpu']:.0f} × real time, as the versions before had"
        )
    return "\n".join(lines)


def _counts(changes: Changes) -> dict[str, int]:
    return {name: int(changes.counts[f"tracks_{name}"]) for name in CLASSES}


def _speed(index: str, manifest: Manifest | None) -> float | None:
    """Audio per CPU time of the newest version that decoded anything; None: not known."""
    while manifest is not None:
        summary: Summary | None = summary_of(index, manifest.version)
        if summary is not None and summary.times_real_time_per_cpu > 0:
            return summary.times_real_time_per_cpu
        parent = manifest.parent
        manifest = open_manifest(index, parent) if parent else None
    return None
