"""The compiled inner loop of `hashing.matched`: a path within a band, over features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.alignment_kernels import DIAGONAL, DOWN, RIGHT
from hashing.compiling import compiled


@compiled
def within_band(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], starts: npt.NDArray[np.int64],
    width: int, penalty: float, path: npt.NDArray[np.int32],
) -> int:  # fmt: skip
    """The cheapest path from the first row to the last within a band, into the end of `path`.

    Row i has the columns ``starts[i]`` to ``starts[i] + width - 1``, as far as y has them; the
    distance of a cell is 1 - x[i] · y[j], and a step to the next row or column alone costs
    `penalty` mean distances. A path may begin and end in any column. Returns where in `path` it
    begins. `starts` must not fall, nor rise by more than half of `width` from a row to the next,
    and the middle of each row's columns must be one of y: else there may be no path, and what is
    read is not checked.
    """
    m, n = x.shape[0], y.shape[0]
    bins = x.shape[1]
    distances = np.full((m, width), np.float32(np.inf), np.float32)
    total, cells = 0.0, 0
    for i in range(m):
        for k in range(width):
            j = starts[i] + k
            if 0 <= j < n:
                product = np.float32(0.0)
                for b in range(bins):
                    product += x[i, b] * y[j, b]
                distance = max(np.float32(1.0) - product, np.float32(0.0))
                distances[i, k] = distance
                total += float(distance)
                cells += 1
    step_cost = penalty * total / max(cells, 1)
    steps = np.zeros((m, width), np.uint8)
    before = np.full(width, np.inf)
    sums = np.full(width, np.inf)
    for k in range(width):
        before[k] = distances[0, k]
        if k > 0 and before[k - 1] + step_cost + distances[0, k] < before[k]:
            before[k] = before[k - 1] + step_cost + distances[0, k]
            steps[0, k] = RIGHT
    for i in range(1, m):
        moved = starts[i] - starts[i - 1]
        for k in range(width):
            above = k + moved  # the same column, a row before
            best, step = np.inf, DIAGONAL
            if 0 <= above - 1 < width:
                best = before[above - 1]
            if 0 <= above < width and before[above] + step_cost < best:
                best, step = before[above] + step_cost, DOWN
            if k > 0 and sums[k - 1] + step_cost < best:
                best, step = sums[k - 1] + step_cost, RIGHT
            sums[k] = best + distances[i, k]
            steps[i, k] = step
        before[:] = sums
    k = int(np.argmin(before))
    i, place = m - 1, len(path)
    while True:
        place -= 1
        path[place, 0], path[place, 1] = i, starts[i] + k
        step = steps[i, k]
        if step == RIGHT:
            k -= 1
        elif i == 0:
            return place
        else:
            k += starts[i] - starts[i - 1] - (1 if step == DIAGONAL else 0)
            i -= 1
