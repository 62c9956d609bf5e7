"""Look-up in all segments of an index as in one: their snippets are numbered through.

An answer must not depend on how tracks are spread over segments: what a bucket weighs is how many
postings it has in all of them together, and candidates of all compete for the same places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hashing.gone import NOTHING, Gone
from hashing.held import GAP, HeldSegments, held_bytes
from hashing.hits import Hits, SortedKeys
from hashing.shards import TableSet

Ints = npt.NDArray[np.int64]

# Memory for tables of small segments.
HELD_BYTES = 256_000_000

# Tables of small segments are merged when so many keys have been looked up in their shards for each
# posting: a key costs 300 ns there, a posting 120 ns to merge (measured on 11 million), so that
# whoever asks a few times does not wait for what pays only in the long run.
KEYS_A_POSTING = 0.4
# What a look-up in a shard costs beside that of its keys, as so many keys.
KEYS_A_SHARD = 100


@dataclasses.dataclass(frozen=True)
class Numbering:
    """Snippet numbers of several segments, one segment after another.

    Attributes:
      segments: their numbers, [s].
      firsts: what stands before the snippet numbers of each, rising, [s].
    """

    segments: Ints
    firsts: Ints

    def split(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Segment and number before it of each of `numbers`.

        >>> both = Numbering(np.array([0, 4]), np.array([0, 100]))
        >>> [part.tolist() for part in both.split(np.array([99, 100]))]
        [[0, 4], [0, 100]]
        """
        if self.segments.size == 1:
            return np.full(numbers.size, self.segments[0]), np.full(numbers.size, self.firsts[0])
        at = np.searchsorted(self.firsts, numbers, side="right") - 1
        return self.segments[at], self.firsts[at]


@dataclasses.dataclass(frozen=True)
class JoinedHits:
    """What a look-up found in several segments, bucket by bucket.

    Attributes:
      number: of the snippet of each hit, in `numbering`, [h].
      bucket_row: the row of the query's keys that met each bucket, [b].
      bucket_hits: hits that come from each bucket, [b].
      bucket_load: postings under its key in all segments together, [b].
      numbering: of the snippets.
    """

    number: npt.NDArray[np.integer]
    bucket_row: npt.NDArray[np.int32]
    bucket_hits: Ints
    bucket_load: Ints
    numbering: Numbering


