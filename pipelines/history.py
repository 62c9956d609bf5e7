"""Which versions were published, and when: what `rollback` and `gc` go by.

INDEX/CURRENT names the version that is published now. INDEX/HISTORY names those that were before
it, a line each, oldest first: the version, and until when it was published. The line of a version
is written before the pointer leaves it, so that a kill between the two loses nothing: a last line
that CURRENT still names is only early. An index whose pointer has never moved has no HISTORY.
A version that CURRENT's or another known version's manifest calls its parent was published, too:
no run starts from any other.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io
from pipelines.live import count_live
from pipelines.lock import IndexLock
from pipelines.publication import move_pointer, past_versions
from pipelines.records import damaged
from pipelines.versions import (
    Manifest,
    is_version,
    open_manifest,
    read_manifest,
    version_path,
)


@dataclasses.dataclass(frozen=True)
class Version:
    """A version as ``hashbeam versions`` shows it.

    Attributes:
        state: ``published`` now; ``earlier``, was published; ``unpublished``, finished but not
            published yet; ``unfinished``, of a run that was stopped; ``damaged``.
        bytes: of all files that it names.
        own_bytes: of those in its own folder: what deleting it alone may free.
        added, removed: tracks, against its parent; None where that is not known.
        problem: what is wrong with a damaged one.
    """

    version: str
    state: str
    created: str | None = None
    parent: str | None = None
    tracks: int | None = None
    segments: int | None = None
    bytes: int | None = None
    own_bytes: int | None = None
    added: int | None = None
    removed: int | None = None
    problem: str | None = None


def published_versions(index: str) -> list[str]:
    """The versions that are or were published, each once, the one published last at the end.

    Raises: HashbeamError where nothing is published.
    """
    current = open_manifest(index).version
    order = [*past_versions(index), current]
    # HISTORY is of years, folders are of what gc has kept: nothing else is asked for.
    there = set(io.list_dir(io.join(index, "versions")))
    for name in dict.fromkeys((current, *order)):  # parents of what is there came before
        manifest = _manifest(index, name) if name in there else None
        while manifest is not None and manifest.parent and manifest.parent not in order:
            order.insert(0, manifest.parent)
            manifest = _manifest(index, manifest.parent)
    latest = dict.fromkeys(reversed(order))
    return list(reversed(latest))


def list_versions(index: str) -> list[Version]:
    """All versions of an index that can be read, or that a run is making or was, in order.

    Raises: HashbeamError where nothing is published.
    """
    published = published_versions(index)
    current, newest = published[-1], max(map(int, published))
    names = [name for name in io.list_dir(io.join(index, "versions")) if is_version(name)]
    manifests = dict[str, Manifest | None]()
    problems = dict[str, str]()
    for name in names:
        try:
            manifests[name] = read_manifest(index, name)
        except HashbeamError as error:
            problems[name] = str(error)
    found = []
    for name in names:
        manifest = manifests.get(name)
        if name in problems:
            found.append(Version(name, "damaged", problem=problems[name]))
        elif manifest is None:
            # What is left of a deleted one are files that others share.
            if int(name) > newest and io.list_files(version_path(index, name)):
                found.append(Version(name, "unfinished"))
        else:
            state = "earlier" if name in published else "unpublished"
            parent = manifests.get(manifest.parent) if manifest.parent else None
            state = "published" if name == current else state
            found.append(_describe(manifest, state, parent))
    return found


def _describe(manifest: Manifest, state: str, parent: Manifest | None) -> Version:
    files = manifest.files.tuples("path", "bytes")
    added, removed = difference(manifest, parent)
    return Version(
        version=manifest.version,
        state=state,
        created=manifest.created,
        parent=manifest.parent,
        tracks=count_live(manifest),
        segments=len(manifest.segments),
        bytes=sum(size for _, size in files),
        own_bytes=sum(size for path, size in files if manifest.is_own(path)),
        added=added,
        removed=removed,
    )


def difference(manifest: Manifest, parent: Manifest | None) -> tuple[int | None, int | None]:
    """How many tracks a version has that its parent lacks, and the other way round.

    The manifest may say so (counters ``tracks_added`` and ``tracks_removed``); else it is told by
    the segments that both have, and is not known where a segment was merged.
    """
    counters = manifest.counters
    if {"tracks_added", "tracks_removed"} <= counters.keys():
        return int(counters["tracks_added"]), int(counters["tracks_removed"])
    if manifest.parent is None:
        return count_live(manifest), 0
    if parent is None:
        return None, None
    old, new = _segments(parent), _segments(manifest)
    if not old.keys() <= new.keys():
        return None, None
    removed = sum(new[key][1] - removals for key, (_, removals) in old.items())
    return sum(tracks - gone for key, (tracks, gone) in new.items() if key not in old), removed


def _segments(manifest: Manifest) -> dict[tuple[str, ...], tuple[int, int]]:
    """Code files of a segment, which nothing but a new one changes → its tracks and removals."""
    return {
        tuple(manifest.files.select(kind="codes", segment=segment.id).column("path")): (
            segment.tracks,
            0 if segment.removals is None else segment.removals.rows,
        )
        for segment in manifest.segments
    }


def _manifest(index: str, version: str) -> Manifest | None:
    try:
        return read_manifest(index, version)
    except IndexFormatError:
        return None


def check_whole(index: str, manifest: Manifest) -> None:
    """Makes sure that all files of a version are there in full size; their bytes are not read.

    Raises: IndexFormatError that names the first that is not.
    """
    sizes = io.list_files(io.join(index, "versions"))
    for path, size in manifest.every_file().items():
        found = sizes.get(path.removeprefix("versions/"))
        if found != size:
            is_there = "is missing" if found is None else f"has {found} bytes, not {size}"
            raise damaged(
                f"version {manifest.version} is not whole: {io.join(index, path)} {is_there}"
            )


def roll_back(index: str, to: str | None, lock: IndexLock) -> tuple[Manifest, Manifest]:
    """Makes an earlier version the published one: the parent of the present one, or `to`.

    The caller holds `lock`. Nothing but the pointer changes, and rolling back once more undoes
    it; a reader that has opened the other version goes on with that.

    Returns:
      The versions that were and are published.

    Raises: HashbeamError where there is no such version, it was never published or is not whole.
    """
    present = open_manifest(index)
    published = published_versions(index)
    folders = set(io.list_dir(io.join(index, "versions")))
    there = [
        name for name in published[:-1] if name in folders and _manifest(index, name) is not None
    ]
    choice = f"there are {', '.join(sorted(there))}" if there else "there is no other version"
    wanted = to or present.parent
    if wanted is None:
        raise HashbeamError(f"{index}: version {present.version} was made from no other; {choice}")
    if wanted == present.version:
        raise HashbeamError(f"{index}: version {wanted} is published already; {choice}")
    if wanted not in published:
        raise HashbeamError(f"{index}: version {wanted} was never published; {choice}")
    if wanted not in there:
        raise HashbeamError(f"{index}: version {wanted} has been deleted; {choice}")
    target = open_manifest(index, wanted)
    check_whole(index, target)
    lock.check()
    move_pointer(index, wanted, present.version)
    return present, target


def to_json(versions: Iterable[Version]) -> str:
    """Versions as one JSON list."""
    return json.dumps([dataclasses.asdict(version) for version in versions])
