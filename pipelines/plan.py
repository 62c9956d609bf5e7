"""``hashbeam plan``: what an index will cost, before any of it is made."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

import numpy as np

from hashing.encoders import Hasher
from hashing.errors import HashbeamError, ModelError
from hashing.models import DEFAULT_MODEL
from pipelines.also import load_kind
from pipelines.catalog import read_catalog
from pipelines.opened import embedding_dimensions
from pipelines.planning.content import Content, sequence_bytes_per_s
from pipelines.planning.estimate import estimate_changes, estimate_index, workers_for
from pipelines.planning.measure import SAMPLED_TRACKS, Measured, measure
from pipelines.planning.options import BIT_RATE, PlanOptions, add_arguments, plan_options
from pipelines.planning.outcome import Outcome, duration, notes_on
from pipelines.planning.past import Past, read_past
from pipelines.planning.speeds import POSTINGS_CPU_S, Speeds, TableSpeeds
from pipelines.planning.workload import of_catalog, of_tracks, sample

__all__ = ["DESCRIPTION", "add_arguments", "make_plan", "options_from", "run"]

DESCRIPTION = """\
Say what an index will cost: CPU hours, bytes, workers, memory and money, stage by stage.

On a laptop, for a folder of music, by a few seconds of hashing some of its tracks:

  hashbeam catalog ~/Music --out catalog.csv
  hashbeam plan --catalog catalog.csv

For ten million tracks of four minutes: index some hundred of them first, and let that run tell.
How many workers end in a day, and what they cost:

  hashbeam index --catalog some.csv --out some.index
  hashbeam plan --tracks 10000000 --minutes 4 --from some.index --hours 24 --start-s 180

The night after, when one track in a hundred is new or another:

  hashbeam plan --tracks 10000000 --minutes 4 --from some.index --changed 0.01 --workers 50

With speeds of your own nothing is measured, and the same flags give the same plan:

  hashbeam plan --tracks 1000000 --minutes 3.5 --hash-cpu-s 6 --table-cpu-s 0.06 --workers 64

The machines of Google Cloud Dataflow that this takes, and the flags that ask for them:

  hashbeam plan --tracks 10000000 --minutes 4 --from some.index --hours 24 --start-s 180 --dataflow

A worker is a process with a core of its own. Its time is what it needs to read and then to work;
the cost is that of the workers for as long as a stage lasts, and storage is told by the month.
Requests to a store, network between regions and taxes are not in it. Prices are defaults from
public lists: replace them by your own. All tracks are taken to be readable, and as long as the
mean; of a catalogue whose lengths are unknown, give --minutes."""


options_from = plan_options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam plan``: 0 if there is a plan that ends in time."""
    options = options_from(args)
    outcome = make_plan(options)
    print(json.dumps(outcome.to_json()) if options.json else outcome.to_text())
    if options.dataflow and not options.json:
        print(f"\n{outcome.to_dataflow_text()}")
    return 0


def make_plan(options: PlanOptions) -> Outcome:
    """The plan that was asked for.

    Raises: HashbeamError where an index, a model or a catalogue cannot be used, and where no number
        of workers ends in `options.hours`.
    """
    past = read_past(options.past, options.model) if options.past else None
    content = past.content if past else _content(options)
    if options.key_bits:
        content.hasher.check_key_bits(options.key_bits)
    measured = _measure(options, content) if options.measured else None
    speeds = _speeds(options, content, past, measured)
    bytes_per_s = _bytes_per_s(options, past, measured)
    if options.catalog:
        workload = of_catalog(options.catalog, options.minutes, bytes_per_s)
    else:
        assert options.tracks is not None
        assert options.minutes is not None
        workload = of_tracks(options.tracks, options.minutes, bytes_per_s)
    if not content.possible(workload.track_s):
        raise HashbeamError(
            f"tracks of {workload.track_s:.2f} s are shorter than a snippet: nothing is to be "
            "indexed; give longer --minutes"
        )
    if options.changed is None:
        estimate = estimate_index(workload, content, speeds, options.key_bits)
    else:
        changed = options.changed
        estimate = estimate_changes(workload, content, speeds, changed, options.key_bits)
    workers = options.workers
    if options.hours is not None:
        found = workers_for(estimate, options.hours * 3600, options.read_bytes_per_s)
        if found is None:
            least = estimate.wall_s(10**9, options.read_bytes_per_s)
            raise HashbeamError(
                f"no number of workers ends in {duration(options.hours * 3600)}: what one worker "
                f"does alone takes {duration(least)}; give more --hours, or a faster --read-mb-s"
            )
        workers = found
    notes = [*(past.notes if past else []), *notes_on(estimate)]
    return Outcome(estimate, workers, options.read_bytes_per_s, options.prices, notes)


