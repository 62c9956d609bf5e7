"""Tracks that fail: rows with reasons, the rest indexed, and a limit to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from index_helpers import codes_of, error_line, paths, run_index
from tiny_catalog import RATE, tiny_catalog, tune, write_rows

from pipelines.versions import open_manifest

pytestmark = pytest.mark.usefixtures("one_index_decoder")


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalogue of four tracks, and what is no track."""
    folder = tmp_path_factory.mktemp("music")
    tiny_catalog(folder, 4)
    (folder / "folder.wav").mkdir()
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no audio at all, whatever its name says")
    soundfile.write(folder / "silent.wav", np.zeros(3 * RATE), RATE)
    soundfile.write(folder / "short.wav", tune(1, 0.2), RATE)
    return folder


def catalog_of(folder: Path, names: list[str]) -> Path:
    rows = [{"track_id": f"x{i:02d}", "uri": name} for i, name in enumerate(names)]
    return write_rows(folder / "mixed.csv", rows)


BROKEN = {
    "nowhere.wav": ("decode", "missing"),
    "folder.wav": ("decode", "not-a-file"),
    "empty.wav": ("decode", "empty"),
    "text.wav": ("decode", "not-audio"),
    "silent.wav": ("hash", "silent"),
    "short.wav": ("hash", "too-short"),
}


def test_broken_tracks_are_rows_of_failures_and_the_rest_is_published(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = catalog_of(music, ["0.wav", *BROKEN, "1.wav", "2.wav", "3.wav"])
    out = tmp_path / "index"
    assert run_index(catalog, out, model_folder, "--max-failures", "0.6") == 0
    text = capsys.readouterr().out
    assert "6 tracks failed (" in text
    assert "1 too-short" in text
    manifest = open_manifest(str(out))
    rows = [row for p in paths(out, manifest, "failures") for row in pq.read_table(p).to_pylist()]
    found = {Path(row["uri"]).name: (row["stage"], row["error"]) for row in rows}
    assert found == BROKEN
    assert all(row["message"] for row in rows)
    assert manifest.counters["tracks_failed"] == 6
    ids, _, _ = codes_of(out, manifest)
    assert sorted(set(ids)) == ["x00", "x07", "x08", "x09"]
    # Ordinals are ranks in the catalogue, whoever failed.
    ordinals = [pq.read_table(p)["ordinal"].to_pylist() for p in paths(out, manifest, "tracks")]
    assert ordinals == [[0, 7], [8, 9]]


def test_too_many_failures_publish_nothing_and_lose_nothing(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = catalog_of(music, ["0.wav", "late.wav", "2.wav", "3.wav"])
    out = tmp_path / "index"
    assert run_index(catalog, out, model_folder) == 1
    line = error_line(capsys)
    assert "1 of 4 tracks failed (1 missing), more than --max-failures 0.05 allows" in line
    assert "--retry-failed" in line
    assert not (out / "CURRENT").exists()
    (codes,) = (out / "versions/000001/codes").iterdir()
    (failures,) = (out / "versions/000001/failures").iterdir()
    assert str(failures.parent) in line
    # Allowed now: goes on from the same codes.
    kept = tmp_path / "kept"
    shutil.copytree(out, kept)
    assert run_index(catalog, out, model_folder, "--max-failures", "0.5") == 0
    manifest = open_manifest(str(out))
    assert paths(out, manifest, "codes") == [codes]
    assert json.loads((out / "versions/000001/run.json").read_text())["parts_resumed"] == 1
    # Mended now: the part is hashed again.
    shutil.copy(music / "1.wav", music / "late.wav")
    assert run_index(catalog, kept, model_folder, "--retry-failed") == 0
    assert open_manifest(str(kept)).counters["tracks_failed"] == 0


def test_a_catalogue_of_failures_only_is_exit_1(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = catalog_of(music, ["text.wav", "nowhere.wav"])
    assert run_index(catalog, tmp_path / "index", model_folder, "--max-failures", "1") == 1
    assert "2 of 2 tracks failed" in error_line(capsys)
    assert not (tmp_path / "index/CURRENT").exists()


def test_long_tracks_fail_unless_allowed(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(music / "long.wav", tune(1, 4.0), RATE)  # 0.00111 h; the others 0.00083 h
    catalog = catalog_of(music, ["0.wav", "long.wav"])
    assert run_index(catalog, tmp_path / "one", model_folder, "--max-track-hours", "0.001") == 1
    assert "1 of 2 tracks failed (1 too-long)" in error_line(capsys)
    assert run_index(catalog, tmp_path / "two", model_folder, "--max-track-hours", "0.002") == 0
