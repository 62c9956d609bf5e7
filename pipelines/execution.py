"""A prepared run carried out: its job, the new manifest, quality gates, and publication."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from apache_beam.options.pipeline_options import PipelineOptions

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from pipelines import io
from pipelines.gates import check_gates, refuse
from pipelines.gather import Built, part_receipts
from pipelines.gating.bounds import Bounds, Gate
from pipelines.index_job import IndexJob
from pipelines.lock import IndexLock
from pipelines.publication import publish
from pipelines.run_log import follow_run
from pipelines.runner import run_pipeline, workers_here
from pipelines.runs import Receipt, Run
from pipelines.summary import Summary, summarise
from pipelines.verify import verify_files
from pipelines.versions import Manifest, dump_json

Finish = Callable[[Mapping[str, Receipt]], tuple[Manifest, Built]]
# What one gate more says about a finished version, and the figures that it goes by.
Compare = Callable[[Manifest], tuple[Gate, dict[str, Any]]]

# Bytes of its own files that a run reads back before it publishes them: some 20 s. Of more a sample
# is read, as one machine must not read what many have written; all are there in full size.
READ_BACK_BYTES = 8 << 30


class HowToRun(Protocol):
    """What all jobs are asked for: processes of the local engine, and what is shown."""

    @property
    def workers(self) -> int: ...
    @property
    def quiet(self) -> bool: ...
    @property
    def progress(self) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Work:
    """A run that is ready to be carried out.

    Attributes:
        verb: of the command, for what is told on the way.
        hasher: the model of the version that is made.
        parent: the version that the run starts from; None of the first one of an index.
        finish: makes the manifest of all receipts.
        bounds: what the gates hold the version to.
        job, pipeline_options: None of a run that only takes something away.
        compare: how the version is compared with the published one; None: it is not.
    """

    verb: str
    run: Run
    hasher: Hasher
    parent: Manifest | None
    finish: Finish
    bounds: Bounds
    job: IndexJob | None = None
    pipeline_options: PipelineOptions | None = None
    compare: Compare | None = None


def execute(
    work: Work, how: HowToRun, lock: IndexLock, launched: float
) -> tuple[Manifest, Summary]:
    """Runs the job of a run, what of it is not done yet, and publishes the result.

    Args:
        launched: when the command was given, Unix seconds.

    Raises: HashbeamError where something is missing or damaged, or a gate is not passed: then
        nothing is published, and what was done is kept for the next run.
    """
    run = work.run
    pieces = run.plan.n_parts + run.plan.n_edits
    if pieces:
        job, pipeline_options = work.job, work.pipeline_options
        assert job is not None
        assert pipeline_options is not None
        if not job.is_done():
            with follow_run(run, job.count_pieces, work.verb, quiet=how.quiet, asked=how.progress):
                run_pipeline(lambda pipeline: pipeline | "index" >> job, pipeline_options)
    receipts = run.receipts()
    parts = part_receipts(run, receipts)
    manifest, built = work.finish(receipts)
    problems = verify_files(run.index, manifest, own_only=run.version, most_bytes=READ_BACK_BYTES)
    if problems:
        raise HashbeamError(
            f"{run.index}: version {run.version} is not published: {len(problems)} problems, the "
            f"first: {problems[0]}; delete {run.path()} and run the same command again"
        )
    gates = check_gates(
        run.index, manifest, work.parent, work.hasher, parts, built.shards, work.bounds
    )
    # What only takes something away runs here.
    ran = work.pipeline_options
    workers = how.workers if ran is None else workers_here(ran, how.workers)
    summary = summarise(run.index, workers, manifest, parts, built, launched)
    figures = dict[str, Any]()
    if work.compare is not None:
        gate, figures = work.compare(manifest)
        gates.append(gate)
    summary = dataclasses.replace(summary, gates=gates, comparison=figures)
    io.write_bytes(run.path("run.json"), dump_json(summary))
    refuse(run.index, run.version, gates)
    lock.check()
    publish(run.index, manifest)
    return manifest, summary
