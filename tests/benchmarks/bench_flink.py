"""Two workers against one on Flink, in turns: indexing, and what Flink's own processes take.

    make flink
    PYTHONPATH=.:tests python tests/benchmarks/bench_flink.py --music MUSIC_FOLDER

Each track of the folder is listed several times, so that work outweighs the start. Prints for each
number of workers the median of: the whole command, the work between start and end of the pieces
(hashing and tables), CPU time of the workers, and CPU time of Flink's Java processes meanwhile; and
the ratios of two workers to one. On a machine of two cores all of it shares them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from flink_jobs import environment, hashbeam

from deploy.flink.cluster import DOWNLOADS, Cluster
from pipelines.catalog import read_catalog

TICKS = os.sysconf("SC_CLK_TCK")
FIGURES = ("wall_s", "work_s", "worker_cpu_s", "flink_cpu_s")


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--music", type=Path, required=True, help="a folder with catalog.csv")
    parser.add_argument("--times", type=int, default=4, help="each track is listed (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of one and two (%(default)s)")
    parser.add_argument("--downloads", default=DOWNLOADS, help="what `make flink` brought")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hashbeam-bench-") as folder:
        catalog = repeat(args.music, args.times, Path(folder, "catalog.parquet"))
        with Cluster(Path(folder, "cluster"), task_managers=2, downloads=args.downloads) as cluster:
            found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
            for number in range(args.rounds):
                for workers, figures in found.items():
                    index = Path(folder, f"index-{workers}-{number}")
                    figures.append(measure(cluster, catalog, index, workers))
                    print(f"# {workers} workers: {figures[-1]}", file=sys.stderr)
    told = {
        str(workers): {name: statistics.median(one[name] for one in figures) for name in FIGURES}
        for workers, figures in found.items()
    }
    ratios = {name: told["1"][name] / told["2"][name] for name in ("wall_s", "work_s")}
    if args.json:
        print(json.dumps({"workers": told, "speedup": ratios}))
        return 0
    for workers, figures in told.items():
        print(f"{workers} workers", *(f"{name} {value:.1f}" for name, value in figures.items()))
    print(
        f"two workers are {ratios['work_s']:.2f} times one; with the start, {ratios['wall_s']:.2f}"
    )
    return 0


def repeat(music: Path, times: int, path: Path) -> Path:
    """A catalogue in which each track stands several times under other names."""
    table = read_catalog(str(music / "catalog.csv")).select(["track_id", "uri"])
    tables = []
    for number in range(times):
        ids = [f"{one}-{number}" for one in table["track_id"].to_pylist()]
        tables.append(table.set_column(0, "track_id", pa.array(ids)))
    pq.write_table(pa.concat_tables(tables), path)
    return path


def measure(cluster: Cluster, catalog: Path, index: Path, workers: int) -> dict[str, float]:
    """One index by so many workers."""
    java, began = java_cpu_s(cluster), time.time()
    flags = ["--no-gates", "all", "--json", "--quiet", *cluster.beam_args(workers)]
    done = subprocess.run(
        hashbeam("index", "--catalog", catalog, "--out", index, *flags),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wall_s, told = time.time() - began, json.loads(done.stdout)
    return {
        "wall_s": wall_s,
        "work_s": told["hash_wall_s"] + told["tables_wall_s"],
        "worker_cpu_s": told["hash_cpu_s"] + told["tables_cpu_s"],
        "flink_cpu_s": java_cpu_s(cluster) - java,
    }


def java_cpu_s(cluster: Cluster) -> float:
    """CPU time of Flink's processes and of the job server so far, without their workers."""
    total = 0
    for pid in cluster.pids():
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime and stime of proc(5), without children
    return total / TICKS


if __name__ == "__main__":
    sys.exit(main())
