"""Lists of queries: what is read from them, and one line for each that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from index_helpers import error_line
from published_index import Published

from hashing.errors import CatalogError
from pipelines.cli import main
from pipelines.query_parts import read_queries

Shown = pytest.CaptureFixture[str]


def look_up(index: Path, queries: Path, out: Path) -> int:
    names = ["--index", str(index), "--queries", str(queries), "--out", str(out)]
    return main(["lookup", *names, "--workers", "1"])


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["is empty"]),
        ("query_id,uri\n", ["add a row for each"]),
        ("query_id,start_s\nq1,3\n", ["column uri missing"]),
        ("track_id,uri\nq1,a.wav\n", ["column query_id missing"]),
        ("query_id,uri\nq1,a.wav\nq1,b.wav\n", ["row 2, column query_id", "'q1'", "unique"]),
        ("query_id,uri\nq1,\n", ["row 1, column uri: empty"]),
        ("query_id,uri,start_s\nq1,a,-1\n", ["query 'q1', column start_s: '-1' is no time"]),
        ("query_id,uri,start_s\nq1,a,soon\n", ["'soon' is no time in seconds"]),
        ("query_id,uri,start_s\nq1,a,nan\n", ["'nan' is no time"]),
        ("query_id,uri,duration_s\nq1,a,inf\n", ["column duration_s: 'inf' is no time"]),
        ("query_id,uri,duration_s\nq1,a,0\n", ["column duration_s: '0' is no time"]),
        (
            "query_id,uri,start_s,duration_s\nq1,a,x,1\nq2,a,1,y\n",
            ["query 'q1', column start_s: 'x'", "query 'q2', column duration_s: 'y'"],
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(
    published: Published, tmp_path: Path, capsys: Shown, text: str, expected: list[str]
) -> None:
    (tmp_path / "q.csv").write_text(text)
    assert look_up(published.index, tmp_path / "q.csv", tmp_path / "out") == 2
    line = error_line(capsys, "lookup")
    assert str(tmp_path / "q.csv") in line
    assert all(part in line for part in expected), line
    assert not (tmp_path / "out").exists()


def test_a_list_that_is_not_there_is_one_line(
    published: Published, tmp_path: Path, capsys: Shown
) -> None:
    assert look_up(published.index, tmp_path / "no.csv", tmp_path / "out") == 2
    assert f"{tmp_path / 'no.csv'} does not exist" in error_line(capsys, "lookup")


def test_times_are_read_from_every_kind_of_column(tmp_path: Path) -> None:
    given = [
        {"query_id": "a", "uri": "a.wav", "start_s": 1, "duration_s": "2.5"},
        {"query_id": "b", "uri": "/b.wav", "start_s": None, "duration_s": ""},
    ]
    found = read_queries(str(jsonl(tmp_path / "q.jsonl", given)))
    assert found.to_pylist() == [
        {"query_id": "a", "uri": f"{tmp_path}/a.wav", "start_s": 1.0, "duration_s": 2.5},
        {"query_id": "b", "uri": "/b.wav", "start_s": None, "duration_s": None},
    ]
    assert found.schema.field("start_s").type == pa.float64()
    without = read_queries(str(jsonl(tmp_path / "n.jsonl", [{"query_id": "a", "uri": "b"}])))
    assert without["start_s"].null_count == without["duration_s"].null_count == 1


@pytest.mark.parametrize("value", [True, [1.0], {"s": 1}, -0.5, 1e400])
def test_what_is_no_time_is_refused(tmp_path: Path, value: Any) -> None:
    path = jsonl(tmp_path / "q.jsonl", [{"query_id": "a", "uri": "b", "start_s": value}])
    with pytest.raises(CatalogError, match=r"'a', column start_s: .* is no time in seconds"):
        read_queries(str(path))
