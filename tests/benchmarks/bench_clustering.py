"""What the clustering of a catalogue's names costs: processor time, memory.

Many names of some tracks each, one name of very many, and proposals of spellings, with made-up
embeddings and names. Every case runs in a process of its own, so that its memory is its own.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_clustering.py --out build/clustering

Made-up names have 1 to 4 artists around whom tracks scatter. "noise" is the hardest for the
search: tracks without any structure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hashing.artists.aliases import propose_aliases
from hashing.clusters.scores import score_clusters
from hashing.clusters.ward import ward

# What must be reached: seconds of processor time, GiB of memory.
GOALS = {"names": (10.0, None), "one name": (60.0, 4.0)}


def main() -> int:
    """Measure, print, and write everything into --out; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--names", type=int, default=10_000, help="names of --size tracks")
    parser.add_argument("--size", type=int, default=60, help="tracks of each of --names")
    parser.add_argument("--tracks", type=int, default=20_000, help="tracks of the one name")
    parser.add_argument("--spellings", type=int, default=100_000, help="names to find aliases of")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/clustering"))
    args = parser.parse_args()
    cases: list[tuple[str, Callable[..., dict[str, Any]], tuple[int, ...]]] = []
    for d in args.dimensions:
        cases += [
            (f"names, d = {d}", many_names, (args.names, args.size, d, args.seed)),
            (f"names, linked, d = {d}", linked_names, (args.names, args.size, d, args.seed)),
            (f"one name, artists, d = {d}", one_name, (args.tracks, 25, d, args.seed)),
            (f"one name, noise, d = {d}", one_name, (args.tracks, 1, d, args.seed)),
            (f"one name, equal, d = {d}", one_name, (args.tracks, 0, d, args.seed)),
        ]
    cases.append(("spellings", spellings, (args.spellings, args.seed)))
    figures, missed = {}, []
    for name, measure, given in cases:
        found = figures[name] = apart(measure, *given)
        print(f"{name:28s} {found}", flush=True)
        cpu, memory = GOALS.get(name.split(",")[0], (None, None))
        if (cpu and found["cpu_s"] >= cpu) or (memory and found["peak_gib"] >= memory):
            missed.append(name)
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"figures": figures, "missed": missed, "setting": vars(args)}, default=str)
    (args.out / "clustering.json").write_text(text + "\n", encoding="utf-8")
    print("missed: " + ", ".join(missed) if missed else "every goal is met")
    return 1 if missed else 0


def apart(measure: Callable[..., dict[str, Any]], *given: int) -> dict[str, Any]:
    """Runs a case in a fresh process; memory is its peak, with Python and numpy."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (measure, *given))


def measured(measure: Callable[..., dict[str, Any]], *given: int) -> dict[str, Any]:
    """The figures of a case and the process's peak memory."""
    found = measure(*given)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**found, "peak_gib": round(peak, 2)}


def made_up(rng: np.random.Generator, n: int, artists: int, d: int) -> tuple[Any, Any]:
    """Unit vectors [n, d] float32 of tracks of some artists, and the artists [n]; 0: all equal."""
    truth = rng.integers(max(artists, 1), size=n)
    points = np.zeros((n, d))
    if artists != 1:
        points += rng.standard_normal((max(artists, 1), d))[truth]
    if artists:
        points += 0.8 * rng.standard_normal((n, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), truth


def many_names(names: int, size: int, d: int, seed: int) -> dict[str, Any]:
    """Names one after another, without links."""
    return _names(names, size, d, seed, links=0)


def linked_names(names: int, size: int, d: int, seed: int) -> dict[str, Any]:
    """The same with albums of ten kept together, and a cannot-link."""
    return _names(names, size, d, seed, links=10)


def _names(names: int, size: int, d: int, seed: int, links: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    kinds = [made_up(rng, size, int(rng.integers(1, 5)), d) for _ in range(min(names, 200))]
    must = [(row, row + 1) for row in range(size - 1) if links and row % links != links - 1]
    cannot = [(0, size - 1)] if links else []
    started = time.process_time()
    found = [ward(kinds[i % len(kinds)][0], 2.0, must, cannot) for i in range(names)]
    cpu = time.process_time() - started
    doubt = float(np.mean([one.doubt() for one in found]))
    return {"cpu_s": round(cpu, 2), "mean_doubt": round(doubt, 3)}


def one_name(tracks: int, artists: int, d: int, seed: int) -> dict[str, Any]:
    """One name with very many tracks."""
    points, truth = made_up(np.random.default_rng(seed), tracks, artists, d)
    started = time.process_time()
    found = ward(points, 8.0)
    cpu = time.process_time() - started
    ari = score_clusters(truth, found.labels).ari
    return {"cpu_s": round(cpu, 2), "clusters": found.n_clusters, "ari": round(ari, 3)}


def spellings(names: int, seed: int) -> dict[str, Any]:
    """Proposals among made-up names, of which one in fifty stands there misspelt as well."""
    rng = np.random.default_rng(seed)
    parts = ["".join(rng.choice(list("bcdfgklmnprstvz"), 3)) for _ in range(4000)]
    words = [
        part[0] + rng.choice(list("aeiou")) + part[1] + rng.choice(list("aeiou")) + part[2]
        for part in parts
    ]
    made: set[str] = set()
    while len(made) < names:
        picked = rng.zipf(1.3, size=int(rng.integers(1, 4))) % len(words)
        number = f" {rng.integers(100)}" if rng.random() < 0.05 else ""
        made.add(" ".join(words[int(i)] for i in picked) + number)
    spelt = sorted(made)
    rng.shuffle(spelt)
    for row in range(0, len(spelt) - 1, 50):
        name = spelt[row]
        at = int(rng.integers(1, len(name)))
        spelt[row + 1] = name[:at] + "x" + name[at:]
    started = time.process_time()
    found = propose_aliases(spelt)
    cpu = time.process_time() - started
    pairs = {(alias.first, alias.second) for alias in found}
    long = [row for row in range(0, len(spelt) - 1, 50) if len(spelt[row]) > 8]
    hit = sum((spelt[row], spelt[row + 1]) in pairs for row in long)
    share = round(hit / len(long), 3)
    return {"cpu_s": round(cpu, 2), "names": len(spelt), "proposals": len(found), "found": share}


if __name__ == "__main__":
    sys.exit(main())
