"""``hashbeam merge``: the indexes of several catalogues made into one."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported, as in `pipelines.index`.
    from pipelines.cli import main

    sys.exit(main(["merge", *sys.argv[1:]]))

import argparse
import dataclasses
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import HashbeamError, UsageError
from pipelines import io
from pipelines.also import ALSO, add_moved_models, folders_of, models_beside, models_named
from pipelines.execution import Work, execute
from pipelines.gates import NOTHING_DECODED, add_no_gates, nothing_decoded
from pipelines.gather import Built, make_manifest
from pipelines.gating.bounds import Bounds
from pipelines.live import failed_beside, failed_tracks, without_codes
from pipelines.lock import IndexLock
from pipelines.opened import find_hasher
from pipelines.options import Checker, add_job_arguments, workers
from pipelines.part_rows import has_rows, read_all
from pipelines.parts import count_parts
from pipelines.reindexing.compact import take_over
from pipelines.reindexing.failures import whole, write_failures
from pipelines.reindexing.merging import Source, merged_rows, write_merged
from pipelines.runner import make_pipeline_options
from pipelines.runs import AlreadyPublishedError, Receipt, Run, prepare_run
from pipelines.stores import is_remote, local
from pipelines.summary import Summary, read_summary
from pipelines.track_tables import TRACK_FAILURES
from pipelines.versions import Files, Manifest, open_manifest

DESCRIPTION = """\
Make one index of several: codes are copied, tables are built, nothing is decoded.

  hashbeam merge pop.index jazz.index --out music.index

