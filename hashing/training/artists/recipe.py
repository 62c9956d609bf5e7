"""From catalogues of music to an artist model: statistics, projection, cut, and honest figures.

The figures come from cross-validation over artists: nothing that a name is judged with, neither
projection nor cut, has heard the artists behind it.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.artists.encoder import unit
from hashing.artists.features import ArtistFeatures, blocks
from hashing.clusters.scores import score_clusters
from hashing.clusters.ward import ward
from hashing.errors import HashbeamError
from hashing.models import Model
from hashing.training import cards
from hashing.training.artists.groups import draw_sizes
from hashing.training.artists.heard import Heard, hear_catalogue
from hashing.training.artists.statistics import (
    FitSettings,
    TunedCut,
    fit_statistics,
    save_artist_model,
    tune_cut,
)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Artists of fewer tracks say little about what one artist's tracks have in common.
LEAST_TRACKS = 3


@dataclasses.dataclass(frozen=True)
class ArtistRecipe:
    """What a training run is made of.

    Attributes:
      catalogues: rows with ``track_id``, a local ``uri`` and the column `labels`. Each catalogue
        counts as much as any other, however many tracks it has; artists of the first tune the cut.
      labels: column of the artist; rows without one are heard as well.
      components: directions that are kept; see `FitSettings`.
      folds: of artists, for the figures; artists are dealt to them `deals` times.
      names: made-up names that the cut is tuned on, and as many that each fold is judged with.
      whole_share: of artists that a cut must leave whole while it is tuned.
      workers: processes.
      command: how the run was started, for the model card.
    """

    catalogues: Sequence[Sequence[Mapping[str, str]]]
    labels: str = "artist_name"
    components: int = 56
    folds: int = 4
    deals: int = 3
    names: int = 200
    whole_share: float = 0.8
    seed: int = 1
    workers: int = 2
    command: str = ""


def train_artist(recipe: ArtistRecipe, out: Path, work: Path, log: Callable[[str], None]) -> Model:
    """Hear, fit, tune, judge and write; what was heard is kept in `work`.

    Raises:
      HashbeamError: no track can be heard, or the first catalogue has too few artists of
        `LEAST_TRACKS` tracks to be judged with.
    """
    started = time.time()
    features = ArtistFeatures()
    heard = [
        hear_catalogue(rows, features, work, recipe.workers, log) for rows in recipe.catalogues
    ]
    artists = _artists(recipe.catalogues[0], heard[0], recipe.labels)
    if len(artists) < 2 * recipe.folds:
        raise HashbeamError(
            f"{len(artists)} artists of the first catalogue have {LEAST_TRACKS} tracks or more: "
            f"{2 * recipe.folds} are needed to tune and judge a cut; name another column with "
            "--labels, or add music"
        )
    tracks = [track for one in heard for track in one.tracks]
    # Every catalogue weighs the same.
    weights = np.concatenate([np.full(len(one.tracks), 1.0 / len(one.tracks)) for one in heard])
    settings = FitSettings(recipe.components)
    log(f"{len(tracks)} tracks, {len(artists)} artists to tune with")
    figures = judge(tracks, weights, artists, features, settings, recipe, log)
    part = fit_statistics(tracks, features, settings, weights=weights)
    embeddings = unit(np.stack([part.project(track) for track in heard[0].tracks]))
    rng = np.random.default_rng([recipe.seed, 0])
    cut = _tune(embeddings, artists, recipe.names, recipe.whole_share, rng)
    figures["artists"] = float(len(artists))
    rows = recipe.catalogues[0]
    story = {
        "command": recipe.command,
        "seed": recipe.seed,
        "tracks": [len(one.tracks) for one in heard],
        "trained_on": sorted(rows[i]["track_id"] for i in heard[0].rows),
        "artists": len(artists),
        "labels": recipe.labels,
        "fit": dataclasses.asdict(settings),
        "whole_share": recipe.whole_share,
        "deals": recipe.deals,
    }
    card = cards.artist_card(
        recipe.command, features, story, figures, cut.cut, time.time() - started
    )
    config = {"training": story, "figures": figures}
    return save_artist_model(out, part, cut.cut, config, card)


def judge(
    tracks: Sequence[Floats],
    weights: npt.NDArray[np.float64],
    artists: Mapping[str, Ints],
    features: ArtistFeatures,
    settings: FitSettings,
    recipe: ArtistRecipe,
    log: Callable[[str], None],
) -> dict[str, float]:
    """Means over made-up names of artists that were left out of fit and cut.

    Returns:
      ``ari`` and ``ami``; ``whole``, the share of artists that stay one cluster; the same of MFCC
      means and deviations, ``*_mfcc``, on the same names; ``margin``, the difference in ARI.
    """
    plain = unit(_cepstra(tracks, features))
    found: dict[str, list[float]] = {}
    for deal, fold in itertools.product(range(recipe.deals), range(recipe.folds)):
        order = np.random.default_rng([recipe.seed, 1, deal]).permutation(sorted(artists))
        tested = {name: artists[name] for name in order[fold :: recipe.folds]}
        others = {name: rows for name, rows in artists.items() if name not in tested}
        kept = np.setdiff1d(np.arange(len(tracks)), np.concatenate(list(tested.values())))
        part = fit_statistics([tracks[i] for i in kept], features, settings, weights=weights[kept])
        embeddings = unit(np.stack([part.project(track) for track in tracks]))
        names = draw_names(
            tested, recipe.names, np.random.default_rng([recipe.seed, 2, deal, fold])
        )
        # The plain statistics get the cut that is best for them, whatever it tears apart.
        for label, values, whole in (("", embeddings, recipe.whole_share), ("_mfcc", plain, 0.0)):
            rng = np.random.default_rng([recipe.seed, 3, deal, fold])
            cut = _tune(values, others, recipe.names, whole, rng).cut
            for name in names:
                score = _score(values, name, cut)
                found.setdefault(f"ari{label}", []).append(score.ari)
                found.setdefault(f"ami{label}", []).append(score.ami)
            found.setdefault(f"whole{label}", []).extend(
                float(ward(values[rows], cut).n_clusters == 1) for rows in tested.values()
            )
        log(f"judged with fold {fold + 1} of deal {deal + 1}: ARI {np.mean(found['ari']):.3f}")
    figures = {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}
    figures["margin"] = round(figures["ari"] - figures["ari_mfcc"], 4)
    return figures


def draw_names(artists: Mapping[str, Ints], n: int, rng: np.random.Generator) -> list[list[Ints]]:
    """`n` names that two to four artists share, each as the rows of every artist behind it.

    >>> artists = {name: np.arange(3) + 3 * i for i, name in enumerate("abc")}
    >>> names = draw_names(artists, 5, np.random.default_rng(1))
    >>> {len(name) for name in names} <= {2, 3}
    True
    """
    known = sorted(artists)
    return [
        [artists[name] for name in rng.choice(known, size, replace=False)]
        for size in draw_sizes(n, len(known), rng)
    ]


def _tune(
    embeddings: Floats,
    artists: Mapping[str, Ints],
    names: int,
    whole_share: float,
    rng: np.random.Generator,
) -> TunedCut:
    alone = [[rows] for rows in artists.values()]
    return tune_cut(embeddings, [*draw_names(artists, names, rng), *alone], whole_share)


def _score(embeddings: Floats, name: Sequence[Ints], cut: float) -> Any:
    truth = np.repeat(np.arange(len(name)), [len(rows) for rows in name])
    return score_clusters(truth, ward(embeddings[np.concatenate(name)], cut).labels)


def _cepstra(tracks: Sequence[Floats], features: ArtistFeatures) -> Floats:
    """Means and deviations of MFCC [tracks, F], z-scored: what everything is compared with."""
    places = blocks(features)
    columns = np.concatenate(
        [np.arange(len(tracks[0][0]))[places[name]] for name in ("mfcc mean", "mfcc deviation")]
    )
    means = np.stack([track[:, columns].mean(axis=0) for track in tracks])
    deviation = np.maximum(means.std(axis=0), np.float32(1e-6))
    return np.asarray((means - means.mean(axis=0)) / deviation, dtype=np.float32)


def _artists(rows: Sequence[Mapping[str, str]], heard: Heard, labels: str) -> dict[str, Ints]:
    """Tracks of each artist who has enough of them."""
    of: dict[str, list[int]] = {}
    for place, row in enumerate(heard.rows):
        if name := rows[row].get(labels, "").strip():
            of.setdefault(name, []).append(place)
    return {name: np.array(own) for name, own in of.items() if len(own) >= LEAST_TRACKS}
