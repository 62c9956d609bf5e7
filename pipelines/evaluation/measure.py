"""What ``hashbeam evaluate lookup`` does: index, find shared audio, ask, count, compare."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.decoder import Decoder
from hashing.errors import CatalogError, HashbeamError
from hashing.metrics import ENOUGH_NEGATIVES
from pipelines import io, parquet
from pipelines.answers import MIN_SCORE, in_one_line
from pipelines.catalog import read_catalog
from pipelines.evaluation.accuracy import Result, summarise
from pipelines.evaluation.comparison import Bootstrap
from pipelines.evaluation.index_facts import index_facts
from pipelines.evaluation.options import EvaluateOptions
from pipelines.evaluation.questions import SAMPLE_RATE, VERBATIM, Questions, Source, Tracks, draw
from pipelines.evaluation.sharing import as_listed, look_for_sharing
from pipelines.evaluation.systems import System, ask, systems_of
from pipelines.evaluation.trial import group_of, trial_indexes
from pipelines.progress import shows_progress
from pipelines.report.evaluation import evaluate_page

FORMAT_VERSION = 2  # of figures.json and queries.parquet


def measure_lookup(options: EvaluateOptions, beam_args: Sequence[str] = ()) -> dict[str, Any]:
    """Index what is not left out, ask, and write the figures; returns them."""
    catalog = read_catalog(options.catalog)
    sources = _sources(options, catalog)
    asked = _asked(options.only, sources)
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    questions = Questions.prepare(
        options.durations,
        options.conditions,
        options.queries,
        options.negatives,
        options.noise,
        options.rooms,
        options.seed,
    )
    with tempfile.TemporaryDirectory() as scratch, Decoder() as decoder:
        ids = {one.track_id for one in asked}
        indexes = trial_indexes(options, catalog, ids, scratch, beam_args)
        held = set.intersection(*(set(index.held) for index in indexes))
        anywhere = {track_id for index in indexes for track_id in index.held}
        inside = [one for one in asked if one.track_id in held]
        outside = [one for one in asked if one.track_id not in anywhere]
        if not inside:
            paths = " and ".join(index.path for index in indexes)
            raise HashbeamError(
                f"{paths} holds no track of {options.catalog} to cut queries from: evaluate with "
                "the catalogue that was indexed"
            )
        inside = _some(inside, options.queries, options.seed)
        outside = _some(outside, options.negatives, options.seed)
        sharing = as_listed(sources, indexes)
        uris = {name: one.uri for index in indexes for name, one in index.held.items()}
        uris |= {one.track_id: one.uri for one in sources}
        if not options.as_listed:
            tracks = [*inside, *outside]
            sharing = look_for_sharing(sharing, tracks, indexes, uris, decoder, show=show)
        names = sharing.recordings
        known = {names[track_id] for track_id in anywhere}
        refused = [one.track_id for one in outside if names[one.track_id] in known]
        inside = [dataclasses.replace(one, recording=names[one.track_id]) for one in inside]
        outside = [one for one in outside if one.track_id not in refused]
        systems = systems_of(indexes, options.probes)
        audio = Tracks(uris, SAMPLE_RATE, decoder)
        results = [
            result
            for question in questions.cut(inside, outside, audio, show=show)
            for result in ask(question, systems, names, audio)
        ]
        facts = [index_facts(system.index) for system in systems]
    figures = {
        "format_version": FORMAT_VERSION,
        "catalog": Path(options.catalog).name,
        "seed": options.seed,
        "durations": sorted(options.durations),
        "conditions": [one.name for one in options.conditions],
        "verbatim": [one.name for one in options.conditions if one.name == VERBATIM],
        "tracks_indexed": len(held),
        "tracks_asked": len(inside),
        "tracks_left_out": len(outside),
        "left_out_by": options.left_out_by,
        "min_score": MIN_SCORE,
        "shared_audio": None if options.as_listed else sharing.to_json(refused),
        **_compared(options, systems, facts, results),
    }
    if not figures["systems"][0]["durations"]:
        kinds = ", ".join(figures["systems"][0]["not_asked"])
        raise HashbeamError(f"{options.catalog}: no query could be cut from its tracks ({kinds})")
    figures["warnings"] = list(_warnings(figures))
    _write(options.out, figures, results)
    return figures


def _sources(options: EvaluateOptions, catalog: pa.Table) -> list[Source]:
    for flag, column in (("--same", options.same), ("--left-out-by", options.left_out_by)):
        if column and column not in catalog.column_names:
            raise CatalogError(f"{options.catalog}: no column {column!r} ({flag})")
    return [
        Source(row["track_id"], row["uri"], group_of(row, options.same))
        for row in catalog.to_pylist()
    ]


def _asked(only: str, sources: Sequence[Source]) -> list[Source]:
    if not only:
        return list(sources)
    lines = io.read_bytes(only).decode("utf-8", "replace").splitlines()
    wanted = {line.strip() for line in lines} - {""}
    unknown = sorted(wanted - {one.track_id for one in sources})
    if unknown or not wanted:
        problem = f"no track {in_one_line(unknown)} in the catalogue" if unknown else "is empty"
        raise CatalogError(f"{only}: {problem}; give a track_id a line (--only)")
    return [one for one in sources if one.track_id in wanted]


def _some(tracks: Sequence[Source], places: int, seed: int) -> list[Source]:
    """No more tracks than there are places to be cut: the others need not be looked at."""
    if len(tracks) <= places:
        return list(tracks)
    chosen = draw(len(tracks), places, np.random.default_rng([seed, 0x7AC5]))
    return [tracks[i] for i in sorted(chosen)]


def _compared(
    options: EvaluateOptions,
    systems: Sequence[System],
    facts: Sequence[dict[str, Any]],
    results: Sequence[Result],
) -> dict[str, Any]:
    """Figures of every system, and the differences of any two, with their intervals."""
    by_system = {
        system.name: [one for one in results if one.system == system.name] for system in systems
    }
    bootstrap = Bootstrap(by_system, options.seed)
    rows = []
    for system, fact in zip(systems, facts, strict=True):
        figures = summarise(by_system[system.name])
        for row in (*figures["durations"], figures["overall"]):
            seconds = row["duration_s"]
            if row["at_1_percent"] is not None and bootstrap.queries.get(seconds):
                row["at_1_percent_interval"] = bootstrap.interval(
                    system.name, "at_1_percent", seconds
                )
        rows.append(
            {
                "name": system.name,
                "index": system.index.name,
                "probes": system.probes,
                **fact,
                **figures,
            }
        )
    return {"systems": rows, "differences": bootstrap.differences()}


def _warnings(figures: dict[str, Any]) -> Iterator[str]:
    """What should keep a reader from believing too much."""
    few = {
        row["duration_s"]: row["negatives"]
        for system in figures["systems"]
        for row in system["durations"]
        if row["negatives"] < ENOUGH_NEGATIVES
    }
    if few:
        counts = ", ".join(f"{n} of {seconds:g} s" for seconds, n in sorted(few.items()))
        yield (
            f"a threshold for 1 % false alarms needs {ENOUGH_NEGATIVES} queries of tracks left "
            f"out of each length, there are {counts}: ask for more --negatives, and see that "
            "--left-out leaves tracks to cut them from"
        )
    for system in figures["systems"]:
        if system["not_asked"]:
            counts = ", ".join(f"{n} {kind}" for kind, n in system["not_asked"].items())
            yield f"queries that {system['name']} could not be asked, and count nowhere: {counts}"


def _write(out: str, figures: dict[str, Any], results: Sequence[Result]) -> None:
    io.write_bytes(io.join(out, "figures.json"), json.dumps(figures, indent=1).encode() + b"\n")
    io.write_bytes(io.join(out, "report.html"), evaluate_page(figures).encode() + b"\n")
    table = pa.Table.from_pylist([dataclasses.asdict(result) for result in results])
    digests = dict.fromkeys(system["model"]["digest"] for system in figures["systems"])
    metadata = {"hashbeam_format": str(FORMAT_VERSION), "hasher_digest": " ".join(digests)}
    parquet.write_table(io.join(out, "queries.parquet"), table, metadata=metadata)
