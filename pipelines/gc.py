"""``hashbeam gc``: old versions are deleted, and what dead runs have left."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from pipelines.lock import IndexLock
from pipelines.options import Checker
from pipelines.sweep import GRACE_S, UNFINISHED_S, Sweep, plan_sweep, sweep
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
    unfinished_s: float = UNFINISHED_S
    dry_run: bool = False
    json: bool = False


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
    swept = collect(options)
    print(json.dumps(as_json(options, swept)) if options.json else as_text(options, swept))
    return 0


def collect(options: GcOptions) -> Sweep:
    """Deletes what is not kept, or with `dry_run` only says what that would be.

    Raises: HashbeamError where another command writes the index, or something cannot be deleted.
    """
    open_manifest(options.index)  # what is no index gets no lock
    with IndexLock(options.index) as lock:
        swept = plan_sweep(options.index, options.keep, unfinished_s=options.unfinished_s)
        if not options.dry_run:
            sweep(options.index, swept, lock)
    return swept


def as_json(options: GcOptions, swept: Sweep) -> dict[str, Any]:
    """What was deleted, for programs."""
    return {**dataclasses.asdict(swept), "dry_run": options.dry_run}


def as_text(options: GcOptions, swept: Sweep) -> str:
    """What was deleted and what is kept, in two lines."""
    done = "would delete" if options.dry_run else "deleted"
    count = len(swept.manifests) + len(swept.files)
    named = [f"version {name}" for name in swept.deleted]
    named += [f"the unfinished run of {name}" for name in swept.unfinished]
    what = f" ({', '.join(named)})" if named else ""
    return (
        f"{options.index}: {done} {count} files of {swept.bytes / 1e6:.1f} MB{what}\n"
        f"kept: {', '.join(swept.kept)}"
    )
