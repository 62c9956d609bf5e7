"""The nearest of all recordings to a score, found a part of them at a time.

A catalogue lies in many files, and no worker sees all of it. Each counts how many recordings of its
part are how alike to a query; the sums of these counts tell the likeness that a given number of all
recordings reach, and whatever is less alike is left out wherever it lies. What is left does not
depend on how the catalogue was cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Bins of likeness, from -1 to 1: where a tenth of a catalogue is left, those that share the last
# bin with it are a hundredth of that.
BINS = 4096

# Steps of a number of an embedding. Sums of products of such numbers are exact in float32, and so
# are their means over a quarter of an hour: in whatever order and company they are computed, they
# are the same. It moves a cosine by 0.001, half a bin.
GRID = 512


def on_grid(embeddings: npt.NDArray[np.floating[Any]]) -> Floats:
    """Embeddings whose likeness is the same to the last bit in every part that they are in.

    >>> on_grid(np.array([0.1, -1.0])).tolist()
    [0.099609375, -1.0]
    """
    return np.asarray(np.rint(np.asarray(embeddings, np.float32) * GRID) / GRID, np.float32)


def bins_of(likeness: Floats) -> npt.NDArray[np.int32]:
    """The bin of each cosine.

    >>> bins_of(np.array([-1.0, 0.0, 1.0], np.float32)).tolist()
    [0, 2048, 4095]
    """
    bins = np.floor((np.asarray(likeness, np.float64) + 1) * (BINS / 2))
    return np.clip(bins, 0, BINS - 1).astype(np.int32)


def lowest_bins(counts: npt.NDArray[np.integer[Any]], kept: int) -> npt.NDArray[np.int32]:
    """The bin from which on `kept` recordings, or a few more, are left of each query.

    Args:
        counts: [q, BINS], recordings in each bin, of the whole catalogue.
        kept: how many are to be left, of each query; where there are fewer, all are.

    >>> counts = np.zeros((1, BINS), np.int64)
    >>> counts[0, [10, 20, 30]] = 5, 2, 1
    >>> [int(lowest_bins(counts, kept)[0]) for kept in (1, 2, 3, 4, 9)]
    [30, 20, 20, 10, 0]
    """
    above = np.cumsum(counts[:, ::-1], axis=1)
    places = (above < kept).sum(axis=1)
    return np.asarray(np.maximum(BINS - 1 - places, 0), np.int32)
