"""Little music and small hashers, so that training takes a second."""

from __future__ import annotations

import functools
import re

import numpy as np
import torch

from hashing.conditions import Surroundings, coloured_noise
from hashing.features import FeatureConfig, spectrogram
from hashing.synthesis import render_track
from hashing.training.corpus import Corpus
from hashing.training.encoder import State
from hashing.training.pairs import EncoderTraining, Pairs
from hashing.training.pool import SnippetPool, build_pool

# One thread, as the recipes set it: sums come out the same to the last bit, and a test takes no
# longer on a busy machine than it must.
torch.set_num_threads(1)

RATE = 8000

# An eighth of the cells of the shipped hasher's snippets: the linear front is fitted in no time.
FEATURES = FeatureConfig(n_bands=16, snippet_frames=14, snippet_hop=16)

# An encoder of a few thousand weights.
TINY_ENCODER = EncoderTraining(
    channels=(4, 6, 8),
    dimensions=16,
    bits=40,
    batch=16,
    warm_up=3,
    averaging=0.5,
    shifted_steps=6,
    steps=12,
    code_bytes=8,
    n_tables=4,
    key_bits=12,
    half_precision=False,
    seed=3,
)


def corpus_of(tracks: list[np.ndarray]) -> Corpus:
    """A corpus in memory."""
    starts = np.concatenate(([0], np.cumsum([track.size for track in tracks])))
    samples = np.concatenate(tracks).astype(np.float16)
    return Corpus(samples, starts, [f"t{i}" for i in range(len(tracks))], RATE)


def music(tracks: int, seconds: float = 6.0, first_seed: int = 0) -> Corpus:
    """Synthetic music."""
    return corpus_of([render_track(first_seed + i, seconds, RATE) for i in range(tracks)])


def small_pool(
    excerpts: int, seed: int = 1, versions: int = 4, tracks: int = 12, offsets: int = 5
) -> SnippetPool:
    """Degraded excerpts of synthetic music."""
    return build_pool(
        music(tracks, first_seed=1000 * seed),
        list(range(tracks)),
        excerpts,
        versions,
        offsets,
        FEATURES,
        Surroundings(RATE),
        seed,
    )


@functools.cache
def encoder_pool(seed: int = 1) -> SnippetPool:
    """Excerpts of 1.4 s, in which snippets can be half a hop off; not to be changed."""
    return small_pool(32, seed=seed, versions=3, offsets=29)


@functools.cache
def white_noise() -> np.ndarray:
    """Spectrogram of ten seconds of white noise, float16 [frames, bands]."""
    noise = 0.1 * coloured_noise(10 * RATE, 0.0, np.random.default_rng(1))
    return spectrogram([noise], FEATURES).astype(np.float16)


def encoder_pairs(settings: EncoderTraining = TINY_ENCODER, seed: int = 1) -> Pairs:
    """Pairs of snippets of synthetic music."""
    return Pairs(encoder_pool(seed), white_noise(), settings)


def assert_same_state(one: State, other: State) -> None:
    """Two states are equal bit for bit, what the optimiser remembers included."""
    assert one.step == other.step
    for first, second in (
        (one.network.state_dict(), other.network.state_dict()),
        (one.average.state_dict(), other.average.state_dict()),
    ):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    moments, others = (state.optimiser.state_dict()["state"] for state in (one, other))
    assert moments.keys() == others.keys()
    for weight in moments:
        assert all(torch.equal(moments[weight][k], others[weight][k]) for k in moments[weight])


class Log:
    """Lines of progress; the run is killed at the first that begins with `stop_at`."""

    def __init__(self, stop_at: str = "\0") -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(self.stop_at):
            raise KeyboardInterrupt

    def figures(self, name: str) -> list[float]:
        """The values that a figure had."""
        found = [re.search(rf"{name} (-?[\d.]+)", line) for line in self.lines]
        return [float(match[1]) for match in found if match]
