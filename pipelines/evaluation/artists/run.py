"""``hashbeam evaluate artists``: how well tracks of one name are split into who made them.

Royo-Letelier et al., "Disambiguating music artists at scale with audio metric learning" (ISMIR
2018), on groups that are made of any catalogue with known artists.
"""

from __future__ import annotations

import argparse
import json

from pipelines.evaluation.artists.options import add_arguments, options_from

__all__ = ["DESCRIPTION", "add_arguments", "options_from", "run"]

DESCRIPTION = """\
How well are artists of one name told apart? Two to four known artists are taken for one name, their
tracks are clustered by sound, and the clusters are compared with the artists.

  hashbeam evaluate artists --catalog music/catalog.csv --out figures
  hashbeam evaluate artists --catalog made/catalog.csv --model triplet classifier --out figures
  hashbeam train artist --catalog music/catalog.csv --folds 5 --out cv
  hashbeam evaluate artists --catalog music/catalog.csv --model 'cv/{fold}' --out figures

Sizes of the groups follow those of the published homonyms, as far as the catalogue has the tracks.
Artists are dealt into folds, all artists of a group are in one, and the distance at which its tree
is cut is tuned (by AMI) on the artists of the other folds. Names that are one artist's are measured
apart: how many stay whole. Where the catalogue has genres, so are groups within and across them;
where it has albums, models are measured with and without them.

Labels are cleaned first: names of several ids, ids of several names, tracks of several artists and
placeholders are left out. A model that was trained on artists of the catalogue says too much about
them: `train artist --folds` trains one for each fold of the artists, without them, and {fold} in
the name of the model stands for the one of the fold. Folds are those of the file folds.csv beside
the models, or of --fold-by, a column or another such file.

Differences between any two systems, on the same groups, and all figures have 95 % intervals, over
groups and over artists (bootstrap).

--out gets report.html, figures.json, groups.parquet (a row a group and system), members.parquet
(the tracks of each group), failures/ and embeddings/, which are reused next time."""


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam evaluate artists``."""
    options = options_from(args)
    # These bring Arrow and Beam, which --help does without.
    from pipelines.evaluation.artists.measure import measure_artists
    from pipelines.report.artist_page import as_text

    figures = measure_artists(options, beam_args)
    print(json.dumps(figures) if options.json else as_text(figures, options.out))
    return 0
