"""``hashbeam index --keep-embeddings``: what is kept, what is compared, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import codes_of, error_line, full_disk_for, numbers_of, paths, run_index
from model_fixture import learned_model
from published_index import wav
from tiny_catalog import RATE, write_rows

from hashing.encoders import Hasher
from hashing.errors import IndexFormatError
from hashing.matrix import CodeMatrix
from hashing.search import Match
from hashing.synthesis import render_track
from pipelines.cli import main
from pipelines.opened import open_index
from pipelines.versions import open_manifest

pytestmark = pytest.mark.usefixtures("one_index_decoder")

TRACKS, SECONDS = 9, 6.0  # two parts
DIMENSIONS = 64

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that stands on an encoder."""
    folder = tmp_path_factory.mktemp("learned") / "model"
    learned_model(folder, dimensions=DIMENSIONS)
    return folder


@pytest.fixture(scope="module")
def songs() -> list[np.ndarray]:
    """Rendered music; the second track is silent in the middle."""
    songs = [render_track(number, SECONDS, RATE) for number in range(TRACKS)]
    songs[1][2 * RATE : 4 * RATE] = 0.0
    return songs


@pytest.fixture(scope="module")
def catalog(songs: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of it."""
    folder = tmp_path_factory.mktemp("songs")
    rows = []
    for number, samples in enumerate(songs):
        wav(folder / f"{number}.wav", samples)
        rows.append({"track_id": f"t{number}", "uri": f"{number}.wav"})
    return write_rows(folder / "catalog.csv", rows)


@pytest.fixture(scope="module")
def index(catalog: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with its embeddings; not to be changed."""
    out = tmp_path_factory.mktemp("kept") / "index"
    assert run_index(catalog, out, model, "--keep-embeddings") == 0
    return out


@pytest.fixture(scope="module")
def plain(catalog: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same index without; not to be changed."""
    out = tmp_path_factory.mktemp("plain") / "index"
    assert run_index(catalog, out, model) == 0
    return out


def embeddings_of(songs: list[np.ndarray], model: Path) -> np.ndarray:
    """Of all snippets of all tracks, as they are kept."""
    hasher = Hasher.load(str(model))
    tracks = [hasher.hash_track([samples], embeddings=True) for samples in songs]
    return np.concatenate([track.embeddings for track in tracks])


def test_embeddings_are_rows_beside_the_codes(
    index: Path, model: Path, songs: list[np.ndarray]
) -> None:
    manifest = open_manifest(str(index))
    tables = [pq.read_table(path) for path in paths(index, manifest, "embeddings")]
    assert len(tables) == 2
    for table in tables:
        assert {field.name: str(field.type) for field in table.schema} == {
            "track_id": "string",
            "snippet": "int32",
            "start_ms": "int32",
            "embedding": f"fixed_size_list<element: halffloat>[{DIMENSIONS}]",
        }
        assert table.schema.metadata[b"hasher_digest"].decode() == manifest.model["digest"]
    ids, snippet, _ = codes_of(index, manifest)
    assert [name for table in tables for name in table["track_id"].to_pylist()] == ids
    numbers = np.concatenate([table["snippet"].to_numpy() for table in tables])
    np.testing.assert_array_equal(numbers, snippet)
    starts = np.concatenate([table["start_ms"].to_numpy() for table in tables])
    np.testing.assert_array_equal(starts, 500 * snippet)
    kept = np.array([row for table in tables for row in table["embedding"].to_pylist()])
    np.testing.assert_array_equal(kept, embeddings_of(songs, model))
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1.0, atol=2e-3)  # 11 bits of fraction


def test_the_matrices_hold_the_embeddings(
    index: Path, model: Path, songs: list[np.ndarray]
) -> None:
    searcher, _, manifest = open_index(str(index))
    assert manifest.compared == "embeddings"
    ids, snippet, _ = codes_of(index, manifest)
    numbers = numbers_of(ids, snippet)
    rows, present = searcher.codes.rows(0, np.arange(sum(manifest.segments[0].part_gids)))
    assert np.flatnonzero(present).tolist() == numbers.tolist()
    np.testing.assert_array_equal(rows[present].view("<f2"), embeddings_of(songs, model))


def test_codes_are_those_of_the_kept_embeddings_and_hardly_others_without_them(
    index: Path, plain: Path, model: Path, songs: list[np.ndarray]
) -> None:
    one, other = open_manifest(str(index)), open_manifest(str(plain))
    (ids, snippet, codes), (same_ids, same_snippet, others) = (
        codes_of(index, one), codes_of(plain, other)
    )  # fmt: skip
    assert ids == same_ids
    np.testing.assert_array_equal(snippet, same_snippet)
    hasher, vectors = Hasher.load(str(model)), embeddings_of(songs, model)
    owner = np.array(ids)
    for name in sorted(set(ids)):
        of_track = hasher.codes_of(vectors[owner == name])
        np.testing.assert_array_equal(codes[owner == name], of_track)
    # Half precision moves what lies on a border to its other side.
    assert (codes != others).mean() < 0.005
    assert not paths(plain, other, "embeddings")
    assert other.compared == "codes"


def best(index: str, samples: np.ndarray) -> Match:
    searcher, _, _ = open_index(index)
    return searcher.search([searcher.hasher.hash_query([samples])])[0][0]


def test_queries_are_compared_with_embeddings(
    index: Path, plain: Path, songs: list[np.ndarray]
) -> None:
    """An excerpt from the index's own grid is its own embedding, but for half precision."""
    query = songs[8][2 * RATE : 4 * RATE]
    kept, rounded = best(str(index), query), best(str(plain), query)
    assert (kept.ordinal, rounded.ordinal) == (8, 8)
    assert kept.offset_s == rounded.offset_s == 2.0
    assert kept.evidence.similarity == pytest.approx(1.0, abs=1e-3)
    # A byte for two numbers costs more.
    assert 0.9 < rounded.evidence.similarity < 0.999


def test_an_index_in_an_object_store_answers_the_same(
    index: Path, songs: list[np.ndarray], memory_objects: dict[str, bytes]
) -> None:
    for path in index.rglob("*"):
        if path.is_file():
            memory_objects[f"mem://b/kept/{path.relative_to(index)}"] = path.read_bytes()
    query = songs[3][RATE : 3 * RATE]
    assert best("mem://b/kept", query) == best(str(index), query)


def test_what_is_kept_is_told(index: Path, capsys: Shown) -> None:
    assert main(["info", str(index), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["compared"] == "embeddings"
    assert facts["kinds"]["embeddings"]["rows"] == facts["snippets"]
    # The silence of the second track has numbers.
    assert facts["kinds"]["matrices"]["rows"] > facts["snippets"]
    assert main(["info", str(index)]) == 0
    text = capsys.readouterr().out
    assert "queries are compared with embeddings" in text
    assert "  embeddings: 2 files, " in text
    summary = json.loads((index / "versions/000001/run.json").read_text())
    assert summary["compared"] == "embeddings"
    sizes = {kind: counts["bytes"] for kind, counts in facts["kinds"].items()}
    assert summary["compared_bytes"] == sizes["matrices"] + sizes["embeddings"]
    assert summary["index_bytes"] == sum(sizes.values())


def test_verify_reads_them_all(index: Path, plain: Path, tmp_path: Path, capsys: Shown) -> None:
    """Also a matrix of codes where embeddings should be, though the checksum is right."""
    assert main(["verify", str(index)]) == 0
    shutil.copytree(index, tmp_path / "index")
    manifest = open_manifest(str(tmp_path / "index"))
    path = paths(tmp_path / "index", manifest, "embeddings")[0]
    path.unlink()
    where = tmp_path / "index/versions/000001/manifest.json"
    values = json.loads(where.read_text())
    codes = open_manifest(str(plain)).files.select(kind="matrices")[1]
    row = [i for i, kind in enumerate(values["files"]["kind"]) if kind == "matrices"][1]
    values["files"]["bytes"][row] = codes.bytes
    values["files"]["sha256"][row] = codes.sha256
    where.write_text(json.dumps(values))
    matrix = paths(tmp_path / "index", manifest, "matrices")[1]
    shutil.copy(plain / codes.path, matrix)
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "index"), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 3
    missing, other, alone = sorted(problems)
    assert missing == f"{path} is missing"
    assert other == f"{matrix} has rows of 32 bytes, but embeddings have 128"
    assert alone.startswith(f"code matrix {path} cannot be opened (No such file")


def test_a_matrix_of_another_width_is_named_by_look_up(
    index: Path, plain: Path, songs: list[np.ndarray], tmp_path: Path
) -> None:
    shutil.copytree(index, tmp_path / "index")
    path = paths(tmp_path / "index", open_manifest(str(index)), "matrices")[0]
    shutil.copy(paths(plain, open_manifest(str(plain)), "matrices")[0], path)
    shard = paths(tmp_path / "index", open_manifest(str(index)), "embeddings")[0]
    rows = CodeMatrix.open(str(path), str(shard)).n
    with pytest.raises(IndexFormatError) as error:
        best(str(tmp_path / "index"), songs[0][: 2 * RATE])
    expected = f"{path} holds {rows} rows of 32 bytes, not {rows} of 128; run `hashbeam verify`"
    assert expected in str(error.value)


def test_a_model_without_embeddings_is_refused_before_any_work(
    catalog: Path, model_folder: Path, tmp_path: Path, capsys: Shown
) -> None:
    out = tmp_path / "index"
    assert run_index(catalog, out, model_folder, "--keep-embeddings") == 1
    line = error_line(capsys)
    assert f"--keep-embeddings: model {model_folder.name} has no embeddings; leave the" in line
    assert not out.exists()


def test_a_run_goes_on_with_the_flag_that_it_began_with(
    catalog: Path, model: Path, index: Path, tmp_path: Path, capsys: Shown
) -> None:
    """It had stopped because the disk was full."""
    out = tmp_path / "index"
    with full_disk_for("/embeddings/", "part-00001"):
        assert run_index(catalog, out, model, "--keep-embeddings") == 1
    line = error_line(capsys)
    assert f"cannot write {out}/versions/000001/embeddings/part-00001" in line
    assert "No space left on device; free space and run the same command again" in line
    assert run_index(catalog, out, model) == 1
    assert "other options (keep_embeddings=True, not keep_embeddings=False)" in error_line(capsys)
    assert run_index(catalog, out, model, "--keep-embeddings") == 0
    capsys.readouterr()
    kinds = ("matrices", "embeddings", "tables")
    one, other = ([m.files.select(kind=k).column("sha256") for k in kinds]
                  for m in map(open_manifest, (str(out), str(index))))  # fmt: skip
    assert one == other
    assert main(["verify", str(out)]) == 0
