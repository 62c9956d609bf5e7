"""A published index opened for look-up: from snippet numbers to tracks, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_helpers import paths, run_index
from made_up_manifest import made_up_manifest
from published_index import Published
from tiny_catalog import tiny_catalog

from hashing import tables
from hashing.encoders import Hasher
from hashing.errors import HashbeamError, IndexFormatError, ModelError
from hashing.models import DEFAULT_MODEL, PRETRAINED, load_model, save_model
from pipelines import opened, parquet, segment_codes
from pipelines.opened import IndexTracks, find_hasher, open_index
from pipelines.versions import FileEntry, Files, Manifest, Segment, open_manifest


def entry(path: str, kind: str, rows: int, **place: int) -> FileEntry:
    return FileEntry(path, kind, rows, 9, "00", **place)


def write_tracks(index: Path, part: int, segment: int, first: int, gids: list[int]) -> FileEntry:
    """The tracks of a part: ordinals from `first` on, each with as many numbers as `gids` says."""
    ordinals = list(range(first, first + len(gids)))
    table = pa.table(
        {
            "ordinal": pa.array(ordinals, pa.uint32()),
            "track_id": [f"t{ordinal}" for ordinal in ordinals],
            "gids": pa.array(gids, pa.uint32()),
        }
    )
    path = f"versions/000001/tracks/part-{part}.parquet"
    parquet.write_table(str(index / path), table)
    return entry(path, "tracks", len(gids), segment=segment, part=part)


def manifest_of(segments: list[Segment], files: list[FileEntry]) -> Manifest:
    return made_up_manifest(segments=segments, files=Files.of(files))


@pytest.fixture
def index(tmp_path: Path) -> tuple[Path, Manifest]:
    """Two segments. The first: tracks 0, 1 (3 and 2 numbers) | none at all | 5 (4) | 6 (1), 7 (6).

    Tracks 2, 3 and 4 could not be hashed; all of those in the second part.
    """
    first = [
        write_tracks(tmp_path, 0, 0, 0, [3, 2]),
        write_tracks(tmp_path, 2, 0, 5, [4]),
        write_tracks(tmp_path, 3, 0, 6, [1, 6]),
    ]
    second = [write_tracks(tmp_path, 4, 1, 8, [2, 2])]
    segments = [
        Segment(0, 0, 4, 5, 16, [5, 0, 4, 7], [2, 0, 1, 2]),
        Segment(1, 4, 1, 2, 4, [4], [2]),
    ]
    return tmp_path, manifest_of(segments, [*first, *second])


@pytest.mark.parametrize("whole_parts", [0, 256])
def test_every_number_belongs_to_its_track(
    index: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, whole_parts: int
) -> None:
    monkeypatch.setattr(opened, "WHOLE_PARTS", whole_parts)
    tracks = IndexTracks(str(index[0]), index[1])
    ordinals, firsts, ends = tracks.locate(0, np.arange(16))
    assert ordinals.tolist() == [0, 0, 0, 1, 1, 5, 5, 5, 5, 6, 7, 7, 7, 7, 7, 7]
    assert firsts.tolist() == [0, 0, 0, 3, 3, 5, 5, 5, 5, 9, 10, 10, 10, 10, 10, 10]
    assert ends.tolist() == [3, 3, 3, 5, 5, 9, 9, 9, 9, 10, 16, 16, 16, 16, 16, 16]
    # In any order, and several times.
    ordinals, firsts, ends = tracks.locate(0, np.array([15, 4, 5, 4, 9, 0]))
    assert ordinals.tolist() == [7, 1, 5, 1, 6, 0]
    assert firsts.tolist() == [10, 3, 5, 3, 9, 0]
    assert ends.tolist() == [16, 5, 9, 5, 10, 3]
    assert [array.size for array in tracks.locate(0, np.empty(0, np.int64))] == [0, 0, 0]


def test_segments_number_their_snippets_apart(index: tuple[Path, Manifest]) -> None:
    tracks = IndexTracks(str(index[0]), index[1])
    assert tracks.locate(1, np.arange(4))[0].tolist() == [8, 8, 9, 9]
    assert tracks.locate(0, np.arange(4))[0].tolist() == [0, 0, 0, 1]
    assert tracks.row(1, 9)["track_id"] == "t9"
    assert tracks.row(0, 1)["track_id"] == "t1"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from now on."""
    names: list[str] = []
    real = parquet.read_table

    def note(path: str, *args: Any, **named: Any) -> pa.Table:
        names.append(Path(path).stem)
        return real(path, *args, **named)

    monkeypatch.setattr(parquet, "read_table", note)
    monkeypatch.setattr(opened, "WHOLE_PARTS", 4)  # the segment has four and an end
    return names


