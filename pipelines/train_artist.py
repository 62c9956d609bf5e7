"""``hashbeam train artist``: models of artists, which stand on other data than the hashers."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hashing.artists.labels import COLUMNS, Labels, named_artists
from hashing.artists.mel_segments import LENGTHS
from hashing.errors import CatalogError, UsageError
from hashing.models import Model
from pipelines.catalog import read_catalog
from pipelines.evaluation.artists.folds import FOLD, check_folds, read_folds, write_folds
from pipelines.evaluation.artists.labels import main_genres, read_labels, texts_of
from pipelines.options import Checker, short_path
from pipelines.train import require

if TYPE_CHECKING:
    from hashing.training.artists.folds import Listing

MOST_FOLDS = 1000
SYSTEMS = ("statistics", "metric", "contrastive", "classifier")
TAGS = ("genre", "mood", "date")
TAG_COLUMNS = ("genres", "mood", "release_date")

# Flags that are settings: the field of `ArtistRecipe` or `ArtistTraining`, least and most.
STATISTICS_FLAGS = (
    ("--components", "components", 2, 512),
    ("--map-steps", "steps", 0, 1 << 31),
)
NETWORK_FLAGS = (
    ("--components", "dimensions", 2, 512),
    ("--steps", "steps", 1, 1 << 31),
    ("--batch-artists", "artists", 2, 4096),
)

# Packages of the extra `train` that networks cannot do without.
NETWORKS_NEED = ("torch", "onnx")


def train(args: argparse.Namespace, checker: Checker) -> int:
    """Train one model, or one for each fold, and say where it is.

    Raises: UsageError, CatalogError, HashbeamError: one line on what is wrong.
    """
    catalog, out = checker.text("--catalog"), checker.text("--out")
    seed = checker.integer("--seed", low=0, high=2**31 - 1)
    for flag in ("--noise", "--rooms", "--window", "--queries"):
        if getattr(args, flag[2:]):
            checker.problems.append(f"{flag}: is not for artist")
    system, settings = _settings(args, checker, seed)
    threads = checker.integer("--threads", low=1, high=1024)
    dealt = checker.integer("--folds", low=2, high=MOST_FOLDS) if args.folds else 0
    if args.folds and args.fold_by:
        checker.problems.append("--folds: leave it out, or --fold-by")
    checker.finish()
    paths = [catalog, *(args.more or [])]
    tables = [read_catalog(path) for path in paths]
    labels = read_labels(tables[0], catalog, args.labels or "", args.same)
    together = [name for name in (args.same, *(args.group or ())) if name]
    if missing := [name for name in together if name not in tables[0].column_names]:
        raise UsageError(f"{catalog} has no column {', '.join(missing)} to group by")
    others = [
        _more_labels(*more, labels.column) for more in zip(tables[1:], paths[1:], strict=True)
    ]
    listings = [
        listing_of(table, who, labels.column, together, first=not number)
        for number, (table, who) in enumerate(zip(tables, [labels, *others], strict=True))
    ]
    work = Path(args.work or f"{out}.work")
    for line in cleaning(labels):
        log(line)
    folds = None
    if dealt:
        folds = deal(listings[0], dealt, seed)
    elif args.fold_by:
        folds = read_folds(tables[0], catalog, args.fold_by)
    if folds:
        check(catalog, args.fold_by or f"--folds {dealt}", labels, folds)
    command = _command(args, paths, labels.column, seed)
    if system == SYSTEMS[0]:
        way = _statistics(listings, labels, settings, command)
    else:
        require(NETWORKS_NEED)
        way = _network(listings, labels, settings, args.segments or "9s", threads, command)
    if not folds:
        model = way.whole(Path(out), work, log)
        told = way.told(model.config["figures"])
        print(f"model {model.path} with digest {model.digest[:16]}: {told}")
        return 0
    models = way.by_fold(folds, Path(out), work, log)
    write_folds(out, tables[0]["track_id"].to_pylist(), folds)
    print(
        f"{len(models)} models, each without its fold: hashbeam evaluate artists "
        f"{shlex.join(['--catalog', catalog, '--model', str(Path(out, FOLD))])} --out FIGURES"
    )
    return 0


def log(line: str) -> None:
    """What is told on the way."""
    print(line, flush=True)


def _settings(args: argparse.Namespace, checker: Checker, seed: int) -> tuple[str, dict[str, Any]]:
    """The system, and what was asked of it: fields of `ArtistTraining` or `ArtistRecipe`."""
    system = args.system or SYSTEMS[0]
    statistics = system == SYSTEMS[0]
    if system not in SYSTEMS:
        checker.problems.append(f"--system: must be one of {', '.join(SYSTEMS)}")
    if args.segments not in (None, *LENGTHS):
        checker.problems.append(f"--segments: must be one of {', '.join(LENGTHS)}")
    if wrong := sorted(set(args.tags or ()) - set(TAGS)):
        checker.problems.append(f"--tags: {', '.join(wrong)} is none of {', '.join(TAGS)}")
    settings: dict[str, Any] = {"seed": seed} if statistics else {"seed": seed, "system": system}
    for flag, name, low, high in STATISTICS_FLAGS if statistics else NETWORK_FLAGS:
        if checker.given(flag):
            settings[name] = checker.integer(flag, low=low, high=high)
    if checker.given("--same-tag"):
        settings["probability"] = checker.number("--same-tag", low=0.0, high=1.0)
    if args.tags:
        settings["tags"] = tuple(args.tags)
    only = ("--steps", "--segments", "--batch-artists", "--same-tag", "--tags")
    for flag in only if statistics else ("--map-steps",):
        if checker.given(flag):
            other = "networks; name one with --system" if statistics else f"--system {SYSTEMS[0]}"
            checker.problems.append(f"{flag}: is for {other}")
    for flag in ("--same-tag", "--tags") if system != "metric" else ():
        if checker.given(flag) and not statistics:
            checker.problems.append(f"{flag}: is for --system metric")
    if system == "classifier" and checker.given("--components"):
        checker.problems.append("--components: a classifier always has 256")
    return system, settings


@dataclasses.dataclass(frozen=True)
class _Way:
    """How a recipe is followed.

    Attributes:
        whole: trains one model, into a folder.
        by_fold: trains one for each fold, given that of each track.
        told: what the figures of the one model say.
    """

    whole: Callable[[Path, Path, Callable[[str], None]], Model]
    by_fold: Callable[[Sequence[str], Path, Path, Callable[[str], None]], Mapping[str, Model]]
    told: Callable[[Mapping[str, float]], str]


def _statistics(
    listings: Sequence[Listing], labels: Labels, settings: Mapping[str, Any], command: str
) -> _Way:
    from hashing.training.artists.recipe import ArtistRecipe, train_artist, train_folds

    recipe = ArtistRecipe(
        listings,
        labels.column,
        labels.report,
        workers=len(os.sched_getaffinity(0)),
        command=command,
        **settings,
    )
    return _Way(
        functools.partial(train_artist, recipe),
        functools.partial(train_folds, recipe),
        lambda figures: (
            f"ARI {figures['ari']:.3f} on artists that it has not heard, "
            f"{figures['ari_mfcc']:.3f} by MFCC"
        ),
    )


def _network(
    listings: Sequence[Listing],
    labels: Labels,
    settings: Mapping[str, Any],
    segments: str,
    threads: int,
    command: str,
) -> _Way:
    from hashing.training.artists.network_recipe import (
        NetworkRecipe,
        train_network,
        train_network_folds,
    )
    from hashing.training.artists.training import ArtistTraining

    recipe = NetworkRecipe(
        listings,
        ArtistTraining(**settings),
        segments,
        labels.column,
        labels.report,
        threads,
        command,
    )
    return _Way(
        functools.partial(train_network, recipe),
        functools.partial(train_network_folds, recipe),
        lambda figures: (
            f"equal error rate {figures['eer']:.3f} on the artists that it was stopped by"
        ),
    )


def _more_labels(table: pa.Table, path: str, column: str) -> Labels | None:
    """The artists of another catalogue; None where nobody knows them: its tracks are only heard."""
    try:
        return read_labels(table, path, column if column in table.column_names else "")
    except CatalogError:
        return None


def listing_of(
    table: pa.Table,
    labels: Labels | None,
    column: str,
    together: Sequence[str],
    *,
    first: bool = True,
) -> Listing:
    """A catalogue as training takes it.

    Args:
        labels: of its artists; without, its tracks are only heard.
        column: that the labels are from; any other than id and name is kin by itself.
        together: columns whose equal values must not be parted.
        first: the catalogue whose artists are told apart.
    """
    from hashing.training.artists.folds import Listing

    ids, names = texts_of(table, "artist_id"), texts_of(table, "artist_name")
    # Numbers of artists mean nothing outside of their catalogue, unless there are no names.
    if not first and any(names):
        ids = [()] * len(ids)
    named = named_artists(ids, names)
    columns = [name for name in (*together, column, "uri") if name not in COLUMNS]
    shared = [
        frozenset(
            f"{name} {'; '.join(texts)}"
            for name, texts in zip(columns, of_row, strict=True)
            if texts
        )
        for of_row in zip(*(texts_of(table, name) for name in columns), strict=True)
    ]
    kin = [one | other for one, other in zip(named, shared, strict=True)]
    # A guest's name is not the artist's own.
    own = [
        other if sum(who.startswith("name ") for who in one) > 1 else one | other
        for one, other in zip(named, shared, strict=True)
    ]
    tags = {name: ["; ".join(texts) for texts in texts_of(table, name)] for name in TAG_COLUMNS}
    rows = [
        {**row, **{name: values[place] for name, values in tags.items()}}
        for place, row in enumerate(table.select(["track_id", "uri"]).to_pylist())
    ]
    artist = [""] * len(rows) if labels is None else labels.artist
    known = sorted(set(artist) - {""})
    number = {one: place for place, one in enumerate(known)}
    places = [row for row, one in enumerate(artist) if one]
    genres = main_genres(table, places, [number[artist[row]] for row in places])
    return Listing(rows, artist, kin, own, dict(zip(known, genres, strict=True)))


def deal(listing: Listing, folds: int, seed: int) -> list[str]:
    """The fold of each row, by chance; the same seed gives the same ones."""
    from hashing.training.artists.folds import deal_artists
    from hashing.training.artists.music import LEAST_TRACKS

    return deal_artists(listing, folds, LEAST_TRACKS, np.random.default_rng([seed, 0xF0]))


def check(source: str, what: str, labels: Labels, folds: Sequence[str]) -> None:
    """Folds of which models can be made, and names to judge them; raises CatalogError where not."""
    from hashing.training.artists.music import LEAST_TRACKS

    counts = {one: labels.artist.count(one) for one in set(labels.artist)}
    rows = [row for row, one in enumerate(labels.artist) if one and counts[one] >= LEAST_TRACKS]
    check_folds(source, what, labels, folds, rows)
    for fold in sorted(set(folds)):
        if (fold and not fold.strip(".")) or any(sign in fold for sign in "/\\\0"):
            raise UsageError(f"{source}: {fold!r} of {what} cannot be the name of a folder")


def cleaning(labels: Labels) -> list[str]:
    """What was left out of the labels, in a line for each reason.

    >>> report = {"tracks_copy": 2, "tracks_placeholder": 0, "names_of_several_ids": ["owls"]}
    >>> cleaning(Labels("artist_id", [], {}, report))
    ['2 tracks without a label: copy', 'not learned from: names of several ids: owls']
    """
    lines = []
    for name, value in labels.report.items():
        told = name.replace("tracks_", "").replace("_", " ")
        if isinstance(value, list) and value:
            lines.append(f"not learned from: {told}: {', '.join(value)}")
        elif isinstance(value, int) and value and name != "tracks_without_label":
            lines.append(f"{value} tracks without a label: {told}")
    return lines


def _command(args: argparse.Namespace, paths: Sequence[str], column: str, seed: int) -> str:
    """The command for the model card; names of files and not where they were on one machine."""
    shown = [short_path(path) for path in paths]
    command: list[Any] = ["hashbeam", "train", "artist", "--catalog", shown[0]]
    command += ["--more", *shown[1:]] if shown[1:] else []
    command += ["--labels", column]
    for flag in (
        "system",
        "segments",
        "components",
        "map_steps",
        "steps",
        "batch_artists",
        "same_tag",
    ):
        if (value := getattr(args, flag)) is not None:
            command += [f"--{flag.replace('_', '-')}", value]
    command += ["--tags", *args.tags] if args.tags else []
    command += ["--seed", seed]
    command += ["--same", args.same] if args.same else []
    command += ["--group", *args.group] if args.group else []
    command += ["--folds", args.folds] if args.folds else []
    command += ["--fold-by", Path(args.fold_by).name] if args.fold_by else []
    return shlex.join(map(str, command))
