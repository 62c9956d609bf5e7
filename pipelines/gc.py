"""``hashbeam gc``: old versions are deleted, and what dead runs have left."""

from __future__ import annotations

import argparse
import dataclasses
import json

from pipelines.lock import IndexLock
from pipelines.options import Checker
from pipelines.sweep import GRACE_S, UNFINISHED_S, plan_sweep, sweep
from pipelines.versions import open_manifest

_DAY_S = 86400.0

DESCRIPTION = f"""\
Delete old versions: all but the last --keep N that were published, the present one among them.

  hashbeam gc music.index --keep 5 --dry-run
  hashbeam gc music.index --keep 5

Files that a kept version shares with a deleted one stay. What dead runs have left goes as well:
temporary files, files of attempts that did not count, and runs that cannot go on or that nobody
has continued for --unfinished-days ({UNFINISHED_S / _DAY_S:g}). Nothing is deleted that is younger
than {GRACE_S:g} s. A deleted version cannot be rolled back to, and whoever still reads it meets
an error."""


@dataclasses.dataclass(frozen=True)
class GcOptions:
    """What ``hashbeam gc`` was asked to do; `unfinished_s` in seconds."""

    index: str
    keep: int
    unfinished_s: float
    dry_run: bool
    json: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam gc``."""
    add = parser.add_argument
    add("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add("--keep", metavar="N", help="published versions to keep, 1 or more")
    add(
        "--unfinished-days",
        metavar="D",
        default=UNFINISHED_S / _DAY_S,
        help="give up runs that were stopped so long ago (%(default)g)",
    )
    add("--dry-run", action="store_true", help="only say what would be deleted")
    add("--json", action="store_true", help="print the result as JSON")


def options_from(args: argparse.Namespace) -> GcOptions:
    """The options of ``hashbeam gc``; raises UsageError that names every flag that is wrong."""
    checker = Checker(args)
    keep = 1
    if checker.text("--keep"):
        keep = checker.integer("--keep", low=1)
    days = checker.number("--unfinished-days", low=0)
    checker.finish()
    return GcOptions(args.index, keep, days * _DAY_S, args.dry_run, args.json)


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam gc``: 0 only if all that was to be deleted is."""
    options = options_from(args)
    open_manifest(options.index)  # what is no index gets no lock
    with IndexLock(options.index) as lock:
        plan = plan_sweep(options.index, options.keep, unfinished_s=options.unfinished_s)
        if not options.dry_run:
            sweep(options.index, plan, lock)
    if options.json:
        print(json.dumps({**dataclasses.asdict(plan), "dry_run": options.dry_run}))
        return 0
    done = "would delete" if options.dry_run else "deleted"
    count = len(plan.manifests) + len(plan.files)
    named = [f"version {name}" for name in plan.deleted]
    named += [f"the unfinished run of {name}" for name in plan.unfinished]
    what = f" ({', '.join(named)})" if named else ""
    print(f"{options.index}: {done} {count} files of {plan.bytes / 1e6:.1f} MB{what}")
    print(f"kept: {', '.join(plan.kept)}")
    return 0
