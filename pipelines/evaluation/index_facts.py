"""What an index costs and how even its buckets are: bytes a snippet, entropy, load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hashing.balance import entropy, perfect_entropy
from hashing.shards import Shard
from pipelines import io
from pipelines.evaluation.systems import OpenedIndex
from pipelines.health.buckets import bucket_sizes
from pipelines.opened import shard_places

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

# Kinds of files that a look-up reads beside what it compares queries with; the others are for
# building tables anew, and for people.
READ_BY_LOOK_UP = ("matrices", "tables", "tracks")


def index_facts(index: OpenedIndex) -> dict[str, Any]:
    """What figures are compared with: model, size, bytes and buckets of an index.

    ``bytes_per_snippet`` is by kind of file; ``tables`` holds what soft assignment repeats, too
    (``replication`` postings a snippet and table). ``look_up_bytes_per_snippet`` is the sum of the
    kinds that a look-up reads.
    """
    manifest = index.manifest
    sizes: dict[str, int] = {}
    for kind, size in manifest.files.tuples("kind", "bytes"):
        sizes[kind] = sizes.get(kind, 0) + size
    snippets = max(1, index.snippets)
    hasher = index.searcher.hasher
    return {
        "model": {"name": hasher.model.name, "digest": hasher.digest},
        "tracks": len(index.held),
        "snippets": index.snippets,
        "key_bits": manifest.key_bits,
        "n_tables": manifest.n_tables,
        "code_bytes": hasher.quantizer.code_bytes,
        "compared_with": manifest.compared,
        "replication": manifest.replication,
        "bytes_per_snippet": {
            kind: round(size / snippets, 3) for kind, size in sorted(sizes.items())
        },
        "look_up_bytes_per_snippet": round(
            sum(sizes.get(kind, 0) for kind in (*READ_BY_LOOK_UP, manifest.compared)) / snippets, 3
        ),
        "buckets": bucket_facts(index),
    }


def bucket_facts(index: OpenedIndex) -> dict[str, Any]:
    """How postings are spread over the buckets of each table, against a perfect hash.

    ``tables`` has a row for each table of each segment: `hashing.balance.entropy` of its buckets in
    bits, what a hash that throws every posting by chance would have, the largest bucket, and
    ``met``, the size of the bucket that a posting drawn by chance stands in (the mean over
    postings, which is what a look-up meets). ``load`` adds all tables up: the share of postings in
    buckets of at most each of ``sizes``, and the same of a perfect hash.
    """
    manifest = index.manifest
    buckets = 2**manifest.key_bits
    rows: list[dict[str, Any]] = []
    counts = np.zeros(1, dtype=np.int64)  # buckets of each size, over all tables
    perfect: list[tuple[int, float]] = []
    for segment, table, loads in _loads(index):
        n = int(loads.sum())
        rows.append(
            {
                "segment": segment,
                "table": table,
                "postings": n,
                "entropy_bits": round(entropy(loads), 4),
                "perfect_entropy_bits": round(perfect_entropy(n, buckets), 4),
                "largest": int(loads.max(initial=0)),
                "met": round(float(np.square(loads, dtype=np.float64).sum()) / max(1, n), 3),
            }
        )
        here = np.bincount(loads)
        counts = np.pad(counts, (0, max(0, here.size - counts.size)))
        counts[: here.size] += here
        perfect.append((n, n / buckets))
    return {
        "tables": rows,
        "entropy_bits": _mean([row["entropy_bits"] for row in rows]),
        "perfect_entropy_bits": _mean([row["perfect_entropy_bits"] for row in rows]),
        "largest": max((row["largest"] for row in rows), default=0),
        "met": _mean([row["met"] for row in rows]),
        "load": _load(counts, perfect),
    }


def _loads(index: OpenedIndex) -> Iterator[tuple[int, int, Ints]]:
    """Segment, table, and sizes of the buckets of all its key ranges."""
    places: dict[tuple[int, int], list[str]] = {}
    for path, segment, table, *_ in shard_places(index.path, index.manifest):
        places.setdefault((segment, table), []).append(path)
    for (segment, table), paths in sorted(places.items()):
        sizes = []
        for path in paths:
            with io.local_copy(path) as local:
                sizes.append(bucket_sizes(Shard.open(local)))
        yield segment, table, np.concatenate(sizes)


def _load(counts: Ints, perfect: list[tuple[int, float]]) -> dict[str, list[float]]:
    """Share of postings in buckets of at most some sizes, of the tables and of perfect ones."""
    held = counts * np.arange(counts.size)
    total = max(1, int(held.sum()))
    reached = np.cumsum(held) / total
    most = max([counts.size - 1, *(int(mean + 10 * np.sqrt(mean)) + 4 for _, mean in perfect)])
    sizes = [1]
    while sizes[-1] < most:
        sizes.append(max(sizes[-1] + 1, round(sizes[-1] * 1.3)))
    share = [float(reached[min(size, reached.size - 1)]) for size in sizes]
    # The others in the bucket of a posting are Poisson: that is how large buckets it stands in.
    weights = np.array([n for n, _ in perfect], dtype=np.float64)
    chance: Values = np.array(
        [[stats.poisson.cdf(size - 1, mean) for size in sizes] for _, mean in perfect]
    ).reshape(-1, len(sizes))
    mean = weights @ chance / max(1.0, float(weights.sum()))
    return {
        "sizes": [float(size) for size in sizes],
        "share": [round(value, 5) for value in share],
        "perfect": [round(float(value), 5) for value in mean],
    }


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4) if values else 0.0
