"""How ``hashbeam reindex`` begins: with the run that was stopped, or with what has changed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.changes.classes import Asked, Changes
from pipelines.changes.job import find_changes_on_beam
from pipelines.changes.memory import find_changes
from pipelines.detached import command_of
from pipelines.gather import forget_failures
from pipelines.gating.bounds import DEFAULT_BOUNDS, Bounds
from pipelines.job_folder import remove_temporary
from pipelines.options import MAX_TRACK_HOURS
from pipelines.parts import write_parts
from pipelines.reindexing.start import find_start, give_up, next_version, start_run
from pipelines.reindexing.work import keep_changes, kept_changes, write_edits
from pipelines.runner import is_local
from pipelines.runs import Plan, Run
from pipelines.versions import Manifest, version_path

# Tracks up to which changes are found in one process: 7 µs of CPU and 40 bytes each; above, the
# catalogue alone takes more memory than a small launcher has, and a Beam job is worth its start.
TRACKS_IN_MEMORY = 4_000_000


@dataclasses.dataclass(frozen=True)
class ReindexOptions:
    """What ``hashbeam reindex`` was asked to do.

    Fields: `catalog`, `index` paths; `model` folder of the index's model where it has moved, and
    `also_models` likewise, of what there is beside codes; `workers` processes of the local engine;
    `max_track_hours` h; `decode_timeout_s` s; `bounds` of the quality gates; `metrics` a file; the
    rest as flags say. Where `model` is another one (`pipelines.reindexing.remodel`), `old_model` is
    the folder of the index's, and `compare_queries` are asked of both.
    """

    catalog: str
    index: str
    workers: int
    model: str | None = None
    old_model: str | None = None
    also_models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_track_hours: float = MAX_TRACK_HOURS
    decode_timeout_s: float = 60.0
    dry_run: bool = False
    force: bool = False
    retry_failed: bool = False
    json: bool = False
    quiet: bool = False
    progress: bool = False
    bounds: Bounds = DEFAULT_BOUNDS
    metrics: str = ""
    compare_queries: int = 200

    @property
    def asked(self) -> Asked:
        """What a comparison of the catalogue with the index is asked for."""
        return Asked(self.force, self.retry_failed)

    def say(self, line: str) -> None:
        """Tells whoever watches what happens."""
        if not self.quiet:
            print(f"hashbeam reindex: {line}", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class ToDo:
    """What changes make to be done.

    `rows` of the catalogue get codes in a new segment; `edits` are pieces of rows whose codes stay.
    """

    rows: pa.Table
    edits: Sequence[pa.Table] = ()


def plan_options(
    options: ReindexOptions, parent: Manifest, *, keep_embeddings: bool
) -> dict[str, Any]:
    """What of the options changes the result, as a plan has it."""
    return {
        "max_track_hours": options.max_track_hours,
        "keep_embeddings": keep_embeddings,
        "force": options.force,
        **({"also": parent.also_digests()} if parent.also else {}),
    }


def look_for_changes(
    index: str,
    manifest: Manifest,
    catalog: pa.Table,
    pipeline_options: PipelineOptions,
    asked: Asked,
    folder: str = "",
) -> Changes:
    """What has changed since a version, by the way that suits the size.

    Args:
        folder: of a run, for what a Beam job leaves; "": in one process whatever the size.
    """
    tracks = max(catalog.num_rows, sum(segment.tracks for segment in manifest.segments))
    apart = tracks > TRACKS_IN_MEMORY or not is_local(pipeline_options)
    # A command that sends one job and ends cannot wait for another one before.
    if folder and apart and command_of(pipeline_options) is None:
        return find_changes_on_beam(index, manifest, catalog, folder, pipeline_options, asked)
    return find_changes(index, manifest, catalog, asked)


def begin(
    options: ReindexOptions,
    parent: Manifest,
    wanted: Plan,
    find: Callable[[str], Changes],
    plan: Callable[[Changes], ToDo | None],
) -> tuple[Run | None, Changes]:
    """The run that does what `wanted` says, and the changes that it was begun for.

    One that was stopped goes on; those that cannot are given up. The caller holds the lock.

    Args:
        wanted: as for `find_start`.
        find: finds the changes since `parent`, given a folder of the run (`look_for_changes`).
        plan: what they make to be done; where it says None, no run is begun.
    """
    index = options.index
    start = find_start(index, parent, wanted)
    run = start.run
    if run is None:
        version = next_version(index)
        changes = find(version_path(index, version, "work", "changes"))
        to_do = plan(changes)
        if to_do is None:
            give_up(index, [version])
        else:
            run = _start(index, version, parent, wanted, changes, to_do)
    else:
        remove_temporary(run.path())
        changes = kept_changes(run)
        options.say(f"goes on with the run that was stopped (version {run.version})")
    for version, reason in start.given_up.items():
        options.say(f"the unfinished run of version {version} is given up: {reason}")
    give_up(index, list(start.given_up))
    if run is not None and options.retry_failed:
        forget_failures(run)
    return run, changes


def _start(
    index: str, version: str, parent: Manifest, wanted: Plan, changes: Changes, to_do: ToDo
) -> Run:
    def write(run: Run) -> None:
        keep_changes(run, changes)
        write_parts(run, to_do.rows)
        write_edits(run, to_do.edits)

    return start_run(
        index,
        version,
        parent,
        wanted,
        write,
        n_tracks=to_do.rows.num_rows,
        n_edits=len(to_do.edits),
    )
