"""The comparison as a Beam join, for catalogues of tens of millions of tracks.

What is sent around are record batches, a hash of track_id the key: some 150 bytes a track of either
side. A partition is compared by the same function as in one process, its files looked at by the
worker that has it, and its result is a file of its own; the launcher reads these.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics.metric import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.changes.classes import Asked, Changes, collect, read_changes, write_changes
from pipelines.changes.compare import Files, compare
from pipelines.changes.memory import all_failures
from pipelines.changes.renamed import find_renamed
from pipelines.changes.sides import (
    CATALOG,
    FAILED,
    INDEXED,
    catalog_side,
    failed_side,
    hash_texts,
    indexed_side,
)
from pipelines.live import failed_tracks, live_tracks
from pipelines.runner import run_pipeline
from pipelines.versions import Files as FileEntries
from pipelines.versions import Manifest

# Tracks of a partition, and rows that are read and split at once: 100 MB a worker, and batches of
# hundreds of rows, whose own cost does not tell.
PARTITION_TRACKS = 1 << 17
READ_ROWS = 1 << 16

_HASHED = {"described": pa.uint64()}  # in place of the text, which is longer than all the rest


def _sent(schema: pa.Schema) -> pa.Schema:
    fields = [field.with_type(_HASHED.get(field.name, field.type)) for field in schema]
    return pa.schema(fields)


SIDES = {"catalog": _sent(CATALOG), "indexed": _sent(INDEXED), "failed": FAILED}


@dataclasses.dataclass
class FindChanges(beam.PTransform[Any, Any]):
    """A catalogue and a version → a file of changes for each partition of track_ids.

    Attributes:
        index, manifest: the version; workers get only the parts of it that they read.
        catalog: a Parquet file with row groups of `READ_ROWS` rows.
        rows: of the catalogue.
        folder: where the files are written.
        partitions: how many.
        asked, files: as in `compare`.
    """

    index: str
    manifest: Manifest
    catalog: str
    rows: int
    folder: str
    partitions: int
    asked: Asked
    files: Files

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        groups = range(-(-self.rows // READ_ROWS))
        split = beam.FlatMap(split_side, self.partitions)
        catalog = (
            pbegin
            | "row groups" >> beam.Create(list(groups), reshuffle=False)
            # Moves a number for each 65,536 tracks, so that many workers read.
            | "spread row groups" >> beam.Reshuffle()
            | "read catalogue" >> beam.FlatMap(read_catalog_group, self.catalog)
            | "split catalogue" >> split
        )
        indexed = (
            pbegin
            | "parts" >> beam.Create(list(part_groups(self.manifest)), reshuffle=False)
            # Moves the names of some files for each 65,536 tracks.
            | "spread parts" >> beam.Reshuffle()
            | "read tracks" >> beam.FlatMap(read_tracks_group, self.index)
            | "split tracks" >> split
        )
        failed = (
            pbegin
            | "failures" >> beam.Create([_only(self.manifest, "failures")], reshuffle=False)
            | "read failures" >> beam.FlatMap(read_failures, self.index)
            | "split failures" >> split
        )
        return (
            {"catalog": catalog, "indexed": indexed, "failed": failed}
            # Moves both sides whole, 150 bytes a track, and where the job is dear at all, this is.
            | "join" >> beam.CoGroupByKey()
            | "compare"
            >> beam.FlatMap(compare_partition, self.folder, self.partitions, self.asked, self.files)
        )


def find_changes_on_beam(
    index: str,
    manifest: Manifest,
    catalog: pa.Table,
    folder: str,
    options: PipelineOptions,
    asked: Asked | None = None,
    files: Files | None = None,
    partitions: int | None = None,
) -> Changes:
    """What `pipelines.changes.memory.find_changes` gives, found by a Beam job.

    Args:
      folder: of the run; must be seen by the workers. What an earlier attempt left is replaced.
      options: from `pipelines.runner.make_pipeline_options`.
      partitions: None: by the number of tracks.

    Raises:
      HashbeamError: a file of the version is damaged, or the job failed.
    """
    asked, files = asked or Asked(), files or Files()
    path = io.join(folder, "catalog.parquet")
    parquet.write_table(path, catalog, row_group_size=READ_ROWS)
    live = sum(segment.tracks for segment in manifest.segments)
    partitions = partitions or -(-max(catalog.num_rows, live, 1) // PARTITION_TRACKS)
    job = FindChanges(index, manifest, path, catalog.num_rows, folder, partitions, asked, files)
    names = [partition_path(folder, partition, partitions) for partition in range(partitions)]
    io.remove_all(names)  # a partition that has no tracks leaves nothing
    run_pipeline(lambda pipeline: pipeline | "find changes" >> job, options)
    parts, counts = list[pa.Table](), Counter[str]()
    present = set(io.list_dir(folder))
    for name in names:
        if name.rsplit("/", 1)[-1] in present:
            found = read_changes(name)
            parts.append(found.table)
            counts.update(found.counts)
    counted = counts["tracks_new"] + counts["tracks_live"] - counts["tracks_removed"]
    counted += counts["tracks_retried"] + counts["tracks_failed"]
    if counted != catalog.num_rows:
        raise HashbeamError(
            f"{folder}: {counted} tracks of the catalogue were compared, not {catalog.num_rows}; "
            "run the same command again"
        )
    changes = collect(parts, counts)
    return collect([find_renamed(changes.table, files, counts)], counts)


def partition_path(folder: str, partition: int, partitions: int) -> str:
    """The file of a partition's changes."""
    return io.join(folder, f"changes-{partition:05d}-of-{partitions:05d}.parquet")


