"""A hash table joined with itself: which tracks meet in its buckets, and at which shifts.

Two copies of a recording have equal keys at many moments, and all of these moments are one shift
apart. So each bucket is a list of pairs, a pair of snippets votes for a pair of tracks and a shift,
and pairs with votes that agree are worth a look at their codes. Nothing is compared with all else.

What it costs is bounded: of every pair, one snippet must stand on a grid of moments, so that a
posting takes part in few pairs, and long buckets, the stop words of audio, are passed over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hashing.buckets import bucket_postings
from hashing.errors import IndexFormatError
from hashing.shards import Shard
from hashing.table_format import REMEDY

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

# Keys whose buckets are read at once: four million postings at four a bucket, 32 MB.
STEP_KEYS = 1 << 20

# A pair of snippets in one bucket, as it is kept until the votes are counted: 12 bytes.
PAIR = np.dtype([("owner", "<u4"), ("other", "<u4"), ("shift", "<i4")])


@dataclasses.dataclass(frozen=True)
class Numbering:
    """The tracks of all segments of an index, counted through: from a posting to its track.

    Attributes:
      firsts: by segment, the number of the first snippet of each track and the end of the last,
        rising, [tracks + 1].
      bases: by segment, the number of its first track.
      gone: which tracks were removed, [tracks of all segments].
    """

    firsts: dict[int, Words]
    bases: dict[int, int]
    gone: npt.NDArray[np.bool_]

    def locate(self, segment: int, gids: Words) -> tuple[Words, npt.NDArray[np.int32]]:
        """Number of the track of each snippet of a segment, and the snippet's number within it.

        Raises:
          IndexFormatError: a snippet of no track.
        """
        firsts = self.firsts[segment]
        if gids.size and int(gids.max()) >= int(firsts[-1]):
            raise IndexFormatError(
                f"snippet {int(gids.max())} of segment {segment} is that of no track; {REMEDY}"
            )
        row = np.searchsorted(firsts, gids, side="right") - 1
        within = gids - firsts[row]
        return (row + self.bases[segment]).astype(np.uint32), within.astype(np.int32)


@dataclasses.dataclass
class JoinCounts:
    """What was joined: postings read, buckets passed over and their postings, pairs found."""

    postings: int = 0
    long_buckets: int = 0
    long_postings: int = 0
    pairs: int = 0


@dataclasses.dataclass(frozen=True)
class JoinRules:
    """How buckets become pairs.

    Attributes:
      stride: every so many-th snippet of a track is on the grid; of a pair, one must be.
      max_bucket: buckets of more live postings are passed over.
    """

    stride: int
    max_bucket: int


def join_shards(
    shards: Sequence[tuple[int, Shard]],
    key_lo: int,
    key_hi: int,
    numbering: Numbering,
    rules: JoinRules,
    counts: JoinCounts,
    step_keys: int = STEP_KEYS,
) -> Iterator[npt.NDArray[np.void]]:
    """The pairs of snippets of different live tracks that share a bucket, as arrays of `PAIR`.

    Args:
      shards: segment and shard, all of one table; keys outside of the range are left alone.
      key_lo, key_hi: the range of keys, the end exclusive.
      numbering: of the index.
      rules: what is joined.
      counts: is added to.
      step_keys: keys read at once; memory grows with it.
    """
    for low in range(key_lo, key_hi, step_keys):
        found = []
        for segment, shard in shards:
            keys, gids = bucket_postings(shard, low, min(low + step_keys, key_hi))
            track, within = numbering.locate(segment, gids)
            live = ~numbering.gone[track]
            found.append((keys[live], track[live], within[live]))
        keys, tracks, withins = (np.concatenate(column) for column in zip(*found, strict=True))
        if len(found) > 1:
            order = np.argsort(keys, kind="stable")
            keys, tracks, withins = keys[order], tracks[order], withins[order]
        yield pairs_of_buckets(keys, tracks, withins, rules, counts)


def pairs_of_buckets(
    keys: Words,
    tracks: Words,
    withins: npt.NDArray[np.int32],
    rules: JoinRules,
    counts: JoinCounts,
) -> npt.NDArray[np.void]:
    """Pairs of the postings [n] of whole buckets, which are sorted by key; see `join_shards`.

    The owner of a pair is the lower track where the sum of both is even, else the higher: of two
    halves of a catalogue neither has all the work. The shift is that of the other track: the
    snippet of the owner less that of the other.

    >>> keys, tracks = np.array([5, 5, 5, 9], np.uint32), np.array([0, 1, 1, 2], np.uint32)
    >>> within = np.array([8, 4, 7, 8], np.int32)
    >>> pairs_of_buckets(keys, tracks, within, JoinRules(4, 9), JoinCounts()).tolist()
    [(1, 0, -4), (1, 0, -1)]
    """
    counts.postings += keys.size
    if keys.size < 2:
        return np.empty(0, PAIR)
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] ^ np.uint32(1)))
    sizes = np.diff(starts, append=keys.size)
    long = sizes > rules.max_bucket
    counts.long_buckets += int(long.sum())
    counts.long_postings += int(sizes[long].sum())
    joined = (sizes > 1) & ~long
    # What stands alone, nine of ten postings of a sparse table, has no part in what follows.
    kept = np.repeat(joined, sizes)
    tracks, withins = tracks[kept], withins[kept]
    ends = np.cumsum(sizes[joined])
    left = np.repeat(ends, sizes[joined]) - np.arange(tracks.size)  # postings from here to its end
    on_grid = withins % rules.stride == 0
    found = []
    at = np.arange(left.size)
    for distance in range(1, int(sizes[joined].max(initial=1))):
        at = at[left[at] > distance]  # those that have a partner so far on in their bucket
        one, two = at, at + distance
        good = (on_grid[one] | on_grid[two]) & (tracks[one] != tracks[two])
        one, two = one[good], two[good]
        low = tracks[one] < tracks[two]
        lower, higher = np.where(low, one, two), np.where(low, two, one)
        odd = ((tracks[lower] + tracks[higher]) & np.uint32(1)).astype(bool)
        owner, other = np.where(odd, higher, lower), np.where(odd, lower, higher)
        pairs = np.empty(owner.size, PAIR)
        pairs["owner"], pairs["other"] = tracks[owner], tracks[other]
        pairs["shift"] = withins[owner] - withins[other]
        found.append(pairs)
    out = np.concatenate(found) if found else np.empty(0, PAIR)
    counts.pairs += out.size
    return out


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Pairs of tracks and shifts that are worth a comparison, [c], by owner and other.

    Attributes:
      owner, other: numbers of the tracks.
      shift: snippets by which the owner is later: its snippet less the other's.
      votes: pairs of snippets that agree on the shift, to a snippet.
    """

    owner: Ints
    other: Ints
    shift: Ints
    votes: Ints


