"""``hashbeam index`` end to end in one process: the right rows in the right files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from index_helpers import codes_of, numbers_of, paths, run_index
from tiny_catalog import RATE, tiny_catalog, tune

from hashing.codes import keys
from hashing.encoders import Hasher
from hashing.shards import Shard
from pipelines.cli import main
from pipelines.opened import open_index
from pipelines.versions import open_manifest

N_TRACKS = 10


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalogue of ten tracks; one begins with silence, one is silent within."""
    folder = tmp_path_factory.mktemp("music")
    tiny_catalog(folder, N_TRACKS)
    silence = np.zeros(3 * RATE, np.float32)
    soundfile.write(folder / "3.wav", np.concatenate([silence, tune(3, 3)]), RATE, subtype="FLOAT")
    parts = [tune(5, 3), silence, tune(6, 3)]
    soundfile.write(folder / "5.wav", np.concatenate(parts), RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def index(music: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published index of the ten tracks; not to be changed."""
    out = tmp_path_factory.mktemp("published") / "index"
    assert run_index(music / "catalog.csv", out, model_folder) == 0
    return out


def test_codes_are_those_of_the_hasher(music: Path, index: Path, model_folder: Path) -> None:
    hasher, manifest = Hasher.load(str(model_folder)), open_manifest(str(index))
    ids, snippet, code = codes_of(index, manifest)
    for number in range(N_TRACKS):
        samples, _ = soundfile.read(music / f"{number}.wav", dtype="float32")
        expected = hasher.hash_track([samples])
        rows = [row for row, name in enumerate(ids) if name == f"t{number:02d}"]
        np.testing.assert_array_equal(code[rows], expected.codes)
        np.testing.assert_array_equal(snippet[rows], expected.snippet)
    assert ids == sorted(ids)
    schema = pq.read_schema(paths(index, manifest, "codes")[0])
    assert [str(field.type) for field in schema] == [
        "string",
        "int32",
        "int32",
        "fixed_size_binary[58]",
    ]
    assert schema.metadata[b"hasher_digest"].decode() == hasher.digest
    start_ms = pq.read_table(paths(index, manifest, "codes")[0])["start_ms"].to_pylist()
    assert start_ms[:3] == [0, 500, 1000]


def test_every_posting_of_every_table_has_the_key_of_its_snippet(
    index: Path, model_folder: Path
) -> None:
    hasher, manifest = Hasher.load(str(model_folder)), open_manifest(str(index))
    ids, snippet, code = codes_of(index, manifest)
    numbers = numbers_of(ids, snippet)
    assert numbers[-1] + 1 == sum(manifest.segments[0].part_gids) > len(code)
    assert manifest.key_bits == 12  # the shortest: some sixty snippets need 6 bits
    expected = keys(code, hasher.model.arrays["tables"][:, :12])
    shards = manifest.files.select(kind="tables")
    assert shards.column("table") == list(range(20))
    for entry in shards:
        shard = Shard.open(str(index / entry.path))
        asked = np.unique(expected[:, entry.table])
        first, size = shard.find(asked)
        for key, start, count in zip(asked, first, size, strict=True):
            found = shard.postings[start : start + count]
            np.testing.assert_array_equal(found, numbers[expected[:, entry.table] == key])
        assert size.sum() == len(code) == shard.header.postings


def test_every_code_stands_at_its_number_in_a_matrix(index: Path) -> None:
    """As look-up reads them: across parts, with nothing where a track is silent."""
    searcher, _, manifest = open_index(str(index))
    ids, snippet, code = codes_of(index, manifest)
    numbers = numbers_of(ids, snippet)
    last = sum(manifest.segments[0].part_gids)
    rows, present = searcher.codes.rows(0, np.arange(-2, last + 3))
    assert np.flatnonzero(present).tolist() == (numbers + 2).tolist()
    np.testing.assert_array_equal(rows[present], code)
    assert not rows[~present].any()


def test_tracks_tell_where_they_come_from(music: Path, index: Path) -> None:
    manifest = open_manifest(str(index))
    first, second = (pq.read_table(path) for path in paths(index, manifest, "tracks"))
    assert (first.num_rows, second.num_rows) == (8, 2)  # eight tracks a part
    assert second["ordinal"].to_pylist() == [8, 9]
    row = second.to_pylist()[1]
    path = music / "9.wav"
    assert (row["track_id"], row["uri"], row["title"]) == ("t09", str(path), "Title 9")
    assert (row["size"], row["mtime"]) == (path.stat().st_size, path.stat().st_mtime)
    assert row["duration_s"] == pytest.approx(3.0, abs=0.05)
    (segment,) = manifest.segments
    snippets = [sum(table["snippets"].to_pylist()) for table in (first, second)]
    gids = [sum(table["gids"].to_pylist()) for table in (first, second)]
    assert segment.part_gids == gids
    assert (segment.tracks, segment.snippets, segment.part_tracks) == (10, sum(snippets), [8, 2])


def test_the_summary_counts_what_was_done(
    music: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    assert run_index(music / "catalog.csv", out, model_folder, "--json") == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert captured.err == ""
    assert summary == json.loads((out / "versions/000001/run.json").read_text())
    assert (summary["tracks"], summary["tracks_indexed"], summary["tracks_failed"]) == (10, 10, 0)
    assert summary["audio_s"] == pytest.approx(39, abs=0.5)
    assert summary["postings"] == 20 * summary["snippets"]
    assert 0 < summary["startup_s"] < summary["wall_s"]
    assert summary["hash_cpu_s"] > 0
    assert 0 < summary["entropy_bits"] <= np.log2(summary["snippets"])
    sizes = {
        folder.name: sum(path.stat().st_size for path in folder.iterdir())
        for folder in (out / "versions/000001").iterdir()
        if folder.is_dir()
    }
    compared = sizes["codes"] + sizes["matrices"]
    assert (summary["compared"], summary["compared_bytes"]) == ("codes", compared)
    assert summary["index_bytes"] == sum(sizes.values()) > compared
    # Codes are there once: a matrix has a bit for each number, and where the codes lie.
    assert sizes["matrices"] < 2 * (32 + 16 + summary["snippets"])
    assert not (out / "versions/000001/work").exists()
    assert not (out / "LOCK").exists()


def test_an_index_may_be_written_into_an_object_store(
    music: Path,
    index: Path,
    model_folder: Path,
    memory_objects: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same files but for names, and nothing else is left there."""
    names = ["--catalog", str(music / "catalog.csv"), "--model", str(model_folder)]
    assert main(["index", *names, "--out", "mem://b/index", "--workers", "1"]) == 0
    assert main(["verify", "mem://b/index"]) == 0
    here, there = open_manifest(str(index)), open_manifest("mem://b/index")
    for kind in ("codes", "matrices", "tables"):
        one, other = (m.files.select(kind=kind).column("sha256") for m in (here, there))
        assert one == other
    expected = {"CURRENT", "versions/000001/manifest.json", "versions/000001/run.json"}
    expected |= set(there.files.column("path"))
    assert {name.removeprefix("mem://b/index/") for name in memory_objects} == expected
