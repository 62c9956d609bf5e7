"""Compiled inner loops of `hashing.alignment`.

Cells of one anti-diagonal do not depend on one another, so that all of them are done side by side
in vector registers. Cell (i, j) of diagonal k = i + j is kept at place ``i - k // 2`` (plus a
constant): its diagonal neighbour, two diagonals before, stands at the same place of the same array
and is overwritten, and the other two stand next to each other in the array of the odd or the even
diagonals. Cells beyond the matrix, which fill up the last register, are computed as well; no cell
of the matrix ever looks at one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.compiling import compiled

Words = npt.NDArray[np.unsignedinteger[Any]]
Codes = npt.NDArray[np.uint32]
Halves = npt.NDArray[np.uint16]
Shorts = npt.NDArray[np.int16]
Values = npt.NDArray[np.float64]
# A number of a numpy type, which decides how many cells are done at once.
Scalar = Any

# Cells done in one round of a loop over a diagonal: whole registers, so that no cell is left over.
WORDS_A_ROUND, SHORTS_A_ROUND = 32, 32
PAD = 64

# The bound works in 16 bits: sums are cut off above, which only lowers them, and may fall so low.
CEILING, FLOOR = 28_000, -32_000
# A higher penalty is taken for this one, which only lowers the bound.
BOUND_PENALTY = 500
# Diagonals between two looks whether any path can still be good enough.
LOOK_EVERY = 48
# What the bound costs of what the score costs, where it is not left early. It is tried while it
# saves time, by a running mean over so many sequences, and once in as many after that, because the
# limit falls.
BOUND_COST, RETRY_EVERY = 0.85, 16

# Steps of a path, as the float aligner writes them down.
DIAGONAL, DOWN, RIGHT = 0, 1, 2


@compiled
def _ones(x: Scalar) -> Scalar:
    """Bits set in a uint32; LLVM knows the pattern, and makes one instruction of it."""
    x = np.uint32(x - ((x >> np.uint32(1)) & np.uint32(0x55555555)))
    x = np.uint32((x & np.uint32(0x33333333)) + ((x >> np.uint32(2)) & np.uint32(0x33333333)))
    x = np.uint32((x + (x >> np.uint32(4))) & np.uint32(0x0F0F0F0F))
    return np.uint32(np.uint32(x * np.uint32(0x01010101)) >> np.uint32(24))


@compiled
def _ones_of_half(x: Scalar) -> Scalar:
    """Bits set in a uint16."""
    x = np.uint16(x - ((x >> np.uint16(1)) & np.uint16(0x5555)))
    x = np.uint16((x & np.uint16(0x3333)) + ((x >> np.uint16(2)) & np.uint16(0x3333)))
    x = np.uint16((x + (x >> np.uint16(4))) & np.uint16(0x0F0F))
    return np.uint16(np.uint16(x * np.uint16(0x0101)) >> np.uint16(8))


@compiled
def _walk(
    a: Codes, b: Codes, own: Words, other: Words, i: Scalar, j: Scalar, x: Scalar, y: Scalar,
    n: Scalar, step: Scalar, shift: Scalar,
) -> None:  # fmt: skip
    """The cells of one diagonal: cost << shift | cells, so that the least is one comparison."""
    # Unsigned, since numba would look for negative indexes cell by cell.
    i, j, x, y, n = np.uint64(i), np.uint64(j), np.uint64(x), np.uint64(y), np.uint64(n)
    z = np.uint64(y + np.uint64(1))
    word = own.dtype.type
    for t in range(n):
        distance = word(_ones(np.uint32(a[i + t] ^ b[j + t])))
        stepped = word(min(other[y + t], other[z + t]) + step)
        best = word(min(stepped, own[x + t]) + word(1))
        own[x + t] = word(best + word(distance << np.uint32(shift & np.uint32(31))))


@compiled
def cheapest(
    a: Codes, m: int, b: Codes, n: int, corner: int, penalty: int, even: Words, odd: Words
) -> tuple[Scalar, Scalar]:
    """Cost and cells of the cheapest path, of those the one with the fewest cells.

    Args:
      a: m codes and `PAD` of anything.
      b: n codes in reverse order and `PAD` of anything.
      corner: least index of an end on the last row or column.
      penalty: of a step that is not diagonal, at most 32 * min(m, n) + 1.
      even, odd: room for m + n // 2 + 3 + `PAD` sums, of a type that holds them.
    """
    word = even.dtype.type
    shift = np.uint32(1)
    while (1 << shift) <= m + n:
        shift = np.uint32(shift + 1)
    step = word(word(penalty) << shift)
    one = word(1)
    base = n // 2 + 1
    best = word(~word(0))
    for k in range(m + n - 1):
        low, high = max(0, k - n + 1), min(m - 1, k)
        x = low - k // 2 + base
        last = x + high - low
        j = n - 1 - k
        cells = (high - low + WORDS_A_ROUND) // WORDS_A_ROUND * WORDS_A_ROUND
        if k % 2 == 0:
            own = even
            _walk(a, b, even, odd, low, j + low, x, x, cells, step, shift)
        else:
            own = odd
            _walk(a, b, odd, even, low, j + low, x, x - 1, cells, step, shift)
        if low == 0 and j >= 0:
            own[x] = word(word(word(_ones(np.uint32(a[0] ^ b[j]))) << shift) + one)
        if high == k:
            own[last] = word(word(word(_ones(np.uint32(a[k] ^ b[n - 1]))) << shift) + one)
        if high == m - 1 and k - high >= corner:
            best = min(best, own[last])
        if low == k - n + 1 and low >= corner:
            best = min(best, own[x])
    return np.int64(best >> shift), np.int64(best & word((one << shift) - one))


@compiled
def _walk_excess(
    a: Halves, a_high: Halves, b: Halves, b_high: Halves, own: Shorts, other: Shorts,
    i: Scalar, j: Scalar, x: Scalar, y: Scalar, n: Scalar, step: Scalar, scale: Scalar,
    threshold: Scalar,
) -> None:  # fmt: skip
    """The cells of one diagonal: the least sum of what distances and penalties exceed."""
    i, j, x, y, n = np.uint64(i), np.uint64(j), np.uint64(x), np.uint64(y), np.uint64(n)
    z = np.uint64(y + np.uint64(1))
    for t in range(n):
        low = _ones_of_half(np.uint16(a[i + t] ^ b[j + t]))
        high = _ones_of_half(np.uint16(a_high[i + t] ^ b_high[j + t]))
        distance = np.int16(np.int16(low + high) * scale)
        stepped = np.int16(min(other[y + t], other[z + t]) + step)
        best = np.int16(min(stepped, own[x + t]) + np.int16(distance - threshold))
        own[x + t] = min(best, np.int16(CEILING))


@compiled
def _settled(
    sums: Shorts, k: int, base: int, m: int, n: int, corner: int, step: Scalar, threshold: Scalar
) -> bool:
    """Whether no path through a cell of diagonal k can end with an excess below 0."""
    low, high = max(0, k - n + 1), min(m - 1, k)
    x, cells = np.uint64(low - k // 2 + base), np.uint64(high - low + 1)
    # Of the first cell; 32 bits, so that more cells fit a register.
    rows, columns = np.int32(m - 1 - low), np.int32(n - 1 - k + low)
    to_row, to_column = np.int32(corner - k + low), np.int32(corner - low)
    each, most = np.int32(step - threshold), np.int32(threshold)
    worst = np.int32(0)
    for t in range(cells):
        i = np.int32(t)
        r, c = np.int32(rows - i), np.int32(columns + i)
        down = max(np.int32(r - c), np.int32(np.int32(to_row + i) - r), np.int32(0))
        right = max(np.int32(c - r), np.int32(np.int32(to_column - i) - c), np.int32(0))
        paid = np.int32(each * min(down, right))
        worst = min(worst, np.int32(np.int32(sums[x + t] + paid) - np.int32(most * min(r, c))))
    return bool(worst >= 0)


@compiled
def can_be_below(
    a: Halves, a_high: Halves, m: int, b: Halves, b_high: Halves, n: int, corner: int,
    penalty: int, limit: float, even: Shorts, odd: Shorts,
) -> tuple[bool, int]:  # fmt: skip
    """Whether any path may score below `limit`, and how many diagonals it took; False is proof.

    `hashing.alignment.hash_scores` has the proof. True where the bound cannot be used: a penalty
    below the limit, or sequences whose sums do not fit 16 bits.
    """
    if not limit <= min(32, penalty):
        return True, 0
    scale = np.uint16(3)
    while scale > 0 and np.ceil(limit * (1 << scale)) * min(m, n) > -FLOOR:
        scale = np.uint16(scale - 1)
    threshold = np.int16(np.ceil(limit * (1 << scale)))
    if threshold * min(m, n) > -FLOOR:
        return True, 0
    step = np.int16(min(penalty, BOUND_PENALTY) << scale)
    factor = np.int16(1 << scale)
    base = n // 2 + 1
    for k in range(m + n - 1):
        low, high = max(0, k - n + 1), min(m - 1, k)
        x = low - k // 2 + base
        last = x + high - low
        j = n - 1 - k
        cells = (high - low + SHORTS_A_ROUND) // SHORTS_A_ROUND * SHORTS_A_ROUND
        if k % 2 == 0:
            own, other = even, odd
            _walk_excess(a, a_high, b, b_high, even, odd, low, j + low, x, x, cells, step, factor,
                         threshold)  # fmt: skip
        else:
            own, other = odd, even
            _walk_excess(a, a_high, b, b_high, odd, even, low, j + low, x, x - 1, cells, step,
                         factor, threshold)  # fmt: skip
        if low == 0 and j >= 0:
            ones = _ones_of_half(np.uint16(a[0] ^ b[j]))
            ones += _ones_of_half(np.uint16(a_high[0] ^ b_high[j]))
            own[x] = np.int16((np.int64(ones) << scale) - threshold)
        if high == k:
            ones = _ones_of_half(np.uint16(a[k] ^ b[n - 1]))
            ones += _ones_of_half(np.uint16(a_high[k] ^ b_high[n - 1]))
            own[last] = np.int16((np.int64(ones) << scale) - threshold)
        if high == m - 1 and k - high >= corner and own[last] < 0:
            return True, k + 1
        if low == k - n + 1 and low >= corner and own[x] < 0:
            return True, k + 1
        if k % LOOK_EVERY == LOOK_EVERY - 1:
            # A path that begins later has so few columns (or rows) left that it must step.
            late = True
            for mine, its in ((n - 1 - k, m), (m - 1 - k, n)):
                gain = threshold * min(mine, its)
                forced = (step - threshold) * (corner + 1 - mine)
                late = late and bool(mine <= 0 or forced >= gain)
            # One that is under way has a cell on this diagonal or on the last one.
            if (
                late
                and _settled(own, k, base, m, n, corner, step, threshold)
                and _settled(other, k - 1, base, m, n, corner, step, threshold)
            ):
                return False, k + 1
    return False, m + n - 1


@compiled
def scan(
    query: Codes, codes: Codes, offsets: npt.NDArray[np.int64], gully: float, penalty: int,
    limit: float, best: int, prune: bool, wide: bool, scores: Values,
) -> int:  # fmt: skip
    """Scores of all sequences into `scores`, infinite where not below the limit; how many were
    computed.

    With `best` above 0 the limit is the worst of the so many best until then, once there are.
    """
    n = query.size
    longest = 0
    for s in range(offsets.size - 1):
        longest = max(longest, offsets[s + 1] - offsets[s])
    b = np.zeros(n + PAD, np.uint32)
    b[:n] = query[::-1]
    b_low, b_high = b.astype(np.uint16), (b >> np.uint32(16)).astype(np.uint16)
    a = np.zeros(longest + PAD, np.uint32)
    a_low, a_high = np.zeros(a.size, np.uint16), np.zeros(a.size, np.uint16)
    room = longest + n // 2 + 3 + PAD
    even, odd = np.zeros(room, np.uint32), np.zeros(room, np.uint32)
    even_wide = np.zeros(room if wide else 0, np.uint64)
    odd_wide = np.zeros(room if wide else 0, np.uint64)
    even_short, odd_short = np.zeros(room, np.int16), np.zeros(room, np.int16)
    leaders = np.full(max(best, 1), np.inf)
    worth, waited, computed = 0.0, 0, 0
    for s in range(offsets.size - 1):
        scores[s] = np.inf
        start, m = offsets[s], offsets[s + 1] - offsets[s]
        if m == 0:
            continue
        for i in range(m):
            a[i] = codes[start + i]
        corner = min(int(gully * min(m, n)), min(m, n) - 1)
        if prune and limit < np.inf:
            waited += 1
            if worth >= 0.0 or waited >= RETRY_EVERY:
                waited = 0
                for i in range(m):
                    a_low[i] = np.uint16(a[i])
                    a_high[i] = np.uint16(a[i] >> np.uint32(16))
                possible, done = can_be_below(
                    a_low, a_high, m, b_low, b_high, n, corner, penalty, limit,
                    even_short, odd_short,
                )  # fmt: skip
                share = done / (m + n)
                cells = 2 * share**2 if share < 0.5 else 1 - 2 * (1 - share) ** 2
                saved = (0.0 if possible else 1.0) - BOUND_COST * cells
                worth += (saved - worth) / RETRY_EVERY
                if not possible:
                    continue
        computed += 1
        cap = min(penalty, 32 * min(m, n) + 1)
        if wide:
            cost, cells = cheapest(a, m, b, n, corner, cap, even_wide, odd_wide)
        else:
            cost, cells = cheapest(a, m, b, n, corner, cap, even, odd)
        score = cost / cells
        if score >= limit:
            continue
        scores[s] = score
        if best > 0:
            place = best - 1
            while place > 0 and leaders[place - 1] > score:
                leaders[place] = leaders[place - 1]
                place -= 1
            leaders[place] = score
            limit = min(limit, leaders[best - 1])
    return computed


@compiled
def accumulate(
    distances: npt.NDArray[np.float32], penalty: float, corner: int, steps: npt.NDArray[np.uint8]
) -> tuple[float, int, int]:
    """Cost and end of the cheapest path; the steps into each cell but the first row and column."""
    m, n = distances.shape
    sums = distances[0].astype(np.float64)
    row, column = m - 1, n - 1
    on_column = np.inf
    if corner == 0:
        on_column, row = sums[n - 1], 0
    for i in range(1, m):
        diagonal = sums[0]
        left = np.float64(distances[i, 0])
        sums[0] = left
        for j in range(1, n):
            above = sums[j]
            best, step = diagonal, DIAGONAL
            if above + penalty < best:
                best, step = above + penalty, DOWN
            if left + penalty < best:
                best, step = left + penalty, RIGHT
            diagonal = above
            left = best + distances[i, j]
            sums[j] = left
            steps[i, j] = step
        if i >= corner and left < on_column:
            on_column, row = left, i
    on_row = np.inf
    for j in range(corner, n):
        if sums[j] < on_row:
            on_row, column = sums[j], j
    if on_column < on_row:
        return on_column, row, n - 1
    return on_row, m - 1, column


@compiled
def retrace(steps: npt.NDArray[np.uint8], i: int, j: int, path: npt.NDArray[np.int32]) -> int:
    """The path that ends in (i, j), into the end of `path`; where in it the path begins."""
    place = len(path)
    while True:
        place -= 1
        path[place, 0], path[place, 1] = i, j
        if i == 0 or j == 0:
            return place
        step = steps[i, j]
        if step != RIGHT:
            i -= 1
        if step != DOWN:
            j -= 1
