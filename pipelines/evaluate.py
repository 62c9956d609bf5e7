"""``hashbeam evaluate KIND``: which evaluation is meant; each is a module of its own."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from hashing.errors import UsageError
from pipelines.options import first_named


@dataclasses.dataclass(frozen=True)
class Kind:
    """Where an evaluation lives (a verb, see `pipelines.cli`), and its line in the help."""

    module: str
    help: str


KINDS = {
    "lookup": Kind("pipelines.evaluation.lookup", "how often look-up is right, and what it costs"),
    "forgiving": Kind(
        "pipelines.evaluation.forgiving",
        "the Forgiving Hash paper's tables and figures, on own music",
    ),
    "artists": Kind(
        "pipelines.evaluation.artists.run", "how well artists of one name are told apart"
    ),
    "midi": Kind("pipelines.evaluation.midi.run", "how well MIDI files find their recordings"),
    "events": Kind(
        "pipelines.evaluation.events.run", "how well short codes find clips of the same labels"
    ),
}

DESCRIPTION = "\n".join(
    ["Measure, and write figures and a page.", ""]
    + [f"  hashbeam evaluate {name:<10} {kind.help}" for name, kind in KINDS.items()]
    + ["", "hashbeam evaluate KIND --help explains one."]
)


def choose(arguments: Sequence[str]) -> ModuleType | None:
    """The module of the kind that is named first, whatever stands around it; None for no kind.

    A model has the name of a kind, so that what follows a flag is one only where nothing else is.

    >>> choose(["--model", "forgiving", "--out", "o"]) is choose(["forgiving"]), choose(["x"])
    (True, None)
    """
    kind = first_named(arguments, KINDS)
    return None if kind is None else importlib.import_module(KINDS[kind].module)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is known where no kind is named."""
    parser.add_argument("kind", metavar="KIND", help=f"what to evaluate: {', '.join(KINDS)}")


def options_from(args: argparse.Namespace) -> None:
    """Raises: UsageError, since no kind was named."""
    raise UsageError(f"KIND: must be {' or '.join(KINDS)}, got {args.kind!r}")


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Raises: UsageError, since no kind was named."""
    del beam_args
    options_from(args)
    return 2


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
