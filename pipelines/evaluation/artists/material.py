"""The tracks and artists that groups are made of, checked, and dealt into folds and groups."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.errors import CatalogError, HashbeamError
from pipelines.evaluation.artists.groups import Group, deal_folds, draw_groups
from pipelines.evaluation.artists.identity import Trial, draw_trial
from pipelines.evaluation.artists.labels import Labels, album_keys, main_genres
from pipelines.evaluation.artists.options import ArtistOptions

Ints = npt.NDArray[np.int64]

# Artists below which a fold cannot have a group of several, and the whole no two folds.
_LEAST_OF_A_FOLD, LEAST_ARTISTS = 2, 4


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """The tracks that are used, those of the first artist and of all others mixed.

    Attributes:
        track_ids, albums: of each track.
        artist: int64 [tracks], numbers from 0.
        names, genres: of each artist.
        folds: of each artist as the catalogue has them, "" where it has none.
    """

    track_ids: list[str]
    albums: list[str]
    artist: Ints
    names: list[str]
    genres: list[str]
    folds: list[str]


def fold_column(catalog: pa.Table, options: ArtistOptions) -> list[str]:
    if not options.fold_by:
        return [""] * catalog.num_rows
    if options.fold_by not in catalog.column_names:
        raise CatalogError(f"{options.catalog}: no column {options.fold_by!r} (--fold-by)")
    return ["" if one is None else str(one) for one in catalog[options.fold_by].to_pylist()]


def usable(labels: Labels, least: int) -> tuple[list[int], int]:
    """Rows of artists with enough tracks, and how many artists have too few."""
    counts = Counter(labels.artist)
    counts.pop("", None)
    rows = [row for row, one in enumerate(labels.artist) if one and counts[one] >= least]
    return rows, sum(count < least for count in counts.values())


def check_artists(artists: set[str], options: ArtistOptions, labels: Labels) -> None:
    if len(artists) < LEAST_ARTISTS:
        raise HashbeamError(
            f"{options.catalog}: {len(artists)} artists by {labels.column} have "
            f"{options.least_tracks} tracks or more that can be used, {LEAST_ARTISTS} are needed: "
            "name a catalogue of more artists, or lower --least-tracks"
        )


def check_folds(
    options: ArtistOptions, labels: Labels, folds: Sequence[str], rows: Sequence[int]
) -> None:
    if not options.fold_by:
        return
    of_artist: dict[str, set[str]] = defaultdict(set)
    members: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_artist[labels.artist[row]].add(folds[row])
        members[folds[row]].add(labels.artist[row])
    for artist, found in of_artist.items():
        if len(found) > 1 or "" in found:
            what = "in several folds" if len(found) > 1 else "in no fold"
            raise CatalogError(
                f"{options.catalog}: {labels.names[artist]} is {what} of column {options.fold_by}: "
                "an artist must be in one"
            )
    small = [name for name, found in members.items() if len(found) < _LEAST_OF_A_FOLD]
    if len(members) < 2 or small:
        raise CatalogError(
            f"{options.catalog}: column {options.fold_by} must deal the artists into two folds or "
            f"more of {_LEAST_OF_A_FOLD} artists or more"
        )


def enough(artist: Sequence[str], heard: npt.NDArray[np.bool_], least: int) -> Ints:
    """Places of tracks that all systems have, of artists who have enough of them."""
    counts = Counter(one for one, known in zip(artist, heard, strict=True) if known)
    return np.array(
        [place for place, one in enumerate(artist) if heard[place] and counts[one] >= least],
        np.int64,
    )


def make_material(
    catalog: pa.Table, labels: Labels, folds: Sequence[str], rows: Sequence[int]
) -> Material:
    known = sorted({labels.artist[row] for row in rows})
    number = {label: place for place, label in enumerate(known)}
    artist = np.array([number[labels.artist[row]] for row in rows], np.int64)
    fold_of = {labels.artist[row]: folds[row] for row in rows}
    albums, ids = album_keys(catalog), catalog["track_id"].to_pylist()
    return Material(
        [ids[row] for row in rows],
        [albums[row] for row in rows],
        artist,
        [labels.names[label] for label in known],
        main_genres(catalog, rows, artist.tolist()),
        [fold_of[label] for label in known],
    )


def deal(
    material: Material, options: ArtistOptions, *, apart: bool
) -> tuple[list[Group], list[list[Trial]]]:
    """Groups of all seeds, and by seed the trials of who is who: one, or `apart` one a fold."""
    groups: list[Group] = []
    trials: list[list[Trial]] = []
    everybody = np.arange(len(material.names))
    for seed in options.seeds:
        if options.fold_by:
            fold = np.unique(material.folds, return_inverse=True)[1].astype(np.int64)
        else:
            count = min(options.folds, len(everybody) // _LEAST_OF_A_FOLD)
            rng = np.random.default_rng([seed, 0xF0])
            fold = deal_folds(material.genres, count, rng)
        groups += draw_groups(material.artist, material.genres, fold, options.groups, seed)
        sets = [everybody[fold == one] for one in np.unique(fold)] if apart else [everybody]
        trials.append([draw_trial(material.artist, members, seed) for members in sets])
    return groups, trials
