"""The nearest clusters of other names, among all clusters of a catalogue, in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.disambiguation.judge import Centres

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Nearest clusters that are looked at for each; the nearest may be credited on the same track.
NEIGHBOURS = 8
BLOCK_BYTES = 1 << 26  # of distances that are in memory at once


def ward_heights(centres: Centres, one: Ints, other: Ints) -> npt.NDArray[np.float64]:
    """At which distance Ward's method would merge each two clusters, [pairs].

    >>> two = np.array([[0.0], [1.0]], np.float32)
    >>> ends = np.arange(2)
    >>> centres = Centres(ends, ends, np.array([3, 3]), two, [(), ()])
    >>> ward_heights(centres, np.array([0]), np.array([1])).round(3).tolist()
    [1.732]
    """
    a, b = centres.size[one].astype(np.float64), centres.size[other].astype(np.float64)
    apart = centres.centroid[one].astype(np.float64) - centres.centroid[other]
    return np.asarray(np.sqrt(2 * a * b / (a + b)) * np.linalg.norm(apart, axis=1))


def nearest(centres: Centres, rows: Ints, k: int = NEIGHBOURS) -> tuple[Ints, Floats]:
    """The clusters of other names that Ward's method would merge with each first.

    Args:
        rows: the clusters that are compared, [m].

    Returns: rows of `centres`, int64 [m, k], and heights, float32 [m, k]; -1 and infinity where
        there are not so many. Memory is bounded whatever m is.
    """
    k = min(k, max(0, rows.size - 1))
    found = np.full((rows.size, k), -1, np.int64)
    heights = np.full((rows.size, k), np.inf, np.float32)
    if not k:
        return found, heights
    points = centres.centroid[rows]
    sizes = centres.size[rows].astype(np.float32)
    group = centres.group[rows]
    squares = np.einsum("nd,nd->n", points, points)
    step = max(1, BLOCK_BYTES // (4 * rows.size))
    for start in range(0, rows.size, step):
        block = slice(start, start + step)
        squared = squares[block, None] + squares - 2 * (points[block] @ points.T)
        np.maximum(squared, 0, out=squared)
        squared *= 2 * sizes[block, None] * sizes / (sizes[block, None] + sizes)
        squared[group[block, None] == group] = np.inf
        near = np.argpartition(squared, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(squared, near, axis=1)
        order = np.argsort(values, axis=1, kind="stable")
        near, values = np.take_along_axis(near, order, 1), np.take_along_axis(values, order, 1)
        good = np.isfinite(values)
        found[block] = np.where(good, rows[near], -1)
        heights[block] = np.sqrt(values)
    return found, heights
