"""Measures of a piece of music that have a name and a unit, by which a person can tell two apart.

They explain; embeddings decide. Taken from `hashing.artists.features`, turned into units that
people use.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.artists.features import ArtistFeatures, segment_blocks

Floats = npt.NDArray[np.float32]

# Name → unit, in the order of the values.
MEASURES = {
    "loudness": "dB",
    "change of loudness": "dB",
    "brightness": "Hz",
    "tempo": "beats/min",
    "pulse": "%",
    "clearness of pitch": "dB",
}


def measure_sound(samples: Floats, settings: ArtistFeatures) -> Floats:
    """The measures of a segment, float32 [6].

    Mean level of full scale; its deviation; centre of the power spectrum; the strongest period that
    people hear as a beat; how much of the onsets it explains; how far the loudest note of an octave
    is above the others.

    Args:
      samples: mono, at ``settings.sample_rate``, [n], `hashing.artists.features.MIN_SEGMENT_S` or
        more.

    Raises:
      AudioError: ``too-short``.

    >>> tone = np.sin(np.arange(110250, dtype=np.float32) * np.float32(2 * np.pi * 1000 / 22050))
    >>> round(float(measure_sound(tone, ArtistFeatures())[2]), -2)
    1000.0
    """
    blocks = segment_blocks(samples, settings)
    beat = blocks["tempo"]
    values = [
        blocks["level"][0],
        blocks["dynamics"][0],
        2.0 ** blocks["shape mean"][0] - 50.0,
        60.0 / 2.0 ** beat[0],
        100.0 * max(0.0, float(beat[1])),
        blocks["tonality"].mean(),
    ]
    return np.array(values, dtype=np.float32)
