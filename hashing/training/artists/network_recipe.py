"""From catalogues of music to an artist model that is a network: what `hashbeam train artist` runs.

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
import torch

from hashing.artists.encoder import KIND
from hashing.artists.features import ArtistFeatures
from hashing.artists.mel_segments import LENGTHS, N_SEGMENTS
from hashing.errors import HashbeamError
from hashing.models import Model, save_model
from hashing.training.artists import training as artist_training
from hashing.training.artists.export import artist_graph
from hashing.training.artists.groups import Groups
from hashing.training.artists.segments import ArtistMusic, SetRules, load_music, training_set
from hashing.training.artists.training import ArtistTraining, TrainedArtists, embed_tracks
from hashing.training.cards import artist_network_card

# Of the artists, those that are not learned from, and how few there may be: fewer make no names.
CHOOSING_SHARE, LEAST_CHOOSING = 0.1, 4

# Artists to learn from, at least: a batch needs negatives.
LEAST_ARTISTS = 4

# Names that the cut is tuned on.
NAMES = 200


@dataclasses.dataclass(frozen=True)
class NetworkRecipe:
    """What a training run is made of.

    Attributes:
      catalogues: rows with ``track_id``, a local ``uri``, the column `labels`, and tags where there
        are any. An artist of one catalogue is another than one of that name in the next.
      training: of the network.
      segments: what it hears, a key of `LENGTHS`.
      labels: column of the artist; rows without one are not heard.
      threads: of the network.
      command: how the run was started, for the model card.
    """

    catalogues: Sequence[Sequence[Mapping[str, str]]]
    training: ArtistTraining
    segments: str = "9s"
    labels: str = "artist_name"
    threads: int = 1
    command: str = ""


def train_artist_network(
    recipe: NetworkRecipe, out: Path, work: Path, log: Callable[[str], None]
) -> Model:
    """Hear, train, tune the cut and write; spectrograms and checkpoints are kept in `work`.

    Raises:
      HashbeamError: too few artists, no track that can be decoded, or all embeddings became one.
    """
    started = time.time()
    torch.set_num_threads(recipe.threads)
    config = LENGTHS[recipe.segments]
    music = load_music(_together(recipe), work / "levels", config, recipe.labels)
    learning, choosing = _split(len(music.names), recipe.training.seed)
    if len(learning) < LEAST_ARTISTS:
        raise HashbeamError(
            f"{len(music.names)} artists are too few to train a network: "
            f"{LEAST_ARTISTS + LEAST_CHOOSING} are needed; name another column with --labels, "
            "or add music"
        )
    chosen = training_set(music, learning, SetRules(), recipe.training.seed)
    log(f"{len(music)} tracks of {len(music.names)} artists, {len(choosing)} of them to choose by")
    trained = artist_training.train(music, chosen, choosing, recipe.training, work, log)
    if trained.collapsed:
        raise HashbeamError(
            "all embeddings have become one: put more artists in a batch (--batch-artists), or "
            "train with another --seed"
        )
    cut, figures = _tune(trained, music, choosing, recipe.training)
    features = ArtistFeatures(
        segment_s=config.snippet_samples / config.sample_rate, n_segments=N_SEGMENTS
    )
    story: dict[str, Any] = {
        "command": recipe.command,
        "settings": dataclasses.asdict(recipe.training),
        "seed": recipe.training.seed,
        "tracks": len(music),
        "trained_on": sorted(music.track_ids),
        "artists_trained": len(learning),
        "artists_held_out": [music.names[artist] for artist in choosing],
        "labels": recipe.labels,
        "history": trained.history,
        "ended": trained.ended,
        "torch": torch.__version__,
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


def _together(recipe: NetworkRecipe) -> list[dict[str, str]]:
    """Rows of all catalogues; where there are several, ids and artists carry its number."""
    if len(recipe.catalogues) == 1:
        return [dict(row) for row in recipe.catalogues[0]]
    rows = []
    for number, catalogue in enumerate(recipe.catalogues):
        for row in catalogue:
            artist = row.get(recipe.labels, "")
            own = {"track_id": f"{number}/{row['track_id']}"}
            rows.append({**row, **own, recipe.labels: artist and f"{number}/{artist}"})
    return rows


def _split(artists: int, seed: int) -> tuple[list[int], list[int]]:
    """Artists to learn from, and to choose by.

    >>> [len(part) for part in _split(100, 1)], [len(part) for part in _split(10, 1)]
    ([90, 10], [6, 4])
    """
    order = np.random.default_rng([seed, 7]).permutation(artists).tolist()
    few = max(LEAST_CHOOSING, round(CHOOSING_SHARE * artists))
    return sorted(order[few:]), sorted(order[:few])


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
