"""A version of an index made of rows, without audio; files that are only said to be there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from made_up_manifest import made_up_manifest

from pipelines import io, parquet
from pipelines.changes.compare import Files
from pipelines.look import GONE
from pipelines.reindexing.removals import REMOVALS
from pipelines.track_tables import MEASURED, TRACK_FAILURES
from pipelines.versions import FileEntry, Manifest, Segment
from pipelines.versions import Files as FileEntries

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class File:
    """What there is at a uri."""

    size: int
    mtime: float | None = None
    content: bytes = bytes(16)


def tracks_table(rows: Sequence[Row]) -> pa.Table:
    """Rows of ``tracks/``: what is missing is null, snippets and ordinals are made up."""
    extra = [name for row in rows for name in row if name not in MEASURED]
    filled = [
        {"ordinal": number, "snippets": 4, "gids": 4, "duration_s": 2.0, **row}
        for number, row in enumerate(rows)
    ]
    columns = {
        name: pa.array([row.get(name) for row in filled], kind) for name, kind in MEASURED.items()
    }
    for name in dict.fromkeys(extra):
        columns[name] = pa.array([row.get(name) for row in filled])
    return pa.table(columns)


def write_version(
    index: str,
    segments: Sequence[Sequence[Row]],
    *,
    removed: Sequence[Sequence[int]] = (),
    failures: Sequence[Sequence[Row]] = (),
    part_rows: int = 3,
    version: str = "000001",
    parent: str | None = None,
) -> Manifest:
    """Tracks, removals and failures of a version on disk; nothing is published.

    Args:
      segments: rows of tracks, by segment; their ordinals are their places.
      removed: ordinals that have gone from each segment.
      failures: rows of each file of failures, older ones first.
    """
    base = f"versions/{version}"
    entries, made = list[FileEntry](), list[Segment]()
    first_part = 0

    def write(kind: str, name: str, table: pa.Table, **place: int) -> FileEntry:
        path = f"{base}/{kind}/{name}.parquet"
        info = parquet.write_table(io.join(index, path), table)
        entry = FileEntry(path, kind, info.rows, info.bytes, info.sha256, **place)
        entries.append(entry)
        return entry

    for number, rows in enumerate(segments):
        table = tracks_table(rows)
        parts = [table.slice(at, part_rows) for at in range(0, len(rows), part_rows)]
        for part, part_table in enumerate(parts):
            name = f"part-{first_part + part:05d}"
            write("tracks", name, part_table, segment=number, part=first_part + part)
        gone = list(removed[number]) if number < len(removed) else []
        removals = None
        if gone:
            firsts = [4 * ordinal for ordinal in gone]
            ends = [first + 4 for first in firsts]
            columns = (gone, firsts, ends, [4] * len(gone))
            ordinals = pa.table(dict(zip(REMOVALS.names, columns, strict=True)), schema=REMOVALS)
            removals = write("removals", f"s{number:03d}", ordinals, segment=number)
        sizes = [len(part_table) for part_table in parts]
        gids = [4 * size for size in sizes]
        made.append(
            Segment(number, first_part, len(parts), len(rows), sum(gids), gids, sizes, removals)
        )
        first_part += len(parts)
    for number, rows in enumerate(failures):
        table = pa.Table.from_pylist(list(rows), schema=TRACK_FAILURES)
        write("failures", f"part-{number:05d}", table, part=number)
    return made_up_manifest(
        version=version,
        parent=parent,
        n_tables=1,
        segments=made,
        files=FileEntries.of(entries),
    )


def catalog_table(rows: Sequence[Row]) -> pa.Table:
    """Rows of a catalogue in order of track_id, as `read_catalog` gives them."""
    ordered = sorted(rows, key=lambda row: row["track_id"].encode())
    names = ["track_id", "uri", *(name for row in rows for name in row)]
    columns = {}
    for name in dict.fromkeys(names):
        values = [row.get(name) for row in ordered]
        several = any(isinstance(value, list) for value in values)
        kind = pa.list_(pa.string()) if several else pa.string()
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


class World:
    """Files by uri, and how often they were looked at and read."""

    def __init__(self, files: dict[str, File]) -> None:
        self.files, self.looked, self.read = files, list[str](), list[str]()

    def look(self, uris: Sequence[str]) -> tuple[Any, Any]:
        self.looked += uris
        found = [self.files.get(uri) for uri in uris]
        return (
            np.array([GONE if file is None else file.size for file in found], np.int64),
            np.array(
                [np.nan if file is None or file.mtime is None else file.mtime for file in found]
            ),
        )

    def checksums(self, uris: Sequence[str]) -> list[bytes | None]:
        self.read += uris
        found = [self.files.get(uri) for uri in uris]
        return [None if file is None else file.content for file in found]

    @property
    def access(self) -> Files:
        """These files, as a comparison looks at them."""
        return Files(self.look, self.checksums)


def index_folder(tmp_path: Path) -> str:
    """Where an index may be written."""
    return str(tmp_path / "index")
