"""Code matrices: their bytes, their round trip, what damage is named, and many of them at once."""

from __future__ import annotations

import gc
import io
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import IndexFormatError
from hashing.matrix import CodeMatrices, CodeMatrix, as_rows, write_matrix

# What lies in a shard beside the rows: a Parquet file has headers between its row groups.
MARGIN = b"PAR1"


def written(
    rows: np.ndarray, numbers: Sequence[int], n: int, groups: Sequence[int] | None = None
) -> tuple[bytes, bytes]:
    """A matrix of rows that lie in so many groups, and the shard beside it."""
    rows = np.asarray(rows, dtype=np.uint8)
    shard, places, first = MARGIN, [], 0
    for size in [len(rows)] if groups is None else groups:
        places.append((size, len(shard)))
        shard += rows[first : first + size].tobytes() + MARGIN
        first += size
    file = io.BytesIO()
    found = write_matrix(file, rows.shape[1], places, np.array(numbers, dtype=np.int64), n)
    assert found == len(file.getvalue())
    return file.getvalue(), shard


def random_rows(seed: int, n: int, width: int) -> np.ndarray:
    # From 1 on, so that no row that is there looks like one that is not.
    return np.random.default_rng(seed).integers(1, 256, (n, width)).astype(np.uint8)


SAMPLE, SHARD = written(random_rows(1, 5, 3), [0, 2, 3, 8, 9], 10, [2, 3])


def test_a_matrix_byte_by_byte() -> None:
    rows = np.array([[1, 2], [3, 4], [5, 6]])
    data, shard = written(rows, [0, 3, 9], 10, [2, 1])
    head = struct.pack("<8sIIQQ", b"HBMATRIX", 2, 2, 10, 2)
    groups = struct.pack("<QQQQ", 2, 4, 1, 12)
    assert data == head + groups + bytes([0b0000_1001, 0b0000_0010])
    assert shard == b"PAR1\1\2\3\4PAR1\5\6PAR1"


@st.composite
def matrices(draw: st.DrawFn) -> tuple[int, list[int], int, list[int]]:
    """Numbers in all, those that have a row, bytes a row, and rows of each group."""
    n = draw(st.integers(0, 600))
    held = sorted(draw(st.lists(st.integers(0, n - 1), unique=True, max_size=40)) if n else [])
    cuts = sorted(draw(st.lists(st.integers(0, len(held)), max_size=4)))
    return n, held, draw(st.integers(1, 70)), np.diff([0, *cuts, len(held)]).tolist()


@given(matrices(), st.integers(0, 1000))
def test_what_was_written_is_what_is_read(
    case: tuple[int, list[int], int, list[int]], seed: int
) -> None:
    n, numbers, width, groups = case
    rows = random_rows(seed, len(numbers), width)
    matrix = CodeMatrix(*written(rows, numbers, n, groups), "x.hbm")
    assert (matrix.n, matrix.width, matrix.n_present) == (n, width, len(numbers))
    asked = np.random.default_rng(seed).integers(0, max(1, n), 50 if n else 0)
    asked = np.concatenate((asked, numbers)).astype(np.int64)
    held = dict(zip(numbers, rows, strict=True))
    nothing = np.zeros(width, np.uint8)
    for chosen in (asked, np.array(numbers, np.int64)):
        found, present = matrix.rows(chosen)
        assert (found.shape, found.dtype) == ((chosen.size, width), np.uint8)
        assert present.tolist() == [number in held for number in chosen.tolist()]
        for number, row in zip(chosen.tolist(), found, strict=True):
            np.testing.assert_array_equal(row, held.get(number, nothing))


@pytest.mark.parametrize("n", [63, 64, 65, 127, 128, 129])
def test_numbers_at_the_edges_of_words(n: int) -> None:
    numbers = [number for number in (0, 62, 63, 64, 65, 126, 127, 128) if number < n]
    rows = random_rows(n, len(numbers), 2)
    matrix = CodeMatrix(*written(rows, numbers, n), "x")
    found, present = matrix.rows(np.arange(n))
    assert np.flatnonzero(present).tolist() == numbers
    np.testing.assert_array_equal(found[numbers], rows)


