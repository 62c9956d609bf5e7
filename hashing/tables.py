"""Hash tables of codes: how a catalogue is cut into shards, and how a shard is built.

A table is built shard by shard, a shard being one range of keys of one table of one segment:
postings are packed into integers ``key << 32 | gid``, sorted in place, and split into a directory
and an array. Nobody holds a whole table in memory. `hashing.table_format` describes the format.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from hashing.codes import MAX_KEY_BITS
from hashing.errors import HashbeamError
from hashing.table_format import (
    BLOCK_KEYS,
    DENSE,
    MAX_GIDS,
    RANKED,
    SPARSE,
    ShardHeader,
    aligned,
)

# Postings that are sorted at once: 8 bytes each, so 256 MB, and twice that where a skewed hasher
# puts twice the mean into a range; a worker has 1 GB.
BLOCK_POSTINGS = 32_000_000
# Entries handled at once while packing and while splitting a sorted block: 128 KiB of uint64, so
# that all temporaries stay in the L2 cache (measured: 4 ns a posting to pack, 7 at 262,144).
_STEP = 16_384
# A dense directory is taken up to this size, being the fastest; the index must stay below 6.5 bytes
# a posting, 4 of which are the posting.
_DENSE_BYTES_PER_POSTING = 2.4
# Loads up to this are counted in a histogram, which spares a logarithm for every bucket.
_SMALL_LOAD = 4_096


class ByteSink(Protocol):
    """What `build_shard` writes to: a binary file, or anything with such a `write`."""

    def write(self, data: memoryview, /) -> object:
        """Take all of the bytes."""


@dataclasses.dataclass(frozen=True)
class ShardStats:
    """How the postings of a shard, or of a whole table, are spread over buckets.

    `entropy_bits` is ``-Σ p log2 p`` over the buckets, p being a bucket's share of the postings:
    the key length of a perfectly balanced table that separates as well.

    >>> halves = [ShardStats(2, 1, 2, 0.0), ShardStats(2, 2, 1, 1.0)]
    >>> merge_stats(halves)
    ShardStats(postings=4, distinct_keys=3, max_bucket=2, entropy_bits=1.5)
    """

    postings: int
    distinct_keys: int
    max_bucket: int
    entropy_bits: float


def merge_stats(shards: Iterable[ShardStats]) -> ShardStats:
    """The statistics of one table of one segment from those of its key ranges; exact."""
    parts = [part for part in shards if part.postings]
    total = sum(part.postings for part in parts)
    # Chain rule: entropy over all buckets = entropy within ranges + entropy between ranges.
    entropy = sum(
        part.postings / total * (part.entropy_bits - math.log2(part.postings / total))
        for part in parts
    )
    return ShardStats(
        total,
        sum(part.distinct_keys for part in parts),
        max((part.max_bucket for part in parts), default=0),
        float(entropy),
    )


def plan_key_ranges(
    n_postings: int, key_bits: int, block_postings: int = BLOCK_POSTINGS
) -> list[tuple[int, int]]:
    """Cut all keys into equal ranges of about `block_postings` postings each.

    Returns:
        ``(key_lo, key_hi)`` with `key_hi` exclusive, in order, without holes, never empty.

    >>> plan_key_ranges(100, key_bits=3, block_postings=40)
    [(0, 2), (2, 5), (5, 8)]
    """
    if n_postings < 0 or block_postings < 1 or not 1 <= key_bits <= MAX_KEY_BITS:
        raise ValueError(
            f"cannot plan {n_postings=}, {key_bits=} (1 to {MAX_KEY_BITS}), {block_postings=}"
        )
    n_keys = 2**key_bits
    n_ranges = min(n_keys, max(1, -(-n_postings // block_postings)))
    bounds = [i * n_keys // n_ranges for i in range(n_ranges + 1)]
    return list(itertools.pairwise(bounds))


def plan_segments(part_snippets: Sequence[int], max_snippets: int = MAX_GIDS) -> list[range]:
    """Gather consecutive parts into segments of at most `max_snippets` snippets each.

    Args:
        part_snippets: snippets of each part of the catalogue, in order.
        max_snippets: what a segment may hold, so that a gid fits a uint32.

    Returns:
        The parts of each segment: ranges that cover all parts in order, none of them empty.

    Raises:
        HashbeamError: one part alone is too large.

    >>> plan_segments([5, 5, 5, 1], max_snippets=10)
    [range(0, 2), range(2, 4)]
    """
    segments: list[range] = []
    first, held = 0, 0
    for part, snippets in enumerate(part_snippets):
        if snippets > max_snippets:
            raise HashbeamError(
                f"part {part} of the catalogue has {snippets} snippets, a segment holds at most "
                f"{max_snippets}; use smaller parts"
            )
        if held + snippets > max_snippets:
            segments.append(range(first, part))
            first, held = part, 0
        held += snippets
    if first < len(part_snippets):
        segments.append(range(first, len(part_snippets)))
    return segments


def pack_postings(
    chunks: Iterable[tuple[NDArray[np.int64] | None, NDArray[np.uint32], int]],
    key_lo: int,
    key_hi: int,
    expected: int = 0,
) -> NDArray[np.uint64]:
    """Pack the postings of one key range as ``key << 32 | gid``, unsorted, from chunks of keys.

    Args:
        chunks: ``(rows, keys uint32 [n], first gid)``: the gid of a key is the first one plus its
            row; None stands for the rows 0 to n - 1.
        key_lo: first key of the range; keys outside of it are left out.
        key_hi: end of the range, exclusive.
        expected: about how many postings fall into the range: with a good guess, memory is 8 bytes
            a posting plus one chunk; a guess that is too low costs a copy.

    Raises:
        HashbeamError: a gid of 2**32 - 1 or above, which no segment holds.

    >>> [hex(p) for p in pack_postings([(None, np.array([7, 2, 9], np.uint32), 100)], 0, 8)]
    ['0x700000064', '0x200000065']
    """
    packed = np.empty(expected + _STEP, np.uint64)  # a step is written whole, then thinned out
    held = 0
    steps = np.arange(_STEP, dtype=np.uint64)
    for rows, keys, first_gid in chunks:
        end_gid = first_gid + (len(keys) if rows is None else int(rows.max(initial=-1)) + 1)
        if end_gid > MAX_GIDS:
            raise HashbeamError(
                f"a segment holds at most {MAX_GIDS} snippets, got {end_gid}; "
                "cut the catalogue into more segments"
            )
        for start in range(0, len(keys), _STEP):
            part = keys[start : start + _STEP]
            if held + len(part) > len(packed):
                grown = np.empty(max(held + len(part), len(packed) * 3 // 2), np.uint64)
                grown[:held] = packed[:held]
                packed = grown
            block = packed[held : held + len(part)]
            np.left_shift(part, np.uint64(32), out=block, dtype=np.uint64)
            if rows is None:
                block += steps[: len(part)]
                block += np.uint64(first_gid + start)
            else:
                block += rows[start : start + len(part)].astype(np.uint64)
                block += np.uint64(first_gid)
            kept = len(part)
            if int(part.min()) < key_lo or int(part.max()) >= key_hi:
                chosen = block[(part >= key_lo) & (part < key_hi)]
                kept = len(chosen)
                block[:kept] = chosen
            held += kept
    return packed[:held]


def build_shard(
    packed: NDArray[np.uint64],
    out: ByteSink | BinaryIO,
    *,
    table: int,
    segment: int,
    key_bits: int,
    key_lo: int,
    key_hi: int,
) -> ShardStats:
    """Sort packed postings in place and write them to `out` as one shard.

    Args:
        packed: uint64 ``[n]``, ``key << 32 | gid``, in any order; sorted afterwards.
        out: where the bytes go, in order, without seeking.
        table: number of the table.
        segment: number of the segment.
        key_bits: bits of a key, 1 to 32.
        key_lo: first key of the range.
        key_hi: end of the range, exclusive.

    Raises:
        HashbeamError: 2**32 postings or more in one range.
        ValueError: a key outside the range.

    >>> import io
    >>> packed = pack_postings([(None, np.array([3, 1, 3], np.uint32), 0)], 0, 4)
    >>> build_shard(packed, io.BytesIO(), table=0, segment=0, key_bits=2, key_lo=0, key_hi=4)
    ShardStats(postings=3, distinct_keys=2, max_bucket=2, entropy_bits=0.918...)
    """
    packed.sort()
    if len(packed) and not (key_lo <= int(packed[0]) >> 32 and int(packed[-1]) >> 32 < key_hi):
        raise ValueError(
            f"keys {int(packed[0]) >> 32}…{int(packed[-1]) >> 32} reach outside "
            f"key_lo={key_lo}, key_hi={key_hi}"
        )
    keys, firsts = _buckets(packed)
    distinct_keys = sum(map(len, keys))
    place = ShardHeader(table, key_bits, segment, DENSE, key_lo, key_hi, len(packed), 0)
    header = plan_shard(place, distinct_keys)
    ranked = _ranked(header, keys, firsts) if header.kind == RANKED else None
    if header.kind == RANKED and ranked is None:
        header = plan_shard(place, distinct_keys, ranked=False)
    out.write(memoryview(header.to_bytes()))
    if ranked is not None:
        _write_array(out, [ranked[0]])
        _write_array(out, ranked[1])
    elif header.kind == SPARSE:
        _write_array(out, keys)
        _write_array(out, [*firsts, np.array([len(packed)], np.uint32)])
    else:
        offsets = np.zeros(header.entries + 1, np.uint32)
        for found, counts in zip(keys, _counts(firsts, len(packed)), strict=True):
            offsets[found.astype(np.int64) - (key_lo - 1)] = counts
        np.cumsum(offsets, dtype=np.uint32, out=offsets)
        _write_array(out, [offsets])
    for start in range(0, len(packed), _STEP):
        # Truncation to 32 bits leaves the gid.
        out.write(_bytes_of(packed[start : start + _STEP].astype("<u4")))
    return _stats(len(packed), _counts(firsts, len(packed)))


def plan_shard(place: ShardHeader, distinct_keys: int, *, ranked: bool = True) -> ShardHeader:
    """The header of a shard: chooses the directory; integers only, so of any size.

    Args:
        place: a header of any kind whose place, range and postings are right.
        distinct_keys: keys that have postings.
        ranked: whether a ranked directory can be had: see `_ranked`.

    Raises:
        HashbeamError: more postings than 32-bit offsets can reach.
    """
    if place.postings > MAX_GIDS:
        raise HashbeamError(
            f"a shard of table {place.table}, keys {place.key_lo} to {place.key_hi}, would hold "
            f"{place.postings} postings, at most {MAX_GIDS} fit; use more segments"
        )
    dense = dataclasses.replace(place, kind=DENSE, entries=place.key_hi - place.key_lo)
    if dense.postings_at <= _DENSE_BYTES_PER_POSTING * place.postings:
        return dense
    choices = [dense, dataclasses.replace(place, kind=SPARSE, entries=distinct_keys)]
    if ranked and distinct_keys:
        choices.append(dataclasses.replace(place, kind=RANKED, entries=distinct_keys))
    return min(choices, key=lambda header: header.file_bytes)


def _write_array(out: ByteSink | BinaryIO, pieces: Sequence[NDArray[np.unsignedinteger]]) -> None:
    """Write one array, which comes in pieces, and pad it."""
    for piece in pieces:
        out.write(_bytes_of(piece))
    size = sum(piece.nbytes for piece in pieces)
    if aligned(size) > size:
        out.write(memoryview(bytes(aligned(size) - size)))


def _bytes_of(array: NDArray[np.unsignedinteger]) -> memoryview:
    """The array's little-endian bytes, without a copy where it is little-endian already."""
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, dtype=little).reshape(-1).view(np.uint8).data


