"""Tracks of a published version, read as if they had just been hashed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from quick_index import (
    QuickDecoder,
    QuickJobs,
    broken,
    build,
    codes_of,
    quick_jobs,
    quick_model,
    song,
    write_catalog,
)
from quick_sequences import as_bytes

from hashing.artists.decoder import HeardTrack
from hashing.errors import IndexFormatError
from pipelines import kept
from pipelines.also import ALSO
from pipelines.content import file_checksum
from pipelines.kept import KEPT, KeptTracks, Place, places_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, QuickJobs]]:
    """An index of eleven tracks in two parts; t03 is broken, t09 gets nothing but codes."""
    folder = tmp_path_factory.mktemp("kept")
    rows = []
    for number in range(11):
        data = broken(3) if number == 3 else song(number, number, mute=number == 9)
        (folder / f"{number}.song").write_bytes(data)
        title = f"Title {number}"
        rows.append({"track_id": f"t{number:02d}", "uri": f"{number}.song", "title": title})
    model = quick_model(folder / "model")
    with quick_jobs(model) as jobs:
        build(write_catalog(folder / "c.csv", rows), folder / "index", model, also=tuple(ALSO))
        yield folder, jobs


@pytest.mark.parametrize(("part", "number"), [(0, 0), (0, 2), (0, 4), (0, 7), (1, 8), (1, 10)])
def test_a_track_is_what_its_file_gave(
    made: tuple[Path, QuickJobs], part: int, number: int
) -> None:
    folder, jobs = made
    tracks = KeptTracks([(str(folder / "index"), "000001")])
    track = tracks.take(5, Place(0, 0, part, number))
    path = folder / f"{number}.song"
    codes, made_beside = QuickDecoder().hash_and_hear(str(path), jobs.hasher, jobs.encoders)
    artist = made_beside["artist"]
    assert (track.row, track.codes.duration_s) == (5, codes.duration_s)
    np.testing.assert_array_equal(track.codes.codes, codes.codes)
    np.testing.assert_array_equal(track.codes.snippet, codes.snippet)
    assert (track.file.size, track.file.content) == file_checksum(str(path))
    assert track.file.mtime == path.stat().st_mtime
    kept_artist = track.beside["artist"]
    assert isinstance(kept_artist, HeardTrack)
    np.testing.assert_array_equal(kept_artist.track.embedding, artist.track.embedding)
    np.testing.assert_array_equal(kept_artist.measures, artist.measures)
    assert kept_artist.track.duration_s == codes.duration_s
    assert as_bytes(track.beside["sequence"]) == as_bytes(made_beside["sequence"])
    few = KeptTracks([(str(folder / "index"), "000001")], also=("sequence",))
    assert few.take(5, Place(0, 0, part, number)).beside.keys() == {"sequence"}
    later = tracks.take(0, Place(0, 0, part, number, mtime=7.5))
    assert (later.file.mtime, later.file.size) == (7.5, track.file.size)


def test_a_track_without_anything_beside_has_nothing(made: tuple[Path, QuickJobs]) -> None:
    folder, _ = made
    track = KeptTracks([(str(folder / "index"), "000001")]).take(0, Place(0, 0, 1, 9))
    assert track.beside == {}
    assert len(track.codes.snippet) == len(codes_of(song(9, 9, mute=True)).snippet)


@pytest.mark.parametrize(("most", "reads"), [(kept.CACHED_BYTES, 2), (1, 6)])
def test_parts_are_read_once_while_there_is_room(
    made: tuple[Path, QuickJobs], monkeypatch: pytest.MonkeyPatch, most: int, reads: int
) -> None:
    numbers, read = (0, 8, 1, 9, 2, 10), list[tuple[int, ...]]()
    tracks = KeptTracks([(str(made[0] / "index"), "000001")])
    real = tracks._read
    monkeypatch.setattr(kept, "CACHED_BYTES", most)
    monkeypatch.setattr(tracks, "_read", lambda *part: (read.append(part), real(*part))[1])
    for row, number in enumerate(numbers):
        track = tracks.take(row, Place(0, 0, number // 8, number))
        expected = codes_of((made[0] / f"{number}.song").read_bytes())
        assert track.row == row
        np.testing.assert_array_equal(track.codes.codes, expected.codes)
    assert len(read) == reads


def test_rows_are_those_of_the_catalogue_in_the_order_that_is_asked(
    made: tuple[Path, QuickJobs],
) -> None:
    tracks = KeptTracks([(str(made[0] / "index"), "000001")])
    rows = tracks.rows([Place(0, 0, number // 8, number) for number in (9, 0, 8, 7)])
    assert rows.column_names == ["track_id", "uri", "etag", "title"]
    assert rows["title"].to_pylist() == ["Title 9", "Title 0", "Title 8", "Title 7"]
    with pytest.raises(IndexFormatError, match="has no track 3"):
        tracks.rows([Place(0, 0, 0, 2), Place(0, 0, 0, 3)])


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (Place(0, 0, 0, 3), "part 0 of segment 0 of version 000001 has no track 3"),
        (Place(0, 0, 0, 8), "has no track 8"),  # of the other part
        (Place(0, 0, 1, 99), "has no track 99"),
        (Place(0, 0, 7, 0), "part 7 of segment 0 of version 000001 has no tracks"),
        (Place(0, 4, 0, 0), "part 0 of segment 4"),
    ],
)
def test_what_is_not_there_is_named(made: tuple[Path, QuickJobs], place: Place, told: str) -> None:
    folder, _ = made
    with pytest.raises(IndexFormatError, match=told):
        KeptTracks([(str(folder / "index"), "000001")]).take(0, place)


def test_places_are_told_apart_from_the_columns_of_the_owner() -> None:
    own = pa.table({"track_id": ["a", "b"], "uri": ["/a", "/b"]})
    assert places_of(own)[1] == [None, None]
    columns = {name: pa.array([None, 7], kind) for name, kind in KEPT.items()}
    for name, column in columns.items():
        own = own.append_column(name, column)
    rows, places = places_of(own)
    assert rows.equals(own.select(["track_id", "uri"]))
    assert places == [None, Place(7, 7, 7, 7, 7.0)]
