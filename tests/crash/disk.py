"""What a disk may hold after a loss of power, by what had been synced until then.

The rules are those that every file system keeps and none promises more than, as RocksDB's fault
injection file system and Lucene's MockDirectoryWrapper have them:

* a file has the bytes of its last sync; of what was written since, all, half, a page of zeros in
  place of it, or nothing;
* a folder has the names of its last sync; of each creation, link, renaming and deletion since, each
  may have happened or not, whatever came of the others. A renaming happens whole.

A file's sync says nothing about its name, nor a folder's about what its files hold.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path

from crash.watched_os import Step

PAGE = 4096  # bytes
DAY_S = 86400.0

# A folder as it is found: name → bytes of a file, or a folder.
Tree = dict[str, "bytes | Tree"]


@dataclasses.dataclass(eq=False)
class File:
    """What was written, and how much of it when the file was last synced."""

    data: bytearray = dataclasses.field(default_factory=bytearray)
    synced: int = 0


@dataclasses.dataclass(eq=False)
class Folder:
    """The names now, those of the last sync, and the changes since, each with its number."""

    names: dict[str, File | Folder] = dataclasses.field(default_factory=dict)
    synced: dict[str, File | Folder] = dataclasses.field(default_factory=dict)
    pending: list[tuple[int, Callable[[dict[str, File | Folder]], None]]] = dataclasses.field(
        default_factory=list
    )


class Disk:
    """A folder that was safe on the disk at first, and the steps that were done since.

    >>> disk = Disk({"CURRENT": b"1"})
    >>> for step in (Step("create", "a", node="1"), Step("write", node="1", data=b"2"),
    ...              Step("rename", "a", "CURRENT")):
    ...     disk.do(step)
    >>> disk.now(), disk.lost(Nothing())
    ({'CURRENT': b'2'}, {'CURRENT': b'1'})
    >>> disk.do(Step("sync folder", "."))  # the name is safe, what it stands for is not
    >>> disk.lost(Nothing())
    {'CURRENT': b''}
    """

    def __init__(self, tree: Tree) -> None:
        self._root = _safe(tree)
        self._files: dict[str, File] = {}
        self._steps = 0

    def do(self, step: Step) -> None:
        """One more step."""
        self._steps += 1
        if step.kind == "write":
            self._files[step.node].data += step.data
        elif step.kind == "sync":
            file = self._files[step.node]
            file.synced = len(file.data)
        elif step.kind == "sync folder":
            folder = self._folder(step.path)
            folder.synced, folder.pending = dict(folder.names), []
        elif step.kind == "create":
            self._files[step.node] = File()
            self._put(step.path, self._files[step.node])
        elif step.kind == "mkdir":
            self._put(step.path, Folder())
        elif step.kind == "link":
            folder, name = self._place(step.path)
            self._put(step.target, folder.names[name])
        elif step.kind in ("unlink", "rmdir"):
            folder, name = self._place(step.path)
            self._change(folder, lambda names: names.pop(name, None))
        elif step.kind == "rename":
            folder, name = self._place(step.path)
            target, new = self._place(step.target)
            assert folder is target, "no file is moved to another folder"
            moved = folder.names[name]

            def rename(names: dict[str, File | Folder]) -> None:
                names.pop(name, None)
                names[new] = moved

            self._change(folder, rename)
        else:
            assert step.kind == "failed", step.kind

    def now(self) -> Tree:
        """What processes see, and what a kill leaves."""
        return _read(self._root)

    def lost(self, luck: Luck) -> Tree:
        """What is found when the power is back."""
        return _lose(self._root, luck)

    def _folder(self, path: str) -> Folder:
        found: File | Folder = self._root
        for name in path.split("/") if path != "." else ():
            assert isinstance(found, Folder)
            found = found.names[name]
        assert isinstance(found, Folder)
        return found

    def _place(self, path: str) -> tuple[Folder, str]:
        folder, _, name = path.rpartition("/")
        return self._folder(folder or "."), name

    def _put(self, path: str, what: File | Folder) -> None:
        folder, name = self._place(path)
        self._change(folder, lambda names: names.update({name: what}))

    def _change(self, folder: Folder, change: Callable[[dict[str, File | Folder]], object]) -> None:
        def apply(names: dict[str, File | Folder]) -> None:
            change(names)

        apply(folder.names)
        folder.pending.append((self._steps, apply))


class Luck:
    """Decides what of the unsynced has reached the disk."""

    def happened(self, step: int) -> bool:
        """Whether the change of a name has."""
        raise NotImplementedError

    def content(self, synced: bytes, written: bytes) -> bytes:
        """What a file holds of what was `written` after `synced`."""
        raise NotImplementedError


class Nothing(Luck):
    """All that was not synced is lost."""

    def happened(self, step: int) -> bool:
        return False

    def content(self, synced: bytes, written: bytes) -> bytes:
        return synced


class Names(Luck):
    """All names have arrived, and nothing else: of files, what a journal of names alone leaves."""

    def happened(self, step: int) -> bool:
        return True

    def content(self, synced: bytes, written: bytes) -> bytes:
        return synced + bytes(len(written))


class Chance(Luck):
    """Each thing by itself, by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._share = self._random.choice([0.2, 0.5, 0.8])

    def happened(self, step: int) -> bool:
        return self._random.random() < self._share

    def content(self, synced: bytes, written: bytes) -> bytes:
        page = self._random.randrange(0, max(1, len(written)), PAGE)
        return synced + self._random.choice(
            [
                b"",
                written,
                written[: len(written) // 2],
                written[:page] + bytes(min(PAGE, len(written) - page)) + written[page + PAGE :],
            ]
        )


class Journal(Chance):
    """Names in their order up to some step, as of a file system with a journal; files by chance."""

    def __init__(self, seed: int, steps: int, reach: int = 40) -> None:
        super().__init__(seed)
        self._last = steps - self._random.randrange(reach)

    def happened(self, step: int) -> bool:
        return step <= self._last


def _safe(tree: Tree) -> Folder:
    names: dict[str, File | Folder] = {
        name: _safe(what) if isinstance(what, dict) else File(bytearray(what), len(what))
        for name, what in tree.items()
    }
    return Folder(names, dict(names))


def _read(folder: Folder) -> Tree:
    return {
        name: _read(what) if isinstance(what, Folder) else bytes(what.data)
        for name, what in folder.names.items()
    }


def _lose(folder: Folder, luck: Luck) -> Tree:
    names = dict(folder.synced)
    for step, change in folder.pending:
        if luck.happened(step):
            change(names)
    found: Tree = {}
    for name, what in names.items():
        if isinstance(what, Folder):
            found[name] = _lose(what, luck)
        elif what.synced == len(what.data):
            found[name] = bytes(what.data)
        else:
            found[name] = luck.content(
                bytes(what.data[: what.synced]), bytes(what.data[what.synced :])
            )
    return found


def missing(wanted: Tree, found: Tree, where: str = "") -> list[str]:
    """Files that are not there, or not with the same bytes; what is there beside them is passed.

    >>> missing({"a": b"1", "b": {"c": b"2"}}, {"a": b"1", "b": {}, "d": b"3"})
    ['b/c']
    """
    gone = list[str]()
    for name, what in wanted.items():
        other = found.get(name)
        if isinstance(what, dict):
            gone += missing(what, other if isinstance(other, dict) else {}, f"{where}{name}/")
        elif what != other:
            gone.append(where + name)
    return gone


def read_tree(folder: Path) -> Tree:
    """A folder as it is."""
    return {
        path.name: read_tree(path) if path.is_dir() else path.read_bytes()
        for path in folder.iterdir()
    }


def write_tree(folder: Path, tree: Tree) -> None:
    """Makes a folder with these files, all of them a day old."""
    folder.mkdir()
    for name, what in tree.items():
        path = folder / name
        if isinstance(what, dict):
            write_tree(path, what)
        else:
            path.write_bytes(what)
            then = path.stat().st_mtime - DAY_S
            os.utime(path, (then, then))
