"""What it costs to find out what has changed in a large catalogue: time and memory.

A version of an index is made up, with the tracks of a catalogue and no codes, and the catalogue is
compared with it in memory: by etags, of which some differ, and by sizes and times of files, which
are made up as well, so that no store is measured. With --beam the same by etags as a Beam job.
Every case runs in a process of its own, so that its memory is its own.

    PYTHONPATH=.:tests python tests/benchmarks/bench_changes.py
    PYTHONPATH=.:tests python tests/benchmarks/bench_changes.py --tracks 10000000 --beam --json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_up_manifest import made_up_manifest

from pipelines.changes.classes import Changes
from pipelines.changes.compare import Files
from pipelines.changes.job import find_changes_on_beam
from pipelines.changes.memory import find_changes
from pipelines.parts import MEASURED, count_parts, part_name, tracks_per_part
from pipelines.runner import make_pipeline_options
from pipelines.versions import FileEntry, Manifest, Segment
from pipelines.versions import Files as FileEntries

# One track in so many has another etag than the version has.
CHANGED_EACH = 100

# Of every file, in the version and when it is looked at.
SIZE, MTIME = 400, 1.5

CASES = ("etags", "sizes and times")
BEAM = "etags, Beam"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=1_000_000)
    parser.add_argument("--beam", action="store_true", help="also as a Beam job")
    parser.add_argument("--workers", type=int, default=1, help="processes of the Beam job")
    parser.add_argument("--work-dir", type=Path, help="where the version is made; then deleted")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        # Apart as well: what a process was once given stays in its peak.
        apart(make_version, folder, args.tracks)
        for case in (*CASES, *([BEAM] if args.beam else [])):
            figures[case] = apart(measure, case, folder, args.tracks, args.workers)
    if args.json:
        print(json.dumps({"tracks": args.tracks, "workers": args.workers, "cases": figures}))
        return 0
    for case, found in figures.items():
        told = "  ".join(f"{name} {value:,}" for name, value in found.items())
        print(f"{case:18s}{told}")
    return 0


def apart(function: Any, *given: Any) -> Any:
    """Calls a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def catalog_of(n: int, *, etags: bool, changed_each: int = 0) -> pa.Table:
    """A catalogue of `n` tracks, in order of track_id, as `pipelines.catalog` reads it.

    Args:
        etags: whether it has them.
        changed_each: one in so many etags is another than that of the version; 0: none.
    """
    ids = np.char.mod("t%09d", np.arange(n))
    columns = {
        "track_id": pa.array(ids),
        "uri": pa.array(np.char.add(np.char.add("/music/store/", ids), ".mp3")),
    }
    if etags:
        told = np.char.mod("%032x", np.arange(n))
        if changed_each:
            told[::changed_each] = "f" * 32
        columns["etag"] = pa.array(told)
    columns["title"] = pa.array(np.char.add("A song called ", ids))
    names = pa.array(np.char.add("Artist ", ids))
    offsets = pa.array(np.arange(n + 1), pa.int32())
    # Long columns of text come in chunks, of which no list is made.
    flat = names if isinstance(names, pa.Array) else pa.concat_arrays(names.chunks)
    columns["artist_name"] = pa.ListArray.from_arrays(offsets, flat)
    return pa.table(columns)


def paths_of(n: int) -> list[str]:
    """The files of tracks of a version, as long as an index would have them."""
    parts = count_parts(n)
    return [f"versions/000001/tracks/{part_name(part)}.parquet" for part in range(parts)]


def make_version(folder: str, n: int) -> None:
    """Write the tracks of a version, in as many parts as an index of so many has."""
    catalog = catalog_of(n, etags=True)
    made = {
        "ordinal": np.arange(n),
        "snippets": np.full(n, 400),
        "gids": np.full(n, 400),
        "duration_s": np.full(n, 200.0),
        "size": np.full(n, SIZE),
        "mtime": np.full(n, MTIME),
    }
    content = pa.py_buffer(np.random.default_rng(0).bytes(16 * n))
    columns = {
        name: catalog[name]
        if name in catalog.column_names
        else pa.FixedSizeBinaryArray.from_buffers(kind, n, [None, content])
        if name == "content"
        else pa.array(made[name], kind)
        for name, kind in MEASURED.items()
    }
    table = pa.table({**columns, **{name: catalog[name] for name in ("title", "artist_name")}})
    per = tracks_per_part(n)
    for part, path in enumerate(paths_of(n)):
        place = Path(folder, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Not by `pipelines.parquet`, which waits for the disk after each of 4,096 files.
        pq.write_table(table.slice(part * per, per), place, compression="zstd")


def manifest_of(n: int) -> Manifest:
    """The manifest of what `make_version` has written."""
    per = tracks_per_part(n)
    paths = paths_of(n)
    rows = [min(per, n - part * per) for part in range(len(paths))]
    entries = [
        FileEntry(path, "tracks", rows[part], 1, "0", segment=0, part=part)
        for part, path in enumerate(paths)
    ]
    gids = [400 * count for count in rows]
    segment = Segment(0, 0, len(paths), n, sum(gids), gids, rows)
    return made_up_manifest(segments=[segment], files=FileEntries.of(entries))


def look(uris: Sequence[str]) -> tuple[Any, Any]:
    """Sizes and times as if the files were there."""
    return np.full(len(uris), SIZE), np.full(len(uris), MTIME)


def no_checksums(uris: Sequence[str]) -> list[bytes | None]:
    """No content is ever read: sizes and times decide."""
    raise AssertionError(f"{len(uris)} files were to be read")


def measure(case: str, folder: str, n: int, workers: int) -> dict[str, float]:
    """Seconds of one comparison, its peak memory, and what it found."""
    by_etag = case != CASES[1]
    catalog = catalog_of(n, etags=by_etag, changed_each=CHANGED_EACH if by_etag else 0)
    manifest = manifest_of(n)
    before_mb = peak_mb(resource.RUSAGE_SELF)
    wall, cpu = time.perf_counter(), cpu_s()
    if case == BEAM:
        options = make_pipeline_options(workers, [])
        changes = find_changes_on_beam(folder, manifest, catalog, f"{folder}/run", options)
    else:
        changes = find_changes(folder, manifest, catalog, files=Files(look, no_checksums))
    wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
    check(changes, n, by_etag)
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "tracks_per_cpu_s": round(n / cpu),
        "catalog_mb": round(catalog.nbytes / 2**20),
        "peak_before_mb": round(before_mb),
        "peak_mb": round(peak_mb(resource.RUSAGE_SELF)),
        "worker_peak_mb": round(peak_mb(resource.RUSAGE_CHILDREN)),
        "changed": int(changes.counts["tracks_changed"]),
    }


def check(changes: Changes, n: int, by_etag: bool) -> None:
    """What was found must be what was made up: a wrong answer has no speed."""
    changed = -(-n // CHANGED_EACH) if by_etag else 0
    found = {name: int(changes.counts[f"tracks_{name}"]) for name in ("changed", "unchanged")}
    assert found == {"changed": changed, "unchanged": n - changed}, changes.counts
    assert changes.table.num_rows == changed


def cpu_s() -> float:
    """Processor time of this process and of those that it has ended, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_mb(who: int) -> float:
    """Peak memory in MiB; Linux counts it in kilobytes."""
    return resource.getrusage(who).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
