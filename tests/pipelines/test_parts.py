"""Hashing one part without Beam: files, counters, and what becomes of tracks that fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.decoder import EndedError
from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError
from hashing.matrix import CodeMatrix
from pipelines.parts import HashJob, hash_part, tracks_per_part, write_parts
from pipelines.runs import Plan, Receipt, Run

EMBEDDINGS = np.array([[0.6, 0.8], [-1.0, 0.0], [0.1, -0.9951]])


class FakeDecoder:
    """Raises what stands for a path in `errors`; any other has the same three codes.

    The second of its four snippets is silent. Embeddings, where asked for, have two numbers.
    """

    pid = None

    def __init__(self, errors: Mapping[str, BaseException]) -> None:
        self.errors, self.asked = errors, list[dict[str, Any]]()

    def hash_track(self, path: str, hasher: Hasher, **limits: Any) -> TrackCodes:
        self.asked.append({"path": path, **limits})
        if Path(path).name in self.errors:
            raise self.errors[Path(path).name]
        codes = np.arange(3 * hasher.quantizer.code_bytes, dtype=np.uint8).reshape(3, -1)
        kept = EMBEDDINGS.astype(np.float16) if limits["embeddings"] else None
        return TrackCodes(codes, np.array([0, 2, 3], np.int32), 2.5, kept)


def hash_catalog(
    folder: Path,
    model_folder: Path,
    catalog: dict[str, list[Any]],
    errors: Mapping[str, BaseException],
    embeddings: bool = False,
) -> tuple[Receipt, FakeDecoder]:
    for uri in catalog["uri"]:
        if "://" not in uri:
            (folder / uri).write_bytes(b"12345")
    uris = [uri if "://" in uri else str(folder / uri) for uri in catalog["uri"]]
    table = pa.table({**catalog, "uri": uris})
    run = Run(str(folder / "index"), Plan("000001", "c", "m", "x", {}, table.num_rows, 1, "now"))
    write_parts(run, table)
    decoder, hasher = FakeDecoder(errors), Hasher.load(str(model_folder))
    job = HashJob(run, max_seconds=99.0, timeout_s=7.0, embeddings=embeddings)
    receipt = hash_part(job, 0, hasher, decoder)  # type: ignore[arg-type]
    assert run.receipts() == {"part-00000": receipt}
    return receipt, decoder


def read(folder: Path, receipt: Receipt, kind: str) -> list[dict[str, Any]]:
    (entry,) = [entry for entry in receipt.files if entry.kind == kind]
    table = pq.read_table(folder / "index" / entry.path)
    assert entry.rows == table.num_rows
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_whatever_one_track_does_the_others_are_hashed(tmp_path: Path, model_folder: Path) -> None:
    catalog = {
        "track_id": ["a", "b", "c", "d", "e", "f"],
        "uri": ["a.mp3", "b.mp3", "c.mp3", "d.mp3", "nosuch://e.mp3", "f.mp3"],
    }
    errors = {
        "b.mp3": AudioError("crashed", "the decoder died\nof it"),
        "c.mp3": AudioError("silent", "nothing is heard"),
        "d.mp3": ValueError("a defect of numpy, say"),
    }
    receipt, decoder = hash_catalog(tmp_path, model_folder, catalog, errors)
    rows = read(tmp_path, receipt, "failures")
    assert [(row["track_id"], row["stage"], row["error"]) for row in rows] == [
        ("b", "decode", "crashed"),
        ("c", "hash", "silent"),
        ("d", "hash", "ValueError"),
        ("e", "fetch", "unreadable"),
    ]
    assert rows[0]["message"] == "the decoder died of it"
    assert [row["track_id"] for row in read(tmp_path, receipt, "codes")] == ["a"] * 3 + ["f"] * 3
    counters = receipt.counters
    assert (counters["tracks"], counters["tracks_hashed"], counters["tracks_failed"]) == (6, 2, 4)
    assert (counters["snippets"], counters["gids"], counters["audio_s"]) == (6, 8, 5.0)
    assert {name: n for name, n in counters.items() if name.startswith("failed_")} == {
        "failed_crashed": 1,
        "failed_silent": 1,
        "failed_ValueError": 1,
        "failed_unreadable": 1,
    }
    assert decoder.asked[0] == {
        "path": str(tmp_path / "a.mp3"),
        "max_seconds": 99.0,
        "timeout_s": 7.0,
        "embeddings": False,
    }


def test_a_part_of_failures_only_has_no_codes(tmp_path: Path, model_folder: Path) -> None:
    catalog = {"track_id": ["a"], "uri": ["a.mp3"]}
    error = {"a.mp3": AudioError("timeout", "no block in 7 s")}
    receipt, _ = hash_catalog(tmp_path, model_folder, catalog, error)
    assert [entry.kind for entry in receipt.files] == ["failures"]
    assert receipt.counters["gids"] == 0


def test_columns_of_the_catalogue_are_kept_beside_ours(tmp_path: Path, model_folder: Path) -> None:
    catalog = {
        "track_id": ["a"],
        "uri": ["a.mp3"],
        "etag": ["v1"],
        "genres": [["x", "y"]],
        "size": ["large"],
        "duration_s": [7],
    }
    receipt, _ = hash_catalog(tmp_path, model_folder, catalog, {})
    (row,) = read(tmp_path, receipt, "tracks")
    assert (row["etag"], row["genres"], row["snippets"], row["gids"]) == ("v1", ["x", "y"], 3, 4)
    assert (row["size"], row["catalog_size"]) == (5, "large")
    assert (row["duration_s"], row["catalog_duration_s"]) == (2.5, 7)
    starts = [code["start_ms"] for code in read(tmp_path, receipt, "codes")]
    assert starts == [0, 1000, 1500]


def test_codes_keep_their_bits(tmp_path: Path, model_folder: Path) -> None:
    receipt, _ = hash_catalog(tmp_path, model_folder, {"track_id": ["a"], "uri": ["a.mp3"]}, {})
    codes = [row["code"] for row in read(tmp_path, receipt, "codes")]
    assert b"".join(codes) == bytes(range(3 * 58))


def read_matrix(folder: Path, receipt: Receipt) -> tuple[np.ndarray, list[bool]]:
    """All rows of the part's matrix, and which of them there are."""
    (entry,) = [entry for entry in receipt.files if entry.kind == "matrices"]
    path = folder / "index" / entry.path
    assert path.parent.name == "matrices"
    assert (path.stat().st_size, entry.part) == (entry.bytes, 0)
    kinds = {entry.kind: folder / "index" / entry.path for entry in receipt.files}
    matrix = CodeMatrix.open(str(path), str(kinds.get("embeddings", kinds["codes"])))
    assert matrix.n == entry.rows
    rows, present = matrix.rows(np.arange(matrix.n))
    return rows, present.tolist()


