"""Bytes in and out: on the local disk, on ``gs://``, or anywhere Beam reaches.

Every function takes a local path or anything with ``scheme://``. A file that is written appears
whole or not at all (`pipelines.stores` says how); whatever goes wrong is a `HashbeamError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from hashing.errors import HashbeamError, IndexFormatError, TooLargeError
from pipelines import stores
from pipelines.stores import Stamped, is_remote, local, reading, writing

CHUNK_BYTES = 1 << 20  # of a copy: large enough that the calls cost nothing beside it
_ABSENT = (FileNotFoundError, NotADirectoryError)  # the latter: a file stands in the way
MAX_COPY_BYTES = 4 << 30  # a remote file of more is no track: two hours of 24-bit 96 kHz WAV fit


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """A file as it was written: its path, size in bytes, SHA-256 in hex, and rows if a table."""

    path: str
    bytes: int
    sha256: str
    rows: int = 0


def join(base: str, *parts: str) -> str:
    """`base` and `parts` as one path, with a slash between them on every kind of store.

    >>> join("gs://bucket/index/", "versions", "000001"), join("index", "CURRENT")
    ('gs://bucket/index/versions/000001', 'index/CURRENT')
    """
    if is_remote(base):
        return "/".join([base.rstrip("/"), *parts])
    return os.path.join(local(base), *parts)


def exists(path: str) -> bool:
    """Whether a file or folder of this name is there."""
    if is_remote(path):
        with reading(path):
            return stores.remote(path).exists(path)
    return os.path.exists(local(path))


def is_dir(path: str) -> bool:
    """Whether `path` is a folder; in an object store, whether any object lies below it."""
    if is_remote(path):
        with reading(path):
            return stores.remote(path).is_dir(path)
    return os.path.isdir(local(path))


def file_size(path: str) -> int | None:
    """The size of a file in bytes, or None where there is no file of this name."""
    with reading(path):
        if is_remote(path):
            return stores.remote(path).size(path)
        try:
            return os.stat(local(path)).st_size
        except _ABSENT:
            return None


def list_dir(path: str) -> list[str]:
    """The names in a folder, sorted; none where there is no such folder."""
    with reading(path):
        if is_remote(path):
            return stores.remote(path).list_dir(path)
        try:
            return sorted(os.listdir(local(path)))
        except _ABSENT:
            return []


def list_files(path: str) -> dict[str, int]:
    """Every file below a folder: its path relative to the folder → its size in bytes.

    One listing instead of a question a file: an index has thousands.
    """
    sizes: dict[str, int] = {}
    with reading(path):
        if is_remote(path):
            return dict(stores.remote(path).list_files(path))
        pending = [""]
        while pending:
            folder = pending.pop()
            # What is removed while it is listed is not there.
            with contextlib.suppress(*_ABSENT):
                for entry in list(os.scandir(os.path.join(local(path), folder))):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{folder}{entry.name}/")
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            sizes[folder + entry.name] = entry.stat().st_size
    return sizes


def read_bytes(path: str) -> bytes:
    """The bytes of a file.

    Raises: HashbeamError where the file is missing or cannot be read.
    """
    if is_remote(path):
        found = read_stamped(path)
        if found is None:
            with reading(path):
                raise FileNotFoundError(errno.ENOENT, "there is no such object")
        return found.data
    with reading(path), stores.open_read(path) as file:
        return bytes(file.read())


def read_if_exists(path: str) -> bytes | None:
    """The bytes of a file, or None where there is no file of this name."""
    found = read_stamped(path)
    return None if found is None else found.data


def read_all(paths: Sequence[str]) -> list[bytes | None]:
    """`read_if_exists` of many small files, in order; side by side where a store is far away."""
    if any(map(is_remote, paths)):
        return stores.side_by_side(read_if_exists, paths)
    return [read_if_exists(path) for path in paths]


def read_stamped(path: str) -> Stamped | None:
    """The bytes of a file with its stamp, for `replace_if`; None where there is none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stamp = replace_if(join(folder, "a"), b"1", None)
    ...     replace_if(join(folder, "a"), b"2", None), read_stamped(join(folder, "a")).data
    (None, b'1')
    """
    with reading(path):
        return stores.remote(path).read(path) if is_remote(path) else stores.read_local(path)


def read_range(path: str, offset: int, size: int) -> bytes:
    """Exactly `size` bytes of a file from byte `offset` on.

    Raises: IndexFormatError where the file ends earlier.
    """
    with reading(path):
        if is_remote(path):
            data = stores.remote(path).read_range(path, offset, size)
        else:
            with stores.open_read(path) as file:
                file.seek(offset)
                data = bytes(file.read(size))
    if len(data) != size:
        raise IndexFormatError(
            f"{path} is truncated: {size} bytes wanted at {offset}, {len(data)} found; "
            "run `hashbeam verify` on the index"
        )
    return data


def sha256_file(path: str) -> str:
    """The SHA-256 of a file in hex, read in blocks."""
    digest = hashlib.sha256()
    with reading(path), stores.open_read(path) as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class Writer(io.RawIOBase):
    """What `open_write` yields: takes bytes, counts them and hashes them on the way to the file."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        super().__init__()
        self._path, self._file, self._bytes, self._sha256 = path, file, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._bytes

    def write(self, data: Any, /) -> int:
        """Appends any contiguous buffer whole; returns its size in bytes."""
        view = memoryview(data)
        if view.nbytes == 0:
            return 0
        view = view.cast("B")
        with writing(self._path):
            self._file.write(view)
        self._sha256.update(view)
        self._bytes += view.nbytes
        return view.nbytes

    @property
    def info(self) -> FileInfo:
        """Path, bytes and SHA-256 of what has been written so far."""
        return FileInfo(self._path, self._bytes, self._sha256.hexdigest())


