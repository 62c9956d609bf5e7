"""``hashbeam lookup --queries``: many queries against one index, on Beam.

Queries are cut into parts; a worker opens the index once, answers a part, and writes its matches
and failures. The file of matches is written last and whole, so that it is the part's receipt: a
run that was stopped goes on with the parts that have none.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["lookup", *sys.argv[1:]]))

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from hashing.decoder import Decoder
from hashing.errors import CatalogError
from pipelines import io, parquet
from pipelines.answers import Answer, Query, ask, in_one_line
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.duplication.collapse import groups_digest, open_groups
from pipelines.job_folder import claim, finish, remove_temporary
from pipelines.opened import open_index
from pipelines.options import LookupOptions
from pipelines.progress import Progress, shows_progress
from pipelines.runner import make_pipeline_options, run_pipeline
from pipelines.track_tables import FAILURES
from pipelines.versions import Manifest

FORMAT_VERSION = 1

# Queries of a part: some seconds of work, so that nothing much is repeated after a stop; more where
# there are so many that parts would become a crowd of files.
QUERIES_PER_PART = 64
MAX_PARTS = 4096

# The shortest part of a recording that may be asked for, s: less is a mistake in the list. What is
# longer, but too short for a snippet, is a failure.
LEAST_S = 0.001

MATCHES = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.int32()),
        ("track_id", pa.string()),
        ("score", pa.float64()),
        ("votes", pa.int32()),
        ("offset_s", pa.float64()),
        ("query_start_s", pa.float64()),
        ("query_end_s", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class LookupJob:
    """What a worker must know to answer any part: small, and sent to each of them."""

    options: LookupOptions
    queries_per_part: int

    def path(self, *names: str) -> str:
        """Something in the folder of answers."""
        return io.join(self.options.out, *names)

    def part_path(self, kind: str, part: int) -> str:
        """``…/matches/part-00012.parquet``."""
        return self.path(kind, f"part-{part:05d}.parquet")


def look_up_many(options: LookupOptions, beam_args: Sequence[str]) -> int:
    """Answer all queries; prints a summary.

    Raises: HashbeamError where the queries, the index or the folder of answers cannot be used.
    """
    started = time.time()
    _, _, manifest = open_index(options.index, options.model, options.probes)
    queries = read_queries(options.queries)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    job = _prepare(options, queries, manifest)
    n_parts = -(-queries.num_rows // job.queries_per_part)
    missing = [part for part in range(n_parts) if not io.exists(job.part_path("matches", part))]
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    with Progress(n_parts, lambda: _finished(job), unit="part", show=show):
        run_pipeline(
            lambda pipeline: pipeline | "look up" >> LookUp(job, missing), pipeline_options
        )
    remove_temporary(options.out)
    summary = {
        "format_version": FORMAT_VERSION,
        "index": options.index,
        "index_version": manifest.version,
        "model": manifest.model,
        "out": options.out,
        **_count(job, n_parts, queries.num_rows),
        "min_score": options.min_score,
        "parts": n_parts,
        "parts_resumed": n_parts - len(missing),
        "workers": options.workers,
        "wall_s": round(time.time() - started, 3),
    }
    finish(options.out, summary)
    print(json.dumps(summary) if options.json else _as_text(summary))
    return 0


def read_queries(path: str) -> pa.Table:
    """A list of queries: `query_id`, `uri` (absolute), `start_s` and `duration_s` (null: all).

    Raises: CatalogError as `pipelines.catalog.read_catalog`, and for what is no time.
    """
    table = read_catalog(path, "query_id")
    columns = {"query_id": table["query_id"], "uri": table["uri"]}
    ids = table["query_id"].to_pylist()
    problems = []
    for name, lowest in (("start_s", 0.0), ("duration_s", LEAST_S)):
        given = table[name].to_pylist() if name in table.column_names else [None] * len(ids)
        seconds = [None if value in (None, "") else _seconds(value) for value in given]
        columns[name] = pa.array(seconds, pa.float64())
        problems += [
            f"query {query_id!r}, column {name}: {value!r} is no time in seconds"
            for query_id, value, found in zip(ids, given, seconds, strict=True)
            if found is not None and not lowest <= found < math.inf
        ]
    if problems:
        told = in_one_line(problems)
        raise CatalogError(f"{path}: {told}; mend that, or leave it empty for the whole recording")
    return pa.table(columns)


def _seconds(value: Any) -> float:
    """A time as a list of queries gives it; not-a-number for what is none.

    >>> _seconds("1.5"), _seconds("soon"), _seconds(True)
    (1.5, nan, nan)
    """
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


@dataclasses.dataclass
class LookUp(beam.PTransform[Any, Any]):
    """Numbers of parts → matches and failures of their queries, as files.

    Attributes:
        job: what the workers must know.
        parts: numbers of the parts that are not answered yet.
    """

    job: LookupJob
    parts: Sequence[int]

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        return (
            pbegin
            | "parts" >> beam.Create(list(self.parts), reshuffle=False)
            # Moves one number a part; without it one worker would answer them all.
            | "spread parts" >> beam.Reshuffle()
            | "answer" >> beam.ParDo(AnswerParts(self.job))
        )


class AnswerParts(beam.DoFn):
    """Part numbers in, part numbers out; one open index and one decoder a worker."""

    def __init__(self, job: LookupJob) -> None:
        self._job = job
        self._shared = Shared()

    def setup(self) -> None:
        """Opens the index, once for all threads of a worker, and starts the decoder."""
        options = self._job.options
        self._opened = self._shared.acquire(
            lambda: _Opened(
                *open_index(options.index, options.model, options.probes)[:2],
                open_groups(options.duplicates),
            )
        )
        self._stack = contextlib.ExitStack()
        self._decoder = self._stack.enter_context(Decoder())
        self._decoder.start()  # it loads while the first part is read

    def process(self, part: int) -> Iterable[int]:
        """Answers one part."""
        answer_part(self._job, part, self._opened, self._decoder)
        yield part

    def teardown(self) -> None:
        """Ends the decoder."""
        self._stack.close()


@dataclasses.dataclass
class _Opened:
    searcher: Any
    tracks: Any
    groups: Any


def answer_part(job: LookupJob, part: int, opened: _Opened, decoder: Decoder) -> None:
    """Answer the queries of a part, and write its failures and then its matches."""
    options = job.options
    table = parquet.read_table(job.path("queries.parquet"), row_groups=[part])
    queries = [
        Query(row["query_id"], row["uri"], row["start_s"] or 0.0, row["duration_s"])
        for row in table.to_pylist()
    ]
    answers = list(
        ask(
            queries,
            opened.searcher,
            opened.tracks,
            decoder,
            top=options.top,
            min_score=options.min_score,
            max_seconds=options.max_query_hours * 3600,
            timeout_s=options.decode_timeout_s,
            groups=opened.groups,
        )
    )
    metadata = {
        "hashbeam_format": str(FORMAT_VERSION),
        "hasher_digest": opened.searcher.hasher.digest,
        "queries": str(len(queries)),
        "failed": str(sum(bool(answer.error) for answer in answers)),
        "unmatched": str(sum(not answer.error and not answer.matches for answer in answers)),
    }
    failures = pa.Table.from_pylist(_failures(answers), schema=FAILURES)
    if failures.num_rows:
        parquet.write_table(job.part_path("failures", part), failures, metadata=metadata)
    else:
        io.remove(job.part_path("failures", part))  # of an attempt that was killed
    schema = MATCHES
    if options.duplicates:
        schema = schema.append(pa.field("duplicates", pa.list_(pa.string())))
    names = schema.names[1:]
    rows = [
        {"query_id": answer.query.query_id, **{name: match[name] for name in names}}
        for answer in answers
        for match in answer.matches
    ]
    matches = pa.Table.from_pylist(rows, schema=schema)
    parquet.write_table(job.part_path("matches", part), matches, metadata=metadata)


def _failures(answers: Iterable[Answer]) -> list[dict[str, str]]:
    return [
        {
            "track_id": answer.query.query_id,
            "uri": answer.query.uri,
            "stage": "query",
            "error": answer.error,
            "message": answer.message,
        }
        for answer in answers
        if answer.error
    ]


def _prepare(options: LookupOptions, queries: pa.Table, manifest: Manifest) -> LookupJob:
    """The job, and its folder: a new one, or one with an unfinished run of the same job."""
    times = json.dumps([queries[name].to_pylist() for name in ("start_s", "duration_s")])
    identity = [
        # Which index it is, wherever it lies: answers of two are never mixed.
        manifest.version,
        manifest.model["digest"],
        manifest.catalog_digest,
        manifest.key_bits,
        manifest.compared,
        manifest.created,
        catalog_digest(queries.rename_columns(["track_id", "uri", "start_s", "duration_s"])),
        hashlib.sha256(times.encode()).hexdigest(),
        options.top,
        options.min_score,
        options.probes,
        groups_digest(options.duplicates),
    ]
    claim(
        options.out,
        FORMAT_VERSION,
        identity,
        results="answers",
        others="answers to other queries, of another index, or with other options",
    )
    per_part = max(QUERIES_PER_PART, -(-queries.num_rows // MAX_PARTS))
    job = LookupJob(options, per_part)
    if not io.exists(job.path("queries.parquet")):
        parquet.write_table(
            job.path("queries.parquet"), queries, row_group_size=job.queries_per_part
        )
    return job


def _finished(job: LookupJob) -> int:
    return sum(name.endswith(".parquet") for name in io.list_dir(job.path("matches")))


def _count(job: LookupJob, n_parts: int, n_queries: int) -> dict[str, int]:
    counts = {"failed": 0, "unmatched": 0}
    for part in range(n_parts):
        metadata = parquet.read_metadata(job.part_path("matches", part))
        for name in counts:
            counts[name] += int(metadata[name])
    return {"queries": n_queries, "matched": n_queries - sum(counts.values()), **counts}


def _as_text(summary: dict[str, Any]) -> str:
    lines = [
        f"{summary['out']}: {summary['queries']} queries in {summary['wall_s']:.1f} s",
        f"  {summary['matched']} with a match, {summary['unmatched']} without, "
        f"{summary['failed']} that could not be asked",
    ]
    if summary["failed"]:
        lines.append(f"  the reasons stand in {io.join(summary['out'], 'failures')}")
    return "\n".join(lines)
