"""Table hits become candidates: votes along diagonals.

A query that starts `o` seconds into a track hits snippets of the track whose time less the time of
the query's own snippet is `o`, whatever the snippet: true hits lie on one *diagonal*, chance hits
anywhere. Votes are summed over a short window of diagonals, because a snippet of the index may be
half a hop off. Each vote weighs what it tells: a hit in a bucket of `c` postings out of `N` happens
by chance at a given diagonal with probability `c / N`, so it is worth ``ln(N / c)`` nats.

Votes only choose what `hashing.ranking` then compares code by code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.shards import Hits, TableSet

Ints = npt.NDArray[np.int64]

# Bits of a packed hit, from the lowest: weight, step of the query's snippet, diagonal, query.
WEIGHT_BITS, STEP_BITS, DIAGONAL_BITS, QUERY_BITS = 8, 16, 35, 5
MAX_QUERIES = 1 << QUERY_BITS  # looked up at once; 32 queries of 5 s share the fixed costs
MAX_STEPS = 1 << STEP_BITS  # of a query: 2.3 hours at 0.125 s a step
UNITS_PER_NAT = 11.0  # weights of up to ln(2**32) = 22.2 nats fill 8 bits

# Diagonals on either side that count for a window, in steps of the query: 0.25 s, half a hop of an
# index with a snippet every half second, a hop of a dense one.
REACH = 2


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Places where queries may be, those of a query one after another, heaviest first.

    Attributes:
      query: number of the query of each candidate, rising, [c].
      gid: a snippet that was hit there; it tells the track.
      diagonal: steps from the segment's first snippet to the start of the query.
      votes: hits in the window.
    """

    query: Ints
    gid: Ints
    diagonal: Ints
    votes: Ints


def weigh(sizes: Ints, n_snippets: int) -> npt.NDArray[np.uint64]:
    """The weight of a hit in a bucket of each of `sizes`, in units of 1/11 nat, at least 1.

    >>> weigh(np.array([1, 100]), 1000).tolist()
    [76, 25]
    """
    nats = np.log(max(n_snippets, 2)) - np.log(np.maximum(sizes, 1))
    units = np.clip(np.rint(nats * UNITS_PER_NAT), 1, (1 << WEIGHT_BITS) - 1)
    return np.asarray(units.astype(np.uint64))


def find_candidates(
    hits: Hits,
    query_of_row: Ints,
    step_of_row: Ints,
    limits: Ints,
    steps_per_snippet: int,
    n_snippets: int,
) -> Candidates:
    """The windows of diagonals with the most votes.

    Args:
      hits: of one segment, for up to `MAX_QUERIES` queries at once.
      query_of_row: number of the query of each row of keys, [rows].
      step_of_row: where the row's snippet starts in its query, in steps, [rows].
      limits: candidates of each query at most, [queries].
      steps_per_snippet: steps of a query to one hop of the index.
      n_snippets: postings of a table over all segments, `N` of the weights.

    >>> hits = Hits(np.array([7, 8, 3], np.uint32), np.array([0, 1], np.int32), np.array([1, 2]),
    ...             np.zeros((2, 1), np.uint32))
    >>> found = find_candidates(hits, np.zeros(2, int), np.array([0, 4]), np.array([5]), 4, 1000)
    >>> found.diagonal.tolist(), found.votes.tolist(), found.gid.tolist()
    ([28, 8], [2, 1], [8, 3])
    """
    packed = _pack(hits, query_of_row, step_of_row, steps_per_snippet, n_snippets)
    packed.sort()
    place = (packed >> np.uint64(_PLACE_SHIFT)).astype(np.int64)
    # Chance hits mostly stand alone. Only those with a neighbour can make a window of two votes, so
    # all that follows is done for few hits.
    close = place[1:] - place[:-1] <= REACH
    crowded = np.zeros(place.size, dtype=bool)
    crowded[1:] = close
    crowded[:-1] |= close
    n_queries = limits.size
    bounds = np.searchsorted(place, np.arange(n_queries + 1, dtype=np.int64) << DIAGONAL_BITS)
    groups, counts = _groups(packed, place, np.flatnonzero(crowded), limits)
    singles = _singles(packed, place, crowded, limits - counts, bounds)
    chosen = np.concatenate((groups, singles))
    query = chosen >> DIAGONAL_BITS
    order = np.argsort(query, kind="stable")  # windows of several votes stay before single votes
    chosen, query = chosen[order], query[order]
    low = np.searchsorted(place, chosen - REACH)
    high = np.searchsorted(place, chosen + REACH, side="right")
    # A few hits of a window may lie in the tracks before and after; the middle one does not.
    middle = (low + high) // 2
    step = ((packed[middle] >> np.uint64(WEIGHT_BITS)) & np.uint64(MAX_STEPS - 1)).astype(np.int64)
    hit = (place[middle] & ((1 << DIAGONAL_BITS) - 1)) - _BIAS
    return Candidates(
        query=query,
        gid=(hit + step) // steps_per_snippet,
        diagonal=(chosen & ((1 << DIAGONAL_BITS) - 1)) - _BIAS,
        votes=high - low,
    )


_PLACE_SHIFT = WEIGHT_BITS + STEP_BITS
_WEIGHT_MASK = np.uint64((1 << WEIGHT_BITS) - 1)
# A query may begin before the first track does; diagonals are kept above zero by this much.
_BIAS = MAX_STEPS


