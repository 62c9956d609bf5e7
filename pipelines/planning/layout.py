"""How an index of so many snippets is cut: parts, segments, key ranges, and the length of keys."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from hashing.quantizers import Quantizer
from hashing.table_format import DENSE, RANKED, ShardHeader
from hashing.tables import plan_key_ranges, plan_segments, plan_shard
from pipelines.parts import count_parts, tracks_per_part
from pipelines.tables import KEPT_SNIPPETS, choose_key_bits_of


@dataclasses.dataclass(frozen=True)
class Ranges:
    """The key ranges of one table of a segment.

    Attributes:
        snippets, parts: of the segment.
        postings: of one table.
        n: ranges that its keys are cut into, each a shard of every table.
        table_bytes: of all shards of one table.
        distinct_keys, directory_bytes: expected of the fullest range, and of its directory.
    """

    snippets: int
    parts: int
    postings: int
    n: int
    table_bytes: int
    distinct_keys: int
    directory_bytes: int

    @property
    def kept(self) -> bool:
        """Whether a worker keeps the codes in memory while it builds all tables of them.

        The postings of a larger segment are spilled (`pipelines.spills`).
        """
        return self.snippets <= KEPT_SNIPPETS


@dataclasses.dataclass(frozen=True)
class Layout:
    """Parts, segments and shards of an index.

    Attributes:
        parts, tracks_per_part: pieces of the catalogue, each hashed by one worker.
        snippets, numbers: heard snippets, and the numbers that they and silent ones take up.
        key_bits, wanted_key_bits: length of a key, and what it would be if the model had keys of
            any length; shorter keys mean longer buckets.
        n_tables: tables of the model.
        segments: what the tables are cut into.
    """

    parts: int
    tracks_per_part: int
    snippets: int
    numbers: int
    key_bits: int
    wanted_key_bits: int
    n_tables: int
    segments: list[Ranges]

    @property
    def shards(self) -> int:
        """Table files."""
        return self.n_tables * sum(segment.n for segment in self.segments)

    @property
    def postings(self) -> int:
        """Of all tables together."""
        return self.n_tables * sum(segment.postings for segment in self.segments)

    @property
    def table_bytes(self) -> int:
        """Of all tables together."""
        return self.n_tables * sum(segment.table_bytes for segment in self.segments)

    @property
    def spilled(self) -> int:
        """Postings of all tables together that are spilled before they are in tables."""
        return self.n_tables * sum(one.postings for one in self.segments if not one.kept)

    @property
    def bucket(self) -> float:
        """Postings of a bucket on average, of all segments together: what a look-up reads."""
        return math.ldexp(self.postings / self.n_tables, -self.key_bits)

    def crowded(self, balance: float) -> float:
        """Postings of the bucket that a typical posting stands in, where keys are not balanced.

        Args:
            balance: entropy of the buckets over the bits of a key.
        """
        return self.postings / self.n_tables / 2 ** (self.key_bits * balance)


def plan_layout(
    tracks: int,
    snippets: int,
    numbers: int,
    quantizer: Quantizer,
    *,
    key_bits: int | None = None,
    balance: float = 1.0,
) -> Layout:
    """Cut an index as `hashbeam index` would, if all parts were alike.

    Args:
        tracks: of the catalogue.
        snippets: heard ones of all tracks.
        numbers: what they and the silent ones between them take up.
        quantizer: the model's.
        key_bits: given length of a key; None chooses it by the size.
        balance: entropy of the buckets over the bits of a key.

    >>> import numpy as np
    >>> from hashing.quantizers import SignQuantizer
    >>> quantizer = SignQuantizer(np.zeros(30), np.ones(30), np.arange(30)[None])
    >>> layout = plan_layout(10_000_000, 4_800_000_000, 4_800_000_000, quantizer)
    >>> layout.parts, layout.key_bits, layout.wanted_key_bits, round(layout.bucket, 2)
    (4096, 30, 31, 4.47)
    >>> [(segment.parts, segment.n) for segment in layout.segments]
    [(3665, 135), (431, 16)]
    """
    per_part, parts = tracks_per_part(tracks), count_parts(tracks)
    chosen = plan_segments(_shares(numbers, parts))
    heard = _shares(snippets, parts)
    sizes = [sum(heard[part] for part in segment) for segment in chosen]
    wanted = key_bits or _wanted_key_bits(snippets, quantizer)
    bits = min(wanted, quantizer.key_bits_max)
    segments = [
        _ranges(size, len(segment), quantizer, bits, balance)
        for size, segment in zip(sizes, chosen, strict=True)
    ]
    return Layout(parts, per_part, snippets, numbers, bits, wanted, quantizer.n_tables, segments)


def _shares(total: int, n: int) -> list[int]:
    bounds = [total * part // n for part in range(n + 1)]
    return [bounds[part + 1] - bounds[part] for part in range(n)]


@dataclasses.dataclass(frozen=True)
class _AnyLength:
    """What the choice of a key's length asks of a quantizer, with keys as long as one likes."""

    replication: float
    key_bits_max: int = 64


def _wanted_key_bits(snippets: int, quantizer: Quantizer) -> int:
    stand_in: Any = _AnyLength(quantizer.replication)
    return choose_key_bits_of(snippets, stand_in)


def _ranges(
    snippets: int, parts: int, quantizer: Quantizer, key_bits: int, balance: float
) -> Ranges:
    postings = math.ceil(snippets * quantizer.replication)
    ranges = plan_key_ranges(postings, key_bits)
    share = postings // len(ranges)
    table_bytes, most, directory = 0, 0, 0
    for key_lo, key_hi in ranges:
        # Keys of a hash without balance are fewer: as many as its entropy tells.
        keys = (key_hi - key_lo) * 2 ** (key_bits * (balance - 1))
        distinct = min(share, max(1, round(-keys * math.expm1(-share / keys)))) if share else 0
        place = ShardHeader(0, key_bits, 0, DENSE, key_lo, key_hi, share, 0)
        header = plan_shard(place, distinct)
        if header.kind == RANKED and share / max(1, header.blocks) > 2**16:
            header = plan_shard(place, distinct, ranked=False)
        table_bytes += header.file_bytes
        most, directory = max(most, distinct), max(directory, header.postings_at)
    return Ranges(snippets, parts, postings, len(ranges), table_bytes, most, directory)
