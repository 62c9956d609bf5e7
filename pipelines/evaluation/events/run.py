"""``hashbeam evaluate events``: how well short codes find clips of the same labels.

Jati & Emmanouilidou, "Supervised deep hashing for efficient audio event retrieval" (ICASSP 2020),
and what its comparison leaves out.
"""

from __future__ import annotations

import argparse
import json

from pipelines.evaluation.events.options import add_arguments, options_from

__all__ = ["DESCRIPTION", "add_arguments", "options_from", "run"]

DESCRIPTION = """\
How well do codes of 8 to 64 bits find clips of the same labels? Every query ranks the whole
database; figures are mean average precisions, exact where distances are equal.

  hashbeam generate instruments --out clips
  hashbeam evaluate events --catalog clips/labels.csv --out figures
  hashbeam evaluate events --catalog esc/labels.csv --query-fold 3 --out figures
  hashbeam evaluate events --catalog clips/labels.csv --encoder vggish.parquet --out figures

The catalogue has clip_id (or track_id), uri, labels (several with ; between them), and roles: the
column share says training, database or queries, or the column fold has a fold that asks and others.

Sections (--only chooses):

  table        unsupervised hashers, deep quantization and its comparators by bits, beside the
               published table
  shares       by the share of the training clips whose labels are known
  unseen       half of the labels are learned; clips of the other half ask among each other
  taxonomy     trained with and without the taxonomy, judged by hierarchical average precision
  ablation     what the parts of deep quantization are worth
  text         words of labels ask for clips
  multi-index  what is left where only the nearest cells are looked at

--out gets report.html and figures.json (every row that was measured). What was heard and measured
is kept in --work, and the same command goes on from there."""


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam evaluate events``."""
    del beam_args
    options = options_from(args)
    from pipelines.evaluation.events.measure import measure_events
    from pipelines.report.events_page import as_text

    figures = measure_events(options)
    print(json.dumps(figures) if options.json else as_text(figures, options.out))
    return 0
