"""``hashbeam train clips``: an encoder of clips of sound."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hashing.errors import CatalogError, UsageError
from pipelines.catalog import read_catalog
from pipelines.clip_labels import label_column, labels_of
from pipelines.options import Checker, short_path
from pipelines.train import require

if TYPE_CHECKING:
    from hashing.training.events.sources import Source

DESCRIPTION = """\
Train an encoder of clips of sound: windows of four seconds become embeddings.

  hashbeam train clips --catalog music.csv clips/labels.csv --out models/mine
  hashbeam train clips --catalog music.csv clips/labels.csv --unlabelled more/labels.csv \\
      --leave-out fold=3 --out models/mine
  hashbeam train clips --catalog clips/labels.csv --encoder sound --out models/tuned

It learns from all sound first, without labels: two views of a clip, cut, mixed and coloured anew,
are near, and far from those of other clips. Then it learns the labels of the catalogues that have a
column of them, while it goes on with the views. --encoder goes on from another encoder with labels
alone.

Rows whose column `share` says database or queries are left out, so that `hashbeam evaluate events`
meets them for the first time, and so are those that --leave-out names. A run that was stopped goes
on from its checkpoint in --work."""

NEEDED = ("torch", "onnx")

# Rows that evaluation asks for.
KEPT_OUT = (("share", "database"), ("share", "queries"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the kind."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="clips")
    add("--catalog", metavar="FILE", nargs="+", help="sound to learn from, with labels or without")
    add(
        "--unlabelled",
        metavar="FILE",
        nargs="+",
        default=[],
        help="more, of whose labels nothing may be known",
    )
    add("--labels", metavar="COLUMN", help="the labels (default: label, or labels)")
    add_leave_out(parser)
    add("--encoder", metavar="MODEL", help="go on from this clip encoder, with labels")
    add("--out", metavar="DIR", help="the model folder to write")
    add("--work", metavar="DIR", help="spectrograms and checkpoints (default: OUT.work)")
    add("--steps", metavar="N", help="steps of views alone (default: the shipped model's)")
    add("--label-steps", metavar="N", help="steps with labels (default: the shipped model's)")
    add("--dimensions", metavar="N", help="of the narrow embedding (128)")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--threads", metavar="N", default="1", help="threads of the network (default: 1)")


def add_leave_out(parser: argparse.ArgumentParser) -> None:
    """``--leave-out``, which what trains on clips has in common."""
    parser.add_argument(
        "--leave-out",
        metavar="COLUMN=VALUE",
        nargs="+",
        default=[],
        help="rows that are not learned from, beside those of share=database and share=queries",
    )


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Train, and say where the model is."""
    del beam_args
    checker = Checker(args)
    if not args.catalog:
        checker.problems.append("--catalog: name one or more catalogues")
    out = out_folder(checker)
    if args.encoder:
        # An encoder is there already: its size is its own, and views alone have been learned.
        for flag in ("--steps", "--dimensions"):
            if checker.given(flag):
                checker.problems.append(f"{flag}: is not for what goes on from --encoder; leave it")
    settings: dict[str, Any] = {"seed": checker.integer("--seed", low=0, high=2**31 - 1)}
    threads = checker.integer("--threads", low=1, high=1024)
    for flag, name, low in (
        ("--steps", "steps", 1),
        ("--label-steps", "label_steps", 0),
        ("--dimensions", "dimensions", 8),
    ):
        if checker.given(flag):
            settings[name] = checker.integer(flag, low=low, high=1 << 30)
    kept_out = leave_out(args, checker)
    checker.finish()
    sources = sources_of(args.catalog, args.labels or None, kept_out, args.unlabelled)
    if args.encoder and not any(labels for one in sources for labels in one.labels):
        raise CatalogError(
            f"{', '.join(args.catalog)}: no clip has a label, which --encoder goes on with; see "
            "--labels"
        )
    require(NEEDED)
    from hashing.training.events.encoder import ClipTraining
    from hashing.training.events.recipe import ClipRecipe, train_clips

    workers = len(os.sched_getaffinity(0))
    training = ClipTraining(**settings)
    recipe = ClipRecipe(
        sources, training, args.encoder or None, workers, threads, _command(args, settings)
    )
    model = train_clips(recipe, Path(out), Path(args.work or f"{out}.work"), log)
    print(f"model {model.path} with digest {model.digest[:16]}")
    return 0


