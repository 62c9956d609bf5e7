"""``hashbeam compact``: segments that reindexing has added are merged."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported, as in `pipelines.index`.
    from pipelines.cli import main

    sys.exit(main(["compact", *sys.argv[1:]]))

import argparse
import dataclasses
import json
from collections.abc import Sequence

from pipelines.also import add_moved_models, models_named
from pipelines.gates import add_no_gates, nothing_decoded
from pipelines.opened import find_hasher
from pipelines.options import Checker, add_job_arguments, workers
from pipelines.reindexing.compact import CompactOptions, compact
from pipelines.reindexing.compaction import MAX_REMOVED, MAX_SEGMENTS, plan_compaction
from pipelines.versions import open_manifest

DESCRIPTION = f"""\
Merge the segments that `hashbeam reindex` has added, so that look-ups stay fast. Nothing is
decoded: codes are copied, without the tracks that have gone, and tables are built of them.

  hashbeam compact music.index --dry-run
  hashbeam compact music.index

Something is done where an index has more than {MAX_SEGMENTS} segments, where more than
{MAX_REMOVED:.0%} of the tracks in them have gone, or where the index has outgrown the length of its
keys; --all merges everything. The result is a new version: `hashbeam rollback` goes back, and
`hashbeam gc` frees what the old ones take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam compact``."""
    add = parser.add_argument
    add("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add("--all", action="store_true", help="merge all segments, whatever look-ups cost now")
    add("--dry-run", action="store_true", help="only say what would be merged, and why")
    add("--model", metavar="M", help="folder of the model that made the index, if it has moved")
    add_moved_models(add)
    add_no_gates(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> CompactOptions:
    """The options of ``hashbeam compact``; raises UsageError that names every wrong flag."""
    checker = Checker(args)
    options = CompactOptions(
        index=args.index,
        workers=workers(checker),
        model=args.model or None,
        also_models=models_named(args),
        whole=args.all,
        dry_run=args.dry_run,
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
        bounds=nothing_decoded(checker, args.no_gates),
    )
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """``hashbeam compact``: 0 where what look-ups cost is within the bounds afterwards."""
    options = options_from(args)
    manifest = open_manifest(options.index)
    if options.dry_run:
        hasher = find_hasher(manifest, options.model)
        plan = plan_compaction(manifest, hasher.quantizer, whole=options.whole)
        found = None if plan is None else dataclasses.asdict(plan)
    else:
        done = compact(options, beam_args)
        if done is not None:
            print(done[1].to_line() if options.json else done[1].to_text())
            return 0
        plan, found = None, None
    if options.json:
        print(json.dumps({"index": options.index, "version": manifest.version, "merge": found}))
    elif plan is None:
        gone = sum(one.tracks - one.live for one in manifest.segments)
        print(
            f"{options.index}: nothing to merge: segments: {len(manifest.segments)}, tracks in "
            f"them that have gone: {gone}"
        )
    else:
        print(
            f"{options.index}: would merge {len(plan.segments)} of {len(manifest.segments)} "
            f"segments ({plan.reason})"
        )
    return 0
