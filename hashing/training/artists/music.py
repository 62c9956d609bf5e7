"""The music that a model is fitted on, heard, and the fit with some of it left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.artists.cepstra import standardise
from hashing.artists.cuts import tune_cut
from hashing.artists.encoder import Statistics, normal_scores, unit
from hashing.artists.features import ArtistFeatures, blocks
from hashing.artists.homonyms import Group, groups_of
from hashing.errors import HashbeamError
from hashing.training.artists.contrast import LEAST_DRAWN, Catalogue, Tracks, learn_map
from hashing.training.artists.folds import Flags, Listing, deal_artists, hold_out
from hashing.training.artists.heard import Heard, hear_catalogue
from hashing.training.artists.statistics import FitSettings, fit_statistics

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Artists of fewer tracks say little about what one artist's tracks have in common.
LEAST_TRACKS = 3

# Folds of the artists that are learned from: on each the cut is tuned for a map of the others.
INNER_FOLDS = 3


@dataclasses.dataclass(frozen=True)
class Music:
    """Catalogues and what was heard of each; places are numbers of heard tracks of the first."""

    listings: Sequence[Listing]
    heard: Sequence[Heard]
    features: ArtistFeatures

    @classmethod
    def hear(
        cls, listings: Sequence[Listing], work: Path, workers: int, log: Callable[[str], None]
    ) -> Music:
        """Hear all catalogues; what was heard is kept in `work`. Errors: see `hear_catalogue`."""
        features = ArtistFeatures()
        heard = [hear_catalogue(one.rows, features, work, workers, log) for one in listings]
        return cls(listings, heard, features)

    def everything(self) -> list[Flags]:
        """All rows of each catalogue, as `hold_out` has them."""
        return [np.ones(len(one.rows), bool) for one in self.listings]

    def artists(
        self, rows: Flags | None = None, number: int = 0, least: int = LEAST_TRACKS
    ) -> dict[str, Ints]:
        """Places of the tracks of each artist who has `least` of them.

        Args:
          rows: of the catalogue, that count; all unless given.
          number: of the catalogue; the first unless given.
        """
        of: dict[str, list[int]] = {}
        for place, row in enumerate(self.heard[number].rows):
            artist = self.listings[number].artist[row]
            if artist and (rows is None or rows[row]):
                of.setdefault(artist, []).append(place)
        return {name: np.array(own) for name, own in of.items() if len(own) >= least}

    def project(self, statistics: Statistics) -> list[Tracks]:
        """The heard tracks of each catalogue, their segments projected.

        The mean of a track's segments is what `Statistics.project` makes of it; the ranks of all
        tracks at once are a third of the time.
        """
        out = []
        for heard in self.heard:
            scores = normal_scores(np.concatenate(heard.tracks), statistics.quantiles)
            counts = np.array([len(track) for track in heard.tracks])
            out.append(Tracks.of((scores - statistics.mean) @ statistics.projection, counts))
        return out

    def cepstra(self) -> Floats:
        """Means over segments of MFCC means and deviations, [places, F], standardised.

        What everything is compared with; ``hashbeam evaluate artists`` has the same of all frames.
        """
        places, tracks = blocks(self.features), self.heard[0].tracks
        columns = np.r_[places["mfcc mean"], places["mfcc deviation"]]
        return standardise(np.stack([track[:, columns].mean(axis=0) for track in tracks]))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fit: the statistics part of a model, its cut, and embeddings of all places by it.

    Attributes:
      learned: artists of each catalogue that a map was learned from, see `learn_map`; none where
        none was learned.
      plain: why there is no map, "" where there is one.
    """

    statistics: Statistics
    cut: float
    embeddings: Floats
    learned: Sequence[int] = ()
    plain: str = ""


