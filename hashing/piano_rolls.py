"""Which notes sound, as frames on the pitches and the time base of `hashing.cqt`.

The piano-roll variant of what scores are matched by (Raffel, "Learning-based methods for comparing
sequences", 2016, chapter 5): nothing is rendered, and timbre, partials and rooms are left to what
listens to the recording.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.cqt import CqtConfig
from hashing.midi import Song
from hashing.rendering import held_ends

Floats = npt.NDArray[np.float32]


def piano_roll(song: Song, config: CqtConfig | None = None) -> Floats:
    """Velocities of the notes that sound in each frame, summed by pitch: float32 [frames, n_bins].

    Frame t is what sounds at t · frame_s. Drums, and notes beyond the pitches of the bins, are left
    out; the pedal holds notes. What `hashing.cqt.log_frames` takes for amplitudes, this can be.

    Returns:
      as many frames as begin before the song ends, at least one.

    >>> from hashing.midi import EXAMPLE, parse_song
    >>> roll = piano_roll(parse_song(EXAMPLE))
    >>> roll.shape, (np.flatnonzero(roll[5]) + CqtConfig().lowest).tolist()
    ((22, 48), [60])
    """
    config = config or CqtConfig()
    frames = int(song.duration_s / config.frame_s) + 1
    # Velocities are added where notes begin and taken away where they end.
    changes = np.zeros((frames + 1, config.n_bins), np.float64)
    bins = song.pitch - config.lowest
    heard = ~song.is_drum & (bins >= 0) & (bins < config.n_bins)
    first = np.ceil(song.start_s[heard] / config.frame_s).astype(np.int64)
    first = np.minimum(first, frames - 1)
    last = np.ceil(held_ends(song)[heard] / config.frame_s).astype(np.int64)
    # A note between two frames is in the one that follows it, or in the last, so that none is lost.
    last = np.maximum(last, first + 1)
    velocity = song.velocity[heard].astype(np.float64)
    np.add.at(changes, (first, bins[heard]), velocity)
    np.add.at(changes, (np.minimum(last, frames), bins[heard]), -velocity)
    return changes.cumsum(axis=0)[:frames].astype(np.float32)
