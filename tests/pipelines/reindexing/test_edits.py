"""Rows of tracks written anew: columns that come, go, or change their type."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from change_fixture import tracks_table

from hashing.errors import IndexFormatError
from pipelines.reindexing.edits import edited
from pipelines.reindexing.work import EDITED

OLD, NEW = b"o" * 16, b"n" * 16


def rows_of(*rows: dict[str, Any]) -> pa.Table:
    """Rows of a catalogue, with the columns of `EDITED`; segment and part do not matter."""
    names = dict.fromkeys(name for row in rows for name in row if name not in EDITED)
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    columns |= {
        name: pa.array([row.get(name) for row in rows], kind) for name, kind in EDITED.items()
    }
    return pa.table(columns)


def before(*titles: Any, **more: list[Any]) -> pa.Table:
    """Tracks a, b, … with ordinals 10, 12, …"""
    return tracks_table(
        [
            {
                "ordinal": 10 + 2 * at,
                "track_id": "abc"[at],
                "uri": f"/{at}",
                "size": 5,
                "mtime": 1.5,
                "content": OLD,
                "title": title,
                **{name: values[at] for name, values in more.items()},
            }
            for at, title in enumerate(titles)
        ]
    )


def test_a_row_is_replaced_and_keeps_what_was_measured() -> None:
    row = {"track_id": "b", "uri": "/new", "title": "B", "hashbeam_ordinal": 12,
           "hashbeam_size": 5, "hashbeam_mtime": 9.5}  # fmt: skip
    found = edited(before("x", "y", "z"), rows_of(row))
    assert found["ordinal"].to_pylist() == [10, 12, 14]
    first, second, third = found.to_pylist()
    assert (first["title"], third["title"]) == ("x", "z")
    assert (second["uri"], second["title"]) == ("/new", "B")
    assert (second["snippets"], second["gids"], second["duration_s"]) == (4, 4, 2.0)
    # Looked at, but not read: the time is new, the checksum is the old one.
    assert (second["size"], second["mtime"], second["content"]) == (5, 9.5, OLD)


def test_columns_come_and_go() -> None:
    row = {"track_id": "a", "uri": "/0", "mood": "calm", "etag": "e", "hashbeam_ordinal": 10}
    found = edited(before("x", "y"), rows_of(row)).to_pylist()
    assert [one["mood"] for one in found] == ["calm", None]
    assert [one["title"] for one in found] == [None, "y"]
    assert [one["etag"] for one in found] == ["e", None]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (1999, "2001?", ["2001?", "1999"]),  # a number, then a text
        ("1999", 2001, ["2001", "1999"]),
        (1999, 2001.5, [2001.5, 1999.0]),  # numbers go together
        (["a", "b"], "c", ["c", "a;b"]),
        (["a"], ["b", "c"], [["b", "c"], ["a"]]),
        (None, "c", ["c", None]),
        (True, "yes", ["yes", "true"]),
    ],
)
def test_types_that_do_not_go_together_become_text(old: Any, new: Any, expected: list[Any]) -> None:
    row = {"track_id": "a", "uri": "/0", "year": new, "hashbeam_ordinal": 10}
    found = edited(before("x", "y", year=[old, old]), rows_of(row))
    assert found["year"].to_pylist() == expected


def test_a_column_that_is_called_like_one_of_ours_stays_beside_it() -> None:
    row = {"track_id": "a", "uri": "/0", "size": "big", "gids": 7, "hashbeam_ordinal": 10}
    found = edited(before("x", "y", catalog_size=["small", "tiny"]), rows_of(row)).to_pylist()
    assert [(one["size"], one["catalog_size"]) for one in found] == [(5, "big"), (5, "tiny")]
    assert [(one["gids"], one["catalog_gids"]) for one in found] == [(4, 7), (4, None)]


def test_all_rows_may_be_replaced() -> None:
    rows = [
        {"track_id": "abc"[at], "uri": f"/{at}", "title": "t", "hashbeam_ordinal": 10 + 2 * at}
        for at in range(3)
    ]
    found = edited(before("x", "y", "z"), rows_of(*rows))
    assert found["title"].to_pylist() == ["t"] * 3
    assert found.schema.equals(before("x", "y", "z").schema)


@pytest.mark.parametrize("ordinal", [9, 11, 13, 99])
def test_a_track_that_is_not_there_is_named(ordinal: int) -> None:
    row = {"track_id": "a", "uri": "/0", "hashbeam_ordinal": ordinal}
    with pytest.raises(IndexFormatError, match="here lacks tracks"):
        edited(before("x", "y"), rows_of(row), "here")
