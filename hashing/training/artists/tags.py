"""What is known of tracks beside who made them: genre, mood, and when they came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["genre", "mood", "date"]
Flags = npt.NDArray[np.bool_]

# Two tracks are of one time when they came out within so many years.
YEARS_APART = 3


@dataclasses.dataclass(frozen=True)
class Tags:
    """Tags of tracks.

    Attributes:
      genres: of each track, bool [tracks, genres]; a track may have several or none.
      moods: number of each track's mood, [tracks]; -1 where none is known.
      years: of release, [tracks]; NaN where none is known.
    """

    genres: Flags
    moods: npt.NDArray[np.int64]
    years: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]]) -> Tags:
        """Of the rows of a catalogue: ``genres`` (with ";" between), ``mood``, ``release_date``.

        Columns that are missing or empty are tags that nobody knows. Of a date, what stands before
        the first "-" is the year.

        >>> tags = Tags.of([{"genres": "rock; pop", "release_date": "1999-12-01"}, {}])
        >>> tags.genres.tolist(), tags.moods.tolist(), tags.years.tolist()
        ([[True, True], [False, False]], [-1, -1], [1999.0, nan])
        """
        genres = [
            {name for part in row.get("genres", "").split(";") if (name := part.strip())}
            for row in rows
        ]
        names = sorted(set().union(*genres))
        moods = [row.get("mood", "").strip() for row in rows]
        number = {mood: i for i, mood in enumerate(sorted(set(moods) - {""}))}
        years = [row.get("release_date", "").split("-")[0].strip() for row in rows]
        return cls(
            np.array([[name in own for name in names] for own in genres], dtype=bool),
            np.array([number.get(mood, -1) for mood in moods], dtype=np.int64),
            np.array([float(y) if y.isdecimal() else np.nan for y in years], dtype=np.float64),
        )

    def alike(self, kind: Kind, tracks: npt.NDArray[np.int64]) -> Flags:
        """Which of some tracks share a tag of this kind, bool [n, n]; none with an unknown one.

        >>> Tags.of([{"mood": "sad"}, {"mood": "sad"}, {}]).alike("mood", np.arange(3)).tolist()
        [[True, True, False], [True, True, False], [False, False, False]]
        """
        if kind == "genre":
            own = self.genres[tracks].astype(np.float32)
            return np.asarray(own @ own.T > 0)
        if kind == "mood":
            moods = self.moods[tracks]
            return np.asarray((moods[:, None] == moods) & (moods >= 0))
        years = self.years[tracks]
        # NaN is near nothing.
        return np.asarray(np.abs(years[:, None] - years) <= YEARS_APART)
