"""Table hits become candidates: votes along diagonals.

A query that starts `o` seconds into a track hits snippets of the track whose time less the time of
the query's own snippet is `o`, whatever the snippet: true hits lie on one *diagonal*, chance hits
anywhere. Votes are summed over a short window of diagonals, because a snippet of the index may be
half a hop off. Each vote weighs what it tells: a hit in a bucket of `c` postings out of `N` happens
by chance at a given diagonal with probability `c / N`, so it is worth ``ln(N / c)`` nats.

A window is of one track: what hits the end of one and the start of the next on the same diagonal is
not together. Votes only choose what `hashing.ranking` then compares code by code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hashing.segments import JoinedHits, JoinedTables

Ints = npt.NDArray[np.int64]

# Bits of a packed hit, from the lowest: weight, step of the query's snippet, diagonal, query.
WEIGHT_BITS, STEP_BITS, DIAGONAL_BITS, QUERY_BITS = 8, 16, 35, 5
MAX_QUERIES = 1 << QUERY_BITS  # looked up at once; 32 queries of 5 s share the fixed costs
MAX_STEPS = 1 << STEP_BITS  # of a query: 2.3 hours at 0.125 s a step
UNITS_PER_NAT = 11.0  # weights of up to ln(2**32) = 22.2 nats fill 8 bits

# Diagonals on either side that count for a window, in steps of the query: 0.25 s, half a hop of an
# index with a snippet every half second, a hop of a dense one.
REACH = 2


Locate = Callable[[Ints, Ints], tuple[Ints, Ints, Ints]]
"""Ordinal of the track (-1: removed), its first snippet and its end, of segments and gids [n]."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Places where queries may be, those of a query one after another, heaviest first.

    Attributes:
      query: number of the query of each candidate, rising, [c].
      segment: of the index.
      gid: a snippet of the segment that was hit there; it tells the track.
      diagonal: steps from the segment's first snippet to the start of the query.
      votes: hits in the window.
      ordinal, first, end: the track, its first snippet and its end.
    """

    query: Ints
    segment: Ints
    gid: Ints
    diagonal: Ints
    votes: Ints
    ordinal: Ints
    first: Ints
    end: Ints

    def take(self, chosen: Ints) -> Candidates:
        """Some of them."""
        fields = [field.name for field in dataclasses.fields(self)]
        return Candidates(**{name: getattr(self, name)[chosen] for name in fields})

    @classmethod
    def join(cls, parts: Sequence[Candidates]) -> Candidates:
        """All of them; those of a part stay together within a query."""
        if len(parts) == 1:
            return parts[0]
        fields = [field.name for field in dataclasses.fields(cls)]
        joined = cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))
        return joined.take(np.argsort(joined.query, kind="stable"))


def weigh(sizes: Ints, n_snippets: int) -> npt.NDArray[np.uint64]:
    """The weight of a hit in a bucket of each of `sizes`, in units of 1/11 nat, at least 1.

    >>> weigh(np.array([1, 100]), 1000).tolist()
    [76, 25]
    """
    nats = np.log(max(n_snippets, 2)) - np.log(np.maximum(sizes, 1))
    units = np.clip(np.rint(nats * UNITS_PER_NAT), 1, (1 << WEIGHT_BITS) - 1)
    return np.asarray(units.astype(np.uint64))


def find_candidates(
    hits: JoinedHits,
    query_of_row: Ints,
    step_of_row: Ints,
    limits: Ints,
    steps_per_snippet: int,
    n_snippets: int,
    locate: Locate,
) -> Candidates:
    """The windows of diagonals with the most votes.

    Args:
      hits: for up to `MAX_QUERIES` queries at once.
      query_of_row: number of the query of each row of keys, [rows].
      step_of_row: where the row's snippet starts in its query, in steps, [rows].
      limits: candidates of each query at most, [queries].
      steps_per_snippet: steps of a query to one hop of the index.
      n_snippets: postings of a table over all segments, `N` of the weights.
      locate: tells tracks apart.

    >>> from hashing.segments import Numbering
    >>> hits = JoinedHits(np.array([7, 8, 3]), np.array([0, 1]), np.array([1, 2]), np.array([1, 2]),
    ...                   Numbering(np.array([0]), np.array([0])))
    >>> found = find_candidates(hits, np.zeros(2, int), np.array([0, 4]), np.array([5]), 4, 1000,
    ...                         lambda segment, gid: (gid // 9, gid // 9 * 9, gid // 9 * 9 + 9))
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

    def spots(at: Ints) -> Ints:
        """Segment, what stands before its numbers, snippet, track, its first and end, of hits."""
        step = ((packed[at] >> np.uint64(WEIGHT_BITS)) & np.uint64(MAX_STEPS - 1)).astype(np.int64)
        diagonal = (place[at] & ((1 << DIAGONAL_BITS) - 1)) - _BIAS
        number = (diagonal + step) // steps_per_snippet
        segment, before = hits.numbering.split(number)
        return np.stack((segment, before, number - before, *locate(segment, number - before)))

    near = np.flatnonzero(crowded)
    around = spots(near)
    live = np.flatnonzero(around[_ORDINAL] >= 0)
    near, around = near[live], around[:, live]
    track = around[_BEFORE] + around[_FIRST]
    windows = _Windows.among(packed[near], place[near], track)
    # A hit may be crowded by those of another track, or of one that has gone.
    alone = ~crowded
    alone[near[windows.lone]] = True
    kept, counts = windows.best(limits)
    bounds = np.searchsorted(place, np.arange(limits.size + 1, dtype=np.int64) << DIAGONAL_BITS)
    singles = _singles(packed, alone, limits - counts, bounds)
    apart = spots(singles)
    live = np.flatnonzero(apart[_ORDINAL] >= 0)
    middle = windows.middle[kept]
    chosen = np.concatenate((place[near[middle]], place[singles[live]]))
    query = chosen >> DIAGONAL_BITS
    order = np.argsort(query, kind="stable")  # windows stay before single votes
    votes = np.concatenate((windows.votes[kept], np.ones(live.size, dtype=np.int64)))
    segment, before, *spot = np.concatenate((around[:, middle], apart[:, live]), axis=1)
    diagonal = (chosen & ((1 << DIAGONAL_BITS) - 1)) - _BIAS - before * steps_per_snippet
    gid, *track_of = spot
    return Candidates(query, segment, gid, diagonal, votes, *track_of).take(order)


_BEFORE, _ORDINAL, _FIRST = 1, 3, 4  # rows of `spots`
_PLACE_SHIFT = WEIGHT_BITS + STEP_BITS
_WEIGHT_MASK = np.uint64((1 << WEIGHT_BITS) - 1)
_ONE_VOTE = 1 << 40  # above all evidence that 2**32 votes can add up to
# Diagonals of the end of a track and of the start of the next differ by less than that.
_APART = 2 * MAX_STEPS
# A query may begin before the first track does; diagonals are kept above zero by this much.
_BIAS = MAX_STEPS


def _pack(
    hits: JoinedHits, query_of_row: Ints, step_of_row: Ints, steps_per_snippet: int, n_snippets: int
) -> npt.NDArray[np.uint64]:
    # All but the snippet is the same for the hits of a bucket, and is computed once for it.
    step = step_of_row[hits.bucket_row]
    of_bucket = query_of_row[hits.bucket_row] << DIAGONAL_BITS
    of_bucket = ((of_bucket + (_BIAS - step)) << STEP_BITS) + step
    packed_bucket = (of_bucket.astype(np.uint64) << np.uint64(WEIGHT_BITS)) | weigh(
        hits.bucket_load, n_snippets
    )
    packed = np.repeat(packed_bucket, hits.bucket_hits)
    packed += hits.number.astype(np.uint64) * np.uint64(steps_per_snippet << _PLACE_SHIFT)
    return packed


@dataclasses.dataclass(frozen=True)
class _Windows:
    """Windows around places that were hit, [n]: by query, by track, and then by place.

    Attributes:
      query: of each.
      middle: a hit at its middle, [n].
      score: evidence; `votes`: hits of the whole window.
      better: which have several votes, and more evidence than those that they overlap.
      lone: of all hits, the one of each window that has no other, [m].
    """

    query: Ints
    middle: Ints
    score: Ints
    votes: Ints
    better: npt.NDArray[np.bool_]
    lone: Ints

    @classmethod
    def among(cls, packed: npt.NDArray[np.uint64], place: Ints, track: Ints) -> _Windows:
        """Of hits [h] in order of their places, with the first number of the track of each."""
        if not place.size:
            nothing = np.empty(0, dtype=np.int64)
            return cls(*(nothing,) * 4, nothing.astype(bool), nothing)
        # Tracks of a query are next to each other but for the hits around their borders, so that
        # there is little to sort.
        owner = (place >> DIAGONAL_BITS << DIAGONAL_BITS) + track
        order = np.argsort(owner, kind="stable")
        place, owner = place[order], owner[order]
        # Evidence, and one vote each above it: both are added up together.
        weight = (packed[order] & _WEIGHT_MASK).astype(np.int64) + _ONE_VOTE
        # Apart from one another, tracks are in order of their places, too.
        other = owner[1:] != owner[:-1]
        place[1:] += np.cumsum(other) * _APART
        first = np.empty(place.size, dtype=bool)
        first[0] = True
        np.not_equal(place[1:], place[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        distinct = place[starts]
        own = np.add.reduceat(weight, starts)
        near, wide = own.copy(), own.copy()
        # Distinct places are in order, so a window holds at most REACH of them on either side.
        gaps = [distinct[k:] - distinct[:-k] for k in range(1, REACH + 1)]
        for k, gap in enumerate(gaps, start=1):
            for total, reach in ((near, REACH // 2), (wide, REACH)):
                inside = gap <= reach
                total[k:] += np.where(inside, own[:-k], 0)
                total[:-k] += np.where(inside, own[k:], 0)
        votes = wide // _ONE_VOTE
        # The whole window counts; votes in its middle decide between overlapping windows, and the
        # best of overlapping ones stands for all.
        score = (wide % _ONE_VOTE) * 4 + near % _ONE_VOTE
        better = votes > 1
        for k, gap in enumerate(gaps, start=1):
            inside = gap <= REACH
            better[k:] &= ~(inside & (score[:-k] >= score[k:]))
            better[:-k] &= ~(inside & (score[k:] > score[:-k]))
        lone = order[starts[votes == 1]]
        middle = order[starts + own // _ONE_VOTE // 2]
        return cls(owner[starts] >> DIAGONAL_BITS, middle, score, votes, better, lone)

    def best(self, limits: Ints) -> tuple[Ints, Ints]:
        """The best of each query, up to `limits` [queries], and how many it has, [queries].

        Those of a query follow one another, the one with the most evidence first.
        """
        kept = np.flatnonzero(self.better)
        query = self.query[kept]
        order = np.lexsort((-self.score[kept], query))
        kept, query = kept[order], query[order]
        within = np.arange(query.size) - np.searchsorted(query, query) < limits[query]
        return kept[within], np.bincount(query[within], minlength=limits.size)


def _singles(
    packed: npt.NDArray[np.uint64],
    alone: npt.NDArray[np.bool_],
    wanted: Ints,
    bounds: Ints,
) -> Ints:
    """The weightiest single votes of the queries, up to `wanted` of each."""
    found = [np.empty(0, dtype=np.int64)]
    for query in np.flatnonzero(wanted > 0).tolist():
        low, high, most = int(bounds[query]), int(bounds[query + 1]), int(wanted[query])
        mine = low + np.flatnonzero(alone[low:high])
        weight = (packed[mine] & _WEIGHT_MASK).astype(np.int16)
        if weight.size > most:
            at = np.argpartition(weight, weight.size - most)[-most:]
        else:
            at = np.arange(weight.size)
        found.append(mine[at[np.argsort(-weight[at], kind="stable")]])
    return np.concatenate(found)


def look_up(
    tables: JoinedTables,
    segments: Sequence[int],
    keys: Sequence[npt.NDArray[np.uint32]],
    steps: Sequence[Ints],
    limits: Ints,
    steps_per_snippet: int,
    n_snippets: int,
    locate: Locate,
    max_bucket: int | None = None,
) -> Candidates:
    """Look up a batch of queries.

    Args:
      tables: the hash tables.
      segments: where to look, as in one.
      keys: of each query, [snippets, probes, n_tables].
      steps: of each query, where its snippets start, in steps, [snippets].
      limits: candidates of each query at most, [queries].
      steps_per_snippet: steps of a query to one hop of the index.
      n_snippets: postings of a table over all segments.
      locate: tells tracks apart.
      max_bucket: larger buckets are left out: what is everywhere tells nothing.

    Raises:
      ValueError: more queries than `MAX_QUERIES`, or a query of `MAX_STEPS` steps or more.
    """
    if len(keys) > MAX_QUERIES:
        raise ValueError(f"{len(keys)} queries at once, at most {MAX_QUERIES}")
    if any(part.size and int(part.max()) >= MAX_STEPS for part in steps):
        raise ValueError(f"a query of more than {MAX_STEPS} steps must be cut")
    probes = keys[0].shape[1] if keys else 1
    rows = np.concatenate([part.reshape(-1, part.shape[2]) for part in keys])
    counts = np.array([part.shape[0] * probes for part in keys])
    query_of_row = np.repeat(np.arange(len(keys)), counts)
    step_of_row = np.concatenate(
        [np.repeat(np.asarray(part, dtype=np.int64), probes) for part in steps]
    )
    room = ((1 << DIAGONAL_BITS) - 2 * MAX_STEPS) // steps_per_snippet
    return Candidates.join(
        [
            find_candidates(
                hits, query_of_row, step_of_row, limits, steps_per_snippet, n_snippets, locate
            )
            for hits in tables.lookup(segments, rows, room, max_bucket)
        ]
    )
