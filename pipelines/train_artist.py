"""``hashbeam train artist``: models of artists, which stand on other data than the hashers."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
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
from pipelines.options import Checker
from pipelines.train import require

if TYPE_CHECKING:
    from hashing.training.artists.folds import Listing

COMPONENTS = 56
MOST_FOLDS = 1000
SYSTEMS = ("statistics", "metric", "contrastive", "classifier")
TAGS = ("genre", "mood", "date")
TAG_COLUMNS = ("genres", "mood", "release_date")

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
    network, threads = _network(args, checker, seed), checker.integer("--threads", low=1, high=1024)
    components = checker.integer("--components", low=2, high=512) if args.components else COMPONENTS
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
    if network is None:
        models = _train_statistics(
            listings, labels, components, seed, command, folds, Path(out), work
        )
    else:
        require(NETWORKS_NEED)
        segments = args.segments or "9s"
        recipe = (listings, labels, network, segments, threads, command)
        models = _train_network(*recipe, folds, Path(out), work)
    if folds:
        write_folds(out, tables[0]["track_id"].to_pylist(), folds)
        print(
            f"{len(models)} models, each without its fold: hashbeam evaluate artists "
            f"{shlex.join(['--catalog', catalog, '--model', str(Path(out, FOLD))])} --out FIGURES"
        )
    return 0


def log(line: str) -> None:
    """What is told on the way."""
    print(line, flush=True)


def _network(args: argparse.Namespace, checker: Checker, seed: int) -> dict[str, Any] | None:
    """Settings of `ArtistTraining` that were asked for; None for statistics."""
    system = args.system or SYSTEMS[0]
    if system not in SYSTEMS:
        checker.problems.append(f"--system: must be one of {', '.join(SYSTEMS)}")
    if args.segments not in (None, *LENGTHS):
        checker.problems.append(f"--segments: must be one of {', '.join(LENGTHS)}")
    if wrong := sorted(set(args.tags or ()) - set(TAGS)):
        checker.problems.append(f"--tags: {', '.join(wrong)} is none of {', '.join(TAGS)}")
    settings: dict[str, Any] = {"system": system, "seed": seed}
    for flag, name, low, high in (
        ("--steps", "steps", 1, 1 << 31),
        ("--batch-artists", "artists", 2, 4096),
        ("--components", "dimensions", 2, 512),
    ):
        if checker.given(flag):
            settings[name] = checker.integer(flag, low=low, high=high)
    if checker.given("--same-tag"):
        settings["probability"] = checker.number("--same-tag", low=0.0, high=1.0)
    if args.tags:
        settings["tags"] = tuple(args.tags)
    only = ("--steps", "--segments", "--batch-artists", "--same-tag", "--tags")
    for flag in only if system == SYSTEMS[0] else ():
        if checker.given(flag):
            checker.problems.append(f"{flag}: is for networks; name one with --system")
    for flag in ("--same-tag", "--tags") if system != "metric" else ():
        if checker.given(flag) and system != SYSTEMS[0]:
            checker.problems.append(f"{flag}: is for --system metric")
    if system == "classifier" and checker.given("--components"):
        checker.problems.append("--components: a classifier always has 256")
    return None if system == SYSTEMS[0] else settings


def _train_statistics(
    listings: Sequence[Listing],
    labels: Labels,
    components: int,
    seed: int,
    command: str,
    folds: Sequence[str] | None,
    out: Path,
    work: Path,
) -> Mapping[str, Model]:
    from hashing.training.artists.recipe import ArtistRecipe, train_artist, train_folds

    recipe = ArtistRecipe(
        listings,
        labels.column,
        labels.report,
        components,
        seed=seed,
        workers=len(os.sched_getaffinity(0)),
        command=command,
    )
    if folds:
        return train_folds(recipe, folds, out, work, log)
    model = train_artist(recipe, out, work, log)
    figures = model.config["figures"]
    print(
        f"model {model.path} with digest {model.digest[:16]}: ARI {figures['ari']:.3f} on "
        f"artists that it has not heard, {figures['ari_mfcc']:.3f} by MFCC"
    )
    return {"": model}


def _train_network(
    listings: Sequence[Listing],
    labels: Labels,
    settings: Mapping[str, Any],
    segments: str,
    threads: int,
    command: str,
    folds: Sequence[str] | None,
    out: Path,
    work: Path,
) -> Mapping[str, Model]:
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
    if folds:
        return train_network_folds(recipe, folds, out, work, log)
    model = train_network(recipe, out, work, log)
    figures = model.config["figures"]
    print(
        f"model {model.path} with digest {model.digest[:16]}: equal error rate "
        f"{figures['eer']:.3f} on the artists that it was stopped by"
    )
    return {"": model}


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
    # Catalogues mostly have one name: that of their folder tells them apart.
    shown = [str(Path(*Path(path).absolute().parts[-2:])) for path in paths]
    command: list[Any] = ["hashbeam", "train", "artist", "--catalog", shown[0]]
    command += ["--more", *shown[1:]] if shown[1:] else []
    command += ["--labels", column]
    for flag in ("system", "segments", "components", "steps", "batch_artists", "same_tag"):
        if (value := getattr(args, flag)) is not None:
            command += [f"--{flag.replace('_', '-')}", value]
    command += ["--tags", *args.tags] if args.tags else []
    command += ["--seed", seed]
    command += ["--same", args.same] if args.same else []
    command += ["--group", *args.group] if args.group else []
    command += ["--folds", args.folds] if args.folds else []
    command += ["--fold-by", Path(args.fold_by).name] if args.fold_by else []
    return shlex.join(map(str, command))
