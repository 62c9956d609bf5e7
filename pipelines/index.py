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
import contextlib
import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from hashing.artists.decoder import ArtistDecoder
from hashing.artists.encoder import ArtistEncoder
from hashing.encoders import Hasher
from hashing.errors import HashbeamError, ModelError
from hashing.models import DEFAULT_ARTIST_MODEL, DEFAULT_MODEL, Model
from hashing.quantizers import Quantizer
from pipelines import io
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.gather import check_failures, forget_failures, make_manifest, part_receipts
from pipelines.lock import IndexLock
from pipelines.opened import embedding_dimensions
from pipelines.options import (
    MAX_FAILURES,
    MAX_TRACK_HOURS,
    IndexOptions,
    add_decode_arguments,
    add_job_arguments,
    index_options,
)
from pipelines.parts import HashJob, hash_part, part_name, tracks_per_part, write_parts
from pipelines.progress import Progress, shows_progress
from pipelines.publication import publish
from pipelines.runner import make_pipeline_options, run_pipeline
from pipelines.runs import AlreadyPublishedError, Run, prepare_run
from pipelines.summary import Summary, read_summary, summarise
from pipelines.tables import BuildTables, SegmentCodes, read_segments
from pipelines.versions import dump_json

DESCRIPTION = """\
Turn a catalogue into an index: codes of every track, hash tables of all codes.

  hashbeam index --catalog catalog.csv --out music.index
  hashbeam index --catalog catalog.csv --out music.index --also artist
  hashbeam index --catalog gs://bucket/catalog.parquet --out gs://bucket/index \\
      --runner=DataflowRunner --project=… --region=… --temp_location=gs://bucket/tmp

--also artist adds an embedding of each track that tells artists apart, from the same decoding; then
`hashbeam disambiguate --index INDEX` need not hear the tracks again.

A run that was stopped goes on when the same command is given again. Tracks that fail are listed in
failures/ with the reason; more than --max-failures of them, and nothing is published."""

options_from = index_options