def _content(options: PlanOptions) -> Content:
    hasher = Hasher.load(options.model or DEFAULT_MODEL)
    content = Content(hasher)
    if options.keep_embeddings:
        dimensions = embedding_dimensions(hasher)
        if not dimensions:
            raise ModelError(
                f"--keep-embeddings: model {hasher.model.name} has no embeddings; leave the flag "
                "out, or name a model that stands on an encoder with --model"
            )
        content = dataclasses.replace(content, dimensions=dimensions)
    encoders = _encoders(options)
    if "artist" in encoders:
        dimensions = _artist_dimensions(encoders["artist"])
        content = dataclasses.replace(content, artist_dimensions=dimensions)
    if "sequence" in encoders:
        second = sequence_bytes_per_s(encoders["sequence"].features)
        content = dataclasses.replace(content, sequence_bytes_per_s=second)
    return content


def _encoders(options: PlanOptions) -> dict[str, Any]:
    return {name: load_kind(name, model) for name, model in options.also_models.items()}


def _artist_dimensions(encoder: Any) -> int:
    """Numbers of an artist embedding: those of one segment of noise."""
    samples = round(encoder.features.segment_s * encoder.features.sample_rate)
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    return int(encoder.embed([noise]).size)


def _measure(options: PlanOptions, content: Content) -> Measured:
    print("measuring this machine for some seconds", file=sys.stderr)
    uris: list[str] = []
    if options.catalog:
        uris = sample(read_catalog(options.catalog), SAMPLED_TRACKS)
    return measure(
        content.hasher,
        _encoders(options),
        keep_embeddings=content.dimensions > 0,
        uris=uris,
        hashing=options.hash_cpu_s is None,
    )


def _speeds(
    options: PlanOptions, content: Content, past: Past | None, measured: Measured | None
) -> Speeds:
    """Those given count before those measured, and these before those of an earlier run."""
    found = measured or past
    usual = TableSpeeds.usual(content.hasher)
    speeds = found.speeds if found else Speeds(0.0, usual, source="given")
    tables = speeds.tables
    if options.table_cpu_s is not None:
        tables = usual.scaled(options.table_cpu_s / POSTINGS_CPU_S)
    if options.codes_cpu_s is not None:
        tables = dataclasses.replace(tables, codes_cpu_s=options.codes_cpu_s)
    given: dict[str, Any] = {
        "hash_cpu_s_per_hour": options.hash_cpu_s,
        "verify_cpu_s_per_gb": options.verify_cpu_s,
        "start_s": options.start_s,
        "worker_bytes": options.worker_bytes,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(speeds, tables=tables, **changes)


def _bytes_per_s(options: PlanOptions, past: Past | None, measured: Measured | None) -> float:
    if options.bit_rate is not None:
        return options.bit_rate * 1000 / 8
    known = [found.audio_bytes_per_s for found in (measured, past) if found is not None]
    return next((value for value in known if value), BIT_RATE * 1000 / 8)


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["plan", *sys.argv[1:]]))
