"""Hash tables: build rate, bytes a posting, opening time, and raw look-up time.

    PYTHONPATH=. python tests/benchmarks/bench_tables.py [--json] [--postings N] [--work-dir DIR]

Keys are generated, since tables of this size would need months of audio; gids come in random order
relative to the keys, as those of a good hasher do. The generated index is deleted at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hashing.models import DEFAULT_MODEL, load_model
from hashing.quantizers import Quantizer, SignQuantizer, open_quantizer
from hashing.shards import TableSet
from hashing.tables import (
    BLOCK_POSTINGS,
    ShardStats,
    build_shard,
    merge_stats,
    pack_postings,
    plan_key_ranges,
)

SIGN_BITS = 464  # of the plain sign hash that is built beside the model's: 58 bytes a code
SNIPPETS_A_QUERY = 20  # ten seconds at a hop of half a second
CHUNK_ROWS = 1_000_000

Entry = tuple[str, int, int, int, int]  # path, segment, table, key_lo, key_hi


class HashingWriter:
    """A binary file and the running sha256 of what is written to it, as the index job writes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: memoryview) -> None:
        self.sha256.update(data)
        self.file.write(data)
        self.bytes += len(data)


def make_keys(n: int, key_bits: int, rng: np.random.Generator, skew: float = 0.0) -> np.ndarray:
    """Keys uint32 ``[n]``: uniform, or with buckets whose load falls as ``rank ** (1/(1+skew)-1)``.

    The heavy buckets are scattered over all keys by an odd multiplier.
    """
    if not skew:
        return rng.integers(0, 2**key_bits, n, dtype=np.uint32)
    ranks = (rng.random(n) ** (1.0 + skew) * 2**key_bits).astype(np.uint64)
    return ((ranks * np.uint64(0x9E3779B1)) % np.uint64(2**key_bits)).astype(np.uint32)


def make_index(
    folder: str | Path,
    postings: int,
    key_bits: int = 22,
    n_tables: int = 20,
    seed: int = 0,
    *,
    skew: float = 0.0,
    block_postings: int = BLOCK_POSTINGS,
) -> tuple[list[Entry], list[ShardStats]]:
    """Write generated tables of one segment, gids 0 to `postings` - 1 once in each.

    Returns:
        The shards as `TableSet` takes them, and the statistics of each table.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    tables: list[ShardStats] = []
    for table in range(n_tables):
        keys = make_keys(postings, key_bits, np.random.default_rng([seed, table]), skew)
        stats = []
        ranges = plan_key_ranges(postings, key_bits, block_postings)
        for number, (key_lo, key_hi) in enumerate(ranges):
            path = folder / f"t{table:02d}-k{number:04d}.hbt"
            expected = int(postings / len(ranges) * 1.01)
            packed = pack_postings([(None, keys, 0)], key_lo, key_hi, expected)
            place = {"table": table, "segment": 0, "key_bits": key_bits}
            with path.open("wb") as file:
                stats.append(build_shard(packed, file, **place, key_lo=key_lo, key_hi=key_hi))
            del packed
            entries.append((str(path), 0, table, key_lo, key_hi))
        tables.append(merge_stats(stats))
    return entries, tables


def bench_build(
    folder: Path, postings: int, key_bits: int, seed: int, name: str, quantizer: Quantizer
) -> dict[str, float]:
    """One shard, from codes to a synced file; the generation of the codes is not counted."""
    rng = np.random.default_rng(seed)
    spent = {"keys": 0.0, "generation": 0.0, "generation_cpu": 0.0}

    def chunks() -> Iterator[tuple[np.ndarray | None, np.ndarray, int]]:
        for first in range(0, postings, CHUNK_ROWS):
            wall, cpu = time.perf_counter(), time.process_time()
            rows = min(CHUNK_ROWS, postings - first)
            data = rng.bytes(rows * quantizer.code_bytes)
            codes = np.frombuffer(data, np.uint8).reshape(rows, -1)
            made = time.perf_counter()
            spent["generation"] += made - wall
            spent["generation_cpu"] += time.process_time() - cpu
            found = quantizer.postings(codes, 0, key_bits)
            spent["keys"] += time.perf_counter() - made
            yield *found, first

    path = folder / "build.hbt"
    wall, cpu = time.perf_counter(), time.process_time()
    packed = pack_postings(chunks(), 0, 2**key_bits, postings)
    ready = time.perf_counter()
    with path.open("wb") as file:
        out = HashingWriter(file)
        stats = build_shard(
            packed, out, table=0, segment=0, key_bits=key_bits, key_lo=0, key_hi=2**key_bits
        )
        out.sha256.hexdigest()
        built = time.perf_counter()
        file.flush()
        os.fsync(file.fileno())
    end = time.perf_counter()
    path.unlink()
    total = end - wall - spent["generation"]
    total_cpu = time.process_time() - cpu - spent["generation_cpu"]
    figures = {
        "postings": postings,
        "postings_per_s": postings / total,
        "postings_per_cpu_s": postings / total_cpu,
        "keys_rows_per_s": postings / spent["keys"],
        "pack_s": ready - wall - spent["generation"] - spent["keys"],
        "sort_write_sha256_s": built - ready,
        "fsync_s": end - built,
        "bytes_per_posting": out.bytes / postings,
        "entropy_bits": stats.entropy_bits,
    }
    return {f"build_{name}_{figure}": value for figure, value in figures.items()}


def sign_hash(key_bits: int, seed: int) -> SignQuantizer:
    """Bits above zero or not, of which random ones make a key."""
    positions = np.random.default_rng(seed).permutation(SIGN_BITS)[None, :key_bits]
    return SignQuantizer(np.zeros(SIGN_BITS), np.ones(SIGN_BITS), positions)


def bench_open(folder: Path, key_bits: int, n_tables: int, shards: int) -> dict[str, float]:
    """Opening an index of many (small) shards, and the first query to it."""
    per_table = max(1, shards // n_tables)
    postings = per_table * 100
    entries, _ = make_index(folder, postings, key_bits, n_tables, block_postings=100)
    keys = np.random.default_rng(1).integers(
        0, 2**key_bits, (SNIPPETS_A_QUERY, n_tables), np.uint32
    )
    start = time.perf_counter()
    tables = TableSet(entries, n_tables, key_bits)
    opened = time.perf_counter()
    tables.lookup(0, keys)
    first = time.perf_counter()
    shutil.rmtree(folder)
    return {
        "open_shards": len(entries),
        "open_ms": 1e3 * (opened - start),
        "open_and_first_query_ms": 1e3 * (first - start),
    }


def time_lookups(
    tables: TableSet, key_bits: int, batch: int, seconds: float, seed: int
) -> dict[str, float]:
    """Look-ups of ever new keys, `batch` queries a call, for about so many seconds."""
    rng = np.random.default_rng(seed)
    walls, cpus, hits = [], [], 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(walls) < 3:
        keys = make_keys(batch * SNIPPETS_A_QUERY * tables.n_tables, key_bits, rng)
        wall, cpu = time.perf_counter(), time.process_time()
        found = tables.lookup(0, keys.reshape(-1, tables.n_tables))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        hits += len(found.gid)
    return {
        "us_per_query": 1e6 * float(np.median(walls)) / batch,
        "cpu_us_per_query": 1e6 * float(np.mean(cpus)) / batch,
        "hits_per_query": hits / len(walls) / batch,
    }


def drop_from_cache(entries: list[Entry]) -> None:
    """Ask the system to forget the files' pages, so that the next look-up reads the disk."""
    for path, *_ in entries:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def touch(tables: TableSet) -> None:
    """Map every page of every open shard."""
    page = os.sysconf("SC_PAGESIZE") // 4
    for shard in tables.opened:
        for array in (shard.offsets, shard.postings):
            int(array[::page].sum(dtype=np.uint64))


