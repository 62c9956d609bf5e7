"""Compiled inner loops of `hashing.asymmetric` and `hashing.multi_index`."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.compiling import compiled

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer[Any]]


@compiled
def add_up(packed: Bytes, table: Floats, out: Floats) -> None:
    """Of codes [n, m] the sums of what `table` [m, 256] holds for each byte, into `out` [n]."""
    for i in range(packed.shape[0]):
        total = np.float32(0.0)
        for part in range(packed.shape[1]):
            total += table[part, packed[i, part]]
        out[i] = total


@compiled
def visit(first: Floats, second: Floats, sizes: Ints, wanted: int, found: Ints) -> int:
    """The cells nearest to a query, in the order of their distances, into `found` [k, 2].

    A cell (i, j) is as far as ``first[i] + second[j]``, both rising. It comes after (i - 1, j) and
    (i, j - 1), so that it is put into the queue by the later of these. Stops when the cells hold
    `wanted` items, `sizes` [i, j] each, or all have come; returns how many there are.
    """
    count, items = 0, 0
    rows, columns = sizes.shape
    # How many cells of each row and of each column have come.
    along, down = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
    queue = [(first[0] + second[0], np.int64(0), np.int64(0))]
    while len(queue) > 0 and items < wanted:
        _, i, j = heapq.heappop(queue)
        found[count, 0], found[count, 1] = i, j
        count += 1
        items += sizes[i, j]
        along[i] += 1
        down[j] += 1
        if j + 1 < columns and (i == 0 or along[i - 1] > j + 1):
            heapq.heappush(queue, (first[i] + second[j + 1], i, j + 1))
        if i + 1 < rows and (j == 0 or down[j - 1] > i + 1):
            heapq.heappush(queue, (first[i + 1] + second[j], i + 1, j))
    return count
