"""Table hits become ranked places in tracks: votes along diagonals.

A query that starts `o` seconds into a track hits snippets of the track whose time less the time of
the query's own snippet is `o`, whatever the snippet: true hits lie on one *diagonal*, chance hits
anywhere. Votes are summed over a short window of diagonals, because a snippet of the index may be
half a hop off. Each vote weighs what it tells: a hit in a bucket of `c` postings out of `N` happens
by chance at a given diagonal with probability `c / N`, so it is worth ``ln(N / c)`` nats.

The evidence of a window, less what the best of all windows collects by chance, is a figure that
means the same for a hundred tracks and for ten million; `hashing.confidence` turns it into a score.
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

# Diagonals on either side that count for a window, in steps of the query: half a hop of the index.
REACH = 2

# Windows of a query that are looked at closely. More would only cost time: a track that is not
# among them has less evidence than 16 other places.
WINDOWS = 16

# Of a query that holds a track among other music, or two tracks, all but the track's own part only
# adds chance votes to a window. Votes at the edges count where they are denser than both twice what
# chance puts into a window, and this share of the window's own density.
CHANCE_FACTOR, DENSITY_SHARE = 2.0, 0.2

# A query with fewer windows of two votes or more than this is also shown its best single votes.
ENOUGH_WINDOWS = 4


@dataclasses.dataclass(frozen=True)
class Windows:
    """The best windows of every query, [queries, windows], heaviest first before they are cut.

    Attributes:
      gid: the middle one of the snippets that the window hit; it tells the track.
      diagonal: steps from the segment's first snippet to the start of the query.
      evidence: nats; minus infinity where a query has no more windows.
      votes: hits in the part of the query that the window explains.
      first_step, last_step: first and last snippet of the query in that part.
    """

    gid: Ints
    diagonal: Ints
    evidence: npt.NDArray[np.float64]
    votes: Ints
    first_step: Ints
    last_step: Ints


def weigh(sizes: Ints, n_snippets: int) -> npt.NDArray[np.uint64]:
    """The weight of a hit in a bucket of each of `sizes`, in units of 1/11 nat, at least 1.

    >>> weigh(np.array([1, 100]), 1000).tolist()
    [76, 25]
    """
    nats = np.log(max(n_snippets, 2)) - np.log(np.maximum(sizes, 1))
    units = np.clip(np.rint(nats * UNITS_PER_NAT), 1, (1 << WEIGHT_BITS) - 1)
    return np.asarray(units.astype(np.uint64))


def find_windows(
    hits: Hits,
    query_of_row: Ints,
    step_of_row: Ints,
    n_queries: int,
    steps_per_snippet: int,
    n_snippets: int,
) -> Windows:
    """The windows of diagonals with the most evidence.

    Args:
      hits: of one segment, for up to `MAX_QUERIES` queries at once.
      query_of_row: number of the query of each row of keys, [rows].
      step_of_row: where the row's snippet starts in its query, in steps, [rows].
      n_queries: how many queries there are.
      steps_per_snippet: steps of a query to one hop of the index.
      n_snippets: postings of a table over all segments, `N` of the weights.

    >>> hits = Hits(np.array([7, 8, 3], np.uint32), np.array([0, 1], np.int32), np.array([1, 2]),
    ...             np.zeros((2, 1), np.uint32))
    >>> found = find_windows(hits, np.zeros(2, np.int64), np.array([0, 4]), 1, 4, 1000)
    >>> found.diagonal[0, 0], found.votes[0, 0], found.gid[0, 0]
    (np.int64(28), np.int64(2), np.int64(7))
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
    bounds = np.searchsorted(place, np.arange(n_queries + 1, dtype=np.int64) << DIAGONAL_BITS)
    chosen, groups = _groups(packed, place, np.flatnonzero(crowded), n_queries)
    singles = _singles(packed, place, crowded, groups, bounds)
    # Votes that chance puts into a window at each step of a query.
    steps = np.ones(n_queries, dtype=np.int64)
    np.maximum.at(steps, query_of_row, step_of_row + 1)
    chance = np.diff(bounds) / steps * (2 * REACH + 1) / (max(1, n_snippets) * steps_per_snippet)
    return _gather(packed, place, chosen, singles, chance, steps_per_snippet)


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
    packed: npt.NDArray[np.uint64], place: Ints, crowded: Ints, n_queries: int
) -> tuple[Ints, Ints]:
    """Places at the middle of the best windows of two votes or more, and how many each query has.

    Returns:
      The place of each window, most evidence first within a query, and the number of them by
      query, [n_queries].
    """
    if not crowded.size:
        return np.empty(0, dtype=np.int64), np.zeros(n_queries, dtype=np.int64)
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
    within = rank < WINDOWS
    return distinct[kept[within]], np.bincount(query[within], minlength=n_queries)


