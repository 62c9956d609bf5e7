"""Fits the classic part of an artist model: ranks, scales, directions.

Nothing of it needs to know who plays what, but the covariance within artists. Tracks without an
artist's name therefore count as much as others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from hashing.artists.encoder import KIND, SCORE_MAX, Statistics, normal_scores, unit
from hashing.artists.features import ArtistFeatures, blocks
from hashing.models import Model, save_model

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

QUANTILES = 53  # of each statistic: scores 0.1 apart


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """How the projection is fitted.

    The defaults are the best of many tried on 27 artists of game music (names of 2 to 4 of them,
    Ward with a cut tuned on other artists, directions fitted on all tracks): differences of .03 are
    chance. 40 components with power 1 have an ARI of .42, with .5 one of .50, with 0 of .39; with
    20 or 160 components it is some .05 lower. To whiten within tracks or artists as well changes it
    by -.03 to +.01 at a shrinkage of .8, and mostly lowers it with less. The map adds .03, the mean
    of six seeds of `cross_validate` (.00 to .05).

    Attributes:
      components: directions in which tracks differ most that are kept.
      power: a direction of deviation s comes out with deviation s ** power: 1 is plain principal
        components, 0 makes all directions alike, which is to whiten by the total covariance.
      within: ``none``, ``track`` or ``artist``: whose covariance is then whitened.
      shrinkage: of that covariance towards a multiple of one, 0 to 1.
      steps: in which a map is learned that brings tracks of one artist together, see `learn_map`;
        0 for none. It is no part of `fit_statistics`, which knows of no artists.
    """

    components: int = 40
    power: float = 0.4
    within: str = "none"
    shrinkage: float = 0.8
    steps: int = 120

    def __post_init__(self) -> None:
        bounded = 0 <= self.power <= 1 and 0 <= self.shrinkage <= 1
        if self.components < 1 or self.steps < 0 or not bounded:
            raise ValueError(f"{self} has settings out of bounds")
        if self.within not in ("none", "track", "artist"):
            raise ValueError(f"within={self.within!r} is none of none, track, artist")


def fit_statistics(
    tracks: Sequence[Floats],
    features: ArtistFeatures,
    settings: FitSettings | None = None,
    artists: Sequence[Hashable | None] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Statistics:
    """Fit the part of a model that stands on statistics.

    Args:
      tracks: statistics of the segments of each track, [segments, F] each, at least one segment.
      features: the settings that they were made with.
      settings: how to fit.
      artists: of each track, None where unknown; only for ``within="artist"``.
      weights: of each track, above 0; all alike unless given.

    Raises:
      ValueError: fewer than two tracks, tracks without segments, or no artist of two tracks where
        they are asked for.
    """
    settings = settings or FitSettings()
    if len(tracks) < 2 or not all(len(track) for track in tracks):
        raise ValueError(f"{len(tracks)} tracks are too few to fit, or some have no segment")
    share = np.ones(len(tracks)) if weights is None else np.asarray(weights, dtype=np.float64)
    share = share / share.sum()
    counts = np.array([len(track) for track in tracks])
    rows = np.concatenate(tracks)
    quantiles = rank_table(rows)
    scores = normal_scores(rows, quantiles).astype(np.float64)
    means = track_means(scores, counts)
    mean = share @ means
    centred = means - mean
    scale = _block_scale(centred, share, features)
    _, deviations, directions = np.linalg.svd(
        np.sqrt(share)[:, None] * centred * scale, full_matrices=False
    )
    kept = min(settings.components, int((deviations > 1e-6 * deviations[0]).sum()))
    gains = deviations[:kept] ** (settings.power - 1.0)
    projection = scale[:, None] * directions[:kept].T * gains
    if settings.within == "track":
        within = within_covariance((scores - mean) @ projection, np.repeat(share, counts), counts)
        projection = projection @ inverse_root(within, settings.shrinkage)
    elif settings.within == "artist":
        order, sizes = _by_artist(artists or [])
        embedded = unit((centred @ projection).astype(np.float32))[order].astype(np.float64)
        within = within_covariance(embedded, share[order], sizes)
        projection = projection @ inverse_root(within, settings.shrinkage)
    return Statistics(features, quantiles, mean.astype(np.float32), projection.astype(np.float32))


def rank_table(statistics: Floats) -> Floats:
    """Quantiles [QUANTILES, F] of statistics [n, F] at the scores of `normal_scores`.

    >>> rank_table(np.arange(1001, dtype=np.float32)[:, None])[26].tolist()
    [500.0]
    """
    shares = ndtr(np.linspace(-SCORE_MAX, SCORE_MAX, QUANTILES))
    return np.asarray(np.quantile(statistics, shares, axis=0), dtype=np.float32)


def track_means(scores: Doubles, counts: Ints) -> Doubles:
    """Means [tracks, F] of the rows of each track, `counts` rows each, one after another."""
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))
    return np.asarray(np.add.reduceat(scores, first, axis=0) / counts[:, None])


def _block_scale(centred: Doubles, share: Doubles, features: ArtistFeatures) -> Doubles:
    """Factors [F] that give every block of statistics a total variance of one between tracks."""
    variance = share @ centred**2
    scale = np.zeros(len(variance))
    for place in blocks(features).values():
        total = variance[place].sum()
        scale[place] = 1.0 / np.sqrt(total) if total > 1e-12 else 0.0
    return scale


def within_covariance(rows: Doubles, weights: Doubles, counts: Ints) -> Doubles:
    """Mean covariance [d, d] of the rows of each group, `counts` rows each, one after another.

    Groups of one row say nothing. Raises `ValueError` where there are no others.

    >>> rows = np.array([[0.0], [2.0], [7.0], [9.0], [5.0]])
    >>> within_covariance(rows, np.ones(5), np.array([2, 2, 1])).tolist()
    [[2.0]]
    """
    if not (counts > 1).any():
        raise ValueError("no group has two rows: nothing varies within them")
    rest = rows - np.repeat(track_means(rows, counts), counts, axis=0)
    # A group of n rows has n - 1 to tell of.
    degrees = np.repeat((counts - 1) / counts, counts)
    return np.asarray((rest * weights[:, None]).T @ rest / (weights * degrees).sum())


def inverse_root(covariance: Doubles, shrinkage: float) -> Doubles:
    """Inverse square root of a covariance, first made one of mean variance 1 and shrunk to it.

    >>> inverse_root(np.diag([1.0, 3.0]), 0.0).round(3).tolist()
    [[1.414, 0.0], [0.0, 0.816]]
    """
    size = len(covariance)
    mean = max(float(np.trace(covariance)) / size, 1e-30)
    shrunk = (1.0 - shrinkage) * covariance / mean + shrinkage * np.eye(size)
    values, vectors = np.linalg.eigh(shrunk)
    return np.asarray((vectors / np.sqrt(np.maximum(values, 1e-6))) @ vectors.T)


def _by_artist(artists: Sequence[Hashable | None]) -> tuple[Ints, Ints]:
    """Tracks of artists who have two or more, in order of artists, and how many each has."""
    of: dict[Hashable, list[int]] = {}
    for track, artist in enumerate(artists):
        if artist is not None:
            of.setdefault(artist, []).append(track)
    groups = [tracks for tracks in of.values() if len(tracks) > 1]
    if not groups:
        raise ValueError("no artist has two tracks: nothing is known of what varies within one")
    return np.concatenate(groups).astype(np.int64), np.array([len(tracks) for tracks in groups])


def save_artist_model(
    folder: Path,
    statistics: Statistics,
    cut: float,
    config: Mapping[str, Any],
    card: str,
) -> Model:
    """Write the model folder of an artist model whose only part is `statistics`.

    Args:
      folder: where to.
      statistics: the part.
      cut: the tuned Ward distance.
      config: what else ``config.json`` tells: training data, figures.
      card: text of ``README.md``.
    """
    arrays = {
        "statistics.quantiles": statistics.quantiles,
        "statistics.mean": statistics.mean,
        "statistics.projection": statistics.projection,
        "statistics.weight": np.array([1.0], np.float32),
    }
    settings = {
        **config,
        "kind": KIND,
        "features": dataclasses.asdict(statistics.features),
        "cut": float(cut),
    }
    return save_model(folder, settings, {}, arrays, card)
