"""``hashbeam plan`` from the command line, without any run to compare with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from index_helpers import error_line
from tiny_catalog import tiny_catalog

from pipelines import plan
from pipelines.cli import main, parse
from pipelines.planning.options import plan_options

GIVEN = ["--hash-cpu-s", "6", "--table-cpu-s", "0.06"]
MILLION = ["--tracks", "1000000", "--minutes", "3.5", *GIVEN]


def said(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """The plan as JSON."""
    capsys.readouterr()
    assert main(["plan", *flags, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_given_speeds_give_the_same_plan(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "measure", None)  # nothing is measured
    first = said(capsys, *MILLION, "--workers", "64")
    assert said(capsys, *MILLION, "--workers", "64") == first
    assert first["tracks"] == 1_000_000
    hours = 1_000_000 * 3.5 / 60
    assert first["audio_hours"] == pytest.approx(hours)
    assert first["stages"][0]["cpu_hours"] == pytest.approx(hours * 6 / 3600)
    assert first["workers"] == 64
    assert first["usd"] == pytest.approx(sum(stage["usd"] for stage in first["stages"]))
    assert first["bucket_postings"] < 4
    twice = said(capsys, *MILLION, "--workers", "64", "--price-cpu-hour", "0.112",
                 "--price-gb-hour", "0.007114")  # fmt: skip
    assert twice["usd"] == pytest.approx(2 * first["usd"])


def test_the_table_tells_stages_and_a_total(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *MILLION, "--workers", "64", "--bit-rate", "320"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("index of 1,000,000 tracks, 58,333.3 h of audio (8.4 TB)")
    names = [line.split("  ")[0] for line in lines[3:7]]
    assert names == ["decode and hash", "build tables", "publish and verify", "total"]
    assert "97.2 h" in lines[3]
    assert any(line.startswith("keys: 13 tables of 28 bits") for line in lines)
    assert all(len(line) < 200 for line in lines)


def test_workers_for_a_deadline(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, *MILLION, "--hours", "24")
    assert found["wall_s"] <= 24 * 3600
    fewer = said(capsys, *MILLION, "--workers", str(found["workers"] - 1))
    assert fewer["wall_s"] > 24 * 3600
    assert main(["plan", *MILLION, "--hours", "0.01"]) == 1
    assert "no number of workers ends in 36.0 s" in error_line(capsys, "plan")


def test_changes(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, *MILLION, "--changed", "0.01")
    assert found["tracks"] == 10_000
    assert found["stages"][0]["stage"] == "find what changed"
    assert main(["plan", *MILLION, "--changed", "0.01"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("reindex of 10,000 tracks")
    assert "added: " in text


def test_embeddings_are_kinds_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    plain = said(capsys, *MILLION)
    rich = said(capsys, *MILLION, "--keep-embeddings", "--also", "artist")
    more = {kind: rich["index_bytes"][kind] for kind in ("embeddings", "artist_embeddings")}
    assert set(rich["index_bytes"]) == {*plain["index_bytes"], *more}
    assert more["embeddings"] > 2 * 128 * plain["snippets"]
    assert rich["index_bytes"]["codes"] == plain["index_bytes"]["codes"]


def test_this_machine_is_measured_where_nothing_is_given(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = tiny_catalog(tmp_path, 10, seconds=4.0)
    flags = ["--catalog", str(catalog), "--minutes", "1", "--model", str(model_folder)]
    found = said(capsys, *flags)
    speeds = found["speeds"]
    assert speeds["source"] == "this machine (10 tracks, 40 s)"
    assert speeds["hash_cpu_s_per_hour"] > 0
    assert min(speeds["tables"].values()) > 0
    assert speeds["worker_bytes"] > 5e7
    assert found["audio_bytes"] == pytest.approx(10 * 60 * 4 * 8000, rel=0.01)
    assert found["model"] == "random"


def test_made_up_tracks_are_measured_without_a_catalogue(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = ["--tracks", "10", "--minutes", "1", "--model", str(model_folder)]
    speeds = said(capsys, *workload)["speeds"]
    assert "16 made-up tracks" in speeds["source"]
    given = said(capsys, *workload, "--hash-cpu-s", "7", "--codes-cpu-s", "3", "--start-s", "180")
    assert given["speeds"]["hash_cpu_s_per_hour"] == 7
    assert given["speeds"]["tables"]["codes_cpu_s"] == 3
    assert given["speeds"]["start_s"] == 180


def test_tracks_that_cannot_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "catalog.csv"
    path.write_text("track_id,uri\na,nowhere.mp3\n", encoding="utf-8")
    assert main(["plan", "--catalog", str(path), "--minutes", "3"]) == 1
    text = capsys.readouterr().err.splitlines()[-1]
    assert "none of 1 tracks of the catalogue can be hashed" in text


def test_all_mistakes_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--tracks", "0", "--workers", "2", "--hours", "soon", "--changed", "2", "--from", "i",
             "--also", "artist,food", "--keep-embeddings", "--key-bits", "40",
             "--price-cpu-hour", "-1", "--read-mb-s", "0", "--hash-cpu-s", "nan"]  # fmt: skip
    assert main(["plan", *flags]) == 2
    line = error_line(capsys, "plan")
    for flag in ("--tracks", "--minutes", "--hours", "--changed", "--also", "--keep-embeddings",
                 "--key-bits", "--price-cpu-hour", "--read-mb-s", "--hash-cpu-s"):  # fmt: skip
        assert f"{flag}:" in line, flag
    assert line.count("--hours:") == 2  # with --workers, and no number
    assert "Traceback" not in line


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "--tracks: is needed, or --catalog"),
        (["--tracks", "5", "--minutes", "1", "--catalog", "c"], "--catalog tells how many"),
        (["--tracks", "5", "--minutes", "1", "--artist-model", "m"], "--artist-model: is for"),
        (["--tracks", "5", "--minuets", "1"], "did you mean --minutes?"),
    ],
)
def test_mistakes(flags: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *flags]) == 2
    assert problem in error_line(capsys, "plan")


def test_what_cannot_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--tracks", "5", "--minutes", "1", "--from", str(tmp_path / "i")]) == 1
    assert "there is no such index" in error_line(capsys, "plan")
    assert main(["plan", "--tracks", "5", "--minutes", "0.01", *GIVEN]) == 1
    assert "shorter than a snippet" in error_line(capsys, "plan")
    assert main(["plan", "--catalog", str(tmp_path / "c.csv"), *GIVEN]) == 2
    assert "does not exist" in error_line(capsys, "plan")


def test_examples_of_the_help_are_no_mistakes() -> None:
    lines = plan.DESCRIPTION.splitlines()
    commands = [line.split() for line in lines if line.startswith("  hashbeam plan")]
    assert len(commands) == 5
    for words in commands:
        _, args, leftover = parse("plan", words[2:])
        assert not leftover
        plan_options(args)
