"""Gates of how evenly the tables of new segments are filled.

Measured with both shipped models on 427 tracks of game music, 600 sets of 1 to 200 tracks each
(at random, or neighbours in the catalogue) and keys of 12 to 30 bits; the worst table of each set.
Entropy stands as a share of a perfect hash's with as many postings and keys, the fullest bucket as
a share of the postings. Beside them what is left when every second bit of the keys is stuck, at the
length of key that an index of that size has; one code for everything has 0 and 1::

    postings            entropy    fullest bucket    half stuck: entropy    fullest bucket
    below 600           0.02 to 1   up to 0.99            0.57 to 0.82        up to 0.64
    600 to 1,024       from 0.780   up to 0.105           0.55 to 0.64        up to 0.29
    1,024 to 2,048     from 0.815   up to 0.093           0.53 to 0.60        up to 0.23
    2,048 to 8,192     from 0.861   up to 0.038           0.50 to 0.57        up to 0.15
    more               from 0.918   up to 0.016           0.50 to 0.56        up to 0.06

Copies cost entropy, too: of a catalogue that has everything 16 times, log2(16) of some 16 bits. So
the bounds stand half-way between music and half of the bits; where most new tracks are copies of
others, byte for byte, nothing is measured. What is no music at all may be far less even, so small
tables are not held to them: an hour of audio is the least. A small segment of a large index has
keys that are longer than it needs; then stuck bits do less harm, and are seen only in a larger one:
half of 24 bits from 150,000 postings on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import numpy as np

from hashing.errors import HashbeamError
from hashing.tables import ShardStats, merge_stats
from pipelines import io, parquet
from pipelines.gating.bounds import Bounds, Gate
from pipelines.runs import Receipt
from pipelines.stores import side_by_side
from pipelines.versions import Manifest

# Files of tracks that are read to see whether they are copies, and the share of different ones
# below which balance says nothing of the hasher: of four copies each 2 of some 16 bits are lost.
COPIES_FILES = 64
MIN_DIFFERENT = 0.25

# Segment and table.
Table = tuple[int, int]


def table_stats(shards: Iterable[Receipt]) -> dict[Table, ShardStats]:
    """How the postings of each table are spread, from the receipts of its shards."""
    ranges: dict[Table, list[ShardStats]] = {}
    for shard in shards:
        counters, place = shard.counters, shard.files[0]
        assert place.segment is not None
        assert place.table is not None
        stats = ShardStats(
            postings=int(counters["postings"]),
            distinct_keys=int(counters["distinct_keys"]),
            max_bucket=int(counters["max_bucket"]),
            entropy_bits=counters["entropy_bits"],
        )
        ranges.setdefault((place.segment, place.table), []).append(stats)
    return {table: merge_stats(parts) for table, parts in sorted(ranges.items())}


def mostly_copies(index: str, manifest: Manifest) -> bool:
    """Whether most tracks of the version's own files are copies of others, byte for byte.

    By a seeded sample of the files; a track whose content is not known counts as different. Files
    that cannot be read are told of by other gates.
    """
    paths = list(filter(manifest.is_own, manifest.files.select(kind="tracks").column("path")))
    chosen = np.random.default_rng(0).permutation(len(paths))[:COPIES_FILES].tolist()
    read = functools.partial(parquet.read_table, columns=["content"], small=True)
    places = [io.join(index, paths[number]) for number in chosen]
    try:
        tables = side_by_side(read, places)
    except HashbeamError:
        return False
    contents = [value for table in tables for value in table["content"].to_pylist()]
    known = [value for value in contents if value is not None]
    different = len(set(known)) + len(contents) - len(known)
    return different < MIN_DIFFERENT * len(contents)


def gate_entropy(tables: Mapping[Table, ShardStats], key_bits: int, bounds: Bounds) -> Gate:
    """The buckets of each table have enough of the entropy of a perfect hash.

    >>> stuck = {(0, 0): ShardStats(4096, 64, 64, 6.0)}
    >>> gate_entropy(stuck, 12, Bounds(min_postings=1024)).message
    'table 0 of segment 0 has 6.00 bits of entropy, a perfect hash 11.17'
    """
    large = _large(tables, bounds)
    if not large:
        return _unmeasured("bucket-entropy", bounds.min_entropy, bounds)
    from hashing.balance import perfect_entropy  # scipy: 1 s, which a run without tables can spare

    perfect = {
        postings: perfect_entropy(postings, 2**key_bits)
        for postings in {stats.postings for stats in large.values()}
    }
    shares = {
        place: stats.entropy_bits / perfect[stats.postings] if perfect[stats.postings] else 1.0
        for place, stats in large.items()
    }
    worst = min(shares, key=shares.__getitem__)
    segment, table = worst
    stats = large[worst]
    return Gate(
        "bucket-entropy",
        shares[worst],
        bounds.min_entropy,
        shares[worst] >= bounds.min_entropy,
        f"table {table} of segment {segment} has {stats.entropy_bits:.2f} bits of entropy, a "
        f"perfect hash {perfect[stats.postings]:.2f}",
    )


def gate_largest_bucket(tables: Mapping[Table, ShardStats], bounds: Bounds) -> Gate:
    """No bucket has a large part of its table's postings.

    >>> one = {(0, 0): ShardStats(4096, 2, 4000, 0.16)}
    >>> gate_largest_bucket(one, Bounds(min_postings=1024)).message
    'table 0 of segment 0 has 4000 of its 4096 postings in one bucket'
    """
    large = _large(tables, bounds)
    if not large:
        return _unmeasured("largest-bucket", bounds.max_bucket, bounds)
    shares = {place: stats.max_bucket / stats.postings for place, stats in large.items()}
    worst = max(shares, key=shares.__getitem__)
    segment, table = worst
    return Gate(
        "largest-bucket",
        shares[worst],
        bounds.max_bucket,
        shares[worst] <= bounds.max_bucket,
        f"table {table} of segment {segment} has {large[worst].max_bucket} of its "
        f"{large[worst].postings} postings in one bucket",
    )


def _large(tables: Mapping[Table, ShardStats], bounds: Bounds) -> dict[Table, ShardStats]:
    return {
        place: stats for place, stats in tables.items() if stats.postings >= bounds.min_postings
    }


def _unmeasured(name: str, bound: float, bounds: Bounds) -> Gate:
    found = f"no new table of {bounds.min_postings} postings or more of different tracks"
    return Gate(name, None, bound, True, found)
