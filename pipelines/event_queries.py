"""``hashbeam events search --queries``: many queries against an index of clips, on Beam.

As `pipelines.lookup`: queries are cut into parts; a worker opens the index once and answers a part;
the file of matches is written last and whole, so that a run that was stopped goes on with the parts
that have none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from hashing.decoder import Decoder
from pipelines import io, parquet
from pipelines.answers import Query
from pipelines.catalog import catalog_digest
from pipelines.event_clips import Clips, open_clips
from pipelines.event_search import EventAnswer, EventOptions, ask_files
from pipelines.job_folder import claim, finish, remove_temporary
from pipelines.lookup import read_queries
from pipelines.progress import Progress, shows_progress
from pipelines.runner import make_pipeline_options, run_pipeline
from pipelines.track_tables import FAILURES
from pipelines.versions import Manifest, open_manifest

FORMAT_VERSION = 1

# Queries of a part: some seconds of work, so that nothing much is repeated after a stop; more where
# there are so many that parts would become a crowd of files.
QUERIES_PER_PART = 64
MAX_PARTS = 4096

MATCHES = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.int32()),
        ("track_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("distance", pa.float64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("query_start_s", pa.float64()),
        ("query_end_s", pa.float64()),
        # Of the query, in each of its rows.
        ("guess", pa.string()),
        ("guess_share", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class EventsJob:
    """What a worker must know to answer any part: small, and sent to each of them.

    Attributes:
      options: as they were given.
      version: of the index, so that all workers ask the same one.
      queries_per_part: of the list of queries.
    """

    options: EventOptions
    version: str
    queries_per_part: int

    def path(self, *names: str) -> str:
        """Something in the folder of answers."""
        return io.join(self.options.out, *names)

    def part_path(self, kind: str, part: int) -> str:
        """``…/matches/part-00012.parquet``."""
        return self.path(kind, f"part-{part:05d}.parquet")

    def open(self) -> Clips:
        """The index."""
        options = self.options
        manifest = open_manifest(options.index, self.version)
        return open_clips(options.index, options.model, options.labels, manifest)


def search_many(options: EventOptions, beam_args: Sequence[str]) -> int:
    """Answer all queries; prints a summary. Status 1 where some could not be asked.

    Raises: HashbeamError where the queries, the index or the folder of answers cannot be used.
    """
    started = time.time()
    manifest = open_manifest(options.index)
    clips = open_clips(options.index, options.model, options.labels, manifest)  # before any work
    queries = read_queries(options.queries)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    job = _prepare(options, queries, manifest)
    n_parts = -(-queries.num_rows // job.queries_per_part)
    missing = [part for part in range(n_parts) if not io.exists(job.part_path("matches", part))]
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    with Progress(n_parts, lambda: _finished(job), unit="part", show=show):
        run_pipeline(
            lambda pipeline: pipeline | "search" >> SearchEvents(job, missing), pipeline_options
        )
    remove_temporary(options.out)
    failed = _count_failed(job, n_parts)
    summary = {
        "format_version": FORMAT_VERSION,
        "index": options.index,
        "index_version": manifest.version,
        "model": manifest.model,
        "labels": clips.column,
        "out": options.out,
        "queries": queries.num_rows,
        "answered": queries.num_rows - failed,
        "failed": failed,
        "top": options.top,
        "multi_index": options.share,
        "symmetric": options.symmetric,
        "all_windows": options.all_windows,
        "parts": n_parts,
        "parts_resumed": n_parts - len(missing),
        "workers": options.workers,
        "wall_s": round(time.time() - started, 3),
    }
    finish(options.out, summary)
    print(json.dumps(summary) if options.json else _as_text(summary))
    return 1 if failed else 0


@dataclasses.dataclass
class SearchEvents(beam.PTransform[Any, Any]):
    """Numbers of parts → matches and failures of their queries, as files.

    Attributes:
      job: what the workers must know.
      parts: numbers of the parts that are not answered yet.
    """

    job: EventsJob
    parts: Sequence[int]

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        return (
            pbegin
            | "parts" >> beam.Create(list(self.parts), reshuffle=False)
            # Moves one number a part; without it one worker would answer them all.
            | "spread parts" >> beam.Reshuffle()
            | "answer" >> beam.ParDo(AnswerEvents(self.job))
        )


class AnswerEvents(beam.DoFn):
    """Part numbers in, part numbers out; one open index and one decoder a worker."""

    def __init__(self, job: EventsJob) -> None:
        self._job = job
        self._shared = Shared()

    def setup(self) -> None:
        """Opens the index, once for all threads of a worker, and starts the decoder."""
        self._clips = self._shared.acquire(self._job.open)
        self._stack = contextlib.ExitStack()
        self._decoder = self._stack.enter_context(Decoder())
        self._decoder.start()  # it loads while the first part is read

    def process(self, part: int) -> Iterable[int]:
        """Answers one part."""
        answer_part(self._job, part, self._clips, self._decoder)
        yield part

    def teardown(self) -> None:
        """Ends the decoder."""
        self._stack.close()


def answer_part(job: EventsJob, part: int, clips: Clips, decoder: Decoder) -> None:
    """Answer the queries of a part, and write its failures and then its matches."""
    table = parquet.read_table(job.path("queries.parquet"), row_groups=[part])
    queries = [
        Query(row["query_id"], row["uri"], row["start_s"] or 0.0, row["duration_s"])
        for row in table.to_pylist()
    ]
    answers = list(ask_files(clips, queries, decoder, job.options))
    failures = [_failure(answer) for answer in answers if answer.error]
    metadata = {
        "hashbeam_format": str(FORMAT_VERSION),
        "hasher_digest": clips.hasher.digest,
        "failed": str(len(failures)),
    }
    failed = job.part_path("failures", part)
    if failures:
        parquet.write_table(
            failed, pa.Table.from_pylist(failures, schema=FAILURES), metadata=metadata
        )
    else:
        io.remove(failed)  # of an attempt that was killed
    rows = [{**match, **_of_query(answer)} for answer in answers for match in answer.matches]
    matches = pa.Table.from_pylist(rows, schema=MATCHES)
    parquet.write_table(job.part_path("matches", part), matches, metadata=metadata)


def _of_query(answer: EventAnswer) -> dict[str, Any]:
    guess = answer.guess or {"label": None, "share": None}
    return {
        "query_id": answer.query_id,
        "guess": guess["label"],
        "guess_share": guess["share"],
    }


def _failure(answer: EventAnswer) -> dict[str, str]:
    return {
        "track_id": answer.query_id,
        "uri": answer.uri,
        "stage": "query",
        "error": answer.error,
        "message": answer.message,
    }


def _prepare(options: EventOptions, queries: pa.Table, manifest: Manifest) -> EventsJob:
    """The job, and its folder: a new one, or one with an unfinished run of the same job."""
    times = json.dumps([queries[name].to_pylist() for name in ("start_s", "duration_s")])
    identity = [
        # Which index it is, wherever it lies: answers of two are never mixed.
        manifest.version,
        manifest.model["digest"],
        manifest.catalog_digest,
        manifest.created,
        catalog_digest(queries.rename_columns(["track_id", "uri", "start_s", "duration_s"])),
        hashlib.sha256(times.encode()).hexdigest(),
        *(options.labels, options.top, options.share, options.symmetric, options.all_windows),
    ]
    claim(
        options.out,
        FORMAT_VERSION,
        identity,
        results="answers",
        others="answers to other queries, of another index, or with other options",
    )
    per_part = max(QUERIES_PER_PART, -(-queries.num_rows // MAX_PARTS))
    job = EventsJob(options, manifest.version, per_part)
    if not io.exists(job.path("queries.parquet")):
        parquet.write_table(job.path("queries.parquet"), queries, row_group_size=per_part)
    return job


def _finished(job: EventsJob) -> int:
    return sum(name.endswith(".parquet") for name in io.list_dir(job.path("matches")))


def _count_failed(job: EventsJob, n_parts: int) -> int:
    paths = (job.part_path("matches", part) for part in range(n_parts))
    return sum(int(parquet.read_metadata(path)["failed"]) for path in paths)


def _as_text(summary: dict[str, Any]) -> str:
    lines = [
        f"{summary['out']}: {summary['queries']} queries in {summary['wall_s']:.1f} s",
        f"  {summary['answered']} answered, {summary['failed']} that could not be asked",
    ]
    if summary["failed"]:
        lines.append(f"  the reasons stand in {io.join(summary['out'], 'failures')}")
    return "\n".join(lines)
