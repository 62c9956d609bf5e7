"""Parquet files of codes or embeddings: read by pyarrow, and by a map of what lies in them."""

from __future__ import annotations

import io as standard_io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashing.errors import HashbeamError
from hashing.matrix import CodeMatrix, write_matrix
from pipelines import io, plain
from pipelines.plain import write_plain

in_one_folder = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def codes_of(n: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, width)).astype(np.uint8)


def table_of(column: pa.Array, name: str = "code") -> pa.Table:
    """As `pipelines.parts` makes them: snippets of tracks, seven a track."""
    n = len(column)
    snippet = np.arange(n, dtype=np.int32) % 7
    return pa.table(
        {
            "track_id": pa.array([f"track {row // 7}" for row in range(n)], pa.string()),
            "snippet": snippet,
            "start_ms": snippet * 500,
            name: column,
        }
    )


def binary(codes: np.ndarray) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(codes))]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(codes.shape[1]), len(codes), buffers)


def halves(values: np.ndarray) -> pa.Array:
    flat = pa.array(values.reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def mapped(path: Path, width: int, groups: list[tuple[int, int]]) -> np.ndarray:
    """All rows as look-up reads them."""
    n = sum(rows for rows, _ in groups)
    file = standard_io.BytesIO()
    write_matrix(file, width, groups, np.arange(n), n)
    matrix = path.with_suffix(".hbm")
    matrix.write_bytes(file.getvalue())
    rows, present = CodeMatrix.open(str(matrix), str(path)).rows(np.arange(n))
    assert present.all()
    return rows


def test_a_value_lies_where_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    codes = np.arange(50, dtype=np.uint8).reshape(10, 5)
    info, groups = write_plain(str(path), table_of(binary(codes)), {"made": "here"}, 20)
    # Four rows of five bytes are the twenty bytes of a group.
    assert [rows for rows, _ in groups] == [4, 4, 2]
    data = path.read_bytes()
    assert [data[place : place + 5 * rows] for rows, place in groups] == [
        bytes(range(20)),
        bytes(range(20, 40)),
        bytes(range(40, 50)),
    ]
    assert (info.rows, info.bytes) == (10, len(data))
    assert info.sha256 == io.sha256_file(str(path))
    assert pq.read_schema(path).metadata[b"made"] == b"here"


@in_one_folder
@given(n=st.integers(0, 60), width=st.integers(1, 40), group_bytes=st.integers(1, 400))
def test_codes_are_read_by_pyarrow_and_by_the_map(
    n: int, width: int, group_bytes: int, tmp_path: Path
) -> None:
    path, codes = tmp_path / "a.parquet", codes_of(n, width)
    table = table_of(binary(codes))
    info, groups = write_plain(str(path), table, {}, group_bytes)
    assert pq.read_table(path).equals(table)
    assert pq.ParquetFile(path).metadata.num_row_groups == len(groups)
    per_group = max(1, group_bytes // width)
    assert [rows for rows, _ in groups if rows] == [
        min(per_group, n - first) for first in range(0, n, per_group)
    ]
    np.testing.assert_array_equal(mapped(path, width, groups), codes)
    assert info.rows == n


@in_one_folder
@given(n=st.integers(0, 30), d=st.integers(1, 20), group_bytes=st.integers(1, 400))
def test_embeddings_are_read_by_pyarrow_and_by_the_map(
    n: int, d: int, group_bytes: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    values = np.random.default_rng(n).standard_normal((n, d)).astype(np.float16)
    table = table_of(halves(values), "embedding")
    _, groups = write_plain(str(path), table, {}, group_bytes)
    assert pq.read_table(path).equals(table)
    rows = mapped(path, 2 * d, groups)
    np.testing.assert_array_equal(rows.view("<f2"), values)


@pytest.mark.parametrize("group_bytes", [30, 1 << 20])
@pytest.mark.parametrize("name", ["code", "embedding"])
def test_slices_and_chunks_of_tables(tmp_path: Path, name: str, group_bytes: int) -> None:
    path = tmp_path / "a.parquet"
    codes = codes_of(40, 6)
    # No pattern of bits stands for what is no number, so that equality can be asked for.
    values = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float16)
    column = binary(codes) if name == "code" else halves(values)
    rows = codes if name == "code" else values.view(np.uint8)
    whole = table_of(column, name)
    pieces = pa.concat_tables([whole.slice(31, 9), whole.slice(3, 4), whole.slice(0, 0)])
    assert pieces[name].num_chunks > 1
    for table, expected in (
        (whole.slice(5, 17), rows[5:22]),
        (pieces, np.concatenate([rows[31:40], rows[3:7]])),
    ):
        _, groups = write_plain(str(path), table, {}, group_bytes)
        np.testing.assert_array_equal(mapped(path, 6, groups), expected)
        assert pq.read_table(path).equals(table)


def test_a_table_of_no_rows(tmp_path: Path) -> None:
    for column, name in ((binary(codes_of(0, 5)), "code"), (halves(np.zeros((0, 3))), "embedding")):
        path = tmp_path / f"{name}.parquet"
        info, groups = write_plain(str(path), table_of(column, name), {})
        assert info.rows == sum(rows for rows, _ in groups) == 0
        assert pq.read_table(path).num_rows == 0


def test_a_large_group_is_one_page(tmp_path: Path) -> None:
    """More rows and bytes than a page of Parquet has by default: 20,000 rows, a megabyte."""
    path, codes = tmp_path / "a.parquet", codes_of(50_000, 64)
    _, groups = write_plain(str(path), table_of(binary(codes)), {})
    ((rows, place),) = groups
    assert rows == 50_000
    data = np.fromfile(path, np.uint8)
    np.testing.assert_array_equal(data[place : place + codes.size].reshape(-1, 64), codes)
    # All but the codes is next to nothing.
    assert data.size < codes.nbytes + 50_000
    assert pq.read_table(path)["code"].to_pylist()[-1] == codes[-1].tobytes()


def test_values_that_do_not_lie_as_they_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another version of the writer cut pages, or packed values."""
    real = pq.write_table

    def packed(*args: object, **settings: object) -> None:
        real(*args, **{**settings, "compression": "zstd"})

    def cut(*args: object, **settings: object) -> None:
        real(*args, **{**settings, "data_page_size": 16, "write_batch_size": 2})

    for other in (packed, cut):
        monkeypatch.setattr(pq, "write_table", other)
        path = tmp_path / "a.parquet"
        with pytest.raises(HashbeamError, match="values of 'code' cannot be mapped") as caught:
            write_plain(str(path), table_of(binary(np.zeros((50, 8), np.uint8) + 7)), {})
        assert "requirements.txt" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not path.exists()


def test_a_shard_that_does_not_fit_its_matrix(tmp_path: Path) -> None:
    """Cut short it is named; of another run with as many bytes, checksums tell (`verify`)."""
    path, codes = tmp_path / "a.parquet", codes_of(30, 8)
    _, groups = write_plain(str(path), table_of(binary(codes)), {}, 80)
    mapped(path, 8, groups)
    data = path.read_bytes()
    rows, place = groups[-1]
    path.write_bytes(data[: place + 8 * rows - 1])
    with pytest.raises(HashbeamError, match=r"a\.hbm does not fit the shard beside it"):
        CodeMatrix.open(str(path.with_suffix(".hbm")), str(path))
    path.unlink()
    with pytest.raises(HashbeamError, match=r"a\.parquet cannot be opened"):
        CodeMatrix.open(str(path.with_suffix(".hbm")), str(path))


def test_groups_are_no_larger_than_a_page_may_be() -> None:
    # Sizes of pages are int32 in Parquet.
    assert np.iinfo(np.int32).max >= 2 * plain.GROUP_BYTES - 1
