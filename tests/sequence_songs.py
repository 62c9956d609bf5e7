"""Little songs as frames, and networks that learn them in a second: for hash sequences."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from hashing.cqt import CqtConfig
from hashing.scores import ROLL
from hashing.training.sequences import corpus
from hashing.training.sequences.features import (
    EXAM_FONTS,
    SCORE_FONTS,
    TRAINING_FONTS,
    Played,
    SongFrames,
    save_song,
)
from hashing.training.sequences.networks import Standardise
from hashing.training.sequences.settings import SequenceTraining
from hashing.training.sequences.trunk import TrunkSize

# One thread, as the recipe sets it: sums come out the same to the last bit.
torch.set_num_threads(1)

BINS = CqtConfig().n_bins
SONGS = 26  # of which 20 are learned from, 4 choose, and 2 examine
DECAY = 0.8  # of a note's amplitude, from frame to frame
PARTIALS = (0, 12, 19, 24)  # semitones

TINY = SequenceTraining(
    size=TrunkSize((12, 16, 24, 32), around=3),
    batch=8,
    frames=96,
    warm_up=5,
    averaging=0.9,
    steps=6,
    every=2,
    embed_steps=6,
    embed_frames=(96, 136),
    embed_batch=8,
    attention=8,
    dimensions=16,
    half_precision=False,
    seed=3,
)


def song_frames(number: int, frames: int = 240) -> SongFrames:
    """A melody of its own, and performances in other tempos, timbres and noise."""
    rng = np.random.default_rng([7, number])
    beats = np.arange(0, frames, 6)
    pitches = rng.integers(4, 28, beats.size)

    def sound(tempo: float, timbre: np.ndarray, noise: float) -> np.ndarray:
        count = int(frames / tempo)
        out = np.zeros((count, BINS))
        for beat, pitch in zip(np.round(beats / tempo).astype(int), pitches, strict=True):
            n = min(24, count - beat)
            for partial, level in zip(PARTIALS, timbre, strict=True):
                if n > 0 and pitch + partial < BINS:
                    out[beat : beat + n, pitch + partial] += level * DECAY ** np.arange(n)
        return (out + noise * rng.random(out.shape)).astype(np.float32)

    names = (*SCORE_FONTS, ROLL)
    timbres = ([1, 0.5, 0.3, 0.2], [1, 0.7, 0.1, 0.3], [1, 0, 0, 0])
    scores = {name: sound(1, t, 0) for name, t in zip(names, timbres, strict=True)}
    played = []
    for font in (*TRAINING_FONTS, *EXAM_FONTS):
        tempo = float(rng.uniform(0.95, 1.05))
        found = sound(tempo, np.append(1, rng.uniform(0.1, 0.8, 3)), 0.01)
        frame = np.arange(len(found)) * tempo
        frame[frame > frames - 1] = np.nan
        played.append(Played(font, found, frame.astype(np.float32)))
    return SongFrames(f"a{number:02d}", scores, played)


@functools.cache
def tiny_songs() -> list[corpus.Song]:
    """Not to be changed."""
    return [corpus.as_levels(song_frames(number)) for number in range(SONGS)]


def write_songs(folder: Path) -> None:
    """All songs as files, as `features.make_frames` leaves them."""
    folder.mkdir(parents=True)
    for number in range(SONGS):
        song = song_frames(number)
        save_song(folder / f"{song.name}.safetensors", song)


def any_statistics(seed: int) -> Standardise:
    rng = torch.Generator().manual_seed(seed)
    mean, deviation = (0.1 * torch.rand(BINS, generator=rng) for _ in range(2))
    return Standardise(mean, deviation + 0.05)
