"""The kinds of store below `pipelines.io`: the local disk, ``gs://``, and what else Beam can open.

A local file appears whole or not at all: it is written under a temporary name in its own folder,
synced, and then takes its final name, and the folder is synced as well. An object store makes an
object visible when it is closed, so there it is written under the name that it keeps; nothing is
ever renamed. What a full or read-only disk raises becomes one line with a remedy.

A file may be replaced on the condition that it is still the one that was read, as its *stamp*
tells: on ``gs://`` the generation of the object, on disk what tells one file of a name from the
next, where the writers of a machine also wait for each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol, TypeVar

from hashing.errors import HashbeamError

# Requests at once. At 30 ms each they are over a thousand a second, which is what one core can
# send and take in (measured: 1 to 2 ms of CPU a request with google-cloud-storage).
READERS = 32
TEMPORARY_SUFFIX = ".tmp"  # what a killed writer leaves behind; safe to delete under the lock

Item = TypeVar("Item")
Result = TypeVar("Result")

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


@dataclasses.dataclass(frozen=True)
class Stamped:
    """The bytes of a file as they were read, and the stamp that it had."""

    data: bytes
    stamp: str


class Remote(Protocol):
    """What an object store does; folders are names up to a slash. Any exception is its own."""

    def open_read(self, path: str) -> BinaryIO:
        """A seekable file of bytes."""

    def read(self, path: str) -> Stamped | None:
        """An object, or None where there is none of this name."""

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """So many bytes from `offset` on; fewer where the object ends before."""

    def create(self, path: str) -> AbstractContextManager[BinaryIO]:
        """An object that is visible when the block ends well."""

    def replace(self, path: str, data: bytes, stamp: str | None) -> str | None:
        """Writes an object that still has this stamp (None: that is not there); its new stamp.

        None where it has another one: then nothing was written.
        """

    def exists(self, path: str) -> bool:
        """Whether there is an object of this name, or one below it."""

    def is_dir(self, path: str) -> bool:
        """Whether there is any object below this name."""

    def size(self, path: str) -> int | None:
        """The size of an object in bytes, or None where there is none of this name."""

    def stat(self, path: str) -> tuple[int, float | None] | None:
        """Its size, and when it was modified, Unix seconds, where the store tells; as `size`."""

    def list_dir(self, path: str) -> list[str]:
        """The names in a folder, sorted."""

    def list_files(self, path: str) -> Iterator[tuple[str, int]]:
        """Every object below a folder: its name relative to it, and its size in bytes."""

    def remove(self, path: str, stamp: str | None = None) -> bool:
        """Deletes an object, if it has this stamp; tells whether there was one."""


def remote(path: str) -> Remote:
    """The store behind a path that `is_remote`."""
    return _remote("gs" if path.startswith("gs://") else "")


@functools.cache
def _remote(scheme: str) -> Remote:
    # Imported when a path of this kind is first used: both bring packages that take seconds.
    if scheme == "gs":
        from pipelines.gcs import GcsStore

        return GcsStore()
    from pipelines.beam_store import BeamStore

    return BeamStore()


def side_by_side(
    action: Callable[[Item], Result], items: Iterable[Item], readers: int = READERS
) -> list[Result]:
    """`action` of every item, in order, up to `readers` at once; for what waits for a store.

    >>> side_by_side(abs, [-1, 2])
    [1, 2]
    """
    todo = list(items)
    if len(todo) <= 1:
        return [action(item) for item in todo]
    from concurrent.futures import ThreadPoolExecutor  # not needed for what is local

    # Threads of its own: those of a pool that is kept would be gone in a forked process.
    with ThreadPoolExecutor(min(readers, len(todo)), "hashbeam-reader") as pool:
        return list(pool.map(action, todo))


def in_turn(
    action: Callable[[Item], Result], items: Iterable[Item], far: bool, readers: int = READERS
) -> Iterator[Result]:
    """`action` of every item, in order, when it is asked for; up to `readers` ahead where `far`.

    >>> list(in_turn(abs, [-1, 2, -3], far=True, readers=2))
    [1, 2, 3]
    """
    todo = list(items)
    step = readers if far else 1
    for first in range(0, len(todo), step):
        yield from side_by_side(action, todo[first : first + step], readers)


def open_read(path: str) -> BinaryIO:
    """A seekable file of bytes; a missing one is FileNotFoundError."""
    return remote(path).open_read(path) if is_remote(path) else open(local(path), "rb")


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


def read_local(path: str) -> Stamped | None:
    """A local file with its stamp, or None where there is none of this name."""
    try:
        with open(local(path), "rb") as file:
            return Stamped(file.read(), _stamp(os.fstat(file.fileno())))
    except (FileNotFoundError, NotADirectoryError):
        return None


def replace_local(path: str, write: Callable[[BinaryIO], object], stamp: str | None) -> str | None:
    """`Remote.replace` on disk, of a file that `write` fills."""
    target = local(path)
    folder = os.path.dirname(target)
    make_folder(folder)
    with alone(folder):
        if _stamp_of(target) != stamp:
            return None
        with temporary_file(target) as (temporary, file):
            write(file)
            sync(file)
            # Renaming changes neither the number of the file nor the time of its last write.
            new = _stamp(os.fstat(file.fileno()))
            os.replace(temporary, target)
            sync_folder(folder)
    return new


def remove_local(path: str, stamp: str) -> bool:
    """`Remote.remove` on disk, of a file that has this stamp."""
    target = local(path)
    with contextlib.suppress(FileNotFoundError), alone(os.path.dirname(target)):
        if _stamp_of(target) == stamp:
            os.unlink(target)
            return True
    return False


def _stamp_of(target: str) -> str | None:
    try:
        return _stamp(os.stat(target))
    except FileNotFoundError:
        return None


def _stamp(stat: os.stat_result) -> str:
    # The number of a file that has gone may be given to the next one, but not at the same time.
    return f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}"


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Keeps the processes and threads of this machine apart that look at a folder and write."""
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Some network file systems refuse: there nothing better than look and write is to be had.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
