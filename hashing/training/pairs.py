"""What an encoder learns from: the same moment clean and degraded; and the settings of a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hashing.errors import HashbeamError
from hashing.features import FeatureConfig
from hashing.snippets import fill_edges, standardise, standardise_frames
from hashing.track_fronts import Reach
from hashing.training.pool import SnippetPool
from hashing.training.schedules import cosine

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Deviation in dB of the random equaliser's gain at each of its knots.
EQUALISER_DB = 4.0
EQUALISER_KNOTS = 6

# Share of snippets that are the first of a track, and of those that are the last, while an encoder
# learns to hear them in a track: far more than there are, so that it learns these as well.
EDGE_CHANCE = 0.1


@dataclasses.dataclass(frozen=True)
class EncoderTraining:
    """Settings of a training run. The defaults made the shipped model.

    >>> EncoderTraining(steps=1000).learning_rate_at(999) < 1e-4
    True
    """

    channels: tuple[int, ...] = (32, 64, 128, 128)
    dimensions: int = 128
    bits: int = 256
    batch: int = 512  # pairs a step
    temperature: float = 0.05
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warm_up: int = 300  # steps
    decay_share: float = 0.35  # of the steps, at the end, over which the rate falls to zero
    averaging: float = 0.998  # decay of the running mean of the weights that is kept
    noise_chance: float = 0.4  # of more noise, beside what the pool holds
    noise_snr_db: tuple[float, float] = (-4.0, 15.0)
    equaliser_chance: float = 0.5
    shifted_steps: int = 10_000  # first steps, in which a query may be half an index hop off
    jitter: int = 2  # frames that it may be off afterwards: half a query hop
    masked_chance: float = 0.6  # afterwards: of a query whose edge was not heard
    steps: int = 15_000
    code_bytes: int = 32  # of the product quantizer
    n_tables: int = 13  # with codes of 32 bytes, an index of 1.5 MB for an hour of audio
    key_bits: int = 32  # longest key; the first 16 bits of a table are in no other
    half_precision: bool = True  # bfloat16 products: three times faster where the CPU has them
    seed: int = 1

    def learning_rate_at(self, step: int) -> float:
        """Up over `warm_up`, constant, then down along a cosine over the last `decay_share`."""
        start = self.steps * (1.0 - self.decay_share)
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        if step < start:
            return self.learning_rate
        progress = (step - start) / max(1.0, self.steps - start)
        return self.learning_rate * cosine(progress)

    def seeds(self, stage: int, step: int = 0) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Draws pairs of snippets of one moment from a pool.

    Attributes:
      pool: tiles; version 0 is clean.
      noise: spectrogram [frames, bands] in dB of noises one after another, for more of them.
      settings: chances and ranges.
    """

    pool: SnippetPool
    noise: npt.NDArray[np.float16]
    settings: EncoderTraining

    def draw(self, rng: np.random.Generator, n: int, step: int) -> tuple[Floats, Floats]:
        """`n` clean snippets and the same moments degraded, standardised, [n, bands, frames].

        Queries first learn to be found half an index hop off, then to be told apart at their place,
        also where up to half a hop at an edge is missing (`hashing.snippets.query_snippets`).
        """
        config, shift = self.pool.config, self.pool.config.snippet_hop // 2
        moment = self._moment(rng, n, (shift, shift))
        off = shift if step < self.settings.shifted_steps else self.settings.jitter
        clean, heard = self._hear(rng, *moment, off, masked=step >= self.settings.shifted_steps)
        return _standard(clean, config), _standard(heard, config)

    def draw_in_track(
        self, rng: np.random.Generator, n: int, reach: Reach
    ) -> tuple[Floats, Floats, Floats]:
        """`n` clean snippets with their surroundings, the same alone, and degraded.

        Queries are at their place, as past the shifted steps of `draw`. Some snippets begin or end
        a track: beyond there are zeros.

        Returns:
          ``around`` [n, bands, reach.frames(1)], as `hashing.track_fronts.SharedLayers` has it, and
          ``clean`` and ``heard`` as `draw`.
        """
        config, pool = self.pool.config, self.pool
        room = pool.offsets - 1 - reach.before - reach.after
        if room < 0:
            raise HashbeamError(
                f"a tile of {pool.spectra.shape[2]} frames is too short for snippets of "
                f"{config.snippet_frames} and what is around them: use a shorter window"
            )
        # What a frame is standardised by reaches half a snippet beyond it; in a short tile half of
        # the room is left to draw moments from.
        half = min(config.snippet_frames // 2, room // 4)
        before, after = reach.before + half, reach.after + half
        tile, offset = self._moment(rng, n, (before, after))
        frames = np.arange(-before, config.snippet_frames + after)
        music = pool.spectra[tile[:, None], 0, offset[:, None] + frames].astype(np.float32)
        width, own = reach.frames(1, config), before + config.snippet_frames
        around = np.zeros((n, width, config.n_bands), np.float32)
        side = rng.choice(3, size=n, p=[1 - 2 * EDGE_CHANCE, EDGE_CHANCE, EDGE_CHANCE])
        inside, begins, ends = (np.flatnonzero(side == which) for which in range(3))
        cut = standardise_frames(music[inside], config)
        around[inside] = cut[:, half : half + width]
        cut = standardise_frames(music[begins, before:], config)
        around[begins, reach.before :] = cut[:, : width - reach.before]
        cut = standardise_frames(music[ends, :own], config)
        around[ends, : width - reach.after] = cut[:, half:]
        clean, heard = self._hear(rng, tile, offset, self.settings.jitter, masked=True)
        turned = np.ascontiguousarray(around.transpose(0, 2, 1))
        return turned, _standard(clean, config), _standard(heard, config)

    def _moment(
        self, rng: np.random.Generator, n: int, margins: tuple[int, int]
    ) -> tuple[Ints, Ints]:
        """Tiles and first frames of snippets with so many frames of the tile around them."""
        tiles = self.pool.spectra.shape[0]
        # Few of a batch share a tile: two moments of a loop would be told apart for nothing.
        tile = rng.permutation(tiles)[:n] if n <= tiles else rng.integers(tiles, size=n)
        tile = np.sort(tile)
        return tile, rng.integers(margins[0], self.pool.offsets - margins[1], size=n)

    def _hear(
        self, rng: np.random.Generator, tile: Ints, offset: Ints, off: int, masked: bool
    ) -> tuple[Floats, Floats]:
        """The clean snippets of moments, in dB, and the same up to `off` frames off, degraded."""
        pool, n, versions = self.pool, len(tile), self.pool.spectra.shape[1]
        late = rng.integers(-off, off + 1, size=n)
        version = rng.integers(1, versions, size=n) if versions > 1 else np.zeros(n, np.int64)
        clean = pool.snippets(tile, np.zeros(n, dtype=np.int64), offset)
        heard = self._degrade(pool.snippets(tile, version, offset + late), rng)
        if masked:
            self._mask(heard, rng)
        return clean, heard

    def _mask(self, cut: Floats, rng: np.random.Generator) -> None:
        n, frames = cut.shape[0], cut.shape[2]
        lost = rng.integers(1, self.pool.config.query_margin + 1, size=n)
        lost *= rng.random(n) < self.settings.masked_chance
        begins = rng.random(n) < 0.5
        fill_edges(cut, np.where(begins, lost, 0), frames - np.where(begins, 0, lost))

    def _degrade(self, cut: Floats, rng: np.random.Generator) -> Floats:
        """More noise and another equaliser on the spectrogram, which costs next to nothing.

        Powers of music and noise are added, which is right on average; the pool holds mixtures of
        samples for what that leaves out.
        """
        settings, frames = self.settings, cut.shape[2]
        noisy = np.flatnonzero(rng.random(cut.shape[0]) < settings.noise_chance)
        if noisy.size and len(self.noise) > frames:
            first = rng.integers(len(self.noise) - frames, size=noisy.size)
            noise = self.noise[first[:, None] + np.arange(frames)].transpose(0, 2, 1)
            music_power = 10.0 ** (cut[noisy] / 10.0)
            noise_power = 10.0 ** (noise.astype(np.float32) / 10.0)
            ratio = 10.0 ** (-rng.uniform(*settings.noise_snr_db, noisy.size) / 10.0)
            ratio *= music_power.mean(axis=(1, 2)) / noise_power.mean(axis=(1, 2))
            noise_power *= ratio[:, None, None].astype(np.float32)
            cut[noisy] = 10.0 * np.log10(music_power + noise_power + 1e-12)
        knots = rng.normal(0.0, EQUALISER_DB, (cut.shape[0], EQUALISER_KNOTS))
        knots *= rng.random((cut.shape[0], 1)) < settings.equaliser_chance
        place = np.linspace(0.0, EQUALISER_KNOTS - 1.0, cut.shape[1])
        weights = np.maximum(0.0, 1.0 - np.abs(place[None] - np.arange(EQUALISER_KNOTS)[:, None]))
        cut += (knots @ weights).astype(np.float32)[:, :, None]
        return cut


def _standard(cut: Floats, config: FeatureConfig) -> Floats:
    return standardise(cut, config).reshape(cut.shape)
