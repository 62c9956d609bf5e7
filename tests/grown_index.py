"""An index of two versions without audio: some tracks came, some went, one row was corrected."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from quick_index import build, quick_jobs, quick_model, song, update, write_catalog

from hashing.encoders import Hasher
from pipelines.reindexing.removals import REMOVALS
from pipelines.versions import Files, Manifest, Segment, open_manifest

TRACKS, GONE, NEW = 20, ("t03", "t11"), 3


@dataclasses.dataclass(frozen=True)
class Grown:
    """The index with its versions 000001 and 000002, and its model."""

    index: Path
    hasher: Hasher
    first: Manifest
    second: Manifest


def grow_index(folder: Path, **options: Any) -> Grown:
    """Makes it; `options` are fields of `IndexOptions`.

    Version 000001 has tracks t00 … t19 in three parts; of those, t03 and t11 have gone in version
    000002, t05 has another title, and t20, t21 and t22 are in a segment of their own.
    """
    model = quick_model(folder / "model")
    rows = [
        {"track_id": f"t{n:02d}", "uri": f"{n}.song", "title": "x"} for n in range(TRACKS + NEW)
    ]
    for number in range(TRACKS + NEW):
        (folder / f"{number}.song").write_bytes(song(number % 7, number))
    index = folder / "index"
    with quick_jobs(model) as jobs:
        build(write_catalog(folder / "c.csv", rows[:TRACKS]), index, model, **options)
        first = open_manifest(str(index))
        rows[5]["title"] = "y"
        left = [row for row in rows if row["track_id"] not in GONE]
        update(write_catalog(folder / "c.csv", left), index)
        return Grown(index, jobs.hasher, first, open_manifest(str(index)))


def with_segment(manifest: Manifest, segment: Segment) -> Manifest:
    """A manifest with this segment in place of the one of its number."""
    segments = [segment if one.id == segment.id else one for one in manifest.segments]
    return dataclasses.replace(manifest, segments=segments)


def with_files(manifest: Manifest, **columns: list[Any]) -> Manifest:
    """A manifest whose files have other values in some columns."""
    files = Files({**manifest.files.to_json(), **columns})
    return dataclasses.replace(manifest, files=files)


def without_file(manifest: Manifest, row: int) -> Manifest:
    """A manifest that has lost a file."""
    files = manifest.files.to_json()
    left = {name: column[:row] + column[row + 1 :] for name, column in files.items()}
    return dataclasses.replace(manifest, files=Files(left))


def rewrite(grown: Grown, path: str, data: bytes) -> Manifest:
    """Another content of a file of version 000002, and a manifest that knows size and checksum."""
    (grown.index / path).write_bytes(data)
    told = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = grown.second
    for segment in manifest.segments:
        if segment.removals and segment.removals.path == path:
            removals = dataclasses.replace(segment.removals, **told)
            manifest = with_segment(manifest, dataclasses.replace(segment, removals=removals))
    if path in manifest.files.column("path"):
        row = manifest.files.column("path").index(path)
        columns = {name: list(manifest.files.column(name)) for name in told}
        for name, value in told.items():
            columns[name][row] = value
        manifest = with_files(manifest, **columns)
    return manifest


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def removals_of(*ordinals: int) -> bytes:
    """A file of removals, each of the snippet that is its own place in the file."""
    places = range(len(ordinals))
    return removals_from(ordinals, places, [place + 1 for place in places], [1] * len(ordinals))


def removals_from(*columns: Sequence[int]) -> bytes:
    """A file of removals of these columns."""
    return parquet_bytes(pa.table(dict(zip(REMOVALS.names, columns, strict=True)), REMOVALS))


def removed_path(manifest: Manifest) -> str:
    """The file of removals of the first segment."""
    removals = manifest.segments[0].removals
    assert removals is not None
    return removals.path


def kept_bytes(index: Path) -> Iterator[None]:
    """Puts every file of an index back as it was; to be the body of a fixture."""
    before = {path: path.read_bytes() for path in index.rglob("*") if path.is_file()}
    yield
    for path, data in before.items():
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
