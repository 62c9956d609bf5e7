"""Manifests are checked, open at once, and are published so that every reader sees a whole one."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memory_store
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_manifest import made_up_manifest

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io
from pipelines.publication import finish_publication, publish
from pipelines.versions import (
    KINDS,
    FileEntry,
    Files,
    Manifest,
    Segment,
    current_version,
    dump_json,
    load_json,
    open_manifest,
    utc_now,
    version_path,
)

SMALL = st.none() | st.integers(0, 2**40)
ENTRIES = st.builds(
    FileEntry,
    st.text("abc/-", min_size=1, max_size=9).filter(lambda path: path[0] != "/"),
    st.sampled_from(KINDS),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.text("0123456789abcdef", max_size=4),
    SMALL,
    SMALL,
    SMALL,
    SMALL,
    SMALL,
)


def make_manifest(version: str, parent: str | None, entries: list[FileEntry]) -> Manifest:
    return made_up_manifest(
        version=version,
        parent=parent,
        model={"name": "forgiving", "digest": "d1"},
        catalog_digest="c1",
        key_bits=22,
        segments=[Segment(0, 0, 2, 3, 10, [6, 4], [2, 1])],
        files=Files.of(entries),
        counters={"tracks": 3, "audio_s": 5.5},
        created=utc_now(),
    )


def write_version(index: str, version: str, parent: str | None) -> Manifest:
    """A version with one codes file, written but not published."""
    path = f"versions/{version}/codes/part-00000-a.parquet"
    info = io.write_bytes(io.join(index, path), version.encode())
    entry = FileEntry(path, "codes", 3, info.bytes, info.sha256, segment=0, part=0)
    return make_manifest(version, parent, [entry])


@pytest.fixture(params=["disk", "object store"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    memory_store.OBJECTS.clear()
    return str(tmp_path / "index") if request.param == "disk" else "mem://bucket/index"


@given(entries=st.lists(ENTRIES, max_size=5))
def test_files_are_a_sequence_of_their_entries(entries: list[FileEntry]) -> None:
    files = Files.of(entries)
    assert list(files) == [files[row] for row in range(len(files))] == entries
    assert list(files[1:]) == entries[1:]
    for kind in KINDS:
        chosen = [entry for entry in entries if entry.kind == kind and entry.segment == 1]
        assert list(files.select(kind=kind, segment=1)) == chosen
        pairs = [(entry.path, entry.rows) for entry in entries if entry.kind == kind]
        assert files.tuples("path", "rows", kind=kind) == pairs


@given(entries=st.lists(ENTRIES, max_size=5))
def test_a_manifest_survives_being_written(entries: list[FileEntry]) -> None:
    manifest = make_manifest("000002", "000001", entries)
    assert Manifest.from_json(load_json(dump_json(manifest), "m"), "m") == manifest
    removals = dataclasses.replace(
        manifest.segments[0], removals=FileEntry("a", "removals", 1, 2, "00", segment=0)
    )
    manifest = dataclasses.replace(manifest, segments=[removals], parent=None)
    assert Manifest.from_json(load_json(dump_json(manifest), "m"), "m") == manifest


def test_publishing_and_opening(index: str) -> None:
    assert current_version(index) is None
    manifest = write_version(index, "000001", None)
    publish(index, manifest)
    assert current_version(index) == "000001"
    assert open_manifest(index) == open_manifest(index, "000001") == manifest
    assert sorted(io.list_files(index)) == [
        "CURRENT",
        "versions/000001/codes/part-00000-a.parquet",
        "versions/000001/manifest.json",
    ]
    assert io.read_bytes(io.join(index, "CURRENT")) == b"000001\n"


def test_publishing_deletes_what_does_not_count_and_nothing_else(index: str) -> None:
    publish(index, write_version(index, "000001", None))
    manifest = write_version(index, "000002", "000001")
    kept = set(io.list_files(index)) | {
        "LOCK",
        ".LOCK.1.tmp",
        "versions/000002/run.json",
        "versions/000002/manifest.json",
    }
    gone = {
        "versions/000002/codes/part-00000-b.parquet",
        "versions/000002/tables/s000-t00-k0000-a.hbt",
        "versions/000002/codes/.part-00000-c.parquet.1.tmp",
        "versions/000002/.manifest.json.1.tmp",
        "versions/000002/work/plan.json",
        "versions/000002/work/receipts/part-00000.json",
        ".CURRENT.1.tmp",
    }
    for name in (kept | gone) - set(io.list_files(index)):
        io.write_bytes(io.join(index, name), b"x")
    publish(index, manifest)
    assert set(io.list_files(index)) == kept | {"HISTORY"}
    finish_publication(index, manifest)
    assert set(io.list_files(index)) == kept | {"HISTORY"}
    assert not io.exists(version_path(index, "000002", "work"))


def test_a_version_that_lacks_a_file_is_not_published(index: str) -> None:
    publish(index, write_version(index, "000001", None))
    manifest = write_version(index, "000002", "000001")
    path = io.join(index, manifest.files[0].path)
    io.write_bytes(path, b"12345")
    with pytest.raises(HashbeamError, match=r"should have 6 bytes and has 5; nothing was publ"):
        publish(index, manifest)
    io.remove(path)
    with pytest.raises(HashbeamError, match=r"should have 6 bytes and has None; nothing was"):
        publish(index, manifest)
    assert open_manifest(index).version == "000001"


def test_a_version_made_from_a_superseded_one_is_not_published(index: str) -> None:
    manifest = write_version(index, "000001", None)
    publish(index, manifest)
    with pytest.raises(HashbeamError, match=r"has version 000001 published, but .* None"):
        publish(index, manifest)
    with pytest.raises(HashbeamError, match="started from 000003; run `hashbeam reindex"):
        publish(index, write_version(index, "000004", "000003"))
    assert current_version(index) == "000001"


def test_at_every_step_of_publishing_a_reader_sees_a_whole_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader opens the index before and after each change that publishing makes on disk."""
    index = str(tmp_path)
    old = write_version(index, "000001", None)
    publish(index, old)
    new = write_version(index, "000002", "000001")
    io.write_bytes(version_path(index, "000002", "work", "plan.json"), b"x")
    seen: list[str] = []

    def read() -> None:
        manifest = open_manifest(index)
        assert manifest in (old, new)
        for entry in manifest.files:
            assert io.sha256_file(io.join(index, entry.path)) == entry.sha256
        seen.append(manifest.version)

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            read()
            result = real(*args)
            read()
            return result

        return call

    for name in ("open", "fsync", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    publish(index, new)
    monkeypatch.undo()
    assert seen == sorted(seen)
    assert seen.count("000001") >= 10
    assert seen.count("000002") >= 4


def test_readers_in_other_threads_see_versions_only_go_up(tmp_path: Path) -> None:
    index, last = str(tmp_path), 30
    publish(index, write_version(index, "000001", None))
    seen: list[list[str]] = [[], []]
    failures: list[BaseException] = []

    def read(mine: list[str]) -> None:
        try:
            while not mine or mine[-1] != f"{last:06}":
                mine.append(open_manifest(index).version)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for reader in readers:
        reader.start()
    for number in range(2, last + 1):
        publish(index, write_version(index, f"{number:06}", f"{number - 1:06}"))
    for reader in readers:
        reader.join(30)
    assert failures == []
    assert all(mine == sorted(mine) for mine in seen)


def test_a_reader_follows_a_version_that_is_retired_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = str(tmp_path)
    publish(index, write_version(index, "000001", None))
    real = io.read_if_exists

    def read(path: str) -> bytes | None:
        if path.endswith("000001/manifest.json"):  # between CURRENT and the manifest
            publish(index, write_version(index, "000002", "000001"))
            io.remove_tree(version_path(index, "000001"))
        return real(path)

    monkeypatch.setattr(io, "read_if_exists", read)
    assert open_manifest(index).version == "000002"


def test_an_index_of_thousands_of_files_opens_at_once(tmp_path: Path) -> None:
    entries = [
        FileEntry(
            f"versions/000001/tables/s000-t{n % 20:02}-k{n:04}-0123456789ab.hbt",
            "tables",
            32_000_000,
            200_000_000 + n,
            f"{n:064x}",
            segment=0,
            table=n % 20,
            key_lo=n,
            key_hi=n + 1,
        )
        for n in range(11_000)
    ]
    manifest = make_manifest("000001", None, entries)
    path = version_path(str(tmp_path), "000001", "manifest.json")
    io.write_bytes(path, dump_json(manifest))
    io.write_bytes(str(tmp_path / "CURRENT"), b"000001\n")

    def opening() -> float:
        start = time.process_time()
        found = open_manifest(str(tmp_path))
        assert len(found.files.tuples("path", "segment", "table", kind="tables")) == 11_000
        return time.process_time() - start

    assert min(opening() for _ in range(10)) < 0.05  # seconds; about 0.015 on a quiet core


DAMAGE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda m: m.update(format_version=9), "has format version 9, this hashbeam reads 3; use the"),
    (lambda m: m.update(format_version="1"), "has format version '1', this hashbeam reads 3"),
    (lambda m: m.pop("format_version"), "has no format version"),
    (lambda m: m.pop("segments"), "segments is missing"),
    (lambda m: m.update(key_bits="22"), "key_bits is str, not int"),
    (lambda m: m.pop("compared"), "compared is missing"),
    (lambda m: m.update(replication=None), "replication is NoneType, not float"),
    (lambda m: m.update(version="000002"), "is of version 000002, not 000001"),
    (lambda m: m.update(files=[]), "files are not given by column"),
    (lambda m: m["files"].pop("sha256"), "column sha256 of the files is missing or cut short"),
    (lambda m: m["files"]["rows"].pop(), "column rows of the files is missing or cut short"),
    (lambda m: m["files"].update(rows=["3"]), "column rows of the files has a wrong type"),
    (lambda m: m["files"].update(rows=[True]), "column rows of the files has a wrong type"),
    (lambda m: m["files"].update(bytes=[None]), "column bytes of the files has a wrong type"),
    (lambda m: m["files"].update(kind=["x"]), r"\['x'\] are no kinds of files"),
    (lambda m: m["files"].update(path=["/etc/passwd"]), "'/etc/passwd' is no path inside the"),
    (lambda m: m["files"].update(path=["a/../../b"]), "'a/../../b' is no path inside the index"),
    (lambda m: m["files"].update(path=["gs://x/b"]), "'gs://x/b' is no path inside the index"),
    (lambda m: m["segments"][0].update(part_gids=["6"]), "part_gids is str, not int"),
]


