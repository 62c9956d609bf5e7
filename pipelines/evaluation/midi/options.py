"""What ``hashbeam evaluate midi`` can be asked to do: its flags, and their checked values."""

from __future__ import annotations

import argparse
import dataclasses

from hashing.models import DEFAULT_SEQUENCE_MODEL
from pipelines.options import Checker, add_job_arguments, workers


@dataclasses.dataclass(frozen=True)
class MidiOptions:
    """What ``hashbeam evaluate midi`` was asked to do.

    Fields: `midi` folders; `catalog` with music, or ""; `model` a name or folder; `soundfont` of
    the recordings, None for one of the system's; `queries`, `decoys` at most, None for all; `known`
    whether songs are asked for that the model knows; `work` a folder for what is rendered; the rest
    as the flags say.
    """

    midi: tuple[str, ...]
    out: str
    work: str
    catalog: str = ""
    model: str = DEFAULT_SEQUENCE_MODEL
    soundfont: str | None = None
    seed: int = 1
    queries: int | None = None
    decoys: int | None = None
    known: bool = False
    workers: int = 1
    json: bool = False
    quiet: bool = False
    progress: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam evaluate midi``."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="midi")
    add("--midi", metavar="DIR", nargs="+", default=[], help="folders of MIDI files")
    add("--out", metavar="DIR", help="a folder for the figures")
    add("--catalog", metavar="C", default="", help="real music, to be among the recordings")
    add(
        "--model",
        metavar="M",
        default=DEFAULT_SEQUENCE_MODEL,
        help="a sequence model, by name or folder (the shipped one)",
    )
    add(
        "--soundfont",
        metavar="SF2",
        help="what recordings are played with: a file, or `plain` for no soundfont (default: one "
        "that scores are not played with)",
    )
    add("--all", action="store_true", help="ask for songs, too, that the model has learned")
    add("--queries", metavar="N", help="MIDI files that ask, at most (all)")
    add("--decoys", metavar="N", help="recordings beside those that are asked for, at most (all)")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--work", metavar="DIR", default="", help="what was rendered, to go on from (OUT.work)")
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> MidiOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    if args.kind != "midi":
        checker.problems.append(f"KIND: must be midi, got {args.kind!r}")
    if not args.midi:
        checker.problems.append("--midi: name one or more folders of MIDI files")
    out = checker.text("--out")

    def count(flag: str, low: int) -> int | None:
        return checker.integer(flag, low=low, high=10_000_000) if checker.given(flag) else None

    options = MidiOptions(
        midi=tuple(dict.fromkeys(args.midi)),
        out=out,
        work=args.work or f"{out.rstrip('/')}.work",
        catalog=args.catalog,
        model=args.model,
        soundfont=args.soundfont or None,
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        queries=count("--queries", 2),
        decoys=count("--decoys", 0),
        known=args.all,
        workers=workers(checker),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    if out:
        checker.folder("--out", out)
        checker.folder("--work", options.work)
    checker.finish()
    return options
