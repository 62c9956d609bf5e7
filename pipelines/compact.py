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
from typing import Any

from pipelines.also import add_moved_models, models_named
from pipelines.gates import add_no_gates, nothing_decoded
from pipelines.gc import GcOptions, as_json, as_text, collect
from pipelines.opened import find_hasher
from pipelines.options import Checker, add_detach_argument, add_job_arguments, workers
from pipelines.reindexing.compact import CompactOptions, compact
from pipelines.reindexing.compaction import (
    MAX_REMOVED,
    MAX_SEGMENTS,
    Compaction,
    plan_compaction,
)
from pipelines.versions import Manifest, open_manifest

DESCRIPTION = f"""\
Merge the segments that `hashbeam reindex` has added, so that look-ups stay fast. Nothing is
decoded: codes are copied, without the tracks that have gone, and tables are built of them.

  hashbeam compact music.index --dry-run
  hashbeam compact music.index

Something is done where an index has more than {MAX_SEGMENTS} segments, where more than
{MAX_REMOVED:.0%} of the tracks in them have gone, or where the index has outgrown the length of its
keys; --all merges everything. The result is a new version: `hashbeam rollback` goes back, and
`hashbeam gc` frees what the old ones take. With --keep that is done at once, whether anything was
merged or not: what an index needs after a nightly reindex is

  hashbeam compact music.index --keep 14"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam compact``."""
    add = parser.add_argument
    add("index", nargs="?", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    # Schedulers and templates pass flags only.
    add("--index", dest="index_flag", metavar="INDEX", help="the same, as a flag")
    add("--all", action="store_true", help="merge all segments, whatever look-ups cost now")
    add("--dry-run", action="store_true", help="only say what would be merged, and why")
    add("--keep", metavar="N", help="then delete all but the last N published versions, as gc does")
    add("--model", metavar="M", help="folder of the model that made the index, if it has moved")
    add_moved_models(add)
    add_no_gates(parser)
    add_detach_argument(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> CompactOptions:
    """The options of ``hashbeam compact``; raises UsageError that names every wrong flag."""
    checker = Checker(args)
    if args.index and args.index_flag:
        checker.problems.append("--index: is INDEX as a flag; give one of them")
    elif not args.index and not args.index_flag:
        checker.problems.append("INDEX: is needed, or --index")
    options = CompactOptions(
        index=args.index or args.index_flag or "",
        workers=workers(checker),
        model=args.model or None,
        also_models=models_named(args),
        whole=args.all,
        keep=checker.integer("--keep", low=1) if checker.given("--keep") else None,
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
    told, text = (_look if options.dry_run else _merge)(options, beam_args)
    if options.keep is not None:
        old = GcOptions(options.index, options.keep, dry_run=options.dry_run)
        swept = collect(old)
        told["gc"] = as_json(old, swept)
        text = f"{text}\n{as_text(old, swept)}"
    print(json.dumps(told) if options.json else text)
    return 0


def _merge(options: CompactOptions, beam_args: Sequence[str]) -> tuple[dict[str, Any], str]:
    """What was done, for programs and for people."""
    done = compact(options, beam_args)
    if done is None:
        return _told(options, open_manifest(options.index), None)
    _, summary = done
    return summary.to_json(), summary.to_text()


def _look(options: CompactOptions, beam_args: Sequence[str]) -> tuple[dict[str, Any], str]:
    """What would be done."""
    manifest = open_manifest(options.index)
    hasher = find_hasher(manifest, options.model)
    plan = plan_compaction(manifest, hasher.quantizer, whole=options.whole)
    return _told(options, manifest, plan)


def _told(
    options: CompactOptions, manifest: Manifest, plan: Compaction | None
) -> tuple[dict[str, Any], str]:
    found = None if plan is None else dataclasses.asdict(plan)
    told = {"index": options.index, "version": manifest.version, "merge": found}
    if plan is None:
        gone = sum(one.tracks - one.live for one in manifest.segments)
        return told, (
            f"{options.index}: nothing to merge: segments: {len(manifest.segments)}, tracks in "
            f"them that have gone: {gone}"
        )
    return told, (
        f"{options.index}: would merge {len(plan.segments)} of {len(manifest.segments)} "
        f"segments ({plan.reason})"
    )
