"""``hashbeam info`` and ``hashbeam verify``: what they say of a sound index and of damaged ones."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import error_line, paths, run_index
from tiny_catalog import tiny_catalog

from hashing.matrix import CodeMatrix, write_matrix
from pipelines.cli import main
from pipelines.versions import open_manifest


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """An index of nine tracks; not to be changed."""
    folder = tmp_path_factory.mktemp("inspect")
    catalog = tiny_catalog(folder / "music", 9, files=2)
    assert run_index(catalog, folder / "index", model_folder) == 0
    return folder / "index"


@pytest.fixture
def index(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy to be damaged."""
    shutil.copytree(published, tmp_path / "index")
    capsys.readouterr()
    return tmp_path / "index"


def test_info_tells_what_an_index_holds(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(index), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["version"], facts["parent"], facts["n_tables"]) == ("000001", None, 20)
    assert (facts["tracks"], facts["tracks_hashed"], facts["tracks_failed"]) == (9, 9, 0)
    assert facts["kinds"]["codes"]["rows"] == facts["snippets"]
    assert facts["kinds"]["tables"]["rows"] == 20 * facts["snippets"]
    for kind in ("codes", "matrices"):
        sizes = sum(path.stat().st_size for path in index.glob(f"versions/000001/{kind}/*"))
        assert facts["kinds"][kind]["bytes"] == sizes
    # Nothing is silent here: every number has a code.
    assert facts["kinds"]["matrices"]["rows"] == facts["snippets"]
    assert facts["compared"] == "codes"
    assert main(["info", str(index)]) == 0
    text = capsys.readouterr().out
    assert "9 of 9 tracks" in text
    assert "20 tables of 12 bits" in text
    assert "queries are compared with codes" in text
    assert "  matrices: 2 files, " in text


def test_a_sound_index_is_whole(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(index), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert found["files"] == 2 + 2 + 2 + 20
    assert main(["verify", str(index)]) == 0
    assert "is whole" in capsys.readouterr().out


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["codes", "tracks", "tables", "matrices"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "is truncated: "),
        (lambda path: flip(path, -1), "has SHA-256 "),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "is too long: "),
    ],
)
def test_every_damage_is_found_and_named(
    index: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    damage: object,
    expected: str,
) -> None:
    path = paths(index, open_manifest(str(index)), kind)[1]
    damage(path)
    assert main(["verify", str(index), "--json"]) == 1
    captured = capsys.readouterr()
    problem, *others = json.loads(captured.out)["problems"]
    assert problem.startswith(f"{path} {expected}")
    # A matrix is nothing without the codes beside it.
    beside = f"code matrix {path} cannot be opened (No such file"
    lost = kind == "codes" and not path.exists()
    assert [other.startswith(beside) for other in others] == [True] * lost
    assert captured.err.count("\n") == 1
    assert "build the index anew" in captured.err


