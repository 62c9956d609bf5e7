"""Little music and a small hasher, so that training takes a second."""

from __future__ import annotations

import numpy as np

from hashing.conditions import Surroundings
from hashing.features import FeatureConfig
from hashing.synthesis import render_track
from hashing.training.corpus import Corpus
from hashing.training.pool import SnippetPool, build_pool

RATE = 8000

# An eighth of the cells of the shipped hasher's snippets: the linear front is fitted in no time.
FEATURES = FeatureConfig(n_bands=16, snippet_frames=14, snippet_hop=16)


def corpus_of(tracks: list[np.ndarray]) -> Corpus:
    """A corpus in memory."""
    starts = np.concatenate(([0], np.cumsum([track.size for track in tracks])))
    samples = np.concatenate(tracks).astype(np.float16)
    return Corpus(samples, starts, [f"t{i}" for i in range(len(tracks))], RATE)


def music(tracks: int, seconds: float = 6.0, first_seed: int = 0) -> Corpus:
    """Synthetic music."""
    return corpus_of([render_track(first_seed + i, seconds, RATE) for i in range(tracks)])


def small_pool(excerpts: int, seed: int = 1, versions: int = 4, tracks: int = 12) -> SnippetPool:
    """Degraded excerpts of synthetic music."""
    return build_pool(
        music(tracks, first_seed=1000 * seed),
        list(range(tracks)),
        excerpts,
        versions,
        5,
        FEATURES,
        Surroundings(RATE),
        seed,
    )
