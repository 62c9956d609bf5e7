"""What is heard around the music in training: recorded ambiences and rooms, and simulated ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hashing.audio import decode
from hashing.conditions import Surroundings, coloured_noise
from hashing.errors import HashbeamError
from hashing.features import FeatureConfig, spectrogram
from hashing.training.babble import babble
from hashing.training.rooms import simulated_rooms

# Every fourth recording of noise, by name, is kept for measuring.
NOISE_HOLD_OUT = 4

AUDIO_SUFFIXES = (".opus", ".ogg", ".mp3", ".flac", ".wav", ".m4a")

# Beside recordings: simulated rooms, and synthetic babble of one to eight voices, 20 s each.
SIMULATED_ROOMS = 120
BABBLES = 60
BABBLE_SECONDS = 20
VOICES = 8

# Seconds of each coloured noise among the spectra, by the exponent of its colour.
COLOURS = (0.0, 0.0, 0.0, 1.0, 2.0)
COLOURED_SECONDS = 60
NOISE_LEVEL = 0.1  # root mean square of coloured noise, well inside float16's range in dB


def require_audio(folders: Sequence[Path]) -> None:
    """Raises `HashbeamError` for a folder that is missing or holds no audio."""
    for folder in folders:
        if not folder.is_dir():
            raise HashbeamError(f"{folder} is not a folder: name one that holds recordings")
        if not any(path.suffix in AUDIO_SUFFIXES for path in folder.iterdir()):
            raise HashbeamError(f"{folder} holds no audio ({', '.join(AUDIO_SUFFIXES)})")


def noise_files(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Recordings to train with, and those held out: every fourth by name."""
    files = sorted(
        path for folder in folders for path in folder.iterdir() if path.suffix in AUDIO_SUFFIXES
    )
    held_out = files[NOISE_HOLD_OUT - 1 :: NOISE_HOLD_OUT]
    return [path for path in files if path not in set(held_out)], held_out


def surroundings(noise: Sequence[Path], rooms: Sequence[Path], sample_rate: int) -> Surroundings:
    """Recorded ambiences and rooms, decoded."""
    responses = [
        path
        for folder in rooms
        for path in sorted(folder.iterdir())
        if path.suffix in AUDIO_SUFFIXES
    ]
    return Surroundings(
        sample_rate,
        [decode(str(path), sample_rate) for path in noise],
        [decode(str(path), sample_rate) for path in responses],
    )


def richer(air: Surroundings, seed: int) -> Surroundings:
    """`air` with simulated rooms and synthetic babble beside the recordings."""
    rng = np.random.default_rng([seed, 7])
    n = BABBLE_SECONDS * air.sample_rate
    voices = [
        babble(n, air.sample_rate, rng, int(rng.integers(1, VOICES + 1))) for _ in range(BABBLES)
    ]
    return dataclasses.replace(
        air,
        ambiences=[*air.ambiences, *voices],
        rooms=[*air.rooms, *simulated_rooms(SIMULATED_ROOMS, air.sample_rate, seed)],
    )


def noise_spectra(air: Surroundings, features: FeatureConfig, seed: int) -> npt.NDArray[np.float16]:
    """Spectrograms of all noises one after another, [frames, bands]; see `pairs.Pairs`."""
    rng = np.random.default_rng([seed, 8])
    spectra = [
        spectrogram([one], features)
        for one in air.ambiences
        if one.size >= features.snippet_samples
    ]
    n = COLOURED_SECONDS * features.sample_rate
    for exponent in COLOURS:
        noise = coloured_noise(n, exponent, rng)
        noise *= np.float32(NOISE_LEVEL) / np.float32(np.sqrt(np.mean(noise**2)))
        spectra.append(spectrogram([noise], features))
    return np.concatenate(spectra).astype(np.float16)
