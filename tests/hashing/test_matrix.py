"""Code matrices: their bytes, their round trip, what damage is named, and many of them at once."""

from __future__ import annotations

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
from hashing.matrix import ALIGNMENT, CodeMatrices, CodeMatrix, as_rows, write_matrix


def matrix_bytes(rows: np.ndarray, numbers: Sequence[int], n: int) -> bytes:
    file = io.BytesIO()
    written = write_matrix(file, rows, np.array(numbers, dtype=np.int64), n)
    assert written == len(file.getvalue())
    return file.getvalue()


def random_rows(seed: int, n: int, width: int) -> np.ndarray:
    # From 1 on, so that no row that is there looks like one that is not.
    return np.random.default_rng(seed).integers(1, 256, (n, width)).astype(np.uint8)


SAMPLE = matrix_bytes(random_rows(1, 5, 3), [0, 2, 3, 8, 9], 10)


def test_a_matrix_byte_by_byte() -> None:
    data = matrix_bytes(np.array([[1, 2], [3, 4], [5, 6]], np.uint8), [0, 3, 9], 10)
    head = struct.pack("<8sIIQ", b"HBMATRIX", 1, 2, 10) + bytes([0b0000_1001, 0b0000_0010])
    rows = bytes([1, 2, *[0] * 4, 3, 4, *[0] * 10, 5, 6])
    assert data == head.ljust(64, b"\0") + rows


@st.composite
def matrices(draw: st.DrawFn) -> tuple[int, list[int], int]:
    n = draw(st.integers(0, 600))
    held = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=40)) if n else []
    return n, sorted(held), draw(st.integers(1, 70))


@given(matrices(), st.integers(0, 1000))
def test_what_was_written_is_what_is_read(case: tuple[int, list[int], int], seed: int) -> None:
    n, numbers, width = case
    rows = random_rows(seed, len(numbers), width)
    data = matrix_bytes(rows, numbers, n)
    matrix = CodeMatrix(data, "x.hbm")
    assert (matrix.n, matrix.width, matrix.n_present) == (n, width, len(numbers))
    assert (len(data) - n * width) % ALIGNMENT == 0
    asked = np.random.default_rng(seed).integers(0, max(1, n), 50 if n else 0)
    asked = np.concatenate((asked, numbers)).astype(np.int64)
    found, present = matrix.rows(asked)
    held = dict(zip(numbers, rows, strict=True))
    assert present.tolist() == [number in held for number in asked.tolist()]
    nothing = np.zeros(width, np.uint8)
    for number, row in zip(asked.tolist(), found, strict=True):
        np.testing.assert_array_equal(row, held.get(number, nothing))


def test_a_file_is_mapped_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.hbm"
    path.write_bytes(SAMPLE)
    matrix = CodeMatrix.open(str(path))
    path.unlink()
    found, present = matrix.rows(np.array([9, 1, 0]))
    assert present.tolist() == [True, False, True]
    np.testing.assert_array_equal(found[[0, 2]], random_rows(1, 5, 3)[[4, 0]])
    assert not matrix.rows(np.empty(0, np.int64))[0].size


def test_embeddings_are_rows_of_bytes() -> None:
    values = np.random.default_rng(1).standard_normal((4, 5))
    rows = as_rows(values)
    assert rows.shape == (4, 10)
    np.testing.assert_array_equal(rows.view("<f2"), values.astype(np.float16))
    data = matrix_bytes(rows, [1, 2, 5, 6], 8)
    found, present = CodeMatrix(data, "x").rows(np.array([5, 0]))
    assert present.tolist() == [True, False]
    np.testing.assert_array_equal(found[0].view("<f2"), values[2].astype(np.float16))


# --- damage