def test_the_matrix_has_each_code_at_its_number(tmp_path: Path, model_folder: Path) -> None:
    """Of the tracks that could be hashed, one after another; silence has a number and no code."""
    catalog = {"track_id": ["a", "b", "c"], "uri": ["a.mp3", "b.mp3", "c.mp3"]}
    error = {"b.mp3": AudioError("silent", "nothing is heard")}
    receipt, _ = hash_catalog(tmp_path, model_folder, catalog, error)
    rows, present = read_matrix(tmp_path, receipt)
    assert present == [True, False, True, True] * 2
    codes = np.arange(3 * 58, dtype=np.uint8).reshape(3, 58)
    for first in (0, 4):
        np.testing.assert_array_equal(rows[[first, first + 2, first + 3]], codes)
        assert not rows[first + 1].any()
    assert [entry.kind for entry in receipt.files] == ["codes", "matrices", "tracks", "failures"]


def test_embeddings_are_kept_as_the_contract_says_and_are_the_matrix(
    tmp_path: Path, model_folder: Path
) -> None:
    catalog = {"track_id": ["a", "b"], "uri": ["a.mp3", "b.mp3"]}
    receipt, decoder = hash_catalog(tmp_path, model_folder, catalog, {}, embeddings=True)
    assert all(asked["embeddings"] for asked in decoder.asked)
    (entry,) = [entry for entry in receipt.files if entry.kind == "embeddings"]
    path = tmp_path / "index" / entry.path
    schema = pq.read_schema(path)
    assert {field.name: str(field.type) for field in schema} == {
        "track_id": "string",
        "snippet": "int32",
        "start_ms": "int32",
        "embedding": "fixed_size_list<element: halffloat>[2]",
    }
    assert schema.metadata[b"hasher_digest"].decode() == Hasher.load(str(model_folder)).digest
    rows = read(tmp_path, receipt, "embeddings")
    places = [(row["track_id"], row["snippet"], row["start_ms"]) for row in rows]
    assert places == [(track, n, 500 * n) for track in "ab" for n in (0, 2, 3)]
    half = EMBEDDINGS.astype(np.float16)
    np.testing.assert_array_equal([row["embedding"] for row in rows], np.tile(half, (2, 1)))
    # The codes are there as well; what is compared with queries are the embeddings.
    assert [row["snippet"] for row in read(tmp_path, receipt, "codes")] == [0, 2, 3, 0, 2, 3]
    matrix, present = read_matrix(tmp_path, receipt)
    assert present == [True, False, True, True] * 2
    np.testing.assert_array_equal(matrix.view("<f2")[present], np.tile(half, (2, 1)))


@pytest.mark.parametrize(
    ("n", "per_part"), [(1, 8), (256, 8), (257, 9), (100_000, 159), (10**7, 2442)]
)
def test_parts_are_few_and_not_tiny(n: int, per_part: int) -> None:
    assert tracks_per_part(n) == per_part


@given(st.integers(1, 10**12))
def test_there_are_4096_parts_at_most_or_as_many_tracks_in_each(n: int) -> None:
    """Up to 16.8 million tracks the manifest is bounded, and what a worker holds of any number."""
    assert -(-n // tracks_per_part(n)) <= 4096 or tracks_per_part(n) == 4096
    assert tracks_per_part(n) <= 4096


def test_a_part_whose_worker_is_stopped_leaves_nothing(tmp_path: Path, model_folder: Path) -> None:
    catalog = {"track_id": ["a", "b"], "uri": ["a.mp3", "b.mp3"]}
    with pytest.raises(EndedError):
        hash_catalog(tmp_path, model_folder, catalog, {"b.mp3": EndedError()})
    assert list((tmp_path / "index").rglob("part-*")) == []
