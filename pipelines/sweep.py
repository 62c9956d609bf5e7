"""Deleting what no kept version of an index needs: ``hashbeam gc``.

What goes: versions that are not among the last ones published; of the others, files that no kept
manifest names; what runs have left that cannot go on, or that nobody has continued for long; and
temporary files of killed writers. A file that a kept manifest names stays, whichever version's
folder it is in. A manifest goes before the files that it names: a kill at any moment leaves no
version that looks whole and is not, and the next sweep finishes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time

from pipelines import io
from pipelines.history import published_versions
from pipelines.lock import LEASE_S, IndexLock
from pipelines.look import GONE, look_at
from pipelines.stores import is_remote, local
from pipelines.versions import KINDS, Manifest, folder_of, is_temporary, read_manifest

# A worker of a run whose launcher has died may still write: what is younger stays.
GRACE_S = LEASE_S
# A run that was stopped is continued by the same command; after a week nobody will.
UNFINISHED_S = 7 * 86400.0
_CHECK_EVERY = 256  # deletions between two looks at whether the lock is still ours


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is to be deleted.

    Attributes:
        kept: versions, in order of publication.
        deleted: versions whose manifests go.
        unfinished: folders of runs that are given up.
        manifests, files: paths within the index, in the order in which they go.
        bytes: of all of them.
    """

    kept: list[str]
    deleted: list[str]
    unfinished: list[str]
    manifests: list[str]
    files: list[str]
    bytes: int


def plan_sweep(
    index: str, keep: int, *, grace_s: float = GRACE_S, unfinished_s: float = UNFINISHED_S
) -> Sweep:
    """What a sweep deletes that keeps the last `keep` published versions.

    Args:
      grace_s: what is younger, s, stays.
      unfinished_s: an unfinished run whose newest file is younger, s, stays.

    Raises: HashbeamError where nothing is published or the manifest of a version that is kept is
      damaged: then nothing may be deleted.
    """
    published = published_versions(index)
    files = {f"versions/{name}": n for name, n in io.list_files(io.join(index, "versions")).items()}
    there = [name for name in published if f"versions/{name}/manifest.json" in files]
    kept = there[-keep:]
    manifests = [read_manifest(index, name) for name in kept]
    needed = {path for manifest in manifests if manifest for path in _named(manifest)}
    files |= {name: 0 for name in io.list_dir(index) if is_temporary(name)}
    newest = max(map(int, published))  # a version that was rolled back from is no run
    by_version = dict[str, list[str]]()
    for path in files:
        by_version.setdefault(path.split("/")[1] if "/" in path else "", []).append(path)
    old = _older(index, list(files), grace_s)
    chosen, deleted, unfinished = list[str](), list[str](), list[str]()
    for version, paths in sorted(by_version.items()):
        own = folder_of(version)
        if version in kept or not version:
            left = [path for path in paths if path not in needed and _is_rubbish(path, own)]
        elif f"{own}manifest.json" in files:
            if version not in published and version.isdigit() and int(version) > newest:
                continue  # finished, and about to be published by the same command
            deleted.append(version)
            left = [path for path in paths if path not in needed]
        else:
            dead = version.isdigit() and int(version) <= newest
            ages = old if dead else _older(index, paths, unfinished_s)
            if not dead and not set(paths) <= ages:
                continue
            left = [path for path in paths if path not in needed]
            if f"{own}work/plan.json" in files:
                unfinished.append(version)
        chosen += left
    # A version goes whole or stays: its manifest is as old as its last file.
    young = [v for v in deleted if f"versions/{v}/manifest.json" not in old]
    stay = [[version] for version in young]
    chosen = [path for path in chosen if path in old and path.split("/")[1:2] not in stay]
    return Sweep(
        kept=kept,
        deleted=[version for version in deleted if version not in young],
        unfinished=unfinished,
        manifests=[path for path in chosen if _is_manifest(path)],
        files=[path for path in chosen if not _is_manifest(path)],
        bytes=sum(files[path] for path in chosen),
    )


def sweep(index: str, plan: Sweep, lock: IndexLock) -> None:
    """Deletes what was planned; the caller holds the lock, under which the plan was made.

    Raises: HashbeamError where the lock is lost or something cannot be deleted; what is left is
      found by the next sweep.
    """
    _delete(index, plan.manifests, lock)
    # They have gone for good before any file goes.
    io.sync_folders(io.join(index, os.path.dirname(name)) for name in plan.manifests)
    _delete(index, plan.files, lock)
    if not is_remote(index):
        _remove_empty_folders(os.path.join(local(index), "versions"))


def _delete(index: str, paths: list[str], lock: IndexLock) -> None:
    for first in range(0, len(paths), _CHECK_EVERY):
        lock.check()
        io.remove_all([io.join(index, path) for path in paths[first : first + _CHECK_EVERY]])


def _named(manifest: Manifest) -> set[str]:
    """Every file that a version needs."""
    own = (folder_of(manifest.version) + name for name in ("manifest.json", "run.json"))
    return {*manifest.every_file(), *own}


def _is_manifest(path: str) -> bool:
    return path.endswith("/manifest.json") and path.count("/") == 2


def _is_rubbish(path: str, own: str) -> bool:
    """Whether a file of a kept version, which none names, is what a run has left there."""
    name = path.removeprefix(own)
    return is_temporary(path) or name.split("/", 1)[0] in (*KINDS, "work")


def _older(index: str, paths: list[str], age_s: float) -> set[str]:
    """Those of `paths` that are older, or whose age no store tells; what has gone is not."""
    sizes, times = look_at([io.join(index, path) for path in paths])
    limit = time.time() - age_s
    return {
        path
        for path, size, modified in zip(paths, sizes.tolist(), times.tolist(), strict=True)
        if size != GONE and not modified > limit
    }


def _remove_empty_folders(folder: str) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        if place != folder:
            with contextlib.suppress(OSError):  # not empty, or gone
                os.rmdir(place)