def test_all_problems_are_listed(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = open_manifest(str(index))
    for path in paths(index, manifest, "tables")[3:6]:
        path.unlink()
    assert main(["verify", str(index)]) == 1
    assert capsys.readouterr().out.count("is missing") == 3


def edit_manifest(index: Path, **changes: object) -> None:
    path = index / "versions/000001/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_file(index: Path, kind: str, number: int, data: bytes) -> Path:
    """Another content of a file, of which the manifest tells size and checksum."""
    manifest = open_manifest(str(index))
    path = paths(index, manifest, kind)[number]
    path.write_bytes(data)
    files = manifest.files.to_json()
    row = files["path"].index(str(path.relative_to(index)))
    files["bytes"][row], files["sha256"][row] = len(data), hashlib.sha256(data).hexdigest()
    edit_manifest(index, files=files)
    return path


def matrix_bytes(width: int, place: int, numbers: range, n: int) -> bytes:
    file = io.BytesIO()
    write_matrix(file, width, [(len(numbers), place)], np.array(numbers), n)
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda at, n: matrix_bytes(57, at, range(n), n), "has rows of 57 bytes, "),
        (lambda at, n: matrix_bytes(58, at + 58, range(1, n), n), " snippets, expected "),
        (lambda at, n: matrix_bytes(58, at, range(n), n + 1), " rows, expected "),
        (lambda at, n: matrix_bytes(58, at + 1, range(n), n), " finds other rows in "),
        (lambda at, n: matrix_bytes(58, 10**9, range(n), n), "does not fit the shard beside it"),
        (lambda at, n: matrix_bytes(58, at, range(n), n)[:-1], "is truncated: "),
        (lambda at, n: b"HBMATRIX" + bytes(500), "matrix format version 0"),
        (lambda at, n: b"PAR1" + bytes(500), "is not a code matrix"),
        (lambda at, n: b"", "is truncated: "),
    ],
)
def test_a_matrix_that_does_not_fit_the_codes_is_found(
    index: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[int, int], bytes],
    expected: str,
) -> None:
    """Though size and checksum are those that the manifest says."""
    path = paths(index, open_manifest(str(index)), "matrices")[1]
    shard = paths(index, open_manifest(str(index)), "codes")[1]
    whole = CodeMatrix.open(str(path), str(shard))
    rows, present = whole.rows(np.arange(whole.n))
    assert present.all()
    place = shard.read_bytes().index(rows.tobytes())
    path = replace_file(index, "matrices", 1, change(place, whole.n))
    assert main(["verify", str(index), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert expected in problems[0]


def test_codes_that_were_cut_short_are_named_with_their_matrix(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = open_manifest(str(index))
    codes, matrix = (paths(index, manifest, kind)[1] for kind in ("codes", "matrices"))
    data = codes.read_bytes()
    codes.write_bytes(data[: len(data) // 10])
    assert main(["verify", str(index), "--json"]) == 1
    cut, lost = json.loads(capsys.readouterr().out)["problems"]
    assert cut.startswith(f"{codes} is truncated: ")
    assert lost.startswith(f"{matrix} does not fit the shard beside it, which has ")


def test_a_matrix_without_codes_is_found(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest has lost them."""
    manifest = open_manifest(str(index))
    files = manifest.files.to_json()
    row = files["kind"].index("codes")
    edit_manifest(index, files={name: c[:row] + c[row + 1 :] for name, c in files.items()})
    assert main(["verify", str(index), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    matrix = paths(index, manifest, "matrices")[0]
    assert f"{matrix} has no codes beside it" in problems
    assert any(problem.startswith("segment 0: codes of ") for problem in problems)


def test_a_part_without_a_matrix_is_found(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = open_manifest(str(index))
    files = manifest.files.to_json()
    row = files["kind"].index("matrices")
    rows = files["rows"][row]
    edit_manifest(index, files={name: c[:row] + c[row + 1 :] for name, c in files.items()})
    assert main(["verify", str(index), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    total = manifest.segments[0].snippets
    expected = f"matrices of {total - rows} rows in the manifest, expected {total}"
    assert problem == f"segment 0: {expected}"


@pytest.mark.parametrize("verb", ["info", "verify"])
def test_another_format_version_is_refused(
    index: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    edit_manifest(index, format_version=9)
    assert main([verb, str(index)]) == 1
    line = error_line(capsys, verb)
    assert f"{index}/versions/000001/manifest.json has format version 9" in line
    assert "this hashbeam reads 3" in line


def test_files_of_another_model_are_named(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_manifest(index, model={"name": "other", "digest": "0" * 64})
    assert main(["verify", str(index), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 4  # two files of codes, two of tracks
    assert all(
        "was made by model" in text and "the index by 000000000000" in text for text in problems
    )


def test_tables_that_do_not_fit_the_codes_are_found(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((index / "versions/000001/manifest.json").read_text())
    keep = [row for row, table in enumerate(manifest["files"]["table"]) if table != 4]
    files = {name: [column[row] for row in keep] for name, column in manifest["files"].items()}
    edit_manifest(index, files=files)
    assert main(["verify", str(index), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert problems[0] == "segment 0, table 4: the shards do not cover all keys: []"
    edit_manifest(index, files=manifest["files"], n_tables=21)
    assert main(["verify", str(index), "--json"]) == 1
    assert "table 20" in json.loads(capsys.readouterr().out)["problems"][0]


@pytest.mark.parametrize("verb", ["info", "verify"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [("nowhere", "there is no such index"), ("file", "is a file"), ("folder", "is no index")],
)
def test_what_is_no_index_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str, expected: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    assert main([verb, str(tmp_path / name)]) == 1
    assert expected in error_line(capsys, verb)


def test_tracks_keep_the_columns_of_the_catalogue(index: Path) -> None:
    names = pq.read_schema(paths(index, open_manifest(str(index)), "tracks")[0]).names
    own = ["ordinal", "track_id", "uri", "snippets", "gids", "duration_s", "etag", "size", "mtime"]
    assert names == [*own, "content", "title"]
