"""Counters of a version that has a parent."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from pipelines import io, parquet
from pipelines.changes.classes import CLASSES, Changes
from pipelines.gather import total
from pipelines.live import count_live, without_codes
from pipelines.runs import Receipt, Run
from pipelines.versions import Manifest


def count_changes(
    run: Run, parts: Sequence[Receipt], parent: Manifest, changes: Changes, live: int
) -> dict[str, int | float]:
    """What a version with `live` tracks says of them against its parent.

    Args:
        parts: receipts of all parts of the run.
    """
    failed = int(changes.counts["tracks_failed"]) + total(parts, "tracks_failed")
    lost = sum(int(changes.counts[f"tracks_{name}"]) for name in ("removed", "renamed"))
    lost += _lost_now(run, parts, changes)
    return {
        "tracks": live + failed,
        "tracks_failed": failed,
        "tracks_added": live - count_live(parent) + lost,
        "tracks_removed": lost,
        **{f"changes_{name}": int(changes.counts[f"tracks_{name}"]) for name in CLASSES},
    }


def _lost_now(run: Run, parts: Sequence[Receipt], changes: Changes) -> int:
    """How many tracks were live in the parent, under the same name, and failed in this run."""
    others = changes.of("new", "retried", "renamed")["track_id"].combine_chunks()
    count = 0
    for entry in (entry for part in parts for entry in part.files if entry.kind == "failures"):
        table = parquet.read_table(io.join(run.index, entry.path), ["track_id", "stage"])
        known = pc.invert(pc.is_in(without_codes(table)["track_id"], others))
        count += pc.sum(known).as_py() or 0
    return count
