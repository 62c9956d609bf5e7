"""``hashbeam lookup --queries``: which recordings many queries are from, on Beam."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["lookup", *sys.argv[1:]]))

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hashing.decoder import Decoder
from pipelines.answers import Query, ask
from pipelines.duplication.collapse import groups_digest, open_groups
from pipelines.job_folder import finish
from pipelines.launch import launch_time
from pipelines.opened import open_index
from pipelines.options import LookupOptions
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


def look_up_many(options: LookupOptions, beam_args: Sequence[str]) -> int:
    """Answer all queries; prints a summary.

    Raises: HashbeamError where the queries, the index or the folder of answers cannot be used.
    """
    started = launch_time()
    _, _, manifest = open_index(options.index, options.model, options.probes)
    queries = read_queries(options.queries)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    settings = [options.top, options.min_score, options.probes, groups_digest(options.duplicates)]
    per_part = prepare(options.out, queries, manifest, settings)
    job = LookupJob(options.out, queries.num_rows, per_part, options)
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    resumed = answer_all(job, pipeline_options, show=show)
    counts = job.counted("failed", "unmatched")
    summary = {
        "format_version": FORMAT_VERSION,
        "index": options.index,
        "index_version": manifest.version,
        "model": manifest.model,
        "out": options.out,
        "queries": queries.num_rows,
        "matched": queries.num_rows - sum(counts.values()),
        **counts,
        "min_score": options.min_score,
        "parts": job.n_parts,
        "parts_resumed": resumed,
        "workers": workers_here(pipeline_options, options.workers),
        "wall_s": round(time.time() - started, 3),
    }
    finish(options.out, summary)
    counted = f"{summary['matched']} with a match, {summary['unmatched']} without"
    print(json.dumps(summary) if options.json else summary_text(summary, counted))
    return 0


@dataclasses.dataclass
class _Opened:
    searcher: Any
    tracks: Any
    groups: Any


@dataclasses.dataclass(frozen=True)
class LookupJob(QueryJob):
    """Which recordings queries are from.

    Attributes:
      options: as they were given.
    """

    options: LookupOptions

    def open(self) -> _Opened:
        """The index, and which of its tracks are one recording."""
        options = self.options
        return _Opened(
            *open_index(options.index, options.model, options.probes)[:2],
            open_groups(options.duplicates),
        )

    def answer(self, queries: Sequence[Query], opened: _Opened, decoder: Decoder) -> Answered:
        """The matches of each query, as `pipelines.answers.ask` finds them."""
        options = self.options
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
                allowed=options.allowed,
            )
        )
        told = {
            "hasher_digest": opened.searcher.hasher.digest,
            "queries": str(len(queries)),
            "failed": str(sum(bool(answer.error) for answer in answers)),
            "unmatched": str(sum(not answer.error and not answer.matches for answer in answers)),
        }
        failures = [
            failure(answer.query.query_id, answer.query.uri, answer.error, answer.message)
            for answer in answers
            if answer.error
        ]
        schema = MATCHES
        if options.duplicates:
            schema = schema.append(pa.field("duplicates", pa.list_(pa.string())))
        names = schema.names[1:]
        rows = [
            {"query_id": answer.query.query_id, **{name: match[name] for name in names}}
            for answer in answers
            for match in answer.matches
        ]
        return Answered(pa.Table.from_pylist(rows, schema=schema), failures, told)
