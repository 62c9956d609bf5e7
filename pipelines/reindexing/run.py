"""``hashbeam reindex`` from changes to the published version."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from hashing.artists.encoder import ArtistEncoder
from hashing.errors import ModelError
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.changes.classes import Asked, Changes
from pipelines.changes.job import find_changes_on_beam
from pipelines.changes.memory import find_changes
from pipelines.execution import Work, execute
from pipelines.gather import forget_failures
from pipelines.gating.bounds import DEFAULT_BOUNDS, Bounds
from pipelines.index_job import IndexJob
from pipelines.lock import IndexLock
from pipelines.opened import find_hasher
from pipelines.options import MAX_TRACK_HOURS
from pipelines.parts import HashJob, write_parts
from pipelines.reindexing.start import (
    clear_temporary,
    find_start,
    give_up,
    next_version,
    start_run,
    wanted_plan,
)
from pipelines.reindexing.succession import next_manifest
from pipelines.reindexing.work import (
    keep_changes,
    kept_changes,
    rows_to_edit,
    rows_to_make,
    write_edits,
)
from pipelines.runner import is_local, make_pipeline_options
from pipelines.runs import Plan, Run
from pipelines.summary import Summary
from pipelines.versions import Manifest, open_manifest, version_path

# Tracks up to which changes are found in one process: 7 µs of CPU and 40 bytes each; above, the
# catalogue alone takes more memory than a small launcher has, and a Beam job is worth its start.
TRACKS_IN_MEMORY = 4_000_000


@dataclasses.dataclass(frozen=True)
class ReindexOptions:
    """What ``hashbeam reindex`` was asked to do.

    Fields: `catalog`, `index` paths; `model` folder of the index's model where it has moved, and
    `artist_model` likewise; `workers` processes of the local engine; `max_track_hours` h;
    `decode_timeout_s` s; `bounds` of the quality gates; `metrics` a file; the rest as flags say.
    Where `model` is another one (`pipelines.reindexing.remodel`), `old_model` is the folder of the
    index's, and `compare_queries` are asked of both.
    """

    catalog: str
    index: str
    workers: int
    model: str | None = None
    old_model: str | None = None
    artist_model: str | None = None
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


@dataclasses.dataclass(frozen=True)
class Result:
    """What a reindex did: the changes, and the summary of the new version.

    `summary` is None where nothing had changed, and nothing was published.
    """

    manifest: Manifest
    changes: Changes
    summary: Summary | None


def look_for_changes(
    options: ReindexOptions,
    manifest: Manifest,
    catalog: pa.Table,
    pipeline_options: PipelineOptions,
    folder: str = "",
) -> Changes:
    """What has changed since a version, by the way that suits the size.

    Args:
        folder: of a run, for what a Beam job leaves; "": in one process whatever the size.
    """
    asked = Asked(options.force, options.retry_failed)
    tracks = max(catalog.num_rows, sum(segment.tracks for segment in manifest.segments))
    if folder and (tracks > TRACKS_IN_MEMORY or not is_local(pipeline_options)):
        return find_changes_on_beam(
            options.index, manifest, catalog, folder, pipeline_options, asked
        )
    return find_changes(options.index, manifest, catalog, asked)


def reindex(options: ReindexOptions, beam_args: Sequence[str] = ()) -> Result:
    """Brings an index up to date with a catalogue, and publishes the result.

    Raises: HashbeamError where a gate is not passed: then nothing is published, and what was done
        is kept for the next run.
    """
    launched = time.time()
    catalog = read_catalog(options.catalog)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    open_manifest(options.index)  # what is no index gets no lock
    with IndexLock(options.index) as lock:
        published = open_manifest(options.index)
        wanted = wanted_plan(
            published, catalog_digest(catalog), _asked(options, published), published.model
        )
        start = find_start(options.index, wanted)
        parent, run = start.parent, start.run
        if run is None:
            version = next_version(options.index)
            folder = version_path(options.index, version, "work", "changes")
            changes = look_for_changes(options, parent, catalog, pipeline_options, folder)
            if not changes.nothing:
                run = _start(options.index, version, parent, wanted, changes, catalog)
            else:
                give_up(options.index, [version])
        else:
            clear_temporary(run)
            changes = kept_changes(run)
            _say(options, f"goes on with the run that was stopped (version {run.version})")
        for version, reason in start.given_up.items():
            _say(options, f"the unfinished run of version {version} is given up: {reason}")
        give_up(options.index, list(start.given_up))
        if run is None:
            return Result(parent, changes, None)
        if options.retry_failed:
            forget_failures(run)
        return _carry_out(options, pipeline_options, run, parent, changes, lock, launched)


def _start(
    index: str, version: str, parent: Manifest, wanted: Plan, changes: Changes, catalog: pa.Table
) -> Run:
    made, edits = rows_to_make(changes, catalog), list(rows_to_edit(changes, catalog))

    def write(run: Run) -> None:
        keep_changes(run, changes)
        write_parts(run, made)
        write_edits(run, edits)

    return start_run(
        index, version, parent, wanted, write, n_tracks=made.num_rows, n_edits=len(edits)
    )


def _asked(options: ReindexOptions, manifest: Manifest) -> dict[str, Any]:
    """What of the options changes the result, as a plan has it."""
    also = {name: model["digest"] for name, model in manifest.also.items()}
    return {
        "max_track_hours": options.max_track_hours,
        "keep_embeddings": manifest.compared == "embeddings",
        "force": options.force,
        **({"also": also} if also else {}),
    }


def _carry_out(
    options: ReindexOptions,
    pipeline_options: PipelineOptions,
    run: Run,
    parent: Manifest,
    changes: Changes,
    lock: IndexLock,
    launched: float,
) -> Result:
    hasher = find_hasher(parent, options.model)
    job = IndexJob(
        HashJob(
            run,
            options.max_track_hours * 3600,
            options.decode_timeout_s,
            parent.compared == "embeddings",
            ((options.index, parent.version),),
        ),
        str(hasher.model.path),
        hasher.quantizer,
        parent.key_bits,
        max_failures=1.0,  # the gates say what is too much
        artist=artist_model(options.artist_model, parent),
    )
    work = Work(
        "reindex",
        run,
        hasher,
        lambda receipts: next_manifest(run, receipts, parent, changes, hasher),
        options.bounds,
        job,
        pipeline_options,
    )
    manifest, summary = execute(work, options, lock, launched)
    return Result(manifest, changes, summary)


def artist_model(model: str | None, manifest: Manifest) -> str:
    """Folder of the model of an index's artist embeddings; "" where it has none.

    Args:
        model: name or folder, where it is not a shipped one or has moved.

    Raises: ModelError where it is another than the index was made with.
    """
    made_by = manifest.also.get("artist")
    if made_by is None:
        return ""
    found = ArtistEncoder.load(model or made_by.get("path") or made_by["name"])
    if found.digest != made_by["digest"]:
        raise ModelError(
            f"the index has artist embeddings of model {made_by['name']} with digest "
            f"{made_by['digest'][:16]}, {found.model.path} has digest {found.digest[:16]}: name "
            "the model that made them with --artist-model"
        )
    return str(found.model.path)


def _say(options: ReindexOptions, line: str) -> None:
    if not options.quiet:
        print(f"hashbeam reindex: {line}", file=sys.stderr)