@contextlib.contextmanager
def open_write(path: str) -> Iterator[Writer]:
    """A file to be written in pieces; it appears under its name when the block ends well.

    After the block `writer.info` tells its size and checksum. A block that raises leaves what
    stood there before. Missing folders are made.

    Raises: HashbeamError where the disk is full, read-only or the like: what, where, the remedy.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_write(join(folder, "a")) as file:
    ...     file.write(b"abc")
    3
    >>> file.info.bytes, file.info.sha256[:8]
    (3, 'ba7816bf')
    """
    create = stores.remote(path).create if is_remote(path) else stores.create_local
    with create(path) as file:
        yield Writer(path, file)


def write_bytes(path: str, data: Any, *, overwrite: bool = True) -> FileInfo:
    """Writes a file whole; with ``overwrite=False`` a file that is there is refused."""
    if not overwrite:
        if not create_exclusive(path, data):
            raise HashbeamError(f"{path} exists already: name another path, or remove it")
        return FileInfo(path, memoryview(data).nbytes, hashlib.sha256(data).hexdigest())
    with open_write(path) as file:
        file.write(data)
    return file.info


def create_exclusive(path: str, data: Any) -> bool:
    """Writes a file unless one of this name is there; tells whether it did.

    On disk and on ``gs://`` exactly one of several writers succeeds, and nobody sees a file half
    written. Beam has no exclusive creation for other stores: there it is a look, then a write.
    """
    if is_remote(path):
        return replace_if(path, data, None) is not None
    target = local(path)
    with stores.temporary_file(target) as (temporary, file), writing(path):
        file.write(data)
        stores.sync(file)
        try:
            # A hard link is the one way to give a complete file its name only if that is free.
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            # A file system without hard links: a kill between these two leaves an empty file.
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileExistsError:
                return False
            os.replace(temporary, target)
        stores.sync_folder(os.path.dirname(target))
    return True


def replace_if(path: str, data: Any, stamp: str | None) -> str | None:
    """Writes a file whole if it is still the one that `read_stamped` gave (None: if there is none).

    Returns the new stamp, or None where another writer was quicker: then nothing was written. Of
    many writers with one stamp exactly one succeeds, on ``gs://`` by a generation precondition, on
    disk by waiting for each other; where Beam is all there is, it is a look, then a write.
    """
    with writing(path):
        if is_remote(path):
            return stores.remote(path).replace(path, bytes(data), stamp)
        return stores.replace_local(path, lambda file: Writer(path, file).write(data), stamp)


def remove_if(path: str, stamp: str) -> bool:
    """Deletes a file that still has this stamp; tells whether it did."""
    with writing(path):
        if is_remote(path):
            return stores.remote(path).remove(path, stamp)
        return stores.remove_local(path, stamp)


def sync_folders(paths: Iterable[str]) -> None:
    """Makes the names in folders durable, whoever gave them; object stores have no such thing."""
    for path in paths:
        # One that may not be read cannot be synced.
        if not is_remote(path):
            with writing(path), contextlib.suppress(PermissionError):
                stores.sync_folder(local(path))


def remove(path: str) -> None:
    """Deletes a file; one that is gone already is no error."""
    with writing(path):
        if is_remote(path):
            stores.remote(path).remove(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local(path))


def remove_all(paths: Sequence[str]) -> None:
    """`remove` of many files; side by side, in no order, where a store is far away."""
    if any(map(is_remote, paths)):
        stores.side_by_side(remove, paths)
    else:
        for path in paths:
            remove(path)


def remove_tree(path: str) -> None:
    """Deletes a folder and all below it; one that is gone already is no error."""
    remove_all([join(path, name) for name in list_files(path)])
    if not is_remote(path):
        with writing(path):
            for folder, _, _ in os.walk(local(path), topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(folder)


@contextlib.contextmanager
def local_copy(path: str, *, max_bytes: int = MAX_COPY_BYTES) -> Iterator[str]:
    """A local path with the bytes of `path`: itself, or a temporary download of a remote file.

    A remote file of more than `max_bytes` is not downloaded: it would fill the worker's disk.

    Raises: HashbeamError where a remote file is missing; TooLargeError.
    """
    if not is_remote(path):
        yield local(path)
        return
    import tempfile  # slow to import, and not needed for what is local

    suffix = os.path.splitext(path)[1]  # decoders look at it
    with tempfile.NamedTemporaryFile(prefix="hashbeam-", suffix=suffix) as copy:
        size = 0
        with reading(path), stores.open_read(path) as source:
            _check_size(path, _end_of(source), max_bytes)
            while block := source.read(CHUNK_BYTES):
                size += len(block)
                _check_size(path, size, max_bytes)
                with writing(copy.name):
                    copy.write(block)
        with writing(copy.name):
            copy.flush()
        yield copy.name


def _end_of(source: BinaryIO) -> int:
    """The size of a file before it is read; 0 where its store does not tell."""
    with contextlib.suppress(OSError, ValueError):  # it cannot seek
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        return size
    return 0


def _check_size(path: str, size: int, most: int) -> None:
    if size > most:
        raise TooLargeError(
            f"{path} has {size} bytes or more, and {most} at most are downloaded; cut it into "
            "smaller files, or put it on a disk that the workers have"
        )
