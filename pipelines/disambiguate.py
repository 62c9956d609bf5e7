"""``hashbeam disambiguate``: tracks that share a name, split into the artists who made them.

Hearing the tracks is the Beam job, and what takes the time; its embeddings are kept and reused.
The names are then judged one after the other where the command was started: ten thousand of them
take seconds.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["disambiguate", *sys.argv[1:]]))

import argparse
from collections.abc import Sequence

from pipelines.disambiguation.options import add_arguments, options_from
from pipelines.disambiguation.run import disambiguate

__all__ = ["DESCRIPTION", "add_arguments", "options_from", "run"]

DESCRIPTION = """\
One artist name, how many artists? Split the tracks of each name by who made them, from audio alone.

  hashbeam disambiguate --catalog catalog.csv --out artists
  hashbeam disambiguate --catalog catalog.csv --out artists --name "The Owls" --keep-albums
  hashbeam disambiguate --catalog catalog.csv --out artists --review decisions.json

Names are groups by equality of their normalised spelling (capitals, accents, punctuation and "The"
do not count; "A feat. B" is A and B; --rule-off and --rule-on change that). DIR then holds

  report.html        open it: the most doubtful names first, to hear, accept, split and merge
  clusters.parquet   every track once: artist_name, track_id, cluster, confidence, status
  memberships.parquet, groups.parquet   every artist of every track; the names
  proposals.parquet  ids with several voices, names with one voice: never applied
  metrics.json       with --truth: how well clusters agree with the true artists
  failures/, run.json, embeddings/   what could not be heard; what was done; reused next time

cluster is a number within a name, from 1; 0 says that the track was left alone, and status why:
too-few-tracks, uncertain, placeholder, opted-out, not-asked, no-name or failed. A track of several
artists stands in clusters.parquet under the first of them who is no placeholder.

Run the same command again when the catalogue has changed: only new and changed tracks are heard,
clusters keep their numbers, new tracks join one or open a new one, and what an editor has decided
with --review stays decided. A run that was stopped goes on."""


def run(args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """``hashbeam disambiguate``: 0 only if all results were written."""
    options = options_from(args)
    summary = disambiguate(options, beam_args)
    print(summary.to_line() if options.json else summary.to_text())
    return 0
