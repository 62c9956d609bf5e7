"""Catalogues: what is read, what is refused and how, and the scan of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import mutagen
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_catalog import RATE, tune

from hashing.errors import CatalogError
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.cli import main
from pipelines.scan import scan_folder, track_ids, write_catalog

ROWS = [
    {"track_id": "b", "uri": "music/b.mp3", "artist_name": "Ann; Bob", "x": "1"},
    {"track_id": "B", "uri": "/abs/B.mp3", "artist_name": "", "x": ""},
    {"track_id": "ä", "uri": "gs://bucket/ä.mp3", "artist_name": "Änne", "x": "2"},
]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"c.{kind}"
    if kind == "csv":
        lines = [",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    elif kind == "jsonl":
        rows = [{**row, "artist_name": row["artist_name"].split("; ")} for row in ROWS[:1]]
        rows += [{k: v for k, v in row.items() if v} for row in ROWS[1:]]
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        table = pa.Table.from_pylist(ROWS)
        for column in ("track_id", "uri"):
            place = table.column_names.index(column)
            encoded = table[column].dictionary_encode()
            table = table.set_column(place, column, encoded)
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_three_formats_give_the_same_rows(tmp_path: Path, kind: str) -> None:
    table = read_catalog(str(write(tmp_path, kind)))
    # Byte order: capitals first, umlauts last.
    assert table["track_id"].to_pylist() == ["B", "b", "ä"]
    assert table["uri"].to_pylist() == [
        "/abs/B.mp3",
        str(tmp_path / "music/b.mp3"),
        "gs://bucket/ä.mp3",
    ]
    assert table["artist_name"].to_pylist() == [None, ["Ann", "Bob"], ["Änne"]]
    assert table["x"].to_pylist()[1:] == ["1", "2"]
    assert table.schema.field("track_id").type == pa.string()


def test_the_kind_is_told_by_the_content_where_the_extension_says_nothing(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl", "parquet"):
        path = write(tmp_path, kind).rename(tmp_path / f"{kind}.data")
        assert read_catalog(str(path)).num_rows == 3


def test_quoted_values_and_newlines_in_them_are_one_row(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('track_id,uri,title\n"a,1",a.wav,"two\nlines"\n\nb,b.wav,\n')
    assert read_catalog(str(path))["title"].to_pylist() == ["two\nlines", None]


def test_unknown_columns_of_mixed_types_are_carried_as_json(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(
        '{"track_id": "a", "uri": "a", "n": 1, "any": [1]}\n'
        '{"track_id": "b", "uri": "b", "n": 2, "any": "x"}\n'
    )
    table = read_catalog(str(path))
    assert table["n"].to_pylist() == [1, 2]
    assert table["any"].to_pylist() == ["[1]", '"x"']


def test_dates_of_parquet_become_text(tmp_path: Path) -> None:
    table = pa.table({"track_id": ["a"], "uri": ["a"], "release_date": pa.array([0], pa.date32())})
    pq.write_table(table, tmp_path / "c.parquet")
    assert read_catalog(str(tmp_path / "c.parquet"))["release_date"].to_pylist() == ["1970-01-01"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_list_of_clips_may_call_its_ids_clip_id(tmp_path: Path, kind: str) -> None:
    rows = {"clip_id": ["b", "a"], "uri": ["/b.wav", "/a.wav"], "label": ["drum", "flute"]}
    path = tmp_path / f"c.{kind}"
    write_plainly(pa.table(rows), path, kind)
    table = read_catalog(str(path))
    assert table.column_names == ["track_id", "uri", "label"]
    assert table["track_id"].to_pylist() == ["a", "b"]
    assert table["label"].to_pylist() == ["flute", "drum"]
    # Where both are there, clip_id is a column like any other.
    write_plainly(pa.table({**rows, "track_id": ["1", "2"]}), path, kind)
    table = read_catalog(str(path))
    assert table["track_id"].to_pylist() == ["1", "2"]
    assert table["clip_id"].to_pylist() == ["b", "a"]


def write_plainly(table: pa.Table, path: Path, kind: str) -> None:
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "csv":
        lines = [table.column_names, *(row.values() for row in table.to_pylist())]
        path.write_text("".join(",".join(line) + "\n" for line in lines))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


def test_ids_of_clips_are_no_numbers_but_beside_track_ids(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"clip_id": 7, "track_id": "a", "uri": "a"}')
    assert read_catalog(str(path))["clip_id"].to_pylist() == [7]
    # The queries of a look-up have ids of their own.
    with pytest.raises(CatalogError, match="column query_id missing, found clip_id"):
        read_catalog(str(path), "query_id")
    pq.write_table(pa.table({"clip_id": [1], "uri": ["a"]}), tmp_path / "c.parquet")
    with pytest.raises(CatalogError, match="column clip_id: must be text, is int64"):
        read_catalog(str(tmp_path / "c.parquet"))


BAD = {
    "the same clip": ("c.csv", b"clip_id,uri\na,a\na,b\n", "row 2, column clip_id: 'a' is"),
    "empty clip id": ("c.csv", b"clip_id,uri\n,a\n", "row 1, column clip_id: empty"),
    "a number of a clip": (
        "c.jsonl",
        b'{"clip_id": "a", "uri": "a"}\n{"clip_id": 7, "uri": "b"}',
        "row 2, column clip_id: must be text, got 7",
    ),
    "empty": ("c.csv", b"", "c.csv is empty"),
    "blank": ("c.csv", b"\n \n", "c.csv is empty"),
    "header only": ("c.csv", b"track_id,uri\n", "holds no tracks"),
    "binary": ("c.csv", b"\x7fELF\0\0\0", "no CSV, JSON Lines or Parquet"),
    "utf-16": ("c.csv", "track_id,uri\na,a\n".encode("utf-16"), "not UTF-8"),
    "latin-1": ("c.csv", b"track_id,uri\n\xe4,a\n", "no CSV in UTF-8"),
    "missing column": ("c.csv", b"id,uri\na,a\n", "column track_id missing, found id, uri"),
    "semicolons": ("c.csv", b"track_id;uri\na;a\n", "separated by commas"),
    "same name twice": ("c.csv", b"track_id,uri,uri\na,a,a\n", "names column uri twice"),
    "no name": ("c.csv", b"track_id,uri,\na,a,a\n", "a column with an empty name"),
    "ragged": ("c.csv", b"track_id,uri\na,a\nb\nc,c,c\n", "row 2: 1 values, the header names 2"),
    "ragged, too": ("c.csv", b"track_id,uri\na,a\nb\nc,c,c\n", "row 3: 3 values"),
    "duplicate": ("c.csv", b"track_id,uri\na,a\nb,b\na,c\n", "row 3, column track_id: 'a' is"),
    "of which": ("c.csv", b"track_id,uri\na,a\nb,b\na,c\n", "there already in row 1"),
    "empty id": ("c.csv", b"track_id,uri\na,a\n ,b\n", "row 2, column track_id: empty"),
    "empty uri": ("c.csv", b"track_id,uri\na,\n", "row 1, column uri: empty"),
    "no JSON": ("c.jsonl", b'{"track_id": "a", "uri": "a"}\n{"track', "row 2: no JSON"),
    "a JSON array": ("c.json", b'[{"track_id": "a", "uri": "a"}]', "one object a line"),
    "a number": ("c.jsonl", b'{"track_id": 7, "uri": "a"}', "column track_id: must be text, got 7"),
    "a number in a list": (
        "c.jsonl",
        b'{"track_id": "a", "uri": "a", "genres": ["x", 3]}',
        "row 1, column genres: must be text, got 3",
    ),
    "null id": ("c.jsonl", b'{"track_id": null, "uri": "a"}', "row 1, column track_id: empty"),
    "JSON without uri": ("c.jsonl", b'{"track_id": "a"}', "column uri missing"),
    "cut Parquet": ("c.parquet", b"PAR1 and no more", "no whole Parquet file"),
    "no Parquet": ("c.parquet", b"track_id,uri\na,a\n", "no CSV, JSON Lines or Parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_catalogue_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file, data, expected = BAD[name]
    path = tmp_path / file
    path.write_bytes(data)
    status = main(["index", "--catalog", str(path), "--out", str(tmp_path / "index")])
    line = capsys.readouterr().err
    assert status == 2
    assert line.count("\n") == 1
    assert line.startswith(f"hashbeam index: error: {path}")
    assert expected in line
    assert not (tmp_path / "index").exists()


def test_a_missing_catalogue_and_a_folder_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, expected in ((tmp_path / "no.csv", "does not exist"), (tmp_path, "is a folder")):
        assert main(["index", "--catalog", str(path), "--out", str(tmp_path / "index")]) == 2
        line = capsys.readouterr().err
        assert str(path) in line
        assert expected in line
        assert line.count("\n") == 1


def test_a_wrong_type_of_parquet_names_the_column(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"track_id": [1], "uri": ["a"]}), path)
    with pytest.raises(CatalogError, match=r"column track_id: must be text, is int64"):
        read_catalog(str(path))
    pq.write_table(pa.table({"track_id": ["1"], "uri": ["a"], "genres": [[1]]}), path)
    with pytest.raises(CatalogError, match=r"column genres: must be text or a list of text"):
        read_catalog(str(path))


def test_a_list_of_queries_is_checked_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"query_id": "b", "uri": "b.wav"}\n{"query_id": "a", "uri": "/a.wav"}')
    assert read_catalog(str(path), "query_id")["query_id"].to_pylist() == ["a", "b"]
    path.write_text('{"query_id": 7, "uri": "b.wav"}')
    with pytest.raises(CatalogError, match=r"row 1, column query_id: must be text, got 7"):
        read_catalog(str(path), "query_id")


def test_all_problems_are_told_at_once_but_not_thousands(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("track_id,uri\n" + "".join(f"t{i % 50},\n" for i in range(100)))
    with pytest.raises(CatalogError) as caught:
        read_catalog(str(path))
    assert str(caught.value).count("row") == 10
    assert "and 140 more" in str(caught.value)  # 100 empty uris, 50 duplicate ids


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=8)
IDS = st.lists(TEXT.filter(lambda text: text.strip()), min_size=1, max_size=8, unique=True)


@settings(max_examples=25)
@given(ids=IDS)
def test_any_ids_survive_csv_and_jsonl_in_byte_order(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("catalogues")
    table = pa.table({"track_id": ids, "uri": [f"/{i}.wav" for i in range(len(ids))]})
    for kind in ("csv", "jsonl", "parquet"):
        write_catalog(table, str(folder / f"c.{kind}"), kind)
        read = read_catalog(str(folder / f"c.{kind}"))
        assert read["track_id"].to_pylist() == sorted(ids, key=str.encode)


def test_the_digest_follows_what_must_be_hashed_again() -> None:
    base = {"track_id": ["a", "b"], "uri": ["/a", "/b"], "etag": ["1", None]}
    digest = catalog_digest(pa.table(base))
    assert digest == catalog_digest(pa.table({**base, "title": ["x", "y"]}))
    for change in ({"etag": ["2", None]}, {"uri": ["/a", "/c"]}, {"track_id": ["a", "c"]}):
        assert catalog_digest(pa.table({**base, **change})) != digest
    # The same bytes, cut elsewhere.
    moved = {**base, "track_id": ["ab", ""]}
    assert catalog_digest(pa.table(moved)) != catalog_digest(
        pa.table({**base, "track_id": ["a", "b"]})
    )


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    (folder / "one").mkdir(parents=True)
    for name in ("one/a.flac", "one/b.ogg", "one/b.wav", ".hidden.flac"):
        soundfile.write(folder / name, tune(1, 0.5), RATE)
    tags = mutagen.File(folder / "one/a.flac", easy=True)
    tags.update({"title": "A", "artist": ["Ann", "Bob"], "album": "L", "date": "1999"})
    tags.save()
    wave = mutagen.File(folder / "one/b.wav")
    wave.add_tags()
    wave.tags.add(mutagen.id3.TIT2(text="W"))
    wave.save()
    (folder / "broken.mp3").write_bytes(b"no audio at all")
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_folder_is_scanned_with_its_tags(music: Path) -> None:
    table, counters = scan_folder(str(music))
    rows = {row["track_id"]: row for row in table.to_pylist()}
    assert list(rows) == ["broken", "one/a", "one/b.ogg", "one/b.wav"]
    assert rows["one/a"]["artist_name"] == ["Ann", "Bob"]
    assert (rows["one/a"]["title"], rows["one/a"]["release_date"]) == ("A", "1999")
    assert rows["one/a"]["declared_duration_s"] == pytest.approx(0.5)
    assert rows["one/b.wav"]["title"] == "W"
    assert rows["broken"]["title"] is None
    assert counters == {"tracks": 4, "unreadable_tags": 1, "names_not_utf8": 0, "other_files": 2}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_catalog_verb_writes_what_index_reads(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / f"c.{kind}"
    assert main(["catalog", str(music), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tracks"] == 4
    table = read_catalog(str(out))
    assert table["uri"].to_pylist()[1] == str(music / "one/a.flac")
    assert table["artist_name"].to_pylist()[1] == ["Ann", "Bob"]
    if kind == "csv":
        assert "music/one/a.flac" in out.read_text()
        assert str(tmp_path) not in out.read_text()  # relative: both can be moved together
    assert main(["catalog", str(music), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["catalog", str(music), "--out", str(out), "--force"]) == 0


@pytest.mark.parametrize(
    ("folder", "out", "expected"),
    [
        ("none", "c.csv", "is no folder"),
        ("empty", "c.csv", "holds no audio (1 other files)"),
        ("empty", "c.txt", "must be .csv, .jsonl or .parquet"),
        ("gs://bucket/music", "c.csv", "local folder only"),
    ],
)
def test_what_cannot_be_scanned_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, out: str, expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    place = folder if "://" in folder else str(tmp_path / folder)
    assert main(["catalog", place, "--out", str(tmp_path / out)]) == 2
    line = capsys.readouterr().err
    assert expected in line
    assert line.count("\n") == 1


@given(
    st.lists(
        st.sampled_from(
            ["a.mp3", "a.ogg", "a.mp3.ogg", "a.mp3.wav", "b.mp3", "a/b.mp3", "a.b.ogg"]
        ),
        unique=True,
    )
)
def test_track_ids_are_unique_whatever_the_files_are_called(paths: list[str]) -> None:
    assert len(set(track_ids(paths))) == len(paths)