def fit(
    music: Music,
    kept: Sequence[Flags],
    settings: FitSettings,
    names: int,
    whole_share: float,
    seed: int,
) -> Fitted:
    """Fit and tune as if the catalogues had only the rows that are `kept`.

    A map is learned where there are artists enough, and multiplied into the projection. The cut is
    then tuned on folds of the first catalogue's artists, for each with a map that has not met them:
    artists that a map has met are too near each other.

    Args:
      kept: of each catalogue. Each counts as much as any other, however many tracks it has.
      names: made-up names that the cut is tuned on, of artists of the first catalogue.
      whole_share: of these artists that the cut must leave whole.

    Raises:
      HashbeamError: fewer than two artists of `LEAST_TRACKS` tracks are left to tune with.
    """
    artists = music.artists(kept[0])
    if len(artists) < 2:
        raise HashbeamError(
            f"{len(artists)} artists of {LEAST_TRACKS} tracks or more are left to tune a cut with, "
            "2 are needed: add music, or make more folds"
        )
    tracks, weights = list[Floats](), list[float]()
    for flags, heard in zip(kept, music.heard, strict=True):
        own = [track for track, row in zip(heard.tracks, heard.rows, strict=True) if flags[row]]
        tracks += own
        weights += [1.0 / max(len(own), 1)] * len(own)
    statistics = fit_statistics(tracks, music.features, settings, weights=weights)
    projected = music.project(statistics)
    points = projected[0].means()
    learner = _Learner(music, projected, settings.steps, seed)
    folds = list(_inner_folds(music, kept, seed)) if settings.steps else []
    if plain := _why_plain(learner, kept, folds):
        embeddings = unit(points.astype(np.float32))
        cut = tune_cut(embeddings, groups_of(artists, names, seed), whole_share)
        return Fitted(statistics, cut, embeddings, plain=plain)
    # The projection of the inner folds is that of all that is kept: it knows of no artists.
    inner, groups = list[Floats](), list[Group]()
    for number, (left, tested) in enumerate(folds):
        inner.append(unit((points @ learner.learn(left).T).astype(np.float32)))
        for group in groups_of(tested, -(-names // len(folds)), seed):
            groups.append(dataclasses.replace(group, rows=group.rows + number * len(points)))
    cut = tune_cut(np.concatenate(inner), groups, whole_share)
    found = learner.learn(kept)
    projection = (statistics.projection @ found.T).astype(np.float32)
    return Fitted(
        dataclasses.replace(statistics, projection=projection),
        cut,
        unit((points @ found.T).astype(np.float32)),
        [len(one.artists) for one in learner.catalogues(kept)],
    )


@dataclasses.dataclass(frozen=True)
class _Learner:
    """Learns maps of projected tracks from some of the rows."""

    music: Music
    projected: Sequence[Tracks]
    steps: int
    seed: int

    def catalogues(self, kept: Sequence[Flags]) -> list[Catalogue]:
        """Those with artists to tell apart. Tracks have a typical length of 1 over all of them."""
        squares = [
            (tracks.means()[flags[heard.rows]] ** 2).sum(axis=1)
            for tracks, heard, flags in zip(self.projected, self.music.heard, kept, strict=True)
        ]
        length = np.sqrt(np.mean([own.mean() for own in squares if own.size]))
        out = []
        for number, (tracks, flags) in enumerate(zip(self.projected, kept, strict=True)):
            artists = list(self.music.artists(flags, number, LEAST_DRAWN).values())
            if len(artists) > 1:
                # As many as they have themselves: what is left out must not change what is drawn.
                most = tracks.counts[np.concatenate(artists)].max()
                segments = tracks.segments[:, :most] / length
                out.append(Catalogue(Tracks(segments, np.minimum(tracks.counts, most)), artists))
        return out

    def learn(self, kept: Sequence[Flags]) -> Doubles:
        """The map that the rows that are `kept` teach."""
        return learn_map(self.catalogues(kept), self.steps, self.seed)


def _inner_folds(
    music: Music, kept: Sequence[Flags], seed: int
) -> Iterator[tuple[list[Flags], dict[str, Ints]]]:
    """Rows to learn from, and artists with their places to tune on, for each inner fold."""
    left = [_only(listing, flags) for listing, flags in zip(music.listings, kept, strict=True)]
    rng = np.random.default_rng([seed, INNER_FOLDS])
    dealt = deal_artists(left[0], INNER_FOLDS, LEAST_TRACKS, rng)
    artists = music.artists(kept[0])
    for fold in range(INNER_FOLDS):
        tested = {one for one, own in zip(left[0].artist, dealt, strict=True) if own == str(fold)}
        rows = [flags.copy() for flags in kept]
        for flags, inner in zip(rows, hold_out(left, tested), strict=True):
            flags[flags] = inner
        yield rows, {name: places for name, places in artists.items() if name in tested}


def _only(listing: Listing, kept: Flags) -> Listing:
    """A catalogue without the rows that are not kept."""
    left = np.flatnonzero(kept).tolist()
    return dataclasses.replace(
        listing,
        rows=[listing.rows[row] for row in left],
        artist=[listing.artist[row] for row in left],
        kin=[listing.kin[row] for row in left],
        own=[listing.own[row] for row in left],
    )


def _why_plain(
    learner: _Learner,
    kept: Sequence[Flags],
    folds: Sequence[tuple[Sequence[Flags], Mapping[str, Ints]]],
) -> str:
    """Why no map is learned, "" if one is."""
    if not learner.steps:
        return "none was asked for"
    if not learner.catalogues(kept):
        return f"no catalogue has two artists of {LEAST_DRAWN} tracks"
    if any(len(tested) < 2 or not learner.catalogues(left) for left, tested in folds):
        return f"too few artists for {INNER_FOLDS} folds to tune the cut on"
    return ""
