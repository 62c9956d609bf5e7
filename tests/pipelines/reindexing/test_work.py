"""Changes become rows to make and rows to rewrite, cut into pieces of work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from change_fixture import catalog_table
from change_rows import changes_of

from pipelines.kept import KEPT, Place, places_of
from pipelines.reindexing import work
from pipelines.reindexing.work import (
    keep_changes,
    kept_changes,
    read_edits,
    rows_to_edit,
    rows_to_make,
    write_edits,
)
from pipelines.runs import Plan, Run

CATALOG = catalog_table(
    [{"track_id": name, "uri": f"/{name}.mp3", "title": name.upper()} for name in "abcdefgh"]
)


def change(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"track_id": name, "class": kind, "row": "abcdefgh".index(name), **more}


def at(segment: int, part: int, ordinal: int) -> dict[str, int]:
    return {"segment": segment, "part": part, "ordinal": ordinal}


def a_run(folder: Path) -> Run:
    return Run(str(folder / "index"), Plan("000002", "c", "m", "x", {}, 0, 0, "now"))


def test_what_is_decoded_has_no_place_and_what_is_renamed_has_one() -> None:
    changes = changes_of(
        change("a", "new"),
        change("b", "failed"),
        change("c", "renamed", old_track_id="z", mtime=7.5, **at(3, 5, 40)),
        change("d", "edited", **at(0, 0, 1)),
        change("e", "changed", mtime=9.0, **at(1, 2, 8)),
        change("f", "retried"),
        {"track_id": "y", "class": "removed", **at(0, 0, 0)},
    )
    made = rows_to_make(changes, CATALOG)
    rows, places = places_of(made)
    assert rows["track_id"].to_pylist() == ["a", "c", "e", "f"]
    assert rows.column_names == CATALOG.column_names
    assert places == [None, Place(0, 3, 5, 40, 7.5), None, None]
    assert {name: made.schema.field(name).type for name in KEPT} == KEPT


def test_without_renamed_tracks_the_rows_are_those_of_the_catalogue() -> None:
    made = rows_to_make(changes_of(change("b", "new"), change("h", "changed")), CATALOG)
    assert made.equals(CATALOG.take(pa.array([1, 7])))
    assert rows_to_make(changes_of(), CATALOG).num_rows == 0


def test_pieces_are_cut_between_files_of_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "EDITED_PARTS", 2)
    changes = changes_of(
        change("a", "edited", **at(1, 4, 9)),
        change("b", "moved", size=5, mtime=2.5, content=b"c" * 16, **at(0, 1, 17)),
        change("c", "edited", **at(0, 1, 16)),
        change("d", "edited", **at(0, 3, 30)),
        change("e", "edited", **at(1, 3, 2)),
        change("f", "edited", **at(1, 4, 8)),
        change("g", "changed", **at(1, 4, 7)),
    )
    run = a_run(tmp_path)
    pieces = list(rows_to_edit(changes, CATALOG))
    write_edits(run, pieces)
    found = [
        [
            (segment, part, rows["track_id"].to_pylist())
            for segment, part, rows in read_edits(run, n)
        ]
        for n in range(len(pieces))
    ]
    # Part 3 is in both segments, and is a file of its own in each.
    assert found == [
        [(0, 1, ["c", "b"]), (0, 3, ["d"])],
        [(1, 3, ["e"]), (1, 4, ["f", "a"])],
    ]
    ((_, _, rows), _) = read_edits(run, 0)
    assert rows["hashbeam_ordinal"].to_pylist() == [16, 17]
    assert rows["hashbeam_size"].to_pylist() == [None, 5]
    assert rows["hashbeam_mtime"].to_pylist() == [None, 2.5]
    assert list(rows_to_edit(changes_of(change("a", "new")), CATALOG)) == []


def test_changes_that_were_kept_are_the_same(tmp_path: Path) -> None:
    changes = changes_of(
        change("a", "new"),
        change("c", "renamed", old_track_id="z", content=b"c" * 16, **at(3, 5, 40)),
        tracks_live=7,
        audio_live_s=3.25,
    )
    run = a_run(tmp_path)
    keep_changes(run, changes)
    kept = kept_changes(run)
    assert kept.counts == changes.counts
    assert kept.table.to_pylist() == changes.table.to_pylist()
    assert rows_to_make(kept, CATALOG).equals(rows_to_make(changes, CATALOG))
