"""``hashbeam reindex`` from changes to the published version."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.also import folders_of, models_beside
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.changes.classes import Changes
from pipelines.execution import Work, execute
from pipelines.index_job import IndexJob
from pipelines.launch import launch_time
from pipelines.lock import IndexLock
from pipelines.opened import find_hasher
from pipelines.parts import HashJob
from pipelines.reindexing.begin import ReindexOptions, ToDo, begin, look_for_changes, plan_options
from pipelines.reindexing.start import open_parent, wanted_plan
from pipelines.reindexing.succession import next_manifest
from pipelines.reindexing.work import rows_to_edit, rows_to_make
from pipelines.runner import make_pipeline_options
from pipelines.runs import Run
from pipelines.summary import Summary
from pipelines.versions import Manifest, open_manifest


@dataclasses.dataclass(frozen=True)
class Result:
    """What a reindex did: the changes, and the summary of the new version.

    `summary` is None where nothing had changed, and nothing was published.
    """

    manifest: Manifest
    changes: Changes
    summary: Summary | None


def reindex(options: ReindexOptions, beam_args: Sequence[str] = ()) -> Result:
    """Brings an index up to date with a catalogue, and publishes the result.

    Raises: HashbeamError where a gate is not passed: then nothing is published, and what was done
        is kept for the next run.
    """
    launched = launch_time()
    catalog = read_catalog(options.catalog)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    open_manifest(options.index)  # what is no index gets no lock
    with IndexLock(options.index) as lock:
        parent = open_parent(options.index)
        keeps = parent.compared == "embeddings"
        asked = plan_options(options, parent, keep_embeddings=keeps)
        wanted = wanted_plan(parent, catalog_digest(catalog), asked, parent.model)

        def find(folder: str) -> Changes:
            return look_for_changes(
                options.index, parent, catalog, pipeline_options, options.asked, folder
            )

        def plan(changes: Changes) -> ToDo | None:
            if changes.nothing:
                return None
            return ToDo(rows_to_make(changes, catalog), list(rows_to_edit(changes, catalog)))

        run, changes = begin(options, parent, wanted, find, plan)
        if run is None:
            return Result(parent, changes, None)
        work = _work(options, pipeline_options, run, parent, changes)
        manifest, summary = execute(work, options, lock, launched)
    return Result(manifest, changes, summary)


def _work(
    options: ReindexOptions,
    pipeline_options: PipelineOptions,
    run: Run,
    parent: Manifest,
    changes: Changes,
) -> Work:
    hasher = find_hasher(parent, options.model)
    job = IndexJob(
        HashJob(
            run,
            options.max_track_hours * 3600,
            options.decode_timeout_s,
            parent.compared == "embeddings",
            ((options.index, parent.version),),
        ),
        hasher.model.reference,
        hasher.quantizer,
        parent.key_bits,
        max_failures=1.0,  # the gates say what is too much
        beside=folders_of(models_beside(parent, options.also_models)),
    )
    return Work(
        "reindex",
        run,
        hasher,
        parent,
        lambda receipts: next_manifest(run, receipts, parent, changes, hasher),
        options.bounds,
        job,
        pipeline_options,
    )
