"""The MIDI files below a folder: found, and read with limits."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from pathlib import PurePosixPath

from hashing.errors import CatalogError, HashbeamError
from hashing.midi import MidiError, read_bytes
from hashing.midi_events import MAX_BYTES
from hashing.scores import ScoreError
from pipelines import io
from pipelines.stores import is_remote, local

EXTENSIONS = (".mid", ".midi", ".kar")
MAX_DEPTH = 64  # folders in one another; deeper, something is wrong


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something below the folder that was not read, and why.

    `kind` is ``link``, ``not-a-file``, ``unreadable`` or ``name`` (not UTF-8).
    """

    path: str
    kind: str
    message: str


@dataclasses.dataclass(frozen=True)
class MidiFolder:
    """What lies below a folder.

    Attributes:
      root: the folder, as it was named.
      paths: of MIDI files, relative to it, with slashes, sorted by their bytes.
      sizes: of these, bytes.
      skipped: what was passed over though it looks like MIDI, and folders that cannot be read.
    """

    root: str
    paths: list[str]
    sizes: list[int]
    skipped: list[Skipped]

    @property
    def digest(self) -> str:
        """What tells this folder from another one, or from itself with other files in it."""
        listed = hashlib.sha256()
        for path, size in zip(self.paths, self.sizes, strict=True):
            listed.update(f"{path}\0{size}\0".encode())
        return listed.hexdigest()


def find_midi(folder: str) -> MidiFolder:
    """The MIDI files (.mid, .midi, .kar) below a folder, on disk or in an object store.

    Links are not followed: they may lead in circles, or out of the folder. Hidden files and folders
    are left out.

    Raises: CatalogError where there is no such folder, or no MIDI file below it.
    """
    if not io.is_dir(folder):
        raise CatalogError(f"{folder} is no folder: name the folder with the MIDI files")
    found: list[tuple[str, int]] = []
    skipped: list[Skipped] = []
    if is_remote(folder):
        found = [item for item in io.list_files(folder).items() if _is_midi(item[0])]
    else:
        _walk(local(folder), found, skipped)
    if not found:
        told = f" ({_told(skipped)})" if skipped else ""
        raise CatalogError(
            f"{folder} holds no MIDI files (.mid, .midi, .kar){told}: name another folder"
        )
    found.sort(key=lambda item: item[0].encode())
    skipped.sort(key=lambda item: item.path)
    return MidiFolder(folder, [path for path, _ in found], [size for _, size in found], skipped)


def read_midi_file(root: str, path: str) -> bytes:
    """The bytes of a file of a `MidiFolder`.

    Raises: ScoreError of the kind ``unreadable``, also for one of more than 4 MiB.
    """
    whole = io.join(root, path)
    try:
        if not is_remote(root):
            return read_bytes(whole)
        size = io.file_size(whole)
        if size is not None and size > MAX_BYTES:
            raise MidiError(f"{path} has more than {MAX_BYTES >> 20} MiB: that is no song")
        return io.read_bytes(whole)
    except HashbeamError as error:
        raise ScoreError("unreadable", str(error)) from None


def _walk(root: str, found: list[tuple[str, int]], skipped: list[Skipped]) -> None:
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(os.path.join(root, folder)), key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(_skipped(folder, "unreadable", f"cannot be read: {error.strerror}"))
            continue
        for entry in entries:
            if entry.name.startswith("."):  # "._a.mid" of macOS is no MIDI
                continue
            path = folder + entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if path.count("/") < MAX_DEPTH:
                        pending.append(f"{path}/")
                    else:
                        skipped.append(_skipped(path, "unreadable", "lies too deep"))
                elif entry.is_symlink() and (_is_midi(path) or entry.is_dir()):
                    skipped.append(_skipped(path, "link", "is a link: links are not followed"))
                elif _is_midi(path):
                    _add(path, entry.stat(follow_symlinks=False), found, skipped)
            except OSError as error:
                skipped.append(_skipped(path, "unreadable", f"cannot be read: {error.strerror}"))


def _add(
    path: str, facts: os.stat_result, found: list[tuple[str, int]], skipped: list[Skipped]
) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        skipped.append(_skipped(path, "name", "has a name that is not UTF-8: rename it"))
        return
    if stat.S_ISREG(facts.st_mode):
        found.append((path, facts.st_size))
    else:
        skipped.append(_skipped(path, "not-a-file", "is no file"))


def _is_midi(path: str) -> bool:
    """By the extension.

    >>> _is_midi("a/b.MID"), _is_midi("a.mid/b.txt"), _is_midi("a/.b.mid")
    (True, False, False)
    """
    name = PurePosixPath(path).name
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def _skipped(path: str, kind: str, what: str) -> Skipped:
    shown = path.encode("utf-8", "backslashreplace").decode()
    shown = shown if shown.isprintable() else ascii(shown)
    return Skipped(shown or ".", kind, f"{shown or 'the folder'} {what}")


def _told(skipped: list[Skipped]) -> str:
    """The first of what was skipped, and how many more.

    >>> _told([Skipped("a.mid", "link", "a.mid is a link"), Skipped("b", "link", "b is a link")])
    'a.mid is a link; and 1 more'
    """
    more = f"; and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return skipped[0].message + more
