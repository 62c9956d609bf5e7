"""``hashbeam events index``: an index of labelled clips; labels are a column of the catalogue."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hashing.models import DEFAULT_EVENTS_MODEL
from pipelines.gates import add_gate_arguments
from pipelines.metrics_text import add_metrics_argument
from pipelines.options import MAX_TRACK_HOURS, add_decode_arguments, add_job_arguments

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.index_options import IndexOptions

DESCRIPTION = """\
Make an index of labelled clips of sound: a code of 1 to 8 bytes for every four seconds.

  hashbeam events index --catalog clips.csv --out clips.index
  hashbeam events index --catalog clips.parquet --out clips.index --labels categories
  hashbeam events search --index clips.index recording.wav

The catalogue is CSV, JSON Lines or Parquet with track_id, uri and a column of labels: several of
one clip have a ; between them, or are a list. A clip without a label is indexed all the same, and
one that is shorter than four seconds is repeated until it fills them. What is longer has a code
every two seconds.

It is an index as any other: `hashbeam reindex` brings it up to date with its catalogue, and remove,
merge, verify and the other verbs know it. A run that was stopped goes on by the same command."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """What a catalogue says about its clips.

    Attributes:
      column: of the labels.
      labels: different ones.
      clips, unlabelled: with a label and without.
    """

    column: str
    labels: int
    clips: int
    unlabelled: int

    def to_text(self) -> str:
        """A line for people."""
        told = f"  {self.labels} labels of {self.clips} clips, by column {self.column}"
        return told + (f"; {self.unlabelled} clips have none" if self.unlabelled else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam events index``."""
    from pipelines.also import ALSO

    add = parser.add_argument
    add("kind", metavar="KIND", help="index")
    add("--catalog", metavar="C", help="CSV, JSON Lines or Parquet with track_id, uri and labels")
    add("--out", metavar="INDEX", help="a new folder, or one with an unfinished run of this")
    add("--labels", metavar="COLUMN", help="of the catalogue (default: label, or labels)")
    add(
        "--model",
        metavar="M",
        help=f"a model of labelled sounds, by name or folder ({DEFAULT_EVENTS_MODEL})",
    )
    add("--retry-failed", action="store_true", help="hash the parts with failed clips again")
    add("--key-bits", metavar="N", default="auto", help="bits of a table's key (by the size)")
    add(
        "--max-track-hours",
        metavar="H",
        default=MAX_TRACK_HOURS,
        help="longer recordings fail (%(default)s)",
    )
    add_gate_arguments(parser, parent=False)
    add_metrics_argument(parser)
    add_decode_arguments(parser)
    add_job_arguments(parser)
    # What else `hashbeam index` can be asked for: music has it.
    beside = {f"{name}_model": None for name in ALSO}
    parser.set_defaults(also=None, keep_embeddings=False, **beside)


def options_from(args: argparse.Namespace) -> IndexOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    from pipelines.index_options import index_options

    options = index_options(args)
    return dataclasses.replace(options, model=options.model or DEFAULT_EVENTS_MODEL)


def run(args: argparse.Namespace, beam_args: Sequence[str]) -> int:
    """``hashbeam events index``: 0 only if the index was published."""
    options = options_from(args)
    # These bring Arrow and Beam, which --help does without.
    from pipelines.catalog import read_catalog
    from pipelines.event_clips import events_hasher
    from pipelines.index import build_index
    from pipelines.metrics_text import RunMetrics
    from pipelines.runs import AlreadyPublishedError
    from pipelines.summary import read_summary

    labelled = read_labelled(options.catalog, read_catalog(options.catalog), args.labels or "")
    events_hasher(options.model or DEFAULT_EVENTS_MODEL)  # before any work
    with RunMetrics(options.metrics, "events index", options.out) as metrics:
        try:
            summary = build_index(options, beam_args)
        except AlreadyPublishedError as finished:
            print(f"hashbeam events: {finished}", file=sys.stderr)
            summary = read_summary(options.out)
        metrics.note(summary)
    if options.json:
        print(json.dumps({**summary.to_json(), "labelled": dataclasses.asdict(labelled)}))
    else:
        print(f"{summary.to_text()}\n{labelled.to_text()}")
    return 0


def read_labelled(path: str, catalog: pa.Table, column: str) -> Labelled:
    """What a catalogue says about its clips; raises `CatalogError` where it has no such column."""
    from pipelines.clip_labels import label_column, labels_of

    found = label_column(catalog, path, column)
    labels = labels_of(catalog, found)
    clips = sum(map(bool, labels))
    different = {label for one in labels for label in one}
    return Labelled(found, len(different), clips, len(labels) - clips)
