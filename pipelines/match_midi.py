"""``hashbeam match-midi``: the recording that each MIDI file transcribes, on Beam."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["match-midi", *sys.argv[1:]]))

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hashing.cascade import CascadeSettings
from hashing.models import DEFAULT_SEQUENCE_MODEL
from pipelines import io
from pipelines.answers import MIN_SCORE, TOP
from pipelines.options import Checker, add_job_arguments, workers

if TYPE_CHECKING:
    from pipelines.matching.job import MatchJob, MatchOptions
    from pipelines.midi_folder import MidiFolder
    from pipelines.versions import Manifest

DESCRIPTION = """\
Find the recording of an index that each MIDI file transcribes, and how the two lie along one
another.

  hashbeam index --catalog catalog.csv --out music.index --also sequence
  hashbeam match-midi --index music.index --midi songs --out matches
  hashbeam match-midi --index music.index --midi songs --out matches --aligned --top 1

All .mid, .midi and .kar files below FOLDER are rendered and compared with the recordings, in three
stages: embeddings leave a share of these, hash sequences some candidates, and alignment of spectra
decides. DIR then holds

  matches/   query_id (path of the MIDI file), rank, track_id, score (the confidence, 0 to 1), what
             it stands on: path_score, hash_score (bits, less is better), likeness (-1 to 1);
             offset_s (of the recording, where the MIDI file begins), query_start_s, query_end_s,
             alignment (pairs of midi_s and audio_s)
  failures/  files that could not be heard, with the reason
  aligned/   with --aligned: each MIDI file that has a match, moved to the time of the best one
  run.json   counters

