"""``hashbeam train sequence``: models that match MIDI files with recordings."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hashing.errors import UsageError
from pipelines.options import Checker
from pipelines.train import require

if TYPE_CHECKING:
    from hashing.training.sequences.settings import SequenceTraining, System

SYSTEMS = ("contrast", "margin", "published")
SCORES = ("rendered", "roll")
NEEDED = ("torch", "onnx")


def train(args: argparse.Namespace, checker: Checker) -> int:
    """Train one model, and say where it is.

    Raises: UsageError, HashbeamError: one line on what is wrong.
    """
    if not args.midi:
        checker.problems.append("--midi: name one or more folders of MIDI files")
    for flag in ("catalog", "noise", "rooms", "group", "same", "window", "queries"):
        if getattr(args, flag):
            checker.problems.append(f"--{flag}: is not for sequence")
    out = checker.text("--out")
    settings: dict[str, Any] = {"seed": checker.integer("--seed", low=0, high=2**31 - 1)}
    threads = checker.integer("--threads", low=1, high=1024)
    system = args.system or SYSTEMS[0]
    if system not in SYSTEMS:
        checker.problems.append(f"--system: must be one of {', '.join(SYSTEMS)}")
    scores = args.scores or SCORES[0]
    if scores not in SCORES:
        checker.problems.append(f"--scores: must be one of {', '.join(SCORES)}")
    for flag, name in (("--steps", "steps"), ("--embedding-steps", "embed_steps")):
        if checker.given(flag):
            settings[name] = checker.integer(flag, low=1, high=1 << 31)
    if checker.given("--narrow"):
        settings["narrow"] = checker.number("--narrow", low=0.01, high=1.0)
        if system != "published":
            checker.problems.append("--narrow: is for --system published")
    performances = 4
    if checker.given("--performances"):
        performances = checker.integer("--performances", low=1, high=1000)
    checker.finish()
    if missing := [folder for folder in args.midi if not Path(folder).is_dir()]:
        raise UsageError(f"--midi: {', '.join(missing)} is no folder")
    require(NEEDED)
    from hashing.training.sequences.recipe import SequenceRecipe, train_sequence
    from hashing.training.sequences.settings import training_of

    training = training_of(
        cast("System", system), scores, attention=not args.unweighted, **settings
    )
    workers = len(os.sched_getaffinity(0))
    recipe = SequenceRecipe(
        args.midi, training, performances, workers, threads, _command(args, training)
    )
    model = train_sequence(recipe, Path(out), Path(args.work or f"{out}.work"), _log)
    figures = model.config["figures"]
    print(
        f"model {model.path} with digest {model.digest[:16]}: mean reciprocal rank "
        f"{figures['mrr']:.3f} on the songs that it was chosen by"
    )
    return 0


def _log(line: str) -> None:
    print(line, flush=True)


def _command(args: argparse.Namespace, training: SequenceTraining) -> str:
    """The command for the model card; names of folders and not where they were on one machine."""
    parts = ["hashbeam", "train", "sequence", "--midi", *(Path(one).name for one in args.midi)]
    parts += ["--system", training.system, "--steps", str(training.steps)]
    parts += ["--embedding-steps", str(training.embed_steps)]
    for flag in ("narrow", "scores", "performances"):
        if (value := getattr(args, flag)) is not None:
            parts += [f"--{flag}", value]
    parts += ["--unweighted"] if args.unweighted else []
    return shlex.join([*parts, "--seed", str(training.seed)])
