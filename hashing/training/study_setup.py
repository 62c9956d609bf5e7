"""What the study of forgiving hash stands on: its settings, its songs, its databases.

See `hashing.training.study_run`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.binary import random_projection
from hashing.conditions import Surroundings
from hashing.features import BALUJA_COVELL, FeatureConfig
from hashing.minhash import MinHash
from hashing.training import study_beyond, study_paper
from hashing.training.corpus import Corpus
from hashing.training.study import Front, StudyTraining
from hashing.training.study_music import (
    Database,
    Degrade,
    View,
    excerpts,
    one_of_each,
    songs_to_learn,
    whole_songs,
)

Floats = npt.NDArray[np.float32]

# Unheard songs over which the variance that the front keeps is measured: 4,000 snippets.
SONGS_FOR_VARIANCE = 20


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """What the study measures, and on how much.

    Attributes:
      training: of the main ensembles.
      components: of the front.
      excerpts: of ten snippets, in the small database; the paper: 3,800.
      snippets: of a song, in the large one; the paper: 200, of 6,500 songs.
      queries: single snippets that are looked up.
      starts: queries of each song and length.
      ablation_networks: of the ensembles that are compared beside the main ones.
      rate_networks: of those with other learning rates.
      rates: those learning rates.
      n_tables, key_bits: the grid.
    """

    training: StudyTraining
    components: int = 384  # 99.6 % of the variance of the snippets learned, 99.4 % of others
    excerpts: int = 3800
    snippets: int = 200
    queries: int = 4000
    starts: int = 10
    ablation_networks: int = 20
    rate_networks: int = 4
    rates: tuple[float, ...] = (1e-6, 1e-5, 5e-5, 2.5e-4, 1e-3)
    n_tables: tuple[int, ...] = study_paper.TABLES
    key_bits: tuple[int, ...] = study_paper.KEY_BITS

    @property
    def reference(self) -> tuple[int, int]:
        """Tables and bits of the setting that most is reported about, or the most that fit.

        >>> StudySettings(StudyTraining()).reference
        (18, 22)
        """
        bits = len(self.training.hidden) * self.training.outputs
        tables, key_bits = study_paper.REFERENCE
        return min(tables, bits), min(key_bits, bits)


@dataclasses.dataclass(frozen=True)
class Source:
    """The music of a study, and where it may write.

    Attributes:
      music: the tracks.
      learned, checking, unheard: numbers of those to learn, of those that settings are chosen by,
        and of those to look up.
      recordings: a name for each track, equal for tracks that are one recording.
      surroundings: noise and rooms.
      work: a folder for checkpoints.
      log: takes a line of progress.
      threads: of torch.
      features: what a snippet is.
    """

    music: Corpus
    learned: Sequence[int]
    checking: Sequence[int]
    unheard: Sequence[int]
    recordings: Sequence[str]
    surroundings: Surroundings
    work: Path
    log: Callable[[str], None]
    threads: int = 1
    features: FeatureConfig = BALUJA_COVELL

    @property
    def places_a_second(self) -> float:
        """Snippets a second."""
        return 1.0 / self.features.snippet_hop_s

    @property
    def disjoint(self) -> int:
        """Hops after which two snippets share no sample."""
        hop = self.features.snippet_hop * self.features.hop_length
        return math.ceil(self.features.snippet_samples / hop)


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything that is measured on, cut and projected.

    Attributes:
      tracks: to learn, one for each recording, in random order.
      songs: [songs, snippets, components] of those that are learned.
      front: the projection.
      kept_unheard: share of the variance of unheard snippets that it keeps.
      projections: bits of the view ``random projections``.
      views: what is kept of a snippet, by name.
      checking: a database of excerpts of ten snippets of the tracks that settings are chosen by;
        the view ``front`` only.
      small: the same of those to look up.
      large: a database of whole songs, in random order; all views.
    """

    tracks: list[int]
    songs: Floats
    front: Front
    kept_unheard: float
    projections: int
    views: dict[str, View]
    checking: Database
    small: Database
    large: Database

    @property
    def snippets(self) -> Floats:
        """All snippets that are learned, [n, components]."""
        return self.songs.reshape(-1, self.songs.shape[2])


def generator(settings: StudySettings, stage: int) -> np.random.Generator:
    """Random numbers for one stage of the study."""
    return np.random.default_rng([settings.training.seed, 100 + stage])