def test_what_is_found_may_be_changed() -> None:
    """Rows are copies, whatever lies in the file stays."""
    for groups in ([5], [2, 3]):
        matrix = CodeMatrix(*written(random_rows(1, 5, 3), range(5), 5, groups), "x")
        matrix.rows(np.arange(5))[0][:] = 0
        np.testing.assert_array_equal(matrix.rows(np.arange(5))[0], random_rows(1, 5, 3))


def files(folder: Path, data: bytes = SAMPLE, shard: bytes = SHARD) -> tuple[str, str]:
    """Names of a matrix and of the shard beside it."""
    path, beside = folder / "a.hbm", folder / "a.parquet"
    path.write_bytes(data)
    beside.write_bytes(shard)
    return str(path), str(beside)


def test_a_shard_is_mapped_and_not_read(tmp_path: Path) -> None:
    names = files(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    matrix = CodeMatrix.open(*names)
    for name in names:
        Path(name).unlink()
    assert "a.parquet (deleted)" in Path("/proc/self/maps").read_text()
    found, present = matrix.rows(np.array([9, 1, 0]))
    assert present.tolist() == [True, False, True]
    np.testing.assert_array_equal(found[[0, 2]], random_rows(1, 5, 3)[[4, 0]])
    assert not matrix.rows(np.empty(0, np.int64))[0].size
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    del matrix, found
    gc.collect()
    assert "a.parquet (deleted)" not in Path("/proc/self/maps").read_text()


def test_a_part_in_which_all_is_silent(tmp_path: Path) -> None:
    data, _ = written(np.zeros((0, 3)), [], 7, [])
    matrix = CodeMatrix.open(*files(tmp_path, data, b""))
    found, present = matrix.rows(np.arange(7))
    assert not present.any()
    assert found.shape == (7, 3)


def test_numbers_and_rows_are_equally_many() -> None:
    with pytest.raises(ValueError, match=r"2 numbers for groups \[\(3, 4\)\]"):
        write_matrix(io.BytesIO(), 1, [(3, 4)], np.array([0, 1]), 5)


def test_embeddings_are_rows_of_bytes() -> None:
    values = np.random.default_rng(1).standard_normal((4, 5))
    rows = as_rows(values)
    assert rows.shape == (4, 10)
    np.testing.assert_array_equal(rows.view("<f2"), values.astype(np.float16))
    found, present = CodeMatrix(*written(rows, [1, 2, 5, 6], 8), "x").rows(np.array([5, 0]))
    assert present.tolist() == [True, False]
    np.testing.assert_array_equal(found[0].view("<f2"), values[2].astype(np.float16))


# --- damage


@pytest.mark.parametrize("cut", [0, 1, 8, 31, 32, 63, 64, len(SAMPLE) - 1])
def test_a_matrix_that_was_cut_short(tmp_path: Path, cut: int) -> None:
    names = files(tmp_path, SAMPLE[:cut])
    for opened in (
        lambda: CodeMatrix(SAMPLE[:cut], SHARD, names[0]),
        lambda: CodeMatrix.open(*names),
    ):
        with pytest.raises(IndexFormatError, match="is truncated") as caught:
            opened()
        assert names[0] in str(caught.value)
        assert "hashbeam verify" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 4, len(SHARD) - len(MARGIN) - 1])