# Counters of a part that the runner shows while it works; `run.json` has all of them.
COUNTED = ("tracks_hashed", "tracks_failed", "tracks_embedded", "snippets", "audio_s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam index``."""
    add = parser.add_argument
    add("--catalog", metavar="C", help="CSV, JSON Lines or Parquet with track_id and uri")
    add("--out", metavar="INDEX", help="a new folder, or one with an unfinished run of this")
    add("--model", metavar="M", help=f"a shipped model or a model folder ({DEFAULT_MODEL})")
    add(
        "--max-failures",
        metavar="SHARE",
        default=MAX_FAILURES,
        help="share of the tracks that may fail, 0 to 1 (%(default)s)",
    )
    add("--retry-failed", action="store_true", help="hash the parts with failed tracks again")
    add(
        "--keep-embeddings",
        action="store_true",
        help="keep snippet embeddings (float16) and compare queries with them, not with codes",
    )
    add(
        "--also",
        metavar="WHAT",
        action="append",
        help="artist: keep artist embeddings too, which `disambiguate --index` reuses",
    )
    add(
        "--artist-model",
        metavar="M",
        help=f"with --also artist: a shipped artist model or a folder ({DEFAULT_ARTIST_MODEL})",
    )
    add("--key-bits", metavar="N", default="auto", help="bits of a table's key (by the size)")
    add(
        "--max-track-hours",
        metavar="H",
        default=MAX_TRACK_HOURS,
        help="longer tracks fail (%(default)s)",
    )
    add_decode_arguments(parser)
    add_job_arguments(parser)


def run(args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """``hashbeam index``: 0 only if the index was published."""
    options = index_options(args)
    try:
        summary = build_index(options, beam_args)
    except AlreadyPublishedError as finished:
        print(f"hashbeam index: {finished}", file=sys.stderr)
        summary = read_summary(options.out)
    print(summary.to_line() if options.json else summary.to_text())
    return 0


def build_index(options: IndexOptions, beam_args: Sequence[str] = ()) -> Summary:
    """Indexes a catalogue and publishes the result.

    Raises: HashbeamError, also where more tracks failed than allowed: then nothing is published,
        and what was done is kept for the next run.
    """
    launched = time.time()
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
            n_parts=-(-catalog.num_rows // tracks_per_part(catalog.num_rows)),
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
            options.max_failures,
            (options.artist_model or DEFAULT_ARTIST_MODEL) if "artist" in also else "",
        )
        total = run.plan.n_parts + hasher.quantizer.n_tables
        show = shows_progress(quiet=options.quiet, asked=options.progress)
        with Progress(total, lambda: finished_pieces(run), unit="part", show=show):
            run_pipeline(lambda pipeline: pipeline | "index" >> job, pipeline_options)
        receipts = run.receipts()
        parts = part_receipts(run, receipts)
        check_failures(run, parts, options.max_failures)
        manifest, shards = make_manifest(run, receipts, hasher, options.key_bits, also)
        summary = summarise(options, manifest, parts, shards, launched)
        io.write_bytes(run.path("run.json"), dump_json(summary))
        lock.check()
        publish(options.out, manifest)
    return summary


def _open_also(options: IndexOptions) -> dict[str, Model]:
    """The models of ``--also``; raises ModelError."""
    model = options.artist_model or DEFAULT_ARTIST_MODEL
    return {"artist": ArtistEncoder.load(model).model} if "artist" in options.also else {}


@dataclasses.dataclass
class IndexJob(beam.PTransform[Any, Any]):
    """Parts of a catalogue → codes → hash tables, each leaving files and a receipt.

    What flows are numbers and names only: files are written by the workers, and receipts on the
    store are the truth about them, so that a run can be stopped and continued at any moment.

    Attributes:
        job: what the workers must know.
        model: name or folder of the hasher.
        quantizer: makes keys of codes.
        key_bits: of a key, or None to choose by the number of snippets.
        max_failures: share of failed tracks above which no tables are built.
        artist: name or folder of the model of artist embeddings; "": none are made.
    """

    job: HashJob
    model: str
    quantizer: Quantizer
    key_bits: int | None
    max_failures: float
    artist: str = ""

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        run = self.job.run
        done = run.receipts()
        missing = [part for part in range(run.plan.n_parts) if part_name(part) not in done]
        hashed = (
            pbegin
            | "parts" >> beam.Create(missing, reshuffle=False)
            # Moves one number a part; without it one worker would hash them all.
            | "spread parts" >> beam.Reshuffle()
            | "hash" >> beam.ParDo(HashParts(self.job, self.model, self.artist))
        )
        return (
            pbegin
            | "once" >> beam.Create([run], reshuffle=False)
            # The names of the parts (a few bytes each) hold it back until all are hashed.
            | "segments" >> beam.FlatMap(self._segments, beam.pvalue.AsList(hashed))
            | "tables" >> BuildTables(run, self.quantizer, self.key_bits)
        )

    def _segments(self, run: Run, hashed: Iterable[str]) -> list[SegmentCodes]:
        receipts = run.receipts()
        try:
            check_failures(run, part_receipts(run, receipts), self.max_failures)
        except HashbeamError:
            return []  # no tables; the launcher says why
        return read_segments(run, receipts)


class HashParts(beam.DoFn):
    """Part numbers in, names of receipts out; one hasher and one decoder a worker."""

    def __init__(self, job: HashJob, model: str, artist: str = "") -> None:
        self._job, self._model, self._artist = job, model, artist
        self._shared, self._shared_artist = Shared(), Shared()

    def setup(self) -> None:
        """Loads the hasher, once for all threads of a worker, and starts the decoder."""
        plan = self._job.run.plan
        self._hasher = self._shared.acquire(lambda: Hasher.load(self._model))
        _check_digest(self._model, self._hasher.digest, plan.model_digest)
        self._encoder: ArtistEncoder | None = None
        if self._artist:
            self._encoder = self._shared_artist.acquire(lambda: ArtistEncoder.load(self._artist))
            _check_digest(self._artist, self._encoder.digest, plan.options["also"]["artist"])
        self._stack = contextlib.ExitStack()
        self._decoder = ArtistDecoder()
        self._stack.enter_context(self._decoder)
        self._decoder.prepare(self._hasher)
        if self._encoder is not None:
            self._decoder.prepare_artist(self._encoder)

    def process(self, part: int) -> Iterable[str]:
        """Hashes one part, and counts for whoever watches the runner."""
        receipt = hash_part(self._job, part, self._hasher, self._decoder, self._encoder)
        for name in COUNTED:
            Metrics.counter("hashbeam", name).inc(int(receipt.counters.get(name, 0)))
        yield receipt.name

    def teardown(self) -> None:
        """Ends the decoder."""
        self._stack.close()


def _check_digest(model: str, found: str, expected: str) -> None:
    if found != expected:
        raise ModelError(
            f"model {model} has digest {found[:12]} on the worker and {expected[:12]} where the "
            "run was started; install the same model on both"
        )


def finished_pieces(run: Run) -> int:
    """How many parts and shards have a receipt."""
    return len(io.list_dir(io.join(run.work, "receipts")))
