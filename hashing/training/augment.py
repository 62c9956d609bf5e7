"""Random degradations for training: one moment under other noise, rooms, equalisers and levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing import conditions
from hashing.audio import recode

Floats = npt.NDArray[np.float32]

# Chances and ranges of what happens to a snippet. The noise range reaches below the 0 dB that
# look-up is measured at, so that 0 dB is inside what was trained and not at its edge.
CLEAN_CHANCE = 0.08
NOISE_CHANCE = 0.8
WHITE_CHANCE = 0.3
SNR_DB = (-5.0, 15.0)
ROOM_CHANCE = 0.45
STATISTICAL_ROOM_CHANCE = 0.4
CODEC_CHANCE = 0.1
EQUALISER_CHANCE = 0.6
EQUALISER_DB = 8.0  # deviation of the gain at each of its knots
EQUALISER_KNOTS = 9  # one every 500 Hz at 8 kHz
CLIP_CHANCE = 0.1
CLIP_SHARE = 0.1  # of the samples, at most


def degrade(
    samples: Floats, surroundings: conditions.Surroundings, rng: np.random.Generator
) -> Floats:
    """One random version of an excerpt, in the order of the real world.

    Player's equaliser and clipping, then the room, then ambient noise, then a codec.

    >>> rng = np.random.default_rng(7)
    >>> degrade(np.ones(800, np.float32), conditions.Surroundings(8000), rng).shape
    (800,)
    """
    if rng.random() < CLEAN_CHANCE:
        return samples
    if rng.random() < EQUALISER_CHANCE:
        samples = conditions.equalise(
            samples, list(rng.normal(0.0, EQUALISER_DB / 2, EQUALISER_KNOTS))
        )
    if rng.random() < CLIP_CHANCE:
        samples = conditions.clip(samples, float(rng.uniform(0.005, CLIP_SHARE)))
    if rng.random() < ROOM_CHANCE:
        if rng.random() < STATISTICAL_ROOM_CHANCE:
            rt60_s = float(rng.uniform(0.15, 1.1))
            room = conditions.room_response(surroundings.sample_rate, rt60_s, rng)
        else:
            room = surroundings.room(rng)
        samples = conditions.reverberate(samples, room)
    if rng.random() < NOISE_CHANCE:
        snr_db = float(rng.uniform(*SNR_DB))
        if rng.random() < WHITE_CHANCE:
            exponent = float(rng.choice([0.0, 0.0, 1.0, 2.0]))
            noise = conditions.coloured_noise(samples.size, exponent, rng)
        else:
            # Up to four ambiences at once: babble, the hardest noise of all.
            count = int(rng.integers(1, 5))
            noise = np.zeros(samples.size, dtype=np.float32)
            for _ in range(count):
                one = surroundings.ambience(samples.size, rng)
                noise += one / np.float32(np.sqrt(conditions.power(one)) + 1e-6)
        samples = conditions.add_noise(samples, noise, snr_db)
    if rng.random() < CODEC_CHANCE:
        codec = str(rng.choice(list(conditions.CODECS)))
        samples = recode(samples, surroundings.sample_rate, codec, conditions.CODECS[codec])
    return samples