def bench_lookup(
    folder: Path, postings: int, key_bits: int, n_tables: int, seed: int, skew: float
) -> dict[str, object]:
    """Raw bucket look-up, without voting, on a cold disk, on cached and on mapped pages."""
    start = time.perf_counter()
    entries, stats = make_index(folder, postings, key_bits, n_tables, seed, skew=skew)
    made = time.perf_counter() - start
    size = sum(os.path.getsize(path) for path, *_ in entries)
    result: dict[str, object] = {
        "lookup_postings_per_table": postings,
        "lookup_tables": n_tables,
        "lookup_shards": len(entries),
        "lookup_index_bytes": size,
        "lookup_bytes_per_posting": size / postings / n_tables,
        "lookup_entropy_bits": stats[0].entropy_bits,
        "lookup_max_bucket": max(table.max_bucket for table in stats),
        "lookup_generation_s": made,
    }
    drop_from_cache(entries)
    tables = TableSet(entries, n_tables, key_bits)
    result["lookup_cold_disk_batch16"] = time_lookups(tables, key_bits, 16, 2.0, seed + 1)
    for path, *_ in entries:
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    tables.close()
    result["lookup_cached_unmapped_batch16"] = time_lookups(tables, key_bits, 16, 1.0, seed + 2)
    touch(tables)
    for batch in (1, 16, 64):
        result[f"lookup_mapped_batch{batch}"] = time_lookups(
            tables, key_bits, batch, 4.0, seed + 3 + batch
        )
    return result


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--postings", type=int, default=50_000_000, help="postings a table")
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--key-bits", type=int, default=22)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="whose keys are made as well")
    parser.add_argument("--build-postings", type=int, default=BLOCK_POSTINGS)
    parser.add_argument("--open-shards", type=int, default=3000)
    parser.add_argument("--skew", type=float, default=0.0, help="0: uniform keys; 1: heavy buckets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", default=None, help="default: the system's temporary folder")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Measure, print, delete."""
    options = parse(argv)
    if options.work_dir:
        Path(options.work_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-tables-", dir=options.work_dir) as work:
        folder = Path(work)
        bits, tables, seed = options.key_bits, options.tables, options.seed
        result: dict[str, object] = {}
        own = open_quantizer(load_model(options.model))
        for name, quantizer in (("signs", sign_hash(bits, seed)), (options.model, own)):
            key_bits = min(bits, quantizer.key_bits_max)
            result |= bench_build(folder, options.build_postings, key_bits, seed, name, quantizer)
        result |= bench_open(folder / "open", bits, tables, options.open_shards)
        result |= bench_lookup(
            folder / "lookup", options.postings, bits, tables, seed, options.skew
        )
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            shown = value if isinstance(value, dict) else {"": value}
            for part, number in shown.items():
                print(f"{name + ' ' + part:50s} {number:>16,.6g}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
