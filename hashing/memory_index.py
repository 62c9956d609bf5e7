"""An index of a few tracks in memory: for calibration, comparisons of hashers, and tests."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hashing import tables
from hashing.encoders import Hasher, TrackCodes
from hashing.gone import NOTHING, Gone
from hashing.matrix import as_rows
from hashing.search import PROBES, Searcher
from hashing.shards import Shard, TableSet

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class MemoryTracks:
    """Tracks one after another in one segment; see `hashing.search.LiveTracks`."""

    def __init__(self, spans: Sequence[int]) -> None:
        """`spans`: snippet numbers that each track takes up, silent snippets included."""
        self.firsts = np.concatenate(([0], np.cumsum(spans))).astype(np.int64)

    def locate(self, segment: int, gids: Ints) -> tuple[Ints, Ints, Ints]:
        """Ordinal, first snippet and end of the track of each gid."""
        del segment
        ordinal = np.searchsorted(self.firsts, gids, side="right") - 1
        return ordinal, self.firsts[ordinal], self.firsts[ordinal + 1]

    def gone(self, segment: int) -> Gone:
        """No track is ever removed."""
        del segment
        return NOTHING


class MemoryCodes:
    """Codes by snippet number; see `hashing.ranking.Codes`."""

    def __init__(self, rows: Bytes, numbers: Ints, n: int) -> None:
        self._rows = np.zeros((n, rows.shape[1]), dtype=np.uint8)
        self._rows[numbers] = rows
        self._present = np.zeros(n, dtype=bool)
        self._present[numbers] = True

    def rows(self, segment: int, gids: Ints) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """Codes [n, width] of snippets [n], and which there are."""
        del segment
        return self._rows[gids], self._present[gids]


def memory_searcher(
    hasher: Hasher,
    tracks: Sequence[TrackCodes],
    key_bits: int,
    probes: int = PROBES,
    embeddings: bool = False,
) -> Searcher:
    """An index of `tracks`, open; `embeddings`: compare with these instead of codes."""
    hasher.check_key_bits(key_bits)
    located = MemoryTracks([int(track.snippet[-1]) + 1 for track in tracks])
    numbers = np.concatenate(
        [track.snippet + first for track, first in zip(tracks, located.firsts[:-1], strict=True)]
    )
    codes = np.concatenate([track.codes for track in tracks])
    quantizer = hasher.quantizer
    material = quantizer.key_material(codes)
    shards, postings = {}, 0
    for table in range(quantizer.n_tables):
        rows, keys = quantizer.postings(material, table, key_bits)
        gids = (numbers if rows is None else numbers[rows]).astype(np.uint64)
        packed = keys.astype(np.uint64) << np.uint64(32) | gids
        postings = max(postings, packed.size)
        file = io.BytesIO()
        tables.build_shard(
            packed, file, table=table, segment=0, key_bits=key_bits, key_lo=0, key_hi=1 << key_bits
        )
        shards[str(table)] = file.getvalue()
    table_set = TableSet(
        [(name, 0, int(name), 0, 1 << key_bits) for name in shards],
        quantizer.n_tables,
        key_bits,
        open_shard=lambda name: Shard(shards[name], name),
    )
    compared = codes
    if embeddings:
        compared = as_rows(np.concatenate([_embeddings(track) for track in tracks]))
    matrix = MemoryCodes(compared, numbers, int(located.firsts[-1]))
    return Searcher(
        hasher, table_set, matrix, located, key_bits, postings, probes, embeddings=embeddings
    )


def _embeddings(track: TrackCodes) -> npt.NDArray[np.float16]:
    if track.embeddings is None:
        raise ValueError("the tracks were hashed without their embeddings")
    return track.embeddings
