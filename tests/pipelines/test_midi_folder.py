"""MIDI files below a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hashing.errors import CatalogError
from hashing.scores import ScoreError
from pipelines.midi_folder import find_midi, read_midi_file


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 3)


def test_files_are_found_in_order(tmp_path: Path) -> None:
    make(tmp_path, "b.mid", "a/z.MIDI", "a/é.kar", ".a.mid", ".git/a.mid", "a.txt", "mid")
    found = find_midi(str(tmp_path))
    assert found.paths == ["a/z.MIDI", "a/é.kar", "b.mid"]
    assert (found.sizes, found.skipped) == ([3, 3, 3], [])
    assert read_midi_file(found.root, "b.mid") == b"xxx"


def test_links_and_what_is_no_file_are_told(tmp_path: Path) -> None:
    make(tmp_path, "a.mid", "folder/b.mid")
    os.symlink(tmp_path / "folder", tmp_path / "circle")
    os.symlink("nowhere", tmp_path / "dead.mid")
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "d.mid").mkdir()
    make(tmp_path, os.fsdecode(b"caf\xe9.mid"))
    found = find_midi(str(tmp_path))
    assert found.paths == ["a.mid", "folder/b.mid"]
    assert [(one.path, one.kind) for one in found.skipped] == [
        ("caf\\udce9.mid", "name"),
        ("circle", "link"),
        ("dead.mid", "link"),
        ("pipe.mid", "not-a-file"),
    ]


def test_folders_that_cannot_be_listed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.mid", "closed/b.mid")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_midi(str(tmp_path))
    assert found.paths == ["a.mid"]
    assert [one.message for one in found.skipped] == ["closed/ cannot be read: Permission denied"]


@pytest.mark.parametrize("name", ["none", "a.txt", "empty", "links"])
def test_nothing_to_find(name: str, tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "links").mkdir()
    os.symlink("x", tmp_path / "links" / "l.mid")
    words = {"none": "is no folder", "a.txt": "is no folder", "links": "l.mid is a link"}
    with pytest.raises(CatalogError, match=words.get(name, "holds no MIDI files")):
        find_midi(str(tmp_path / name))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "big.mid").write_bytes(bytes((4 << 20) + 1))
    for name in ("gone.mid", "big.mid"):
        with pytest.raises(ScoreError, match=name) as caught:
            read_midi_file(str(tmp_path), name)
        assert caught.value.kind == "unreadable"
