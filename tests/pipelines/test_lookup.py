"""``hashbeam lookup --queries``: many queries on Beam, the same answers, and nothing done twice."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_helpers import error_line, paths, run_index
from published_index import Published, answer_rows, wav
from tiny_catalog import tiny_catalog, write_rows

from hashing.models import DEFAULT_MODEL, PRETRAINED, load_model
from pipelines import query_parts
from pipelines.cli import main
from pipelines.query_parts import LEAST_S
from pipelines.versions import open_manifest

MATCHES = {
    "query_id": "string",
    "rank": "int32",
    "track_id": "string",
    "score": "double",
    "votes": "int32",
    "offset_s": "double",
    "query_start_s": "double",
    "query_end_s": "double",
}

Shown = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("one_decoder")


@pytest.fixture(scope="module")
def queries(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven queries in four parts of two: five with a match, one without, one that is no audio."""
    folder = tmp_path_factory.mktemp("queries")
    (folder / "cut").mkdir()
    for track in ("s00", "s08", "s19"):
        wav(folder / f"cut/{track}.wav", published.songs[track])
    wav(folder / "two.wav", published.cut("s01", 2, 7), published.cut("s12", 5, 9))
    wav(folder / "other.wav", published.cut("s99", 2, 7))
    (folder / "text.wav").write_text("this is no music " * 100)
    rows = [
        ("q1", "cut/s00.wav", "3", "4"),
        ("q2", str(folder / "cut/s08.wav"), "7.5", ""),
        ("q3", "cut/s19.wav", "", "2.5"),
        ("q4", "two.wav", "", ""),
        ("q5", "other.wav", "0", ""),
        ("q6", "text.wav", "", ""),
        ("q7", "cut/s19.wav", "6.25", "1"),
    ]
    names = ("query_id", "uri", "start_s", "duration_s")
    return write_rows(folder / "queries.csv", [dict(zip(names, r, strict=True)) for r in rows])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_parts, "QUERIES_PER_PART", 2)


def look_up(index: Path, queries: Path, out: Path, *flags: str) -> int:
    names = ["--index", str(index), "--queries", str(queries), "--out", str(out)]
    return main(["lookup", *names, "--workers", "1", *flags])


