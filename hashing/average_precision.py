"""Average precision of rankings by distance, fair to items of equal distance.

Short codes put most of a database at a few distances: of 8 bits there are nine. What a ranking is
worth then depends on the order that a sort happens to leave equal distances in. All figures here
are means over every order of items of equal distance, computed exactly, without drawing any order:
McSherry & Najork, "Computing information retrieval performance measures efficiently in the presence
of tied scores" (ECIR 2008); He et al., "Hashing as tie-aware learning to rank" (CVPR 2018) ask the
same of binary hashes.

Let a group of `c` items of one distance, `r` of them relevant, stand behind `N` nearer items of
which `S` are relevant. At its place `j`, rank ``k = N + j``, is a relevant item with probability
``r / c``; if it is one, each of the ``j - 1`` places before it has one with probability
``q = (r - 1) / (c - 1)``. So the mean of precision times relevance there is
``r / c * (S + 1 + (j - 1) * q) / k``. As ``j - 1 = k - (N + 1)``, the first `m` places add up to
``r / c * (m * q + (S + 1 - (N + 1) * q) * (H(N + m) - H(N)))`` with `H` the harmonic numbers; `m`
is less than `c` for the group in which the cut falls.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]

# What the sum over ranks is divided by; see `average_precision`.
Divisor = Literal["possible", "found"]

# Distances handled at once: with their keys, order and gains they take some 30 MB.
_CELLS_AT_ONCE = 1 << 20

# Integer distances within a range of so many are counted, however few the items are: all of a byte.
# In a longer range than that and than there are items, most counts would be of nothing.
_COUNTED_SPAN = 256


def average_precision(
    distances: npt.ArrayLike,
    relevant: npt.ArrayLike,
    at: int | None = None,
    divisor: Divisor = "possible",
) -> float:
    """AP@R of one query: precision at the ranks of relevant items, up to rank R.

    ``AP@R = Σ_{k ≤ R} P(k) rel(k) / min(R, relevant items in the whole database)``, its mean over
    all orders of equal distances. A ranking that has relevant items at each of its first ranks, as
    far as there are any, has 1; one without any among the first R has 0.

    Published code of deep quantization divides by the relevant items that are *found* among the
    first R instead, and leaves out queries that find none: a query that finds one of a hundred, at
    rank 1, has 1 there and a hundredth here. ``divisor="found"`` computes that figure, for
    comparisons alone, as the mean over those orders that find any.

    Args:
      distances: of all items of the database to the query, [n], integer or real, infinite ones
        allowed; without the query itself, if that is in the database.
      relevant: which of them are relevant, bool [n].
      at: the rank R, from 1 on; None for all, as is one beyond the number of items.
      divisor: "possible" or "found".

    Returns:
      0 to 1. NaN where no item of the whole database is relevant, and, with ``divisor="found"``,
      where none is among the first R in any order.

    Raises:
      ValueError: shapes that do not fit, relevance that is not bool, distances that are not numbers
        or NaN, or another `at` or `divisor`.

    >>> average_precision([0.1, 0.2, 0.3], [True, False, True])  # (1/1 + 2/3) / 2
    0.833...
    >>> average_precision([1, 1], [True, False])  # either 1/1 or 1/2
    0.75
    >>> average_precision([0.1, 0.2, 0.3], [True, False, True], at=2)  # of two that could be there
    0.5
    >>> average_precision([0.1, 0.2, 0.3], [True, False, True], at=2, divisor="found")
    1.0
    """
    return _single(average_precisions([distances], [relevant], at, divisor))


def average_precisions(
    distances: Numbers | Iterable[npt.ArrayLike],
    relevant: Flags | Iterable[npt.ArrayLike],
    at: int | None = None,
    divisor: Divisor = "possible",
) -> Values:
    """`average_precision` of each of many queries, [q].

    Args:
      distances: [q, n], or anything that gives rows [n] or blocks of rows [b, n] one after another,
        such as a generator that computes them, so that they need not be in memory together.
      relevant: the same of bool.
      at, divisor: see `average_precision`.

    >>> average_precisions(np.array([[3, 1], [1, 3]]), np.array([[True, False]] * 2)).tolist()
    [0.5, 1.0]
    """
    _check_cut(at)
    if divisor not in ("possible", "found"):
        raise ValueError(f"divisor={divisor!r} must be 'possible' or 'found'")
    parts = [_of_block(*block, at, divisor) for block in _blocks(distances, relevant)]
    return np.concatenate([np.empty(0), *parts])


def mean_average_precision(
    distances: Numbers | Iterable[npt.ArrayLike],
    relevant: Flags | Iterable[npt.ArrayLike],
    at: int | None = None,
    divisor: Divisor = "possible",
) -> float:
    """mAP@R: the mean of `average_precisions` over queries that have a figure.

    Queries of which no item of the database is relevant tell nothing and are left out; those that
    find none of their relevant items count 0, but for ``divisor="found"``, which leaves them out.
    NaN where no query is left.

    >>> relevant = np.array([[True, False], [True, False], [False, False]])
    >>> mean_average_precision(np.array([[3, 1], [1, 3], [1, 3]]), relevant)
    0.75
    """
    return _mean(average_precisions(distances, relevant, at, divisor))


def hierarchical_average_precision(
    distances: npt.ArrayLike, gains: npt.ArrayLike, at: int | None = None
) -> float:
    """AHP@R of one query with graded relevance: a miss within the right family counts for more.

    Hierarchical precision is the gain of the first `k` items over the largest that any `k` items of
    the database have, ``HP@k = Σ_{i ≤ k} gain(i) / max Σ gain`` (Deng, Berg & Fei-Fei,
    "Hierarchical semantic indexing for large scale image retrieval", CVPR 2011). Average
    hierarchical precision is its mean over ranks, ``AHP@R = Σ_{k ≤ R} HP@k / R``, as Zhang et al.
    have it, "Semantic hierarchy preserving deep hashing for large-scale image retrieval"
    (arXiv:1901.11259, 2019). Here it is the mean over all orders of equal distances as well.

    Barz & Denzler, "Hierarchy-based image embeddings for semantic image retrieval" (WACV 2019),
    integrate the same curve with trapezoids from rank 1 to R and divide by R: their figure is less
    by ``(HP@1 + HP@R) / 2R``, and ``1 - 1 / R`` at best. H-AP of Ramzi et al., "Hierarchical
    average precision training for pertinent image retrieval" (ECCV 2022), is another figure.

    Gains of 0 and 1 do not give `average_precision`: all ranks count here, not those of relevant
    items only. HP@k is then the relevant ones among the first `k`, over ``min(k, all of them)``.

    Args:
      distances: see `average_precision`.
      gains: of the items, 0 to 1, [n]; `hashing.taxonomy` has them for labels.
      at: see `average_precision`.

    Returns:
      0 to 1; 1 for an order of falling gains. NaN where all gains are 0.

    Raises:
      ValueError: gains that are not within 0 and 1; see also `average_precision`.

    >>> hierarchical_average_precision([0.3, 0.2, 0.1], [0.0, 0.5, 1.0])
    1.0
    >>> hierarchical_average_precision([0.1, 0.2], [0.5, 1.0])  # (0.5 / 1.0 + 1.5 / 1.5) / 2
    0.75
    """
    return _single(hierarchical_average_precisions([distances], [gains], at))


def hierarchical_average_precisions(
    distances: Numbers | Iterable[npt.ArrayLike],
    gains: Numbers | Iterable[npt.ArrayLike],
    at: int | None = None,
) -> Values:
    """`hierarchical_average_precision` of each of many queries, [q].

    Args:
      distances, gains: [q, n], or rows or blocks of rows one after another; see
        `average_precisions`.

    >>> rows = ([1.0, 2.0], [2.0, 1.0])
    >>> hierarchical_average_precisions(rows, [[0.5, 1.0]] * 2).tolist()
    [0.75, 1.0]
    """
    _check_cut(at)
    parts = [_of_graded_block(*block, at) for block in _blocks(distances, gains)]
    return np.concatenate([np.empty(0), *parts])


def mean_hierarchical_average_precision(
    distances: Numbers | Iterable[npt.ArrayLike],
    gains: Numbers | Iterable[npt.ArrayLike],
    at: int | None = None,
) -> float:
    """mAHP@R: the mean of `hierarchical_average_precisions` over queries with any gain.

    NaN where there is no such query.

    >>> mean_hierarchical_average_precision([[1, 2], [2, 1], [1, 1]], [[0.5, 1], [0.5, 1], [0, 0]])
    0.875
    """
    return _mean(hierarchical_average_precisions(distances, gains, at))


def _check_cut(at: int | None) -> None:
    if at is not None and (type(at) is bool or not isinstance(at, (int, np.integer)) or at < 1):
        raise ValueError(f"at={at!r} must be a rank, a whole number from 1 on")


def _blocks(
    distances: Numbers | Iterable[npt.ArrayLike], others: Numbers | Iterable[npt.ArrayLike]
) -> Iterator[tuple[Numbers, Numbers]]:
    """Blocks [b, n] of distances and what belongs to them, of a handy size."""
    pairs: Iterable[tuple[Any, Any]] = itertools.zip_longest(distances, others)
    if isinstance(distances, np.ndarray) and isinstance(others, np.ndarray) and distances.ndim == 2:
        pairs = [(distances, others)]
    for given, belonging in pairs:
        if given is None or belonging is None:
            raise ValueError("distances and relevance must have the same number of rows")
        block, other = np.asarray(given), np.asarray(belonging)
        if block.shape != other.shape or block.ndim not in (1, 2):
            raise ValueError(
                f"distances and relevance must be rows of one length, got {block.shape} and "
                f"{other.shape}"
            )
        block, other = np.atleast_2d(block), np.atleast_2d(other)
        if block.dtype.kind not in "iuf" or np.isnan(block).any():
            raise ValueError(f"distances must be numbers and not NaN, got {block.dtype}")
        rows = max(1, _CELLS_AT_ONCE // max(block.shape[1], _COUNTED_SPAN))
        for first in range(0, len(block), rows):
            yield block[first : first + rows], other[first : first + rows]


def _single(values: Values) -> float:
    if values.size != 1:
        raise ValueError("distances must be [n], those of one query")
    return float(values[0])


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _keys(block: Numbers) -> tuple[Ints, int] | None:
    """A number for each row and distance of a block [b, n], and how many a row has, some unused.

    Numbers rise with distances from row times span on; None where there would be too many.
    """
    if block.dtype.kind == "f" or not block.size:
        return None
    low, high = int(block.min()), int(block.max())
    if high - low >= max(_COUNTED_SPAN, block.shape[1]):
        return None
    # A difference of signed numbers need not fit their type, nor an unsigned number int64.
    wide = block.astype(np.int64) if block.dtype.kind == "i" else block
    span = high - low + 1
    rows = np.arange(len(block))[:, None] * span
    return ((wide - wide.dtype.type(low)).astype(np.int64) + rows).ravel(), span


def _of_block(block: Numbers, flags: Flags, at: int | None, divisor: Divisor) -> Values:
    """AP@R of a block of queries [b, n], see `average_precisions`."""
    if flags.dtype != np.bool_:
        raise ValueError(f"relevance must be bool, got {flags.dtype}")
    places = block.shape[1] if at is None else min(at, block.shape[1])
    totals = flags.sum(axis=1)
    keyed = _keys(block)
    if keyed is not None:
        keys, span = keyed
        counts = np.bincount(2 * keys + flags.ravel(), minlength=2 * len(block) * span)
        of_each = counts.reshape(len(block), span, 2)
        sizes, relevant = of_each.sum(axis=2), of_each[:, :, 1]
        before = sizes.cumsum(axis=1) - sizes
        if divisor == "possible":
            return _possible(before, sizes, relevant, totals, places)
        groups: Iterable[tuple[Ints, Ints, Ints]] = zip(before, sizes, relevant, strict=True)
    else:
        groups = (_sorted(row, own, places) for row, own in zip(block, flags, strict=True))
    if divisor == "found":
        return np.array([_found(*one, places) for one in groups])
    return np.array([_possible(*one, t, places) for one, t in zip(groups, totals, strict=True)])


def _sorted(row: Numbers, flags: Flags, places: int) -> tuple[Ints, Ints, Ints]:
    """Items before each group that holds relevant ones, items in it, and relevant ones in it."""
    wanted = row[flags]
    if places < row.size:
        last = np.partition(row, places - 1)[places - 1]
        row, wanted = row[row <= last], wanted[wanted <= last]
    distances, relevant = np.unique(wanted, return_counts=True)
    ordered = np.sort(row)
    before = np.searchsorted(ordered, distances, side="left")
    return before, np.searchsorted(ordered, distances, side="right") - before, relevant


@functools.lru_cache(maxsize=4)
def _harmonic(n: int) -> Values:
    """Harmonic numbers H(0)…H(n)."""
    return np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, n + 1))))


def _expected(
    before: Ints, earlier: Ints, sizes: Ints, relevant: Ints, places: Ints, harmonic: Values
) -> Values:
    """Mean of ``Σ P(k) rel(k)`` over the first places of groups, see the module.

    Of each group: items `before` it, relevant ones `earlier`, its own, and the places that count.
    """
    # An item alone in its group has none before it, whatever the chance; with a chance of 1, what
    # is relevant throughout adds up to whole numbers without rounding.
    others = np.where(sizes > 1, (relevant - 1) / np.maximum(sizes - 1, 1), 1.0)
    end = harmonic.size - 1
    rise = harmonic[np.minimum(before + places, end)] - harmonic[np.minimum(before, end)]
    sums = others * places + (earlier + 1 - others * (before + 1)) * rise
    return np.asarray(relevant / np.maximum(sizes, 1) * sums, dtype=np.float64)


def _possible(before: Ints, sizes: Ints, relevant: Ints, totals: Ints, places: int) -> Values:
    """AP@R of groups [..., g], divided by what could be among the first R."""
    earlier = relevant.cumsum(axis=-1) - relevant
    inside = np.clip(places - before, 0, sizes)
    sums = _expected(before, earlier, sizes, relevant, inside, _harmonic(places)).sum(axis=-1)
    possible = np.minimum(totals, places)
    return np.where(possible > 0, sums / np.maximum(possible, 1), np.nan)


def _found(before: Ints, sizes: Ints, relevant: Ints, places: int) -> float:
    """AP@R of the groups [g] of one query, divided by what is among the first R.

    How many relevant items of the group with the cut are found differs between orders, as in draws
    from a bag (hypergeometric). Given their number, the places before the cut are a whole group.
    """
    inside = np.clip(places - before, 0, sizes)
    whole = inside == sizes
    earlier = relevant.cumsum() - relevant
    harmonic = _harmonic(places)
    terms = _expected(before, earlier, sizes, relevant, inside, harmonic)
    sums, found = float(terms[whole].sum()), int(relevant[whole].sum())
    cut = np.flatnonzero(~whole & (inside > 0))
    if not cut.size:
        return sums / found if found else float("nan")
    from scipy.special import gammaln

    last = int(cut[0])
    room, misses = inside[last], sizes[last] - relevant[last]
    # An order that finds nothing has no figure.
    first = max(0 if found else 1, int(room - misses))
    drawn = np.arange(first, min(room, relevant[last]) + 1)
    if not drawn.size:
        return float("nan")
    left, missed = relevant[last] - drawn, room - drawn
    ways = gammaln(drawn + 1) + gammaln(left + 1)
    ways += gammaln(missed + 1) + gammaln(misses - missed + 1)
    chances = np.exp(ways.min() - ways)
    more = _expected(before[last], np.array(found), room, drawn, room, harmonic)
    return float(((sums + more) / (found + drawn)) @ chances / chances.sum())


def _of_graded_block(block: Numbers, gains: Numbers, at: int | None) -> Values:
    """AHP@R of a block of queries [b, n], see `hierarchical_average_precision`."""
    # Written so that NaN does not pass.
    if gains.dtype.kind not in "biuf" or not np.all((gains >= 0) & (gains <= 1)):
        raise ValueError(f"gains must be numbers within 0 and 1, got {gains.dtype}")
    n = block.shape[1]
    if not block.size:
        return np.full(len(block), np.nan)
    places = n if at is None else min(at, n)
    values = gains.astype(np.float64)
    expected = np.cumsum(_expected_gains(block, values)[:, :places], axis=1)
    largest = np.partition(values, n - places, axis=1)[:, n - places :]
    best = np.cumsum(np.sort(largest, axis=1)[:, ::-1], axis=1)
    # The first is the largest gain of all: where it is 0, so are all.
    any_gain = best[:, 0] > 0
    best[~any_gain] = 1.0
    return np.where(any_gain, (expected / best).mean(axis=1), np.nan)


def _expected_gains(block: Numbers, gains: Values) -> Values:
    """Mean gain of the item at each rank, over all orders of equal distances, [b, n]."""
    queries, n = block.shape
    keyed = _keys(block)
    if keyed is not None:
        keys, span = keyed
        sizes = np.bincount(keys, minlength=queries * span)
        sums = np.bincount(keys, gains.ravel(), minlength=queries * span)
        means = sums / np.maximum(sizes, 1)
    else:
        order = np.argsort(block, axis=1)
        ordered = np.take_along_axis(block, order, axis=1)
        first = np.ones(block.shape, dtype=np.bool_)
        np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
        starts = np.flatnonzero(first)
        sizes = np.diff(starts, append=block.size)
        means = np.add.reduceat(np.take_along_axis(gains, order, axis=1).ravel(), starts) / sizes
    return np.repeat(means, sizes).reshape(queries, n)
