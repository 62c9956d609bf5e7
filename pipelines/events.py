"""``hashbeam events KIND``: labelled clips of sound; each kind is a module of its own."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Beam is imported: the command line imports this file under its own name, where the
    # workers will look for the steps of the job.
    from pipelines.cli import main

    sys.exit(main(["events", *sys.argv[1:]]))

import argparse
import importlib
from collections.abc import Sequence
from types import ModuleType

from hashing.errors import UsageError
from pipelines.options import first_named

# Where each lives (a verb, see `pipelines.cli`), and its line in the help.
KINDS = {
    "index": ("pipelines.event_index", "make an index of labelled clips"),
    "search": ("pipelines.event_search", "find the clips that sound like a recording, or words"),
}

DESCRIPTION = "\n".join(
    ["Labelled clips of sound: barks, bells, drums.", ""]
    + [f"  hashbeam events {name:<7} {told}" for name, (_, told) in KINDS.items()]
    + ["", "hashbeam events KIND --help explains one."]
)


def choose(arguments: Sequence[str]) -> ModuleType | None:
    """The module of the kind that is named first, whatever stands around it; None for no kind.

    What follows a flag is one only where nothing else is: an index may be called ``search``.

    >>> choose(["--index", "search", "index"]) is choose(["index"]), choose(["x"])
    (True, None)
    """
    kind = first_named(arguments, KINDS)
    return None if kind is None else importlib.import_module(KINDS[kind][0])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is known where no kind is named."""
    parser.add_argument("kind", metavar="KIND", help=f"what to do: {' or '.join(KINDS)}")


def options_from(args: argparse.Namespace) -> None:
    """Raises: UsageError, since no kind was named."""
    raise UsageError(f"KIND: must be {' or '.join(KINDS)}, got {args.kind!r}")


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Raises: UsageError, since no kind was named."""
    del beam_args
    options_from(args)
    return 2
