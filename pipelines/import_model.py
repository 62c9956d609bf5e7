"""``hashbeam import-model``: an encoder of the user's own becomes a model folder."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hashing.codes import MAX_KEY_BITS
from hashing.errors import HashbeamError, ModelError, UsageError
from hashing.features import WINDOWS, FeatureConfig
from pipelines.catalog import read_catalog
from pipelines.options import Checker

DESCRIPTION = """\
Make a model folder of an encoder that you trained elsewhere and exported as ONNX.

  pip install onnx
  hashbeam import-model encoder.onnx --catalog music/catalog.csv --out models/mine
  hashbeam import-model encoder.onnx --catalog music/catalog.csv --features features.json \\
      --output pooled --layout frames-bands --noise noise --rooms rir --out models/mine
  hashbeam index --catalog music/catalog.csv --model models/mine --out INDEX

The encoder takes a batch of log-mel snippets, [n, bands * frames], [n, bands, frames] or
[n, 1, bands, frames] (or frames first, or the channel last), and answers with an embedding [n, d].
What it gets is a snippet in dB, cells more than 60 dB below the loudest raised to that, with mean 0
and deviation 1: train it with such (`hashing.snippets.standardise`). --features, --window or the
flags of single settings say what a snippet is; they must be those of its training.

The codes of embeddings, the keys of the tables and the score are fitted to the catalogue, which
should be like the one that is going to be indexed.

The model folder is taken as --model by `index`, `lookup` and `evaluate`, and as --encoder by those
kinds of `train` that fit a hash to embeddings (`train --help` names them: itq, opq, …). The encoder
itself cannot be trained further: ONNX has no gradients; train it where it was made, and import it
again."""

# Columns that are kept on one side of the calibration where the catalogue has them.
GROUP = ("album", "artist_name")

HIGHEST_BITS = 4096  # of keys: as many as an embedding has dimensions at most
HIGHEST_TABLES = 256  # a look-up asks every one of them
HIGHEST_FEATURES_BYTES = 1 << 20  # of a file of a dozen settings

_HELP = {
    "sample_rate": "Hz",
    "n_fft": "samples of a window",
    "hop_length": "samples between frames",
    "n_bands": "mel bands",
    "fmin": "Hz, of the lowest band",
    "fmax": "Hz, of the highest band",
    "snippet_frames": "frames of a snippet",
    "snippet_hop": "frames between the snippets of an index",
    "dynamic_range_db": "dB below a snippet's loudest cell that still count",
    "silence_db": "dB re full scale; quieter snippets are left out",
}
_NUMBERS = [field for field in dataclasses.fields(FeatureConfig) if field.name in _HELP]


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What ``hashbeam import-model`` was asked to do; fields as the flags say.

    `queries` is for each index size of the calibration, 0 for no calibration.
    """

    encoder: str
    catalog: str
    out: str
    work: str
    features: FeatureConfig
    input: str
    output: str
    layout: str
    bits: int
    tables: int
    seed: int
    queries: int
    noise: tuple[str, ...]
    rooms: tuple[str, ...]
    group: tuple[str, ...]
    same: str
    json: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add = parser.add_argument
    add("encoder", metavar="ENCODER", help="an ONNX file with its weights inside")
    add("--catalog", metavar="C", help="music to fit the hasher to; see `catalog`")
    add("--out", metavar="DIR", help="the model folder to write; must not exist")
    add("--work", metavar="DIR", help="decoded music (default: OUT.work)")
    add("--input", metavar="NAME", default="", help="the encoder's input (default: its only one)")
    add(
        "--output",
        metavar="NAME",
        default="",
        help="the embedding; any tensor of the graph (default: its only output)",
    )
    add(
        "--layout",
        metavar="LAYOUT",
        default="",
        help="of the input: bands-frames, frames-bands or flat (default: told by its shape)",
    )
    add("--bits", metavar="N", default="256", help="projections that keys are made of (256)")
    add("--tables", metavar="N", default="16", help="hash tables (16)")
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--noise", metavar="DIR", nargs="+", default=[], help="folders of ambient recordings")
    add("--rooms", metavar="DIR", nargs="+", default=[], help="folders of room responses")
    add("--no-calibration", action="store_true", help="do not fit the score: seconds, not minutes")
    add("--queries", metavar="N", default="600", help="of the calibration, each index size (600)")
    add(
        "--group",
        metavar="COLUMN",
        nargs="+",
        default=list(GROUP),
        help="tracks that agree in one of these are calibrated on together (album artist_name)",
    )
    add("--same", metavar="COLUMN", default="", help="tracks that agree in it are one recording")
    add("--json", action="store_true", help="print what was made as JSON")
    what = parser.add_argument_group("what a snippet is")
    what.add_argument(
        "--window", metavar="NAME", default="", help=f"{', '.join(WINDOWS)} (default: second)"
    )
    what.add_argument(
        "--features",
        metavar="FILE",
        default="",
        help="JSON with the settings below (n_bands, …), or a model's config.json",
    )
    for field in _NUMBERS:
        what.add_argument(
            _flag(field.name),
            metavar="N",
            default="",
            help=f"{_HELP[field.name]} (window second: {field.default:g})",
        )
    what.add_argument(
        "--repeats-short",
        action="store_true",
        help="what is shorter than a snippet is repeated until it fills one",
    )