def test_a_shard_that_was_cut_short(tmp_path: Path, cut: int) -> None:
    names = files(tmp_path, shard=SHARD[:cut])
    with pytest.raises(IndexFormatError, match="does not fit the shard beside it") as caught:
        CodeMatrix.open(*names)
    assert str(caught.value).startswith(f"{names[0]} ")
    assert f"which has {cut} bytes; run `hashbeam verify`" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, b"RIFFWAVE", "is not a code matrix"),
        (8, struct.pack("<I", 1), "format version 1, this hashbeam reads 2"),
        (12, struct.pack("<I", 0), "is damaged: .*10 numbers, rows of 0"),
        (12, struct.pack("<I", 2**32 - 1), "does not fit the shard"),
        (16, struct.pack("<Q", 8), "is damaged"),
        (16, struct.pack("<Q", 17), "is truncated"),
        (16, struct.pack("<Q", 2**64 - 1), "is truncated"),
        (24, struct.pack("<Q", 1), "is damaged"),
        (24, struct.pack("<Q", 2**64 - 1), "is truncated"),
        (32, struct.pack("<Q", 1), "is damaged: 4 rows for 5 numbers"),
        (32, struct.pack("<Q", 2**64 - 1), "does not fit the shard"),
        (40, struct.pack("<Q", len(SHARD)), "does not fit the shard"),
        (40, struct.pack("<Q", 2**64 - 1), "does not fit the shard"),
        (64, bytes([0b1000_1101]), "is damaged: 5 rows for 6 numbers"),
        (65, bytes([0b0000_0111]), "is damaged"),
        (65, bytes([0b0000_0110]), "is damaged: a number beyond its 10"),
    ],
)
def test_damaged_bytes(place: int, value: bytes, words: str) -> None:
    data = bytearray(SAMPLE)
    data[place : place + len(value)] = value
    with pytest.raises(IndexFormatError, match=words) as caught:
        CodeMatrix(bytes(data), SHARD, "x.hbm")
    assert "x.hbm" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_longer_file_is_refused() -> None:
    with pytest.raises(IndexFormatError, match="is damaged"):
        CodeMatrix(SAMPLE + b"\0", SHARD, "x.hbm")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    path, beside = files(tmp_path)
    for gone in (str(tmp_path / "none"), str(tmp_path)):
        for names in ((gone, beside), (path, gone)):
            with pytest.raises(IndexFormatError, match=f"code matrix {gone} cannot be opened"):
                CodeMatrix.open(*names)


# --- the matrices of an index


class Parts:
    """Matrices of several parts on disk, one snippet in three of which is silent."""

    def __init__(self, folder: Path, spans: Sequence[Sequence[int]], width: int = 4) -> None:
        self.width = width
        self.held: dict[tuple[int, int], np.ndarray] = {}
        self.starts = {
            segment: np.concatenate(([0], np.cumsum(parts))).astype(np.int64)
            for segment, parts in enumerate(spans)
        }
        self.places = []
        for segment, parts in enumerate(spans):
            for part, n in enumerate(parts):
                numbers = [number for number in range(n) if number % 3 != 1]
                rows = random_rows(100 * segment + part, len(numbers), width)
                own = folder / f"{segment}-{part}"
                own.mkdir()
                # Rows of a part lie in two groups.
                groups = [len(numbers) // 2, len(numbers) - len(numbers) // 2]
                self.places.append((*files(own, *written(rows, numbers, n, groups)), segment, part))
                first = int(self.starts[segment][part])
                for number, row in zip(numbers, rows, strict=True):
                    self.held[segment, first + number] = row

    def check(self, matrices: CodeMatrices, segment: int, gids: np.ndarray) -> None:
        """Compares what is found with what was written."""
        found, present = matrices.rows(segment, gids)
        assert found.shape == (gids.size, self.width)
        for gid, row, there in zip(gids.tolist(), found, present.tolist(), strict=True):
            expected = self.held.get((segment, gid))
            assert there == (expected is not None)
            np.testing.assert_array_equal(
                row, np.zeros(self.width) if expected is None else expected
            )


@pytest.mark.parametrize("held_bytes", [10**6, 40, 0])
def test_numbers_of_a_segment_are_spread_over_its_parts(tmp_path: Path, held_bytes: int) -> None:
    parts = Parts(tmp_path, [[7, 0, 0, 20, 1], [11], [5, 5]])
    # With room for all, for one of the segments, and for none.
    matrices = CodeMatrices(reversed(parts.places), parts.starts, 4, held_bytes=held_bytes)
    rng = np.random.default_rng(1)
    for segment, total in ((0, 28), (1, 11), (2, 10), (0, 28)):
        # Numbers before and after the segment are those of no snippet.
        asked = np.concatenate((np.arange(-3, total + 3), [-(10**9), 10**12]))
        parts.check(matrices, segment, rng.permutation(asked))
        parts.check(matrices, segment, np.zeros(0, np.int64))
        parts.check(matrices, segment, np.full(4, total - 1))


@pytest.mark.parametrize("held_bytes", [10**6, 90, 40, 0])
def test_segments_are_read_together_as_one_by_one(tmp_path: Path, held_bytes: int) -> None:
    parts = Parts(tmp_path, [[7, 0, 0, 20, 1], [11], [5, 5], []])
    # With room for all, for the small ones, for one of them, and for none.
    matrices = CodeMatrices(parts.places, parts.starts, 4, held_bytes=held_bytes)
    rng = np.random.default_rng(1)
    for n in (200, 0, 3):
        segment, gids = rng.integers(0, 4, n), rng.integers(-3, 33, n)
        found, present = matrices.rows_each(segment, gids)
        assert found.shape == (n, 4)
        for row, there, *place in zip(found, present, segment.tolist(), gids.tolist(), strict=True):
            expected = parts.held.get((place[0], place[1]))
            assert there == (expected is not None)
            np.testing.assert_array_equal(row, np.zeros(4) if expected is None else expected)
    parts.check(matrices, 1, np.arange(-1, 13))


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[5, 5, 5]])
    opened: list[str] = []

    def open_matrix(name: str, shard: str) -> CodeMatrix:
        opened.append(name)
        return CodeMatrix.open(name, shard)

    matrices = CodeMatrices(parts.places, parts.starts, 4, open_matrix, held_bytes=0)
    assert opened == []
    parts.check(matrices, 0, np.array([11, 0, 12]))
    parts.check(matrices, 0, np.array([14, -1, 15, 1]))
    assert opened == [parts.places[0][0], parts.places[2][0]]


