"""What a query costs in an index of made-up music, and where: in tables, votes, or comparison.

Questions are excerpts of real music that the index was not drawn from, in noise: what they meet are
chance hits. An index is first asked with its pages out of the system's cache, then warm.
"""

from __future__ import annotations

import contextlib
import csv
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scale_codes import PACKAGE, asking_packages

from hashing.audio import decode
from hashing.encoders import Hasher, QueryCodes
from hashing.errors import AudioError
from hashing.search import PROBES, Searcher
from hashing.shards import Shard
from hashing.table_format import DENSE, HEADER_BYTES
from pipelines import io
from pipelines.gating.bounds import Bounds
from pipelines.gating.recall import gate_self_recall
from pipelines.opened import open_index

Figures = dict[str, Any]

SECONDS = (1.0, 5.0, 10.0)
NOISE_DB = 10.0  # of the music above white noise
BATCH = 32  # queries that share the fixed costs
PAGE_BYTES = 4096
RECORD_BYTES = 16  # of a block of a ranked directory
SEED = 3


def measure(index: str, catalog: str, queries: int, rounds: int, times: int) -> Figures:
    """All figures of one index; for a fresh process.

    Args:
      times: as many probes as are usual: thirteen times those of one table meet about as many
        buckets, postings and candidates as thirteen tables do.
    """
    # As large indexes are asked, of whatever size this one is: nothing is read whole and kept.
    searcher, _, manifest = open_index(index, probes=times * PROBES, read_ahead=False)
    asked = {
        seconds: excerpts(catalog, searcher.hasher, seconds, 2 * queries) for seconds in SECONDS
    }
    paths = [io.join(index, path) for path in manifest.files.column("path")]
    figures: Figures = {
        "postings_a_table": searcher.n_snippets,
        "n_tables": searcher.tables.n_tables,
        "probes": searcher.probes,
        "key_bits": searcher.key_bits,
    }
    drop_from_cache(paths)
    cold = time_cold(searcher, asked[SECONDS[-1]][:queries])
    figures["cold"] = {f"{SECONDS[-1]:g}": cold}
    read_into_cache(paths)
    for seconds in SECONDS:
        figures[f"{seconds:g}"] = time_warm(searcher, asked[seconds][queries:], rounds)
    figures["shard_kinds"] = sorted({shard.header.kind for shard in searcher.tables.opened})
    gate = gate_self_recall(index, manifest, searcher.hasher, Bounds())
    figures["stored_found"] = {"share": gate.value, "message": gate.message}
    return figures


def excerpts(catalog: str, hasher: Hasher, seconds: float, n: int) -> list[QueryCodes]:
    """Noisy excerpts of music of the packages that ask."""
    folder = Path(catalog).parent
    with open(catalog, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    asking = set(asking_packages([row[PACKAGE] for row in rows]))
    chosen = [row for row in rows if row[PACKAGE] in asking]
    rng = np.random.default_rng([SEED, int(10 * seconds)])
    rate, found = hasher.features.sample_rate, list[QueryCodes]()
    length = int(seconds * rate)
    decoded: dict[str, np.ndarray] = {}
    while len(found) < n:
        uri = chosen[rng.integers(len(chosen))]["uri"]
        if uri not in decoded:
            decoded[uri] = decode(str(folder / uri), rate)
        samples = decoded[uri]
        if samples.size <= length:
            continue
        first = int(rng.integers(samples.size - length))
        clean = samples[first : first + length]
        power = float(np.mean(np.square(clean))) / 10 ** (NOISE_DB / 10)
        noise = rng.standard_normal(length) * np.sqrt(power)
        with contextlib.suppress(AudioError):  # a pause
            found.append(hasher.hash_query([(clean + noise).astype(np.float32)]))
    return found


def time_cold(searcher: Searcher, queries: Sequence[QueryCodes]) -> Figures:
    """Queries one after another, the first that the index is asked, with nothing in the cache."""
    before, read = resource.getrusage(resource.RUSAGE_SELF), _bytes_read()
    wall, cpu = timed(lambda: [searcher.search([query]) for query in queries])
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_ms": 1e3 * wall / len(queries),
        "cpu_ms": 1e3 * cpu / len(queries),
        "major_faults": (after.ru_majflt - before.ru_majflt) / len(queries),
        "read_bytes": (_bytes_read() - read) / len(queries),
    }


