"""``hashbeam evaluate forgiving``: the Forgiving Hash paper's tables and figures, on own music.

Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from hashing.errors import CatalogError, HashbeamError, UsageError
from pipelines import io, parquet
from pipelines.catalog import read_catalog
from pipelines.options import Checker, add_output_arguments
from pipelines.report.forgiving_claims import claims
from pipelines.report.forgiving_findings import findings
from pipelines.report.forgiving_page import as_text, forgiving_page

DESCRIPTION = """\
Reproduce the Forgiving Hash paper (Baluja & Covell, IJCAI 2007) on the music of a catalogue:
networks trained with codes that move, with codes that stay and not at all, hash tables of their
bits, look-up of unheard songs, and what the paper left for later.

  pip install 'hashbeam[train]'
  hashbeam evaluate forgiving --catalog music/catalog.csv --out study --quick
  hashbeam evaluate forgiving --catalog music/catalog.csv --noise noise --rooms rir --out study

A quarter of the tracks is looked up, another tenth tells the learning rates apart, and 256 songs
of the rest are learned; none of the three shares an album, an artist (--group) or a recording
(--same, --shared) with another.

--out gets report.html, figures.json and a Parquet file for each table. Networks are kept in --work
as they train, and the same command goes on from there. On 427 tracks the whole study took 17
minutes of one core, 12 of them for the networks; --quick takes three, with fewer networks."""

RECORDING = "(recording)"  # a column of the split that no catalogue has

FORMAT_VERSION = 1  # of figures.json and the tables

# Columns that are kept on one side of the split where the catalogue has them, and the column whose
# equal values are one recording.
GROUP = ("album", "artist_name")

# Shares of the tracks that are looked up, and that the learning rate is chosen by. More than those
# of `train`: the database is the question here, and 256 songs are enough to learn.
HELD_OUT_SHARE, CHECKING_SHARE = 0.25, 0.1

NETWORKS, OUTPUTS, EPOCHS = 58, 8, 1000
QUICK = {"networks": 8, "epochs": 100}


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """What ``hashbeam evaluate forgiving`` was asked to do.

    Fields: `catalog`, `out`, `work` paths; `networks`, their `outputs` and `epochs`; `noise` and
    `rooms` folders of recordings; `group` columns of the split; `same` the column of recordings, or
    empty; `shared` a figures.json that names tracks that share audio, or empty; `threads` of torch;
    `quick` for fewer queries and smaller ablations.
    """

    catalog: str
    out: str
    work: str
    networks: int
    outputs: int
    epochs: int
    learning_rate: float
    seed: int
    noise: tuple[str, ...]
    rooms: tuple[str, ...]
    group: tuple[str, ...]
    same: str
    shared: str
    threads: int
    quick: bool
    json: bool
    quiet: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam evaluate forgiving``."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="forgiving")
    add("--catalog", metavar="C", help="the music: to learn, and, of others, to look up")
    add("--out", metavar="DIR", help="a folder for report, figures and tables")
    add("--work", metavar="DIR", default="", help="decoded music and networks (default: OUT.work)")
    add("--networks", metavar="N", help=f"networks of an ensemble ({NETWORKS})")
    add(
        "--outputs",
        metavar="N",
        default=str(OUTPUTS),
        help=f"outputs of a network, which learns 2**N songs ({OUTPUTS}; the paper: 10)",
    )
    add("--epochs", metavar="N", help=f"passes over the training snippets ({EPOCHS})")
    add(
        "--learning-rate",
        metavar="RATE",
        default="5e-5",
        help="of gradient descent, a snippet (5e-5)",
    )
    add("--seed", metavar="N", default="1", help="(default: 1)")
    add("--noise", metavar="DIR", nargs="+", default=[], help="folders of ambient recordings")
    add("--rooms", metavar="DIR", nargs="+", default=[], help="folders of room responses")
    add(
        "--group",
        metavar="COLUMN",
        nargs="+",
        default=list(GROUP),
        help=f"columns that must not be on both sides of the split (default: {' '.join(GROUP)})",
    )
    add("--same", metavar="COLUMN", default="", help="tracks that agree in it are one recording")
    add(
        "--shared",
        metavar="FILE",
        default="",
        help="figures.json of evaluate lookup: tracks that it found to share audio are one "
        "recording",
    )
    add("--threads", metavar="N", default="1", help="threads of the networks (default: 1)")
    add("--quick", action="store_true", help="few networks, epochs and queries: some minutes")
    add_output_arguments(parser)


def options_from(args: argparse.Namespace) -> StudyOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    if args.kind != "forgiving":
        checker.problems.append(f"KIND: must be forgiving, got {args.kind!r}")
    for folder in (*args.noise, *args.rooms):
        if not Path(folder).is_dir():
            checker.problems.append(f"--noise, --rooms: {folder} is not a folder")

    def count(flag: str, whole: int, high: int) -> int:
        if checker.given(flag):
            return checker.integer(flag, low=1, high=high)
        return QUICK[flag[2:]] if args.quick else whole

    out = checker.text("--out")
    options = StudyOptions(
        catalog=checker.text("--catalog"),
        out=out,
        work=args.work or f"{out}.work",
        networks=count("--networks", NETWORKS, 10_000),
        outputs=checker.integer("--outputs", low=1, high=16),
        epochs=count("--epochs", EPOCHS, 1_000_000),
        learning_rate=checker.number("--learning-rate", low=1e-12, high=1.0),
        seed=checker.integer("--seed", low=0, high=2**31 - 1),
        noise=tuple(args.noise),
        rooms=tuple(args.rooms),
        group=tuple(args.group),
        same=args.same,
        shared=args.shared,
        threads=checker.integer("--threads", low=1, high=1024),
        quick=args.quick,
        json=args.json,
        quiet=args.quiet,
    )
    checker.folder("--out", out)
    checker.finish()
    return options


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam evaluate forgiving``."""
    del beam_args
    figures = evaluate_forgiving(options_from(args))
    print(json.dumps(figures) if args.json else as_text(figures))
    return 0


