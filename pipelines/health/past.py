"""The versions of an index: what each changed, and how long its run took, stage by stage."""

from __future__ import annotations

import dataclasses

from hashing.errors import HashbeamError
from pipelines.changes.classes import CLASSES
from pipelines.history import Version, list_versions
from pipelines.summary import Summary, summary_of
from pipelines.versions import Manifest, read_manifest

SHOWN = 12  # versions, the newest: each takes two small files to read


@dataclasses.dataclass(frozen=True)
class Past:
    """A version, what its run counted as changes (class → tracks), and its run's summary.

    `run` is None where there is no run.json that can be read.
    """

    version: Version
    changes: dict[str, int]
    run: Summary | None


@dataclasses.dataclass(frozen=True)
class History:
    """The newest versions, in order, and how many older ones there are."""

    versions: list[Past]
    older: int

    @property
    def stopped(self) -> list[Version]:
        """Those that no reader will ever see as they are: unfinished, unpublished or damaged."""
        states = ("unfinished", "unpublished", "damaged")
        return [one.version for one in self.versions if one.version.state in states]

    @property
    def freed_bytes(self) -> int:
        """What stands in the folders of earlier versions; `hashbeam gc` may free some of it."""
        earlier = [one.version for one in self.versions if one.version.state == "earlier"]
        return sum(version.own_bytes or 0 for version in earlier)


def examine_history(index: str, manifest: Manifest, *, shown: int = SHOWN) -> History:
    """The newest versions of an index, whose published one has `manifest`.

    Raises: HashbeamError where nothing is published.
    """
    versions = list_versions(index)
    past = []
    for version in versions[-shown:]:
        own = manifest if version.version == manifest.version else _manifest(index, version)
        past.append(Past(version, _changes(own), read_run(index, version.version)))
    return History(past, len(versions) - len(past))


def read_run(index: str, version: str) -> Summary | None:
    """The summary of the run that made a version; None where it is missing or cannot be read."""
    try:
        return summary_of(index, version)
    except HashbeamError:
        return None


def _manifest(index: str, version: Version) -> Manifest | None:
    if version.created is None:  # it has none, or a damaged one
        return None
    try:
        return read_manifest(index, version.version)
    except HashbeamError:
        return None


def _changes(manifest: Manifest | None) -> dict[str, int]:
    counters = {} if manifest is None else manifest.counters
    found = {name: int(counters.get(f"changes_{name}", 0)) for name in CLASSES}
    return {name: count for name, count in found.items() if count}