def _buckets(
    packed: NDArray[np.uint64],
) -> tuple[list[NDArray[np.uint32]], list[NDArray[np.uint32]]]:
    """The distinct keys of sorted postings, and the place of the first posting of each.

    Both come in pieces: joining them would double the memory of a shard of mostly distinct keys.
    """
    distinct: list[NDArray[np.uint32]] = []
    firsts: list[NDArray[np.uint32]] = []
    keys = np.empty(_STEP + 1, np.uint32)  # one more in front: the last key of the step before
    if len(packed):
        keys[0] = ~np.uint32(packed[0] >> np.uint64(32))
    for start in range(0, len(packed), _STEP):
        block = packed[start : start + _STEP]
        end = len(block) + 1
        keys[1:end] = block >> np.uint64(32)
        first = np.flatnonzero(keys[1:end] != keys[: end - 1])
        if len(first):
            distinct.append(keys[1:end][first])
            firsts.append((first + start).astype(np.uint32))
        keys[0] = keys[end - 1]
    return distinct, firsts


def _counts(firsts: list[NDArray[np.uint32]], postings: int) -> Iterator[NDArray[np.uint32]]:
    """Postings of each bucket, in pieces as the buckets come."""
    ends = [int(piece[0]) for piece in firsts[1:]] + [postings]
    for piece, end in zip(firsts, ends, strict=False):
        yield np.diff(piece, append=np.uint32(end))


