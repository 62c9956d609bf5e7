"""``hashbeam midi-pairs``: a user's MIDI files and recordings made into aligned pairs, on Beam."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["midi-pairs", *sys.argv[1:]]))

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from hashing.models import DEFAULT_SEQUENCE_MODEL
from pipelines import io
from pipelines.options import Checker, add_decode_arguments, add_job_arguments, workers
from pipelines.pairing.job import (
    FILES_PER_PART,
    FORMAT_VERSION,
    PAIRS_PER_PART,
    PairsJob,
    PairsOptions,
    check_titles,
    parts_of,
    prepare,
)

MIN_CONFIDENCE = 0.5  # as published (Raffel 2016, chapter 7): four of five true pairs, .2 % others

DESCRIPTION = """\
Find the MIDI files of a folder that are tracks of a catalogue, and align them: data to train with.

  hashbeam midi-pairs --catalog catalog.csv --midi ~/midi --out pairs

Files that are the same music, however they were written, count once. Names ("Artist - Title.mid",
"artist/title.2.mid", titles inside of the file) are matched loosely to the titles and artists of
the catalogue; each candidate is played, aligned with its recording, and kept if the alignment is
sure enough. DIR then holds

  pairs/       MIDI file, track_id, name score, confidence, and pairs of times (s) that rise
  duplicates/  MIDI files that repeat another one, and which
  failures/    MIDI files and recordings that cannot be used, and why
  run.json     counters

confidence is 0 to 1; 0.5 and more is a match. Between the pairs of times lines are right to 10 ms
of what was aligned. A run that was stopped goes on by the same command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam midi-pairs``."""
    add = parser.add_argument
    add("--catalog", metavar="C", help="CSV, JSON Lines or Parquet, with titles")
    add("--midi", metavar="FOLDER", help="with .mid, .midi and .kar files, searched with all below")
    add("--out", metavar="DIR", help="a new folder, or that of a run that was stopped")
    add(
        "--min-confidence",
        metavar="C",
        default=MIN_CONFIDENCE,
        help="pairs below it are left out, 0 to 1 (%(default)s)",
    )
    add(
        "--soundfont",
        metavar="F",
        help='what plays MIDI files (.sf2; default: one of the system); "plain" for none',
    )
    add(
        "--sequence-model",
        metavar="M",
        default=DEFAULT_SEQUENCE_MODEL,
        help="what MIDI files and recordings are heard with, a name or a folder (%(default)s)",
    )
    add_decode_arguments(parser)
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> PairsOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    from hashing.rendering import RenderingError
    from hashing.scores import check_soundfont

    checker = Checker(args)
    options = PairsOptions(
        catalog=checker.text("--catalog"),
        midi=checker.text("--midi"),
        out=checker.text("--out"),
        min_confidence=checker.number("--min-confidence", low=0, high=1),
        model=checker.text("--sequence-model"),
        soundfont=args.soundfont or None,
        decode_timeout_s=checker.number("--decode-timeout", low=0.1),
        workers=workers(checker),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    try:
        check_soundfont(options.soundfont)
    except RenderingError as error:
        checker.problems.append(f"--soundfont: {error}")
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam midi-pairs``: 0 only if all results were written."""
    from pipelines.pairing.results import as_text

    options = options_from(args)
    summary = find_pairs(options, beam_args)
    print(json.dumps(summary) if options.json else as_text(summary))
    return 0


def find_pairs(options: PairsOptions, beam_args: Sequence[str] = ()) -> dict[str, Any]:
    """All of it; returns what is printed.

    Raises: HashbeamError where the catalogue or a folder cannot be used; never for a file.
    """
    import pyarrow as pa

    from hashing.sequences import SequenceEncoder
    from pipelines import parquet
    from pipelines.catalog import read_catalog
    from pipelines.job_folder import finish, remove_temporary
    from pipelines.midi_folder import find_midi
    from pipelines.pairing import candidates
    from pipelines.pairing.results import publish
    from pipelines.pairing.transforms import AlignParts, ReadParts
    from pipelines.runner import make_pipeline_options, workers_here

    started = time.time()
    catalog = read_catalog(options.catalog)
    check_titles(catalog, options.catalog)
    folder = find_midi(options.midi)
    model = SequenceEncoder.load(options.model)  # before any work
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    job = prepare(options, model.digest, catalog, folder)
    parquet.write_table(
        job.files_path, pa.table({"midi_path": folder.paths}), row_group_size=FILES_PER_PART
    )
    read_parts = parts_of(len(folder.paths), FILES_PER_PART)
    resumed = _run_stage(job, "read", read_parts, ReadParts, pipeline_options)
    read = candidates.collect(job, read_parts)
    repeats = candidates.find_repeated(job, read.readable)
    left = [file for file in read.readable if file.path not in repeats]
    todo = candidates.match_names(left, catalog)
    parts = parts_of(todo.num_rows, PAIRS_PER_PART)
    if parts:
        parquet.write_table(job.todo_path, todo, row_group_size=PAIRS_PER_PART)
    resumed += _run_stage(job, "align", parts, AlignParts, pipeline_options)
    skipped = [
        {"midi_path": one.path, "stage": "find", "error": one.kind, "message": one.message}
        for one in folder.skipped
    ]
    counts = publish(job, parts, repeats, [*skipped, *read.failures])
    summary = {
        "format_version": FORMAT_VERSION,
        "catalog": options.catalog,
        "midi": options.midi,
        "out": options.out,
        "min_confidence": options.min_confidence,
        "model": {"name": model.model.name, "digest": model.digest},
        "soundfont": options.soundfont,
        "tracks": catalog.num_rows,
        "midi_files": len(folder.paths),
        "midi_files_skipped": len(folder.skipped),
        "midi_files_failed": len(read.failures),
        "midi_files_repeated": len(repeats),
        "midi_files_named": len(set(todo["midi_path"].to_pylist())),
        **counts,
        "parts": read_parts + parts,
        "parts_resumed": resumed,
        "workers": workers_here(pipeline_options, options.workers),
        "wall_s": round(time.time() - started, 3),
    }
    finish(options.out, summary)
    io.remove_tree(job.path("work"))
    remove_temporary(options.out)
    return summary


def _run_stage(job: PairsJob, stage: str, parts: int, do: Any, pipeline_options: Any) -> int:
    """Finishes the parts of a stage; returns how many were finished before."""
    from pipelines.pairing.transforms import EachPart
    from pipelines.progress import Progress, shows_progress
    from pipelines.runner import run_pipeline

    options = job.options
    missing = job.missing(stage, parts)
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    if missing:
        with Progress(parts, lambda: job.finished(stage, parts), unit=f"{stage} part", show=show):
            run_pipeline(
                lambda pipeline: pipeline | stage >> EachPart(do(job), missing), pipeline_options
            )
    return parts - len(missing)
