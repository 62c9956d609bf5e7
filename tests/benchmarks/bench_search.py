"""CPU time of one look-up against an index of real music, a query at a time.

The music is indexed with copies of itself that play faster, until there are hours enough; then
excerpts of it, in white noise of 5 dB, are hashed and looked up one after another in one open
index, as a program would that asks now and then.

    python tests/benchmarks/bench_search.py --catalog music/catalog.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from hashing.audio import decode, encode
from hashing.conditions import Condition, Surroundings
from pipelines.opened import open_index

RATE = 8000
SPEEDS = (1.0, 1.07, 0.93, 1.15)  # of the copies: none of them is taken for the original
QUIET_POWER = 1e-6  # -60 dB, below which nobody would ask


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalog", type=Path, required=True, help="CSV with track_id and uri")
    parser.add_argument("--hours", type=float, default=15.0, help="of audio in the index")
    parser.add_argument("--queries", type=int, default=200, help="of each length")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 5.0], help="lengths")
    parser.add_argument("--model", default="contrastive")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        music = make_music(args.catalog, args.hours, Path(scratch))
        figures = {"hours": sum(len(samples) for samples in music) / RATE / 3600}
        index = Path(scratch, "index")
        command = ["index", "--catalog", f"{scratch}/catalog.csv", "--out", str(index)]
        subprocess.run(
            [sys.executable, "-m", "pipelines", *command, "--model", args.model, "--quiet"],
            check=True,
        )
        for seconds in args.seconds:
            found = ask(str(index), music, seconds, args.queries, args.seed)
            figures |= {f"{name}_{seconds:g}_s": value for name, value in found.items()}
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32s}{value:>10,.3f}")
    return 0


def make_music(catalog: Path, hours: float, folder: Path) -> list[np.ndarray]:
    """Tracks of the catalogue, and copies at other speeds, as files; their samples at `RATE`."""
    rows = list(csv.DictReader(catalog.open(encoding="utf-8")))
    music, lines, left_s = list[np.ndarray](), ["track_id,uri"], hours * 3600
    for speed in SPEEDS:
        for row in rows:
            if left_s <= 0:
                break
            samples = decode(str(catalog.parent / row["uri"]), RATE)
            if speed != 1.0:
                samples = soxr.resample(samples, RATE * speed, RATE)
            name = f"{len(music):05d}.flac"
            encode(samples, RATE, str(folder / name), codec="flac")
            music.append(samples)
            # In the order of their ids, tracks have the numbers that a search answers with.
            lines.append(f"t{len(music) - 1:05d},{name}")
            left_s -= len(samples) / RATE
    (folder / "catalog.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return music


def ask(
    index: str, music: list[np.ndarray], seconds: float, queries: int, seed: int
) -> dict[str, Any]:
    """Medians of CPU ms a query, and how often the right track comes first."""
    searcher, *_ = open_index(index)
    rng = np.random.default_rng(seed)
    noise, needed = Condition.parse("white@5"), int(seconds * RATE)
    hashing, searching, right = [], [], 0
    chosen = [i for i, samples in enumerate(music) if len(samples) > needed]
    while len(hashing) < queries:
        number = int(rng.choice(chosen))
        first = int(rng.integers(len(music[number]) - needed))
        excerpt = music[number][first : first + needed]
        if np.mean(excerpt**2) < QUIET_POWER:
            continue
        heard = Surroundings(RATE, [], []).degrade(excerpt, noise, rng)
        begin = time.process_time()
        query = searcher.hasher.hash_query([heard])
        hashed = time.process_time()
        (matches,) = searcher.search([query], top=3)
        searching.append(time.process_time() - hashed)
        hashing.append(hashed - begin)
        right += bool(matches) and matches[0].ordinal == number
    return {
        "hash_ms": 1000 * statistics.median(hashing),
        "search_ms": 1000 * statistics.median(searching),
        "right_first": right / queries,
    }


if __name__ == "__main__":
    sys.exit(main())
