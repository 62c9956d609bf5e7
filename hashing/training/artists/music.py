"""The music that a model is fitted on, heard, and the fit with some of it left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.artists.cepstra import standardise
from hashing.artists.cuts import tune_cut
from hashing.artists.encoder import Statistics, normal_scores, unit
from hashing.artists.features import ArtistFeatures, blocks
from hashing.artists.homonyms import groups_of
from hashing.errors import HashbeamError
from hashing.training.artists.folds import Flags, Listing
from hashing.training.artists.heard import Heard, hear_catalogue
from hashing.training.artists.statistics import FitSettings, fit_statistics

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Artists of fewer tracks say little about what one artist's tracks have in common.
LEAST_TRACKS = 3


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

    def artists(self, rows: Flags | None = None) -> dict[str, Ints]:
        """Places of the tracks of each artist who has enough of them.

        Args:
          rows: of the first catalogue, that count; all unless given.
        """
        of: dict[str, list[int]] = {}
        for place, row in enumerate(self.heard[0].rows):
            artist = self.listings[0].artist[row]
            if artist and (rows is None or rows[row]):
                of.setdefault(artist, []).append(place)
        return {name: np.array(own) for name, own in of.items() if len(own) >= LEAST_TRACKS}

    def embed(self, statistics: Statistics) -> Floats:
        """Embeddings of the heard tracks of the first catalogue, [places, d].

        As `Statistics.project` makes them; the ranks of all tracks at once are a third of the time.
        """
        tracks = self.heard[0].tracks
        scores = normal_scores(np.concatenate(tracks), statistics.quantiles)
        ends = np.cumsum([len(track) for track in tracks])[:-1]
        means = np.stack([own.mean(axis=0) for own in np.split(scores, ends)])
        return unit((means - statistics.mean) @ statistics.projection)

    def cepstra(self) -> Floats:
        """Means over segments of MFCC means and deviations, [places, F], standardised.

        What everything is compared with; ``hashbeam evaluate artists`` has the same of all frames.
        """
        places, tracks = blocks(self.features), self.heard[0].tracks
        columns = np.r_[places["mfcc mean"], places["mfcc deviation"]]
        return standardise(np.stack([track[:, columns].mean(axis=0) for track in tracks]))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fit: the statistics part of a model, its cut, and embeddings of all places by it."""

    statistics: Statistics
    cut: float
    embeddings: Floats


def fit(
    music: Music,
    kept: Sequence[Flags],
    settings: FitSettings,
    names: int,
    whole_share: float,
    seed: int,
) -> Fitted:
    """Fit and tune as if the catalogues had only the rows that are `kept`.

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
        weights += [1.0 / len(own)] * len(own)
    statistics = fit_statistics(tracks, music.features, settings, weights=weights)
    embeddings = music.embed(statistics)
    cut = tune_cut(embeddings, groups_of(artists, names, seed), whole_share)
    return Fitted(statistics, cut, embeddings)