@pytest.fixture(scope="module")
def answered(
    one_decoder: None,
    published: Published,
    queries: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of answers; not to be changed."""
    out = tmp_path_factory.mktemp("answered") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(query_parts, "QUERIES_PER_PART", 2)
        assert look_up(published.index, queries, out) == 0
    return out


def test_matches_are_the_contract(published: Published, answered: Path) -> None:
    assert len(list((answered / "matches").iterdir())) == 4
    for path in (answered / "matches").iterdir():
        schema = pq.read_schema(path)
        assert {field.name: str(field.type) for field in schema} == MATCHES
        assert schema.metadata[b"hasher_digest"].decode() == load_model(DEFAULT_MODEL).digest
        assert schema.metadata[b"hashbeam_format"] == b"1"
    found = answer_rows(answered)
    first = {row["query_id"]: row for row in found if row["rank"] == 1}
    expected = {"q1": ("s00", 3), "q2": ("s08", 7.5), "q3": ("s19", 0), "q7": ("s19", 6.25)}
    for query_id, (track_id, offset_s) in expected.items():
        assert first[query_id]["track_id"] == track_id
        assert abs(first[query_id]["offset_s"] - offset_s) <= 0.25
    assert sorted(first) == ["q1", "q2", "q3", "q4", "q7"]
    assert {row["track_id"] for row in found if row["query_id"] == "q4"} == {"s01", "s12"}
    assert sorted(row["rank"] for row in found if row["query_id"] == "q4") == [1, 2]
    assert first["q7"]["query_end_s"] <= 1.0


def test_what_cannot_be_asked_is_a_failure(queries: Path, answered: Path) -> None:
    (failure,) = answer_rows(answered, "failures")
    path = str(queries.parent / "text.wav")
    assert (failure["track_id"], failure["uri"], failure["stage"]) == ("q6", path, "query")
    assert failure["error"] == "not-audio"
    assert path in failure["message"]


def test_the_summary_counts_every_query_once(answered: Path) -> None:
    summary = json.loads((answered / "run.json").read_text())
    counts = {name: summary[name] for name in ("queries", "matched", "unmatched", "failed")}
    assert counts == {"queries": 7, "matched": 5, "unmatched": 1, "failed": 1}
    assert (summary["parts"], summary["parts_resumed"], summary["workers"]) == (4, 0, 1)
    assert summary["index_version"] == "000001"
    assert summary["model"]["digest"] == load_model(DEFAULT_MODEL).digest


def test_the_answers_are_those_to_files(
    published: Published, answered: Path, queries: Path, capsys: Shown
) -> None:
    """q4 and q5 are whole files."""
    names = [str(queries.parent / name) for name in ("two.wav", "other.wav")]
    assert main(["lookup", "--index", str(published.index), *names, "--json"]) == 0
    alone = [json.loads(line)["matches"] for line in capsys.readouterr().out.splitlines()]
    for query_id, expected in zip(("q4", "q5"), alone, strict=True):
        found = [row for row in answer_rows(answered) if row.pop("query_id") == query_id]
        assert found == [{name: row[name] for name in list(MATCHES)[1:]} for row in expected]


def test_min_score_and_top_choose_the_rows(
    published: Published, queries: Path, tmp_path: Path, capsys: Shown
) -> None:
    """Into a folder that is there already, but empty."""
    (tmp_path / "out").mkdir()
    flags = ("--min-score", "0", "--top", "2", "--json")
    assert look_up(published.index, queries, tmp_path / "out", *flags) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    summary = json.loads(captured.out)
    assert summary == json.loads((tmp_path / "out/run.json").read_text())
    assert (summary["matched"], summary["unmatched"], summary["min_score"]) == (6, 0, 0)
    found = answer_rows(tmp_path / "out")
    assert {row["query_id"] for row in found} == {"q1", "q2", "q3", "q4", "q5", "q7"}
    assert max(row["rank"] for row in found) == 2
    assert min(row["score"] for row in found) < 0.5


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_list_may_be_json_lines_or_parquet(
    published: Published, queries: Path, answered: Path, tmp_path: Path
) -> None:
    with queries.open(newline="") as file:
        given = [
            {
                "query_id": row["query_id"],
                "uri": str(queries.parent / row["uri"]),
                **{n: float(row[n]) if row[n] else None for n in ("start_s", "duration_s")},
            }
            for row in csv.DictReader(file)
        ]
    expected = answer_rows(answered)
    pq.write_table(pa.Table.from_pylist(given[::-1]), tmp_path / "queries.parquet")
    jsonl(tmp_path / "queries.jsonl", given)
    for name in ("queries.parquet", "queries.jsonl"):
        out = tmp_path / f"out-{name}"
        assert look_up(published.index, tmp_path / name, out) == 0
        assert answer_rows(out) == expected


def stop_after(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is interrupted when so many parts have been answered."""
    real, done = query_parts.answer_part, []

    def answer(*arguments: Any) -> None:
        if len(done) == parts:
            raise KeyboardInterrupt
        real(*arguments)
        done.append(1)

    monkeypatch.setattr(query_parts, "answer_part", answer)


def test_a_run_that_was_stopped_goes_on(
    published: Published, queries: Path, answered: Path, tmp_path: Path, capsys: Shown
) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patched:
        stop_after(2, patched)
        assert look_up(published.index, queries, out) == 130
    assert "run the same command again" in error_line(capsys, "lookup")
    assert not (out / "run.json").exists()
    done = {path: path.stat().st_mtime_ns for path in (out / "matches").iterdir()}
    assert len(done) == 2
    # What a process that was killed leaves: a file half written, failures without their matches.
    # A part other than the one with a failure (q6 is in the third), so that it has none any more.
    left = next(n for n in (3, 1, 0) if not (out / f"matches/part-{n:05d}.parquet").exists())
    (out / f"matches/.part-{left:05d}.parquet.00.tmp").write_bytes(b"PAR1")
    (out / "failures").mkdir(exist_ok=True)
    stale = next((answered / "failures").iterdir())
    shutil.copy(stale, out / f"failures/part-{left:05d}.parquet")
    assert look_up(published.index, queries, out) == 0
    text = capsys.readouterr().out
    assert "7 queries in " in text
    assert "5 with a match, 1 without, 1 that could not be asked" in text
    assert str(out / "failures") in text
    summary = json.loads((out / "run.json").read_text())
    assert (summary["parts"], summary["parts_resumed"]) == (4, 2)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    for kind in ("matches", "failures"):
        assert answer_rows(out, kind) == answer_rows(answered, kind)
    assert not list(out.rglob("*.tmp"))


def test_an_error_of_a_worker_is_one_line_and_keeps_what_is_done(
    published: Published, queries: Path, tmp_path: Path, capsys: Shown
) -> None:
    shutil.copytree(published.index, tmp_path / "index")
    manifest = open_manifest(str(published.index))
    for kind, number in (("tables", 5), ("matrices", 1)):
        path = paths(tmp_path / "index", manifest, kind)[number]
        whole = path.read_bytes()
        path.write_bytes(whole[:-4])
        assert look_up(tmp_path / "index", queries, tmp_path / "out") == 1
        assert f"{path} is truncated" in error_line(capsys, "lookup")
        path.write_bytes(whole)
    assert look_up(tmp_path / "index", queries, tmp_path / "out") == 0
    assert len(answer_rows(tmp_path / "out")) == 6


@pytest.fixture
def stopped(published: Published, queries: Path, tmp_path: Path, capsys: Shown) -> Path:
    """A folder with an unfinished run."""
    with pytest.MonkeyPatch.context() as patched:
        stop_after(1, patched)
        assert look_up(published.index, queries, tmp_path / "out") == 130
    capsys.readouterr()
    return tmp_path / "out"


def test_answers_of_other_questions_are_not_mixed(
    published: Published, queries: Path, stopped: Path, tmp_path: Path, capsys: Shown
) -> None:
    other = write_rows(
        queries.parent / "other.csv",
        [{"query_id": "q1", "uri": "cut/s00.wav", "start_s": "3.5", "duration_s": "4"}],
    )
    before = {path: path.read_bytes() for path in stopped.rglob("*.*")}
    for given, flags in (
        (other, ()),
        (queries, ("--top", "6")),
        (queries, ("--min-score", "0.4")),
        (queries, ("--probes", "9")),
    ):
        assert look_up(published.index, given, stopped, *flags) == 1
        line = error_line(capsys, "lookup")
        assert f"{stopped} holds answers to other queries, of another index, or with" in line
        assert "--out" in line
    # Another index of the same model, in its first version as well.
    music = tiny_catalog(tmp_path / "music", 3)
    assert run_index(music, tmp_path / "index", PRETRAINED / DEFAULT_MODEL) == 0
    capsys.readouterr()
    assert look_up(tmp_path / "index", queries, stopped) == 1
    assert "of another index" in error_line(capsys, "lookup")
    assert {path: path.read_bytes() for path in stopped.rglob("*.*")} == before
    # Where the index and the list lie, and how many work, is no other question.
    shutil.copytree(published.index, tmp_path / "moved")
    assert look_up(tmp_path / "moved", queries, stopped, "--decode-timeout", "30") == 0


def test_a_folder_with_other_things_is_left_alone(
    published: Published, queries: Path, answered: Path, tmp_path: Path, capsys: Shown
) -> None:
    (tmp_path / "file").write_text("x")
    for out, expected in (
        (tmp_path, "is not empty"),
        (tmp_path / "file", "is a file"),
        (answered, "holds all answers already"),
        (published.index, "is not empty"),
    ):
        assert look_up(published.index, queries, out) == 1
        line = error_line(capsys, "lookup")
        assert f"{out} {expected}" in line
        assert "name a new folder with --out" in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_part_too_short_for_a_snippet_is_a_failure(published: Published, tmp_path: Path) -> None:
    uri = published.index.parent / "s01.wav"
    given = [
        {"query_id": "long", "uri": str(uri), "start_s": "1", "duration_s": "3"},
        {"query_id": "past", "uri": str(uri), "start_s": "100", "duration_s": ""},
        {"query_id": "short", "uri": str(uri), "start_s": "1", "duration_s": str(LEAST_S)},
    ]
    queries = write_rows(tmp_path / "q.csv", given)
    assert look_up(published.index, queries, tmp_path / "out") == 0
    assert [row["query_id"] for row in answer_rows(tmp_path / "out")] == ["long"]
    failures = {row["track_id"]: row for row in answer_rows(tmp_path / "out", "failures")}
    assert sorted(failures) == ["past", "short"]
    assert failures["short"]["error"] == "too-short"
    assert all(str(uri) in row["message"] for row in failures.values())


def test_recordings_answers_and_index_may_lie_in_an_object_store(
    published: Published, memory_objects: dict[str, bytes], tmp_path: Path, capsys: Shown
) -> None:
    """Also one that is missing there: the others are answered."""
    for path in published.index.rglob("*"):
        if path.is_file():
            memory_objects[f"mem://b/index/{path.relative_to(published.index)}"] = path.read_bytes()
    query = wav(tmp_path / "q.wav", published.cut("s06", 1, 4))
    memory_objects["mem://b/in/q.wav"] = query.read_bytes()
    memory_objects["mem://b/in/text.wav"] = b"no audio " * 100
    memory_objects["mem://b/in/q.csv"] = b"query_id,uri\na,q.wav\nb,gone.wav\nc,text.wav\n"
    names = ["--index", "mem://b/index", "--queries", "mem://b/in/q.csv", "--out", "mem://b/out"]
    assert main(["lookup", *names, "--workers", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["matched"], summary["failed"]) == (1, 2)
    tables = {
        name: pq.read_table(pa.BufferReader(data))
        for name, data in memory_objects.items()
        if "/out/matches/" in name or "/out/failures/" in name
    }
    found = [row for name in sorted(tables) for row in tables[name].to_pylist()]
    assert [row["track_id"] for row in found if "rank" in row] == ["s06"]
    failures = {row["track_id"]: row for row in found if "error" in row}
    assert failures["b"]["error"] == "unreadable"
    assert "mem://b/in/gone.wav" in failures["b"]["message"]
    assert failures["c"]["error"] == "not-audio"
    assert failures["c"]["message"].startswith("mem://b/in/text.wav: ")
    # The same at once, without the list.
    files = ["mem://b/in/gone.wav", "mem://b/in/q.wav"]
    assert main(["lookup", "--index", "mem://b/index", *files, "--json"]) == 1
    captured = capsys.readouterr()
    answers = [json.loads(line) for line in captured.out.splitlines()]
    assert [answer.get("error") for answer in answers] == ["unreadable", None]
    assert answers[1]["matches"][0]["track_id"] == "s06"
    assert captured.err.count("\n") == 1


def test_an_index_that_is_not_there_is_one_line(
    queries: Path, tmp_path: Path, capsys: Shown
) -> None:
    assert look_up(tmp_path / "nowhere", queries, tmp_path / "out") == 1
    assert "there is no such index" in error_line(capsys, "lookup")
    assert not (tmp_path / "out").exists()
