"""How good a fit is on artists that it has not met: names made of them, at its own cut."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hashing.artists.cuts import tune_cut
from hashing.artists.homonyms import groups_of
from hashing.clusters.scores import score_clusters
from hashing.clusters.ward import ward
from hashing.training.artists.folds import Flags, deal_artists, hold_out
from hashing.training.artists.music import LEAST_TRACKS, Fitted, Music, fit
from hashing.training.artists.statistics import FitSettings

Floats = npt.NDArray[np.float32]

FEWEST_TESTED = 2  # artists of a fold: a name needs two


def cross_validate(
    music: Music,
    settings: FitSettings,
    folds: int,
    deals: int,
    names: int,
    whole_share: float,
    seed: int,
    log: Callable[[str], None],
) -> dict[str, float]:
    """Figures of fits that have not met the artists that they are judged with; see `summary`.

    Args:
      folds: of artists, dealt out `deals` times.
      names: made-up names that each fold is judged with, and as many that its cut is tuned on.

    Returns:
      `summary`, and ``mapped``, the share of the fits that had artists enough to learn a map, where
      one is asked for.
    """
    cepstra = music.cepstra()
    found: dict[str, list[float]] = defaultdict(list)
    for deal in range(deals):
        rng = np.random.default_rng([seed, 1, deal])
        dealt = deal_artists(music.listings[0], folds, LEAST_TRACKS, rng)
        for fold in range(folds):
            tested = {
                artist
                for artist, one in zip(music.listings[0].artist, dealt, strict=True)
                if one == str(fold)
            }
            kept = hold_out(music.listings, tested)
            drawn = seed_of(seed, deal, fold)
            fitted = fit(music, kept, settings, names, whole_share, drawn)
            for name, values in judge(music, kept, fitted, tested, cepstra, names, drawn).items():
                found[name] += values
            if settings.steps:
                found["mapped"].append(float(not fitted.plain))
            told = f", without a map: {fitted.plain}" if settings.steps and fitted.plain else ""
            mean = np.mean(found["ari"])
            log(f"judged with fold {fold + 1} of deal {deal + 1}: ARI {mean:.3f} so far{told}")
    return summary(found)


def judge(
    music: Music,
    kept: Sequence[Flags],
    fitted: Fitted,
    tested: set[str],
    cepstra: Floats,
    names: int,
    seed: int,
) -> dict[str, list[float]]:
    """Figures of one fit on artists that were held out of it.

    Args:
      kept: rows that it was fitted on, of each catalogue.
      tested: the artists.
      cepstra: `Music.cepstra`, which get the cut that is best for them on the artists of `kept`,
        whatever it tears apart.

    Returns:
      ``ari`` and ``ami`` of each name of several of the artists, ``whole`` of each artist, and the
      same of the cepstra, ``*_mfcc``; nothing where there are too few artists.
    """
    artists = {name: rows for name, rows in music.artists().items() if name in tested}
    if len(artists) < FEWEST_TESTED:
        return {}
    groups = groups_of(artists, names, seed + 1)
    others = groups_of(music.artists(kept[0]), names, seed)
    systems = (
        ("", fitted.embeddings, fitted.cut),
        ("_mfcc", cepstra, tune_cut(cepstra, others)),
    )
    found: dict[str, list[float]] = defaultdict(list)
    for (label, values, cut), group in itertools.product(systems, groups):
        labels = ward(values[group.rows], cut).labels
        if len(group.artists) == 1:
            found[f"whole{label}"].append(float(labels.max() == 1))
        else:
            score = score_clusters(group.truth, labels)
            found[f"ari{label}"].append(score.ari)
            found[f"ami{label}"].append(score.ami)
    return found


def summary(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means of what `judge` found, and ``margin``, the difference in ARI to the cepstra.

    >>> summary({"ari": [0.5, 1.0], "ari_mfcc": [0.25]})
    {'ari': 0.75, 'ari_mfcc': 0.25, 'margin': 0.5}
    """
    figures = {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}
    if "ari" in figures:
        figures["margin"] = round(figures["ari"] - figures["ari_mfcc"], 4)
    return figures


def seed_of(seed: int, *parts: int) -> int:
    """A seed for one part of a run, below 2³¹."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(1)[0] >> 1)
