"""What ``hashbeam evaluate artists`` can be asked to do: its flags, and their checked values."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from hashing.models import DEFAULT_ARTIST_MODEL
from pipelines.disambiguation.options import MAX_FAILURES
from pipelines.evaluation.artists.folds import FILE, FOLD, folds_beside
from pipelines.options import Checker, add_job_arguments, workers

COMPARATORS = {
    "one": "all tracks in one cluster",
    "each": "each track its own cluster",
    "random": "as many clusters as there are artists, tracks at random",
    "albums": "each album a cluster, other tracks each their own",
    "mfcc": "mean and deviation of cepstra, clustered alike",
}

GROUPS, FOLDS, SEEDS = 200, 5, ("1", "2", "3")
LEAST_TRACKS = 3  # with fewer, an artist can hardly be split; the published ones have 8 and more


@dataclasses.dataclass(frozen=True)
class ArtistOptions:
    """What ``hashbeam evaluate artists`` was asked to do.

    Fields: `models` names or folders, `vectors` Parquet files, `stores` folders with embeddings to
    reuse; `labels` "": `artist_id` or else `artist_name`; `least_whole`, `max_failures` shares; the
    `fold_by` a column or file, "" for chance; the rest as the flags say.
    """

    catalog: str
    out: str
    models: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    comparators: tuple[str, ...] = tuple(COMPARATORS)
    labels: str = ""
    same: str = ""
    groups: int = GROUPS
    seeds: tuple[int, ...] = (1, 2, 3)
    folds: int = FOLDS
    fold_by: str = ""
    least_tracks: int = LEAST_TRACKS
    least_whole: float = 0.0
    max_failures: float = MAX_FAILURES
    workers: int = 1
    json: bool = False
    quiet: bool = False
    progress: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam evaluate artists``."""
    add = parser.add_argument
    add("kind", metavar="KIND", help="artists")
    add("--catalog", metavar="C", help="tracks whose artists are known")
    add("--out", metavar="DIR", help="a folder for the figures, and for embeddings")
    systems = parser.add_argument_group("what is compared")
    add = systems.add_argument
    add(
        "--model",
        metavar="M",
        nargs="+",
        default=[],
        help="shipped artist models or model folders (default: the shipped one); with {fold} in "
        "its name, one for each fold of --fold-by",
    )
    add(
        "--vectors",
        metavar="FILE",
        nargs="+",
        default=[],
        help="Parquet files with embeddings made elsewhere: columns track_id, embedding",
    )
    add(
        "--comparators",
        metavar="NAME",
        nargs="+",
        default=list(COMPARATORS),
        help=f"(default: {' '.join(COMPARATORS)})",
    )
    add("--no-model", action="store_true", help="only --vectors and --comparators")
    add(
        "--embeddings",
        metavar="DIR",
        nargs="+",
        default=[],
        help="results of disambiguate or of this command, or indexes, with embeddings to reuse",
    )
    groups = parser.add_argument_group("groups")
    add = groups.add_argument
    add("--labels", metavar="COLUMN", default="", help="the artist (artist_id, or artist_name)")
    add("--same", metavar="COLUMN", default="", help="tracks that agree in it are one recording")
    add("--groups", metavar="N", default=GROUPS, help="for each seed (%(default)s)")
    add("--seeds", metavar="N", nargs="+", default=list(SEEDS), help=f"({' '.join(SEEDS)})")
    add("--folds", metavar="N", default=FOLDS, help="of artists, at most (%(default)s)")
    add(
        "--fold-by",
        metavar="COLUMN",
        default="",
        help="the fold of each artist, instead of chance: a column, or a CSV file with track_id "
        f"and fold (with {FOLD} in --model: {FILE} beside the models)",
    )
    add(
        "--least-tracks",
        metavar="N",
        default=LEAST_TRACKS,
        help="leave artists with fewer out (%(default)s)",
    )
    add(
        "--least-whole",
        metavar="SHARE",
        default=0,
        help="tune the cut so that this share of the development artists stays whole (%(default)s)",
    )
    add(
        "--max-failures",
        metavar="SHARE",
        default=MAX_FAILURES,
        help="share of the tracks that may fail, 0 to 1 (%(default)s)",
    )
    add_job_arguments(parser)


def options_from(args: argparse.Namespace) -> ArtistOptions:
    """The checked options; raises `UsageError` that names every flag that is wrong."""
    checker = Checker(args)
    if args.kind != "artists":
        checker.problems.append(f"KIND: must be artists, got {args.kind!r}")
    unknown = [name for name in args.comparators if name not in COMPARATORS]
    if unknown:
        known = ", ".join(COMPARATORS)
        checker.problems.append(f"--comparators: no {unknown[0]!r}, use one of {known}")
    for flag in ("model", "vectors"):
        given = getattr(args, flag)
        if twice := sorted({one for one in given if given.count(one) > 1}):
            checker.problems.append(f"--{flag}: {twice[0]} is there twice")
    if args.no_model and args.model:
        checker.problems.append("--no-model: leave it out, or --model")
    fold_by = args.fold_by or _folds_of(args.model)
    if any(FOLD in one for one in args.model) and not fold_by:
        checker.problems.append(f"--model: {FOLD} needs --fold-by")
    options = ArtistOptions(
        catalog=checker.text("--catalog"),
        out=checker.text("--out"),
        models=() if args.no_model else tuple(args.model) or _default_models(args),
        vectors=tuple(args.vectors),
        stores=tuple(args.embeddings),
        comparators=tuple(dict.fromkeys(args.comparators)),
        labels=args.labels,
        same=args.same,
        groups=checker.integer("--groups", low=2, high=100_000),
        seeds=_seeds(args, checker),
        folds=checker.integer("--folds", low=2, high=1000),
        fold_by=fold_by,
        least_tracks=checker.integer("--least-tracks", low=2),
        least_whole=checker.number("--least-whole", low=0, high=1),
        max_failures=checker.number("--max-failures", low=0, high=1),
        workers=workers(checker),
        json=args.json,
        quiet=args.quiet,
        progress=args.progress,
    )
    checker.folder("--out", options.out)
    checker.finish()
    return options


def _default_models(args: argparse.Namespace) -> tuple[str, ...]:
    return () if args.vectors else (DEFAULT_ARTIST_MODEL,)


def _folds_of(models: Sequence[str]) -> str:
    """The file of folds beside the models; "" where there is none, or there are several."""
    found = {folds_beside(one) for one in models if FOLD in one}
    return found.pop() if len(found) == 1 else ""


def _seeds(args: argparse.Namespace, checker: Checker) -> tuple[int, ...]:
    seeds = []
    for text in args.seeds:
        one = Checker(argparse.Namespace(seeds=text))
        seeds.append(one.integer("--seeds", low=0, high=2**31 - 1))
        checker.problems += one.problems
    return tuple(dict.fromkeys(seeds))
