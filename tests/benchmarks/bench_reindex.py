"""What reindexing costs against indexing anew: CPU time and memory, codes made up, no audio.

Indexes a catalogue of made-up codes, then in processes of their own: reindexes it unchanged,
reindexes it with a share of the tracks changed (a third each: new, other content, gone), and
reindexes it unchanged once more. All that is not decoding is what it is: Beam, files, tables,
publication, one worker. Decoding would only make the full build dearer.

    python tests/benchmarks/bench_reindex.py --tracks 100000 --changed 0.01
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from hashing.encoders import Hasher, TrackCodes
from hashing.models import DEFAULT_MODEL

SEED = 1


class MadeUpDecoder:
    """Stands for the decoder: codes that look random, the same for the same name of a file."""

    pid = None
    snippets = 240

    def __enter__(self) -> MadeUpDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepare(self, hasher: Hasher) -> None:
        """Nothing to load."""

    def hash_track(self, path: str, hasher: Hasher, **_: Any) -> TrackCodes:
        """Codes of a track of so many snippets."""
        rng = np.random.Generator(np.random.SFC64(abs(hash(path))))
        codes = rng.integers(0, 256, (self.snippets, hasher.quantizer.code_bytes), np.uint8)
        numbers = np.arange(self.snippets, dtype=np.int32)
        return TrackCodes(codes, numbers, self.snippets * hasher.features.snippet_hop_s)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--changed", type=float, default=0.01, help="share of the tracks")
    parser.add_argument("--snippets", type=int, default=480, help="of a track: four minutes")
    parser.add_argument(
        "--work-dir", type=Path, help="where the index is made; else it is temporary"
    )
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.snippets)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as scratch:
        figures = measure(Path(scratch), args.tracks, args.changed, args.snippets)
    print(json.dumps(figures, indent=1))
    return 0


def measure(folder: Path, tracks: int, changed: float, snippets: int) -> dict[str, float]:
    """CPU seconds and peak memory, bytes, of each step."""
    rng = np.random.default_rng(SEED)
    etags = [f"e{n}" for n in range(tracks)]
    ids = list(range(tracks))
    index = str(folder / "index")
    first = write_catalog(folder / "first.csv", ids, etags)
    each = max(1, round(tracks * changed / 3))
    chosen = rng.permutation(tracks)[: 2 * each].tolist()
    for number in chosen[:each]:
        etags[number] = f"changed{number}"
    etags += [f"new{n}" for n in range(each)]
    left = sorted(set(range(tracks + each)) - set(chosen[each:]))
    second = write_catalog(folder / "second.csv", left, etags)
    base = ["--workers", "1", "--quiet", "--json"]
    runs = {
        "index": ["index", "--catalog", first, "--out", index],
        "unchanged": ["reindex", "--catalog", first, "--index", index],
        "changed": ["reindex", "--catalog", second, "--index", index],
        "unchanged_again": ["reindex", "--catalog", second, "--index", index],
    }
    figures: dict[str, float] = {"tracks": tracks, "changed": 3 * each}
    for name, command in runs.items():
        found = in_a_process([*command, *base], snippets)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    figures["cpu_ratio"] = figures["changed_cpu_s"] / figures["index_cpu_s"]
    return figures


def write_catalog(path: Path, ids: list[int], etags: list[str]) -> str:
    """A catalogue of files that are not there: their etags say all."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["track_id", "uri", "etag", "title"])
        for number in ids:
            name = f"t{number:08d}"
            writer.writerow(
                [name, f"/none/{name}.{etags[number]}.mp3", etags[number], f"T{number}"]
            )
    return str(path)


def in_a_process(command: list[str], snippets: int) -> dict[str, float]:
    """Runs a command of hashbeam with made-up codes; CPU time with children, wall time, memory."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    run = [sys.executable, __file__, "--snippets", str(snippets), "--one", *command]
    peak = (
        subprocess.run(
            run, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": "0"}
        )
        .stdout.decode()
        .splitlines()[-1]
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu_s, "wall_s": time.time() - started, "peak_bytes": float(peak)}


def one(command: list[str], snippets: int) -> int:
    """The command itself, in this process; prints its peak memory."""
    from pipelines.cli import main as hashbeam

    Hasher.load(DEFAULT_MODEL)
    MadeUpDecoder.snippets = snippets
    with (
        mock.patch("pipelines.index_job.ListeningDecoder", MadeUpDecoder),
        mock.patch("pipelines.parts.file_checksum", lambda path: (len(path), bytes(16))),
    ):
        status = hashbeam(command)
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return status


if __name__ == "__main__":
    sys.exit(main())
