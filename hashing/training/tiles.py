"""Whole tracks, cut into tiles of several seconds, each degraded many times.

The pool that encoders learn from: every moment of the training music, in many versions, on disk.
A tile is computed from the seed and its own number, so that the work can be shared by processes,
stopped at any moment and continued, with the same result.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.conditions import Surroundings
from hashing.errors import HashbeamError
from hashing.features import FeatureConfig, spectrogram
from hashing.training.augment import degrade
from hashing.training.corpus import Corpus
from hashing.training.pool import LEAD_SECONDS, QUIET_DB, SnippetPool

# Frames of a tile: 8 s. Long enough that a filter and a room are computed for many snippets at
# once, short enough that a track is heard under many degradations in one version.
TILE_FRAMES = 256

# Tiles that a process makes before it says so: the work that a stop can lose.
TILES_A_BLOCK = 16

# Tiles made between two lines of progress.
BLOCKS_A_LINE = 16


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Where tiles lie and what is done to them.

    Attributes:
      corpus: the music.
      places: track and first sample of each tile, int64 [tiles, 2].
      versions: of each tile; version 0 is clean.
      config, surroundings, seed: as in `hashing.training.pool.build_pool`.
    """

    corpus: Corpus
    places: npt.NDArray[np.int64]
    versions: int
    config: FeatureConfig
    surroundings: Surroundings
    seed: int

    def tile(self, number: int) -> npt.NDArray[np.float16]:
        """Spectrograms [versions, TILE_FRAMES, bands] of one tile, in dB.

        A degraded version starts up to one frame late, so that snippets do not share a grid.
        """
        rng = np.random.default_rng([self.seed, number])
        track, first = (int(value) for value in self.places[number])
        needed = tile_samples(self.config)
        lead = int(LEAD_SECONDS * self.config.sample_rate)
        audio = self.corpus.excerpt(track, first - lead, lead + needed + self.config.hop_length)
        spectra = np.empty((self.versions, TILE_FRAMES, self.config.n_bands), dtype=np.float16)
        for version in range(self.versions):
            heard = audio if version == 0 else degrade(audio, self.surroundings, rng)
            shift = lead + (0 if version == 0 else int(rng.integers(self.config.hop_length)))
            spectra[version] = spectrogram([heard[shift : shift + needed]], self.config)
        return spectra


def tile_samples(config: FeatureConfig) -> int:
    """Samples that a tile needs."""
    return (TILE_FRAMES - 1) * config.hop_length + config.n_fft


def lay_tiles(corpus: Corpus, tracks: list[int], config: FeatureConfig) -> npt.NDArray[np.int64]:
    """Places [tiles, 2] of tiles side by side over `tracks`; silent ones are left out.

    The rest of a track that holds no whole tile is not used. Raises `HashbeamError` where there is
    no tile at all.
    """
    step = TILE_FRAMES * config.hop_length
    needed = tile_samples(config) + config.hop_length
    places = []
    for track in tracks:
        samples = corpus.track(track)
        for first in range(0, samples.size - needed + 1, step):
            heard = samples[first : first + needed]
            if np.mean(heard**2) > 10.0 ** (QUIET_DB / 10.0):
                places.append((track, first))
    if not places:
        raise HashbeamError(
            f"none of {len(tracks)} tracks holds {needed / config.sample_rate:.1f} s of music to "
            "learn from: add longer ones"
        )
    return np.asarray(places, dtype=np.int64)


def make_tiles(
    tiling: Tiling, folder: Path, identity: str, workers: int, log: Callable[[str], None]
) -> SnippetPool:
    """All tiles, from `folder` where they were made before; a stopped run is continued.

    Args:
      identity: tells this tiling from any other; tiles of another one are made anew.
      workers: processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spectra_path, state_path = folder / "spectra.npy", folder / "state.json"
    shape = (len(tiling.places), tiling.versions, TILE_FRAMES, tiling.config.n_bands)
    blocks = list(range(0, shape[0], TILES_A_BLOCK))
    done: list[int] = []
    if state_path.exists() and spectra_path.exists():
        state = json.loads(state_path.read_text())
        done = state["done"] if state["identity"] == identity else []
    if not done:
        state_path.unlink(missing_ok=True)
        np.lib.format.open_memmap(spectra_path, "w+", np.float16, shape)
    missing = sorted(set(blocks) - set(done))
    if missing:
        context = multiprocessing.get_context("fork")
        jobs = [(tiling, spectra_path, block) for block in missing]
        with concurrent.futures.ProcessPoolExecutor(workers, context, _keep, tuple(jobs)) as pool:
            running = [pool.submit(_make_block, n) for n in range(len(jobs))]
            try:
                for finished in concurrent.futures.as_completed(running):
                    done.append(finished.result())
                    temporary = state_path.with_suffix(".tmp")
                    temporary.write_text(json.dumps({"identity": identity, "done": done}))
                    temporary.replace(state_path)
                    if len(done) % BLOCKS_A_LINE == 0 or len(done) == len(blocks):
                        log(f"{len(done) / len(blocks):.0%} of {shape[0]} tiles")
            finally:
                # A run that is stopped does not wait for all the tiles that are left.
                pool.shutdown(wait=False, cancel_futures=True)
    return SnippetPool(np.load(spectra_path, mmap_mode="r", allow_pickle=False), tiling.config)


# What a forked process works on: handed over once, at its start, not with every block.
_jobs: list[tuple[Tiling, Path, int]] = []


def _keep(*jobs: tuple[Tiling, Path, int]) -> None:
    _jobs[:] = jobs


def _make_block(number: int) -> int:
    tiling, path, block = _jobs[number]
    spectra = np.lib.format.open_memmap(path, "r+")
    for tile in range(block, min(block + TILES_A_BLOCK, len(tiling.places))):
        spectra[tile] = tiling.tile(tile)
    spectra.flush()
    return block
