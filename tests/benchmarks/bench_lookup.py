"""Look-up speed against generated tables: 20 snippets x 20 tables a query, offsets included.

Queries have random keys, so that all hits are chance hits, as nearly all are in a large index. What
is timed is everything from keys to ranked matches: bucket look-up, votes, windows of diagonals,
ranking and scores. First on pages that the kernel caches but the process has not mapped, then with
other keys once all pages are mapped: a process that has been serving for some seconds.

    python tests/benchmarks/bench_lookup.py --postings 50000000
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_tables import make_index
from model_fixture import random_model

from hashing.encoders import Hasher
from hashing.search import Searcher
from hashing.shards import TableSet

SNIPPETS = 20  # of a query: 2.4 s beyond the first second, 0.125 s apart
KEY_BITS = 22
N_TABLES = 20
SNIPPETS_PER_TRACK = 480  # four minutes at a hop of 0.5 s


class EqualTracks:
    """Tracks of one length, so that no catalogue is needed."""

    def locate(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `hashing.search.Tracks`."""
        ordinals = gids // SNIPPETS_PER_TRACK
        return ordinals, ordinals * SNIPPETS_PER_TRACK


def main() -> int:
    """Build or reuse the tables, then time batches of queries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postings", type=int, default=50_000_000, help="of each table")
    parser.add_argument("--queries", type=int, default=3200)
    parser.add_argument("--work-dir", type=Path, help="keep the tables here for the next run")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.work_dir or Path(scratch)
        figures = measure(folder, Path(scratch), args.postings, args.queries)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32s}{value:>14,.2f}")
    return 0


def measure(folder: Path, scratch: Path, postings: int, n_queries: int) -> dict[str, float]:
    """Queries a second on one core, by the clock and by CPU time."""
    key_bits = min(KEY_BITS, max(12, int(np.ceil(np.log2(postings))) - 3))
    entries, _ = make_index(folder, postings, key_bits, N_TABLES, 1)
    hasher = Hasher(random_model(scratch / "model"))
    tables = TableSet(entries, N_TABLES, key_bits)
    searcher = Searcher(hasher, tables, EqualTracks(), key_bits, postings, probes=1)
    rng = np.random.default_rng(2)
    steps = np.arange(SNIPPETS) * 1

    def timed(n: int) -> tuple[float, float]:
        keys = [
            rng.integers(1 << key_bits, size=(SNIPPETS, 1, N_TABLES)).astype(np.uint32)
            for _ in range(n)
        ]
        started, cpu = time.perf_counter(), time.process_time()
        answers = searcher.search_keys(keys, [steps] * n, top=5)
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        assert len(answers) == n
        return n / wall_s, n / cpu_s

    timed(64)
    first_wall, first_cpu = timed(n_queries)
    for shard in tables.opened:
        int(shard.postings[::1024].sum()), int(shard.offsets[::1024].sum())  # one word a page
    wall, cpu = timed(n_queries)
    return {
        "postings_per_table": postings,
        "key_bits": key_bits,
        "tables": N_TABLES,
        "first_queries_per_s_wall": first_wall,
        "first_queries_per_s_cpu": first_cpu,
        "queries_per_s_wall": wall,
        "queries_per_s_cpu": cpu,
        "max_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    sys.exit(main())
