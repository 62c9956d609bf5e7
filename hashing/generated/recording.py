"""What is rendered as somebody's recording of it: in a room, mixed, noisy, and as mp3."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing import conditions
from hashing.audio import recode

Samples = npt.NDArray[np.float32]

# Chances and ranges of what happens to a recording. Commercial ones are clean: their noise is far
# below that of a microphone in a bar, which `hashing.training.augment` trains look-up for.
NOISE_CHANCE, SNR_DB = 0.5, (5.0, 30.0)
ROOM_CHANCE = 0.5
EQUALISER_CHANCE, EQUALISER_DB, EQUALISER_KNOTS = 0.6, 4.0, 9
MP3_CHANCE = 0.3
LEVEL_DB = (-20.0, 0.0)


def record(
    samples: Samples, surroundings: conditions.Surroundings, rng: np.random.Generator
) -> Samples:
    """Rendered samples as a recording: room, equaliser, noise, level and mp3.

    Time is kept, and so is the length.

    >>> rng = np.random.default_rng(1)
    >>> record(np.ones(4000, np.float32), conditions.Surroundings(8000), rng).shape
    (4000,)
    """
    if rng.random() < ROOM_CHANCE:
        samples = conditions.reverberate(samples, surroundings.room(rng))
    if rng.random() < EQUALISER_CHANCE:
        gains_db = rng.normal(0.0, EQUALISER_DB, EQUALISER_KNOTS)
        samples = conditions.equalise(samples, gains_db.tolist())
    if rng.random() < NOISE_CHANCE:
        if rng.random() < 0.5:
            noise = conditions.coloured_noise(samples.size, float(rng.choice([0, 1, 2])), rng)
        else:
            noise = surroundings.ambience(samples.size, rng)
        samples = conditions.add_noise(samples, noise, float(rng.uniform(*SNR_DB)))
    loudest = float(np.abs(samples).max(initial=0.0))
    if loudest:
        level = 10.0 ** (float(rng.uniform(*LEVEL_DB)) / 20.0)
        samples = np.asarray(samples * np.float32(level / loudest), np.float32)
    if rng.random() < MP3_CHANCE:
        samples = recode(samples, surroundings.sample_rate, "mp3", conditions.CODECS["mp3"])
    return samples
