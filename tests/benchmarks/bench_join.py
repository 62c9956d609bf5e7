"""What joining hash tables with themselves costs, by CPU time, and what that makes at any size.

Builds a table of random keys, four postings a bucket as in an index of any size, joins it, counts
the votes, and multiplies. Random keys have no music in them: pairs of a posting and candidates of a
track are those of chance, to be compared with those of `bench_duplicates.py`.

    python tests/benchmarks/bench_join.py --postings 32000000
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import time

import numpy as np

from hashing.joining import PAIR, JoinCounts, JoinRules, Numbering, count_votes, join_shards
from hashing.shards import Shard
from hashing.tables import build_shard, pack_postings
from pipelines.duplication.job import (
    EVERY,
    MAX_BUCKET,
    MIN_VOTES,
    MOST_SHIFTS,
    TABLES,
    TRACKS_PER_PART,
)

SNIPPETS_PER_TRACK = 480
BUCKET_BITS = 2
PART_PAIRS = 8_000_000  # that are counted at once, as a part of the job has them


def main() -> int:
    """Build, join, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postings", type=int, default=8_000_000, help="of the table")
    parser.add_argument("--tracks", type=int, default=10_000_000, help="to multiply to")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure(args.postings, args.tracks)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:36s}{value:>16,.3f}")
    return 0


def measure(postings: int, tracks: int) -> dict[str, float]:
    """All figures."""
    key_bits = max(12, int(np.ceil(np.log2(postings))) - BUCKET_BITS)
    rng = np.random.default_rng(1)
    keys, file = rng.integers(0, 2**key_bits, postings).astype(np.uint32), io.BytesIO()
    packed = pack_postings([(None, keys, 0)], 0, 2**key_bits, postings)
    place = {"table": 0, "segment": 0, "key_bits": key_bits, "key_lo": 0, "key_hi": 2**key_bits}
    build_shard(packed, file, **place)
    shard = Shard(file.getvalue(), "shard")
    firsts = np.append(np.arange(0, postings, SNIPPETS_PER_TRACK), postings).astype(np.uint32)
    numbering = Numbering({0: firsts}, {0: 0}, np.zeros(firsts.size - 1, bool))
    counts, started = JoinCounts(), time.process_time()
    rules = JoinRules(EVERY, MAX_BUCKET)
    found = list(join_shards([(0, shard)], 0, 2**key_bits, numbering, rules, counts))
    join_s = time.process_time() - started
    # As many owners as a part has, and pairs of all its tables: the same to sort.
    pairs = np.concatenate(found)[:PART_PAIRS]
    pairs["owner"] %= TRACKS_PER_PART
    started = time.process_time()
    count_votes(pairs, MIN_VOTES, MOST_SHIFTS)
    count_s = time.process_time() - started
    all_postings = tracks * SNIPPETS_PER_TRACK * TABLES
    per_posting = counts.pairs / counts.postings
    all_pairs = all_postings * per_posting
    return {
        "key_bits": key_bits,
        "join_ns_per_posting": 1e9 * join_s / postings,
        "pairs_per_posting": per_posting,
        "count_ns_per_pair": 1e9 * count_s / max(1, pairs.size),
        "long_buckets": counts.long_buckets,
        "max_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "tracks": tracks,
        "postings_joined": all_postings,
        "tables_read_gb": 4e-9 * all_postings,
        "pairs_written_gb": 1e-9 * PAIR.itemsize * all_pairs,
        "join_cpu_hours": join_s / postings * all_postings / 3600,
        "count_cpu_hours": count_s / max(1, pairs.size) * all_pairs / 3600,
    }


if __name__ == "__main__":
    sys.exit(main())