@pytest.mark.parametrize(("damage", "problem"), DAMAGE)
def test_a_damaged_manifest_is_named(
    tmp_path: Path, damage: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    publish(str(tmp_path), write_version(str(tmp_path), "000001", None))
    path = tmp_path / "versions" / "000001" / "manifest.json"
    values = json.loads(path.read_bytes())
    damage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(IndexFormatError, match=problem) as caught:
        open_manifest(str(tmp_path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_cut_at_any_byte_is_named(tmp_path: Path) -> None:
    publish(str(tmp_path), write_version(str(tmp_path), "000001", None))
    path = tmp_path / "versions" / "000001" / "manifest.json"
    data = path.read_bytes()
    for keep in range(0, len(data) - 2, 3):  # the last two bytes are the closing brace and newline
        path.write_bytes(data[:keep])
        with pytest.raises(IndexFormatError, match="run `hashbeam verify`"):
            open_manifest(str(tmp_path))


def test_what_is_no_index_is_told_apart(index: str) -> None:
    with pytest.raises(HashbeamError, match="there is no such index; make one with `hashbeam in"):
        open_manifest(index)
    io.write_bytes(io.join(index, "notes.txt"), b"")
    with pytest.raises(HashbeamError, match="is no index: it has no CURRENT; name the folder"):
        open_manifest(index)
    with pytest.raises(HashbeamError, match="is a file, not an index; name the folder"):
        open_manifest(io.join(index, "notes.txt"))
    manifest = write_version(index, "000001", None)
    with pytest.raises(HashbeamError, match="is not finished yet; run the same `hashbeam index`"):
        open_manifest(index)
    publish(index, manifest)
    with pytest.raises(HashbeamError, match="has no version 000007"):
        open_manifest(index, "000007")
    with pytest.raises(HashbeamError, match=r"'\.\./a' is no version; they look like 000001"):
        open_manifest(index, "../a")
    io.remove(version_path(index, "000001", "manifest.json"))
    with pytest.raises(IndexFormatError, match=r"manifest\.json is missing, though CURRENT"):
        open_manifest(index)


@pytest.mark.parametrize("pointer", [b"", b"\xff\xfe", b"../../etc", b"000001\n000002\n"])
def test_a_damaged_pointer_is_named(index: str, pointer: bytes) -> None:
    io.write_bytes(io.join(index, "CURRENT"), pointer)
    with pytest.raises(IndexFormatError, match="CURRENT names no version"):
        current_version(index)
