"""Everything that a process does to the files below one folder, written down; and a kill in it.

`Watch` takes the place of the functions of `os` by which the product changes files. Each change is
a step. Before each step, and in the middle of each write, is a *point* where the process can be
killed; the state after a step is that before the next one, so that all states are met.

Each step is appended to a log as a line of JSON, a write with its bytes after the line: what
`crash.disk` rebuilds the folder from.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# What changes files, as it was before anything was replaced.
_CHANGES = ("open", "fdopen", "fsync", "replace", "link", "unlink", "remove", "mkdir", "rmdir")
_NOT_USED = ("rename", "symlink", "truncate", "ftruncate")  # by the product below an index
_REAL = {name: getattr(os, name) for name in (*_CHANGES, *_NOT_USED)}


@dataclasses.dataclass(frozen=True)
class Step:
    """One change: what, of which file (a number) or path, to which path, and what was written."""

    kind: str
    path: str = ""
    target: str = ""
    node: str = ""
    data: bytes = b""


class Watch:
    """Writes down what this process does below `root`, and kills it at point number `kill_at`.

    For a process that ends soon: nothing is put back.

    Args:
        root: the folder; other files are none of its business.
        log: file that steps are appended to.
        kill_at: the point, counted from 1; None: it lives.
    """

    def __init__(self, root: Path, log: Path, kill_at: int | None = None) -> None:
        self._root = os.path.realpath(root)
        self._log = _REAL["open"](log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
        self._kill_at, self._points, self._files = kill_at, 0, 0
        self._nodes: dict[int, str] = {}  # of files that are open for writing, by descriptor

    def start(self) -> None:
        """From here on."""
        changes: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "fdopen": self._fdopen,
            "fsync": self._fsync,
            "replace": self._two("rename", _REAL["replace"]),
            "link": self._two("link", _REAL["link"]),
            "unlink": self._one("unlink", _REAL["unlink"]),
            "remove": self._one("unlink", _REAL["unlink"]),
            "mkdir": self._one("mkdir", _REAL["mkdir"]),
            "rmdir": self._one("rmdir", _REAL["rmdir"]),
            **{name: self._refused(name) for name in _NOT_USED},
        }
        for name, function in changes.items():
            setattr(os, name, function)

    def point(self) -> None:
        """A moment at which the process may be killed: no handler, no `finally` runs."""
        self._points += 1
        if self._points == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, descriptor: int, data: memoryview) -> None:
        """Two points: before, and when half is written."""
        self.point()
        half = len(data) // 2
        for piece, middle in ((data[:half], True), (data[half:], False)):
            done = 0
            while done < len(piece):
                done += os.write(descriptor, piece[done:])
            self._note("write", node=self._nodes[descriptor], data=bytes(piece))
            if middle:
                self.point()

    def forget(self, descriptor: int) -> None:
        """A file was closed: its descriptor will be another's."""
        self._nodes.pop(descriptor, None)

    def _note(self, kind: str, data: bytes = b"", **named: str) -> None:
        head = json.dumps({"kind": kind, "bytes": len(data), **named}).encode()
        os.write(self._log, head + b"\n" + data)

    def _below(self, path: Any, folder: int | None = None) -> str | None:
        """The path within the root; None where it is elsewhere."""
        assert folder is None
        name = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if name != self._root and not name.startswith(self._root + "/"):
            return None
        return os.path.relpath(name, self._root)

    def _open(self, path: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
        own = self._below(path, named.get("dir_fd"))
        if own is None or not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            descriptor: int = _REAL["open"](path, flags, mode, **named)
            self._nodes.pop(descriptor, None)
            return descriptor
        assert flags & os.O_EXCL, f"{path} is written where it stands"
        self.point()
        descriptor = self._tried(lambda: _REAL["open"](path, flags, mode, **named))
        self._files += 1
        self._nodes[descriptor] = f"{os.getpid()}-{self._files}"
        self._note("create", path=own, node=self._nodes[descriptor])
        return descriptor

    def _fdopen(self, descriptor: int, mode: str = "r", *args: Any, **named: Any) -> Any:
        if descriptor not in self._nodes:
            return _REAL["fdopen"](descriptor, mode, *args, **named)
        assert mode == "wb"
        return io.BufferedWriter(_Written(descriptor, self))

    def _fsync(self, descriptor: int) -> None:
        if descriptor in self._nodes:
            self.point()
            self._note("sync", node=self._nodes[descriptor])
            return
        own = self._below(os.readlink(f"/proc/self/fd/{descriptor}"))
        if own is not None:
            assert stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self.point()
            self._note("sync folder", path=own)

    def _one(self, kind: str, real: Callable[..., Any]) -> Callable[..., None]:
        def change(path: Any, *args: Any, **named: Any) -> None:
            own = self._below(path, named.get("dir_fd"))
            gone = kind in ("unlink", "rmdir") and not os.path.lexists(path)
            if own is None or gone:
                real(path, *args, **named)
                return
            self.point()
            self._tried(lambda: real(path, *args, **named))
            self._note(kind, path=own)

        return change

    def _two(self, kind: str, real: Callable[..., Any]) -> Callable[..., None]:
        def change(path: Any, target: Any, **named: Any) -> None:
            own, new = self._below(path), self._below(target)
            if own is None or new is None:
                assert own == new, "a file is moved into the folder, or out of it"
                real(path, target, **named)
                return
            self.point()
            self._tried(lambda: real(path, target, **named))
            self._note(kind, path=own, target=new)

        return change

    def _tried(self, change: Callable[[], Any]) -> Any:
        try:
            return change()
        except OSError:
            self._note("failed")  # it had its point
            raise

    def _refused(self, name: str) -> Callable[..., Any]:
        def change(path: Any, *args: Any, **named: Any) -> Any:
            assert self._below(path) is None, f"os.{name} is not watched"
            return _REAL[name](path, *args, **named)

        return change


class _Written(io.RawIOBase):
    """A new file, whose writes are steps."""

    def __init__(self, descriptor: int, watch: Watch) -> None:
        self._descriptor, self._watch = descriptor, watch

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._watch.write(self._descriptor, view)
        return len(view)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._watch.forget(self._descriptor)
            os.close(self._descriptor)


def read_steps(log: Path) -> Iterator[Step]:
    """What a log holds, whichever processes wrote it: as many steps as they had points."""
    with log.open("rb") as file:
        while line := file.readline():
            head = json.loads(line)
            yield Step(data=file.read(head.pop("bytes")), **head)
