"""Small segments of an index, merged in memory: their buckets are found as those of one segment.

An index that is brought up to date every night has a large segment and some small ones. Each holds
few of the buckets that a query asks for, but to find that out costs nearly as much as to look into
a large one. So the tables of small segments are read whole and merged into one ranked directory (as
in `hashing.table_format`) over the keys of all tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hashing.buckets import bucket_postings
from hashing.gone import Gone
from hashing.hits import Hits, SortedKeys
from hashing.shards import TableSet

Ints = NDArray[np.int64]

# Free numbers between two segments that are numbered together, so that no window of diagonals
# reaches from one into the other: a query has fewer steps than that (`hashing.voting.MAX_STEPS`).
GAP = 1 << 16


class HeldSegments:
    """The tables of some segments as one, without the postings of removed tracks.

    Args:
      tables: of the index.
      segments: which of them.
      gone: what has been removed from each.

    Attributes:
      segments: their numbers.
      firsts: what stands before the snippet numbers of each, int64 [segments].
    """

    def __init__(
        self, tables: TableSet, segments: Sequence[int], gone: Callable[[int], Gone]
    ) -> None:
        self.segments = list(segments)
        self._words = words_of(tables.key_bits)
        self._bitmap = np.zeros(self._words * tables.n_tables, np.uint64)
        ends = [
            1 + max(int(shard.postings.max(initial=0)) for shard in tables.shards_of(segment))
            for segment in self.segments
        ]
        self.firsts = np.concatenate(([0], np.cumsum(np.array(ends) + GAP)[:-1])).astype(np.int64)
        numbers, starts, held = list[NDArray[np.uint32]](), list[Ints](), 0
        for table in range(tables.n_tables):
            packed = self._packed(tables, table, gone)
            packed.sort()
            keys = packed >> np.uint64(32)
            first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)])
            self._mark(table, keys[first])
            starts.append(first + held)
            numbers.append(packed.astype(np.uint32))  # truncation drops the key
            held += len(packed)
        self._numbers = np.concatenate(numbers)
        self._starts = np.append(np.concatenate(starts), held).astype(np.uint32)
        loads = np.bitwise_count(self._bitmap)
        self._before = np.cumsum(loads, dtype=np.uint32) - loads

    def _packed(
        self, tables: TableSet, table: int, gone: Callable[[int], Gone]
    ) -> NDArray[np.uint64]:
        """``key << 32 | number`` of all postings of a table."""
        parts = []
        for segment, first in zip(self.segments, self.firsts.tolist(), strict=True):
            for shard in tables.shards_of(segment, table):
                keys, gids = bucket_postings(shard, 0, 1 << tables.key_bits)
                packed = keys.astype(np.uint64) << np.uint64(32)
                packed += gids
                packed += np.uint64(first)
                parts.append(np.delete(packed, gone(segment).among(gids)))
        return np.concatenate(parts)

    def _mark(self, table: int, keys: NDArray[np.uint64]) -> None:
        """Sets the bits of the keys, rising and distinct, that a table has."""
        word = (keys >> np.uint64(6)).astype(np.int64) + table * self._words
        runs = np.flatnonzero(np.diff(word, prepend=-1))
        if runs.size:
            bits = np.uint64(1) << (keys & np.uint64(63))
            self._bitmap[word[runs]] = np.bitwise_or.reduceat(bits, runs)

    def lookup(self, keys: SortedKeys) -> Hits:
        """As `TableSet.lookup`, but only buckets that are not empty; numbers stand for gids."""
        key = keys.wanted & np.uint64(0xFFFFFFFF)
        word = (key >> np.uint64(6)).astype(np.int64) + keys.table * np.int64(self._words)
        bit = key & np.uint64(63)
        bitmap = self._bitmap[word]
        met = np.flatnonzero(bitmap >> bit & np.uint64(1))
        below = bitmap[met] & ((np.uint64(1) << bit[met]) - np.uint64(1))
        bucket = self._before[word[met]] + np.bitwise_count(below).astype(np.int64)
        first = self._starts[bucket].astype(np.int64)
        size = self._starts[bucket + 1] - first
        source = np.repeat(first - np.cumsum(size) + size, size)
        source += np.arange(source.size)
        row, table = keys.row[met], keys.table[met]
        sizes = np.zeros(keys.shape, np.uint32)
        sizes[row, table] = size
        return Hits(self._numbers[source], row, table, size, sizes)


def words_of(key_bits: int) -> int:
    """Words of 64 bits that have a bit for each key of a table."""
    return -(-(1 << key_bits) // 64)


def held_bytes(tables: TableSet, segments: Sequence[int]) -> int:
    """Memory that `HeldSegments` takes at most, by the headers of the shards."""
    postings = sum(
        shard.header.postings for segment in segments for shard in tables.shards_of(segment)
    )
    # A number and the start of a bucket for a posting; a bitmap and its ranks for the keys.
    return 8 * postings + 12 * words_of(tables.key_bits) * tables.n_tables
