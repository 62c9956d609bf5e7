"""Which snippets of a segment belong to tracks that have been removed since it was built."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Numbers that share a flag: those of 10 million tracks are then 75 MB, those of a small catalogue
# stay in a cache of the processor, and few snippets share one with a track that has gone.
BLOCK = 64


class Gone:
    """Snippet numbers of removed tracks.

    Args:
      firsts, ends: first number and end (exclusive) of each track, rising, [t].
      snippets: how many of these numbers have a snippet; the others are silent.

    >>> gone = Gone(np.array([2, 8]), np.array([5, 9]), 4)
    >>> gone.among(np.array([8, 1, 2, 5, 4])).tolist()
    [0, 2, 4]
    """

    def __init__(self, firsts: Ints, ends: Ints, snippets: int) -> None:
        self.firsts, self.ends, self.snippets = firsts, ends, snippets
        # How many tracks begin at or before a block less those that end before it: some, or none.
        edges = np.zeros(int(ends.max(initial=0)) // BLOCK + 3, np.int32)
        np.add.at(edges, firsts // BLOCK, 1)
        np.add.at(edges, (ends - 1) // BLOCK + 1, -1)
        self._flags = np.cumsum(edges) > 0

    def among(self, gids: npt.NDArray[np.integer]) -> Ints:
        """Places of those of `gids` [n] that are gone."""
        if not self.firsts.size:
            return np.empty(0, np.int64)
        # "clip": the last flag is that of no track.
        maybe = np.flatnonzero(self._flags.take(gids // BLOCK, mode="clip"))
        track = np.searchsorted(self.firsts, gids[maybe], side="right") - 1
        inside = (track >= 0) & (gids[maybe] < self.ends[track])
        return maybe[inside]


NOTHING = Gone(np.empty(0, np.int64), np.empty(0, np.int64), 0)
