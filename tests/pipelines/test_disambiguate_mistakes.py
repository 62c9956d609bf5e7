"""Mistakes in the command line, the catalogue and the folders: one clear line for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from disambiguation_music import failures, pitch_encoder, run, tracks, write_tones
from index_helpers import error_line

from pipelines.cli import main

Shown = pytest.CaptureFixture[str]


def refused(status: int, capsys: Shown, *expected: str) -> None:
    line = error_line(capsys, "disambiguate")
    assert status in (1, 2), line
    assert all(part in line for part in expected), line


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = tracks("Nina", [300, 305, 310], who="")
    return write_tones(tmp_path_factory.mktemp("mistakes"), rows)


def test_mistakes_in_flags_are_told_at_once(capsys: Shown) -> None:
    flags = ["--min-tracks", "0", "--cut", "none", "--rule-off", "caps", "--min-confidence", "2"]
    status = main(["disambiguate", *flags, "--name", " "])
    refused(
        status,
        capsys,
        "--catalog: is needed",
        "--out: is needed",
        "--min-tracks: must be 1 or more, got 0",
        "--cut: must be a number, got 'none'",
        "--rule-off: no rule 'caps', use one of featured, case",
        "--min-confidence: must be from 0 to 1, got 2",
        "--name: a name is empty",
    )
    assert status == 2


def test_help_teaches(capsys: Shown) -> None:
    assert main(["disambiguate", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("clusters.parquet", "--review", "too-few-tracks", "duets"))
    assert main(["--help"]) == 0
    assert "disambiguate" in capsys.readouterr().out


def test_a_catalogue_without_artists_is_one_line(tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "c.csv").write_text("track_id,uri\na,a.wav\n")
    status = run(tmp_path / "c.csv", tmp_path / "out")
    refused(status, capsys, str(tmp_path / "c.csv"), "column artist_name is missing")
    (tmp_path / "c.csv").write_text("track_id,uri,artist_name\na,a.wav,\nb,b.wav, ; \n")
    status = run(tmp_path / "c.csv", tmp_path / "out")
    refused(status, capsys, "column artist_name is empty in every row")
    assert status == 2
    assert not (tmp_path / "out").exists()


def test_a_truth_column_that_is_not_there_or_empty_is_one_line(
    catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    status = run(catalog, tmp_path / "out", "--truth", "which")
    refused(status, capsys, "--truth: column which is missing, found", "artist_name")
    status = run(catalog, tmp_path / "out", "--truth", "who")
    refused(status, capsys, "column who is empty in every row")
    assert not (tmp_path / "out").exists()


def test_a_name_that_no_track_has_is_one_line(catalog: Path, tmp_path: Path, capsys: Shown) -> None:
    status = run(catalog, tmp_path / "out", "--name", "Ninna", "Owls")
    refused(status, capsys, "no track of the catalogue is by 'Ninna', 'Owls'", "mean 'Nina'?")


def test_a_model_that_is_not_there_is_one_line(
    catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    status = run(catalog, tmp_path / "out", "--model", str(tmp_path / "none"))
    refused(status, capsys, str(tmp_path / "none"))
    assert not (tmp_path / "out").exists()


def test_folders_of_something_else_are_left_alone(
    catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pitch_encoder():
        status = run(catalog, tmp_path / "full")
        refused(status, capsys, "is not empty (it holds diary.txt)", "name another folder")
        refused(run(catalog, tmp_path / "file"), capsys, "is a file")
        status = run(catalog, tmp_path / "out", "--previous", str(tmp_path / "full"))
        refused(status, capsys, "--previous", "holds no finished run")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["diary.txt"]


def test_too_many_failures_write_no_results(tmp_path: Path, capsys: Shown) -> None:
    catalog = write_tones(tmp_path, tracks("Nina", [300, None, None, 305]))
    with pitch_encoder() as encoder:
        assert run(catalog, tmp_path / "out", "--max-failures", "0.4") == 1
        refused(1, capsys, "2 of 4 tracks failed (2 missing)", "--max-failures 0.4")
        assert set(failures(tmp_path / "out")) == {"nina01", "nina02"}
        assert not (tmp_path / "out" / "clusters.parquet").exists()
        encoder.heard.clear()
        assert run(catalog, tmp_path / "out", "--max-failures", "0.5") == 0
        assert encoder.heard == ["nina01", "nina02"]


def test_an_opt_out_file_that_cannot_be_read_is_one_line(
    catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    status = run(catalog, tmp_path / "out", "--opt-out-file", str(tmp_path))
    refused(status, capsys, "--opt-out-file", "is no file")
    (tmp_path / "n").write_bytes(b"\xff\xff")
    status = run(catalog, tmp_path / "out", "--opt-out-file", str(tmp_path / "n"))
    refused(status, capsys, "is no text in UTF-8")


def test_damaged_decisions_are_never_lost_in_silence(
    catalog: Path, tmp_path: Path, capsys: Shown
) -> None:
    with pitch_encoder():
        assert run(catalog, tmp_path / "out") == 0
        (tmp_path / "out" / "decisions.json").write_text('{"tracks": ')
        capsys.readouterr()
        refused(run(catalog, tmp_path / "out"), capsys, "decisions.json is damaged")


def test_a_cache_cut_short_is_heard_again(catalog: Path, tmp_path: Path) -> None:
    with pitch_encoder():
        assert run(catalog, tmp_path / "out") == 0
    (path,) = (tmp_path / "out" / "embeddings").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    with pitch_encoder() as encoder:
        assert run(catalog, tmp_path / "out") == 0
    assert len(encoder.heard) == 3
    assert path.name not in [one.name for one in (tmp_path / "out" / "embeddings").iterdir()]


def test_names_that_a_page_must_not_obey_are_carried_through(tmp_path: Path) -> None:
    names = ['<script>alert("x")</script>', "a]b & 'c'", "فرقة", "\u202eevil"]
    rows = [
        {"track_id": f"t{place}{number}", "artist_name": name, "pitch": pitch}
        for place, name in enumerate(names)
        for number, pitch in enumerate([300, 305, 800, 805])
    ]
    catalog = write_tones(tmp_path, rows)
    with pitch_encoder():
        assert run(catalog, tmp_path / "out") == 0
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["groups"] == 4