class JoinedTables:
    """The tables of several segments as those of one.

    Args:
      tables: of the index.
      gone: what has been removed from a segment.
      held: memory for tables of small segments, bytes; 0 where nothing is merged.
    """

    def __init__(
        self,
        tables: TableSet,
        gone: Callable[[int], Gone] = lambda segment: NOTHING,
        held: int = HELD_BYTES,
    ) -> None:
        self.tables = tables
        self._gone = gone
        self._limit = held
        self._held: HeldSegments | None = None
        self._asked = 0
        self._worth = 0.0  # keys after which merging pays; 0: not known yet
        self._small: list[int] = []

    def lookup(
        self,
        segments: Sequence[int],
        keys: npt.NDArray[np.uint32],
        room: int,
        max_bucket: int | None = None,
    ) -> list[JoinedHits]:
        """All postings of the buckets of many keys, but for removed ones.

        Args:
          segments: which of them.
          keys: uint32 [q, n_tables], as `TableSet.lookup` takes them.
          room: how many numbers there are. Where segments have more, they come in several turns.
          max_bucket: keys with more postings than that are left out.
        """
        held = self._hold(segments, keys.size)
        rest = [one for one in segments if held is None or one not in held.segments]
        found = self.tables.lookup_each(rest, keys)
        found = [_live(hits, self._gone(one)) for one, hits in zip(rest, found, strict=True)]
        numbered = [(np.array([one]), np.zeros(1, np.int64)) for one in rest]
        if held is not None:
            found.append(held.lookup(SortedKeys.of(keys)))
            numbered.append((np.array(held.segments), held.firsts))
        loads = None  # of one segment, what was hit is all there is
        if len(found) > 1:
            loads = np.zeros((len(keys), self.tables.n_tables), np.uint32)
            for hits in found:
                loads += hits.bucket_sizes
        turns, base = [list[_Based]()], 0
        for hits, (numbers, firsts) in zip(found, numbered, strict=True):
            end = base + int(hits.gid.max(initial=0)) + 1
            if end > room and turns[-1]:
                turns.append([])
                base, end = 0, end - base
            turns[-1].append(_Based(hits, numbers, firsts + base, base))
            base = end + GAP
        return [_join(turn, loads, max_bucket) for turn in turns]

    def _hold(self, segments: Sequence[int], asked: int) -> HeldSegments | None:
        """The small ones of `segments` merged, where that pays and they are all asked for."""
        if not self._limit or not self.tables.near or len(segments) < 3:
            return None
        if self._held is None:
            if self._asked and not self._worth:
                self._choose(segments)
            of_each = asked + KEYS_A_SHARD * self.tables.n_tables
            self._asked += of_each * (len(self._small) or len(segments))
            if len(self._small) < 2 or self._asked < self._worth:
                return None
            self._held = HeldSegments(self.tables, self._small, self._gone)
        return self._held if set(self._held.segments) <= set(segments) else None

    def _choose(self, segments: Sequence[int]) -> None:
        """Which segments are small: all but the largest, as many as there is memory for."""
        sizes = {one: held_bytes(self.tables, [one]) for one in segments}
        for segment in sorted(segments, key=sizes.__getitem__)[:-1]:
            if held_bytes(self.tables, [*self._small, segment]) > self._limit:
                break
            self._small.append(segment)
        shards = (shard for one in self._small for shard in self.tables.shards_of(one))
        self._worth = 1 + KEYS_A_POSTING * sum(shard.header.postings for shard in shards)


def _live(hits: Hits, gone: Gone) -> Hits:
    """Hits without those of removed tracks."""
    dead = gone.among(hits.gid)
    if not dead.size:
        return hits
    bucket = np.repeat(np.arange(hits.bucket_hits.size), hits.bucket_hits)[dead]
    lost = np.bincount(bucket, minlength=hits.bucket_hits.size)
    sizes = hits.bucket_sizes.copy()
    # A key of a table met twice, by two rows, is two buckets: each has a place of its own.
    sizes[hits.bucket_row, hits.bucket_table] -= lost.astype(np.uint32)
    return dataclasses.replace(
        hits,
        gid=np.delete(hits.gid, dead),
        bucket_hits=hits.bucket_hits - lost,
        bucket_sizes=sizes,
    )


class _Based(NamedTuple):
    """Hits of a segment, or of some that are held, and where their numbers begin among others."""

    hits: Hits
    segments: Ints
    firsts: Ints
    base: int


def _join(
    turn: Sequence[_Based], loads: npt.NDArray[np.uint32] | None, max_bucket: int | None
) -> JoinedHits:
    nothing = np.empty(0, np.int64)
    parts = list[tuple[npt.NDArray[Any], ...]]()
    if not turn:
        parts.append((nothing, nothing.astype(np.int32), nothing, nothing))
    for hits, _, _, base in turn:
        met = np.flatnonzero(hits.bucket_hits)
        row, count = hits.bucket_row[met], hits.bucket_hits[met]
        load = count if loads is None else loads[row, hits.bucket_table[met]].astype(np.int64)
        number = hits.gid if len(turn) == 1 else hits.gid + np.int64(base)
        if max_bucket is not None and (load > max_bucket).any():
            few = load <= max_bucket
            number = number[np.repeat(few, count)]
            row, count, load = row[few], count[few], load[few]
        parts.append((number, row, count, load))
    number, row, count, load = (
        column[0] if len(turn) == 1 else np.concatenate(column)
        for column in zip(*parts, strict=True)
    )
    segments = np.concatenate([nothing, *(one.segments for one in turn)])
    firsts = np.concatenate([nothing, *(one.firsts for one in turn)])
    return JoinedHits(number, row, count, load, Numbering(segments, firsts))
