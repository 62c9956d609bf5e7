"""Made-up artists as spectrograms, so that a network is trained in a second."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from hashing.artists.mel_segments import MEL_3S
from hashing.training.artists.segments import ArtistMusic
from hashing.training.artists.tags import Tags
from hashing.training.artists.training import ArtistTraining

torch.set_num_threads(1)

# The smallest segment that both networks can hear.
SEGMENT = dataclasses.replace(MEL_3S, n_bands=24, snippet_frames=128, snippet_hop=128)

TINY_ARTISTS = ArtistTraining(
    dimensions=8,
    artists=4,
    samples=2,
    dropout=0.5,
    steps=8,
    every=2,
    patience=99,
    half_precision=False,
    seed=3,
)

GENRES = ("rock", "folk")


def artist_music(
    artists: int,
    tracks: int = 2,
    segments: int = 3,
    seed: int = 1,
    lengths: list[int] | None = None,
) -> ArtistMusic:
    """Every artist has a spectrum of its own, about which its tracks' noise goes.

    Artists are of two genres in turns, and of one mood; of the last one nothing is known.

    Args:
      lengths: segments of each track of each artist; `segments` of all unless told.
    """
    rng = np.random.default_rng(seed)
    wanted = lengths or [segments] * artists
    levels, starts, numbers, rows = [], [0], [], []
    for artist in range(artists):
        own = rng.uniform(-70, -20, SEGMENT.n_bands)
        for _ in range(tracks):
            frames = wanted[artist] * SEGMENT.snippet_frames
            levels.append(own + rng.normal(0.0, 6.0, (frames, SEGMENT.n_bands)))
            starts.append(starts[-1] + frames)
            numbers.append(artist)
            known = {"genres": GENRES[artist % 2], "mood": "calm", "release_date": "1990-01-01"}
            rows.append({} if artist == artists - 1 else known)
    return ArtistMusic(
        levels=np.concatenate(levels).astype(np.float16),
        starts=np.array(starts),
        track_ids=[f"t{i}" for i in range(len(numbers))],
        artists=np.array(numbers),
        names=[f"a{i}" for i in range(artists)],
        tags=Tags.of(rows),
        config=SEGMENT,
    )
