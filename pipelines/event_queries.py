"""``hashbeam events search --queries``: which clips of an index are like many others, on Beam."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hashing.decoder import Decoder
from pipelines.answers import Query
from pipelines.event_clips import Clips, open_clips
from pipelines.event_search import EventAnswer, EventOptions, ask_files
from pipelines.job_folder import finish
from pipelines.progress import shows_progress
from pipelines.query_parts import (
    FORMAT_VERSION,
    Answered,
    QueryJob,
    answer_all,
    failure,
    prepare,
    read_queries,
    summary_text,
)
from pipelines.runner import make_pipeline_options, workers_here
from pipelines.versions import open_manifest

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
class EventsJob(QueryJob):
    """Which clips queries are like.

    Attributes:
      options: as they were given.
      version: of the index, so that all workers ask the same one.
    """

    options: EventOptions
    version: str

    def open(self) -> Clips:
        """The index."""
        options = self.options
        manifest = open_manifest(options.index, self.version)
        return open_clips(options.index, options.model, options.labels, manifest)

    def answer(self, queries: Sequence[Query], opened: Clips, decoder: Decoder) -> Answered:
        """The nearest clips of each query, and a guess at its label."""
        answers = list(ask_files(opened, queries, decoder, self.options))
        failures = [
            failure(answer.query_id, answer.uri, answer.error, answer.message)
            for answer in answers
            if answer.error
        ]
        told = {"hasher_digest": opened.hasher.digest, "failed": str(len(failures))}
        rows = [{**match, **_of_query(answer)} for answer in answers for match in answer.matches]
        return Answered(pa.Table.from_pylist(rows, schema=MATCHES), failures, told)


def search_many(options: EventOptions, beam_args: Sequence[str]) -> int:
    """Answer all queries; prints a summary. Status 1 where some could not be asked.

    Raises: HashbeamError where the queries, the index or the folder of answers cannot be used.
    """
    started = time.time()
    manifest = open_manifest(options.index)
    clips = open_clips(options.index, options.model, options.labels, manifest)  # before any work
    queries = read_queries(options.queries)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    settings = [options.labels, options.top, options.share, options.symmetric, options.all_windows]
    per_part = prepare(options.out, queries, manifest, settings)
    job = EventsJob(options.out, queries.num_rows, per_part, options, manifest.version)
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    resumed = answer_all(job, pipeline_options, show=show)
    failed = job.counted("failed")["failed"]
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
        "parts": job.n_parts,
        "parts_resumed": resumed,
        "workers": workers_here(pipeline_options, options.workers),
        "wall_s": round(time.time() - started, 3),
    }
    finish(options.out, summary)
    counted = f"{summary['answered']} answered"
    print(json.dumps(summary) if options.json else summary_text(summary, counted))
    return 1 if failed else 0


def _of_query(answer: EventAnswer) -> dict[str, Any]:
    guess = answer.guess or {"label": None, "share": None}
    return {
        "query_id": answer.query_id,
        "guess": guess["label"],
        "guess_share": guess["share"],
    }