def _ranked(
    header: ShardHeader, keys: list[NDArray[np.uint32]], firsts: list[NDArray[np.uint32]]
) -> tuple[NDArray[np.uint32], list[NDArray[np.uint16]]] | None:
    """The two arrays of a ranked directory; None where a bucket starts beyond 16 bits."""
    bitmaps = np.zeros(header.blocks + 1, np.uint64)
    before = np.zeros((header.blocks + 2, 2), np.uint32)  # keys and postings, shifted by a block
    for found, counts in zip(keys, _counts(firsts, header.postings), strict=True):
        at = found - np.uint32(header.key_lo)
        block, bit = at // BLOCK_KEYS, (at % BLOCK_KEYS).astype(np.uint64)
        runs = np.flatnonzero(np.diff(block, prepend=block[0] + 1))  # first key of each block
        blocks = block[runs]
        bitmaps[blocks] |= np.bitwise_or.reduceat(np.uint64(1) << bit, runs)
        before[blocks + 1, 0] += np.diff(runs, append=len(at)).astype(np.uint32)
        before[blocks + 1, 1] += np.add.reduceat(counts, runs, dtype=np.uint32)
    np.cumsum(before, axis=0, dtype=np.uint32, out=before)
    starts: list[NDArray[np.uint16]] = []
    for found, first in zip(keys, firsts, strict=True):
        start = first - before[(found - np.uint32(header.key_lo)) // BLOCK_KEYS, 1]
        if int(start.max()) > np.iinfo(np.uint16).max:
            return None
        starts.append(start.astype(np.uint16))
    words = bitmaps.astype("<u8").view("<u4").reshape(-1, 2)
    return np.hstack([words, before[:-1]]), starts


def _stats(postings: int, counts: Iterable[NDArray[np.uint32]]) -> ShardStats:
    histogram = np.zeros(_SMALL_LOAD, np.int64)
    weighted = 0.0  # Σ load log2 load
    distinct_keys, max_bucket = 0, 0
    for piece in counts:
        distinct_keys += len(piece)
        max_bucket = max(max_bucket, int(piece.max()))
        large = piece[piece >= _SMALL_LOAD].astype(np.float64)
        weighted += float(np.sum(large * np.log2(large)))
        histogram += np.bincount(piece[piece < _SMALL_LOAD], minlength=_SMALL_LOAD)
    loads = np.arange(1, _SMALL_LOAD)
    weighted += float(np.sum(histogram[1:] * loads * np.log2(loads)))
    entropy = math.log2(postings) - weighted / postings if postings else 0.0
    return ShardStats(postings, distinct_keys, max_bucket, max(0.0, entropy))
