"""Segments of a published version merged into one: ``hashbeam compact``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hashing.encoders import Hasher
from pipelines.also import folders_of, models_beside
from pipelines.execution import Work, execute
from pipelines.gates import NOTHING_DECODED
from pipelines.gather import Built, gather_segments
from pipelines.gating.bounds import Bounds
from pipelines.index_job import IndexJob
from pipelines.job_folder import remove_temporary
from pipelines.launch import launch_time
from pipelines.lock import IndexLock
from pipelines.opened import find_hasher
from pipelines.parts import HashJob
from pipelines.reindexing.compaction import Compaction, plan_compaction
from pipelines.reindexing.failures import failure_files
from pipelines.reindexing.merging import Source, merged_rows, write_merged
from pipelines.reindexing.start import (
    find_start,
    give_up,
    next_version,
    open_parent,
    start_run,
    wanted_plan,
)
from pipelines.runner import make_pipeline_options
from pipelines.runs import Receipt, Run
from pipelines.summary import Summary
from pipelines.versions import Files, Manifest, open_manifest, utc_now


@dataclasses.dataclass(frozen=True)
class CompactOptions:
    """What ``hashbeam compact`` was asked to do.

    `also_models` of what there is beside codes, where they have moved; `whole`: merge all segments,
    whatever the cost; `keep`: published versions to keep afterwards, None: all of them; `bounds` of
    the quality gates.
    """

    index: str
    workers: int
    model: str | None = None
    also_models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    whole: bool = False
    keep: int | None = None
    dry_run: bool = False
    json: bool = False
    quiet: bool = False
    progress: bool = False
    bounds: Bounds = NOTHING_DECODED


def compact(
    options: CompactOptions, beam_args: Sequence[str] = ()
) -> tuple[Compaction, Summary] | None:
    """Merges what `plan_compaction` says and publishes the result; None where nothing is to do.

    Raises: HashbeamError where a file is damaged or a gate is not passed.
    """
    launched = launch_time()
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    manifest = open_manifest(options.index)
    hasher = find_hasher(manifest, options.model)
    beside = models_beside(manifest, options.also_models)
    with IndexLock(options.index) as lock:
        parent = open_parent(options.index)
        plan = plan_compaction(parent, hasher.quantizer, whole=options.whole)
        if plan is None:
            return None
        asked = {
            "compact": plan.segments,
            "key_bits": plan.key_bits,
            "keep_embeddings": parent.compared == "embeddings",
            "also": parent.also_digests(),
        }
        wanted = wanted_plan(parent, parent.catalog_digest, asked, parent.model)
        chosen = [one for one in parent.segments if one.id in plan.segments]
        source = Source(options.index, parent, chosen)
        start = find_start(options.index, parent, wanted)
        run = start.run
        if run is None:
            run = start_run(
                options.index,
                next_version(options.index),
                parent,
                wanted,
                lambda run: write_merged(run, merged_rows([source])),
                n_tracks=source.tracks,
            )
        remove_temporary(run.path())
        give_up(options.index, list(start.given_up))
        key_bits = None if plan.whole else plan.key_bits
        job = take_over(run, hasher, parent, key_bits, [source], folders_of(beside))
        work = Work(
            "compact",
            run,
            hasher,
            parent,
            lambda receipts: _compacted(run, receipts, parent, plan, hasher),
            options.bounds,
            job,
            pipeline_options,
        )
        _, summary = execute(work, options, lock, launched)
        return plan, summary


def take_over(
    run: Run,
    hasher: Hasher,
    like: Manifest,
    key_bits: int | None,
    sources: Sequence[Source],
    beside: Mapping[str, str],
) -> IndexJob:
    """The job of a run that decodes nothing; its index is to be `like` the sources.

    Args:
        key_bits: None: chosen by the number of snippets.
        beside: folders of the models of what is kept beside codes, by kind.
    """
    work = HashJob(
        run,
        max_seconds=0.0,
        timeout_s=0.0,
        embeddings=like.compared == "embeddings",
        sources=tuple((source.index, source.manifest.version) for source in sources),
        decodes=False,
    )
    return IndexJob(work, hasher.model.reference, hasher.quantizer, key_bits, 1.0, beside)


def _compacted(
    run: Run,
    receipts: Mapping[str, Receipt],
    parent: Manifest,
    plan: Compaction,
    hasher: Hasher,
) -> tuple[Manifest, Built]:
    key_bits = None if plan.whole else plan.key_bits
    built = gather_segments(run, receipts, hasher.quantizer, key_bits)
    kept = [segment for segment in parent.segments if segment.id not in plan.segments]
    stay = {segment.id for segment in kept}
    files = [entry for entry in parent.files if entry.segment in stay and entry.kind != "failures"]
    files += [*failure_files(parent.files), *built.files]
    segments = [*kept, *built.segments]
    counters = {
        name: count for name, count in parent.counters.items() if not name.startswith("changes_")
    }
    counters |= {
        "snippets": sum(segment.snippets for segment in segments),
        "tracks_added": 0,
        "tracks_removed": 0,
    }
    return dataclasses.replace(
        parent,
        version=run.version,
        parent=parent.version,
        key_bits=built.key_bits,
        segments=segments,
        files=Files.of(files),
        counters=counters,
        created=utc_now(),
    ), built
