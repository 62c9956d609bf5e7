"""``hashbeam rollback``: an earlier version becomes the published one."""

from __future__ import annotations

import argparse
import json

from pipelines.history import roll_back
from pipelines.live import count_live
from pipelines.lock import IndexLock
from pipelines.versions import open_manifest

DESCRIPTION = """\
Make an earlier version the published one: the one that the present version was made from, or the
one that --to names. `hashbeam versions` shows which there are.

  hashbeam rollback music.index
  hashbeam rollback music.index --to 000003

Nothing but the pointer moves, once it is sure that every file of that version is there in full
size; `hashbeam rollback music.index --to VERSION` goes forward again. Whoever reads the version
that was published until then goes on undisturbed. The next reindex starts from the version that is
published then."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam rollback``."""
    parser.add_argument("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    parser.add_argument("--to", metavar="VERSION", help="not the parent, but this one: 000003")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam rollback``: 0 only if the pointer has moved."""
    open_manifest(args.index)  # what is no index gets no lock
    with IndexLock(args.index) as lock:
        before, after = roll_back(args.index, args.to or None, lock)
    if args.json:
        print(json.dumps({"index": args.index, "from": before.version, "to": after.version}))
        return 0
    tracks = count_live(after)
    print(
        f"{args.index}: version {after.version} of {after.created} is published, with {tracks} "
        f"tracks ({tracks - count_live(before):+d}) and {len(after.segments)} segments, in place "
        f"of {before.version} of {before.created}\n"
        f"to undo: hashbeam rollback {args.index} --to {before.version}"
    )
    return 0
