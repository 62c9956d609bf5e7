"""An index with two versions that has much wrong with it, made without audio or a model.

Two segments in three tables of twelve bits; tracks that have gone, bits that never change, failures
with hostile names, a run that was stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from made_up_manifest import made_up_manifest

from hashing.tables import build_shard, pack_postings
from pipelines import io, parquet
from pipelines.plain import write_plain
from pipelines.publication import move_pointer
from pipelines.summary import Summary
from pipelines.versions import FileEntry, Files, Manifest, Segment, dump_json, version_path

KEY_BITS, TABLES, RANGES = 12, 3, 2
SNIPPETS = 6_000  # of a segment
BITS = 20  # of a code; the last byte is filled up with four zeros
STUCK = (3, 4, 7)  # bits that are never one
HOSTILE = "</style><script>alert('1')</script>\"&<!-- \u202e"
FAILED = (("not-audio", 9), ("missing", 4), (HOSTILE, 1))


def keys_of(segment: int, table: int) -> np.ndarray:
    """The keys of a table: half of them crowded into a few buckets, [SNIPPETS]."""
    rng = np.random.default_rng([segment, table])
    crowded = rng.integers(0, 40, SNIPPETS)
    spread = rng.integers(0, 1 << KEY_BITS, SNIPPETS)
    return np.where(rng.random(SNIPPETS) < 0.5, crowded, spread).astype(np.uint32)


def codes_of(segment: int) -> np.ndarray:
    """Bits of the codes of a segment, [SNIPPETS, BITS]."""
    bits = np.random.default_rng([segment, 99]).random((SNIPPETS, BITS)) < 0.5
    bits[:, STUCK] = False
    return bits


@dataclasses.dataclass
class _Maker:
    index: str
    entries: list[FileEntry] = dataclasses.field(default_factory=list)

    def add(self, version: str, kind: str, name: str, info: io.FileInfo, **place: int) -> FileEntry:
        path = f"versions/{version}/{kind}/{name}"
        entry = FileEntry(path, kind, info.rows, info.bytes, info.sha256, **place)
        self.entries.append(entry)
        return entry

    def segment(self, version: str, number: int) -> None:
        base = version_path(self.index, version)
        for table in range(TABLES):
            keys = keys_of(number, table)
            for at in range(RANGES):
                low, high = ((at + part) * (1 << KEY_BITS) // RANGES for part in (0, 1))
                name = f"s{number:03d}-t{table:02d}-k{at:04d}.hbt"
                with io.open_write(io.join(base, "tables", name)) as file:
                    stats = build_shard(
                        pack_postings([(None, keys, 0)], low, high),
                        file,
                        table=table,
                        segment=number,
                        key_bits=KEY_BITS,
                        key_lo=low,
                        key_hi=high,
                    )
                info = parquet.with_rows(file.info, stats.postings)
                place = {"segment": number, "table": table, "key_lo": low, "key_hi": high}
                self.add(version, "tables", name, info, **place)
        packed = np.packbits(codes_of(number), axis=1, bitorder="little")
        snippet = np.arange(SNIPPETS, dtype=np.int32)
        table = pa.table(
            {
                "track_id": pa.array([f"t{number}"] * SNIPPETS),
                "snippet": snippet,
                "start_ms": snippet * 500,
                "code": pa.array([row.tobytes() for row in packed], pa.binary(packed.shape[1])),
            }
        )
        name = f"part-{number:05d}.parquet"
        info, _ = write_plain(io.join(base, "codes", name), table, {})
        self.add(version, "codes", name, info, segment=number, part=number)

    def failures(self, version: str) -> None:
        rows = [
            {
                "track_id": f"track {number} {HOSTILE}",
                "uri": f"/music/{HOSTILE}/{number}.mp3",
                "stage": "decode",
                "error": error,
                "message": f"{HOSTILE} {'long ' * 100}",
            }
            for error, count in FAILED
            for number in range(count)
        ]
        path = io.join(version_path(self.index, version), "failures", "part-00000.parquet")
        info = parquet.write_table(path, pa.Table.from_pylist(rows))
        self.add(version, "failures", "part-00000.parquet", info, part=0)


def made_up_summary(**named: Any) -> Summary:
    """A summary whose numbers are 1, and whose texts are "x", but for those that are `named`."""
    plain: dict[str, Any] = {"int": 1, "float": 1.0, "str": "x"}
    values = {
        field.name: plain.get(str(field.type), {})
        for field in dataclasses.fields(Summary)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return Summary(**{**values, **named})


def write_unwell_index(folder: Path) -> Manifest:
    """Writes the index into `folder`; the manifest of what it publishes."""
    index = str(folder)
    maker = _Maker(index)
    maker.segment("000001", 0)
    maker.failures("000001")
    first = Segment(0, 0, 1, 100, SNIPPETS, [SNIPPETS], [100])
    counters = {"tracks": 114, "tracks_hashed": 100, "tracks_failed": 14}
    counters |= {"snippets": SNIPPETS, "audio_s": 3000.0}
    model = {"name": HOSTILE, "digest": hashlib.sha256(b"model").hexdigest()}
    common = {"key_bits": KEY_BITS, "n_tables": TABLES, "model": model}
    one = made_up_manifest(
        segments=[first], files=Files.of(maker.entries), counters=counters, **common
    )
    maker.segment("000002", 1)
    removals = parquet.write_table(
        io.join(version_path(index, "000002"), "removals", "s000.parquet"),
        pa.table({"ordinal": pa.array(range(70), pa.uint32())}),
    )
    gone = FileEntry(
        "versions/000002/removals/s000.parquet", "removals", 70, removals.bytes, removals.sha256
    )
    second = Segment(1, 1, 1, 100, SNIPPETS, [SNIPPETS], [100])
    changes = {"new": 90, "changed": 10, "removed": 60, "unchanged": 30}
    two = dataclasses.replace(
        one,
        version="000002",
        parent="000001",
        segments=[dataclasses.replace(first, removals=gone), second],
        files=Files.of(maker.entries),
        counters=counters
        | {"tracks_added": 100, "tracks_removed": 70, "snippets": 2 * SNIPPETS}
        | {f"changes_{name}": count for name, count in changes.items()},
        created="2026-02-03T04:05:06Z",
    )
    for number, manifest in enumerate((one, two)):
        path = version_path(index, manifest.version)
        summary = made_up_summary(
            index=index,
            version=manifest.version,
            startup_s=4.0 + number,
            hash_wall_s=60.0 - 20 * number,
            tables_wall_s=9.0,
            wall_s=80.0 - 15 * number,
            hash_cpu_s=200.0,
            times_real_time=400.0,
            max_rss_bytes=450_000_000,
        )
        io.write_bytes(io.join(path, "run.json"), dump_json(summary))
        io.write_bytes(io.join(path, "manifest.json"), dump_json(manifest))
    io.write_bytes(io.join(version_path(index, "000003"), "work", "plan.json"), b"{}")
    move_pointer(index, "000001", None)
    move_pointer(index, "000002", "000001")
    return two
