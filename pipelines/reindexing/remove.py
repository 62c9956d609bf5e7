"""Tracks taken out of an index by their ids, at once: ``hashbeam remove``."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import HashbeamError
from pipelines.changes.classes import CLASSES, REASONS, Changes, collect, rows_of
from pipelines.changes.sides import FAILED, INDEXED, failed_side, indexed_side
from pipelines.execution import Work, execute
from pipelines.file_state import FILE_STATE
from pipelines.gates import NOTHING_DECODED
from pipelines.gating.bounds import Bounds
from pipelines.live import failed_tracks, tracks_of_segment, without_codes
from pipelines.lock import IndexLock
from pipelines.opened import find_hasher
from pipelines.reindexing.start import (
    find_start,
    give_up,
    next_version,
    open_parent,
    start_run,
    wanted_plan,
)
from pipelines.reindexing.succession import next_manifest
from pipelines.reindexing.work import keep_changes
from pipelines.versions import Manifest, open_manifest

_READ = ("ordinal", "track_id", "uri", "etag", "duration_s", *FILE_STATE)  # of ``tracks/``
_TOLD = 3  # ids in a message


@dataclasses.dataclass(frozen=True)
class RemoveOptions:
    """What ``hashbeam remove`` was asked to do.

    `missing_ok` passes over ids that are not there; `bounds` of the quality gates.
    """

    index: str
    ids: tuple[str, ...]
    model: str | None = None
    missing_ok: bool = False
    dry_run: bool = False
    json: bool = False
    workers: int = 1
    quiet: bool = True
    progress: bool = False
    bounds: Bounds = NOTHING_DECODED


@dataclasses.dataclass(frozen=True)
class Removed:
    """What a removal takes out: track_ids that were live, and those that had failed, in order.

    `version` is the one that was published; None where nothing was.
    """

    live: list[str]
    failed: list[str]
    version: str | None = None

    @property
    def ids(self) -> list[str]:
        """All of them."""
        return sorted([*self.live, *self.failed])


def remove_tracks(options: RemoveOptions) -> Removed:
    """Publishes a version without these tracks; none where nothing is there to go.

    Raises: HashbeamError where an id is not there.
    """
    launched = time.time()
    manifest = open_manifest(options.index)
    if options.dry_run:
        return _removed(options, find_removed(options.index, manifest, options.ids))
    hasher = find_hasher(manifest, options.model)
    with IndexLock(options.index) as lock:
        parent = open_parent(options.index)
        asked = {"remove": sorted(set(options.ids))}
        wanted = wanted_plan(parent, parent.catalog_digest, asked, parent.model)
        start = find_start(options.index, parent, wanted)
        changes, failed = find_removed(options.index, parent, options.ids)
        removed = _removed(options, (changes, failed))
        if not removed.ids:
            return removed
        run = start_run(
            options.index,
            next_version(options.index),
            parent,
            wanted,
            lambda run: keep_changes(run, changes),
            n_tracks=0,
        )
        give_up(options.index, [*start.given_up, *([start.run.version] if start.run else [])])
        work = Work(
            "remove",
            run,
            hasher,
            parent,
            lambda receipts: next_manifest(run, receipts, parent, changes, hasher),
            options.bounds,
        )
        execute(work, options, lock, launched)
        return dataclasses.replace(removed, version=run.version)


def find_removed(index: str, manifest: Manifest, ids: Collection[str]) -> tuple[Changes, list[str]]:
    """The changes that taking these tracks out makes: all others stay, or still fail.

    And those of the ids that had failed: they are in no row of the changes.
    """
    wanted = pa.array(sorted(set(ids)), pa.string())
    counts, parts, failed = Counter[str](), list[pa.Table](), set[str]()
    audio_s = 0.0
    for segment in manifest.segments:
        for table in tracks_of_segment(index, manifest, segment, columns=_READ):
            counts["tracks_live"] += table.num_rows
            audio_s += pc.sum(table["duration_s"]).as_py() or 0.0
            gone = table.filter(pc.is_in(table["track_id"], wanted))
            counts["tracks_unchanged"] += table.num_rows - gone.num_rows
            parts += _rows(indexed_side(gone), "removed", INDEXED)
    for table in map(failed_side, failed_tracks(index, manifest)):
        table = without_codes(table)
        goes = pc.is_in(table["track_id"], wanted)
        failed.update(table.filter(goes)["track_id"].to_pylist())
        parts += _rows(table.filter(pc.invert(goes)), "failed", FAILED)
    return collect(parts, {**counts, "audio_live_s": audio_s}), sorted(failed)


def _rows(table: pa.Table, name: str, schema: pa.Schema) -> Iterator[pa.Table]:
    if table.num_rows:
        classes = np.full(table.num_rows, CLASSES.index(name), np.int8)
        reasons = np.full(table.num_rows, REASONS.index("id"), np.int8)
        yield rows_of(classes, reasons, {column: table[column] for column in schema.names})


def _removed(options: RemoveOptions, found: tuple[Changes, list[str]]) -> Removed:
    """What goes; raises HashbeamError where an id is neither live nor among what failed."""
    changes, failed = found
    removed = Removed(changes.of("removed")["track_id"].to_pylist(), failed)
    there = set(removed.ids)
    missing = [one for one in dict.fromkeys(options.ids) if one not in there]
    if missing and not options.missing_ok:
        raise HashbeamError(
            f"{options.index} has no {', '.join(missing[:_TOLD])}"
            f"{f' and {len(missing) - _TOLD} more' if len(missing) > _TOLD else ''}; see "
            "`hashbeam list`, or add --missing-ok"
        )
    return removed
