"""``hashbeam train``: models are made from a catalogue of music."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hashing.codes import MAX_KEY_BITS
from hashing.errors import HashbeamError, UsageError
from hashing.features import WINDOWS
from hashing.models import DEFAULT_MODEL
from pipelines.catalog import read_catalog
from pipelines.options import Checker

DESCRIPTION = """\
Train a hasher on a catalogue of music and write a model folder.

  pip install 'hashbeam[train]'
  hashbeam train encoder --catalog music/catalog.csv --noise noise --rooms rir --out models/mine
  hashbeam index --catalog music/catalog.csv --model models/mine --out INDEX

Training shows loss and held-out figures as it goes, writes checkpoints into --work, and goes on
from there when the same command is run again. The same seed, data and machine give the same
model.

encoder     a convolutional encoder and keys for it, as the shipped model `contrastive`
forgiving   an ensemble of small networks, as the shipped model `forgiving`
lsh, pca, itq, transport, pq, opq
            hashes of the embeddings of --encoder, to compare with
minhash     Min-Hash over wavelets, which learns nothing, to compare with
flow        a balanced hash of the embeddings of --encoder: one table, for indexes that keep
            embeddings
artist      embeddings that tell artists apart, as the shipped model `artist`, from statistics of
            timbre, harmony and rhythm; needs no --noise, --rooms nor the extra `train`. With
            --system metric, contrastive or classifier a network, to compare with:
            hashbeam train artist --catalog music.csv --more generated/catalog.csv --out models/a
            With --folds or --fold-by, a model without each fold of the artists, to be measured on:
            hashbeam train artist --catalog music.csv --folds 5 --out cv
            hashbeam evaluate artists --catalog music.csv --model 'cv/{fold}' --out figures
