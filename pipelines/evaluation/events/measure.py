"""All pieces of the evaluation of labelled clips, spread over processes, and their figures."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence
from typing import Any

import tqdm

from hashing.generated.processes import spread
from pipelines.evaluation.events.jobs import (
    SECTIONS,
    USUAL_BITS,
    Job,
    Row,
    do,
    prepare_guesses,
    rows_of,
    that_guess,
)
from pipelines.evaluation.events.material import Material
from pipelines.evaluation.events.options import EventsOptions
from pipelines.evaluation.events.prepare import prepare
from pipelines.evaluation.events.results import write_results
from pipelines.progress import shows_progress
from pipelines.train import require

FORMAT_VERSION = 1  # of figures.json

# PQ's mean average precision that deep quantization is held against, and by how much of what that
# lacks to one it must be better: .21 to .36 in the slides of Jati & Emmanouilidou (2020).
BASELINE = "PQ"


def measure_events(options: EventsOptions) -> dict[str, Any]:
    """Everything; returns what ``figures.json`` holds.

    Raises: HashbeamError, CatalogError: clips that cannot be heard, or without labels or roles.
    """
    require(("torch",))
    started = time.time()
    show = shows_progress(quiet=options.quiet, asked=options.progress)

    def log(line: str) -> None:
        if show:
            print(line, file=sys.stderr, flush=True)

    material, facts = prepare(options, log)
    jobs = plan(options, material)
    todo = [job for job in jobs if not job.path(material).exists()]
    for what, pieces, said in (
        (prepare_guesses, that_guess(todo), "guessed"),
        (do, todo, "evaluated"),
    ):
        work = functools.partial(what, folder=str(material.folder))
        with tqdm.tqdm(total=len(pieces), desc=said, mininterval=5.0, disable=not show) as bar:
            for done in spread(work, pieces, options.workers):
                bar.update(done)
    rows = rows_of(jobs, material)
    figures = {
        "format_version": FORMAT_VERSION,
        "catalog": options.catalog,
        "encoder": options.encoder,
        "embeddings": material.facts["embeddings"],
        **facts,
        "labelled": options.labelled,
        "ranks": list(options.ranks),
        "bits": list(options.bits),
        "seed": options.seed,
        "rows": rows,
        "closed": closed(rows),
        "workers": options.workers,
        "wall_s": round(time.time() - started, 1),
    }
    write_results(options.out, figures)
    return figures


def plan(options: EventsOptions, material: Material) -> list[Job]:
    """The pieces, the long ones first."""
    jobs = []
    for section in SECTIONS:
        if section not in options.sections:
            continue
        for embedding in material.facts["embeddings"]:
            for bits in options.bits if section == "table" else _usual(options.bits):
                for share in options.shares if section == "shares" else (options.labelled,):
                    jobs.append(
                        Job(
                            section,
                            embedding,
                            bits,
                            share,
                            options.seed,
                            options.ranks,
                            options.steps,
                            _usual(options.bits)[0],
                        )
                    )
    return jobs


def _usual(bits: Sequence[int]) -> tuple[int, ...]:
    """The length of codes in the sections that look at one only."""
    return (min(bits, key=lambda one: abs(one - USUAL_BITS)),)


def closed(rows: Sequence[Row]) -> list[Row]:
    """What share of PQ's lack to 1 each supervised system of the table makes good."""
    table = [row for row in rows if row["section"] == "table"]
    base = {
        (row["embedding"], row["bits"]): row["map"] for row in table if row["system"] == BASELINE
    }
    found = []
    for row in table:
        lack = base.get((row["embedding"], row["bits"]))
        if row.get("labelled") and lack is not None and lack < 1:
            found.append(
                {
                    "embedding": row["embedding"],
                    "bits": row["bits"],
                    "system": row["system"],
                    "closed": round((row["map"] - lack) / (1 - lack), 4),
                    "times": round(row["map"] / lack, 3) if lack else None,
                }
            )
    return found
