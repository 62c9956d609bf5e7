"""An index in memory of several segments, from which tracks may have been removed."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

import numpy as np

from hashing.encoders import Hasher, TrackCodes
from hashing.gone import Gone
from hashing.memory_index import MemoryCodes, MemoryTracks
from hashing.search import Searcher
from hashing.shards import Shard, TableSet
from hashing.tables import build_shard


class SegmentedTracks:
    """Tracks of several segments; `removed` are ordinals, by segment."""

    def __init__(
        self, parts: Sequence[Sequence[TrackCodes]], removed: Sequence[Collection[int]] = ()
    ) -> None:
        self.parts = parts
        self.segments = [MemoryTracks([spanned(track) for track in part]) for part in parts]
        self.removed = [sorted(ordinals) for ordinals in removed] or [[] for _ in parts]

    def locate(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ordinal, first, end = self.segments[segment].locate(segment, gids)
        return np.where(np.isin(ordinal, self.removed[segment]), -1, ordinal), first, end

    def gone(self, segment: int) -> Gone:
        removed = np.array(self.removed[segment], np.int64)
        firsts = self.segments[segment].firsts
        heard = sum(len(self.parts[segment][ordinal].codes) for ordinal in removed)
        return Gone(firsts[removed], firsts[removed + 1], heard)


class SegmentedCodes:
    """Codes of several segments."""

    def __init__(self, parts: Sequence[MemoryCodes]) -> None:
        self.parts = parts

    def rows(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.parts[segment].rows(segment, gids)


def spanned(track: TrackCodes) -> int:
    """Snippet numbers that a track takes up."""
    return int(track.snippet[-1]) + 1


def segmented(
    hasher: Hasher,
    parts: Sequence[Sequence[TrackCodes]],
    key_bits: int,
    removed: Sequence[Collection[int]] = (),
) -> Searcher:
    """An index in memory with a segment for each part, some of them of no snippet."""
    shards, total, matrices = {}, 0, []
    quantizer = hasher.quantizer
    for segment, part in enumerate(parts):
        firsts = MemoryTracks([spanned(track) for track in part]).firsts
        numbers = [t.snippet + f for t, f in zip(part, firsts[:-1], strict=True)]
        gids = np.concatenate([np.empty(0, np.int64), *numbers])
        rows = np.empty((0, quantizer.code_bytes), np.uint8)
        packed_codes = np.concatenate([rows, *(track.codes for track in part)])
        matrices.append(MemoryCodes(packed_codes, gids, int(firsts[-1])))
        total += len(gids)
        material = quantizer.key_material(packed_codes)
        for table in range(quantizer.n_tables):
            _, keys = quantizer.postings(material, table, key_bits)
            file = io.BytesIO()
            build_shard(
                keys.astype(np.uint64) << np.uint64(32) | gids.astype(np.uint64),
                file,
                table=table,
                segment=segment,
                key_bits=key_bits,
                key_lo=0,
                key_hi=1 << key_bits,
            )
            shards[f"{segment} {table}"] = file.getvalue()
    listed = [(name, *map(int, name.split()), 0, 1 << key_bits) for name in shards]
    tables = TableSet(
        listed,  # type: ignore[arg-type]
        quantizer.n_tables,
        key_bits,
        open_shard=lambda name: Shard(shards[name], name),
    )
    tracks = SegmentedTracks(parts, removed)
    live = total - sum(tracks.gone(segment).snippets for segment in range(len(parts)))
    return Searcher(hasher, tables, SegmentedCodes(matrices), tracks, key_bits, live)
