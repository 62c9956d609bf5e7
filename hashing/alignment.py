"""Two sequences laid along one another by dynamic time warping, over codes and over features.

Both aligners know the same paths, those of Raffel's aligner ("Learning-based methods for comparing
sequences", thesis, Columbia University 2016, chapters 4 and 7). A path begins anywhere in the first
row or the first column and steps to the next row, the next column, or both; a step to both is free,
the others cost a penalty. It ends in the last row or the last column, at an index of `corner` or
more. So one sequence may hold the other, or they may overlap by most of the shorter one. The end is
the one of the least cost, penalties included, not the one of the least cost a cell.

* `hash_score` and `hash_scores` compare sequences of 32-bit codes by Hamming distance, and tell
  nothing but the score: cost by cells of the path. They prune a catalogue.
* `align` compares sequences of features by cosine distance, and gives the path and a confidence.

Loops are compiled (`hashing.alignment_kernels`) when the first pair is compared.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

# Of Hamming DTW: the published gully, and bits that a step costs, tuned for 32-bit codes.
HASH_GULLY, HASH_PENALTY = 0.9, 15
# Of cosine DTW, the published one.
GULLY = 0.96

# Mean distance below which all frames are alike (rounding of float32 products), and no path is
# better than another one.
FLAT = 1e-5


def corner(rows: int, columns: int, gully: float) -> int:
    """Least index at which a path may end on the last row or the last column.

    Args:
      rows, columns: of the distance matrix.
      gully: share of the shorter side, 0 to 1. At 1 a path covers all of the shorter side.

    >>> corner(480, 500, 0.9), corner(10, 10, 1.0), corner(1, 8, 0.9)
    (432, 9, 0)
    """
    shorter = min(rows, columns)
    return min(int(gully * shorter), shorter - 1)


def hash_score(a: Codes, b: Codes, gully: float = HASH_GULLY, penalty: int = HASH_PENALTY) -> float:
    """Bits in which two code sequences differ along their cheapest path, a cell.

    Distances are the bits set in ``a[i] ^ b[j]``; the score is the cost of the path, penalties
    included, by its cells. 0 is one sequence within the other; sequences of fair bits that have
    nothing to do with one another are at 10 to 13. Of paths of equal cost the one with the fewest
    cells counts, so that the score does not depend on the order of the two.

    Args:
      a, b: uint32, [M] and [N].
      gully: see `corner`.
      penalty: bits that a step to the next row or column alone costs.

    Raises:
      ValueError: an empty sequence, codes that are not uint32, or a setting out of its range.

    Source: Raffel & Ellis, "Large-scale content-based matching of MIDI and audio files" (ISMIR
    2015); Raffel 2016, chapter 4.

    >>> whole = np.random.default_rng(1).integers(0, 2**32, 50, dtype=np.uint32)
    >>> hash_score(whole, whole[10:40]), hash_score(whole, whole ^ np.uint32(7))
    (0.0, 3.0)
    """
    a, b = _codes(a, "a"), _codes(b, "b")
    if not a.size or not b.size:
        raise ValueError(f"sequences of {a.size} and {b.size} codes: nothing to align")
    offsets = np.array([0, b.size], dtype=np.int64)
    return float(hash_scores(a, b, offsets, gully=gully, penalty=penalty)[0])


def hash_scores(
    query: Codes,
    codes: Codes,
    offsets: npt.NDArray[np.integer[Any]],
    limit: float | None = None,
    best: int | None = None,
    *,
    gully: float = HASH_GULLY,
    penalty: int = HASH_PENALTY,
    prune: bool = True,
) -> Values:
    """`hash_score` of one sequence with each of many; infinite where it is not good enough.

    Args:
      query: uint32, [M].
      codes: uint32, all sequences one after another.
      offsets: where each begins in `codes`, and where the last one ends, [S + 1], not falling.
      limit: scores of this and above are left out.
      best: all but the so many best are left out; of equal scores, the earlier ones are kept.
      gully, penalty: as of `hash_score`.
      prune: drop sequences by the bound below. It changes the time, and never the result.

    Returns:
      [S], infinite for what is left out and for sequences without codes.

    Raises:
      ValueError: an empty query, offsets that do not fit the codes, or a setting out of its range.

    The bound. Let T be the limit, T <= penalty. Call the *excess* of a path its cost minus T times
    its cells. If a sequence scores below T, its cheapest path has an excess below 0, and so has the
    path of the least excess, which is found by the same recurrence on one 16-bit sum a cell, with
    T taken off each distance: if no admissible end has a least excess below 0, the score is T or
    more. Rounding keeps this true: T is rounded up and the penalty is cut down, which lowers every
    excess, and sums are cut off above, which lowers them.

    The recurrence is left before its end once nothing can sink below 0 any more. A step adds
    penalty + distance - T >= 0, so only cells that are begun or entered diagonally take anything
    off, at most T each. From cell (i, j), with r = M - 1 - i rows and c = N - 1 - j columns left,
    at most min(r, c) of them follow; a path that ends in the last row steps down at least r - c
    times and to the right at least corner - j - r times, and likewise in the last column; each of
    these steps adds penalty - T or more. A path that begins in the first row with c columns left
    has at most min(M, c) such cells, and crosses corner + 1 rows or more, so that it steps down at
    least corner + 1 - c times; likewise from the first column.

    Bounds from the least distance of each row, as published, drop nothing here: among hundreds of
    codes some are near to every code, so that the mean of the row minima is 3 to 5 bits where the
    scores of unrelated pairs are 10 to 13.

    >>> song = np.random.default_rng(1).integers(0, 2**32, 60, dtype=np.uint32)
    >>> hash_scores(song[:20], song, np.array([0, 20, 20, 60]), limit=5.0).tolist()
    [0.0, inf, inf]
    """
    query, codes = _codes(query, "query"), _codes(codes, "codes")
    bounds = np.ascontiguousarray(offsets, dtype=np.int64)
    _check(gully, penalty)
    if not query.size:
        raise ValueError("query has no codes: nothing to align")
    if bounds.ndim != 1 or not bounds.size or bounds[0] < 0 or bounds[-1] > codes.size:
        raise ValueError(f"offsets do not lie within {codes.size} codes")
    sizes = np.diff(bounds)
    if np.any(sizes < 0):
        raise ValueError("offsets fall: each sequence begins where the last one ends")
    if limit is not None and math.isnan(limit):
        raise ValueError("limit is not a number")
    if best is not None and best < 1:
        raise ValueError(f"best is {best}: at least one sequence is asked for")
    scores = np.full(len(sizes), np.inf)
    if not len(sizes):
        return scores
    from hashing import alignment_kernels

    longest = int(sizes.max())
    wide = _sum_bits(query.size, longest, penalty) > 32
    wanted = 0 if best is None else min(int(best), len(sizes))
    highest = math.inf if limit is None else float(limit)
    alignment_kernels.scan(
        query, codes, bounds, float(gully), int(min(penalty, 2**40)), highest, wanted,
        bool(prune), wide, scores,
    )  # fmt: skip
    if best is not None:
        scores[np.argsort(scores, kind="stable")[best:]] = np.inf
    return scores


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The cheapest path of two sequences, and how much it is better than chance.

    Attributes:
      path: int32, [L, 2], pairs of indexes, none of them falling.
      cost: of the path, penalties included.
      length: cells of the path, L.
      score: cost by length, by the mean distance in the box around the path: about 1 and more for
        sequences that have nothing to do with one another, 0 for equal ones. 1 where all in the
        box are alike (silence): there no path is better than another.
      confidence: 1 for scores of 0.5 and less, 0 for 1 and more, linear between. More than 0.5 is
        a match (Raffel 2016, chapter 7).
    """

    path: npt.NDArray[np.int32]
    cost: float
    length: int
    score: float
    confidence: float


