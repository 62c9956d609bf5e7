"""How a finished version becomes the published one, and what has been published before it."""

from __future__ import annotations

import os

from hashing.errors import HashbeamError
from pipelines import io
from pipelines.records import damaged
from pipelines.stores import is_remote
from pipelines.versions import (
    CURRENT,
    KINDS,
    VERSIONS,
    Manifest,
    current_version,
    dump_json,
    folder_of,
    is_temporary,
    is_version,
    read_pointer,
    utc_now,
    version_path,
)

_HISTORY = "HISTORY"


def publish(index: str, manifest: Manifest) -> None:
    """Makes a finished version the published one: the manifest first, then the pointer.

    A kill at any moment leaves the old version published or the new one, never neither. After
    the pointer has moved, the run's work folder and the files of attempts that did not count are
    deleted. The caller holds the lock.

    Raises: HashbeamError where a file of the version is missing or of another size, or another
        version has been published since `manifest.parent`, or is at this moment.
    """
    where = version_path(index, manifest.version, "manifest.json")
    # Before the pointer: a manifest that is published later is not overwritten.
    earlier = io.read_stamped(where)
    published = current_version(index)
    if published != manifest.parent:
        raise HashbeamError(
            f"{index} has version {published} published, but this run started from "
            f"{manifest.parent}; run `hashbeam reindex --index {index}`"
        )
    folder = version_path(index, manifest.version)
    prefix, named = folder_of(manifest.version), manifest.every_file()
    sizes = io.list_files(folder)
    for path, size in named.items():
        found = sizes.get(path.removeprefix(prefix)) if path.startswith(prefix) else size
        if found != size:
            raise HashbeamError(
                f"{io.join(index, path)} should have {size} bytes and has {found}; "
                "nothing was published, run the same command again"
            )
    if io.replace_if(where, dump_json(manifest), earlier.stamp if earlier else None) is None:
        raise _raced(index)
    if not is_remote(index):
        # One of them may have been made by a process that was killed before it was durable.
        own = {os.path.dirname(path) for path in named if path.startswith(prefix)}
        above = [folder, io.join(index, VERSIONS), index, os.path.dirname(index.rstrip("/"))]
        io.sync_folders([*(io.join(index, name) for name in sorted(own)), *above])
    move_pointer(index, manifest.version, published)
    finish_publication(index, manifest)


def move_pointer(index: str, version: str, published: str | None) -> None:
    """Makes `version` the published one in place of `published`, which is noted in HISTORY first.

    A kill between the two leaves a line too many, of the version that is published still; the
    next move does not repeat it. The caller holds the lock.

    Raises: HashbeamError where another version than `published` is published.
    """
    found, stamp = read_pointer(index)
    if found != published:
        raise _raced(index)
    if published is not None:
        path = io.join(index, _HISTORY)
        if past_versions(index)[-1:] != [published]:
            lines = (io.read_if_exists(path) or b"") + f"{published} {utc_now()}\n".encode()
            io.write_bytes(path, lines)
    if io.replace_if(io.join(index, CURRENT), f"{version}\n".encode(), stamp) is None:
        raise _raced(index)


def _raced(index: str) -> HashbeamError:
    return HashbeamError(
        f"{index}: another writer has published at the same time; nothing was published by "
        "this one, run the same command again"
    )


def past_versions(index: str) -> list[str]:
    """The versions that HISTORY names, oldest first; one may be there several times.

    Raises: IndexFormatError where it is damaged.
    """
    path = io.join(index, _HISTORY)
    lines = (io.read_if_exists(path) or b"").decode("utf-8", "replace").splitlines()
    versions = [line.split(" ")[0] for line in lines]
    if bad := [name for name in versions if not is_version(name)]:
        raise damaged(f"{path} names no version: {bad[0][:40]!r}")
    return versions


def finish_publication(index: str, manifest: Manifest) -> None:
    """Deletes what the run that made a published version has left; harmless when repeated."""
    folder = version_path(index, manifest.version)
    prefix, named, gone = folder_of(manifest.version), manifest.every_file(), list[str]()
    for name in sorted(io.list_files(folder)):
        of_attempt = name.split("/", 1)[0] in KINDS
        if (of_attempt and prefix + name not in named) or is_temporary(name):
            gone.append(io.join(folder, name))
    gone += [io.join(index, name) for name in io.list_dir(index) if is_temporary(name)]
    work = io.join(folder, "work")
    # The plan tells that there is something to delete, so it goes last.
    gone += [io.join(work, name) for name in io.list_files(work) if name != "plan.json"]
    io.remove_all(gone)
    io.remove_tree(work)