@pytest.mark.parametrize("cut", [0, 1, 8, 23, 24, 63, 64, len(SAMPLE) - 1])
def test_a_matrix_that_was_cut_short(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.hbm"
    path.write_bytes(SAMPLE[:cut])
    for opened in (lambda: CodeMatrix(SAMPLE[:cut], str(path)), lambda: CodeMatrix.open(str(path))):
        with pytest.raises(IndexFormatError, match="is truncated") as caught:
            opened()
        assert str(path) in str(caught.value)
        assert "hashbeam verify" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, b"RIFFWAVE", "is not a code matrix"),
        (8, struct.pack("<I", 2), "format version 2, this hashbeam reads 1"),
        (12, struct.pack("<I", 0), "is damaged: .*10 rows of 0"),
        (12, struct.pack("<I", 2), "is damaged"),
        (12, struct.pack("<I", 2**32 - 1), "is truncated"),
        (16, struct.pack("<Q", 9), "is damaged"),
        (16, struct.pack("<Q", 2**64 - 1), "is truncated"),
    ],
)
def test_a_damaged_header(place: int, value: bytes, words: str) -> None:
    data = bytearray(SAMPLE)
    data[place : place + len(value)] = value
    with pytest.raises(IndexFormatError, match=words) as caught:
        CodeMatrix(bytes(data), "x.hbm")
    assert "x.hbm" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_longer_file_is_refused() -> None:
    with pytest.raises(IndexFormatError, match="is damaged"):
        CodeMatrix(SAMPLE + b"\0", "x.hbm")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.hbm", tmp_path):
        with pytest.raises(IndexFormatError, match=f"code matrix {path} cannot be opened"):
            CodeMatrix.open(str(path))


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
                path = folder / f"{segment}-{part}.hbm"
                path.write_bytes(matrix_bytes(rows, numbers, n))
                self.places.append((str(path), segment, part))
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


def test_numbers_of_a_segment_are_spread_over_its_parts(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[7, 0, 0, 20, 1], [11], [5, 5]])
    matrices = CodeMatrices(reversed(parts.places), parts.starts, 4)
    rng = np.random.default_rng(1)
    for segment, total in ((0, 28), (1, 11), (2, 10), (0, 28)):
        # Numbers before and after the segment are those of no snippet.
        asked = np.concatenate((np.arange(-3, total + 3), [-(10**9), 10**12]))
        parts.check(matrices, segment, rng.permutation(asked))
        parts.check(matrices, segment, np.zeros(0, np.int64))
        parts.check(matrices, segment, np.full(4, total - 1))


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[5, 5, 5]])
    opened: list[str] = []

    def open_matrix(name: str) -> CodeMatrix:
        opened.append(name)
        return CodeMatrix.open(name)

    matrices = CodeMatrices(parts.places, parts.starts, 4, open_matrix)
    assert opened == []
    parts.check(matrices, 0, np.array([11, 0, 12]))
    parts.check(matrices, 0, np.array([14, -1, 15, 1]))
    assert opened == [parts.places[0][0], parts.places[2][0]]


def test_the_one_unused_for_longest_is_closed(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[5, 5, 5]])
    opened: list[str] = []

    def open_matrix(name: str) -> CodeMatrix:
        opened.append(Path(name).stem)
        return CodeMatrix.open(name)

    matrices = CodeMatrices(parts.places, parts.starts, 4, open_matrix, max_open=2)
    for gid in (0, 5, 0, 10, 0, 5):
        parts.check(matrices, 0, np.array([gid]))
    assert opened == ["0-0", "0-1", "0-2", "0-1"]


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[3] * 60])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 12, hard))
    try:
        few = CodeMatrices(parts.places, parts.starts, 4, max_open=5)
        parts.check(few, 0, np.arange(180))
        parts.check(few, 0, np.arange(180)[::-1])
        # By default as many as the process may have.
        parts.check(CodeMatrices(parts.places[:2], parts.starts, 4), 0, np.arange(6))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_part_without_a_matrix_is_named(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [[5, 5, 5]])
    matrices = CodeMatrices(parts.places[:1] + parts.places[2:], parts.starts, 4)
    parts.check(matrices, 0, np.arange(5))
    with pytest.raises(
        IndexFormatError, match="part 1 of segment 0 has snippets but no code matrix"
    ):
        matrices.rows(0, np.array([0, 7]))


@pytest.mark.parametrize(("width", "starts"), [(3, [0, 5, 10]), (4, [0, 5, 9]), (4, [0, 5, 11])])
def test_a_matrix_of_another_part_is_refused(tmp_path: Path, width: int, starts: list[int]) -> None:
    parts = Parts(tmp_path, [[5, 5]])
    matrices = CodeMatrices(parts.places, {0: np.array(starts)}, width)
    with pytest.raises(IndexFormatError, match=r"holds 5 rows of 4 bytes, not \d+ of") as caught:
        matrices.rows(0, np.array([8]))
    assert parts.places[1][0] in str(caught.value)
