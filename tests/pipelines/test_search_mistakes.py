"""``hashbeam lookup FILE…`` with files, flags and indexes that are wrong: one clear line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from index_helpers import error_line, paths
from model_fixture import random_model
from published_index import Published, best_match, look_up_files, wav
from tiny_catalog import RATE

from hashing.models import DEFAULT_MODEL, load_model
from pipelines.cli import main
from pipelines.versions import open_manifest

Shown = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("one_decoder")


def broken(folder: Path) -> dict[str, str]:
    """Files that cannot be looked up, and the kind of error of each."""
    (folder / "text.mp3").write_text("this is no music " * 100)
    (folder / "empty.wav").write_bytes(b"")
    whole = wav(folder / "whole.wav", np.ones(3 * RATE, np.float32)).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    wav(folder / "silent.wav", np.zeros(3 * RATE, np.float32))
    wav(folder / "short.wav", 0.1 * np.ones(RATE // 2, np.float32))
    return {
        str(folder / "nowhere.wav"): "missing",
        str(folder): "not-a-file",
        str(folder / "text.mp3"): "not-audio",
        str(folder / "empty.wav"): "empty",
        str(folder / "cut.wav"): "truncated",
        str(folder / "silent.wav"): "silent",
        str(folder / "short.wav"): "too-short",
    }


def test_all_files_that_cannot_be_asked_are_told_in_one_line(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    files = broken(tmp_path)
    assert look_up_files(published, "--json", *files) == 1
    captured = capsys.readouterr()
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert {answer["uri"]: answer["error"] for answer in told} == files
    assert captured.err.count("\n") == 1
    assert all(path in captured.err for path in files)
    for answer in told:
        assert list(answer) == ["query_id", "uri", "error", "message"]
        assert answer["uri"] in answer["message"]


@pytest.mark.parametrize("name", ["nowhere.wav", "text.mp3", "short.wav"])
def test_a_file_that_cannot_be_asked_is_one_line(
    published: Published, capsys: Shown, tmp_path: Path, name: str
) -> None:
    broken(tmp_path)
    assert look_up_files(published, tmp_path / name) == 1
    assert str(tmp_path / name) in error_line(capsys, "lookup")


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_one_bad_file_does_not_cost_the_others_their_answers(
    published: Published, capsys: Shown, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    good = [wav(tmp_path / f"{track}.wav", published.cut(track, 3, 6)) for track in ("s04", "s18")]
    broken(tmp_path)
    bad = tmp_path / "text.mp3"
    assert look_up_files(published, good[0], bad, good[1], *flags) == 1
    captured = capsys.readouterr()
    for track in ("s04", "s18"):
        assert captured.out.count(f'"track_id": "{track}"' if flags else f"  {track}  ") == 1
    assert captured.err.count("\n") == 1
    line = "hashbeam lookup: error: 1 of 3 files could not be looked up: "
    assert captured.err.startswith(line)
    assert str(bad) in captured.err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ["--index: is needed", "FILE: name recordings"]),
        (["--index", "i", "q.wav", "--top", "0"], ["--top: must be from 1 to 1000, got 0"]),
        (
            ["--index", "i", "q.wav", "--min-score", "2", "--probes=x", "--workers", "0"],
            [
                "--min-score: must be from 0 to 1, got 2",
                "--probes: must be a whole number, got 'x'",
                "--workers: must be from 1 to 1024, got 0",
            ],
        ),
        (["--index", "i", "q.wav", "--min-score", "nan"], ["--min-score: must be a number"]),
        (["--index", "i", "--queries", "q.csv"], ["--out: is needed with --queries"]),
        (["--index", "i", "q.wav", "--queries", "q.csv", "--out", "o"], ["files or --queries"]),
        (["--index", "i", "q.wav", "--out", "o"], ["--out: goes with --queries"]),
        (
            ["--index", "i", "q.wav", "--topp=3", "--min-score=7"],
            ["unknown flag --topp (did you mean --top?)", "--min-score: must be from 0 to 1"],
        ),
        (["--index", "i", "q.wav", "--max-query-hours", "3"], ["--max-query-hours: must be from"]),
    ],
)
def test_mistakes_in_flags_are_told_at_once(
    capsys: Shown, flags: list[str], expected: list[str]
) -> None:
    assert main(["lookup", *flags]) == 2
    line = error_line(capsys, "lookup")
    for part in expected:
        assert part in line


@pytest.fixture
def damaged(published: Published, tmp_path: Path) -> Published:
    """A copy of the index, to be damaged."""
    shutil.copytree(published.index, tmp_path / "index")
    return Published(published.catalog, tmp_path / "index", published.songs)


def test_an_index_that_is_not_there_is_one_line(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    query = wav(tmp_path / "q.wav", published.cut("s01", 2, 4))
    for name, expected in {
        tmp_path / "nowhere": "there is no such index; make one with `hashbeam index",
        query: "is a file, not an index",
        tmp_path: "is no index",
    }.items():
        assert main(["lookup", "--index", str(name), str(query)]) == 1
        line = error_line(capsys, "lookup")
        assert expected in line
        assert str(name) in line


def test_an_index_of_another_format_is_one_line(
    damaged: Published, capsys: Shown, tmp_path: Path
) -> None:
    where = damaged.index / "versions/000001/manifest.json"
    where.write_text(json.dumps({**json.loads(where.read_text()), "format_version": 9}))
    assert look_up_files(damaged, wav(tmp_path / "q.wav", damaged.cut("s01", 2, 4))) == 1
    line = error_line(capsys, "lookup")
    assert f"{where} has format version 9, this hashbeam reads 3" in line


def test_an_index_of_another_model_is_one_line_with_both_digests(
    published: Published, capsys: Shown, tmp_path: Path
) -> None:
    other = random_model(tmp_path / "other", seed=5)
    query = wav(tmp_path / "q.wav", published.cut("s01", 2, 4))
    assert look_up_files(published, query, "--model", tmp_path / "other") == 1
    line = error_line(capsys, "lookup")
    assert other.digest[:16] in line
    assert load_model(DEFAULT_MODEL).digest[:16] in line
    assert look_up_files(published, query, "--model", "nowhere") == 1
    assert "no model 'nowhere'" in error_line(capsys, "lookup")
    assert best_match(published, capsys, query, "--model", DEFAULT_MODEL)["track_id"] == "s01"


@pytest.mark.parametrize("verb", ["lookup", "verify"])
@pytest.mark.parametrize(("kind", "number"), [("tables", 3), ("matrices", 0)])
def test_a_truncated_file_is_named(
    damaged: Published, capsys: Shown, tmp_path: Path, verb: str, kind: str, number: int
) -> None:
    path = paths(damaged.index, open_manifest(str(damaged.index)), kind)[number]
    path.write_bytes(path.read_bytes()[:-40])
    query = wav(tmp_path / "q.wav", damaged.cut("s01", 2, 4))
    arguments = ["--index", str(damaged.index), str(query)] if verb == "lookup" else []
    assert main([verb, *(arguments or [str(damaged.index)])]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert f"{path} is truncated" in captured.err + captured.out


@pytest.mark.parametrize("kind", ["tables", "tracks", "matrices"])
def test_a_changed_byte_is_found_by_verify(damaged: Published, capsys: Shown, kind: str) -> None:
    path = paths(damaged.index, open_manifest(str(damaged.index)), kind)[1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(damaged.index)]) == 1
    captured = capsys.readouterr()
    assert f"{path} has SHA-256" in captured.out
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("damage", [None, b"", b"PAR1 and nothing", b"x" * 100_000])
@pytest.mark.parametrize("kind", ["tracks", "matrices"])
def test_a_damaged_or_missing_file_is_one_line(
    damaged: Published, capsys: Shown, tmp_path: Path, kind: str, damage: bytes | None
) -> None:
    path = paths(damaged.index, open_manifest(str(damaged.index)), kind)[0]
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert look_up_files(damaged, wav(tmp_path / "q.wav", damaged.cut("s01", 2, 4))) == 1
    line = error_line(capsys, "lookup")
    assert str(path) in line
    # Tracks are read as any Parquet is, and what is not there may be the network's fault.
    missing_tracks = kind == "tracks" and damage is None
    assert ("check the path" if missing_tracks else "hashbeam verify") in line
