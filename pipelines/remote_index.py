"""Tables and code matrices of an index on an object store, read by byte ranges.

The arrays are those of `hashing.shards` and `hashing.matrix`, over `pipelines.pages` instead of a
memory map: before a look-up, what it will touch is fetched, for all tables side by side. That is
three rounds of requests (headers and small files, directories, postings), however many tables and
keys there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hashing.hits import Hits
from hashing.matrix import CodeMatrices, CodeMatrix, Mapped
from hashing.shards import Shard, TableSet
from hashing.table_format import BLOCK_KEYS, DENSE, HEADER_BYTES, RANKED
from pipelines import pages as page_files
from pipelines.pages import PageCache, Pages

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
Ranges = tuple[Pages, Ints, Ints]

# Codes of a segment that are read whole when the first is needed: a second at 16 MB/s. On a disk
# it is `hashing.matrix.HELD_BYTES`.
HELD_BYTES = 16_000_000


class RemoteTables(TableSet):
    """`TableSet` over an object store.

    Args:
        shards: ``(path, segment, table, key_lo, key_hi)`` of each.
        n_tables: tables of the index.
        key_bits: bits of their keys.
        sizes: bytes of each shard, by path.
        cache: holds what is fetched.
    """

    near = False  # what a look-up does not need is not fetched

    def __init__(
        self,
        shards: Iterable[tuple[str, int, int, int, int]],
        n_tables: int,
        key_bits: int,
        sizes: Mapping[str, int],
        cache: PageCache,
    ) -> None:
        super().__init__(shards, n_tables, key_bits, open_shard=self._open_paged)
        self._sizes, self._cache = sizes, cache

    def lookup(self, segment: int, keys: NDArray[np.uint32], max_bucket: int | None = None) -> Hits:
        """As `TableSet.lookup`; many keys of a large index are looked up in several batches."""
        keys = np.asarray(keys)
        parts = []
        step = self._rows_at_once(segment)
        for start in range(0, max(1, len(keys)), step):
            rows = keys[start : start + step]
            # One look-up at a time: another one could drop what this one has fetched.
            with self._cache.lock:
                self._cache.trim()
                if rows.size and rows.shape[1:] == (self.n_tables,):
                    self._fetch(segment, rows, max_bucket)
                parts.append((start, super().lookup(segment, rows, max_bucket)))
        return parts[0][1] if len(parts) == 1 else _join(parts)

    def lookup_each(self, segments: Iterable[int], keys: NDArray[np.uint32]) -> list[Hits]:
        """As `TableSet.lookup_each`."""
        return [self.lookup(segment, keys) for segment in segments]

    def _rows_at_once(self, segment: int) -> int:
        """Rows of keys whose pages are within the limit of the cache, wherever they lie."""
        of_key = 2 * (
            page_files.PAGE_BYTES + page_files.GAP_BYTES
        )  # a page of a directory and one of postings
        all_of_it = sum(self._sizes[path] for *_, path in self._listed.get(segment, ()))
        limit = self._cache.limit_bytes
        return 1 << 62 if all_of_it <= limit else max(1, limit // (of_key * self.n_tables))

    def _fetch(self, segment: int, keys: NDArray[np.uint32], max_bucket: int | None) -> None:
        listed = self._segment(segment)
        tables = np.arange(self.n_tables, dtype=np.uint64) << np.uint64(32)
        wanted = np.unique(keys.T.astype(np.uint64) + tables[:, None])
        edges = np.append(np.searchsorted(wanted, listed.firsts), len(wanted))
        used = np.flatnonzero(edges[1:] > edges[:-1]).tolist()
        start, end = np.array([0]), np.array([HEADER_BYTES])
        self._cache.fetch((self._pages(listed.paths[number]), start, end) for number in used)
        met = []
        for number in used:
            shard = self._shard(segment, listed, number)
            met.append((shard, wanted[edges[number] : edges[number + 1]].astype(np.uint32)))
        self._cache.fetch(self._directories(met))
        self._cache.fetch(self._bucket_starts(met))
        self._cache.fetch(self._postings(met, max_bucket))

    def _pages(self, path: str) -> Pages:
        return self._cache.file(path, self._sizes[path])

    def _open_paged(self, path: str) -> Shard:
        pages = self._pages(path)
        self._cache.fetch([(pages, np.array([0]), np.array([HEADER_BYTES]))])
        return Shard(pages.data, path)

    def _directories(self, met: Sequence[tuple[Shard, NDArray[np.uint32]]]) -> Iterator[Ranges]:
        """Where the entries of keys stand; of a sparse directory, which is short, all of it."""
        for shard, keys in met:
            header, at = shard.header, keys.astype(np.int64) - shard.header.key_lo
            if header.kind == DENSE:
                starts = header.offsets_at + 4 * at
                yield self._pages(shard.name), starts, starts + 8
            elif header.kind == RANKED:
                starts = HEADER_BYTES + 16 * (at // BLOCK_KEYS)
                yield self._pages(shard.name), starts, starts + 32
            else:
                yield self._pages(shard.name), np.array([0]), np.array([header.postings_at])

    def _bucket_starts(self, met: Sequence[tuple[Shard, NDArray[np.uint32]]]) -> Iterator[Ranges]:
        """Where a ranked directory, whose blocks have come, says where buckets start."""
        for shard, keys in met:
            if shard.blocks is not None:
                block = shard.blocks[(keys.astype(np.int64) - shard.header.key_lo) // BLOCK_KEYS]
                keys_before = block[:, 2].astype(np.int64)
                starts = shard.header.offsets_at + 2 * keys_before
                # The key itself is one of the block's 64.
                yield self._pages(shard.name), starts, starts + 2 * (BLOCK_KEYS + 1)

    def _postings(
        self, met: Sequence[tuple[Shard, NDArray[np.uint32]]], max_bucket: int | None
    ) -> Iterator[Ranges]:
        for shard, keys in met:
            first, size = (part.astype(np.int64) for part in shard.find(keys))
            if max_bucket is not None:
                size[size > max_bucket] = 0
            starts = shard.header.postings_at + 4 * first
            yield self._pages(shard.name), starts, starts + 4 * size


def _join(parts: Sequence[tuple[int, Hits]]) -> Hits:
    """The hits of batches of rows, each with the number of its first row."""
    return Hits(
        gid=np.concatenate([hits.gid for _, hits in parts]),
        bucket_row=np.concatenate([hits.bucket_row + np.int32(first) for first, hits in parts]),
        bucket_table=np.concatenate([hits.bucket_table for _, hits in parts]),
        bucket_hits=np.concatenate([hits.bucket_hits for _, hits in parts]),
        bucket_sizes=np.concatenate([hits.bucket_sizes for _, hits in parts]),
    )


class RemoteMatrix(CodeMatrix):
    """`CodeMatrix` over an object store."""

    def __init__(self, data: bytes, pages: Pages, name: str) -> None:
        self._places: list[tuple[int, int, int]] = []
        super().__init__(data, pages.data, name)
        self.pages = pages

    def _map(
        self, groups: list[tuple[int, int]], shard: Mapped, name: str
    ) -> list[tuple[int, Bytes]]:
        mapped = super()._map(groups, shard, name)
        self._places = [
            (first, len(part), place)
            for (first, part), (_, place) in zip(mapped, groups, strict=True)
        ]
        return mapped

    def ranges(self, numbers: Ints) -> Ranges:
        """Where in the shard the rows of these numbers lie."""
        row, present = self._find(numbers)
        row = row[present]
        starts = np.zeros(len(row), dtype=np.int64)
        for first, rows, place in self._places:
            inside = (row >= first) & (row < first + rows)
            starts[inside] = place + (row[inside] - first) * self.width
        return self.pages, starts, starts + self.width


class RemoteMatrices(CodeMatrices):
    """`CodeMatrices` over an object store.

    Args:
        places: ``(name, shard, segment, part)`` of each matrix.
        starts: first snippet number of each part, and the end, by segment.
        width: bytes of a code.
        sizes: bytes of each matrix and shard, by path.
        cache: holds what is fetched.
    """

    near = False

    def __init__(
        self,
        places: Iterable[tuple[str, str, int, int]],
        starts: Mapping[int, Ints],
        width: int,
        sizes: Mapping[str, int],
        cache: PageCache,
    ) -> None:
        # What is not whole is let go by the cache; an open matrix itself is small.
        super().__init__(
            places, starts, width, self._open_paged, max_open=65_536, held_bytes=HELD_BYTES
        )
        self._sizes, self._cache = sizes, cache

    def rows(self, segment: int, gids: Ints) -> tuple[Bytes, Flags]:
        """As `CodeMatrices.rows`."""
        if segment in self._held:
            return super().rows(segment, gids)
        with self._cache.lock:
            self._cache.trim()
            self._fetch(segment, gids)
            return super().rows(segment, gids)

    def _fetch(self, segment: int, gids: Ints) -> None:
        starts = self._starts[segment]
        if starts[-1] * self.width <= self._held_bytes:
            gids = np.arange(starts[-1])
        gids = gids[(gids >= 0) & (gids < starts[-1])]
        parts = np.searchsorted(starts, gids, side="right") - 1
        met = np.unique(parts).tolist()
        self._cache.fetch_whole(
            [
                self._pages(self._names[segment, part][0])
                for part in met
                if (segment, part) not in self._opened and (segment, part) in self._names
            ]
        )
        self._cache.fetch(
            matrix.ranges(gids[parts == part] - starts[part])
            for part in met
            if isinstance(matrix := self._matrix(segment, part), RemoteMatrix)
        )

    def _pages(self, path: str) -> Pages:
        return self._cache.file(path, self._sizes[path])

    def _open_paged(self, path: str, shard: str) -> RemoteMatrix:
        pages = self._pages(path)
        self._cache.fetch_whole([pages])
        return RemoteMatrix(bytes(pages.data), self._pages(shard), path)
