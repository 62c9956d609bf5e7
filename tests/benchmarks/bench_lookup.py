"""Look-up speed against generated tables and codes, by the clock and by CPU time on one core.

Keys and codes of the index are random, so that all hits are chance hits, as nearly all are in a
large index. Two things are timed:

* tables: from random keys of 20 snippets x 20 tables a query to candidates with their offsets:
  bucket look-up, votes, windows of diagonals. First on pages that the kernel caches but the process
  has not mapped, then with other keys once all pages are mapped: a process that has been serving
  for some seconds.
* search: all that `hashbeam lookup` does after a recording has been decoded and hashed, with the
  quantizer of a model: keys and their probes, candidates, the comparison of whole codes along
  diagonals, places, scores. Queries are random responses of so many seconds.

    python tests/benchmarks/bench_lookup.py --postings 50000000
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_tables import make_index

from hashing import voting
from hashing.encoders import Hasher, QueryCodes
from hashing.gone import NOTHING, Gone
from hashing.matrix import CodeMatrices, write_matrix
from hashing.models import DEFAULT_MODEL
from hashing.ranking import locate_in
from hashing.search import CANDIDATES, COMPARISONS, PROBES, Searcher
from hashing.segments import JoinedTables
from hashing.shards import TableSet

SNIPPETS = 20  # of a query to the tables: 2.4 s beyond the first second, 0.125 s apart
KEY_BITS = 22
N_TABLES = 20
SNIPPETS_PER_TRACK = 480  # four minutes at a hop of 0.5 s
SNIPPETS_PER_PART = 1_000_000  # of a code matrix: about what a part of ten million tracks has
SECONDS = (1.0, 5.0, 10.0)  # of the queries to the whole search


class EqualTracks:
    """Tracks of one length, so that no catalogue is needed."""

    def locate(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `hashing.ranking.Tracks`."""
        del segment
        ordinals = gids // SNIPPETS_PER_TRACK
        firsts = ordinals * SNIPPETS_PER_TRACK
        return ordinals, firsts, firsts + SNIPPETS_PER_TRACK

    def gone(self, segment: int) -> Gone:
        """See `hashing.search.LiveTracks`."""
        del segment
        return NOTHING


def main() -> int:
    """Build the index, then time batches of queries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postings", type=int, default=50_000_000, help="of each table")
    parser.add_argument("--queries", type=int, default=3200)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="whose quantizer searches")
    parser.add_argument("--work-dir", type=Path, help="write tables and codes here")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work_dir) as scratch:
        figures = measure(Path(scratch), args.postings, args.queries, Hasher.load(args.model))
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:36s}{value:>14,.2f}")
    return 0


def measure(folder: Path, postings: int, n_queries: int, hasher: Hasher) -> dict[str, float]:
    """All figures."""
    key_bits = min(KEY_BITS, max(12, int(np.ceil(np.log2(postings))) - 3))
    key_bits = min(key_bits, hasher.quantizer.key_bits_max)
    n_tables = max(N_TABLES, hasher.quantizer.n_tables)
    entries, _ = make_index(folder / "tables", postings, key_bits, n_tables, 1)
    figures: dict[str, float] = {"postings_per_table": postings, "key_bits": key_bits}
    tables = TableSet([one for one in entries if one[2] < N_TABLES], N_TABLES, key_bits)
    figures |= time_tables(tables, postings, n_queries)
    tables.close()
    searched = hasher.quantizer.n_tables
    tables = TableSet([one for one in entries if one[2] < searched], searched, key_bits)
    codes = make_codes(folder / "matrices", postings, hasher.quantizer.code_bytes)
    searcher = Searcher(hasher, tables, codes, EqualTracks(), key_bits, postings)
    figures |= {"search_tables": searched, "search_probes": PROBES}
    figures |= {"search_code_bytes": hasher.quantizer.code_bytes}
    for seconds in SECONDS:
        figures |= time_search(searcher, seconds, max(64, n_queries // 10))
    figures["max_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def make_codes(folder: Path, n: int, code_bytes: int) -> CodeMatrices:
    """Random codes of `n` snippets, in the matrices of an index of one segment."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    starts = np.append(np.arange(0, n, SNIPPETS_PER_PART), n)
    places = []
    for part, size in enumerate(np.diff(starts).tolist()):
        rows = np.frombuffer(rng.bytes(size * code_bytes), np.uint8).reshape(size, code_bytes)
        name, shard = (str(folder / f"part-{part:05d}.{end}") for end in ("hbm", "parquet"))
        rows.tofile(shard)  # look-up reads nothing else of a shard
        with open(name, "wb") as file:
            write_matrix(file, code_bytes, [(size, 0)], np.arange(size), size)
        places.append((name, shard, 0, part))
    return CodeMatrices(places, {0: starts}, code_bytes)