def align(
    x: Floats,
    y: Floats,
    gully: float = GULLY,
    penalty: float | Literal["median", "mean"] | None = None,
) -> Alignment:
    """Align two sequences of features by the cosine distance of their frames.

    Args:
      x, y: float32, [M, d] and [N, d], rows of length 1, or 0 for silence.
      gully: see `corner`.
      penalty: of a step to the next row or column alone: a number, or the "median" (None) or
        "mean" of all distances.

    Raises:
      ValueError: an empty or not finite sequence, frames of two widths, or a setting out of its
        range.

    Memory is 5 bytes a cell of the M by N matrix, and 4 more while a median is taken.

    Source: Raffel & Ellis, "Optimizing DTW-based audio-to-MIDI alignment and matching" (ICASSP
    2016).

    >>> frames = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    >>> frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    >>> found = align(frames, frames[5:])
    >>> found.path[0].tolist(), found.path[-1].tolist(), found.confidence
    ([5, 0], [39, 34], 1.0)
    """
    x, y = np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features of shapes {x.shape} and {y.shape}: frames of one width needed")
    if not x.size or not y.size:
        raise ValueError(f"features of shapes {x.shape} and {y.shape}: nothing to align")
    distances = x @ y.T
    np.subtract(np.float32(1.0), distances, out=distances)
    # Rounding makes some a little less than nothing; nan stays.
    np.maximum(distances, np.float32(0.0), out=distances)
    return align_matrix(distances, gully, penalty)


