"""``hashbeam train events``: codes of clips that tell their labels."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hashing.errors import CatalogError
from hashing.events.features import CODE_BITS
from hashing.events.words import LEARNED_WEIGHT
from hashing.models import DEFAULT_CLIP_MODEL
from hashing.taxonomy import Taxonomy
from pipelines.options import Checker, short_path
from pipelines.train import require
from pipelines.train_clips import NEEDED, add_leave_out, leave_out, log, out_folder, sources_of

DESCRIPTION = """\
Train codes of clips of sound that tell their labels: a model for `hashbeam events index`.

  hashbeam train events --catalog clips/labels.csv --out models/mine
  hashbeam train events --catalog clips/labels.csv esc/labels.csv --leave-out fold=3 --bits 32 \\
      --out models/mine
  hashbeam events index --catalog library.csv --model models/mine --out library.index

A small network on the embeddings of --encoder, and codebooks of its outputs, learn from labels
together (deep quantization), and so do the words of the labels, so that a text finds clips. A
taxonomy.csv beside a catalogue (columns label and parent) makes a miss within the family cost less.
Where few clips have labels, --unlabelled helps: the labels of other clips are guessed, and the
surest guesses learned from.

Rows whose column `share` says database or queries are left out, so that `hashbeam evaluate events`
meets them for the first time, and so are those that --leave-out names."""

SYSTEMS = ("dqn", "dtq")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the kind."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="events")
    add("--catalog", metavar="FILE", nargs="+", help="labelled clips")
    add(
        "--unlabelled",
        metavar="FILE",
        nargs="+",
        default=[],
        help="clips whose labels are guessed, and learned from where the guess is sure",
    )
    add("--labels", metavar="COLUMN", help="the labels (default: label, or labels)")
    add(
        "--taxonomy",
        metavar="FILE",
        nargs="+",
        help="parents of labels, or none (default: taxonomy.csv beside a catalogue)",
    )
    add_leave_out(parser)
    add(
        "--encoder",
        metavar="MODEL",
        default=DEFAULT_CLIP_MODEL,
        help="the clip encoder (%(default)s)",
    )
    add("--wide", action="store_true", help="its wide embedding, which costs a larger network")
    add(
        "--bits", metavar="N", default="64", help="of a code: 8, 16, 24, 32, 48 or 64 (%(default)s)"
    )
    add("--system", metavar="NAME", default="dqn", help="dqn (pairwise cosine), dtq (triplets)")
    add("--steps", metavar="N", help="of training (default: the shipped model's)")
    add("--out", metavar="DIR", help="the model folder to write")
    add("--work", metavar="DIR", help="spectrograms (default: OUT.work)")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--threads", metavar="N", default="1", help="threads of the network (default: 1)")


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Train, and say where the model is."""
    del beam_args
    checker = Checker(args)
    if not args.catalog:
        checker.problems.append("--catalog: name one or more catalogues of labelled clips")
    out = out_folder(checker)
    bits = checker.integer("--bits", low=8, high=64)
    if bits not in CODE_BITS:
        checker.problems.append("--bits: must be 8, 16, 24, 32, 48 or 64")
    settings: dict[str, Any] = {"seed": checker.integer("--seed", low=0, high=2**31 - 1)}
    threads = checker.integer("--threads", low=1, high=1024)
    if args.system not in SYSTEMS:
        checker.problems.append(f"--system: must be one of {', '.join(SYSTEMS)}")
    if checker.given("--steps"):
        settings["steps"] = checker.integer("--steps", low=1, high=1 << 30)
    kept_out = leave_out(args, checker)
    checker.finish()
    sources = sources_of(args.catalog, args.labels or None, kept_out, args.unlabelled)
    labels = sorted({label for one in sources for labels in one.labels for label in labels})
    if not labels:
        raise CatalogError(f"{', '.join(args.catalog)}: no clip has a label; see --labels")
    taxonomy = joined_taxonomy(args.taxonomy, args.catalog, labels)
    require(NEEDED)
    from hashing.training.events.quantization import QuantizerTraining
    from hashing.training.events.quantizer_recipe import QuantizerRecipe, train_events

    # Even: a label of few clips is not to drown in a catalogue of another one's thousands.
    training = QuantizerTraining(
        system=args.system, code_bytes=bits // 8, words=LEARNED_WEIGHT, even=True, **settings
    )
    recipe = QuantizerRecipe(
        sources,
        taxonomy,
        training,
        args.encoder,
        args.wide,
        bool(args.unlabelled),
        len(os.sched_getaffinity(0)),
        threads,
        _command(args),
    )
    model = train_events(recipe, Path(out), Path(args.work or f"{out}.work"), log)
    told = model.config["figures"].get("map")
    judged = "" if told is None else f": mAP {told:.3f} on clips that it has not heard"
    print(f"model {model.path} with digest {model.digest[:16]}{judged}")
    return 0


def joined_taxonomy(
    named: Sequence[str] | None, catalogs: Sequence[str], labels: Sequence[str]
) -> Taxonomy | None:
    """One taxonomy of several files; labels that none of them has are roots. None for none.

    Raises: CatalogError: a file that cannot be read, or two that differ in a label's parent.
    """
    if named is not None:
        paths = [path for path in named if path != "none"]
    else:
        beside = [os.path.join(os.path.dirname(path), "taxonomy.csv") for path in catalogs]
        paths = [path for path in dict.fromkeys(beside) if os.path.exists(path)]
    if not paths:
        return None
    parents: dict[str, str | None] = {}
    told_by: dict[str, str] = {}
    for path in paths:
        for label, parent in Taxonomy.read(path).to_json().items():
            other = told_by.setdefault(label, path)
            if parents.setdefault(label, parent) != parent:
                raise CatalogError(
                    f"{path}: label {label!r} has another parent than in {other}: mend one"
                )
    return Taxonomy({**dict.fromkeys(labels), **parents}, ", ".join(paths))


def _command(args: argparse.Namespace) -> str:
    """The command for the model card; names of files and not where they were on one machine."""
    parts = ["hashbeam", "train", "events", "--catalog", *map(short_path, args.catalog)]
    parts += ["--unlabelled", *map(short_path, args.unlabelled)] if args.unlabelled else []
    for flag in ("labels", "system", "bits", "steps", "seed"):
        if (value := getattr(args, flag)) is not None:
            parts += [f"--{flag}", value]
    if args.taxonomy:
        parts += ["--taxonomy", *(Path(path).name for path in args.taxonomy)]
    parts += ["--leave-out", *args.leave_out] if args.leave_out else []
    parts += ["--encoder", Path(args.encoder).name] + (["--wide"] if args.wide else [])
    return shlex.join(parts)
