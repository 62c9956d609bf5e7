"""Any ``scheme://`` that Beam's FileSystems know, for `pipelines.stores`.

Beam has no conditional writes: what must be new, or unchanged, is looked at and then written.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipelines.stores import Stamped, writing


def _systems() -> Any:
    """Beam's FileSystems, imported when a remote path is first used: that takes seconds."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


class BeamStore:
    """Objects by Beam's FileSystems; the methods are those of `pipelines.stores.Remote`."""

    def open_read(self, path: str) -> BinaryIO:
        # Without this Beam would unpack whatever is called .gz.
        file: BinaryIO = _systems().open(path, compression_type="uncompressed")
        return file

    def read(self, path: str) -> Stamped | None:
        if not _systems().exists(path):
            return None
        with self.open_read(path) as file:
            data = bytes(file.read())
        return Stamped(data, hashlib.sha256(data).hexdigest())

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        with self.open_read(path) as file:
            file.seek(offset)
            return bytes(file.read(size))

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        with writing(path):
            file: BinaryIO = _systems().create(path, compression_type="uncompressed")
        try:
            yield file
        except BaseException:
            # Closing makes an object visible, and Beam knows no other way to end an upload: the
            # torn object, which has replaced whatever stood there, is taken away at once.
            with contextlib.suppress(Exception):
                file.close()
                _systems().delete([path])
            raise
        with writing(path):
            file.close()  # an upload that fails here has replaced nothing

    def replace(self, path: str, data: bytes, stamp: str | None) -> str | None:
        found = self.read(path)
        if (found.stamp if found else None) != stamp:
            return None
        with self.create(path) as file:
            file.write(data)
        return hashlib.sha256(data).hexdigest()

    def exists(self, path: str) -> bool:
        return bool(_systems().exists(path)) or self.is_dir(path)

    def is_dir(self, path: str) -> bool:
        return any(True for _ in self.list_files(path))

    def size(self, path: str) -> int | None:
        found = _systems().match([path])[0].metadata_list
        return int(found[0].size_in_bytes) if found else None

    def stat(self, path: str) -> tuple[int, float | None] | None:
        # Not match(): a name may hold what that takes for a pattern.
        found = _systems().get_filesystem(path).metadata(path)
        time = found.last_updated_in_seconds
        return int(found.size_in_bytes), float(time) if time else None

    def list_dir(self, path: str) -> list[str]:
        return sorted({name.split("/", 1)[0] for name, _ in self.list_files(path)})

    def list_files(self, path: str) -> Iterator[tuple[str, int]]:
        prefix = path.rstrip("/") + "/"
        for match in _systems().match([prefix + "**"]):
            for found in match.metadata_list:
                yield found.path[len(prefix) :], int(found.size_in_bytes)

    def remove(self, path: str, stamp: str | None = None) -> bool:
        found = self.read(path) if stamp is not None else None
        if stamp is not None and (found is None or found.stamp != stamp):
            return False
        if not _systems().exists(path):
            return False
        _systems().delete([path])
        return True