def out_folder(checker: Checker) -> str:
    """``--out``."""
    out = checker.text("--out")
    checker.folder("--out", out)
    return out


def leave_out(args: argparse.Namespace, checker: Checker) -> list[tuple[str, str]]:
    """Columns and values of the rows that are not learned from."""
    found = list(KEPT_OUT)
    for text in args.leave_out:
        column, equals, value = text.partition("=")
        if not column or not equals:
            checker.problems.append(f"--leave-out: must be COLUMN=VALUE, got {text!r}")
        found.append((column, value))
    return found


def sources_of(
    paths: Sequence[str],
    labels: str | None,
    kept_out: Sequence[tuple[str, str]],
    unlabelled: Sequence[str] = (),
) -> list[Source]:
    """Catalogues as training takes them.

    Args:
        labels: the column, None for the usual ones if there are any.
        unlabelled: catalogues of whose labels nothing may be known.

    Raises: CatalogError: see `source_of`; UsageError: rows that were to be left out and are in none
        of the catalogues: mistyped, they would be learned from.
    """
    tables = {path: read_catalog(path) for path in (*paths, *unlabelled)}
    for column, value in kept_out:
        there = [
            table[column].to_pylist() for table in tables.values() if column in table.schema.names
        ]
        if (column, value) not in KEPT_OUT and not any(value in map(str, one) for one in there):
            raise UsageError(
                f"--leave-out {column}={value}: no row of {', '.join(tables)} has it; mend it, or "
                "leave it"
            )
    sources = [source_of(path, tables[path], labels, kept_out) for path in paths]
    return sources + [source_of(path, tables[path], "", kept_out) for path in unlabelled]


def source_of(
    path: str, table: pa.Table, labels: str | None, kept_out: Sequence[tuple[str, str]]
) -> Source:
    """A catalogue as training takes it.

    Args:
        labels: the column, None for the usual ones if there are any; "" for none.

    Raises: CatalogError: one without the column, or with no row left.
    """
    from hashing.training.events.sources import Source

    rows = rows_left(table, kept_out)
    if not rows:
        raise CatalogError(f"{path}: no row is left to learn from; see --leave-out")
    table = table.take(rows)
    column = "" if labels == "" else label_column(table, path, labels, required=False)
    told = labels_of(table, column) if column else [()] * len(rows)
    name = short_path(path)
    return Source(name, table["track_id"].to_pylist(), table["uri"].to_pylist(), told)


def rows_left(table: pa.Table, kept_out: Sequence[tuple[str, str]]) -> list[int]:
    """Rows that none of the columns and values names."""
    named = [
        (table[column].to_pylist(), value)
        for column, value in kept_out
        if column in table.column_names
    ]
    return [
        row
        for row in range(table.num_rows)
        if not any(str(values[row]) == value for values, value in named)
    ]


def log(line: str) -> None:
    """Progress, at once."""
    print(line, flush=True)


def _command(args: argparse.Namespace, settings: dict[str, Any]) -> str:
    """The command for the model card; names of files and not where they were on one machine."""
    parts = ["hashbeam", "train", "clips", "--catalog", *map(short_path, args.catalog)]
    parts += ["--unlabelled", *map(short_path, args.unlabelled)] if args.unlabelled else []
    parts += ["--labels", args.labels] if args.labels else []
    parts += ["--leave-out", *args.leave_out] if args.leave_out else []
    parts += ["--encoder", Path(args.encoder).name] if args.encoder else []
    for name, value in settings.items():
        parts += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(parts)