def test_a_small_segment_is_read_once_and_kept(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[5, 0, 5], [9]])
    matrices = CodeMatrices(parts.places, parts.starts, 4, held_bytes=40)
    parts.check(matrices, 0, np.arange(-1, 12))
    for name, shard, segment, _ in parts.places:
        if segment == 0:
            Path(name).unlink()
            Path(shard).unlink()
    parts.check(matrices, 0, np.arange(-1, 12)[::-1])
    matrices.rows(0, np.arange(10))[0][:] = 0  # what is found may be changed
    parts.check(matrices, 0, np.arange(10))
    parts.check(matrices, 1, np.arange(9))


def test_the_one_unused_for_longest_is_closed(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[5, 5, 5]])
    opened: list[str] = []

    def open_matrix(name: str, shard: str) -> CodeMatrix:
        opened.append(Path(name).parent.name)
        return CodeMatrix.open(name, shard)

    matrices = CodeMatrices(parts.places, parts.starts, 4, open_matrix, max_open=2, held_bytes=0)
    for gid in (0, 5, 0, 10, 0, 5):
        parts.check(matrices, 0, np.array([gid]))
    assert opened == ["0-0", "0-1", "0-2", "0-1"]


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[3] * 60])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 12, hard))
    try:
        few = CodeMatrices(parts.places, parts.starts, 4, max_open=5, held_bytes=0)
        parts.check(few, 0, np.arange(180))
        parts.check(few, 0, np.arange(180)[::-1])
        # By default as many as the process may have.
        default = CodeMatrices(parts.places[:2], parts.starts, 4, held_bytes=0)
        parts.check(default, 0, np.arange(6))
        # A segment that is held leaves no file open.
        parts.check(CodeMatrices(parts.places, parts.starts, 4), 0, np.arange(180))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_part_without_a_matrix_is_named(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[5, 5, 5]])
    some = parts.places[:1] + parts.places[2:]
    matrices = CodeMatrices(some, parts.starts, 4, held_bytes=0)
    parts.check(matrices, 0, np.arange(5))
    for held_bytes in (0, 10**6):
        with pytest.raises(
            IndexFormatError, match="part 1 of segment 0 has snippets but no code matrix"
        ):
            CodeMatrices(some, parts.starts, 4, held_bytes=held_bytes).rows(0, np.array([0, 7]))


@pytest.mark.parametrize(("width", "starts"), [(3, [0, 5, 10]), (4, [0, 5, 9]), (4, [0, 5, 11])])
def test_a_matrix_of_another_part_is_refused(tmp_path: Path, width: int, starts: list[int]) -> None:
    parts = Parts(tmp_path, [[5, 5]])
    matrices = CodeMatrices(parts.places, {0: np.array(starts)}, width, held_bytes=0)
    with pytest.raises(IndexFormatError, match=r"holds 5 rows of 4 bytes, not \d+ of") as caught:
        matrices.rows(0, np.array([8]))
    assert parts.places[1][0] in str(caught.value)
