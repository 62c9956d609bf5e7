"""The tracks and artists that groups are made of, checked, and dealt into folds and groups."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.artists.homonyms import Group, deal_folds, draw_groups
from hashing.artists.labels import Labels
from hashing.errors import HashbeamError
from pipelines.evaluation.artists.folds import LEAST_OF_A_FOLD
from pipelines.evaluation.artists.identity import Trial, draw_trial
from pipelines.evaluation.artists.labels import album_keys, main_genres
from pipelines.evaluation.artists.options import ArtistOptions

Ints = npt.NDArray[np.int64]

# Artists below which there are no two folds.
LEAST_ARTISTS = 2 * LEAST_OF_A_FOLD


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
            count = min(options.folds, len(everybody) // LEAST_OF_A_FOLD)
            rng = np.random.default_rng([seed, 0xF0])
            fold = deal_folds(material.genres, count, rng)
        groups += draw_groups(material.artist, material.genres, fold, options.groups, seed)
        sets = [everybody[fold == one] for one in np.unique(fold)] if apart else [everybody]
        trials.append([draw_trial(material.artist, members, seed) for members in sets])
    return groups, trials