The indexes must have been made by one model, and a track_id may be in one of them only. What
`--also` asked for is kept where all of them have it. They stay as they are."""


@dataclasses.dataclass(frozen=True)
class MergeOptions:
    """What ``hashbeam merge`` was asked to do.

    `also_models` of what the indexes have beside codes, where they have moved; `bounds` of the
    quality gates.
    """

    indexes: tuple[str, ...]
    out: str
    workers: int
    model: str | None = None
    also_models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    json: bool = False
    quiet: bool = False
    progress: bool = False
    bounds: Bounds = NOTHING_DECODED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam merge``."""
    add = parser.add_argument
    add("indexes", metavar="INDEX", nargs="+", help="published indexes, two or more")
    add("--out", metavar="INDEX", help="a new folder, or one with an unfinished run of this")
    add("--model", metavar="M", help="folder of the model that made the indexes, if it has moved")
    add_moved_models(add)
    add_no_gates(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> MergeOptions:
    """The options of ``hashbeam merge``; raises UsageError that names every wrong flag."""
    checker = Checker(args)
    out = checker.text("--out")
    places = [_place(index) for index in args.indexes]
    if len(places) < 2 or len(set(places)) < len(places):
        checker.problems.append("INDEX: two or more are needed, each once")
    if out and _place(out) in places:
        checker.problems.append("--out: must be none of the indexes that are merged")
    options = MergeOptions(
        indexes=tuple(args.indexes),
        out=out,
        workers=workers(checker),
        model=args.model or None,
        also_models=models_named(args),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
        bounds=nothing_decoded(checker, args.no_gates),
    )
    checker.finish()
    return options


def _place(index: str) -> str:
    """One name for all names of a folder."""
    return index.rstrip("/") if is_remote(index) else os.path.realpath(local(index))


def run(args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """``hashbeam merge``: 0 only if the new index was published."""
    options = options_from(args)
    try:
        summary = merge(options, beam_args)
    except AlreadyPublishedError as finished:
        print(f"hashbeam merge: {finished}", file=sys.stderr)
        summary = read_summary(options.out)
    print(summary.to_line() if options.json else summary.to_text())
    return 0


def merge(options: MergeOptions, beam_args: Sequence[str] = ()) -> Summary:
    """Makes one index of several, and publishes it.

    Raises: HashbeamError where they do not go together, or `out` cannot be written.
    """
    launched = time.time()
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    manifests = [open_manifest(index) for index in options.indexes]
    check_alike(options.indexes, manifests)
    hasher = find_hasher(manifests[0], options.model)
    sources = [
        Source(index, manifest, manifest.segments)
        for index, manifest in zip(options.indexes, manifests, strict=True)
    ]
    n_tracks = sum(source.tracks for source in sources)
    like = dataclasses.replace(manifests[0], also=common_models(manifests))
    beside = models_beside(like, options.also_models)
    with IndexLock(options.out) as lock:
        merged = prepare_run(
            options.out,
            catalog_digest=_digest(manifests),
            model_digest=hasher.digest,
            model_name=hasher.model.name,
            options={
                "merge": [manifest.catalog_digest for manifest in manifests],
                "keep_embeddings": like.compared == "embeddings",
                "also": like.also_digests(),
            },
            n_tracks=n_tracks,
            n_parts=count_parts(n_tracks),
        )
        if not has_rows(merged.work, merged.plan.n_parts):
            try:
                write_merged(merged, merged_rows(sources))
            except HashbeamError:  # as it is, this run can never go on
                io.remove_tree(merged.path())
                raise
        job = take_over(merged, hasher, like, None, sources, folders_of(beside))

        def finish(receipts: Mapping[str, Receipt]) -> tuple[Manifest, Built]:
            manifest, built = make_manifest(merged, receipts, hasher, None, beside)
            return _with_failures(merged, manifest, sources), built

        work = Work("merge", merged, hasher, None, finish, options.bounds, job, pipeline_options)
        _, summary = execute(work, options, lock, launched)
    return summary


def check_alike(indexes: Sequence[str], manifests: Sequence[Manifest]) -> None:
    """Raises: UsageError where indexes are of different models or compare different things."""
    first = manifests[0]
    for index, manifest in zip(indexes[1:], manifests[1:], strict=True):
        if manifest.model["digest"] != first.model["digest"]:
            raise UsageError(
                f"{index} was made by model {manifest.model['name']} with digest "
                f"{manifest.model['digest'][:12]}, {indexes[0]} by {first.model['name']} with "
                f"{first.model['digest'][:12]}; index one of them anew with the other's model"
            )
        if manifest.compared != first.compared:
            raise UsageError(
                f"{index} compares queries with {manifest.compared}, {indexes[0]} with "
                f"{first.compared}; index one of them anew, both with --keep-embeddings or both "
                "without"
            )


def common_models(manifests: Sequence[Manifest]) -> dict[str, dict[str, str]]:
    """What all indexes have beside codes, made by one model."""
    first, *others = manifests
    return {
        name: model
        for name, model in first.also.items()
        if all(one.also.get(name, {}).get("digest") == model["digest"] for one in others)
    }


def _digest(manifests: Sequence[Manifest]) -> str:
    versions = (f"{one.catalog_digest} {one.version} {one.created}" for one in manifests)
    return hashlib.sha256("\n".join(versions).encode()).hexdigest()


def _with_failures(run: Run, manifest: Manifest, sources: Sequence[Source]) -> Manifest:
    """The manifest with what failed in any of the indexes, each track once."""
    tables = [whole(table) for one in sources for table in failed_tracks(one.index, one.manifest)]
    table = pa.concat_tables([TRACK_FAILURES.empty_table(), *tables]).combine_chunks()
    if not table.num_rows:
        return manifest
    # One that was hashed in another index is there; one that failed in both is so once. What has
    # codes failed only in what the merged index may not have, be it in two things.
    rows = read_all(run.work, run.plan.n_parts, ["track_id"])
    live = pa.concat_tables(rows)["track_id"].combine_chunks()
    beside = failed_beside(table)
    nowhere = pc.and_not(pc.invert(beside), pc.is_in(table["track_id"], live))
    stages = pa.array([ALSO[name].stage for name in manifest.also], pa.string())
    wanted = pc.is_in(table["stage"], stages)
    table = table.filter(pc.or_(wanted, nowhere))
    stage = pc.if_else(failed_beside(table), table["stage"], "")
    ids: Any = pc.binary_join_element_wise(stage, table["track_id"], " ").combine_chunks()
    first = pc.index_in(ids, value_set=ids)
    table = table.filter(pc.equal(first, pa.array(range(len(ids)), pa.int32())))
    lost = without_codes(table).num_rows
    counters = {
        **manifest.counters,
        "tracks": manifest.counters["tracks"] + lost,
        "tracks_failed": lost,
    }
    files = Files.of([*manifest.files, write_failures(run, "merged", table)])
    return dataclasses.replace(manifest, files=files, counters=counters)
