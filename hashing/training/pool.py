"""A pool of degraded spectrogram excerpts, from which training draws snippets at any offset."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import tqdm

from hashing.conditions import Surroundings
from hashing.features import FeatureConfig, spectrogram
from hashing.training.augment import degrade
from hashing.training.corpus import Corpus

# Music heard before an excerpt, so that a room's tail holds what came before it.
LEAD_SECONDS = 0.5

# Excerpts start at least this far below full scale (dB, mean square), or they are drawn again:
# silence has no code.
QUIET_DB = -45.0


@dataclasses.dataclass(frozen=True)
class SnippetPool:
    """Spectrograms of excerpts, each in several versions of the same moment.

    `spectra` is [excerpts, versions, frames, bands] float16 in dB; version 0 is clean. Version `v`
    of an excerpt starts up to one frame late, so that snippets do not share a grid.
    """

    spectra: npt.NDArray[np.float16]
    config: FeatureConfig

    @property
    def offsets(self) -> int:
        """First frames at which a snippet can be cut from an excerpt."""
        return int(self.spectra.shape[2]) - self.config.snippet_frames + 1

    def snippets(
        self,
        excerpt: npt.NDArray[np.int64],
        version: npt.NDArray[np.int64],
        offset: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """Snippets [n, bands, frames] in dB, at the given excerpts, versions and first frames."""
        frames = offset[:, None] + np.arange(self.config.snippet_frames)
        cut = self.spectra[excerpt[:, None], version[:, None], frames]
        return np.asarray(cut.transpose(0, 2, 1), dtype=np.float32)


def build_pool(
    corpus: Corpus,
    tracks: list[int],
    excerpts: int,
    versions: int,
    offsets: int,
    config: FeatureConfig,
    surroundings: Surroundings,
    seed: int,
) -> SnippetPool:
    """Draw `excerpts` places, evenly over `tracks`, and degrade each `versions` times.

    Args:
      offsets: frames over which snippets of one excerpt are spread.

    Version 0 is clean. The result depends on the seed and the arguments only.
    """
    rng = np.random.default_rng(seed)
    frames = config.snippet_frames + offsets - 1
    lead = int(LEAD_SECONDS * config.sample_rate)
    needed = (frames - 1) * config.hop_length + config.n_fft
    spectra = np.empty((excerpts, versions, frames, config.n_bands), dtype=np.float16)
    turns = np.concatenate([rng.permutation(tracks) for _ in range(-(-excerpts // len(tracks)))])
    for e in tqdm.trange(excerpts, desc="excerpts", mininterval=5.0):
        track = int(turns[e])
        span = needed + config.hop_length
        room = max(1, int(corpus.seconds(track) * config.sample_rate) - span)
        for _ in range(20):
            first = int(rng.integers(room))
            audio = corpus.excerpt(track, first - lead, lead + span)
            if np.mean(audio[lead:] ** 2) > 10.0 ** (QUIET_DB / 10.0):
                break
        for v in range(versions):
            heard = audio if v == 0 else degrade(audio, surroundings, rng)
            shift = lead + (0 if v == 0 else int(rng.integers(config.hop_length)))
            spectra[e, v] = spectrogram([heard[shift : shift + needed]], config)
    return SnippetPool(spectra, config)
