"""``hashbeam evaluate lookup``: what is wrong with flags and inputs is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from index_helpers import error_line
from model_fixture import random_model
from published_index import Published, wav
from tiny_catalog import RATE, tiny_catalog, write_rows

from pipelines.cli import main

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tracks."""
    return tiny_catalog(tmp_path_factory.mktemp("evaluate"), 3)


def evaluate(catalog: Path, out: Path, *flags: str) -> int:
    return main(["evaluate", "lookup", "--catalog", str(catalog), "--out", str(out), *flags])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--conditions", "clean", "loud"], ["--conditions: condition 'loud': no step 'loud'"]),
        (["--conditions", "white@5+white@0"], ["--conditions: ", "one noise and one codec"]),
        (["--durations", "1", "long"], ["--durations: must be numbers, got 'long'"]),
        (["--durations", "0.1"], ["--durations: must be from 0.5 to 3600 seconds"]),
        (["--durations", "nan"], ["--durations: must be from 0.5 to 3600 seconds"]),
        (
            ["--queries", "0", "--left-out", "1", "--seed", "-1", "--probes", "x"],
            ["--queries: ", "--left-out: ", "--seed: ", "--probes: "],
        ),
        (["--noise", "nowhere"], ["--noise, --rooms: nowhere is not a folder"]),
        (["--probes", "1", "99"], ["--probes: must be from 1 to 64, got 99"]),
        (["--model", "a", "b", "--index", "c"], ["--model: name none, or one for each --index"]),
        (
            ["--index", "c", "--left-out-by", "album", "--keep-embeddings"],
            ["--left-out-by: has no meaning for an --index", "--keep-embeddings: has no"],
        ),
        (["--workers", "0"], ["--workers: must be from 1 to 1024, got 0"]),
        (["--condition", "clean"], ["unknown flag --condition (did you mean --conditions?)"]),
    ],
)
def test_mistakes_in_flags_are_told_at_once(
    catalog: Path, tmp_path: Path, capsys: Shown, flags: list[str], expected: list[str]
) -> None:
    names = ["--catalog", str(catalog), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "lookup", *names, *flags]) == 2
    line = error_line(capsys, "evaluate")
    assert all(part in line for part in expected), line
    assert not (tmp_path / "out").exists()


def test_what_is_needed_is_asked_for(capsys: Shown, tmp_path: Path) -> None:
    assert main(["evaluate", "lookup"]) == 2
    line = error_line(capsys, "evaluate")
    for part in ("--catalog: is needed", "--out: is needed"):
        assert part in line
    (tmp_path / "file").write_text("x")
    assert main(["evaluate", "lookup", "--catalog", "c", "--out", str(tmp_path / "file")]) == 2
    assert f"--out: {tmp_path / 'file'} is a file" in error_line(capsys, "evaluate")


def test_a_kind_must_be_named(capsys: Shown) -> None:
    assert main(["evaluate", "bards"]) == 2
    assert "KIND: must be " in (line := error_line(capsys, "evaluate"))
    assert "lookup" in line
    assert "got 'bards'" in line
    assert main(["evaluate", "--help"]) == 0
    assert "hashbeam evaluate lookup" in capsys.readouterr().out
    assert main(["evaluate", "lookup", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--left-out-by" in text
    assert "hashbeam evaluate lookup --catalog music/catalog.csv" in text


def test_inputs_that_cannot_be_used_are_one_line(
    catalog: Path, published: Published, tmp_path: Path, capsys: Shown
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "unknown.txt").write_text("t00\nnobody\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/licences.txt").write_text("CC0")
    other = random_model(tmp_path / "model", seed=5)
    for flags, status, expected in (
        (("--only", str(tmp_path / "no.txt")), 1, "no.txt"),
        (("--only", str(tmp_path / "empty.txt")), 2, "empty.txt: is empty; give a track_id a line"),
        (("--only", str(tmp_path / "unknown.txt")), 2, "no track nobody in the catalogue"),
        (("--same", "nothing"), 2, "no column 'nothing' (--same)"),
        (("--left-out-by", "nothing"), 2, "no column 'nothing' (--left-out-by)"),
        (("--noise", str(tmp_path / "folder")), 1, "no recording could be decoded"),
        (("--index", str(tmp_path / "nowhere")), 1, "there is no such index"),
        (("--index", str(published.index)), 1, "holds no track of"),
        (("--index", str(published.index), "--model", str(other.path)), 1, other.digest[:16]),
        (("--model", "nowhere"), 1, "no model 'nowhere'"),
    ):
        assert evaluate(catalog, tmp_path / "out", *flags) == status
        assert expected in error_line(capsys, "evaluate")
    assert not (tmp_path / "out").exists()
    assert evaluate(tmp_path / "no.csv", tmp_path / "out") == 2
    assert "no.csv does not exist" in error_line(capsys, "evaluate")


def test_music_that_has_gone_since_it_was_indexed_is_one_line(
    published: Published, tmp_path: Path, capsys: Shown
) -> None:
    wav(tmp_path / "silent.wav", np.zeros(4 * RATE, np.float32))
    uris = ["silent.wav", "silent.wav", "nowhere.wav"]
    rows = [{"track_id": f"s{n:02d}", "uri": uri} for n, uri in enumerate(uris)]
    catalog = write_rows(tmp_path / "catalog.csv", rows)
    flags = ("--index", str(published.index), "--queries", "3")
    assert evaluate(catalog, tmp_path / "out", *flags) == 1
    line = error_line(capsys, "evaluate")
    assert f"{catalog}: no query could be cut from its tracks (silent, missing)" in line