What is shorter than 11 s is not compared. A run that was stopped goes on by the same command."""

_SETTINGS = CascadeSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam match-midi``."""
    add = parser.add_argument
    add("--index", metavar="INDEX", help="the folder that `hashbeam index --also sequence` wrote")
    add("--midi", metavar="FOLDER", help="a folder with MIDI files, in folders perhaps")
    add("--out", metavar="DIR", help="a new folder, or that of a run that was stopped")
    add(
        "--min-score",
        metavar="S",
        default=MIN_SCORE,
        help="matches below it are left out, 0 to 1 (%(default)s); 0 leaves none out",
    )
    add("--top", metavar="K", default=TOP, help="matches of a MIDI file at most (%(default)s)")
    add("--aligned", action="store_true", help="write the MIDI files at the recordings' time")
    add(
        "--soundfont",
        metavar="SF2",
        help="what MIDI files are played with: a file, or `plain` for no soundfont (the system's)",
    )
    add(
        "--share",
        metavar="S",
        default=_SETTINGS.share,
        help="of the recordings that embeddings leave, above 0 to 1 (%(default)s): more finds "
        f"more and costs more; {_SETTINGS.least} are always left",
    )
    add(
        "--candidates",
        metavar="N",
        default=_SETTINGS.candidates,
        help="recordings that are aligned with a MIDI file (%(default)s)",
    )
    add(
        "--sequence-model",
        metavar="M",
        help=f"the model that made the sequences, where it has moved ({DEFAULT_SEQUENCE_MODEL})",
    )
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> MatchOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    from pipelines.matching.job import MatchOptions

    checker = Checker(args)
    options = MatchOptions(
        index=checker.text("--index"),
        midi=checker.text("--midi"),
        out=checker.text("--out"),
        model=args.sequence_model or None,
        soundfont=args.soundfont or None,
        share=checker.number("--share", low=1e-6, high=1),
        candidates=checker.integer("--candidates", low=1, high=1000),
        top=checker.integer("--top", low=1),
        min_score=checker.number("--min-score", low=0, high=1),
        aligned=args.aligned,
        workers=workers(checker),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam match-midi``: 0 only if all results were written."""
    from pipelines.matching.results import as_text

    options = options_from(args)
    summary = match_midi(options, beam_args)
    print(json.dumps(summary) if options.json else as_text(summary))
    return 0


def match_midi(options: MatchOptions, beam_args: Sequence[str] = ()) -> dict[str, Any]:
    """All of it; returns what is printed.

    Raises: HashbeamError where the index, the MIDI files or the folder of results cannot be used.
    """
    from hashing.scores import check_soundfont
    from pipelines.job_folder import finish, remove_temporary
    from pipelines.matching.job import FORMAT_VERSION, STEPS
    from pipelines.matching.recordings import sequence_model
    from pipelines.matching.results import read_counts
    from pipelines.matching.run import MatchMidi
    from pipelines.midi_folder import find_midi
    from pipelines.progress import Progress, shows_progress
    from pipelines.runner import make_pipeline_options, run_pipeline, workers_here
    from pipelines.versions import open_manifest

    started = time.time()
    manifest = open_manifest(options.index)
    sequence_model(options.index, manifest, options.model)  # before any work
    check_soundfont(options.soundfont)
    midi = find_midi(options.midi)
    pipeline_options = make_pipeline_options(options.workers, beam_args)
    job = _prepare(options, manifest, midi)
    tasks = [task for step in STEPS for task in job.tasks(step)]
    done = job.done()
    left = [task for task in tasks if task.name not in done]
    show = shows_progress(quiet=options.quiet, asked=options.progress)
    name = "" if options.quiet else "hashbeam match-midi"
    with Progress(len(tasks), lambda: len(job.done()), unit="task", show=show, name=name):
        run_pipeline(
            lambda pipeline: pipeline | "match MIDI files" >> MatchMidi(job, left),
            pipeline_options,
        )
    summary = {
        "format_version": FORMAT_VERSION,
        "index": options.index,
        "index_version": manifest.version,
        "model": manifest.also["sequence"],
        "midi": options.midi,
        "out": options.out,
        **read_counts(job),
        "midi_skipped": len(midi.skipped),
        "share": options.share,
        "candidates": options.candidates,
        "min_score": options.min_score,
        "top": options.top,
        "tasks": len(tasks),
        "tasks_resumed": len(tasks) - len(left),
        "workers": workers_here(pipeline_options, options.workers),
        "wall_s": round(time.time() - started, 3),
    }
    finish(options.out, summary)
    io.remove_tree(job.path("work"))
    remove_temporary(options.out)
    return summary


def _prepare(options: MatchOptions, manifest: Manifest, midi: MidiFolder) -> MatchJob:
    """The job, and its folder: a new one, or one with an unfinished run of the same job."""
    import pyarrow as pa

    from hashing.scores import played_by
    from pipelines import parquet
    from pipelines.job_folder import claim
    from pipelines.matching import job as of_job
    from pipelines.matching.queries import failure, write_failures
    from pipelines.matching.recordings import find_files

    made_by = manifest.also["sequence"]
    identity = [
        manifest.version,
        manifest.created,
        manifest.catalog_digest,
        made_by["digest"],
        midi.digest,
        played_by(options.soundfont),
        *(options.share, options.candidates, options.top, options.min_score, options.aligned),
    ]
    claim(
        options.out,
        of_job.FORMAT_VERSION,
        identity,
        results="matches",
        others="matches of other MIDI files, of another index, or with other options",
    )
    job = of_job.MatchJob(
        options,
        options.settings,
        options.model or made_by.get("path") or made_by["name"],
        made_by["digest"],
        len(midi.paths),
        max(of_job.QUERIES_PER_PART, -(-len(midi.paths) // of_job.MAX_PARTS)),
        find_files(options.index, manifest),
    )
    if not io.exists(job.listing):
        table = pa.table({"query_id": midi.paths, "bytes": pa.array(midi.sizes, pa.int64())})
        parquet.write_table(job.listing, table, row_group_size=job.queries_per_part)
    skipped = [failure(job, one.path, "list", one.kind, one.message) for one in midi.skipped]
    write_failures(job.path("failures", "part-skipped.parquet"), skipped)
    return job
