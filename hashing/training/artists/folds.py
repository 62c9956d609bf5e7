"""Catalogues as training sees them, folds of their artists, and what a fold takes with it.

A model that is to be judged on some artists must not have met them: neither their tracks, nor
tracks that they share with others, nor copies of theirs, in whichever catalogue.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.homonyms import deal_folds

Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Listing:
    """A catalogue, its labels cleaned.

    Attributes:
      rows: of the tracks, with ``track_id`` and a local ``uri``.
      artist: of each row, "" where nothing certain is known.
      kin: of each row, what it has in common with rows that must not be parted from it: whom it
        names, its recording, its album if that is asked for.
      own: of each row, those of them that are its artist's or its own: not a guest's name. All
        unless given.
      genres: of artists, where they are known.
    """

    rows: Sequence[Mapping[str, str]]
    artist: Sequence[str]
    kin: Sequence[frozenset[str]]
    own: Sequence[frozenset[str]] = ()
    genres: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.own:
            object.__setattr__(self, "own", self.kin)
        if not len(self.rows) == len(self.artist) == len(self.kin) == len(self.own):
            raise ValueError(
                f"{len(self.artist)} artists and {len(self.kin)} sets for {len(self.rows)} rows"
            )


def hold_out(
    listings: Sequence[Listing], artists: Collection[str], rows: Collection[int] = ()
) -> list[Flags]:
    """Which rows of each catalogue may be learned from where `artists` are to be met first later.

    Args:
      listings: the first has the artists.
      artists: who are held out, with all that is kin to a track of theirs.
      rows: of the first catalogue, that are held out as well.

    >>> kin = [frozenset(one) for one in ({"name a"}, {"name a", "name b"}, {"name b"})]
    >>> listing = Listing([{}, {}, {}], ["a", "", "b"], kin)
    >>> [kept.tolist() for kept in hold_out([listing, listing], ["b"])]
    [[True, False, False], [True, False, False]]
    """
    first, gone, taken = listings[0], set(artists), set(rows)
    theirs = set().union(
        *(own for own, artist in zip(first.own, first.artist, strict=True) if artist in gone)
    )
    kept = [np.array([theirs.isdisjoint(kin) for kin in one.kin], bool) for one in listings]
    kept[0] &= np.array(
        [one not in gone and row not in taken for row, one in enumerate(first.artist)], bool
    )
    return kept


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """A fold of the first catalogue that a model is made without.

    Attributes:
      name: of the fold.
      tested: its artists.
      kept: rows of each catalogue that may be learned from; see `hold_out`.
    """

    name: str
    tested: set[str]
    kept: list[Flags]

    @property
    def held_out(self) -> dict[str, Any]:
        """What a model's story says of it: the fold, its artists, and tracks of each catalogue."""
        return {
            "fold": self.name,
            "artists": sorted(self.tested),
            "tracks": [int((~flags).sum()) for flags in self.kept],
        }


def without_each(listings: Sequence[Listing], folds: Sequence[str]) -> Iterator[Fold]:
    """The folds in alphabetical order, each with what is left without it.

    Args:
      folds: of each row of the first catalogue, "" for rows that are in none.

    >>> kin = [frozenset(one) for one in ({"name a"}, {"name b"}, {"name b"})]
    >>> listing = Listing([{}, {}, {}], ["a", "b", ""], kin)
    >>> [(one.held_out, one.kept[0].tolist()) for one in without_each([listing], ["", "x", ""])]
    [({'fold': 'x', 'artists': ['b'], 'tracks': [2]}, [True, False, False])]
    """
    for name in sorted(set(folds) - {""}):
        rows = [row for row, one in enumerate(folds) if one == name]
        tested = {listings[0].artist[row] for row in rows} - {""}
        yield Fold(name, tested, hold_out(listings, tested, rows))


def deal_artists(listing: Listing, folds: int, least: int, rng: np.random.Generator) -> list[str]:
    """The fold of each row, "0" and so on, "" for rows without an artist.

    Artists with tracks that have something of their own in common are dealt together. Folds have
    about as many artists of `least` tracks or more, of whom names are made.

    >>> rows, artist = [{}] * 5, ["a", "b", "c", "d", ""]
    >>> kin = [frozenset(one) for one in ("a", "bx", "cx", "d", "")]
    >>> found = deal_artists(Listing(rows, artist, kin), 2, 1, np.random.default_rng(1))
    >>> found[1] == found[2], sorted(found)
    (True, ['', '0', '0', '1', '1'])
    """
    sets = _kindred(listing)
    tracks = Counter(listing.artist)
    sizes = [sum(tracks[artist] >= least for artist in one) for one in sets]
    # Sets of artists that no name is made of need not stand beside others of their genre.
    genres = [
        listing.genres.get(one[0], "") if len(one) == 1 and size else ""
        for one, size in zip(sets, sizes, strict=True)
    ]
    dealt = deal_folds(genres, folds, rng, sizes)
    fold = {artist: str(number) for one, number in zip(sets, dealt, strict=True) for artist in one}
    return [fold[artist] if artist else "" for artist in listing.artist]


def _kindred(listing: Listing) -> list[list[str]]:
    """Artists in sets that share nothing with each other, all in alphabetical order."""
    who: dict[str, set[str]] = defaultdict(set)
    for artist, own in zip(listing.artist, listing.own, strict=True):
        for one in own if artist else ():
            who[one].add(artist)
    parent = {artist: artist for artist in listing.artist if artist}

    def root(artist: str) -> str:
        while parent[artist] != artist:
            parent[artist] = parent[parent[artist]]
            artist = parent[artist]
        return artist

    for shared in who.values():
        first, *others = sorted(shared)
        for other in others:
            parent[root(other)] = root(first)
    sets: dict[str, list[str]] = defaultdict(list)
    for artist in sorted(parent):
        sets[root(artist)].append(artist)
    return sorted(sets.values())