def options_from(args: argparse.Namespace) -> ImportOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    options = ImportOptions(
        encoder=args.encoder,
        catalog=checker.text("--catalog"),
        out=checker.text("--out"),
        work=args.work or f"{args.out}.work",
        features=_features(args, checker),
        input=args.input,
        output=args.output,
        layout=args.layout,
        bits=checker.integer("--bits", low=MAX_KEY_BITS, high=HIGHEST_BITS),
        tables=checker.integer("--tables", low=1, high=HIGHEST_TABLES),
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        queries=0 if args.no_calibration else checker.integer("--queries", low=1, high=1_000_000),
        noise=tuple(args.noise),
        rooms=tuple(args.rooms),
        group=tuple(args.group),
        same=args.same,
        json=args.json,
    )
    if options.tables > options.bits:
        checker.problems.append(f"--tables: {options.tables} need as many --bits at least")
    for folder in (*options.noise, *options.rooms):
        if not Path(folder).is_dir():
            checker.problems.append(f"--noise, --rooms: {folder} is not a folder")
    from hashing.training.arrangement import LAYOUTS

    if options.layout and options.layout not in LAYOUTS:
        checker.problems.append(
            f"--layout: must be one of {', '.join(LAYOUTS)}, got {options.layout!r}"
        )
    checker.finish()
    return options


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _features(args: argparse.Namespace, checker: Checker) -> FeatureConfig:
    """A window or a file, with the settings of single flags on top."""
    config = WINDOWS["second"]
    if args.window and args.features:
        checker.problems.append("--window, --features: give one of them")
    elif args.window and args.window not in WINDOWS:
        checker.problems.append(f"--window: must be one of {', '.join(WINDOWS)}")
    elif args.window:
        config = WINDOWS[args.window]
    elif args.features:
        try:
            config = _read_features(args.features)
        except ModelError as error:
            checker.problems.append(f"--features: {error}")
    changes: dict[str, Any] = {}
    if args.repeats_short:
        changes["repeats_short"] = True
    for field in _NUMBERS:
        if checker.given(flag := _flag(field.name)):
            if isinstance(field.default, int):
                changes[field.name] = checker.integer(flag, low=1, high=1 << 20)
            else:
                changes[field.name] = checker.number(flag, low=-1e6, high=1e6)
    try:
        return dataclasses.replace(config, **changes)
    except ModelError as error:
        checker.problems.append(str(error))
    return config