def prepare(source: Source, settings: StudySettings) -> Material:
    """Cut the songs and build the databases."""
    features = source.features
    count = 1 << settings.training.outputs
    tracks = one_of_each(source.learned, source.recordings, generator(settings, 0))
    unheard = one_of_each(source.unheard, source.recordings, generator(settings, 1))
    checking = one_of_each(source.checking, source.recordings, generator(settings, 5))
    source.log(
        f"{count} songs to learn of {len(tracks)}, {len(checking)} to choose settings by, "
        f"{len(unheard)} unheard"
    )
    cells = songs_to_learn(source.music, tracks, count, features, generator(settings, 2))
    flat = cells.reshape(-1, cells.shape[2])
    front = Front.fit(flat, settings.components)
    projections = settings.reference[0] * max(study_paper.PROJECTION_KEY_BITS)
    projection = random_projection(flat, projections, settings.training.seed)
    minhash = MinHash.draw(features, settings.training.seed)
    views: dict[str, View] = {
        "front": front.project,
        "random projections": projection.encode,
        "min-hash": lambda snippets: minhash.encode(minhash.responses(snippets)),
    }
    rng = generator(settings, 3)
    only_front = {"front": front.project}
    small = excerpts(source.music, unheard, settings.excerpts, features, only_front, rng)
    chosen_by = excerpts(
        source.music, checking, settings.excerpts, features, only_front, generator(settings, 6)
    )
    large = songs(source, settings, unheard, views)
    some = songs(source, settings, unheard[:SONGS_FOR_VARIANCE], {"cells": lambda cut: cut})
    source.log(
        f"databases: {small.songs} excerpts, {len(small)} snippets; "
        f"{large.songs} songs, {len(large)} snippets"
    )
    return Material(
        tracks,
        front.project(flat).reshape(*cells.shape[:2], -1),
        front,
        front.share(some.views["cells"]),
        projections,
        views,
        chosen_by,
        small,
        study_beyond.in_random_order(large, generator(settings, 4)),
    )


def songs(
    source: Source,
    settings: StudySettings,
    tracks: Sequence[int],
    views: dict[str, View],
    degrade: Degrade | None = None,
) -> Database:
    """The database of whole songs of some tracks, or the same music degraded."""
    return whole_songs(source.music, tracks, settings.snippets, source.features, views, degrade)


def songs_of_each(source: Source, material: Material, networks: int, seed: int) -> Floats:
    """Songs of its own for each network: recordings drawn anew, at other places.

    Returns:
      [networks · songs, snippets, components]; the first songs are the first network's.
    """
    parts = []
    for network in range(networks):
        rng = np.random.default_rng([seed, 20, network])
        tracks = rng.permutation(material.tracks).tolist()
        cells = songs_to_learn(source.music, tracks, len(material.songs), source.features, rng)
        flat = cells.reshape(-1, cells.shape[2])
        parts.append(material.front.project(flat).reshape(*cells.shape[:2], -1))
    return np.concatenate(parts)


def facts(source: Source, material: Material, settings: StudySettings) -> dict[str, Any]:
    """What was measured on, for the report: units in the names."""
    training = settings.training
    return {
        "songs_learned": material.songs.shape[0],
        "recordings_to_learn": len(material.tracks),
        "snippets_of_a_song": material.songs.shape[1],
        "networks": len(training.hidden),
        "outputs": training.outputs,
        "bits": len(training.hidden) * training.outputs,
        "epochs": training.epochs,
        "rounds": training.rounds,
        "epochs_a_round": training.epochs_a_round,
        "learning_rate": training.learning_rate,
        "batch": training.batch,
        "seed": training.seed,
        "components": material.front.axes.shape[1],
        "variance_kept": material.front.kept,
        "variance_kept_unheard": material.kept_unheard,
        "reference": list(settings.reference),
        "checking": _size(material.checking),
        "small": _size(material.small),
        "large": _size(material.large),
        "unheard_tracks": [
            source.music.track_ids[track] for track in sorted(material.large.tracks)
        ],
        "queries": settings.queries,
        "disjoint_hops": source.disjoint,
        "hop_s": round(source.features.snippet_hop_s, 4),
        "ambiences": len(source.surroundings.ambiences),
        "rooms": len(source.surroundings.rooms),
    }


def _size(database: Database) -> dict[str, int]:
    recordings = len(set(database.tracks))
    return {"songs": database.songs, "snippets": len(database), "recordings": recordings}
