"""What has gone from segments, and failures that hold still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from change_fixture import Row, index_folder, write_version
from change_rows import changes_of

from pipelines import io, parquet
from pipelines.live import removed_ordinals
from pipelines.reindexing.failures import carry_failures
from pipelines.reindexing.removals import write_removals
from pipelines.runs import Plan, Run
from pipelines.versions import Manifest


def next_run(folder: Path) -> Run:
    return Run(index_folder(folder), Plan("000002", "c", "m", "x", {}, 0, 0, "now"))


def rows(count: int) -> list[Row]:
    return [{"track_id": f"t{number}", "uri": f"u{number}"} for number in range(count)]


def test_what_had_gone_stays_gone_and_an_empty_segment_is_dropped(tmp_path: Path) -> None:
    index = index_folder(tmp_path)
    parent = write_version(index, [rows(5), rows(3), rows(2), rows(4)], removed=[[1, 3], [], [0]])
    # Three rows a part: parts 0 and 1 are of segment 0, part 3 is of segment 2.
    gone = pa.table({"segment": [0, 2], "part": [1, 3], "ordinal": [4, 1]})
    segments = write_removals(next_run(tmp_path), parent, gone)
    assert [segment.id for segment in segments] == [0, 1, 3]  # nothing was left of segment 2
    first, second, third = segments
    assert removed_ordinals(index, first).tolist() == [1, 3, 4]
    assert first.removals is not None
    assert (first.removals.rows, first.removals.kind) == (3, "removals")
    assert first.removals.path.startswith("versions/000002/removals/s000-")
    assert [second, third] == [parent.segments[1], parent.segments[3]]
    # The parent is what it was.
    assert removed_ordinals(index, parent.segments[0]).tolist() == [1, 3]


def failure(name: str, stage: str = "decode", **more: Any) -> Row:
    return {"track_id": name, "uri": f"/{name}", "stage": stage, "error": "unreadable", **more}


def carried(folder: Path, parent: Manifest, *changes: dict[str, Any]) -> list[tuple[str, str, str]]:
    """track_id, stage and uri of the failures that the next version has."""
    entries = carry_failures(next_run(folder), parent, changes_of(*changes))
    assert all(entry.segment is None and entry.part is None for entry in entries)
    tables = [parquet.read_table(io.join(index_folder(folder), one.path)) for one in entries]
    assert [one.rows for one in entries] == [table.num_rows for table in tables]
    found = [row for table in tables for row in table.to_pylist()]
    return sorted((row["track_id"], row["stage"], row["uri"]) for row in found)


@pytest.fixture
def parent(tmp_path: Path) -> Manifest:
    """Two tracks that failed, and two that have codes but no artist embedding."""
    old = [failure("a"), failure("m", "embed")]
    new = [failure("b", size=7), failure("n", "embed")]
    return write_version(index_folder(tmp_path), [rows(2)], failures=[old, new])


def test_failures_that_all_hold_are_the_files_of_the_parent(
    tmp_path: Path, parent: Manifest
) -> None:
    kept = [
        {"track_id": name, "class": "failed", "uri": f"/{name}", "row": 0} for name in ("a", "b")
    ]
    entries = carry_failures(next_run(tmp_path), parent, changes_of(*kept))
    paths = {entry.path for entry in entries}
    assert paths == set(parent.files.select(kind="failures").column("path"))


def test_what_was_tried_again_or_has_gone_fails_no_more(tmp_path: Path, parent: Manifest) -> None:
    found = carried(
        tmp_path,
        parent,
        {"track_id": "a", "class": "retried", "uri": "/a"},
        {"track_id": "b", "class": "failed", "uri": "/b"},
        {"track_id": "m", "class": "changed", "uri": "/m"},
        {"track_id": "n", "class": "edited", "uri": "/n"},
    )
    assert found == [("b", "decode", "/b"), ("n", "embed", "/n")]
    # Of tracks that failed, those that the catalogue has no more are in no class.
    assert carried(tmp_path, parent, {"track_id": "m", "class": "removed", "uri": "/m"}) == [
        ("n", "embed", "/n")
    ]
    gone = [{"track_id": name, "class": "removed", "uri": f"/{name}"} for name in "mn"]
    assert carried(tmp_path, parent, *gone) == []


def test_failures_are_told_under_the_names_of_today(tmp_path: Path, parent: Manifest) -> None:
    found = carried(
        tmp_path,
        parent,
        {"track_id": "a", "class": "failed", "uri": "/gone/too"},
        {"track_id": "x", "class": "renamed", "old_track_id": "m", "uri": "/x"},
        {"track_id": "n", "class": "moved", "uri": "/elsewhere"},
    )
    assert found == [
        ("a", "decode", "/gone/too"),
        ("n", "embed", "/elsewhere"),
        ("x", "embed", "/x"),
    ]
