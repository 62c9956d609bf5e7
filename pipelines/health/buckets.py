"""How evenly the buckets of an index are filled, against what a perfect hash would do.

Only directories of shards are read, never postings, and of a huge index only as many as
`READ_BYTES` hold: of every table some key ranges first, then more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from hashing.balance import entropy, perfect_entropy
from hashing.errors import HashbeamError
from hashing.shards import Shard
from hashing.table_format import HEADER_BYTES, ShardHeader
from hashing.tables import ShardStats, merge_stats
from pipelines import io
from pipelines.pages import Pages
from pipelines.records import damaged as found_damaged
from pipelines.stores import in_turn, is_remote
from pipelines.versions import Manifest

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

# Bytes of directories that are read: a second or two of an object store, and all of an index of
# some hundred thousand tracks.
READ_BYTES = 128 << 20
READ_SHARDS = 512  # of small ones, each some milliseconds on a disk

_SEED = 7  # of the choice among the key ranges of a table


@dataclasses.dataclass(frozen=True)
class TableBalance:
    """A table, its segments taken together: means weighted by postings.

    Attributes:
        table: its number.
        postings: in all segments.
        entropy_bits: of the fill of its buckets; estimated where not all key ranges were read.
        perfect_bits: the same of a perfect hash with as many postings.
        largest: postings of the fullest bucket that was read.
    """

    table: int
    postings: int
    entropy_bits: float
    perfect_bits: float
    largest: int


@dataclasses.dataclass(frozen=True)
class SizeClass:
    """Buckets of `low` to `high` postings, and the share of all postings that stand in them.

    `perfect` is what the share would be with a perfect hash.
    """

    low: int
    high: int
    share: float
    perfect: float


@dataclasses.dataclass(frozen=True)
class Buckets:
    """The buckets of an index.

    Attributes:
        key_bits: of every table.
        tables: those of which anything was read, by number.
        classes: by size of the bucket, doubling; all tables together.
        met: postings of the bucket that a posting drawn by chance stands in, which is what a
            look-up of one key meets.
        perfect_met: the same of a perfect hash.
        mean_load: postings a bucket has in one table, over all segments.
        shards, shards_read: of the tables.
        damaged: what could not be read, and why.
    """

    key_bits: int
    tables: list[TableBalance]
    classes: list[SizeClass]
    met: float
    perfect_met: float
    mean_load: float
    shards: int
    shards_read: int
    damaged: list[str]

    @property
    def largest(self) -> int:
        """Postings of the fullest bucket that was read."""
        return max((table.largest for table in self.tables), default=0)

    @property
    def entropy_bits(self) -> float:
        """Mean over the tables."""
        return _mean([table.entropy_bits for table in self.tables])

    @property
    def perfect_bits(self) -> float:
        """Mean over the tables, of a perfect hash."""
        return _mean([table.perfect_bits for table in self.tables])


@dataclasses.dataclass(frozen=True)
class _Range:
    """A shard as the manifest has it, and its table in its segment."""

    path: str
    size: int
    postings: int
    place: tuple[int, int]  # segment, table

    @property
    def directory_bytes(self) -> int:
        """What stands before the postings, which take four bytes each."""
        return max(0, self.size - 4 * self.postings)


def examine_buckets(
    index: str,
    manifest: Manifest,
    *,
    read_bytes: int = READ_BYTES,
    read_shards: int = READ_SHARDS,
) -> Buckets:
    """The buckets of a version, from the directories of its shards.

    Args:
        read_bytes: of directories at most, but at least one shard is read.
        read_shards: at most.

    A shard that is damaged is named in the result and left out.
    """
    columns = ("path", "bytes", "rows", "segment", "table")
    ranges = [
        _Range(path, size, rows, (segment, table))
        for path, size, rows, segment, table in manifest.files.tuples(*columns, kind="tables")
    ]
    chosen = _choose(ranges, read_bytes, read_shards)
    found, damaged = dict[str, ShardStats](), list[str]()
    classes, squares, postings = np.zeros(1, np.float64), 0.0, 0
    read_sizes = in_turn(lambda one: _sizes_of(index, one), chosen, is_remote(index))
    for one, sizes in zip(chosen, read_sizes, strict=True):
        if isinstance(sizes, str):
            damaged.append(sizes)
            continue
        found[one.path] = ShardStats(
            int(sizes.sum()), sizes.size, int(sizes.max(initial=0)), entropy(sizes)
        )
        here = _by_class(sizes)
        classes = np.pad(classes, (0, max(0, here.size - classes.size)))
        classes[: here.size] += here
        squares += float(np.square(sizes, dtype=np.float64).sum())
        postings += int(sizes.sum())
    buckets = 2**manifest.key_bits
    by_place = dict[tuple[int, int], list[_Range]]()
    for one in ranges:
        by_place.setdefault(one.place, []).append(one)
    read = {
        place: sum(one.postings for one in own)
        for place, own in sorted(by_place.items())
        if any(one.path in found for one in own)
    }
    weight = max(1, sum(read.values()))
    return Buckets(
        key_bits=manifest.key_bits,
        tables=_tables({place: by_place[place] for place in read}, found, buckets),
        classes=_classes(classes, [(total, total / buckets) for total in read.values()]),
        met=squares / max(1, postings),
        perfect_met=sum(n * (1 + max(0, n - 1) / buckets) for n in read.values()) / weight,
        mean_load=sum(one.postings for one in ranges) / buckets / max(1, manifest.n_tables),
        shards=len(ranges),
        shards_read=len(found),
        damaged=damaged,
    )


def bucket_sizes(shard: Shard) -> Ints:
    """Sizes of the buckets of a shard that hold a posting, in the order of their keys.

    >>> import io
    >>> from hashing.tables import build_shard, pack_postings
    >>> file = io.BytesIO()
    >>> packed = pack_postings([(None, np.array([3, 1, 3], np.uint32), 0)], 0, 4)
    >>> _ = build_shard(packed, file, table=0, segment=0, key_bits=2, key_lo=0, key_hi=4)
    >>> bucket_sizes(Shard(file.getvalue(), "example")).tolist()
    [1, 2]
    """
    starts = shard.offsets.astype(np.int64)
    if shard.blocks is not None:
        # Offsets are counted from the first posting of the key's block.
        keys = np.bitwise_count(shard.blocks[:, :2]).sum(axis=1, dtype=np.int64)
        starts = np.append(
            np.repeat(shard.blocks[:, 3].astype(np.int64), keys) + starts, shard.header.postings
        )
    sizes = np.diff(starts)
    return np.asarray(sizes[sizes > 0], dtype=np.int64)


def _sizes_of(index: str, one: _Range) -> Ints | str:
    """Sizes of the buckets of a shard, or what is wrong with it."""
    try:
        shard = _open_directory(io.join(index, one.path), one.size)
        sizes = bucket_sizes(shard)
        if int(sizes.sum()) != one.postings:
            raise found_damaged(f"{shard.name}: its directory does not add up")
    except (HashbeamError, ValueError) as error:
        return str(error)
    return sizes


def _open_directory(path: str, size: int) -> Shard:
    """A shard of `size` bytes on any store, of which header and directory alone are read.

    Its postings are memory that nothing has touched: zeros.

    Raises: IndexFormatError where it is damaged or has another size; HashbeamError where it cannot
        be read.
    """
    pages = Pages(path, size)
    head = io.read_range(path, 0, min(HEADER_BYTES, size))
    header = ShardHeader.from_bytes(head, path, size)
    pages.fill(0, header.postings_at)
    return Shard(pages.data, path)


def _choose(ranges: Sequence[_Range], read_bytes: int, read_shards: int) -> list[_Range]:
    """What is read: a first key range of every table, then a second, until it is enough."""
    order = np.random.default_rng(_SEED).permutation(len(ranges)).tolist()
    turns = dict[tuple[int, int], int]()
    ranked = []
    for at in order:
        place = ranges[at].place
        ranked.append((turns.get(place, 0), place, at))
        turns[place] = turns.get(place, 0) + 1
    chosen, held = list[_Range](), 0
    for _, _, at in sorted(ranked):
        held += ranges[at].directory_bytes
        if chosen and (held > read_bytes or len(chosen) == read_shards):
            break
        chosen.append(ranges[at])
    return chosen


def _tables(
    by_place: Mapping[tuple[int, int], Sequence[_Range]],
    found: Mapping[str, ShardStats],
    buckets: int,
) -> list[TableBalance]:
    rows: dict[int, list[TableBalance]] = {}
    for (_, table), own in by_place.items():
        known = [found[one.path] for one in own if one.path in found]
        weight = max(1, sum(one.postings for one in known))
        within = sum(one.postings * one.entropy_bits for one in known) / weight
        # A key range that was not read is taken to be like those that were; how many postings it
        # has says the manifest.
        merged = merge_stats(
            found.get(one.path) or ShardStats(one.postings, 0, 0, within) for one in own
        )
        total = sum(one.postings for one in own)
        row = TableBalance(
            table, total, merged.entropy_bits, perfect_entropy(total, buckets), merged.max_bucket
        )
        rows.setdefault(table, []).append(row)
    return [_join(parts) for _, parts in sorted(rows.items())]


def _join(parts: Sequence[TableBalance]) -> TableBalance:
    """The same table of all segments."""
    postings = sum(part.postings for part in parts)
    return TableBalance(
        table=parts[0].table,
        postings=postings,
        entropy_bits=sum(p.postings * p.entropy_bits for p in parts) / max(1, postings),
        perfect_bits=sum(p.postings * p.perfect_bits for p in parts) / max(1, postings),
        largest=max(part.largest for part in parts),
    )


def _by_class(sizes: Ints) -> Values:
    """Postings in buckets of 1, of 2, of 3 to 4, of 5 to 8 and so on.

    >>> _by_class(np.array([1, 1, 2, 3, 4, 5])).tolist()
    [2.0, 2.0, 7.0, 5.0]
    """
    if not sizes.size:
        return np.zeros(1, np.float64)
    classes = np.frexp(sizes - 1.0)[1]
    return np.asarray(np.bincount(classes, weights=sizes.astype(np.float64)), np.float64)


def _classes(held: Values, perfect: Sequence[tuple[int, float]]) -> list[SizeClass]:
    """Shares of the postings by class, up to the last class that either hash needs."""
    weights = np.array([n for n, _ in perfect], np.float64)
    means = np.array([mean for _, mean in perfect], np.float64)
    total, weight = max(1.0, float(held.sum())), max(1.0, float(weights.sum()))
    rows, low = list[SizeClass](), 1
    while True:
        high = 1 << len(rows)
        # The others in the bucket of a posting are Poisson.
        chance = stats.poisson.cdf(high - 1, means) - stats.poisson.cdf(low - 2, means)
        share = float(held[len(rows)]) / total if len(rows) < held.size else 0.0
        rows.append(SizeClass(low, high, share, float(weights @ chance) / weight))
        left = float(weights @ stats.poisson.sf(high - 1, means)) / weight
        if len(rows) >= held.size and left < 1e-3:
            return rows
        low = high + 1


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
