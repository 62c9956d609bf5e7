"""What there is to index: tracks, their audio, and what a row of the catalogue weighs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.errors import UsageError
from pipelines.catalog import read_catalog
from pipelines.planning.content import Overhead, rows_overhead

DURATION = "declared_duration_s"  # the column of `hashbeam catalog` that tells a track's length
SAMPLED_ROWS = 4096  # of a catalogue, to weigh a row: what a part of a large catalogue has


@dataclasses.dataclass(frozen=True)
class Workload:
    """How much there is to index.

    Attributes:
        tracks: how many.
        audio_s: seconds of audio of all of them together.
        audio_bytes: bytes of all their files.
        row: what a row of the catalogue takes as Parquet; None where no catalogue was named.
    """

    tracks: int
    audio_s: float
    audio_bytes: float
    row: Overhead | None = None

    @property
    def track_s(self) -> float:
        """Mean length of a track, seconds."""
        return self.audio_s / self.tracks

    def share(self, share: float) -> Workload:
        """A part of the tracks, at least one, of the same mean length.

        >>> Workload(1000, 240_000.0, 4e9).share(0.01)
        Workload(tracks=10, audio_s=2400.0, audio_bytes=40000000.0, row=None)
        """
        tracks = max(1, math.ceil(self.tracks * share - 1e-9))
        part = tracks / self.tracks
        return Workload(tracks, self.audio_s * part, self.audio_bytes * part, self.row)


def of_tracks(tracks: int, minutes: float, bytes_per_s: float) -> Workload:
    """So many tracks of one mean length, in files of so many bytes a second.

    >>> of_tracks(10, 2.0, 16_000.0)
    Workload(tracks=10, audio_s=1200.0, audio_bytes=19200000.0, row=None)
    """
    audio_s = tracks * minutes * 60
    return Workload(tracks, audio_s, audio_s * bytes_per_s)


def of_catalog(path: str, minutes: float | None, bytes_per_s: float) -> Workload:
    """The tracks of a catalogue, as long as its column ``declared_duration_s`` says.

    Tracks of which it says nothing are as long as `minutes`, or as the others on average.

    Raises: CatalogError as `read_catalog`; UsageError where nothing tells how long tracks are.
    """
    catalog = read_catalog(path)
    told = np.zeros(0)
    if DURATION in catalog.column_names:
        told = np.array([_seconds(value) for value in catalog[DURATION].to_pylist()])
        told = told[told > 0]
    if minutes is None and not told.size:
        raise UsageError(
            f"--minutes: is needed, since {path} has no column {DURATION} that tells how long "
            "tracks are"
        )
    others_s = 60 * minutes if minutes is not None else float(told.mean())
    audio_s = float(told.sum()) + (catalog.num_rows - told.size) * others_s
    row = rows_overhead(catalog.slice(0, SAMPLED_ROWS))
    return Workload(catalog.num_rows, audio_s, audio_s * bytes_per_s, row)


def _seconds(value: Any) -> float:
    """A length as a catalogue gives it; 0 for what is none.

    >>> _seconds("181.5"), _seconds("long"), _seconds(None), _seconds(float("inf"))
    (181.5, 0.0, 0.0, 0.0)
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def sample(catalog: pa.Table, n: int) -> list[str]:
    """The uris of `n` tracks, or of all, spread evenly; so are the first of them.

    >>> sample(pa.table({"uri": ["a", "b", "c", "d", "e", "f"]}), 6)
    ['a', 'c', 'e', 'b', 'd', 'f']
    """
    n = min(n, catalog.num_rows)
    rows = np.arange(n) * catalog.num_rows // n
    spread = np.concatenate([rows[::2], rows[1::2]])
    uris: list[str] = catalog["uri"].take(pa.array(spread)).to_pylist()
    return uris