def _pack(
    hits: Hits, query_of_row: Ints, step_of_row: Ints, steps_per_snippet: int, n_snippets: int
) -> npt.NDArray[np.uint64]:
    # All but the snippet is the same for the hits of a bucket, and is computed once for it.
    step = step_of_row[hits.bucket_row]
    of_bucket = query_of_row[hits.bucket_row] << DIAGONAL_BITS
    of_bucket = ((of_bucket + (_BIAS - step)) << STEP_BITS) + step
    packed_bucket = (of_bucket.astype(np.uint64) << np.uint64(WEIGHT_BITS)) | weigh(
        hits.bucket_hits, n_snippets
    )
    packed = np.repeat(packed_bucket, hits.bucket_hits)
    packed += hits.gid.astype(np.uint64) * np.uint64(steps_per_snippet << _PLACE_SHIFT)
    return packed


def _groups(
    packed: npt.NDArray[np.uint64], place: Ints, crowded: Ints, limits: Ints
) -> tuple[Ints, Ints]:
    """Places at the middle of the best windows of two votes or more, and how many each query has.

    Returns:
      The place of each window, most evidence first within a query, and the number of them by
      query, [n_queries].
    """
    if not crowded.size:
        return np.empty(0, dtype=np.int64), np.zeros(limits.size, dtype=np.int64)
    near_place = place[crowded]
    weight = (packed[crowded] & _WEIGHT_MASK).astype(np.int64)
    first = np.empty(near_place.size, dtype=bool)
    first[0] = True
    np.not_equal(near_place[1:], near_place[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    distinct = near_place[starts]
    own = np.add.reduceat(weight, starts)
    near, wide = own.copy(), own.copy()
    # Distinct places are in order, so a window holds at most REACH of them on either side. Queries
    # stay apart: the bias leaves more than REACH between the last diagonal of one and the next.
    gaps = [distinct[k:] - distinct[:-k] for k in range(1, REACH + 1)]
    for k, gap in enumerate(gaps, start=1):
        for total, reach in ((near, REACH // 2), (wide, REACH)):
            inside = gap <= reach
            total[k:] += np.where(inside, own[:-k], 0)
            total[:-k] += np.where(inside, own[k:], 0)
    # The whole window counts; votes in its middle decide between overlapping windows, and the best
    # of overlapping ones stands for all.
    score = wide * 4 + near
    best = np.ones(distinct.size, dtype=bool)
    for k, gap in enumerate(gaps, start=1):
        inside = gap <= REACH
        best[k:] &= ~(inside & (score[:-k] >= score[k:]))
        best[:-k] &= ~(inside & (score[k:] > score[:-k]))
    kept = np.flatnonzero(best)
    query = distinct[kept] >> DIAGONAL_BITS
    order = np.lexsort((-score[kept], query))
    kept, query = kept[order], query[order]
    rank = np.arange(query.size) - np.searchsorted(query, query)
    within = rank < limits[query]
    return distinct[kept[within]], np.bincount(query[within], minlength=limits.size)


def _singles(
    packed: npt.NDArray[np.uint64],
    place: Ints,
    crowded: npt.NDArray[np.bool_],
    wanted: Ints,
    bounds: Ints,
) -> Ints:
    """Places of the weightiest single votes of the queries, up to `wanted` of each."""
    found = []
    for query in np.flatnonzero(wanted > 0).tolist():
        low, high, most = int(bounds[query]), int(bounds[query + 1]), int(wanted[query])
        alone = low + np.flatnonzero(~crowded[low:high])
        weight = (packed[alone] & _WEIGHT_MASK).astype(np.int16)
        if weight.size > most:
            at = np.argpartition(weight, weight.size - most)[-most:]
        else:
            at = np.arange(weight.size)
        found.append(place[alone[at[np.argsort(-weight[at], kind="stable")]]])
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def look_up(
    tables: TableSet,
    segment: int,
    keys: Sequence[npt.NDArray[np.uint32]],
    steps: Sequence[Ints],
    limits: Ints,
    steps_per_snippet: int,
    n_snippets: int,
    max_bucket: int | None = None,
) -> Candidates:
    """Look up a batch of queries in one segment.

    Args:
      tables: the hash tables.
      segment: number of the segment.
      keys: of each query, [snippets, probes, n_tables].
      steps: of each query, where its snippets start, in steps, [snippets].
      limits: candidates of each query at most, [queries].
      steps_per_snippet: steps of a query to one hop of the index.
      n_snippets: postings of a table over all segments.
      max_bucket: larger buckets are left out: what is everywhere tells nothing.

    Raises:
      ValueError: more queries than `MAX_QUERIES`, or a query of `MAX_STEPS` steps or more.
    """
    if len(keys) > MAX_QUERIES:
        raise ValueError(f"{len(keys)} queries at once, at most {MAX_QUERIES}")
    if any(part.size and int(part.max()) >= MAX_STEPS for part in steps):
        raise ValueError(f"a query of more than {MAX_STEPS} steps must be cut")
    probes = keys[0].shape[1] if keys else 1
    rows = np.concatenate([part.reshape(-1, tables.n_tables) for part in keys])
    hits = tables.lookup(segment, rows, max_bucket)
    counts = np.array([part.shape[0] * probes for part in keys])
    return find_candidates(
        hits,
        np.repeat(np.arange(len(keys)), counts),
        np.concatenate([np.repeat(np.asarray(part, dtype=np.int64), probes) for part in steps]),
        limits,
        steps_per_snippet,
        n_snippets,
    )
