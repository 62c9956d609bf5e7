"""Which MIDI files repeat others, and which tracks the names of the rest may mean.

Done where the command was started: 100,000 names take a minute and a half against 100,000 titles.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.midi_content import Content, repeated
from hashing.titles import TitleIndex, file_name
from pipelines import parquet
from pipelines.pairing.job import PairsJob

TODO = pa.schema(
    [
        ("midi_path", pa.string()),
        ("track_id", pa.string()),
        ("uri", pa.string()),
        ("name_score", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Readable:
    """A MIDI file that could be read; `part` is where its onsets stand, in which `row`."""

    path: str
    key: str
    exact: str
    inside: list[str]
    part: int
    row: int


@dataclasses.dataclass(frozen=True)
class ReadFiles:
    """What came of reading all files, in the order of their paths.

    `failures` are rows of `pipelines.pairing.job.FAILURES`.
    """

    readable: list[Readable]
    failures: list[dict[str, str | None]]


def collect(job: PairsJob, parts: int) -> ReadFiles:
    """What the workers have read, without the onsets."""
    columns = ("midi_path", "error", "message", "key", "exact", "inside")
    readable: list[Readable] = []
    failures: list[dict[str, str | None]] = []
    for part in range(parts):
        table = parquet.read_table(job.part_path("read", part), columns)
        for number, row in enumerate(table.to_pylist()):
            path = row["midi_path"]
            if row["error"] is None:
                found = Readable(path, row["key"], row["exact"], row["inside"], part, number)
                readable.append(found)
            else:
                told = {"stage": "read", "error": row["error"], "message": row["message"]}
                failures.append({"midi_path": path, **told})
    return ReadFiles(readable, failures)


def find_repeated(job: PairsJob, files: list[Readable]) -> dict[str, str]:
    """The path of the first file that each one repeats, by its own path.

    Only those files are compared note by note that strike the same keys as often as another one,
    and not at the very same times.
    """
    first: dict[str, Readable] = {}
    repeats: dict[str, str] = {}
    for file in files:
        known = first.setdefault(file.exact, file)
        if known is not file:
            repeats[file.path] = known.path
    of_key = collections.defaultdict[str, list[Readable]](list)
    for file in first.values():
        of_key[file.key].append(file)
    several = [group for group in of_key.values() if len(group) > 1]
    onsets = _read_onsets(job, [file for group in several for file in group])
    for group in several:
        found = repeated([Content(file.key, onsets[file.path]) for file in group])
        for file, number in zip(group, found, strict=True):
            if group[number] is not file:
                repeats[file.path] = group[number].path
    # What repeats the very same as one that repeats another repeats that one.
    return {path: repeats.get(known, known) for path, known in repeats.items()}


def match_names(files: list[Readable], catalog: pa.Table) -> pa.Table:
    """The pairs to align, rows of `TODO`: files that may mean one track stand together."""
    titles = catalog["title"].to_pylist()
    known = "artist_name" in catalog.column_names
    artists = catalog["artist_name"].to_pylist() if known else [None] * len(titles)
    index = TitleIndex(titles, artists)
    ids, uris = catalog["track_id"].to_pylist(), catalog["uri"].to_pylist()
    found = [(file, named) for file in files if (named := index.find(_name(file)))]
    found.sort(key=lambda item: (item[1][0].track, item[0].path.encode()))
    rows: list[dict[str, Any]] = [
        {"midi_path": file.path, "track_id": ids[one.track], "uri": uris[one.track]}
        | {"name_score": one.score}
        for file, named in found
        for one in named
    ]
    return pa.Table.from_pylist(rows, schema=TODO)


def _name(file: Readable) -> Any:
    return file_name(file.path, file.inside)


def _read_onsets(job: PairsJob, files: list[Readable]) -> dict[str, Any]:
    wanted = collections.defaultdict[int, list[Readable]](list)
    for file in files:
        wanted[file.part].append(file)
    found = {}
    for part, some in sorted(wanted.items()):
        column = parquet.read_table(job.part_path("read", part), ["onsets"])["onsets"]
        for file in some:
            found[file.path] = np.frombuffer(column[file.row].as_py(), "<f4")
    return found
