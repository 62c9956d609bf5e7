"""Look-up in hash tables through memory maps. The format is described in `hashing.table_format`."""

from __future__ import annotations

import dataclasses
import mmap
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from hashing.errors import IndexFormatError
from hashing.hits import Hits, SortedKeys
from hashing.table_format import (
    BLOCK_KEYS,
    DENSE,
    HEADER_BYTES,
    RANKED,
    REMEDY,
    SPARSE,
    ShardHeader,
)

_BLOCK_SHIFT = BLOCK_KEYS.bit_length() - 1
_MAX_STEPS = 4_194_304  # 32 MiB of int64: the hits of some 800 queries of ten seconds


class Shard:
    """One shard on a buffer, usually a memory map; nothing but the header is read to open it.

    Attributes:
        name: what messages call it.
        header: its `ShardHeader`.
        keys: distinct keys uint32 ``[entries]`` of a sparse directory, otherwise None.
        blocks: uint32 ``[blocks + 1, 4]`` of a ranked directory, otherwise None.
        offsets: where each bucket starts: uint32 ``[entries + 1]``, ranked uint16 ``[entries]``.
        postings: gids uint32 ``[postings]``.
    """

    def __init__(self, data: bytes | mmap.mmap, name: str) -> None:
        """Read a shard from the bytes of a whole file.

        Raises:
            IndexFormatError: as `ShardHeader.from_bytes`.
        """
        self.name = name
        self.header = header = ShardHeader.from_bytes(data[:HEADER_BYTES], name, len(data))
        # frombuffer gives plain arrays; indexing an np.memmap is six times slower.
        words = np.frombuffer(data, "<u4")
        self.keys: NDArray[np.uint32] | None = None
        if header.kind == SPARSE:
            self.keys = words[HEADER_BYTES // 4 :][: header.entries]
        self.blocks: NDArray[np.uint32] | None = None
        self.offsets: NDArray[np.unsignedinteger]
        if header.kind == RANKED:
            self.blocks = words[HEADER_BYTES // 4 :][: 4 * (header.blocks + 1)].reshape(-1, 4)
            self.offsets = words[header.offsets_at // 4 :].view("<u2")[: header.entries]
        else:
            self.offsets = words[header.offsets_at // 4 :][: header.entries + 1]
        self.postings: NDArray[np.uint32] = words[header.postings_at // 4 :]

    @classmethod
    def open(cls, path: str) -> Shard:
        """Map a file on a local disk.

        Raises:
            IndexFormatError: the file is missing, unreadable, damaged or truncated.
        """
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < HEADER_BYTES:  # an empty file has no map
                    return cls(file.read(), path)
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise IndexFormatError(
                f"table shard {path} cannot be opened ({error.strerror}); {REMEDY}"
            ) from error
        # Buckets are far apart: reading ahead from a cold disk would fetch 128 KiB for 50 bytes.
        data.madvise(mmap.MADV_RANDOM)
        return cls(data, path)

    def find(self, keys: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Where the buckets of keys start in `postings`, and how many postings they hold.

        Args:
            keys: uint32 ``[k]``, all within the shard's range; sorted keys are found faster.

        Raises:
            IndexFormatError: the directory points outside of the postings.
        """
        first: NDArray[np.unsignedinteger]
        last: NDArray[np.unsignedinteger]
        if self.blocks is not None:
            first, last = self._find_ranked(self.blocks, keys)
        elif self.keys is None:
            at = keys.astype(np.int64)
            at -= self.header.key_lo
            first = self.offsets[at]
            at += 1
            last = self.offsets[at]
        else:
            at = np.searchsorted(self.keys, keys)
            found = at < len(self.keys)
            found[found] = self.keys[at[found]] == keys[found]
            first = self.offsets[at]
            last = self.offsets[at + found]
        if bool((last < first).any()) or int(last.max(initial=0)) > len(self.postings):
            raise IndexFormatError(f"table shard {self.name} has a damaged directory; {REMEDY}")
        return first, last - first

    def _find_ranked(
        self, blocks: NDArray[np.uint32], keys: NDArray[np.uint32]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        at = keys - np.uint32(self.header.key_lo)
        bitmaps = blocks.view("<u8").reshape(-1)[::2]
        bit = (at & np.uint32(BLOCK_KEYS - 1)).astype(np.uint64)
        block = (at >> np.uint32(_BLOCK_SHIFT)).astype(np.int64)
        first = np.zeros(len(keys), np.uint32)
        last = first.copy()
        # Most keys have no bucket where there are fewer postings than keys.
        shifted = bitmaps[block] >> bit
        held = np.flatnonzero(shifted & np.uint64(1))
        block, bit = block[held], bit[held]
        here, after = blocks[block], blocks[block + 1]
        below = bitmaps[block] & ((np.uint64(1) << bit) - np.uint64(1))
        rank = here[:, 2] + np.bitwise_count(below).astype(np.int64)
        # The bucket ends where the next key's starts: in this block, or with the next block.
        top = len(self.offsets) - 1
        first[held] = here[:, 3] + self.offsets[np.minimum(rank, top)]
        ends = here[:, 3] + self.offsets[np.minimum(rank + 1, top)]
        last[held] = np.where(rank + 1 >= after[:, 2], after[:, 3], ends)
        return first, last

    def verify(self, n_snippets: int | None = None) -> list[str]:
        """Read everything and name what is wrong, a line each; an empty list means sound.

        Args:
            n_snippets: snippets of the segment, which every posting must be below.
        """
        lo, hi, size = self.header.key_lo, self.header.key_hi, self.header.postings
        problems = []
        starts: NDArray[np.unsignedinteger] = self.offsets
        if self.blocks is not None:
            totals = [0, 0, self.header.entries, size]
            loads = np.bitwise_count(self.blocks[:, :2]).sum(axis=1, dtype=np.uint32)
            ranks = np.append(np.uint32(0), np.cumsum(loads, dtype=np.uint32)[:-1])
            if self.blocks[-1].tolist() != totals or not np.array_equal(ranks, self.blocks[:, 2]):
                return [f"{self.name}: the blocks of the directory do not add up"]
            starts = np.append(np.repeat(self.blocks[:, 3], loads) + self.offsets, np.uint32(size))
        if int(starts[0]) != 0 or int(starts[-1]) != size:
            problems.append(
                f"{self.name}: offsets run from {starts[0]} to {starts[-1]}, expected 0 to {size}"
            )
        if not _ascending(starts, strictly=self.header.kind != DENSE):
            problems.append(f"{self.name}: offsets are not in order")
        if self.keys is not None and len(self.keys):
            if not _ascending(self.keys, strictly=True):
                problems.append(f"{self.name}: keys are not in order")
            if int(self.keys.min()) < lo or int(self.keys.max()) >= hi:
                problems.append(f"{self.name}: keys outside {lo} to {hi - 1}")
        highest = int(self.postings.max(initial=0))
        if n_snippets is not None and size and highest >= n_snippets:
            problems.append(f"{self.name}: posting {highest} is not below {n_snippets} snippets")
        return problems


def _ascending(values: NDArray[np.unsignedinteger], *, strictly: bool) -> bool:
    step = 4_194_304  # 16 MiB at a time: the temporaries of a whole shard would be gigabytes
    for start in range(0, len(values) - 1, step):
        left, right = values[start : start + step], values[start + 1 : start + step + 1]
        left = left[: len(right)]
        if not bool(np.all(left < right if strictly else left <= right)):
            return False
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class _Segment:
    """The shards of one segment, sorted by table and first key."""

    paths: list[str]
    places: list[tuple[int, int, int]]  # table, key_lo, key_hi
    firsts: NDArray[np.uint64]  # table << 32 | key_lo


class TableSet:
    """All hash tables of an index; a shard is opened when a key first falls into it.

    >>> import io
    >>> from hashing.tables import build_shard, pack_postings
    >>> file = io.BytesIO()
    >>> packed = pack_postings([(None, np.array([3, 1, 3], np.uint32), 0)], 0, 4)
    >>> _ = build_shard(packed, file, table=0, segment=0, key_bits=2, key_lo=0, key_hi=4)
    >>> opened = TableSet([("a.hbt", 0, 0, 0, 4)], 1, 2, open_shard=lambda path: Shard(
    ...     file.getvalue(), path))
    >>> hits = opened.lookup(0, np.array([[2], [3]], np.uint32))
    >>> hits.gid.tolist(), hits.row.tolist(), hits.bucket_sizes.tolist()
    ([0, 2], [1, 1], [[0], [2]])
    """

    # Whole shards can be read at the speed of a disk: those of small segments may be merged.
    near = True

    def __init__(
        self,
        shards: Iterable[tuple[str, int, int, int, int]],
        n_tables: int,
        key_bits: int,
        *,
        max_open: int | None = None,
        open_shard: Callable[[str], Shard] = Shard.open,
    ) -> None:
        """Note which shards there are; no file is touched.

        Args:
            shards: ``(path, segment, table, key_lo, key_hi)`` of each, in any order.
            n_tables: tables of the index.
            key_bits: bits of their keys.
            max_open: shards kept open at once, the one unused for longest going first; by default
                half of the files that the process may open (``ulimit -n``): a map holds a file.
            open_shard: how a path becomes a `Shard`; another one serves shards not on a disk.
        """
        self.n_tables = n_tables
        self.key_bits = key_bits
        self._listed: dict[int, list[tuple[int, int, int, str]]] = {}
        for path, segment, table, key_lo, key_hi in shards:
            self._listed.setdefault(segment, []).append((table, key_lo, key_hi, path))
        self._segments: dict[int, _Segment] = {}
        self._open: dict[str, Shard] = {}
        self._max_open = max_open if max_open is not None else open_files_allowed() // 2
        self._open_shard = open_shard
        self._steps = np.arange(0)

    @property
    def segments(self) -> list[int]:
        """Numbers of the segments, in order."""
        return sorted(self._listed)

    @property
    def opened(self) -> list[Shard]:
        """The shards that are open now."""
        return list(self._open.values())

    def lookup(self, segment: int, keys: NDArray[np.uint32], max_bucket: int | None = None) -> Hits:
        """All postings of the buckets of many keys at once.

        Args:
            segment: number of the segment.
            keys: uint32 ``[q, n_tables]``, column t for table t; many rows share the fixed costs.
            max_bucket: larger buckets, the stop words of audio, are left out of the hits.

        Raises:
            IndexFormatError: no such segment, or a shard is missing, damaged or of another place.
            ValueError: shape of the keys, or a key of more than `key_bits` bits.
        """
        return self._lookup(segment, self.sort_keys(keys), max_bucket)

    def lookup_each(self, segments: Iterable[int], keys: NDArray[np.uint32]) -> list[Hits]:
        """`lookup` in several segments; the same keys are sorted once."""
        in_order = self.sort_keys(keys)
        return [self._lookup(segment, in_order) for segment in segments]

    def sort_keys(self, keys: NDArray[np.uint32]) -> SortedKeys:
        """Keys ``[q, n_tables]`` in the order in which they stand in tables; raises ValueError."""
        keys = np.asarray(keys)
        if keys.ndim != 2 or keys.shape[1] != self.n_tables:
            raise ValueError(f"keys must be [q, n_tables={self.n_tables}], got {keys.shape}")
        if keys.size and int(keys.max()) >> self.key_bits:
            raise ValueError(f"key {int(keys.max())} has more than key_bits={self.key_bits} bits")
        return SortedKeys.of(keys)

    def _lookup(self, segment: int, keys: SortedKeys, max_bucket: int | None = None) -> Hits:
        listed = self._segment(segment)
        wanted = keys.wanted
        edges = np.append(np.searchsorted(wanted, listed.firsts), len(wanted))
        used = np.flatnonzero(edges[1:] > edges[:-1]).tolist()
        wanted_keys = wanted.astype(np.uint32)  # truncation drops the table

        first = np.empty(len(wanted), np.int64)
        size = np.empty(len(wanted), np.int64)
        for number in used:
            part = slice(edges[number], edges[number + 1])
            shard = self._shard(segment, listed, number)
            first[part], size[part] = shard.find(wanted_keys[part])
        bucket_sizes = keys.unsorted(size)
        if max_bucket is not None:
            size[size > max_bucket] = 0

        ends = np.zeros(len(wanted) + 1, np.int64)
        np.cumsum(size, out=ends[1:])
        # Bucket i fills hits ends[i] to ends[i + 1]: hit h is posting first[i] + (h - ends[i]).
        source = np.repeat(first - ends[:-1], size)
        source += self._count_to(len(source))
        gid = np.empty(len(source), np.uint32)
        hit_edges = ends[edges]
        last = first + size
        for number in used:
            shard = self._shard(segment, listed, number)  # closed meanwhile where there are many
            # Bring both ends of all buckets into the cache first: these reads wait for memory side
            # by side, the postings of a bucket one after another (measured: a tenth less in all).
            part = slice(edges[number], edges[number + 1])
            if len(shard.postings):
                np.take(shard.postings, first[part], mode="clip")
                np.take(shard.postings, last[part] - 1, mode="clip")
            part = slice(hit_edges[number], hit_edges[number + 1])
            # `find` has checked the range; "clip" only spares take a copy of its output.
            np.take(shard.postings, source[part], out=gid[part], mode="clip")
        return Hits(gid, keys.row, keys.table, size, bucket_sizes)

    def _count_to(self, n: int) -> NDArray[np.int64]:
        """0 to n - 1, kept between look-ups: np.arange costs as much as all else per hit."""
        if n > _MAX_STEPS:
            return np.arange(n)
        if n > len(self._steps):
            self._steps = np.arange(min(_MAX_STEPS, 2 * n))
        return self._steps[:n]

    def shards_of(self, segment: int, table: int | None = None) -> Iterator[Shard]:
        """The shards of a segment, or of one of its tables, in order, each open when it comes."""
        listed = self._segment(segment)
        for number, (found, *_) in enumerate(listed.places):
            if table in (None, found):
                yield self._shard(segment, listed, number)

    def close(self) -> None:
        """Let go of all maps; a later look-up opens them again."""
        self._open.clear()

    def _segment(self, number: int) -> _Segment:
        segment = self._segments.get(number)
        if segment is None:
            segment = self._segments[number] = self._sort_segment(number)
        return segment

    def _sort_segment(self, number: int) -> _Segment:
        """Sort a segment's shards, and make sure that they hold every key of every table once."""
        listed = sorted(self._listed.get(number, []))
        expected, table = 0, 0
        for found, key_lo, key_hi, _ in [*listed, (self.n_tables, 0, 0, "")]:
            if found != table and expected == 2**self.key_bits:
                expected, table = 0, table + 1
            if (found, key_lo) != (table, expected):
                raise IndexFormatError(
                    f"segment {number}, table {table}: keys from {expected} on are in no shard or "
                    f"in two; {REMEDY}"
                )
            expected = key_hi
        return _Segment(
            paths=[path for *_, path in listed],
            places=[(table, key_lo, key_hi) for table, key_lo, key_hi, _ in listed],
            firsts=np.array([table << 32 | key_lo for table, key_lo, *_ in listed], np.uint64),
        )

    def _shard(self, segment: int, listed: _Segment, number: int) -> Shard:
        path = listed.paths[number]
        shard = self._open.pop(path, None)
        if shard is None:
            while len(self._open) >= max(1, self._max_open):
                self._open.pop(next(iter(self._open)))
            shard = self._open_shard(path)
            header = shard.header
            found = (header.segment, header.key_bits, header.table, header.key_lo, header.key_hi)
            expected = (segment, self.key_bits, *listed.places[number])
            if found != expected:
                raise IndexFormatError(
                    f"table shard {path} holds (segment, key_bits, table, key_lo, key_hi)={found}, "
                    f"the manifest says {expected}; {REMEDY}"
                )
        self._open[path] = shard  # last in the dict: used last
        return shard


def open_files_allowed() -> int:
    """How many files this process may have open at once (``ulimit -n``)."""
    import resource  # not on every system that can read an index

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65_536 if soft == resource.RLIM_INFINITY else soft
