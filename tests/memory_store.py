"""An object store in memory behind Beam's FileSystems, for tests of what is not a local path.

Importing it registers the scheme ``mem://``. As in a real store there are no folders, and an
object is visible when it is closed. `FAIL_WRITES` makes closing fail as a lost connection does.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

OBJECTS: dict[str, bytes] = {}
FAIL_WRITES: list[str] = []  # one entry a failure to come: its message


class _Upload(io.BytesIO):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            if FAIL_WRITES:
                super().close()
                raise BeamIOError(FAIL_WRITES.pop(), {self._path: "lost"})
            OBJECTS[self._path] = self.getvalue()
        super().close()


class MemoryFileSystem(FileSystem):
    """Keeps objects in `OBJECTS`."""

    @classmethod
    def scheme(cls) -> str:
        return "mem"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise NotImplementedError("an object store has no folders")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path, data in sorted(OBJECTS.items()):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(data), 0.0)

    def create(self, path: str, mime_type: str = "", compression_type: str = "auto") -> io.BytesIO:
        assert compression_type == "uncompressed", "Beam would pack by the name's ending"
        return _Upload(path)

    def open(self, path: str, mime_type: str = "", compression_type: str = "auto") -> io.BytesIO:
        assert compression_type == "uncompressed", "Beam would unpack by the name's ending"
        if path not in OBJECTS:
            raise BeamIOError(f"no object {path}", {path: "missing"})
        return io.BytesIO(OBJECTS[path])

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise NotImplementedError("nothing is copied")

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise NotImplementedError("nothing is ever renamed")

    def exists(self, path: str) -> bool:
        return path in OBJECTS

    def size(self, path: str) -> int:
        return len(OBJECTS[path])

    def last_updated(self, path: str) -> float:
        return 0.0

    def checksum(self, path: str) -> str:
        return ""

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, len(OBJECTS[path]), 0.0)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            del OBJECTS[path]