def _singles(
    packed: npt.NDArray[np.uint64],
    place: Ints,
    crowded: npt.NDArray[np.bool_],
    groups: Ints,
    bounds: Ints,
) -> Ints:
    """Places of the weightiest single votes of queries that have few windows."""
    found = []
    for query in np.flatnonzero(groups < ENOUGH_WINDOWS).tolist():
        low, high = int(bounds[query]), int(bounds[query + 1])
        weight = (packed[low:high] & _WEIGHT_MASK).astype(np.int16)
        weight[crowded[low:high]] = 0
        wanted = ENOUGH_WINDOWS - int(groups[query])
        if weight.size > wanted:
            at = np.argpartition(weight, weight.size - wanted)[-wanted:]
        else:
            at = np.arange(weight.size)
        at = at[weight[at] > 0]
        found.append(place[low:high][at[np.argsort(-weight[at], kind="stable")]])
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _gather(
    packed: npt.NDArray[np.uint64],
    place: Ints,
    groups: Ints,
    singles: Ints,
    chance: npt.NDArray[np.float64],
    steps_per_snippet: int,
) -> Windows:
    """What the windows around the chosen places hold, as arrays [queries, windows]."""
    n_queries = chance.size
    chosen = np.concatenate((groups, singles))
    query = chosen >> DIAGONAL_BITS
    order = np.argsort(query, kind="stable")  # windows of several votes stay before single votes
    chosen, query = chosen[order], query[order]
    column = np.arange(query.size) - np.searchsorted(query, query)
    low = np.searchsorted(place, chosen - REACH)
    high = np.searchsorted(place, chosen + REACH, side="right")
    counts = high - low
    # The hits of all windows one after another, each window's in order of steps. The middles of
    # windows of one query are more than REACH apart, so few hits are in two.
    inner = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    window = np.repeat(np.arange(counts.size), counts)
    steps = ((packed[inner] >> np.uint64(WEIGHT_BITS)) & np.uint64(MAX_STEPS - 1)).astype(np.int64)
    by_step = np.argsort(window << STEP_BITS | steps, kind="stable")
    inner, steps = inner[by_step], steps[by_step]
    weight = (packed[inner] & _WEIGHT_MASK).astype(np.int64)
    gids = ((place[inner] & ((1 << DIAGONAL_BITS) - 1)) - _BIAS + steps) // steps_per_snippet
    shape = (n_queries, WINDOWS)

    def spread(values: Ints, empty: int = 0) -> Ints:
        out = np.full(shape, empty, dtype=np.int64)
        out[query, column] = values
        return out

    if not chosen.size:
        nothing = np.zeros(shape, dtype=np.int64)
        none = np.full(shape, -np.inf)
        return Windows(nothing, nothing, none, nothing, nothing, nothing)
    total = np.cumsum(weight)
    first, last = _explained(window, counts, steps, weight, total, chance[query])
    evidence = np.full(shape, -np.inf)
    evidence[query, column] = (total[last] - total[first] + weight[first]) / UNITS_PER_NAT
    return Windows(
        # A few hits of the part may lie in the tracks before and after; the middle one does not.
        gid=spread(gids[(first + last) // 2]),
        diagonal=spread((chosen & ((1 << DIAGONAL_BITS) - 1)) - _BIAS),
        evidence=evidence,
        votes=spread(last - first + 1),
        first_step=spread(steps[first]),
        last_step=spread(steps[last]),
    )


def _explained(
    window: Ints,
    counts: Ints,
    steps: Ints,
    weight: Ints,
    total: Ints,
    chance: npt.NDArray[np.float64],
) -> tuple[Ints, Ints]:
    """First and last hit of the part of the query that each window explains.

    Of all parts it is the one that is largest in weight less length, where a step of length weighs
    as much as the most votes that a step may hold without counting (`CHANCE_FACTOR` times chance,
    `DENSITY_SHARE` of the window's): Bentley's maximum-sum scan (CACM 1984).

    Args:
      window: number of the window of each hit, in order; hits of one are in order of `steps`.
      counts: hits of each window.
      steps, weight, total: of each hit; `total` is the running sum of `weight`.
      chance: votes at each step that chance puts into a window, for each window.
    """
    firsts = np.cumsum(counts) - counts
    # A window's votes weigh about the same, so that densities are counted in votes.
    lengths = steps[firsts + counts - 1] - steps[firsts] + 1
    votes = np.maximum(CHANCE_FACTOR * chance, DENSITY_SHARE * counts / lengths)
    cost = (votes * np.add.reduceat(weight, firsts) / counts)[window] * steps
    # Every window starts below all that went before, so that one running minimum serves them all.
    drop = float(total[-1]) + float(cost.max()) + 1.0
    before = total - weight - cost - window * drop
    lowest = np.minimum.accumulate(before)
    gain = total - cost - window * drop - lowest
    number = np.arange(steps.size)
    last = np.maximum.reduceat(
        np.where(gain == np.maximum.reduceat(gain, firsts)[window], number, -1), firsts
    )
    start = (before == lowest[last][window]) & (number <= last[window])
    first = np.minimum.reduceat(np.where(start, number, steps.size), firsts)
    return first, last


def surprise(
    evidence: npt.NDArray[np.float64],
    votes: npt.NDArray[np.float64],
    look_ups: npt.NDArray[np.float64],
    n_snippets: int,
) -> npt.NDArray[np.float64]:
    """Evidence beyond what the luckiest window of the whole index collects by chance, in nats.

    `k` votes out of `L` look-ups can be chosen in about ``(e L / k) ** k`` ways (Stirling), at
    ``N`` places; a window with the probability ``exp(-evidence)`` at one place for one choice is
    expected ``N (e L / k) ** k exp(-evidence)`` times. The surprise is minus the logarithm of that,
    so it does not grow with the index or the query, only with what speaks for the match.

    >>> bool(surprise(np.array([40.0]), np.array([4.0]), np.array([100.0]), 10**6)[0] > 0)
    True
    """
    k = np.maximum(votes, 1.0)
    choices = k * (1.0 + np.log(np.maximum(look_ups, k) / k))
    return np.asarray(evidence - choices - np.log(max(n_snippets, 2)))


def look_up(
    tables: TableSet,
    segment: int,
    keys: Sequence[npt.NDArray[np.uint32]],
    steps: Sequence[Ints],
    steps_per_snippet: int,
    n_snippets: int,
    max_bucket: int | None = None,
) -> tuple[Windows, npt.NDArray[np.float64]]:
    """Look up a batch of queries in one segment.

    Args:
      tables: the hash tables.
      segment: number of the segment.
      keys: of each query, [snippets, probes, n_tables].
      steps: of each query, where its snippets start, in steps, [snippets].
      steps_per_snippet: steps of a query to one hop of the index.
      n_snippets: postings of a table over all segments.
      max_bucket: larger buckets are left out: what is everywhere tells nothing.

    Returns:
      The best windows, and the number of look-ups of each query, [queries].

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
    windows = find_windows(
        hits,
        np.repeat(np.arange(len(keys)), counts),
        np.concatenate([np.repeat(np.asarray(part, dtype=np.int64), probes) for part in steps]),
        len(keys),
        steps_per_snippet,
        n_snippets,
    )
    return windows, counts.astype(np.float64) * tables.n_tables
