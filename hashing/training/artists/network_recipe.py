"""From catalogues of music to artist models that are networks.

The system of Royo-Letelier et al. (ISMIR 2018), and those that it is compared with. Of the artists
some are not learned from: by them training is stopped, and on names made of them the cut is tuned.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashing.artists.encoder import KIND
from hashing.artists.features import ArtistFeatures
from hashing.artists.mel_segments import LENGTHS, N_SEGMENTS
from hashing.errors import HashbeamError
from hashing.models import Model, save_model
from hashing.training.artists import training as artist_training
from hashing.training.artists.export import artist_graph
from hashing.training.artists.folds import Flags, Listing, without_each
from hashing.training.artists.groups import Groups
from hashing.training.artists.segments import ArtistMusic, SetRules, load_music, training_set
from hashing.training.artists.training import (
    CHOOSING_SHARE,
    ArtistTraining,
    TrainedArtists,
    embed_tracks,
)
from hashing.training.cards import artist_network_card

Ints = npt.NDArray[np.int64]

# Artists that are not learned from, at least: fewer make no names.
LEAST_CHOOSING = 4

# Artists to learn from, at least: a batch needs negatives.
LEAST_ARTISTS = 4

# Names that the cut is tuned on.
NAMES = 200

# The column that rows carry their artist in, on the way to `load_music`.
_ARTIST = "artist"


@dataclasses.dataclass(frozen=True)
class NetworkRecipe:
    """What a training run is made of.

    Attributes:
      listings: the catalogues, rows with ``genres``, ``mood`` and ``release_date`` where they are
        known (`Tags.of`). All artists are learned from; one of a catalogue is another than one of
        that name in the next. Rows without an artist are not heard.
      training: of the network.
      segments: what it hears, a key of `LENGTHS`.
      labels: the column that the artists are from, for the model card.
      cleaned: what was left out of the first's labels, and why; see `Labels.report`.
      threads: of the network.
      command: how the run was started, for the model card.
    """

    listings: Sequence[Listing]
    training: ArtistTraining
    segments: str = "9s"
    labels: str = "artist_name"
    cleaned: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    threads: int = 1
    command: str = ""


def train_network(
    recipe: NetworkRecipe, out: Path, work: Path, log: Callable[[str], None]
) -> Model:
    """Hear, train, tune the cut and write; spectrograms and checkpoints are kept in `work`.

    Raises:
      HashbeamError: too few artists, no track that can be decoded, or all embeddings became one.
    """
    music = _hear(recipe, work)
    return _train(recipe, music, out, work, {}, log)


def train_network_folds(
    recipe: NetworkRecipe,
    folds: Sequence[str],
    out: Path,
    work: Path,
    log: Callable[[str], None],
) -> dict[str, Model]:
    """A network for each fold, into the folder `out`/fold, that has met nothing of it.

    Args:
      folds: of each row of the first catalogue, "" for rows that are in none.

    Raises:
      HashbeamError: as `train_network`.
    """
    music, models = _hear(recipe, work), {}
    for fold in without_each(recipe.listings, folds):
        log(f"fold {fold.name}: {len(fold.tested)} artists are left out")
        left = _only(music, recipe.listings, fold.kept)
        facts = {"held_out": fold.held_out}
        models[fold.name] = _train(recipe, left, out / fold.name, work / fold.name, facts, log)
    return models


def _hear(recipe: NetworkRecipe, work: Path) -> ArtistMusic:
    """All tracks with an artist; ids and artists carry the number of their catalogue."""
    rows = [
        {**row, "track_id": f"{number}/{row['track_id']}", _ARTIST: artist and f"{number}/{artist}"}
        for number, listing in enumerate(recipe.listings)
        for row, artist in zip(listing.rows, listing.artist, strict=True)
    ]
    return load_music(rows, work / "levels", LENGTHS[recipe.segments], _ARTIST)


def _only(music: ArtistMusic, listings: Sequence[Listing], kept: Sequence[Flags]) -> ArtistMusic:
    """The music with nobody known to have made what is not kept."""
    left = {
        f"{number}/{listing.rows[row]['track_id']}"
        for number, (listing, flags) in enumerate(zip(listings, kept, strict=True))
        for row in np.flatnonzero(flags).tolist()
    }
    there = np.array([track in left for track in music.track_ids], bool)
    return dataclasses.replace(music, artists=np.where(there, music.artists, -1))


def _train(
    recipe: NetworkRecipe,
    music: ArtistMusic,
    out: Path,
    work: Path,
    facts: Mapping[str, Any],
    log: Callable[[str], None],
) -> Model:
    started = time.time()
    torch.set_num_threads(recipe.threads)
    known = np.unique(music.artists[music.artists >= 0])
    learning, choosing = _split(known, recipe.training.seed)
    if len(learning) < LEAST_ARTISTS:
        raise HashbeamError(
            f"{len(known)} artists are too few to train a network: "
            f"{LEAST_ARTISTS + LEAST_CHOOSING} are needed; name another column with --labels, "
            "or add music"
        )
    chosen = training_set(music, learning, SetRules(), recipe.training.seed)
    tracks = np.flatnonzero(music.artists >= 0)
    log(f"{len(tracks)} tracks of {len(known)} artists, {len(choosing)} of them to choose by")
    trained = artist_training.train(music, chosen, choosing, recipe.training, work, log)
    if trained.collapsed:
        raise HashbeamError(
            "all embeddings have become one: put more artists in a batch (--batch-artists), or "
            "train with another --seed"
        )
    cut, figures = _tune(trained, music, choosing, recipe.training)
    config = music.config
    features = ArtistFeatures(
        segment_s=config.snippet_samples / config.sample_rate, n_segments=N_SEGMENTS
    )
    story: dict[str, Any] = {
        "command": recipe.command,
        "settings": dataclasses.asdict(recipe.training),
        "seed": recipe.training.seed,
        "tracks": len(tracks),
        "trained_on": sorted(_bare(music.track_ids[track]) for track in tracks),
        "artists_trained": len(learning),
        "artists_chosen_by": sorted(_bare(music.names[artist]) for artist in choosing),
        "labels": recipe.labels,
        "cleaned": dict(recipe.cleaned),
        "history": trained.history,
        "ended": trained.ended,
        "torch": torch.__version__,
        **facts,
    }
    settings = {
        "kind": KIND,
        "features": dataclasses.asdict(features),
        "network": dataclasses.asdict(config),
        "cut": cut,
        "training": story,
        "figures": figures,
    }
    card = artist_network_card(recipe.command, features, story, figures, cut, time.time() - started)
    weight = {"network.weight": np.array([1.0], np.float32)}
    return save_model(out, settings, {"network": artist_graph(trained.network)}, weight, card)


def _split(artists: Ints, seed: int) -> tuple[list[int], list[int]]:
    """Artists to learn from, and to choose by.

    >>> [[len(part) for part in _split(np.arange(n), 1)] for n in (100, 10)]
    [[90, 10], [6, 4]]
    """
    order = np.random.default_rng([seed, 7]).permutation(artists).tolist()
    few = max(LEAST_CHOOSING, round(CHOOSING_SHARE * len(order)))
    return sorted(order[few:]), sorted(order[:few])


def _bare(name: str) -> str:
    """An id or artist without the number of its catalogue.

    >>> _bare("0/a/b")
    'a/b'
    """
    return name.split("/", 1)[1]


def _tune(
    trained: TrainedArtists, music: ArtistMusic, choosing: Sequence[int], settings: ArtistTraining
) -> tuple[float, dict[str, float]]:
    """The cut, and figures on the artists that it was tuned on."""
    tracks = np.flatnonzero(np.isin(music.artists, np.asarray(choosing)))
    embeddings = embed_tracks(trained.network, music, tracks)
    groups = Groups.draw(embeddings, music.artists[tracks], NAMES, settings.seeds(8))
    cut = groups.best_cut()
    found = {"artists": float(len(choosing)), **groups.scores(cut)}
    found["eer"] = min(report["eer"] for report in trained.history)
    return cut, {name: round(value, 4) for name, value in found.items()}
