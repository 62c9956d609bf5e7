"""``hashbeam list``: the tracks of an index, or those that failed."""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipelines.live import failed_tracks, live_tracks
from pipelines.options import Checker
from pipelines.versions import open_manifest

DESCRIPTION = """\
Show the live tracks of an index, segment by segment, or with --failures those that failed and why.

  hashbeam list music.index --limit 10
  hashbeam list music.index --ids-only > ids.txt
  hashbeam list music.index --failures --json | jq -r .error | sort | uniq -c

A line has track_id, seconds, artist, title and uri, or track_id, stage, error, uri and message,
with tabs between them; --json prints an object a line with all that the index knows. The index is
read piece by piece, so that any size can be listed."""

_TRACKS = ("track_id", "duration_s", "artist_name", "title", "uri")
_FAILURES = ("track_id", "stage", "error", "uri", "message")


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """What ``hashbeam list`` was asked to do; `limit` None: all."""

    index: str
    ids_only: bool
    failures: bool
    limit: int | None
    json: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam list``."""
    add = parser.add_argument
    add("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add("--ids-only", action="store_true", help="print nothing but track_ids")
    add("--failures", action="store_true", help="what failed, in place of what is there")
    add("--limit", metavar="N", help="so many at most")
    add("--json", action="store_true", help="print a JSON object a line")


def options_from(args: argparse.Namespace) -> ListOptions:
    """The options of ``hashbeam list``; raises UsageError that names every flag that is wrong."""
    checker = Checker(args)
    limit = checker.integer("--limit", low=1) if checker.given("--limit") else None
    if args.ids_only and args.json:
        checker.problems.append("--ids-only: prints no JSON; leave one of the two out")
    checker.finish()
    return ListOptions(args.index, args.ids_only, args.failures, limit, args.json)


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam list``."""
    options = options_from(args)
    manifest = open_manifest(options.index)
    if options.failures:
        tables = failed_tracks(options.index, manifest)
    else:  # part by part: the first line comes at once
        tables = live_tracks(options.index, manifest, batch_rows=1)
    names = ("track_id",) if options.ids_only else _FAILURES if options.failures else _TRACKS
    for row in _rows(tables, options.limit, None if options.json else names):
        if options.json:
            print(json.dumps({name: _plain(value) for name, value in row.items()}))
        else:
            print("\t".join(shown(row.get(name)) for name in names))
    return 0


def shown(value: Any) -> str:
    """A value in a line: no terminal obeys what a title says, and no tab splits it.

    >>> shown(["Ann", "Bob"]), shown("a\\tb\\x1b[31m"), shown(None), shown(12.34)
    ('Ann; Bob', 'a b [31m', '', '12.3')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1f}"
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _rows(
    tables: Iterator[pa.Table], limit: int | None, names: tuple[str, ...] | None
) -> Iterator[dict[str, Any]]:
    left = limit
    for table in tables:
        if names is not None:
            table = table.select([name for name in names if name in table.column_names])
        if left is not None:
            table = table.slice(0, left)
            left -= table.num_rows
        yield from table.to_pylist()
        if left == 0:
            return


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b16encode(value).decode().lower()
    if isinstance(value, str | int | float | list | dict) or value is None:
        return value
    return str(value)  # dates and the like, of a Parquet catalogue