def part_groups(manifest: Manifest) -> Iterator[Manifest]:
    """The version cut into manifests of some `READ_ROWS` tracks, with their own files only."""
    for segment in manifest.segments:
        own = manifest.files.select(kind="tracks", segment=segment.id)
        order = sorted(range(len(own)), key=lambda row: own[row].part or 0)
        chosen, rows = [], 0
        for place, row in enumerate(order):
            chosen.append(own[row])
            rows += own[row].rows
            if rows >= READ_ROWS or place == len(order) - 1:
                # Counts by part are long, and no reader of tracks looks at them.
                slim = dataclasses.replace(segment, part_gids=[], part_tracks=[])
                yield dataclasses.replace(manifest, segments=[slim], files=FileEntries.of(chosen))
                chosen, rows = [], 0


def read_catalog_group(group: int, catalog: str) -> Iterator[tuple[str, pa.Table]]:
    """The rows of a row group as the side of the catalogue."""
    table = parquet.read_table(catalog, row_groups=[group])
    Metrics.counter("hashbeam", "catalog_rows").inc(table.num_rows)
    yield "catalog", catalog_side(table, group * READ_ROWS)


def read_tracks_group(part: Manifest, index: str) -> Iterator[tuple[str, pa.Table]]:
    """The live tracks of some parts as a side."""
    tables = [INDEXED.empty_table(), *map(indexed_side, live_tracks(index, part))]
    table = pa.concat_tables(tables)
    Metrics.counter("hashbeam", "live_tracks").inc(table.num_rows)
    yield "indexed", table


def read_failures(part: Manifest, index: str) -> Iterator[tuple[str, pa.Table]]:
    """The failures of the version as a side."""
    yield "failed", all_failures(map(failed_side, failed_tracks(index, part)))


def split_side(side: tuple[str, pa.Table], partitions: int) -> Iterator[tuple[int, bytes]]:
    """The rows of a side by partition, as Arrow's stream format."""
    name, table = side
    schema = SIDES[name]
    if "described" in schema.names:
        place = table.column_names.index("described")
        hashes = pa.array(hash_texts(table["described"]))
        table = table.set_column(place, schema.field("described"), hashes)
    of = (hash_texts(table["track_id"]) % np.uint64(partitions)).astype(np.int64)
    order = np.argsort(of, kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    bounds = np.searchsorted(of[order], np.arange(partitions + 1))
    for partition in np.flatnonzero(np.diff(bounds)).tolist():
        first, last = bounds[partition : partition + 2].tolist()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(table.slice(first, last - first))
        yield partition, sink.getvalue().to_pybytes()


def compare_partition(
    joined: tuple[int, dict[str, Iterable[bytes]]],
    folder: str,
    partitions: int,
    asked: Asked,
    files: Files,
) -> Iterator[int]:
    """Compares a partition and writes its changes; yields how many there are."""
    partition, sides = joined
    catalog, indexed, failed = (
        pa.concat_tables(
            [schema.empty_table(), *(pa.ipc.open_stream(data).read_all() for data in sides[name])]
        ).combine_chunks()
        for name, schema in SIDES.items()
    )
    found, counts = compare(catalog, indexed, failed, asked, files)
    changes = collect([found], counts)
    write_changes(partition_path(folder, partition, partitions), changes)
    for name, count in changes.counts.items():
        if name != "audio_live_s":
            Metrics.counter("hashbeam", name).inc(int(count))
    yield changes.table.num_rows


def _only(manifest: Manifest, kind: str) -> Manifest:
    """The manifest with the files of one kind and no segments."""
    return dataclasses.replace(manifest, segments=[], files=manifest.files.select(kind=kind))
