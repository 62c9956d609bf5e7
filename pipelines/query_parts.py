"""Lists of queries against one index, answered part by part on Beam.

Queries are cut into parts; a worker opens the index once, answers a part, and writes its matches
and failures. The file of matches is written last and whole, so that it is the part's receipt: a
run that was stopped goes on with the parts that have none.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from hashing.decoder import Decoder
from hashing.errors import CatalogError
from pipelines import io, parquet
from pipelines.answers import Query, in_one_line
from pipelines.catalog import catalog_digest, read_catalog
from pipelines.job_folder import claim, remove_temporary
from pipelines.progress import Progress
from pipelines.runner import run_pipeline
from pipelines.track_tables import FAILURES
from pipelines.versions import Manifest

FORMAT_VERSION = 1  # of a folder of answers

# Queries of a part: some seconds of work, so that nothing much is repeated after a stop; more where
# there are so many that parts would become a crowd of files.
QUERIES_PER_PART = 64
MAX_PARTS = 4096

# The shortest part of a recording that may be asked for, s: less is a mistake in the list. What is
# longer, but too short for a snippet, is a failure.
LEAST_S = 0.001


@dataclasses.dataclass(frozen=True)
class Answered:
    """What a part came to.

    Attributes:
      matches: a row each.
      failures: queries that could not be asked, as `failure` gives them.
      told: of the file of matches: what is counted in the end, and by which model.
    """

    matches: pa.Table
    failures: Sequence[Mapping[str, str]]
    told: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class QueryJob(abc.ABC):
    """What a worker must know to answer any part: small, and sent to each of them.

    Attributes:
      out: the folder of answers.
      n_queries, queries_per_part: of the list of queries.
    """

    out: str
    n_queries: int
    queries_per_part: int

    @abc.abstractmethod
    def open(self) -> Any:
        """What is asked; all parts of a worker share it."""

    @abc.abstractmethod
    def answer(self, queries: Sequence[Query], opened: Any, decoder: Decoder) -> Answered:
        """Answer the queries of a part."""

    @property
    def n_parts(self) -> int:
        """Parts in all."""
        return -(-self.n_queries // self.queries_per_part)

    def path(self, *names: str) -> str:
        """Something in the folder of answers."""
        return io.join(self.out, *names)

    def part_path(self, kind: str, part: int) -> str:
        """``…/matches/part-00012.parquet``."""
        return self.path(kind, f"part-{part:05d}.parquet")

    def missing(self) -> list[int]:
        """Parts that are not answered yet."""
        paths = [self.part_path("matches", part) for part in range(self.n_parts)]
        return [part for part, path in enumerate(paths) if not io.exists(path)]

    def finished(self) -> int:
        """How many parts are answered."""
        return sum(name.endswith(".parquet") for name in io.list_dir(self.path("matches")))

    def counted(self, *names: str) -> dict[str, int]:
        """Sums of what the parts told."""
        counts = dict.fromkeys(names, 0)
        for part in range(self.n_parts):
            metadata = parquet.read_metadata(self.part_path("matches", part))
            for name in names:
                counts[name] += int(metadata[name])
        return counts


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


def prepare(out: str, queries: pa.Table, manifest: Manifest, settings: Sequence[Any]) -> int:
    """The folder of answers: a new one, or one with an unfinished run of the same job.

    Args:
      settings: what answers depend on beside the queries and the index.

    Returns:
      How many queries a part has.

    Raises: UsageError where the folder has other answers.
    """
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
        *settings,
    ]
    claim(
        out,
        FORMAT_VERSION,
        identity,
        results="answers",
        others="answers to other queries, of another index, or with other options",
    )
    per_part: int = max(QUERIES_PER_PART, -(-queries.num_rows // MAX_PARTS))
    path = io.join(out, "queries.parquet")
    if not io.exists(path):
        parquet.write_table(path, queries, row_group_size=per_part)
    return per_part


def answer_all(job: QueryJob, options: PipelineOptions, *, show: bool) -> int:
    """Answer the parts that have no answers; returns how many had some.

    Args:
      options: of the pipeline.
      show: a line of progress.
    """
    missing = job.missing()
    with Progress(job.n_parts, job.finished, unit="part", show=show):
        run_pipeline(lambda pipeline: pipeline | "ask" >> AnswerQueries(job, missing), options)
    remove_temporary(job.out)
    return job.n_parts - len(missing)


@dataclasses.dataclass
class AnswerQueries(beam.PTransform[Any, Any]):
    """Numbers of parts → matches and failures of their queries, as files.

    Attributes:
        job: what the workers must know.
        parts: numbers of the parts that are not answered yet.
    """

    job: QueryJob
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

    def __init__(self, job: QueryJob) -> None:
        self._job = job
        self._shared = Shared()

    def setup(self) -> None:
        """Opens the index, once for all threads of a worker, and starts the decoder."""
        self._opened = self._shared.acquire(self._job.open)
        self._stack = contextlib.ExitStack()
        self._decoder = self._stack.enter_context(Decoder())
        self._decoder.start()  # it loads while the first part is read

    def process(self, part: int) -> Iterable[int]:
        """Answers one part, if nobody has: a runner that begins a job anew gives out all of it."""
        if not io.exists(self._job.part_path("matches", part)):
            answer_part(self._job, part, self._opened, self._decoder)
        yield part

    def teardown(self) -> None:
        """Ends the decoder."""
        self._stack.close()


def answer_part(job: QueryJob, part: int, opened: Any, decoder: Decoder) -> None:
    """Answer the queries of a part, and write its failures and then its matches."""
    table = parquet.read_table(job.path("queries.parquet"), row_groups=[part])
    queries = [
        Query(row["query_id"], row["uri"], row["start_s"] or 0.0, row["duration_s"])
        for row in table.to_pylist()
    ]
    found = job.answer(queries, opened, decoder)
    metadata = {"hashbeam_format": str(FORMAT_VERSION), **found.told}
    failed = job.part_path("failures", part)
    if found.failures:
        failures = pa.Table.from_pylist(list(found.failures), schema=FAILURES)
        parquet.write_table(failed, failures, metadata=metadata)
    else:
        io.remove(failed)  # of an attempt that was killed
    parquet.write_table(job.part_path("matches", part), found.matches, metadata=metadata)


def summary_text(summary: Mapping[str, Any], counted: str) -> str:
    """What a run came to, for people.

    Args:
      counted: what became of the queries.
    """
    lines = [
        f"{summary['out']}: {summary['queries']} queries in {summary['wall_s']:.1f} s",
        f"  {counted}, {summary['failed']} that could not be asked",
    ]
    if summary["failed"]:
        lines.append(f"  the reasons stand in {io.join(summary['out'], 'failures')}")
    return "\n".join(lines)


def failure(query_id: str, uri: str, error: str, message: str) -> dict[str, str]:
    """A row of a query that could not be asked."""
    return {
        "track_id": query_id,
        "uri": uri,
        "stage": "query",
        "error": error,
        "message": message,
    }