def count_votes(pairs: npt.NDArray[np.void], min_votes: int, most_shifts: int) -> Candidates:
    """Which pairs of tracks have votes that agree.

    Grids of snippets of two copies are up to half a hop apart, so that their votes fall on two
    shifts that follow one another, and are counted together.

    Args:
      pairs: of `PAIR`, all those of the owners that are met.
      min_votes: that must agree.
      most_shifts: of one pair of tracks, those with the most votes.

    >>> pairs = np.array([(0, 1, 5), (0, 1, 6), (0, 1, 20), (2, 3, 0)], PAIR)
    >>> found = count_votes(pairs, 2, 4)
    >>> found.owner.tolist(), found.other.tolist(), found.shift.tolist(), found.votes.tolist()
    ([0], [1], [5], [2])
    """
    nothing = np.empty(0, np.int64)
    if not pairs.size:
        return Candidates(nothing, nothing, nothing, nothing)
    owner, other, shift = _sorted(pairs)
    new_pair = (np.diff(owner, prepend=-1) != 0) | (np.diff(other, prepend=-1) != 0)
    starts = np.flatnonzero(new_pair | (np.diff(shift, prepend=0) != 0))
    votes = np.diff(starts, append=owner.size)
    owner, other, shift, new_pair = owner[starts], other[starts], shift[starts], new_pair[starts]
    # A shift has the votes of the next one as well.
    after = np.zeros_like(votes)
    follows = ~new_pair[1:] & (shift[1:] - shift[:-1] == 1)
    after[:-1][follows] = votes[1:][follows]
    own, votes = votes, votes + after
    pair = np.cumsum(new_pair)
    enough = np.flatnonzero(votes >= min_votes)
    owner, other, shift, own = owner[enough], other[enough], shift[enough], own[enough]
    votes, pair = votes[enough], pair[enough]
    order = np.lexsort((shift, -own, -votes, pair))
    rank = np.arange(order.size) - np.searchsorted(pair[order], pair[order])
    kept = order[rank < most_shifts]
    return Candidates(owner[kept], other[kept], shift[kept], votes[kept])


def _sorted(pairs: npt.NDArray[np.void]) -> list[Ints]:
    """The columns of pairs, by owner, other and shift; sorted as one number, thrice as fast."""
    packed, lows, widths = np.zeros(pairs.size, np.uint64), list[int](), list[int]()
    for name in PAIR.names or ():
        column = pairs[name].astype(np.int64)
        lows.append(int(column.min()))
        widths.append((int(column.max()) - lows[-1]).bit_length())
        packed <<= np.uint64(widths[-1])
        packed |= (column - lows[-1]).astype(np.uint64)
    if sum(widths) > 64:
        raise ValueError(f"pairs of {widths} bits cannot be sorted at once: count fewer owners")
    packed.sort()
    columns = list[Ints]()
    for low, width in zip(reversed(lows), reversed(widths), strict=True):
        columns.append((packed & np.uint64((1 << width) - 1)).astype(np.int64) + low)
        packed >>= np.uint64(width)
    return columns[::-1]
