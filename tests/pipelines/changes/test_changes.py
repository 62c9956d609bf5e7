"""What has changed: each class by hand, and random catalogues against a dictionary."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from change_fixture import (
    File,
    Row,
    World,
    catalog_table,
    index_folder,
    tracks_table,
    write_version,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.errors import IndexFormatError
from pipelines.changes.classes import REMOVED, Asked, Changes, read_changes, write_changes
from pipelines.changes.compare import Files
from pipelines.changes.memory import all_failures, find_changes, join
from pipelines.changes.sides import failed_side, hash_texts, indexed_side
from pipelines.reindexing.work import rows_to_make
from pipelines.track_tables import TRACK_FAILURES

A, B = b"a" * 16, b"b" * 16


def told(changes: Changes) -> dict[str, tuple[str, str]]:
    """track_id → class and reason."""
    rows = changes.table.to_pylist()
    assert [row["track_id"] for row in rows] == sorted(row["track_id"] for row in rows)
    return {row["track_id"]: (row["class"], row["reason"]) for row in rows}


def one(tmp_path: Path, before: Row, now: Row, file: File | None, **more: Any) -> tuple[str, str]:
    """Class and reason of one track, "unchanged" where it is in no table."""
    world = World({} if file is None else {now["uri"]: file})
    manifest = write_version(index_folder(tmp_path), [[{"track_id": "t", **before}]], **more)
    found = find_changes(
        index_folder(tmp_path),
        manifest,
        catalog_table([{"track_id": "t", **now}]),
        None,
        world.access,
    )
    return told(found).get("t", ("unchanged", ""))


OLD = {"uri": "u", "size": 5, "mtime": 7.5, "content": A}
REMOTE = {"uri": "u", "size": 5, "content": A}


@pytest.mark.parametrize(
    ("before", "now", "file", "expected"),
    [
        # Two etags decide, whatever the file says; one alone says nothing.
        ({**OLD, "etag": "e"}, {"uri": "u", "etag": "e"}, File(6), ("unchanged", "")),
        ({**OLD, "etag": "e"}, {"uri": "u", "etag": "f"}, File(5, 7.5, A), ("changed", "etag")),
        ({**OLD, "etag": "e"}, {"uri": "u"}, File(5, 7.5), ("unchanged", "")),
        ({**OLD, "etag": "e"}, {"uri": "u", "etag": ""}, File(5, 8.5), ("changed", "mtime")),
        # Then the size, then the time, however equal the content looks.
        (OLD, {"uri": "u"}, File(6, 7.5, A), ("changed", "size")),
        (OLD, {"uri": "u"}, File(5, 7.6, A), ("changed", "mtime")),
        (OLD, {"uri": "u"}, File(5, 7.5, B), ("unchanged", "")),
        (OLD, {"uri": "u"}, None, ("changed", "gone")),
        # Stores that tell no time: the content, where it is known.
        (REMOTE, {"uri": "u"}, File(5, None, A), ("unchanged", "")),
        (REMOTE, {"uri": "u"}, File(5, None, B), ("changed", "content")),
        ({"uri": "u", "size": 5}, {"uri": "u"}, File(5, None, B), ("unchanged", "")),
        # Elsewhere: etag and size, or the content; never the time.
        ({**OLD, "etag": "e"}, {"uri": "v", "etag": "e"}, File(5, 9.0, B), ("moved", "etag")),
        ({**OLD, "etag": "e"}, {"uri": "v", "etag": "e"}, File(6), ("changed", "size")),
        (OLD, {"uri": "v"}, File(5, 7.5, A), ("moved", "content")),
        (OLD, {"uri": "v"}, File(5, 7.5, B), ("changed", "content")),
        ({"uri": "u", "size": 5, "mtime": 7.5}, {"uri": "v"}, File(5, 7.5), ("changed", "uri")),
        (OLD, {"uri": "v"}, None, ("changed", "gone")),
        # The same file with another row.
        ({**OLD, "title": "x"}, {"uri": "u", "title": "y"}, File(5, 7.5), ("edited", "row")),
        ({**OLD, "title": "x"}, {"uri": "u", "title": "x"}, File(5, 7.5), ("unchanged", "")),
        ({**OLD, "title": "x"}, {"uri": "u"}, File(5, 7.5), ("edited", "row")),
        (OLD, {"uri": "u", "title": ""}, File(5, 7.5), ("unchanged", "")),
        (OLD, {"uri": "u", "etag": "e"}, File(5, 7.5), ("edited", "row")),
        ({**OLD, "genres": ["a", "b"]}, {"uri": "u", "genres": ["a", "b"]}, File(5, 7.5),
         ("unchanged", "")),
        ({**OLD, "genres": ["a", "b"]}, {"uri": "u", "genres": ["ab"]}, File(5, 7.5),
         ("edited", "row")),
        ({**OLD, "genres": ["a", "b"]}, {"uri": "u", "genres": "a;b"}, File(5, 7.5),
         ("unchanged", "")),
        ({**OLD, "genres": "a;b"}, {"uri": "u", "genres": ["a", "b"]}, File(5, 7.5),
         ("unchanged", "")),
        ({**OLD, "catalog_size": "big"}, {"uri": "u", "size": "big"}, File(5, 7.5),
         ("unchanged", "")),
        ({**OLD, "year": 7}, {"uri": "u", "year": "7"}, File(5, 7.5), ("unchanged", "")),
    ],
)  # fmt: skip
def test_one_track(
    tmp_path: Path, before: Row, now: Row, file: File | None, expected: tuple[str, str]
) -> None:
    assert one(tmp_path, before, now, file) == expected


def test_an_equal_etag_needs_no_look_and_force_none_at_all(tmp_path: Path) -> None:
    rows = [{"track_id": f"t{n}", "uri": f"u{n}", "etag": "e", "size": 5} for n in range(5)]
    manifest = write_version(index_folder(tmp_path), [rows])
    world = World({})
    catalog = catalog_table([{k: row[k] for k in ("track_id", "uri", "etag")} for row in rows])
    changes = find_changes(index_folder(tmp_path), manifest, catalog, None, world.access)
    assert changes.nothing
    assert (changes.counts["tracks_unchanged"], changes.counts["files_looked_at"]) == (5, 0)
    forced = find_changes(
        index_folder(tmp_path), manifest, catalog, Asked(force=True), world.access
    )
    assert set(told(forced).values()) == {("changed", "forced")}
    assert (world.looked, world.read) == ([], [])
    assert rows_to_make(forced, catalog).equals(catalog)
    assert forced.of(*REMOVED)["ordinal"].to_pylist() == [0, 1, 2, 3, 4]


def failure(track_id: str, **more: Any) -> Row:
    return {"track_id": track_id, "uri": f"{track_id}.mp3", "stage": "decode", **more}


def test_failures_are_tried_again_when_their_file_has_changed_or_it_is_asked_for(
    tmp_path: Path,
) -> None:
    failures = [
        [failure("same", size=5, mtime=7.5), failure("larger", size=5, mtime=7.5)],
        [failure("absent"), failure("came"), failure("larger", size=6, mtime=7.5)],
        [failure("etag", etag="e", size=5), failure("gone", size=5, mtime=7.5)],
        [failure("late", etag="e"), {**failure("live"), "stage": "embed"}, failure("dropped")],
    ]
    live = {"track_id": "live", "uri": "live.mp3", "size": 5, "mtime": 7.5}
    manifest = write_version(index_folder(tmp_path), [[live]], failures=failures)
    world = World({f"{name}.mp3": File(5, 7.5) for name in ("same", "larger", "came", "live")})
    world.files["late.mp3"] = File(5, 7.5)
    names = ("same", "larger", "absent", "came", "etag", "gone", "late", "live")
    rows = [{"track_id": name, "uri": f"{name}.mp3"} for name in names]
    rows = [{**row, "etag": "e"} if row["track_id"] in ("etag", "late") else row for row in rows]
    catalog = catalog_table(rows)
    found = find_changes(index_folder(tmp_path), manifest, catalog, None, world.access)
    assert told(found) == {
        "same": ("failed", "mtime"),
        "larger": ("retried", "size"),  # the newest failure counts
        "absent": ("failed", "gone"),
        "came": ("retried", "found"),
        "etag": ("failed", "etag"),
        "gone": ("retried", "gone"),
        "late": ("retried", "found"),  # its etag was known before it was there
    }
    again = find_changes(
        index_folder(tmp_path), manifest, catalog, Asked(retry_failed=True), world.access
    )
    assert {name for name, (kind, _) in told(again).items() if kind == "retried"} == {
        "same", "larger", "absent", "came", "etag", "gone", "late",
    }  # fmt: skip
    # Hashed, but without what the index was asked for beside codes.
    assert told(again)["live"] == ("changed", "retry")


def test_renamed_tracks_are_recognised_where_it_is_sure(tmp_path: Path) -> None:
    def old(track_id: str, uri: str, **more: Any) -> Row:
        return {"track_id": track_id, "uri": uri, "size": 5, "mtime": 1.0, "content": A, **more}

    rows = [
        old("a", "stays"),
        old("b", "kept-uri", content=b"c" * 16),
        old("c", "twin-1", size=7, content=B),
        old("d", "twin-2", size=7, content=B),
        old("e", "overwritten", content=b"e" * 16),
        old("f", "moved-1", size=9, content=b"f" * 16),
        old("g", "etag-only", size=10, content=None, etag="g"),
    ]
    manifest = write_version(index_folder(tmp_path), [rows])
    world = World(
        {
            "stays": File(5, 1.0, A),
            "kept-uri": File(5, 1.0, b"c" * 16),
            "twin-3": File(7, 1.0, B),
            "overwritten": File(5, 2.0, b"z" * 16),
            "moved-2": File(9, 3.0, b"f" * 16),
            "elsewhere": File(10, 1.0, b"g" * 16),
            "other-size": File(11, 1.0, b"g" * 16),
        }
    )
    catalog = catalog_table(
        [
            {"track_id": "a", "uri": "stays", "etag": None},
            {"track_id": "n-b", "uri": "kept-uri"},
            {"track_id": "n-c", "uri": "twin-3"},
            {"track_id": "n-e", "uri": "overwritten"},
            {"track_id": "n-f", "uri": "moved-2"},
            {"track_id": "n-g", "uri": "elsewhere", "etag": "g"},
            {"track_id": "n-h", "uri": "other-size"},
        ]
    )
    found = find_changes(index_folder(tmp_path), manifest, catalog, None, world.access)
    assert told(found) == {
        "n-b": ("renamed", "mtime"),
        "n-c": ("new", "id"),  # which of two twins it was is not to be told
        "n-e": ("new", "id"),
        "n-f": ("renamed", "content"),
        "n-g": ("renamed", "etag"),
        "n-h": ("new", "id"),
        "c": ("removed", "id"),
        "d": ("removed", "id"),
        "e": ("removed", "id"),
    }
    renamed = {row["track_id"]: row for row in found.of("renamed").to_pylist()}
    assert (renamed["n-f"]["old_track_id"], renamed["n-f"]["ordinal"]) == ("f", 5)
    assert (renamed["n-f"]["row"], renamed["n-f"]["uri"]) == (4, "moved-2")
    # No file is read whose size none of the removed ones had.
    assert "other-size" not in world.read
    assert found.counts["tracks_renamed"] == 3
    assert sorted(found.of(*REMOVED)["ordinal"].to_pylist()) == [1, 2, 3, 4, 5, 6]


def test_what_is_to_be_decoded_is_estimated(tmp_path: Path) -> None:
    rows = [
        {"track_id": "a", "uri": "a", "etag": "1", "size": 5, "duration_s": 100.0},
        {"track_id": "b", "uri": "b", "etag": "1", "size": 5, "duration_s": 300.0},
    ]
    manifest = write_version(index_folder(tmp_path), [rows])
    wanted = [
        {"track_id": "b", "uri": "b", "etag": "2"},
        {"track_id": "c", "uri": "c", "declared_duration_s": "50.5"},
        {"track_id": "d", "uri": "d", "declared_duration_s": ""},
    ]
    catalog = catalog_table(wanted)
    changes = find_changes(index_folder(tmp_path), manifest, catalog, None, World({}).access)
    estimate = changes.estimate(catalog)
    # b is known from the version, c from the catalogue, d is taken to be as long as the mean.
    assert (estimate.tracks, estimate.tracks_known) == (3, 2)
    assert estimate.audio_s == 300.0 + 50.5 + 200.0
    without = changes.estimate(catalog.drop_columns(["declared_duration_s"]))
    assert (without.tracks_known, without.audio_s) == (1, 700.0)
    assert changes.to_text() == "2 new, 1 changed, 1 removed"
    path = str(tmp_path / "kept.parquet")
    write_changes(path, changes)
    again = read_changes(path)
    assert again.table.equals(changes.table)
    assert again.counts == changes.counts


def test_a_version_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    index = index_folder(tmp_path)
    rows = [{"track_id": name, "uri": "u", "size": 1} for name in "ab"]
    catalog = catalog_table([{"track_id": "a", "uri": "u"}])
    manifest = write_version(index, [rows, rows[:1]])
    with pytest.raises(IndexFormatError, match="1 tracks are live twice in the version, such as a"):
        find_changes(index, manifest, catalog, None, World({}).access)
    # Removed from one of them, it is there once.
    manifest = write_version(index, [rows, rows[:1]], removed=[[0]])
    find_changes(index, manifest, catalog, None, World({}).access)
    for part_rows in (1, 2):
        manifest = write_version(index, [rows[::-1]], part_rows=part_rows)
        with pytest.raises(IndexFormatError, match="not in order of track_id, near"):
            find_changes(index, manifest, catalog, None, World({}).access)


# Few values, so that they meet.
IDS = [f"t{number}" for number in range(8)]
URIS = [f"u{number}" for number in range(4)]
ETAGS = st.sampled_from([None, "", "e", "f"])
CONTENTS = st.sampled_from([A, B])
TRACK = st.fixed_dictionaries(
    {
        "uri": st.sampled_from(URIS),
        "etag": ETAGS,
        "size": st.integers(1, 2),
        "mtime": st.sampled_from([None, 1.0, 2.0]),
        "content": st.sampled_from([None, A, B]),
        "title": st.sampled_from([None, "x", "y"]),
    }
)
FAILURE = st.fixed_dictionaries(
    {
        "uri": st.sampled_from(URIS),
        "etag": ETAGS,
        "size": st.sampled_from([None, 1, 2]),
        "mtime": st.sampled_from([None, 1.0]),
        "content": st.sampled_from([None, A]),
        "stage": st.sampled_from(["decode", "embed"]),
    }
)
WANTED = st.fixed_dictionaries(
    {"uri": st.sampled_from(URIS), "etag": ETAGS, "title": st.sampled_from([None, "", "x", "y"])}
)
FILES = st.dictionaries(
    st.sampled_from(URIS),
    st.builds(File, st.integers(1, 2), st.sampled_from([None, 1.0, 2.0]), CONTENTS),
)
# A live track stands in one of three segments; others of its id were removed from some.
INDEXED = st.dictionaries(
    st.sampled_from(IDS), st.tuples(TRACK, st.integers(0, 2), st.sets(st.integers(0, 2)))
)
CATALOGS = st.dictionaries(st.sampled_from(IDS), WANTED, min_size=1)
FAILURES = st.lists(st.dictionaries(st.sampled_from(IDS), FAILURE), max_size=2)


def naive(
    catalog: dict[str, Row],
    live: dict[str, Row],
    failed: dict[str, Row],
    files: dict[str, File],
    asked: Asked,
) -> dict[str, str]:
    """The class of every track, found one by one; renamed ones are not looked for."""
    found = {}
    for name, row in catalog.items():
        before = live.get(name, failed.get(name))
        if before is None:
            found[name] = "new"
            continue
        verdict = "changed" if asked.force else judge(row, before, files.get(row["uri"]))
        if name in live:
            again = name in failed and failed[name]["stage"] == "embed" and asked.retry_failed
            if verdict == "same":
                told = (row["title"] or None) != before["title"]
                verdict = "edited" if told or (row["etag"] and not before["etag"]) else "unchanged"
            found[name] = "changed" if again else verdict
        else:
            again = asked.retry_failed or verdict != "same"
            found[name] = "retried" if again else "failed"
    return {**found, **{name: "removed" for name in live if name not in catalog}}


def judge(row: Row, before: Row, file: File | None) -> str:
    same_uri = row["uri"] == before["uri"]
    etags = bool(row["etag"] and before["etag"]) and before["size"] is not None
    if etags and row["etag"] != before["etag"]:
        return "changed"
    if etags and same_uri:
        return "same"
    if file is None:
        return "same" if before["size"] is None and same_uri else "changed"
    if before["size"] is None or file.size != before["size"]:
        return "changed"
    if etags:
        return "moved"
    if same_uri and None not in (file.mtime, before["mtime"]):
        return "same" if file.mtime == before["mtime"] else "changed"
    if before["content"] is not None:
        equal = file.content == before["content"]
        return ("same" if same_uri else "moved") if equal else "changed"
    return "same" if same_uri else "changed"


Placed = dict[str, tuple[Row, int, set[int]]]


def place(indexed: Placed) -> tuple[list[list[Row]], list[list[int]]]:
    """Rows of three segments with these live tracks, and the ordinals of their removed copies."""
    segments: list[list[Row]] = [[], [], []]
    removed: list[list[int]] = [[], [], []]
    for name in sorted(indexed):
        track, home, copies = indexed[name]
        for segment in sorted({home} | copies):
            if segment != home:
                removed[segment].append(len(segments[segment]))
            segments[segment].append({"track_id": name, **track})
    return segments, removed


def without_disk(
    catalog: pa.Table, indexed: Placed, failures: list[dict[str, Row]], asked: Asked, files: Files
) -> Changes:
    """The comparison with a version that is in memory, by small blocks of odd sizes."""
    sides = []
    for number, (rows, gone) in enumerate(zip(*place(indexed), strict=True)):
        table = tracks_table(rows).append_column("segment", pa.array([number] * len(rows)))
        live = table.filter(pa.array([n not in gone for n in range(len(rows))], pa.bool_()))
        sides.append([indexed_side(live.slice(at, 2)) for at in range(0, live.num_rows, 2)])
    lost = all_failures(
        failed_side(pa.Table.from_pylist(rows_of(file), schema=TRACK_FAILURES))
        for file in reversed(failures)
    )
    return join(catalog, sides, lost, asked, files, 3)


def on_disk(
    catalog: pa.Table, indexed: Placed, failures: list[dict[str, Row]], asked: Asked, files: Files
) -> Changes:
    with tempfile.TemporaryDirectory() as index:
        segments, removed = place(indexed)
        files_of_failures = [rows_of(file) for file in failures]
        manifest = write_version(index, segments, removed=removed, failures=files_of_failures)
        return find_changes(index, manifest, catalog, asked, files)


def rows_of(tracks: dict[str, Row]) -> list[Row]:
    return [{"track_id": name, **row} for name, row in tracks.items()]


@settings(max_examples=200)
@given(INDEXED, CATALOGS, FAILURES, FILES, st.builds(Asked, st.booleans(), st.booleans()))
def test_random_catalogues_against_a_dictionary(
    indexed: Placed,
    wanted: dict[str, Row],
    failures: list[dict[str, Row]],
    files: dict[str, File],
    asked: Asked,
) -> None:
    catalog = catalog_table(rows_of(wanted))
    changes = without_disk(catalog, indexed, failures, asked, World(files).access)
    check(changes, catalog, indexed, wanted, failures, files, asked)


@settings(max_examples=10)
@given(INDEXED, CATALOGS, FAILURES, FILES, st.builds(Asked, st.booleans(), st.booleans()))
def test_random_catalogues_on_disk(
    indexed: Placed,
    wanted: dict[str, Row],
    failures: list[dict[str, Row]],
    files: dict[str, File],
    asked: Asked,
) -> None:
    catalog = catalog_table(rows_of(wanted))
    changes = on_disk(catalog, indexed, failures, asked, World(files).access)
    check(changes, catalog, indexed, wanted, failures, files, asked)


def check(
    changes: Changes,
    catalog: pa.Table,
    indexed: Placed,
    wanted: dict[str, Row],
    failures: list[dict[str, Row]],
    files: dict[str, File],
    asked: Asked,
) -> None:
    """Holds the changes against those of `naive`."""
    live = {name: track for name, (track, _, _) in indexed.items()}
    failed = {name: row for file in failures for name, row in file.items()}
    expected = naive(wanted, live, failed, files, asked)
    found = {name: kind for name, (kind, _) in told(changes).items()}
    # A renamed one is a new and a removed one, with a file that may well be the same.
    for row in changes.of("renamed").to_pylist():
        old, name = row["old_track_id"], row["track_id"]
        file, track = files.get(row["uri"]), live[old]
        found |= {name: "new", old: "removed"}
        etags = wanted[name]["etag"] == track["etag"] not in (None, "")
        size = file is not None and file.size == track["size"]
        evidence = {
            "mtime": row["uri"] == track["uri"] and (etags or size),
            "content": file is not None and file.content == track["content"],
            "etag": etags and size and track["content"] is None,
        }
        assert evidence[row["reason"]]
    assert found == {name: kind for name, kind in expected.items() if kind != "unchanged"}
    unchanged = sum(kind == "unchanged" for kind in expected.values())
    assert changes.counts["tracks_unchanged"] == unchanged
    counted = Counter(kind for kind, _ in told(changes).values())
    assert {k: changes.counts[f"tracks_{k}"] for k in counted} == dict(counted)
    rows = catalog["track_id"].to_pylist()
    for row in changes.table.to_pylist():
        assert row["row"] is None or rows[row["row"]] == row["track_id"]
        if row["segment"] is not None:
            name = row["old_track_id"] or row["track_id"]
            assert indexed[name][1] == row["segment"]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=30), st.integers(0, 5))
def test_hashes_of_texts_are_equal_where_the_texts_are(texts: list[str | None], cut: int) -> None:
    array = pa.array(texts, pa.string())
    hashes = hash_texts(array).tolist()
    assert len({(t, h) for t, h in zip(texts, hashes, strict=True)}) == len(set(texts))
    assert len(set(hashes)) == len(set(texts))
    assert hash_texts(array.slice(cut)).tolist() == hashes[cut:]
    chunked = pa.chunked_array([array.slice(0, cut), array.slice(cut)], pa.string())
    assert hash_texts(chunked).tolist() == hashes
