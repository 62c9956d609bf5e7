"""Target codes that follow what the networks find easy: dynamic target reassignment.

Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007), Fig. 2: each song starts with a
random code; every few epochs the codes are dealt out again, globally closest pairs of (code, mean
response of a song) first, so that similar songs get similar codes and no code is lost.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Sorted pairs looked at between two refreshes of what is still free: long enough for numpy to be
# fast, short enough that few dead pairs reach the Python loop.
PAIRS_PER_SWEEP = 2048


def all_codes(outputs: int) -> npt.NDArray[np.float32]:
    """Every code of `outputs` bits, shape [2**outputs, outputs], values 0 and 1.

    >>> all_codes(2).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    numbers = np.arange(1 << outputs)
    return ((numbers[:, None] >> np.arange(outputs)) & 1).astype(np.float32)


def random_codes(songs: int, outputs: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A code number for every song, each code used equally often (a maximum-entropy hash).

    >>> sorted(random_codes(4, 2, np.random.default_rng(1)).tolist())
    [0, 1, 2, 3]
    """
    codes = np.resize(np.arange(1 << outputs), songs)
    return np.asarray(rng.permutation(codes))


def reassign(responses: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Codes dealt out greedily, globally closest pair of song and code first.

    Args:
      responses: mean real-valued response to each song, [songs, outputs], between 0 and 1.

    Returns:
      The code number of each song, [songs]. Each code goes to ``ceil(songs / 2**outputs)`` songs at
      most: to one song each in the paper, where there are as many songs as codes.

    >>> reassign(np.array([[0.1, 0.2], [0.2, 0.1], [0.9, 0.6], [0.6, 0.4]], np.float32)).tolist()
    [0, 2, 3, 1]
    """
    songs, outputs = responses.shape
    codes = all_codes(outputs)
    capacity = np.full(len(codes), -(-songs // len(codes)), dtype=np.int64)
    distances = (codes**2).sum(1)[None, :] - 2.0 * (responses @ codes.T)
    # The square of a song's own response counts between songs, though not within one.
    distances += (responses**2).sum(1)[:, None]
    order = np.argsort(distances, axis=None, kind="stable")
    assigned = np.full(songs, -1, dtype=np.int64)
    for first in range(0, order.size, PAIRS_PER_SWEEP):
        song, code = np.divmod(order[first : first + PAIRS_PER_SWEEP], len(codes))
        open_pairs = (assigned[song] < 0) & (capacity[code] > 0)
        for s, c in zip(song[open_pairs].tolist(), code[open_pairs].tolist(), strict=True):
            if assigned[s] < 0 and capacity[c] > 0:
                assigned[s] = c
                capacity[c] -= 1
        if (assigned >= 0).all():
            break
    return assigned