def align_matrix(
    distances: Floats,
    gully: float = GULLY,
    penalty: float | Literal["median", "mean"] | None = None,
) -> Alignment:
    """`align` by distances that are there already.

    Of two equally cheap ways into a cell the diagonal one is taken, then the one from the row
    before; of equally cheap ends the first one in the last row, then the first one in the last
    column.

    Args:
      distances: float32, [M, N], 0 and more.
      gully, penalty: as of `align`.

    Raises:
      ValueError: an empty matrix, a distance that is negative or not finite, or a setting out of
        its range.

    >>> found = align_matrix(1 - np.eye(4, 6, k=1, dtype=np.float32))
    >>> found.path.tolist(), found.cost, found.score
    ([[0, 1], [1, 2], [2, 3], [3, 4]], 0.0, 0.0)
    """
    distances = np.ascontiguousarray(distances, dtype=np.float32)
    if distances.ndim != 2 or not distances.size:
        raise ValueError(f"distances of shape {distances.shape}: nothing to align")
    if not float(distances.min()) >= 0.0 or not math.isfinite(float(distances.max())):
        raise ValueError("distances must be finite and not negative")
    step = _penalty(distances, penalty)
    _check(gully, step)
    from hashing import alignment_kernels

    rows, columns = distances.shape
    steps = np.zeros((rows, columns), dtype=np.uint8)
    end = corner(rows, columns, gully)
    cost, i, j = alignment_kernels.accumulate(distances, step, end, steps)
    room = np.empty((i + j + 1, 2), dtype=np.int32)
    path = room[alignment_kernels.retrace(steps, i, j, room) :].copy()
    box = distances[path[0, 0] : i + 1, path[0, 1] : j + 1]
    mean = float(box.mean(dtype=np.float64))
    score = cost / len(path) / mean if mean > FLAT else 1.0
    confidence = min(max(2.0 * (1.0 - score), 0.0), 1.0)
    return Alignment(path, float(cost), len(path), float(score), float(confidence))


def _penalty(distances: Floats, penalty: float | str | None) -> float:
    if penalty is None or penalty == "median":
        return float(np.median(distances))
    if penalty == "mean":
        return float(distances.mean(dtype=np.float64))
    if isinstance(penalty, str):
        raise ValueError(f"penalty is {penalty!r}: median, mean or a number")
    return float(penalty)


def _check(gully: float, penalty: float) -> None:
    if not 0.0 <= gully <= 1.0:
        raise ValueError(f"gully is {gully}: a share, 0 to 1")
    if not 0.0 <= penalty < math.inf:
        raise ValueError(f"penalty is {penalty}: 0 or more, and finite")


def _codes(values: Codes, name: str) -> Codes:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype != np.uint32:
        raise ValueError(f"{name}: {values.dtype} of shape {values.shape}, not uint32 of one axis")
    return np.ascontiguousarray(values)


def _sum_bits(rows: int, columns: int, penalty: int) -> int:
    """Bits that cost and cells of a path take together while two ways are compared.

    The cheapest path into a cell costs at most 32 bits for each cell of its diagonal; a penalty
    above that is never paid, and is cut down to it.
    """
    most = 32 * min(rows, columns)
    return (most + min(penalty, most + 1) + 32).bit_length() + (rows + columns).bit_length()
