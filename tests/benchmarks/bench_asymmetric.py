"""Scanning codes by asymmetric distance, and visiting a part of them through the multi-index.

Codes and items are made up: clusters of clusters, so that cells are as uneven as in real data. In
turns, one thread: distances of a query to all codes, the same with the best 100 picked, faiss's
scan of product-quantised codes, and the multi-index at 5 % of the items with the same codes.

    python tests/benchmarks/bench_asymmetric.py

CPU time of one query, medians over --rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from hashing.asymmetric import distance_tables, distances, nearest
from hashing.codebooks import fit_pq
from hashing.multi_index import MultiIndex, fit_codebooks
from hashing.quantization import ProductQuantizer

DIMENSIONS, BEST = 64, 100


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=8, help="of a code")
    parser.add_argument("--centroids", type=int, default=256, help="of each half of the grid")
    parser.add_argument("--share", type=float, default=0.05, help="of the items that are visited")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    import faiss

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    items = made_up(args.codes, rng)
    fit = fit_pq(items[:50_000], args.bytes, args.seed)
    quantizer = ProductQuantizer(fit.codebooks)
    values = items @ fit.rotation
    packed = quantizer.encode(values)
    grid = MultiIndex.build(items, fit_codebooks(items[:50_000], args.centroids, args.seed))
    in_order = packed[grid.rows]
    other = faiss.IndexPQ(DIMENSIONS, args.bytes, 8)
    other.train(items[:50_000])
    other.add(items)
    wanted = int(args.share * args.codes)
    spent: dict[str, list[float]] = {}
    kept, looked = [], []
    for number in range(args.rounds + 1):
        query = items[rng.integers(len(items))] + 0.1 * rng.standard_normal(DIMENSIONS)
        query = query.astype(np.float32)
        found: dict[str, np.ndarray] = {}

        def timed(name: str, call: Callable[[], np.ndarray], told: dict = found) -> None:
            began = time.process_time()
            told[name] = call()
            spent.setdefault(name, []).append(time.process_time() - began)

        table = distance_tables((query @ fit.rotation)[None], fit.codebooks)[0]
        timed("distances", lambda t=table: distances(packed, t))
        timed("best of all", lambda t=table: nearest(packed, t, BEST)[0])
        timed("faiss, best of all", lambda q=query: other.search(q[None], BEST)[1])

        def part(query: np.ndarray = query, table: np.ndarray = table) -> np.ndarray:
            places = grid.candidates(query, wanted)
            looked.append(len(places))
            return grid.rows[places[nearest(in_order[places], table, BEST)[0]]]

        timed("best of a part", part)
        kept.append(np.isin(found["best of all"], found["best of a part"]).mean())
        if not number:  # the first one compiles loops
            spent.clear()
    told = {
        **{f"{name}_ms": round(1000 * statistics.median(s), 2) for name, s in spent.items()},
        "looked_at": round(float(np.mean(looked)) / args.codes, 4),
        "best_100_kept": round(float(np.mean(kept)), 4),
    }
    print(json.dumps(told))
    return 0


def made_up(n: int, rng: np.random.Generator) -> np.ndarray:
    """Items around 200 centres, these around 20."""
    wide = rng.standard_normal((20, DIMENSIONS)) * 2
    centres = wide[rng.integers(0, 20, 200)] + rng.standard_normal((200, DIMENSIONS))
    chosen = centres[rng.integers(0, 200, n)].astype(np.float32)
    return chosen + np.float32(0.5) * rng.standard_normal((n, DIMENSIONS), np.float32)


if __name__ == "__main__":
    sys.exit(main())
