"""Artists as points: embeddings whose distances a test decides, and names made up of them."""

from __future__ import annotations

import numpy as np

from hashing.artists.homonyms import Group, deal_folds, draw_groups


def music(artists: int, tracks: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around each artist's own point, and the artist of each track."""
    rng = np.random.default_rng(seed)
    artist = np.repeat(np.arange(artists), tracks)
    centres = apart * rng.standard_normal((artists, 8))
    noise = 0.3 * rng.standard_normal((len(artist), 8))
    return (centres[artist] + noise).astype(np.float32), artist


def groups_of(artist: np.ndarray, seed: int = 1, count: int = 20) -> list[Group]:
    genres = [""] * (int(artist.max()) + 1)
    fold = deal_folds(genres, 4, np.random.default_rng(seed))
    return list(draw_groups(artist, genres, fold, count, seed))
