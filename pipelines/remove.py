"""``hashbeam remove``: tracks are taken out of an index by their ids."""

from __future__ import annotations

import argparse
import json
import sys

from hashing.errors import UsageError
from pipelines import io
from pipelines.gates import add_no_gates, nothing_decoded
from pipelines.options import Checker
from pipelines.reindexing.remove import RemoveOptions, remove_tracks

DESCRIPTION = """\
Take tracks out of an index at once: a new version is published without them, and nothing is built.

  hashbeam remove music.index --ids withdrawn.txt
  hashbeam remove music.index --id Q17 --id Q18 --dry-run

--ids names a text file with a track_id a line ("-": standard input). A track that had failed is
forgotten. One that the catalogue still has comes back with the next `hashbeam reindex`: take it out
there, too. Its codes are in the old versions and in the files of the new one until `hashbeam
compact --all` and `hashbeam gc`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam remove``."""
    add = parser.add_argument
    add("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add("--ids", metavar="FILE", help="a text file with a track_id a line")
    add("--id", metavar="ID", action="append", help="a track_id; may be given several times")
    add("--missing-ok", action="store_true", help="pass over ids that are not there")
    add("--dry-run", action="store_true", help="only say what would go")
    add("--model", metavar="M", help="folder of the model that made the index, if it has moved")
    add_no_gates(parser)
    add("--json", action="store_true", help="print the result as JSON")


def options_from(args: argparse.Namespace) -> RemoveOptions:
    """The options of ``hashbeam remove``; raises UsageError that names every wrong flag."""
    checker = Checker(args)
    if not args.ids and not args.id:
        checker.problems.append("--ids: is needed, or --id")
    if not all(args.id or ()):
        checker.problems.append("--id: must not be empty")
    bounds = nothing_decoded(checker, args.no_gates)
    checker.finish()
    ids = [*(args.id or ()), *(read_ids(args.ids) if args.ids else ())]
    if not ids:
        raise UsageError(f"--ids: {args.ids} names no track")
    return RemoveOptions(
        index=args.index,
        ids=tuple(ids),
        model=args.model or None,
        missing_ok=args.missing_ok,
        dry_run=args.dry_run,
        json=args.json,
        bounds=bounds,
    )


def read_ids(path: str) -> list[str]:
    """The track_ids of a text file; raises UsageError where it cannot be read as one."""
    data = sys.stdin.buffer.read() if path == "-" else io.read_if_exists(path)
    if data is None:
        raise UsageError(f"--ids: there is no file {path}")
    try:
        # Of what else ends a line somewhere, such as U+2028, a track_id may have any.
        lines = data.decode("utf-8-sig").replace("\r", "\n").split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"--ids: {path} is no text in UTF-8, a track_id a line") from None
    return [line.strip() for line in lines if line.strip()]


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam remove``: 0 only if the tracks are not in the index any more."""
    options = options_from(args)
    removed = remove_tracks(options)
    ids = removed.ids
    if options.json:
        told = {"index": options.index, "version": removed.version, "removed": ids}
        print(json.dumps({**told, "dry_run": options.dry_run}))
        return 0
    what = f"{len(ids)} track{'' if len(ids) == 1 else 's'}"
    if removed.failed:
        what += f", {len(removed.failed)} of them among those that failed"
    if removed.version:
        print(f"{options.index}: version {removed.version} is published without {what}")
    elif ids:
        print(f"{options.index}: would remove {what}")
    else:
        print(f"{options.index}: nothing to remove: none of the {len(options.ids)} ids is there")
    return 0
