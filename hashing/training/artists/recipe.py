"""From catalogues of music to artist models: projection, map, cut, and honest figures.

One model of all artists, whose figures come from cross-validation; or a model for each fold of
them, which has met neither the fold's tracks nor its artists.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hashing.errors import HashbeamError
from hashing.models import Model
from hashing.training import cards
from hashing.training.artists.folds import Flags, Listing, without_each
from hashing.training.artists.judging import cross_validate, judge, seed_of, summary
from hashing.training.artists.music import LEAST_TRACKS, Fitted, Music, fit
from hashing.training.artists.statistics import FitSettings, save_artist_model


@dataclasses.dataclass(frozen=True)
class ArtistRecipe:
    """What a training run is made of.

    Attributes:
      listings: the catalogues. Each counts as much as any other, however many tracks it has;
        artists of all teach the map, those of the first tune the cut, and rows without an artist
        are heard as well.
      labels: the column that the artists are from, for the model card.
      cleaned: what was left out of the first's labels, and why; see `Labels.report`.
      components: directions that are kept; see `FitSettings`.
      steps: in which the map is learned, 0 for none; see `FitSettings`.
      folds: of artists, for the figures; artists are dealt to them `deals` times.
      names: made-up names that the cut is tuned on, and as many that each fold is judged with.
      whole_share: of artists that a cut must leave whole while it is tuned.
      workers: processes.
      command: how the run was started, for the model card.
    """

    listings: Sequence[Listing]
    labels: str = "artist_name"
    cleaned: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    components: int = 56
    steps: int = 120
    folds: int = 4
    deals: int = 3
    names: int = 200
    whole_share: float = 0.8
    seed: int = 1
    workers: int = 2
    command: str = ""

    def settings(self) -> FitSettings:
        """How the projection is fitted."""
        return FitSettings(self.components, steps=self.steps)


def train_artist(recipe: ArtistRecipe, out: Path, work: Path, log: Callable[[str], None]) -> Model:
    """Hear, fit, tune, judge and write; what was heard is kept in `work`.

    Raises:
      HashbeamError: no track can be heard, or the first catalogue has too few artists of
        `LEAST_TRACKS` tracks to be judged with.
    """
    started = time.time()
    music = _hear(recipe, 2 * recipe.folds, work, log)
    figures = cross_validate(
        music,
        recipe.settings(),
        recipe.folds,
        recipe.deals,
        recipe.names,
        recipe.whole_share,
        recipe.seed,
        log,
    )
    kept = music.everything()
    fitted = _fit(music, kept, recipe)
    log(_told(fitted))
    story = _story(recipe, music, kept, fitted) | {"deals": recipe.deals}
    return _write(out, recipe, fitted, story, figures, time.time() - started)


def train_folds(
    recipe: ArtistRecipe,
    folds: Sequence[str],
    out: Path,
    work: Path,
    log: Callable[[str], None],
) -> dict[str, Model]:
    """A model for each fold, into the folder `out`/fold, each track heard once.

    A fold's model is the one that `train_artist` fits to catalogues without the fold: without its
    rows, the tracks of its artists, and all that is kin to these in any catalogue (`hold_out`). Its
    figures are of names made of the fold's artists.

    Args:
      folds: of each row of the first catalogue, "" for rows that are in none.

    Raises:
      HashbeamError: no track can be heard, or too few artists are left without a fold.
    """
    started = time.time()
    music = _hear(recipe, 4, work, log)
    cepstra = music.cepstra()
    models = {}
    for number, fold in enumerate(without_each(music.listings, folds)):
        fitted = _fit(music, fold.kept, recipe)
        drawn = seed_of(recipe.seed, 2, number)
        found = judge(music, fold.kept, fitted, fold.tested, cepstra, recipe.names, drawn)
        figures = summary(found)
        story = _story(recipe, music, fold.kept, fitted) | {"held_out": fold.held_out}
        models[fold.name] = _write(
            out / fold.name, recipe, fitted, story, figures, time.time() - started
        )
        told = f", ARI {figures['ari']:.3f} on them" if "ari" in figures else ""
        log(f"fold {fold.name}: {len(fold.tested)} artists left out{told}; {_told(fitted)}")
    return models


def _hear(recipe: ArtistRecipe, least: int, work: Path, log: Callable[[str], None]) -> Music:
    music = Music.hear(recipe.listings, work, recipe.workers, log)
    artists = music.artists()
    if len(artists) < least:
        raise HashbeamError(
            f"{len(artists)} artists of the first catalogue have {LEAST_TRACKS} tracks or more: "
            f"{least} are needed to tune and judge a cut; name another column with "
            "--labels, or add music"
        )
    tracks = sum(len(one.tracks) for one in music.heard)
    log(f"{tracks} tracks, {len(artists)} artists to tune with")
    return music


def _fit(music: Music, kept: Sequence[Flags], recipe: ArtistRecipe) -> Fitted:
    seed = seed_of(recipe.seed, 0)
    return fit(music, kept, recipe.settings(), recipe.names, recipe.whole_share, seed)


def _told(fitted: Fitted) -> str:
    if fitted.plain:
        return f"no map is learned: {fitted.plain}"
    return f"a map is learned from {' + '.join(map(str, fitted.learned))} artists"


def _story(
    recipe: ArtistRecipe, music: Music, kept: Sequence[Flags], fitted: Fitted
) -> dict[str, Any]:
    heard = [
        [row for row in one.rows if flags[row]]
        for one, flags in zip(music.heard, kept, strict=True)
    ]
    return {
        "command": recipe.command,
        "seed": recipe.seed,
        "tracks": [len(rows) for rows in heard],
        "trained_on": sorted(music.listings[0].rows[row]["track_id"] for row in heard[0]),
        "artists": len(music.artists(kept[0])),
        "labels": recipe.labels,
        "cleaned": dict(recipe.cleaned),
        "fit": dataclasses.asdict(recipe.settings()),
        "map": {"artists": list(fitted.learned), "none": fitted.plain},
        "whole_share": recipe.whole_share,
    }


def _write(
    out: Path,
    recipe: ArtistRecipe,
    fitted: Fitted,
    story: dict[str, Any],
    figures: dict[str, float],
    seconds: float,
) -> Model:
    features = fitted.statistics.features
    figures = {**figures, "artists": float(story["artists"])}
    card = cards.artist_card(recipe.command, features, story, figures, fitted.cut, seconds)
    config = {"training": story, "figures": figures}
    return save_artist_model(out, fitted.statistics, fitted.cut, config, card)
