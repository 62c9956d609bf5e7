"""All postings of a shard, or of some of its keys, bucket by bucket."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashing.errors import IndexFormatError
from hashing.shards import Shard
from hashing.table_format import BLOCK_KEYS, REMEDY

Words = npt.NDArray[np.uint32]


def bucket_postings(shard: Shard, key_lo: int, key_hi: int) -> tuple[Words, Words]:
    """Keys and snippets [n] of all postings of a shard with keys from `key_lo` to `key_hi`.

    Sorted by key and then by snippet, as the shard has them.

    Raises:
      IndexFormatError: the directory does not fit the postings.

    >>> import io
    >>> from hashing.tables import build_shard, pack_postings
    >>> file, keys = io.BytesIO(), np.array([3, 1, 3], np.uint32)
    >>> _ = build_shard(pack_postings([(None, keys, 0)], 0, 4), file, table=0, segment=0,
    ...                 key_bits=2, key_lo=0, key_hi=4)
    >>> [part.tolist() for part in bucket_postings(Shard(file.getvalue(), "a"), 2, 4)]
    [[3, 3], [0, 2]]
    """
    keys = _held_keys(shard, max(key_lo, shard.header.key_lo), min(key_hi, shard.header.key_hi))
    if not keys.size:
        return keys, keys
    first, size = shard.find(keys)
    gids = shard.postings[int(first[0]) : int(first[-1]) + int(size[-1])]
    repeated = np.repeat(keys, size)
    if repeated.size != gids.size:
        raise IndexFormatError(f"table shard {shard.name} has a damaged directory; {REMEDY}")
    return repeated, gids


def _held_keys(shard: Shard, key_lo: int, key_hi: int) -> Words:
    """The keys that have postings, rising; the range is within that of the shard."""
    if key_lo >= key_hi:
        return np.empty(0, np.uint32)
    if shard.keys is not None:
        low, high = np.searchsorted(shard.keys, np.array([key_lo, key_hi], np.uint64))
        return shard.keys[low:high]
    low, high = key_lo - shard.header.key_lo, key_hi - shard.header.key_lo
    if shard.blocks is None:
        return (np.flatnonzero(np.diff(shard.offsets[low : high + 1])) + key_lo).astype(np.uint32)
    start = low // BLOCK_KEYS
    bitmaps = shard.blocks[start : -(-high // BLOCK_KEYS), :2].copy()
    bits = np.unpackbits(bitmaps.view(np.uint8), bitorder="little")
    at = np.flatnonzero(bits[low - start * BLOCK_KEYS : high - start * BLOCK_KEYS])
    return (at + key_lo).astype(np.uint32)
