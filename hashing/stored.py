"""Codes that an index holds, looked up in it: each must be found where it stands.

Other than a recording, a stored code leaves nothing in doubt: it is looked up under its own keys
alone, snippets of both sides begin at the same moments, and its own place is as like it as can be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing.search import Searcher

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_PLACE_BITS = 40  # of a packed vote: more than a snippet number has, and some below zero
_BIAS = 1 << 20  # snippets of a stretch, at most


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Some consecutive snippets as an index holds them.

    Attributes:
      number: of each snippet that is heard, rising from 0, the first one's, on; int64 [n].
      codes: uint8 [n, code_bytes]; they make the keys.
      rows: what places are compared by, uint8 [n, width]: the codes, or float16 embeddings.
    """

    number: Ints
    codes: Bytes
    rows: Bytes


@dataclasses.dataclass(frozen=True)
class StoredPlaces:
    """Places of one stretch, those with the most votes first, [p].

    Attributes:
      gid: snippet number where the stretch begins.
      ordinal: of the track that it begins in; -1 for a removed one.
      likeness: of the stretch to what is there, mean over its snippets: one for a copy.
    """

    gid: Ints
    ordinal: Ints
    likeness: Floats


def find_stored(
    searcher: Searcher,
    segment: int,
    stretches: Sequence[Stretch],
    candidates: int,
    max_bucket: int | None = None,
) -> list[StoredPlaces]:
    """Where stretches may be in one segment: hits of all snippets in all tables vote.

    Args:
      candidates: places of a stretch at most.
      max_bucket: larger buckets are passed over.

    >>> from hashing.encoders import Hasher
    >>> from hashing.memory_index import memory_searcher
    >>> from hashing.synthesis import render_track
    >>> hasher = Hasher.load()
    >>> songs = [hasher.hash_track([render_track(seed, 8.0, 8000)]) for seed in (1, 2)]
    >>> codes = songs[1].codes[4:9]
    >>> searcher = memory_searcher(hasher, songs, 12)
    >>> (places,) = find_stored(searcher, 0, [Stretch(np.arange(5), codes, codes)], 2)
    >>> int(places.gid[0]) == len(songs[0].codes) + 4, int(places.ordinal[0])
    (True, 1)
    """
    keys = own_keys(searcher, np.concatenate([stretch.codes for stretch in stretches]))
    hits = searcher.tables.lookup(segment, keys, max_bucket)
    owner = np.repeat(np.arange(len(stretches)), [stretch.number.size for stretch in stretches])
    number = np.concatenate([stretch.number for stretch in stretches])
    row = hits.row
    place = hits.gid.astype(np.int64) - number[row] + _BIAS
    voted, votes = np.unique(owner[row] << _PLACE_BITS | place, return_counts=True)
    bounds = np.searchsorted(voted, np.arange(len(stretches) + 1) << _PLACE_BITS)
    found = []
    for at, stretch in enumerate(stretches):
        mine = slice(bounds[at], bounds[at + 1])
        best = np.argsort(-votes[mine], kind="stable")[:candidates]
        gids = (voted[mine][best] & ((1 << _PLACE_BITS) - 1)) - _BIAS
        found.append(_compare(searcher, segment, stretch, gids[gids >= 0]))
    return found


def own_keys(searcher: Searcher, codes: Bytes) -> npt.NDArray[np.uint32]:
    """The key of each of `codes` [n, code_bytes] in each table, [n, n_tables].

    Where a hasher gives a code several keys in a table, it is the first of them.
    """
    quantizer = searcher.hasher.quantizer
    material, columns = quantizer.key_material(codes), []
    for table in range(quantizer.n_tables):
        rows, keys = quantizer.postings(material, table, searcher.key_bits)
        if rows is not None:
            keys = keys[np.searchsorted(rows, np.arange(len(codes)))]
        columns.append(keys)
    return np.stack(columns, axis=1)


def _compare(searcher: Searcher, segment: int, stretch: Stretch, gids: Ints) -> StoredPlaces:
    ordinals, _, ends = searcher.tracks.locate(segment, gids)
    numbers = gids[:, None] + stretch.number
    rows, there = searcher.codes.rows(segment, numbers.ravel())
    there &= (numbers < ends[:, None]).ravel()
    likeness = np.zeros(there.size, dtype=np.float32)
    likeness[there] = searcher.likeness(np.tile(stretch.rows, (gids.size, 1))[there], rows[there])
    mean = likeness.reshape(numbers.shape).sum(axis=1) / max(stretch.number.size, 1)
    return StoredPlaces(gids, ordinals, mean)
