"""Simulated rooms: where the statistical tail of `hashing.conditions` is too smooth.

A real room answers with single early echoes before its tail. The image-source method (Allen &
Berkley, 1979) gives both; pyroomacoustics computes it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Shoebox rooms from a kitchen to a small hall: metres along each side, and reverberation times.
SIDES_M = ((2.5, 12.0), (2.5, 9.0), (2.3, 4.5))
RT60_S = (0.2, 1.1)

# Reflections followed; later ones are under the tail of 60 dB in rooms of these sizes or are added
# so densely that a snippet cannot tell them from one another.
MAX_ORDER = 24

# The shortest way from a loudspeaker to a microphone, and from either to a wall: metres.
NEAREST_M = 0.4


def simulated_rooms(n: int, sample_rate: int, seed: int) -> list[Floats]:
    """`n` room responses at `sample_rate`, each with its own room, loudspeaker and microphone.

    >>> [room] = simulated_rooms(1, 8000, seed=1)
    >>> room.dtype, bool(np.abs(room).max() > 0)
    (dtype('float32'), True)
    """
    import pyroomacoustics

    rng = np.random.default_rng(seed)
    responses: list[Floats] = []
    while len(responses) < n:
        sides = np.array([rng.uniform(*side) for side in SIDES_M])
        rt60_s = float(rng.uniform(*RT60_S))
        try:
            absorption, order = pyroomacoustics.inverse_sabine(rt60_s, sides)
        except ValueError:  # no wall is hard enough for so long a time in so small a room
            continue
        room = pyroomacoustics.ShoeBox(
            sides,
            fs=sample_rate,
            materials=pyroomacoustics.Material(absorption),
            max_order=min(order, MAX_ORDER),
        )
        room.add_source(rng.uniform(NEAREST_M, sides - NEAREST_M))
        room.add_microphone(rng.uniform(NEAREST_M, sides - NEAREST_M))
        room.compute_rir()
        response = np.asarray(room.rir[0][0], dtype=np.float32)
        responses.append(response / np.abs(response).max())
    return responses