def _read_features(path: str) -> FeatureConfig:
    """Raises `ModelError`."""
    try:
        if Path(path).stat().st_size > HIGHEST_FEATURES_BYTES:
            raise ModelError(f"{path} is too large for a file of settings")
        values = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error})") from None
    if isinstance(values, dict) and isinstance(values.get("features"), dict):
        values = values["features"]
    if not isinstance(values, dict):
        raise ModelError(f'{path} is no object of settings, such as {{"n_bands": 64}}')
    return FeatureConfig.from_json(values)


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Import, and say where the model is."""
    del beam_args
    options = options_from(args)
    if importlib.util.find_spec("onnx") is None:
        raise HashbeamError(
            "import-model needs onnx, which is not installed: pip install onnx (it is in "
            "'hashbeam[train]', too, which brings torch along)"
        )
    table = read_catalog(options.catalog)
    asked = [name for name in (*options.group, options.same) if name]
    columns = [name for name in asked if name in table.column_names]
    # The default names what most catalogues have; what was typed must be there.
    if missing := sorted(set(asked) - set(columns) - set(GROUP)):
        raise UsageError(f"{options.catalog} has no column {', '.join(missing)}")
    rows = [
        {name: _text(row[name]) for name in ("track_id", "uri", *columns)}
        for row in table.to_pylist()
    ]
    from hashing.training.adopt import Adoption, adopt

    adoption = Adoption(
        rows,
        options.features,
        input=options.input,
        output=options.output,
        layout=options.layout,
        bits=options.bits,
        n_tables=options.tables,
        calibrated=options.queries > 0,
        queries=options.queries,
        noise=[Path(folder) for folder in options.noise],
        rooms=[Path(folder) for folder in options.rooms],
        group_columns=tuple(name for name in options.group if name in columns),
        same_column=options.same if options.same in columns else "",
        seed=options.seed,
        command=command(options),
        catalog=Path(options.catalog).name,
    )

    def log(line: str) -> None:
        warning = line.startswith("warning: ")
        print(line, file=sys.stderr if warning else sys.stdout, flush=True)

    # With --json only the result goes to stdout, whoever prints.
    told = sys.stderr if options.json else sys.stdout
    with contextlib.redirect_stdout(told):
        model = adopt(Path(options.encoder), adoption, Path(options.out), Path(options.work), log)
    if options.json:
        facts = {"model": str(model.path), "digest": model.digest}
        print(json.dumps({**facts, "figures": model.config["figures"]}))
    else:
        print(
            f"model {model.path} with digest {model.digest[:16]}; use it with --model {model.path}"
        )
    return 0


def command(options: ImportOptions) -> str:
    """The command for the model card; names of folders and not where they were on one machine.

    Settings of snippets are written out one by one where they are not those of a window.
    """
    parts = ["hashbeam", "import-model", Path(options.encoder).name]
    parts += ["--catalog", Path(options.catalog).name]
    windows = [name for name, config in WINDOWS.items() if config == options.features]
    if windows:
        parts += ["--window", windows[0]]
    else:
        for field in _NUMBERS:
            value = getattr(options.features, field.name)
            parts += [_flag(field.name), f"{value:g}"] if value != field.default else []
        parts += ["--repeats-short"] if options.features.repeats_short else []
    texts: Mapping[str, object] = {
        "--input": options.input,
        "--output": options.output,
        "--layout": options.layout,
        "--same": options.same,
    }
    parts += [word for flag, text in texts.items() if text for word in (flag, str(text))]
    for flag, folders in (("--noise", options.noise), ("--rooms", options.rooms)):
        parts += [flag, *(Path(folder).name for folder in folders)] if folders else []
    parts += ["--bits", str(options.bits), "--tables", str(options.tables)]
    parts += ["--seed", str(options.seed)]
    if options.queries:
        parts += ["--group", *options.group, "--queries", str(options.queries)]
    else:
        parts += ["--no-calibration"]
    return shlex.join(parts)


def _text(value: object) -> str:
    # Lists (several artists) count as one name: tracks of the same people stay together.
    if isinstance(value, list):
        return "; ".join(str(item) for item in value)
    return "" if value is None else str(value)


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["import-model", *sys.argv[1:]]))
