"""What ``hashbeam index`` refuses, and how a run that was stopped goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from index_helpers import assert_same_content, error_line, full_disk_for, paths, run_index
from model_fixture import random_model
from tiny_catalog import tiny_catalog, write_rows

from hashing.encoders import Hasher
from hashing.shards import Shard
from pipelines.lock import IndexLock
from pipelines.versions import open_manifest

pytestmark = pytest.mark.usefixtures("one_index_decoder")

N_TRACKS = 10


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalogue of ten tracks: two parts."""
    folder = tmp_path_factory.mktemp("music")
    tiny_catalog(folder, N_TRACKS)
    return folder


@pytest.fixture(scope="module")
def index(music: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published index of the ten tracks; not to be changed."""
    out = tmp_path_factory.mktemp("published") / "index"
    assert run_index(music / "catalog.csv", out, model_folder) == 0
    return out


def test_an_output_that_is_in_use_is_refused_and_left_alone(
    music: Path, index: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.txt").write_text("important")
    file = tmp_path / "file"
    file.write_text("important")
    for out, expected in (
        (index, "holds a published index (version 000001); bring it up to date with `hashbeam re"),
        (used, "is not empty (it holds thesis.txt)"),
        (file, "name another"),
    ):
        assert run_index(music / "catalog.csv", out, model_folder) == 1
        line = error_line(capsys)
        assert str(out) in line
        assert expected in line
    assert [path.name for path in used.iterdir()] == ["thesis.txt"]
    assert file.read_text() == "important"


@pytest.mark.parametrize(
    ("folder", "name", "parts_kept"),
    [
        ("work", "catalog", 0),
        ("codes", "part-00001", 1),
        ("matrices", "part-00001", 1),
        ("tables", "s000-t07", 2),
    ],
)
def test_a_full_disk_stops_with_one_line_and_the_run_goes_on_later(
    music: Path,
    index: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    name: str,
    parts_kept: int,
) -> None:
    out = tmp_path / "index"
    with full_disk_for(f"/{folder}/", name):
        assert run_index(music / "catalog.csv", out, model_folder) == 1
    line = error_line(capsys)
    assert f"cannot write {out}/versions/000001/{folder}/{name}" in line
    assert "No space left on device; free space and run the same command again" in line
    assert not (out / "CURRENT").exists()
    # A part's matrix comes after its codes, so that it tells of finished parts.
    kept = {path.name for path in (out / "versions/000001").glob("matrices/*.hbm")}
    assert len(kept) == parts_kept
    assert run_index(music / "catalog.csv", out, model_folder) == 0
    manifest = open_manifest(str(out))
    assert kept <= {path.name for path in paths(out, manifest, "matrices")}
    assert_same_content(out, index)


def test_two_runs_at_once_are_refused(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    with IndexLock(str(out)):
        assert run_index(music / "catalog.csv", out, model_folder) == 1
        line = error_line(capsys)
        assert f"{out} is being written by process {os.getpid()}" in line
    assert run_index(music / "catalog.csv", out, model_folder) == 0


@pytest.fixture
def unfinished(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Path:
    """A run that stopped before its tables."""
    out = tmp_path / "unfinished"
    with full_disk_for("/tables/"):
        assert run_index(music / "catalog.csv", out, model_folder) == 1
    capsys.readouterr()
    return out


def test_another_model_catalogue_or_option_does_not_continue_a_run(
    music: Path,
    model_folder: Path,
    unfinished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = random_model(tmp_path / "other", seed=2)
    assert run_index(music / "catalog.csv", unfinished, tmp_path / "other") == 1
    line = error_line(capsys)
    assert other.digest[:12] in line
    assert Hasher.load(str(model_folder)).digest[:12] in line
    fewer = write_rows(tmp_path / "fewer.csv", [{"track_id": "a", "uri": str(music / "0.wav")}])
    assert run_index(fewer, unfinished, model_folder) == 1
    assert "another catalogue" in error_line(capsys)
    assert run_index(music / "catalog.csv", unfinished, model_folder, "--max-track-hours=1") == 1
    assert "max_track_hours=2.0, not max_track_hours=1.0" in error_line(capsys)
    assert run_index(music / "catalog.csv", unfinished, model_folder) == 0


def test_an_unfinished_run_of_another_format_is_refused(
    music: Path, model_folder: Path, unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = unfinished / "versions/000001/work/plan.json"
    plan.write_text(plan.read_text().replace('"format_version": 3', '"format_version": 9'))
    assert run_index(music / "catalog.csv", unfinished, model_folder) == 1
    assert "format version 9, this hashbeam reads 3" in error_line(capsys)


def test_another_key_length_keeps_the_codes_and_builds_the_tables_anew(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    with full_disk_for("/tables/", "s000-t07"):
        assert run_index(music / "catalog.csv", out, model_folder) == 1
    assert run_index(music / "catalog.csv", out, model_folder, "--key-bits", "14") == 0
    manifest = open_manifest(str(out))
    assert manifest.key_bits == 14
    headers = {Shard.open(str(p)).header.key_bits for p in paths(out, manifest, "tables")}
    assert headers == {14}
    assert json.loads((out / "versions/000001/run.json").read_text())["parts_resumed"] == 2


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--model", "no/such/model"], "no model 'no/such/model'"),
        (["--key-bits", "30"], "has keys of 1 to 24 bits, not 30"),
    ],
)
def test_a_model_that_cannot_do_it_is_named_before_any_work(
    music: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    expected: str,
) -> None:
    assert run_index(music / "catalog.csv", tmp_path / "index", model_folder, *flags) == 1
    assert expected in error_line(capsys)
    assert not (tmp_path / "index").exists()
