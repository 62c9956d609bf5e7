"""``hashbeam index``: a catalogue becomes codes and hash tables, published as an index.

Wiring only: `pipelines.parts` hashes a part, `pipelines.tables` builds the tables, and
`pipelines.summary` says what was done.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["index", *sys.argv[1:]]))

import argparse
from collections.abc import Mapping, Sequence

from hashing.encoders import Hasher
from hashing.errors import ModelError
from hashing.models import DEFAULT_MODEL, Model
from pipelines.also import ALSO, load_kind
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.execution import Work, execute
from pipelines.gates import add_gate_arguments
from pipelines.gather import (
    Built,
    check_failures,
    forget_failures,
    make_manifest,
    part_receipts,
)
from pipelines.index_job import IndexJob
from pipelines.index_options import IndexOptions, add_also_arguments, index_options
from pipelines.launch import launch_time
from pipelines.lock import IndexLock
from pipelines.metrics_text import RunMetrics, add_metrics_argument
from pipelines.opened import embedding_dimensions
from pipelines.options import (
    MAX_TRACK_HOURS,
    add_decode_arguments,
    add_detach_argument,
    add_job_arguments,
)
from pipelines.parts import HashJob, count_parts, write_parts
from pipelines.runner import make_pipeline_options
from pipelines.runs import AlreadyPublishedError, Receipt, prepare_run
from pipelines.summary import Summary, read_summary
from pipelines.versions import Manifest

DESCRIPTION = """\
Turn a catalogue into an index: codes of every track, hash tables of all codes.

  hashbeam index --catalog catalog.csv --out music.index
  hashbeam index --catalog catalog.csv --out music.index --also artist,sequence
  hashbeam index --catalog gs://bucket/catalog.parquet --out gs://bucket/index \\
      --runner=DataflowRunner --project=… --region=… --temp_location=gs://bucket/tmp

--also artist adds an embedding of each track that tells artists apart, from the same decoding; then
`hashbeam disambiguate --index INDEX` need not hear the tracks again. --also sequence adds a hash
sequence of each track, by which `hashbeam match-midi` finds the recordings of MIDI files: 1.4 MB
an hour of audio. A track that is too short or too quiet for one of them is indexed all the same,
and told among the failures.

A run that was stopped goes on when the same command is given again. Tracks that fail are listed in
failures/ with the reason; more than --max-failures of them, and nothing is published."""

options_from = index_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam index``."""
    add = parser.add_argument
    add("--catalog", metavar="C", help="CSV, JSON Lines or Parquet with track_id and uri")
    add("--out", metavar="INDEX", help="a new folder, or one with an unfinished run of this")
    add("--model", metavar="M", help=f"a shipped model or a model folder ({DEFAULT_MODEL})")
    add("--retry-failed", action="store_true", help="hash the parts with failed tracks again")
    add(
        "--keep-embeddings",
        action="store_true",
        help="keep snippet embeddings (float16) and compare queries with them, not with codes",
    )
    add_also_arguments(add)
    add("--key-bits", metavar="N", default="auto", help="bits of a table's key (by the size)")
    add(
        "--max-track-hours",
        metavar="H",
        default=MAX_TRACK_HOURS,
        help="longer tracks fail (%(default)s)",
    )
    add_gate_arguments(parser, parent=False)
    add_metrics_argument(parser)
    add_decode_arguments(parser)
    add_detach_argument(parser)
    add_job_arguments(parser)


def run(args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """``hashbeam index``: 0 only if the index was published."""
    options = index_options(args)
    with RunMetrics(options.metrics, "index", options.out) as metrics:
        try:
            summary = build_index(options, beam_args)
        except AlreadyPublishedError as finished:
            print(f"hashbeam index: {finished}", file=sys.stderr)
            summary = read_summary(options.out)
        metrics.note(summary)
    print(summary.to_line() if options.json else summary.to_text())
    return 0


def build_index(options: IndexOptions, beam_args: Sequence[str] = ()) -> Summary:
    """Indexes a catalogue and publishes the result.

    Raises: HashbeamError, also where more tracks failed than allowed: then nothing is published,
        and what was done is kept for the next run.
    """
    launched = launch_time()
    catalog = read_catalog(options.catalog)
    hasher = Hasher.load(options.model or DEFAULT_MODEL)
    if options.key_bits:
        hasher.check_key_bits(options.key_bits)
    if options.keep_embeddings and not embedding_dimensions(hasher):
        raise ModelError(
            f"--keep-embeddings: model {hasher.model.name} has no embeddings; leave the flag out, "
            "or name a model that stands on an encoder with --model"
        )
    also = _open_also(options)
    bounds = options.bounds
    max_failures = 1.0 if "failures" in bounds.left_out else bounds.max_failures
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    with IndexLock(options.out) as lock:
        run = prepare_run(
            options.out,
            catalog_digest=catalog_digest(catalog),
            model_digest=hasher.digest,
            model_name=hasher.model.name,
            options={
                "max_track_hours": options.max_track_hours,
                "keep_embeddings": options.keep_embeddings,
                # Only where something is asked for: a run of an earlier hashbeam goes on.
                **({"also": {name: model.digest for name, model in also.items()}} if also else {}),
            },
            n_tracks=catalog.num_rows,
            n_parts=count_parts(catalog.num_rows),
        )
        write_parts(run, catalog)
        if options.retry_failed:
            forget_failures(run)
        job = IndexJob(
            HashJob(
                run,
                options.max_track_hours * 3600,
                options.decode_timeout_s,
                options.keep_embeddings,
            ),
            options.model or DEFAULT_MODEL,
            hasher.quantizer,
            options.key_bits,
            max_failures,
            {name: _model_of(options, name) for name in also},
        )

        def finish(receipts: Mapping[str, Receipt]) -> tuple[Manifest, Built]:
            check_failures(run, part_receipts(run, receipts), max_failures)
            return make_manifest(run, receipts, hasher, options.key_bits, also)

        work = Work("index", run, hasher, None, finish, bounds, job, pipeline_options)
        _, summary = execute(work, options, lock, launched)
    return summary


def _open_also(options: IndexOptions) -> dict[str, Model]:
    """The models of ``--also``; raises ModelError."""
    return {name: load_kind(name, _model_of(options, name)).model for name in options.also}


def _model_of(options: IndexOptions, name: str) -> str:
    return options.also_models.get(name) or ALSO[name].kind.default_model