def _bytes_read() -> int:
    """From the disk, by this process."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def time_warm(searcher: Searcher, queries: Sequence[QueryCodes], rounds: int) -> Figures:
    """Where the time goes: milliseconds a query, medians over turns of all queries."""
    quantizer, bits, probes = searcher.hasher.quantizer, searcher.key_bits, searcher.probes
    steps = [_steps(searcher, query) for query in queries]
    keys = [quantizer.probe_keys(query.responses, bits, probes) for query in queries]
    rows = [one.reshape(-1, one.shape[2]) for one in keys]
    tables, segments = searcher.tables, searcher.tables.segments

    def make_keys() -> None:
        for query in queries:
            quantizer.probe_keys(query.responses, bits, probes)

    def look_up() -> None:
        for one in rows:
            tables.lookup_each(segments, one)

    def find_candidates() -> None:
        for query, step in zip(queries, steps, strict=True):
            searcher.candidates([query], [step])

    def search() -> None:
        for query in queries:
            searcher.search([query])

    def search_together() -> None:
        for first in range(0, len(queries), BATCH):
            searcher.search(queries[first : first + BATCH])

    works = {
        "keys": make_keys,
        "buckets": look_up,
        "candidates": find_candidates,
        "search": search,
        "search_batch": search_together,
    }
    for work in works.values():
        work()  # maps pages, loads what is loaded late
    times = {name: [timed(work) for _ in range(rounds)] for name, work in works.items()}
    per = 1e3 / len(queries)
    figures: Figures = {
        f"{name}_{clock}_ms": per * float(np.median([one[at] for one in found]))
        for name, found in times.items()
        for at, clock in enumerate(("wall", "cpu"))
    }
    hits = [sum(len(one.gid) for one in tables.lookup_each(segments, row)) for row in rows]
    pages = [pages_touched(searcher, row) for row in rows]
    places = [
        searcher.candidates([query], [step]).gid.size
        for query, step in zip(queries, steps, strict=True)
    ]
    return figures | {
        "snippets": float(np.mean([len(query.responses) for query in queries])),
        "keys": float(np.mean([row.size for row in rows])),
        "hits": float(np.mean(hits)),
        "hits_a_key": float(np.sum(hits) / np.sum([row.size for row in rows])),
        "pages": float(np.mean(pages)),
        "candidates": float(np.mean(places)),
    }


def _steps(searcher: Searcher, query: QueryCodes) -> np.ndarray:
    """As `Searcher.search` counts them."""
    features = searcher.hasher.features
    lead = features.query_margin // features.query_hop
    return query.start_frame.astype(np.int64) // features.query_hop + lead


def pages_touched(searcher: Searcher, keys: np.ndarray) -> int:
    """Different pages of table files that a look-up of keys [q, n_tables] reads."""
    found = 0
    for segment in searcher.tables.segments:
        for shard in searcher.tables.shards_of(segment):
            own = np.unique(keys[:, shard.header.table])
            own = own[(own >= shard.header.key_lo) & (own < shard.header.key_hi)]
            found += _pages_of(shard, own) if own.size else 0
    return found


def _pages_of(shard: Shard, keys: np.ndarray) -> int:
    header = shard.header
    at = keys.astype(np.int64) - header.key_lo
    first, size = (part.astype(np.int64) for part in shard.find(keys))
    if header.kind == DENSE:
        directory = [header.offsets_at + 4 * at]
    else:
        block = HEADER_BYTES + RECORD_BYTES * (at // 64)
        # Where the bucket starts is some way into the second array, as far as keys are even.
        rank = at * header.entries // (header.key_hi - header.key_lo)
        directory = [block, (header.offsets_at + 2 * rank)[size > 0]]
    begin = (header.postings_at + 4 * first)[size > 0] // PAGE_BYTES
    end = (header.postings_at + 4 * (first + size) - 1)[size > 0] // PAGE_BYTES
    every = [place // PAGE_BYTES for place in directory]
    spans = [np.arange(low, high + 1) for low, high in zip(begin, end, strict=True)]
    return int(np.unique(np.concatenate([*every, *spans])).size)


def drop_from_cache(paths: Sequence[str]) -> None:
    """Ask the system to forget the files' pages."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_into_cache(paths: Sequence[str]) -> None:
    """Read the files once."""
    for path in paths:
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu
