"""The manifest of the next version: what stays of its parent, and what a run has made."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping

import pyarrow.compute as pc

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.also import ALSO
from pipelines.changes.classes import REMOVED, Changes
from pipelines.gather import Built, gather_segments, part_receipts
from pipelines.live import failed_beside
from pipelines.reindexing.counting import count_changes
from pipelines.reindexing.edits import edit_name
from pipelines.reindexing.failures import carry_failures, failure_files
from pipelines.reindexing.removals import write_removals
from pipelines.runs import Receipt, Run
from pipelines.stores import in_turn, is_remote
from pipelines.versions import FileEntry, Files, Manifest, Segment, utc_now


def next_manifest(
    run: Run,
    receipts: Mapping[str, Receipt],
    parent: Manifest,
    changes: Changes,
    hasher: Hasher,
) -> tuple[Manifest, Built]:
    """The manifest of a finished run that starts from a published version, and what is its own.

    Writes the small files of what has gone, and of failures that hold still.

    Raises: HashbeamError where parts, pieces or shards are missing.
    """
    parts = part_receipts(run, receipts)
    built = gather_segments(run, receipts, hasher.quantizer, parent.key_bits)
    replaced = _edited_files(run, receipts)
    old = write_removals(run, parent, changes.of(*REMOVED))
    made = [segment for segment in built.segments if segment.tracks]
    files = [
        replaced.get((entry.kind, entry.segment, entry.part), entry)
        for entry in _files_of(parent, old)
    ]
    files += carry_failures(run, parent, changes)
    kept = {segment.id for segment in made}
    files += [entry for entry in built.files if entry.kind != "failures" and entry.segment in kept]
    files += failure_files(built.files)
    return dataclasses.replace(
        parent,
        version=run.version,
        parent=parent.version,
        catalog_digest=run.plan.catalog_digest,
        segments=[*old, *made],
        files=Files.of(files),
        counters=_counters(run, parts, parent, changes, [*old, *made], files),
        created=utc_now(),
    ), built


def _edited_files(
    run: Run, receipts: Mapping[str, Receipt]
) -> dict[tuple[str, int | None, int | None], FileEntry]:
    """Kind, segment and part → the file that takes the old one's place."""
    names = [edit_name(piece) for piece in range(run.plan.n_edits)]
    missing = sum(name not in receipts for name in names)
    if missing:
        raise HashbeamError(
            f"{missing} of {len(names)} pieces of changed rows of {run.index} are not finished; "
            "run the same command again"
        )
    files = (entry for name in names for entry in receipts[name].files)
    return {(entry.kind, entry.segment, entry.part): entry for entry in files}


def _files_of(parent: Manifest, segments: list[Segment]) -> list[FileEntry]:
    """The parent's files of some segments, without failures."""
    kept = {segment.id for segment in segments}
    return [entry for entry in parent.files if entry.kind != "failures" and entry.segment in kept]


def _counters(
    run: Run,
    parts: list[Receipt],
    parent: Manifest,
    changes: Changes,
    segments: list[Segment],
    files: list[FileEntry],
) -> dict[str, int | float]:
    live = sum(segment.live for segment in segments)
    gone = changes.of(*REMOVED)
    audio_s = parent.counters["audio_s"] - float(pc.sum(gone["duration_s"]).as_py() or 0.0)
    counters = count_changes(run, parts, parent, changes, live) | {
        "tracks_hashed": live,
        "snippets": sum(segment.snippets for segment in segments),
        "audio_s": audio_s + sum(part.counters["audio_s"] for part in parts),
    }
    if parent.also:
        # Rows of tracks that have gone stay where they are: what is live is counted.
        lacking = _lacking(run.index, files)
        counters |= {ALSO[name].made: live - lacking[ALSO[name].stage] for name in parent.also}
    return counters


def _lacking(index: str, files: list[FileEntry]) -> Counter[str]:
    """How many live tracks lack something beside codes, by the stage at which they failed."""
    paths = [io.join(index, entry.path) for entry in files if entry.kind == "failures"]
    read = functools.partial(parquet.read_table, columns=["stage"], small=True)
    tables = in_turn(read, paths, is_remote(index))
    return Counter(
        stage
        for table in tables
        for stage in table["stage"].filter(failed_beside(table)).to_pylist()
    )
