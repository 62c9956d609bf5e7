"""The classes of changes, and what a comparison of a catalogue with a version gives.

==========  ======================================================================================
unchanged   the same file, the same row: only counted
new         not in the version
changed     another content under the same track_id: to be hashed again, its old codes removed
retried     failed in the version, and the file has changed or it was asked for: to be hashed
failed      failed in the version, and nothing says that it would not fail again: left alone
moved       the same content under another uri: codes stay, the row changes
edited      the same file; something else in its row has changed: codes stay, the row changes
renamed     another track_id for the file of a track that has gone: its codes change their owner
removed     in the version and no more in the catalogue
==========  ======================================================================================
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import parquet
from pipelines.file_state import FILE_STATE

CLASSES = (
    "unchanged",
    "new",
    "changed",
    "retried",
    "failed",
    "moved",
    "edited",
    "renamed",
    "removed",
)
HASHED = ("new", "changed", "retried")  # what is decoded
REMOVED = ("changed", "renamed", "removed")  # whose codes go from where they are
ROW_ONLY = ("moved", "edited")  # whose codes stay

# What told a change. "gone": no file is there; "found": none had been; "uri": under another one
# nothing says that it is the same file; "id": the track_id alone.
REASONS = (
    "id",
    "etag",
    "size",
    "mtime",
    "content",
    "gone",
    "found",
    "uri",
    "forced",
    "retry",
    "row",
)

PLACED = ("segment", "part", "ordinal")  # where the version has a track
CHANGES = pa.schema(
    {
        "track_id": pa.string(),
        "class": pa.dictionary(pa.int8(), pa.string()),
        "reason": pa.dictionary(pa.int8(), pa.string()),
        "row": pa.int64(),  # of the catalogue; null where it is removed
        "uri": pa.string(),  # of the catalogue; where it is removed that of the version
        "etag": pa.string(),
        # Of the file: as it was seen now, null where nobody looked; where it is removed, of old.
        **FILE_STATE,
        # Where the version has it; null where it does not.
        "segment": pa.int32(),
        "part": pa.int32(),
        "ordinal": pa.uint32(),
        "old_track_id": pa.string(),  # of renamed ones only
        "duration_s": pa.float64(),  # in the version
    }
)
_COUNTS = b"hashbeam_counts"
_DECLARED = "declared_duration_s"  # the column of `hashbeam catalog`


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a comparison was asked for.

    `force`: everything has changed, and no file is looked at; `retry_failed`: what has failed is
    tried again even where nothing says that its file has changed.
    """

    force: bool = False
    retry_failed: bool = False


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is to be decoded: tracks, seconds of audio, and of how many tracks that was known.

    The length of the others is taken to be the mean of the version.
    """

    tracks: int
    audio_s: float
    tracks_known: int


@dataclasses.dataclass(frozen=True)
class Changes:
    """The result of a comparison.

    Attributes:
      table: as `CHANGES`, ordered by track_id; all rows but the unchanged.
      counts: ``tracks_CLASS`` for each of `CLASSES`, ``tracks_live`` and ``audio_live_s`` of the
        version, ``files_looked_at`` and ``contents_compared``, and ``failures_gone``: tracks that
        failed, and that the catalogue has no more.
    """

    table: pa.Table
    counts: dict[str, int | float]

    def of(self, *classes: str) -> pa.Table:
        """The rows of some classes, in order of track_id."""
        return self.table.filter(pc.is_in(self.table["class"], pa.array(classes)))

    @property
    def nothing(self) -> bool:
        """Whether the version says what the catalogue says already."""
        same = self.table.num_rows == self.counts["tracks_failed"]
        return bool(same and not self.counts.get("failures_gone"))

    def estimate(self, catalog: pa.Table) -> Estimate:
        """How much is to be decoded; a catalogue may declare durations, as a scan of files does."""
        chosen = self.of(*HASHED)
        known = chosen["duration_s"].combine_chunks()
        if _DECLARED in catalog.column_names and catalog.num_rows:
            declared = catalog[_DECLARED].take(chosen["row"].combine_chunks()).combine_chunks()
            if pa.types.is_string(declared.type):  # of a CSV
                declared = pc.if_else(pc.equal(declared, ""), None, declared)
            # A changed file may have another length: what its own tags say comes first.
            known = pc.coalesce(declared.cast(pa.float64()), known)
        live = int(self.counts["tracks_live"])
        mean = self.counts["audio_live_s"] / live if live else 0.0
        unknown = int(known.null_count)
        audio_s = float(pc.sum(known).as_py() or 0.0) + unknown * mean
        return Estimate(chosen.num_rows, audio_s, chosen.num_rows - unknown)

    def to_text(self) -> str:
        """The counts as one line: what there is, the most urgent first."""
        named = [(name, int(self.counts[f"tracks_{name}"])) for name in CLASSES]
        told = [f"{count} {name}" for name, count in named if count]
        return ", ".join(told) or "nothing in the catalogue, nothing in the index"


def write_changes(path: str, changes: Changes) -> None:
    """Keeps the result of a comparison as Parquet."""
    metadata = {_COUNTS.decode(): json.dumps(changes.counts)}
    parquet.write_table(path, changes.table, metadata=metadata)


def read_changes(path: str) -> Changes:
    """What `write_changes` has kept.

    Raises: HashbeamError where it cannot be read.
    """
    table = parquet.read_table(path)
    counts = json.loads((table.schema.metadata or {}).get(_COUNTS, b"{}"))
    return Changes(table.cast(CHANGES), counts)


def rows_of(
    classes: np.ndarray[Any, Any], reasons: np.ndarray[Any, Any], columns: Mapping[str, Any]
) -> pa.Table:
    """A table as `CHANGES` of numbers of classes and reasons [n]; other columns may be missing."""
    named = {
        "class": pa.DictionaryArray.from_arrays(pa.array(classes, pa.int8()), list(CLASSES)),
        "reason": pa.DictionaryArray.from_arrays(pa.array(reasons, pa.int8()), list(REASONS)),
        **columns,
    }
    nulls = len(classes)
    return pa.table(
        {field.name: named.get(field.name, pa.nulls(nulls, field.type)) for field in CHANGES},
        schema=CHANGES,
    )


def collect(parts: list[pa.Table], counts: Mapping[str, int | float]) -> Changes:
    """The parts of a result as one, ordered by track_id, with a count of every class."""
    table = pa.concat_tables([CHANGES.empty_table(), *parts]).unify_dictionaries()
    table = table.take(pc.sort_indices(table["track_id"])).combine_chunks()
    found = {f"tracks_{name}": 0 for name in CLASSES}
    found["tracks_unchanged"] = int(counts.get("tracks_unchanged", 0))
    for entry in pc.value_counts(table["class"].cast(pa.string())).to_pylist():
        found[f"tracks_{entry['values']}"] = entry["counts"]
    others = (
        "tracks_live",
        "audio_live_s",
        "files_looked_at",
        "contents_compared",
        "failures_gone",
    )
    return Changes(table, {**found, **{name: counts.get(name, 0) for name in others}})
