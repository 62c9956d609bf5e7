"""Where a run on a published index starts: at an unfinished one of the same, or anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from hashing.errors import IndexFormatError
from pipelines import io
from pipelines.parts import count_parts
from pipelines.publication import finish_publication, past_versions
from pipelines.runs import Plan, Run, load_plan, new_attempt, plan_differences
from pipelines.versions import (
    VERSIONS,
    Manifest,
    current_version,
    dump_json,
    is_version,
    open_manifest,
    utc_now,
    version_path,
)


@dataclasses.dataclass(frozen=True)
class Start:
    """What is known when a run on a published index starts.

    Attributes:
        run: the unfinished run that goes on; None where a new one is to be made.
        given_up: versions of unfinished runs that cannot go on, each with the reason.
    """

    run: Run | None
    given_up: dict[str, str]


def open_parent(index: str) -> Manifest:
    """The published version, which a run starts from; the caller holds the lock.

    What only had to be tidied up after its publication is.

    Raises: HashbeamError where nothing is published.
    """
    parent = open_manifest(index)
    if io.is_dir(version_path(index, parent.version, "work")):
        finish_publication(index, parent)
    return parent


def find_start(index: str, parent: Manifest, wanted: Plan) -> Start:
    """Finds the unfinished run that does what `wanted` says; the caller holds the lock.

    Args:
        wanted: catalogue, model, and options; its version, counts and numbers do not matter.
    """
    found, given_up = None, dict[str, str]()
    for version in _unfinished(index):
        try:
            plan = load_plan(_plan_path(index, version))
        except IndexFormatError as error:
            given_up[version] = str(error)
            continue
        if plan is None:
            given_up[version] = "it had not begun"
        elif plan.parent != parent.version:
            given_up[version] = f"it started from version {plan.parent}"
        elif differences := plan_differences(plan, wanted):
            given_up[version] = f"it was with {' and '.join(differences)}"
        else:
            found = Run(index, plan)
    return Start(found, given_up)


def _unfinished(index: str) -> list[str]:
    """Versions of runs that were not published; one that was rolled back from is none of them."""
    newest = _newest_published(index)
    return [name for name in _versions(index) if int(name) > newest]


def _newest_published(index: str) -> int:
    """The highest number that a published version has had, by names alone."""
    return max(map(int, [*past_versions(index), current_version(index) or "0"]))


def _versions(index: str) -> list[str]:
    names = [name for name in io.list_dir(io.join(index, VERSIONS)) if is_version(name)]
    return sorted(names, key=int)


def _plan_path(index: str, version: str) -> str:
    return version_path(index, version, "work", "plan.json")


def give_up(index: str, versions: Sequence[str]) -> None:
    """Deletes what unfinished runs have left. Their manifests go first: none looks whole."""
    for version in versions:
        io.remove(version_path(index, version, "manifest.json"))
        io.remove_tree(version_path(index, version))


def next_version(index: str) -> str:
    """The number of a version that is to be made: none that is there or has been published."""
    taken = max(map(int, _versions(index)), default=0)
    return f"{max(taken, _newest_published(index)) + 1:06d}"


def start_run(
    index: str,
    version: str,
    parent: Manifest,
    wanted: Plan,
    write: Callable[[Run], None],
    *,
    n_tracks: int,
    n_edits: int = 0,
) -> Run:
    """Writes down what a new run is to do; its plan last, which makes it one that can go on.

    Args:
        write: writes all but the plan.
        n_tracks, n_edits: tracks that get codes in a new segment, and pieces of rows whose codes
            stay.
    """
    segments = parent.segments
    plan = dataclasses.replace(
        wanted,
        version=version,
        parent=parent.version,
        n_tracks=n_tracks,
        n_parts=count_parts(n_tracks),
        n_edits=n_edits,
        first_part=max((one.first_part + one.n_parts for one in segments), default=0),
        first_segment=max((one.id + 1 for one in segments), default=0),
        created=utc_now(),
        token=new_attempt(),
    )
    run = Run(index, plan)
    write(run)
    io.write_bytes(_plan_path(index, plan.version), dump_json(plan))
    return run


def wanted_plan(
    parent: Manifest, catalog_digest: str, options: dict[str, Any], model: dict[str, str]
) -> Plan:
    """What a run is asked for, before its work is known; `model` as a manifest has it."""
    return Plan(
        version=parent.version,
        catalog_digest=catalog_digest,
        model_digest=model["digest"],
        model_name=model["name"],
        options=options,
        n_tracks=0,
        n_parts=0,
        created=utc_now(),
    )