sequence    hash sequences and embeddings that match MIDI files with recordings, as the shipped
            model `sequence`; learns from renderings of MIDI files, for which it needs FluidSynth
            and Debian's soundfonts instead of a catalogue:
            hashbeam train sequence --midi songs more-songs --out models/s"""

HEADS = ("lsh", "pca", "itq", "transport", "pq", "opq", "minhash")
FLOW = "flow"
ARTIST = "artist"
SEQUENCE = "sequence"
# Kinds with flags of their own, and where they are.
OWN_FLAGS = {"clips": "pipelines.train_clips", "events": "pipelines.train_events"}
KINDS = ("encoder", "forgiving", *HEADS, FLOW, ARTIST, SEQUENCE)

# Flags of all kinds that take no value.
SWITCHES = ("--unweighted", "--wide", "--help", "-h")

# Packages of the extra `train` that training cannot do without.
NEEDED = ("torch", "onnx", "pyroomacoustics")
FLOW_NEEDED = (*NEEDED, "zuko")

# Flags that only some kinds take.
KIND_FLAGS = {
    "--steps": ("encoder", "forgiving", FLOW, ARTIST, SEQUENCE),
    "--songs": ("forgiving",),
    "--excerpts": ("forgiving",),
    "--tile-versions": ("encoder",),
    "--encoder": (*HEADS[:-1], FLOW),
    "--bits": (*HEADS[:-1], FLOW),
    "--radius": (FLOW,),
    "--stability": (FLOW,),
    "--more": (ARTIST,),
    "--labels": (ARTIST,),
    "--components": (ARTIST,),
    "--map-steps": (ARTIST,),
    "--system": (ARTIST, SEQUENCE),
    "--segments": (ARTIST,),
    "--batch-artists": (ARTIST,),
    "--same-tag": (ARTIST,),
    "--tags": (ARTIST,),
    "--folds": (ARTIST,),
    "--fold-by": (ARTIST,),
    "--midi": (SEQUENCE,),
    "--scores": (SEQUENCE,),
    "--performances": (SEQUENCE,),
    "--embedding-steps": (SEQUENCE,),
    "--narrow": (SEQUENCE,),
    "--unweighted": (SEQUENCE,),
}

# Columns that are kept on one side of every split where the catalogue has them.
GROUP = ("album", "artist_name")


def choose(arguments: Sequence[str]) -> ModuleType | None:
    """The module of a kind that has flags of its own; None for the others.

    The kind is the first word that is one and no flag's value: a folder may be called ``events``.

    >>> choose(["--out", "events", "clips"]).__name__, choose(["encoder", "--out", "clips"])
    ('pipelines.train_clips', None)
    """
    after = zip(("", *arguments), arguments, strict=False)
    named = (word for before, word in after if not _wants_value(before))
    kind = next((word for word in named if word in (*KINDS, *OWN_FLAGS)), "")
    return importlib.import_module(OWN_FLAGS[kind]) if kind in OWN_FLAGS else None


def _wants_value(word: str) -> bool:
    """Whether the next word belongs to this one."""
    return word.startswith("-") and "=" not in word and word not in SWITCHES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "kind", metavar="KIND", help=f"what to train: {', '.join((*KINDS, *OWN_FLAGS))}"
    )
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
        help="columns that must not be on both sides of a split (default: album artist_name; "
        "for artist none but the artist)",
    )
    parser.add_argument(
        "--same",
        metavar="COLUMN",
        default="",
        help="column whose equal values are one recording: for calibration; copies do not count as "
        "tracks of an artist",
    )
    parser.add_argument(
        "--window",
        metavar="NAME",
        default="",
        help=f"what a snippet is: {', '.join(WINDOWS)} (default: dense for encoder, else second)",
    )
    parser.add_argument("--seed", metavar="N", default="1", help="(default: 1)")
    parser.add_argument(
        "--steps", metavar="N", help="training steps (default: the shipped model's)"
    )
    parser.add_argument("--songs", metavar="N", help="songs that each network learns (forgiving)")
    parser.add_argument("--excerpts", metavar="N", help="excerpts in the pool (forgiving)")
    parser.add_argument("--tile-versions", metavar="N", help="versions of the music (encoder)")
    parser.add_argument(
        "--encoder", metavar="MODEL", help="whose embeddings are hashed (contrastive)"
    )
    parser.add_argument("--bits", metavar="N", help="bits of a code (256; of a flow's key: 16)")
    parser.add_argument(
        "--radius",
        metavar="Z",
        help="bits of an item nearer to zero than this are in doubt, it stands in several buckets "
        "(flow: 0, modes are at 2)",
    )
    parser.add_argument(
        "--stability", metavar="WEIGHT", help="of bits that hold in noise, against balance (flow)"
    )
    parser.add_argument(
        "--more",
        metavar="FILE",
        nargs="+",
        help="other catalogues, each of which counts as much as the first (artist)",
    )
    parser.add_argument(
        "--labels",
        metavar="COLUMN",
        help="who plays (artist; default: artist_id, or artist_name)",
    )
    parser.add_argument(
        "--folds",
        metavar="N",
        help="deal the artists into folds, and train a model without each: OUT/0 … (artist)",
    )
    parser.add_argument(
        "--fold-by",
        metavar="COLUMN",
        help="the same with folds of a column, or of a CSV file with track_id and fold (artist)",
    )
    parser.add_argument(
        "--components",
        metavar="N",
        help="numbers of an embedding (artist: 56; of a network 32, of a classifier 256)",
    )
    parser.add_argument(
        "--map-steps",
        metavar="N",
        help="steps in which statistics learn a map from artists; 0: none (artist: 120)",
    )
    parser.add_argument(
        "--system",
        metavar="NAME",
        help="what makes the embedding (artist): statistics (default), or a network: metric "
        "(triplets), contrastive, classifier; (sequence): contrast (default), margin (the same "
        "network with the published loss), published (networks and loss)",
    )
    parser.add_argument(
        "--segments", metavar="LENGTH", help="a network hears 3s or 9s (artist: 9s)"
    )
    parser.add_argument(
        "--batch-artists", metavar="N", help="artists in a batch of a network (artist: 32)"
    )
    parser.add_argument(
        "--same-tag",
        metavar="P",
        help="how often a triplet's negative shares a tag with its anchor, 0 to 1 (artist: 0)",
    )
    parser.add_argument(
        "--tags",
        metavar="KIND",
        nargs="+",
        help="tags that --same-tag goes by: genre, mood, date (artist: genre)",
    )
    parser.add_argument("--midi", metavar="DIR", nargs="+", help="folders of MIDI files (sequence)")
    parser.add_argument(
        "--scores",
        metavar="KIND",
        help="what is heard of a MIDI file (sequence): rendered (default), or its piano roll",
    )
    parser.add_argument(
        "--performances", metavar="N", help="performances of each song to learn from (sequence: 4)"
    )
    parser.add_argument(
        "--embedding-steps", metavar="N", help="training steps of the embeddings (sequence)"
    )
    parser.add_argument(
        "--narrow",
        metavar="SHARE",
        help="share of the published networks' widths; 1 takes days without a GPU (sequence: 1)",
    )
    parser.add_argument(
        "--unweighted",
        action="store_true",
        default=None,
        help="embeddings of the plain mean over time, without attention (sequence)",
    )
    parser.add_argument("--queries", metavar="N", help="calibration queries for each index size")
    parser.add_argument(
        "--threads", metavar="N", default="1", help="threads of the networks (default: 1)"
    )


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Train, and say where the model is."""
    del beam_args
    if args.kind not in KINDS:
        raise UsageError(
            f"no kind {args.kind!r} to train: use one of {', '.join((*KINDS, *OWN_FLAGS))}"
        )
    checker = Checker(args)
    for flag, kinds in KIND_FLAGS.items():
        if checker.given(flag) and args.kind not in kinds:
            checker.problems.append(f"{flag}: is for {', '.join(kinds)}, not for {args.kind}")
    if args.kind == ARTIST:
        from pipelines import train_artist

        return train_artist.train(args, checker)
    if args.kind == SEQUENCE:
        from pipelines import train_sequence

        return train_sequence.train(args, checker)
    args.group = list(GROUP) if args.group is None else args.group
    catalog, out = checker.text("--catalog"), checker.text("--out")
    seed = checker.integer("--seed", low=0, high=2**31 - 1)
    threads = checker.integer("--threads", low=1, high=1024)
    settings: dict[str, Any] = {"seed": seed}
    args.window = args.window or ("dense" if args.kind == "encoder" else "second")
    if args.window not in WINDOWS:
        checker.problems.append(f"--window: must be one of {', '.join(WINDOWS)}")
    for flag in ("--steps", "--songs"):
        if checker.given(flag):
            settings[flag[2:]] = checker.integer(flag, low=1)
    more: dict[str, Any] = {}
    for flag, name, low in (
        ("--excerpts", "excerpts", 8),
        ("--tile-versions", "tile_versions", 2),
        ("--queries", "calibration_queries", 1),
    ):
        if checker.given(flag):
            more[name] = checker.integer(flag, low=low)
    if checker.given("--bits"):
        low, high = (2, MAX_KEY_BITS) if args.kind == FLOW else (8, 4096)
        settings["bits"] = checker.integer("--bits", low=low, high=high)
    for flag in ("--radius", "--stability"):
        if checker.given(flag):
            settings[flag[2:]] = checker.number(flag, low=0.0, high=100.0)
    checker.finish()
    table = read_catalog(catalog)
    require(FLOW_NEEDED if args.kind == FLOW else NEEDED)
    from hashing.training.ambience import require_audio
    from hashing.training.forgiving import ForgivingTraining
    from hashing.training.heads import HeadTraining
    from hashing.training.pairs import EncoderTraining
    from hashing.training.recipe import Recipe, train_encoder, train_forgiving, train_head

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
    recipe = Recipe(
        rows,
        noise,
        rooms,
        tuple(name for name in args.group if name in columns),
        args.same if args.same in columns else "",
        command=_command(args, {**settings, **_given(args)}),
        window=args.window,
        threads=threads,
        **more,
    )
    work = Path(args.work or f"{out}.work")

    def log(line: str) -> None:
        print(line, flush=True)

    if args.kind in HEADS:
        head = HeadTraining(args.kind, **settings)
        encoder = args.encoder or DEFAULT_MODEL
        model = train_head(recipe, head, encoder, Path(out), work, log)
    elif args.kind == FLOW:
        from hashing.training.flow import FlowTraining
        from hashing.training.flow_recipe import train_flow

        flow, encoder = FlowTraining(**settings), args.encoder or DEFAULT_MODEL
        model = train_flow(recipe, flow, encoder, Path(out), work, log)
    elif args.kind == "encoder":
        model = train_encoder(recipe, EncoderTraining(**settings), Path(out), work, log)
    else:
        model = train_forgiving(recipe, ForgivingTraining(**settings), Path(out), work, log)
    print(f"model {model.path} with digest {model.digest[:16]}; use it with --model {model.path}")
    return 0


def require(packages: Sequence[str]) -> None:
    """Raises HashbeamError, in one line, for a package of an extra that is not installed."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise HashbeamError(
                f"training needs {name}, which is not installed: pip install 'hashbeam[train]'"
            )


def _given(args: argparse.Namespace) -> dict[str, str]:
    """Flags of the data that were typed: without them a model could not be made again."""
    names = ("encoder", "excerpts", "tile_versions", "queries")
    typed = {name.replace("_", "-"): getattr(args, name) for name in names}
    return {name: Path(value).name for name, value in typed.items() if value is not None}


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
