"""``hashbeam train``: models are made from a catalogue of music."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hashing.errors import HashbeamError, UsageError
from hashing.features import WINDOWS
from pipelines.catalog import read_catalog
from pipelines.options import Checker

DESCRIPTION = """\
Train a hasher on a catalogue of music and write a model folder.

  pip install 'hashbeam[train]'
  hashbeam train forgiving --catalog music/catalog.csv --noise noise --rooms rir --out models/mine
  hashbeam index --catalog music/catalog.csv --model models/mine --out INDEX

Training shows loss and held-out figures as it goes, writes checkpoints into --work, and goes on
from there when the same command is run again. The same seed, data and machine give the same
model."""

KINDS = ("forgiving",)

# Columns that are kept on one side of every split where the catalogue has them.
GROUP = ("album", "artist_name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("kind", metavar="KIND", help=f"what to train: {', '.join(KINDS)}")
    parser.add_argument("--catalog", metavar="FILE", help="music to train on; see `catalog`")
    parser.add_argument("--out", metavar="DIR", help="the model folder to write")
    parser.add_argument(
        "--work", metavar="DIR", help="decoded music and checkpoints (default: OUT.work)"
    )
    parser.add_argument(
        "--noise",
        metavar="DIR",
        nargs="+",
        default=[],
        help="folders of ambient recordings; without one, noise is synthetic",
    )
    parser.add_argument(
        "--rooms",
        metavar="DIR",
        nargs="+",
        default=[],
        help="folders of room responses; without one, rooms are synthetic",
    )
    parser.add_argument(
        "--group",
        metavar="COLUMN",
        nargs="+",
        default=list(GROUP),
        help="columns that must not be on both sides of a split (default: album artist_name)",
    )
    parser.add_argument(
        "--same",
        metavar="COLUMN",
        default="",
        help="column whose equal values are one recording, for calibration",
    )
    parser.add_argument(
        "--window",
        metavar="NAME",
        default="second",
        help=f"what a snippet is: {', '.join(WINDOWS)} (default: second)",
    )
    parser.add_argument("--seed", metavar="N", default="1", help="(default: 1)")
    parser.add_argument(
        "--steps", metavar="N", help="training steps (default: the shipped model's)"
    )
    parser.add_argument("--songs", metavar="N", help="songs that each network learns")
    parser.add_argument("--excerpts", metavar="N", help="excerpts in the pool")
    parser.add_argument("--queries", metavar="N", help="calibration queries for each index size")
    parser.add_argument(
        "--threads", metavar="N", default="1", help="threads of the networks (default: 1)"
    )


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Train, and say where the model is."""
    del beam_args
    if args.kind not in KINDS:
        raise UsageError(f"no kind {args.kind!r} to train: use one of {', '.join(KINDS)}")
    checker = Checker(args)
    catalog, out = checker.text("--catalog"), checker.text("--out")
    seed = checker.integer("--seed", low=0, high=2**31 - 1)
    threads = checker.integer("--threads", low=1, high=1024)
    settings: dict[str, Any] = {"seed": seed}
    if args.window not in WINDOWS:
        checker.problems.append(f"--window: must be one of {', '.join(WINDOWS)}")
    for flag in ("--steps", "--songs"):
        if checker.given(flag):
            settings[flag[2:]] = checker.integer(flag, low=1)
    excerpts = checker.integer("--excerpts", low=8) if checker.given("--excerpts") else 0
    queries = checker.integer("--queries", low=1) if checker.given("--queries") else 0
    checker.finish()
    table = read_catalog(catalog)
    for name in ("torch", "onnx"):
        if importlib.util.find_spec(name) is None:
            raise HashbeamError(
                f"training needs {name}, which is not installed: pip install 'hashbeam[train]'"
            )
    from hashing.training.forgiving import ForgivingTraining
    from hashing.training.recipe import Recipe, require_audio, train_forgiving

    asked = [name for name in (*args.group, args.same) if name]
    columns = [name for name in asked if name in table.column_names]
    # The default names what most catalogues have; what was typed must be there.
    if missing := sorted(set(asked) - set(columns) - set(GROUP)):
        raise UsageError(f"{catalog} has no column {', '.join(missing)} to group by")
    rows = [
        {name: _text(row[name]) for name in ("track_id", "uri", *columns)}
        for row in table.to_pylist()
    ]
    noise, rooms = [Path(folder) for folder in args.noise], [Path(folder) for folder in args.rooms]
    require_audio([*noise, *rooms])
    more: dict[str, Any] = {"excerpts": excerpts} if excerpts else {}
    if queries:
        more["calibration_queries"] = queries
    recipe = Recipe(
        rows,
        noise,
        rooms,
        tuple(name for name in args.group if name in columns),
        args.same if args.same in columns else "",
        command=_command(args, settings),
        window=args.window,
        threads=threads,
        **more,
    )
    model = train_forgiving(
        recipe,
        ForgivingTraining(**settings),
        Path(out),
        Path(args.work or f"{out}.work"),
        lambda line: print(line, flush=True),
    )
    print(f"model {model.path} with digest {model.digest[:16]}; use it with --model {model.path}")
    return 0


def _command(args: argparse.Namespace, settings: Mapping[str, Any]) -> str:
    """The command for the model card; names of folders and not where they were on one machine."""
    parts = ["hashbeam", "train", args.kind, "--catalog", Path(args.catalog).name]
    for flag, folders in (("--noise", args.noise), ("--rooms", args.rooms)):
        parts += [flag, *(Path(folder).name for folder in folders)] if folders else []
    parts += ["--group", *args.group]
    parts += ["--same", args.same] if args.same else []
    parts += ["--window", args.window]
    for name, value in settings.items():
        parts += [f"--{name}", str(value)]
    return shlex.join(parts)


def _text(value: object) -> str:
    # Lists (several artists) count as one name: tracks of the same people stay together.
    if isinstance(value, list):
        return "; ".join(str(item) for item in value)
    return "" if value is None else str(value)
