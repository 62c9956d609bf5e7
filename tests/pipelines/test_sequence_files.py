"""Files of hash sequences: what is written is what is read, a few tracks at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hashing.errors import AudioError, IndexFormatError
from hashing.sequences import TrackSequence
from pipelines import parquet
from pipelines.sequence_files import (
    GROUP_TRACKS,
    keep,
    open_sequences,
    schema,
    write_sequences,
)

N, DIMENSIONS = 2 * GROUP_TRACKS + 3, 6


def made(number: int) -> TrackSequence:
    rng = np.random.default_rng(number)
    codes = rng.integers(0, 1 << 32, 1 + number % 5, np.uint32)
    windows = rng.standard_normal((1 + number % 3, DIMENSIONS)).astype(np.float32)
    return TrackSequence(codes, windows, rng.integers(0, 256, (8 * len(codes), 24), np.uint8))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every track of a catalogue but t01; not to be changed."""
    where = str(tmp_path_factory.mktemp("files") / "part.parquet")
    tracks = pa.table({"track_id": [f"t{row:02d}" for row in range(N)]})
    kept = [keep(row, f"/{row}", made(row)) for row in range(N) if row != 1]
    info = write_sequences(where, tracks, kept, "abc")
    assert (info.rows, info.bytes) == (N - 1, Path(where).stat().st_size)
    return where


def test_what_is_read_is_what_was_written(path: str) -> None:
    find = open_sequences(path)
    for row in (0, 2, 17, 18, N - 1, 3):  # back and forth between row groups
        found, expected = find(f"t{row:02d}"), made(row)
        assert found is not None
        np.testing.assert_array_equal(found.codes, expected.codes)
        half = expected.embeddings.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found.embeddings, half)
        np.testing.assert_array_equal(found.levels, expected.levels)
        assert (found.codes.dtype, found.embeddings.dtype) == (np.uint32, np.float32)
    assert find("t01") is None
    assert find("nobody") is None


def test_the_file_is_as_others_read_it(path: str) -> None:
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [16, 16, 2]
    assert file.schema_arrow.remove_metadata() == schema(DIMENSIONS)
    table = file.read()
    ids = table["track_id"].to_pylist()
    assert ids == sorted(ids)
    assert [len(levels) for levels in table["levels"].to_pylist()] == [
        24 * 8 * len(codes) for codes in table["codes"].to_pylist()
    ]
    told = parquet.read_metadata(path)
    assert (told["model_digest"], told["frame_bytes"]) == ("abc", "24")


def test_embeddings_that_are_no_numbers_are_refused() -> None:
    track = made(0)
    track.embeddings[0, 0] = np.nan
    with pytest.raises(AudioError, match="/a is damaged") as caught:
        keep(0, "/a", track)
    assert caught.value.kind == "unreadable"


def test_a_damaged_file_is_told(path: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(Path(path).read_bytes()[:-100])
    with pytest.raises(IndexFormatError, match="not a whole Parquet file"):
        open_sequences(str(cut))
