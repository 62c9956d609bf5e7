"""``hashbeam versions``: the versions of an index, and what each changed."""

from __future__ import annotations

import argparse

from pipelines.history import Version, list_versions, to_json

DESCRIPTION = """\
Show the versions of an index: when each was made and from which, tracks, segments, bytes, and what
it changed against its parent.

  hashbeam versions music.index

published   what look-up reads now
earlier     was published; `hashbeam rollback` goes back to it
unpublished is whole, but the run was stopped before it was published; run the same command again
unfinished  a run was stopped; run the same command again, and it goes on

"own" are the bytes in a version's own folder. A version shares with its parent what has not
changed, so all of them together take the sum of these, and not that of the bytes they name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam versions``."""
    parser.add_argument("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    parser.add_argument("--json", action="store_true", help="print them as JSON")


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam versions``."""
    versions = list_versions(args.index)
    print(to_json(versions) if args.json else "\n".join(map(as_line, versions)))
    return 0


def as_line(version: Version) -> str:
    """A version as a line for a person.

    >>> as_line(Version("000002", "published", "2026-01-02T03:04:05Z", "000001", 9, 2, 7000000,
    ...                 1000000, 3, 1))
    '000002  published    2026-01-02T03:04:05Z  9 tracks (+3 -1 against 000001), 2 segments, \
7.0 MB, 1.0 MB own'
    """
    head = f"{version.version}  {version.state:<11}"
    if version.problem:
        return f"{head}  {version.problem}"
    if version.tracks is None or version.bytes is None or version.own_bytes is None:
        return f"{head}  a run that was stopped; the command that began it goes on with it"
    change = ""
    if version.parent is not None:
        counts = "" if version.added is None else f"+{version.added} -{version.removed} "
        change = f" ({counts}against {version.parent})"
    return (
        f"{head}  {version.created}  {version.tracks} tracks{change}, {version.segments} segments, "
        f"{version.bytes / 1e6:.1f} MB, {version.own_bytes / 1e6:.1f} MB own"
    )