def evaluate_forgiving(options: StudyOptions) -> dict[str, Any]:
    """Train, measure, and write report, figures and tables; returns the figures.

    Raises:
      CatalogError, UsageError: what was asked for does not fit the catalogue.
      HashbeamError: torch is not installed, or there is too little music.
    """
    table = read_catalog(options.catalog)
    rows = _rows(options, table)
    recordings = _recordings(options, rows)
    if importlib.util.find_spec("torch") is None:
        raise HashbeamError(
            "training needs torch, which is not installed: pip install 'hashbeam[train]'"
        )
    study = _study(options, rows, recordings)
    measured = study.run()
    looked_up = {row["track_id"]: row for row in rows}
    held_out = [looked_up[track] for track in measured["facts"]["unheard_tracks"]]
    figures = {
        "format_version": FORMAT_VERSION,
        "catalog": Path(options.catalog).name,
        "command": _command(options),
        "group": [name for name in options.group if name in table.column_names],
        "recordings": len(set(recordings.values())),
        "held_out": {
            name: sorted({row[name] for row in held_out} - {""})
            for name in options.group
            if name in table.column_names
        },
        **measured["facts"],
        "tracks": len(study.source.music),
        "claims": claims(measured["tables"]),
        "findings": findings(measured["tables"]),
        "tables": measured["tables"],
    }
    _write(options.out, figures)
    return figures


def _rows(options: StudyOptions, table: pa.Table) -> list[dict[str, str]]:
    names = table.column_names
    # The default names what most catalogues have; what was typed must be there.
    if missing := sorted(set(options.group) - set(names) - set(GROUP)):
        raise UsageError(f"--group: {options.catalog} has no column {', '.join(missing)}")
    if options.same and options.same not in names:
        raise CatalogError(f"{options.catalog}: no column {options.same!r} (--same)")
    wanted = {"track_id", "uri", *options.group, options.same} & set(names)
    return [{name: _text(row[name]) for name in wanted} for row in table.to_pylist()]


def _recordings(options: StudyOptions, rows: list[dict[str, str]]) -> dict[str, str]:
    """A name for the recording of each track_id: by the catalogue, and by what shares audio."""
    names = {row["track_id"]: row.get(options.same, "") or row["track_id"] for row in rows}
    if not options.shared:
        return names
    try:
        groups = json.loads(io.read_bytes(options.shared))["shared_audio"]["groups"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"--shared: {options.shared} is no figures.json of evaluate lookup that looked for "
            "shared audio"
        ) from None
    for group in groups:
        joined = {names[track] for track in group if track in names}
        names = {track: min(joined) if name in joined else name for track, name in names.items()}
    return names