def test_only_parts_that_are_met_are_read_and_once(
    index: tuple[Path, Manifest], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "CACHED_PARTS", 2)
    tracks = IndexTracks(str(index[0]), index[1])
    assert read == []
    tracks.locate(0, np.array([5, 6]))
    assert read == ["part-2"]
    tracks.locate(0, np.array([0, 15]))
    for ordinal in (7, 5, 7, 1):
        assert tracks.row(0, ordinal)["track_id"] == f"t{ordinal}"
    assert read == ["part-2", "part-0", "part-3"]


def test_of_many_parts_the_places_of_tracks_are_kept_and_few_rows(
    index: tuple[Path, Manifest], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query's candidates are in hundreds of parts, its answers in few."""
    monkeypatch.setattr(opened, "CACHED_ROWS", 2)
    tracks = IndexTracks(str(index[0]), index[1])
    tracks.locate(0, np.arange(16))
    assert read == ["part-0", "part-2", "part-3"]
    read.clear()
    for ordinal in (7, 7, 5, 1):  # the last one lets go of the first
        assert tracks.row(0, ordinal)["track_id"] == f"t{ordinal}"
    assert read == ["part-3", "part-2", "part-0"]
    ordinals, firsts, _ = tracks.locate(0, np.array([15, 0]))
    assert (ordinals.tolist(), firsts.tolist()) == ([7, 0], [10, 0])
    assert tracks.row(0, 7)["track_id"] == "t7"
    assert read == ["part-3", "part-2", "part-0", "part-3"]


REMOVALS = "versions/000001/removals/s000.parquet"


@pytest.fixture
def lessened(index: tuple[Path, Manifest]) -> tuple[Path, Manifest]:
    """The same without tracks 1 and 7."""
    folder, manifest = index
    columns = {"ordinal": [1, 7], "first_gid": [3, 10], "end_gid": [5, 16], "snippets": [2, 5]}
    table = pa.table({name: pa.array(values, pa.uint32()) for name, values in columns.items()})
    parquet.write_table(str(folder / REMOVALS), table)
    first = dataclasses.replace(manifest.segments[0], removals=entry(REMOVALS, "removals", 2))
    return folder, dataclasses.replace(manifest, segments=[first, manifest.segments[1]])


def test_removed_tracks_are_nobody(lessened: tuple[Path, Manifest]) -> None:
    folder, manifest = lessened
    tracks = IndexTracks(str(folder), manifest)
    assert tracks.locate(0, np.arange(11))[0].tolist() == [0, 0, 0, -1, -1, 5, 5, 5, 5, 6, -1]
    assert tracks.locate(1, np.arange(4))[0].tolist() == [8, 8, 9, 9]


def test_removals_tell_which_snippets_are_gone(lessened: tuple[Path, Manifest]) -> None:
    folder, manifest = lessened
    tracks = IndexTracks(str(folder), manifest)
    gone = tracks.gone(0)
    assert gone.among(np.arange(16)).tolist() == [3, 4, 10, 11, 12, 13, 14, 15]
    assert (gone.snippets, tracks.gone(1).snippets) == (7, 0)
    table = parquet.read_table(str(folder / REMOVALS), ["ordinal"])
    parquet.write_table(str(folder / REMOVALS), table)
    with pytest.raises(IndexFormatError, match="no column end_gid, first_gid, snippets"):
        IndexTracks(str(folder), manifest).gone(0)


@pytest.mark.parametrize("whole_parts", [0, 256])
def test_a_number_of_no_track_is_damage(
    index: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, whole_parts: int
) -> None:
    monkeypatch.setattr(opened, "WHOLE_PARTS", whole_parts)
    tracks = IndexTracks(str(index[0]), index[1])
    expected = "snippet number 16 of segment 0 is that of no track; run `hashbeam verify`"
    with pytest.raises(IndexFormatError, match=expected):
        tracks.locate(0, np.array([3, 16]))


def test_a_small_segment_is_read_once(
    index: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = IndexTracks(str(index[0]), index[1])
    tracks.locate(0, np.array([5]))
    monkeypatch.setattr(parquet, "read_table", None)
    assert tracks.locate(0, np.arange(16))[0].tolist()[-3:] == [7, 7, 7]
    assert tracks.row(0, 5)["track_id"] == "t5"


def ask(searcher: Any, samples: np.ndarray) -> list[Any]:
    query = searcher.hasher.hash_query([samples])
    return [match for match in searcher.search([query], 5)[0] if match.score >= 0.5]


# Numbers within the catalogue, s05 (which cannot be read) included: ordinals keep its place. The
# last track of a part and the first of the next, and those around silence.
@pytest.mark.parametrize("number", [0, 3, 4, 6, 7, 8, 15, 16, 19])
def test_an_excerpt_is_found_at_its_time_in_its_track(published: Published, number: int) -> None:
    searcher, tracks, _ = open_index(str(published.index))
    track_id = f"s{number:02d}"
    # From 7 s on s07 is silent soon, s08 is heard again, s03 has been silent long ago.
    best = ask(searcher, published.cut(track_id, 6.5, 9.0))[0]
    assert best.ordinal == number
    assert abs(best.offset_s - 6.5) <= 0.25
    row = tracks.row(best.segment, best.ordinal)
    assert (row["track_id"], row["mood"]) == (track_id, "calm")
    assert row["duration_s"] == pytest.approx(12.0, abs=0.1)


def test_a_removed_track_is_not_found(published: Published, tmp_path: Path) -> None:
    shutil.copytree(published.index, tmp_path / "index")
    _, tracks, _ = open_index(str(published.index))
    first, end = tracks.span(0, 6) or (0, 0)
    columns = {"ordinal": 6, "first_gid": first, "end_gid": end}
    columns["snippets"] = tracks.row(0, 6)["snippets"]
    table = pa.table({name: pa.array([value]) for name, value in columns.items()})
    info = parquet.write_table(str(tmp_path / "index" / REMOVALS), table)
    where = tmp_path / "index/versions/000001/manifest.json"
    values = json.loads(where.read_text())
    removals = FileEntry(REMOVALS, "removals", 1, info.bytes, info.sha256, segment=0)
    values["segments"][0]["removals"] = removals.to_json()
    where.write_text(json.dumps(values))
    searcher, _, _ = open_index(str(tmp_path / "index"))
    assert ask(searcher, published.cut("s06", 4, 7)) == []
    assert ask(searcher, published.cut("s07", 4, 7))[0].ordinal == 7


def test_several_segments_answer_as_one(published: Published, tmp_path: Path) -> None:
    """The same catalogue with segments of few snippets, so that each part is one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            segment_codes, "plan_segments", lambda gids: tables.plan_segments(gids, max(gids))
        )
        model = PRETRAINED / DEFAULT_MODEL
        flags = ("--max-failures", "0.1")
        assert run_index(published.catalog, tmp_path / "index", model, *flags) == 0
    searcher, tracks, manifest = open_index(str(tmp_path / "index"))
    whole, _, _ = open_index(str(published.index))
    assert [segment.n_parts for segment in manifest.segments] == [1, 1, 1]
    for number in (0, 7, 8, 15, 16, 19):
        query = published.cut(f"s{number:02d}", 2, 6)
        one, other = ask(searcher, query)[0], ask(whole, query)[0]
        assert one.segment == number // 8
        assert tracks.row(one.segment, one.ordinal)["track_id"] == f"s{number:02d}"
        assert (one.ordinal, one.offset_s) == (other.ordinal, other.offset_s)
        assert one.votes == other.votes
        assert one.evidence.strength == other.evidence.strength
        # Each segment has candidates of its own, so that chance is measured at other places.
        assert one.score == pytest.approx(other.score, abs=0.02)


def test_an_index_anywhere_answers_the_same(
    published: Published, memory_objects: dict[str, bytes]
) -> None:
    for path in published.index.rglob("*"):
        if path.is_file():
            memory_objects[f"mem://b/music.index/{path.relative_to(published.index)}"] = (
                path.read_bytes()
            )
    here, _, _ = open_index(str(published.index))
    for name in ("mem://b/music.index", "mem://b/music.index/", f"file://{published.index}"):
        there, tracks, _ = open_index(name)
        query = published.cut("s17", 3, 6)
        found = ask(there, query)
        assert found == ask(here, query)
        assert tracks.row(0, found[0].ordinal)["track_id"] == "s17"


def test_opening_reads_no_table_and_no_track(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "read_table", None)
    monkeypatch.setattr(opened.Shard, "open", None)
    monkeypatch.setattr(opened.CodeMatrix, "open", None)
    searcher, _, _ = open_index(str(published.index))
    assert searcher.tables.opened == []


@pytest.mark.parametrize(("kind", "number"), [("tables", 7), ("matrices", 2)])
def test_a_truncated_file_is_named_when_it_is_needed(
    published: Published, tmp_path: Path, kind: str, number: int
) -> None:
    shutil.copytree(published.index, tmp_path / "index")
    path = paths(tmp_path / "index", open_manifest(str(published.index)), kind)[number]
    path.write_bytes(path.read_bytes()[:-4])
    searcher, _, _ = open_index(str(tmp_path / "index"))
    with pytest.raises(IndexFormatError) as error:
        ask(searcher, published.cut("s01", 2, 4))
    assert f"{path} is truncated: " in str(error.value)
    assert "run `hashbeam verify`" in str(error.value)


def test_codes_that_lack_rows_are_named_when_they_are_needed(
    published: Published, tmp_path: Path
) -> None:
    """Mapped, a place beyond the end of a file would end the process."""
    shutil.copytree(published.index, tmp_path / "index")
    manifest = open_manifest(str(published.index))
    codes, matrix = (paths(tmp_path / "index", manifest, k)[0] for k in ("codes", "matrices"))
    whole = codes.read_bytes()
    for data, words in (
        (whole[: len(whole) // 10], f"{matrix} does not fit the shard beside it"),
        (b"", f"{matrix} does not fit the shard beside it, which has 0 bytes"),
        (None, f"code matrix {codes} cannot be opened (No such file"),
    ):
        codes.unlink() if data is None else codes.write_bytes(data)
        searcher, _, _ = open_index(str(tmp_path / "index"))
        with pytest.raises(IndexFormatError) as error:
            ask(searcher, published.cut("s01", 2, 4))
        assert words in str(error.value)
        assert "run `hashbeam verify`" in str(error.value)


def test_a_matrix_without_codes_is_damage(published: Published, tmp_path: Path) -> None:
    shutil.copytree(published.index, tmp_path / "index")
    where = tmp_path / "index/versions/000001/manifest.json"
    values = json.loads(where.read_text())
    row = values["files"]["kind"].index("codes")
    values["files"] = {name: c[:row] + c[row + 1 :] for name, c in values["files"].items()}
    where.write_text(json.dumps(values))
    with pytest.raises(IndexFormatError, match=r"part 0 of segment 0 has a code matrix but no co"):
        open_index(str(tmp_path / "index"))


def test_a_part_without_a_matrix_is_damage(published: Published, tmp_path: Path) -> None:
    shutil.copytree(published.index, tmp_path / "index")
    where = tmp_path / "index/versions/000001/manifest.json"
    values = json.loads(where.read_text())
    row = values["files"]["kind"].index("matrices")
    values["files"] = {name: c[:row] + c[row + 1 :] for name, c in values["files"].items()}
    where.write_text(json.dumps(values))
    searcher, _, _ = open_index(str(tmp_path / "index"))
    with pytest.raises(IndexFormatError, match=r"part 0 of segment 0 has .* no code matrix; run"):
        ask(searcher, published.cut("s01", 2, 4))


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HashbeamError, match="there is no such index"):
        open_index(str(tmp_path / "nowhere"))


def other_model(folder: Path) -> Path:
    """The default model with a threshold moved: the same in all but its digest."""
    model = load_model(DEFAULT_MODEL)
    thresholds = model.arrays["thresholds"].copy()
    thresholds[0] += 1
    arrays = {**model.arrays, "thresholds": thresholds}
    save_model(folder, model.config, {"model": model.graph("model")}, arrays, "# Other")
    return folder


def test_another_model_is_refused_with_both_digests(published: Published, tmp_path: Path) -> None:
    other = load_model(str(other_model(tmp_path / "other")))
    own = open_manifest(str(published.index)).model["digest"]
    with pytest.raises(ModelError) as error:
        open_index(str(published.index), str(other.path))
    assert own[:16] in str(error.value)
    assert other.digest[:16] in str(error.value)
    assert own[:16] != other.digest[:16]
    assert "--model" in str(error.value)


def test_a_model_of_ones_own_is_found_where_it_was(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from another folder, and under the name that it has moved to."""
    shutil.copytree(model_folder, tmp_path / "own")
    catalog = tiny_catalog(tmp_path / "music", 2)
    monkeypatch.chdir(tmp_path)
    assert run_index(catalog, tmp_path / "index", Path("own")) == 0
    monkeypatch.chdir("/")
    digest = Hasher.load(str(model_folder)).digest
    manifest = open_manifest(str(tmp_path / "index"))
    assert find_hasher(manifest, None).digest == digest
    (tmp_path / "own").rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="own"):
        find_hasher(manifest, None)
    assert find_hasher(manifest, str(tmp_path / "moved")).digest == digest


def test_the_stamps_of_the_index_are_those_of_its_model(published: Published) -> None:
    _, _, manifest = open_index(str(published.index))
    for path in (*paths(published.index, manifest, "tracks"),):
        digest = pq.read_schema(path).metadata[b"hasher_digest"].decode()
        assert digest == find_hasher(manifest, None).digest
