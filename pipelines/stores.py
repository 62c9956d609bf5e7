"""The two kinds of store below `pipelines.io`: the local disk, and Beam's FileSystems.

A local file appears whole or not at all: it is written under a temporary name in its own folder,
synced, and then takes its final name, and the folder is synced as well. An object store makes an
object visible when it is closed, so there it is written under the name that it keeps; nothing is
ever renamed. What a full or read-only disk raises becomes one line with a remedy.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from hashing.errors import HashbeamError

TEMPORARY_SUFFIX = ".tmp"  # what a killed writer leaves behind; safe to delete under the lock

_FULL = "free space and run the same command again: finished parts are kept"
_FORBIDDEN = "make the folder writable, or name another one"
_CHECK = "check the path, its device or network, and your rights there"
_BLOCKED = "a file stands where a folder is needed: name another folder"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) and run the same command again: "
    "finished parts are kept",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "name a folder on a file system that can be written",
    errno.EEXIST: _BLOCKED,
    errno.ENOTDIR: _BLOCKED,
    errno.EISDIR: "a folder stands where a file is needed: name another path",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def is_remote(path: str) -> bool:
    """Whether `path` names something that only Beam's FileSystems can open.

    >>> is_remote("gs://bucket/index"), is_remote("index"), is_remote("file:///data/index")
    (True, False, False)
    """
    return "://" in path and not path.startswith("file://")


def local(path: str) -> str:
    """A local path as the operating system wants it.

    >>> local("file:///data/index"), local("index")
    ('/data/index', 'index')
    """
    return path.removeprefix("file://")


def beam() -> Any:
    """Beam's FileSystems, imported when a remote path is first used: that takes seconds."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def open_read(path: str) -> BinaryIO:
    """A seekable file of bytes; a missing one is FileNotFoundError on disk."""
    if not is_remote(path):
        return open(local(path), "rb")
    # Without this Beam would unpack whatever is called .gz.
    file: BinaryIO = beam().open(path, compression_type="uncompressed")
    return file


@contextlib.contextmanager
def create_local(path: str) -> Iterator[BinaryIO]:
    """A file that takes its name, durably, when the block ends well."""
    target = local(path)
    with temporary_file(target) as (temporary, file):
        yield file
        with writing(path):
            sync(file)
            os.replace(temporary, target)
            sync_folder(os.path.dirname(target))


@contextlib.contextmanager
def create_remote(path: str) -> Iterator[BinaryIO]:
    """An object that is visible when the block ends well."""
    with writing(path):
        file: BinaryIO = beam().create(path, compression_type="uncompressed")
    try:
        yield file
    except BaseException:
        # Closing makes an object visible, and Beam knows no other way to end an upload: the torn
        # object, which has replaced whatever stood there, is taken away at once.
        with contextlib.suppress(Exception):
            file.close()
            beam().delete([path])
        raise
    with writing(path):
        file.close()  # an upload that fails here has replaced nothing


@contextlib.contextmanager
def temporary_file(target: str) -> Iterator[tuple[str, BinaryIO]]:
    """A new file beside `target`, with the permissions of a usual one; gone after the block."""
    folder, name = os.path.split(target)
    # Not seeded: two writers, on two machines perhaps, must never choose the same name.
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(8).hex()}{TEMPORARY_SUFFIX}")
    with writing(target):
        make_folder(folder)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        file = os.fdopen(os.open(temporary, flags, 0o666), "wb")
    try:
        yield temporary, file
    finally:
        with contextlib.suppress(OSError):
            file.close()  # only repeats the complaint about the same full disk
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def make_folder(folder: str) -> None:
    """Makes a folder with its parents, so that all survive a power cut; not in object stores."""
    folder = local(folder).rstrip("/")
    if is_remote(folder) or not folder or os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    make_folder(parent)
    try:
        os.mkdir(folder)
    except FileExistsError:
        if not os.path.isdir(folder):  # else another worker was quicker
            raise
    sync_folder(parent)


def sync(file: BinaryIO) -> None:
    """Brings what was written to the disk itself."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: str) -> None:
    """Makes the names in a folder durable; some network file systems cannot, and need not."""
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns what the block raises into: cannot write `path`, the reason, the remedy."""
    try:
        yield
    except Exception as error:
        if not _is_of_the_store(error, path):
            raise
        remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, _CHECK)
        raise HashbeamError(f"cannot write {path}: {_reason(error)}; {remedy}") from error


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns what the block raises into: cannot read `path`, the reason, the remedy."""
    try:
        yield
    except Exception as error:
        if not _is_of_the_store(error, path):
            raise
        raise HashbeamError(f"cannot read {path}: {_reason(error)}; {_CHECK}") from error


def _is_of_the_store(error: Exception, path: str) -> bool:
    """Whether the user's store raised this: remote ones have exceptions of every kind."""
    return not isinstance(error, HashbeamError) and (isinstance(error, OSError) or is_remote(path))


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return next(iter(text.splitlines()), "") or type(error).__name__