def time_tables(tables: TableSet, postings: int, n_queries: int) -> dict[str, float]:
    """Queries a second from random keys to candidates."""
    rng = np.random.default_rng(2)
    steps = np.arange(SNIPPETS)
    hop = 4  # steps of a query to one hop of the index
    limit = int(np.clip(COMPARISONS // (SNIPPETS // hop), *CANDIDATES))
    joined, locate = JoinedTables(tables), functools.partial(locate_in, EqualTracks())

    def ask(n: int) -> Callable[[], None]:
        shape = (n, SNIPPETS, 1, N_TABLES)
        keys = list(rng.integers(1 << tables.key_bits, size=shape).astype(np.uint32))

        def run() -> None:
            for first in range(0, n, voting.MAX_QUERIES):
                batch = keys[first : first + voting.MAX_QUERIES]
                limits = np.full(len(batch), limit)
                voting.look_up(
                    joined, [0], batch, [steps] * len(batch), limits, hop, postings, locate
                )

        return run

    timed(ask(64))
    first_wall_s, first_cpu_s = timed(ask(n_queries))
    for shard in tables.opened:
        int(shard.postings[::1024].sum()), int(shard.offsets[::1024].sum())  # one word a page
    wall_s, cpu_s = timed(ask(n_queries))
    return {
        "tables": N_TABLES,
        "tables_first_queries_per_s_wall": n_queries / first_wall_s,
        "tables_first_queries_per_s_cpu": n_queries / first_cpu_s,
        "tables_queries_per_s_wall": n_queries / wall_s,
        "tables_queries_per_s_cpu": n_queries / cpu_s,
    }


def time_search(searcher: Searcher, seconds: float, n_queries: int) -> dict[str, float]:
    """Queries a second through the whole search, in batches, and one query alone."""
    rng = np.random.default_rng(int(10 * seconds))
    timed(lambda: searcher.search(random_queries(searcher.hasher, seconds, 64, rng)))
    queries = random_queries(searcher.hasher, seconds, n_queries, rng)
    wall_s, cpu_s = timed(lambda: searcher.search(queries))
    alone = random_queries(searcher.hasher, seconds, 32, rng)
    alone_s, _ = timed(lambda: [searcher.search([query]) for query in alone])
    return {
        f"search_{seconds:g}_s_snippets": len(queries[0].start_frame),
        f"search_{seconds:g}_s_queries_per_s_wall": n_queries / wall_s,
        f"search_{seconds:g}_s_queries_per_s_cpu": n_queries / cpu_s,
        f"search_{seconds:g}_s_one_query_ms": 1000 * alone_s / len(alone),
    }


def random_queries(
    hasher: Hasher, seconds: float, n: int, rng: np.random.Generator
) -> list[QueryCodes]:
    """Queries whose responses are random directions."""
    config = hasher.features
    frames = int((seconds * config.sample_rate - config.n_fft) / config.hop_length) + 1
    margin, width = config.query_margin, config.snippet_frames
    starts = np.arange(-margin, frames - width + margin + 1, config.query_hop, dtype=np.int32)
    silence = np.zeros((1, config.n_bands, width), np.float32)
    answer = hasher.respond(silence)
    shape = (starts.size, answer.responses.shape[1])
    queries = []
    for _ in range(n):
        responses = rng.standard_normal(shape).astype(np.float32)
        responses /= np.linalg.norm(responses, axis=1, keepdims=True)
        queries.append(QueryCodes(responses, starts, seconds))
    return queries


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    sys.exit(main())