def _study(options: StudyOptions, rows: list[dict[str, str]], recordings: dict[str, str]) -> Any:
    from hashing.features import BALUJA_COVELL
    from hashing.training import corpus
    from hashing.training.ambience import noise_files, require_audio, surroundings
    from hashing.training.study import StudyTraining, hidden_sizes
    from hashing.training.study_run import Study
    from hashing.training.study_setup import Source, StudySettings

    noise, rooms = [Path(one) for one in options.noise], [Path(one) for one in options.rooms]
    require_audio([*noise, *rooms])
    started = time.monotonic()

    def log(line: str) -> None:
        if not options.quiet:
            minutes = (time.monotonic() - started) / 60
            print(f"{minutes:6.1f} min  {line}", file=sys.stderr, flush=True)

    training = StudyTraining(
        outputs=options.outputs,
        hidden=hidden_sizes(options.networks),
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    settings = StudySettings(training)
    if options.quick:
        settings = dataclasses.replace(
            settings, excerpts=800, snippets=100, queries=800, starts=3,
            ablation_networks=4, rate_networks=3,
            rates=tuple(sorted({options.learning_rate, 2.5e-4})),
            n_tables=(1, 6, 12, 18, 22), key_bits=(10, 14, 18, 22),
        )  # fmt: skip
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    log(f"decoding {len(rows)} tracks")
    music = corpus.load(rows, BALUJA_COVELL.sample_rate, work)
    by_id = {row["track_id"]: row for row in rows}
    rows = [by_id[track] for track in music.track_ids]
    named = [recordings[row["track_id"]] for row in rows]
    columns = (*options.group, RECORDING)
    parts = [{**row, RECORDING: name} for row, name in zip(rows, named, strict=True)]
    rest, unheard = corpus.split(parts, columns, options.seed, HELD_OUT_SHARE)
    share = CHECKING_SHARE / (1.0 - HELD_OUT_SHARE)
    learned, checking = corpus.split([parts[i] for i in rest], columns, options.seed, share)
    if not (learned and checking and unheard):
        raise HashbeamError(
            f"{len(rows)} tracks cannot be split so that no {' or '.join(options.group)} is on two "
            "sides: add music of others, or name other columns with --group"
        )
    files = [path for part in noise_files(noise) for path in part]  # no network learns noise
    air = surroundings(files, rooms, BALUJA_COVELL.sample_rate)
    source = Source(
        music, [rest[i] for i in learned], [rest[i] for i in checking], unheard,
        named, air, work, log, options.threads,
    )  # fmt: skip
    return Study(source, settings)


def _write(out: str, figures: dict[str, Any]) -> None:
    io.write_bytes(io.join(out, "figures.json"), json.dumps(figures, indent=1).encode() + b"\n")
    metadata = {"hashbeam_format": str(FORMAT_VERSION)}
    for name, rows in figures["tables"].items():
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = {name: [row.get(name) for row in rows] for name in names}
        parquet.write_table(io.join(out, f"{name}.parquet"), pa.table(columns), metadata=metadata)
    io.write_bytes(io.join(out, "report.html"), forgiving_page(figures).encode() + b"\n")


def _command(options: StudyOptions) -> str:
    """The command, with names of folders and not where they were on one machine."""
    parts = ["hashbeam", "evaluate", "forgiving", "--catalog", Path(options.catalog).name]
    parts += ["--networks", str(options.networks), "--outputs", str(options.outputs)]
    parts += ["--epochs", str(options.epochs), "--learning-rate", f"{options.learning_rate:g}"]
    parts += ["--seed", str(options.seed), "--group", *options.group]
    parts += ["--same", options.same] if options.same else []
    parts += ["--shared", Path(options.shared).name] if options.shared else []
    for flag, folders in (("--noise", options.noise), ("--rooms", options.rooms)):
        parts += [flag, *(Path(folder).name for folder in folders)] if folders else []
    return shlex.join([*parts, *(["--quick"] if options.quick else [])])


def _text(value: object) -> str:
    # Lists (several artists) count as one name: tracks of the same people stay together.
    if isinstance(value, list):
        return "; ".join(str(item) for item in value)
    return "" if value is None else str(value)
