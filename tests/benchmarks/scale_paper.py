"""The index job on paper: elements of each of its stages, for catalogues that no disk here holds.

The elements are made by the functions that the job makes them with, of receipts that tell only how
much there is; their bytes are those that Beam would move, pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hashing.quantizers import Quantizer
from hashing.sorted_runs import BLOCK, encode_run
from pipelines.footprint import POSTING_BYTES
from pipelines.part_files import part_name
from pipelines.part_rows import PARTS_A_FILE
from pipelines.parts import count_parts, tracks_per_part
from pipelines.runs import Plan, Receipt, Run
from pipelines.segment_codes import SegmentCodes, read_segments
from pipelines.tables import choose_key_bits, plan_shards, spills_of
from pipelines.versions import FIRST_VERSION, FileEntry, Files, dump_json

Figures = dict[str, Any]

MILLIONS = (1, 10, 100)  # of tracks
PATH_BYTES = 12  # of the name of an attempt
CATALOG_COLUMNS = 12  # of the catalogue of a run, as a catalogue of music has


def segments_of(tracks: int, snippets: int, code_bytes: int) -> list[SegmentCodes]:
    """The segments of an index of so many tracks of so many snippets each."""
    plan = Plan(FIRST_VERSION, "", "", "", {}, tracks, count_parts(tracks), "")
    run, per_part = Run("gs://bucket/index", plan), tracks_per_part(tracks)
    receipts = {}
    for part in plan.parts:
        held = min(per_part, tracks - part * per_part) * snippets
        receipts[part_name(part)] = _part_receipt(run, part, held, code_bytes)
    return read_segments(run, receipts)


def _part_receipt(run: Run, part: int, snippets: int, code_bytes: int) -> Receipt:
    entries = []
    for kind, suffix in (("codes", ".parquet"), ("matrices", ".hbm"), ("tracks", ".parquet")):
        path = run.attempt_path(kind, part_name(part), "0" * PATH_BYTES, suffix)
        digest = hashlib.sha256(path.encode()).hexdigest()
        size = snippets * code_bytes
        entry = FileEntry(path.removeprefix(f"{run.index}/"), kind, snippets, size, digest)
        entries.append(dataclasses.replace(entry, part=part))
    counters = {"gids": snippets, "snippets": snippets}
    return Receipt(part_name(part), "0" * PATH_BYTES, entries, counters, 0.0, 0.0)


def elements(tracks: int, snippets: int, quantizer: Quantizer) -> Figures:
    """What the stages of the job are given, and the largest of it."""
    segments = segments_of(tracks, snippets, quantizer.code_bytes)
    bits = choose_key_bits(segments, quantizer)
    pieces, shards, moved = 0, 0, {"spills": 0, "shards": 0}
    piece_snippets, piece_bytes, shard_postings, shard_bytes = 0, 0, 0, 0
    spill_entry = _entry_bytes()
    own_spills, fetched = 0, 0
    for segment in segments:
        tasks, told = spills_of(segment, quantizer, bits), _size((segment.id, segment))
        fetched += told * len(tasks)
        own_spills = max(own_spills, len(tasks))
        for task in tasks:
            size = _size((task, None))
            moved["spills"] += size
            piece_bytes = max(piece_bytes, size)
            held = sum(segment.snippets[file] for file in task.files)
            piece_snippets = max(piece_snippets, held)
        pieces += len(tasks)
        for task in plan_shards(segment, quantizer, bits):
            size = _size(task)
            moved["shards"] += size
            shard_bytes, shards = max(shard_bytes, size), shards + 1
            fetched += told + len(tasks) * spill_entry
            shard_postings = max(shard_postings, task.postings)
    parts = count_parts(tracks)
    total = sum(segment.total for segment in segments)
    receipts = parts + pieces + shards
    side = [_size((segment.id, segment)) for segment in segments]
    postings = round(total * quantizer.replication * quantizer.n_tables)
    return {
        "tracks": tracks,
        "snippets": total,
        "postings": postings,
        "key_bits": bits,
        "segments": len(segments),
        "parts": {
            "elements": parts,
            "largest_tracks": tracks_per_part(tracks),
            "largest_snippets": max(max(segment.snippets) for segment in segments),
        },
        "spills": {
            "elements": pieces,
            "largest_snippets": piece_snippets,
            "largest_element_bytes": piece_bytes,
            "shuffled_bytes": moved["spills"],
        },
        "shards": {
            "elements": shards,
            "largest_postings": shard_postings,
            "largest_element_bytes": shard_bytes,
            "shuffled_bytes": moved["shards"],
        },
        "side_input": {
            "largest_segment_bytes": max(side),
            "all_segments_bytes": sum(side),
            "spills_of_a_segment_bytes": own_spills * spill_entry,
            "all_spills_bytes": pieces * spill_entry,
        },
        "receipts": {
            "all": receipts,
            "largest_of_a_segment": max(
                len(spills_of(one, quantizer, bits))
                + sum(1 for _ in plan_shards(one, quantizer, bits))
                for one in segments
            ),
        },
        "shuffle": {
            "spilled_bytes": spilled_bytes(bits, piece_snippets) * postings if pieces else 0.0,
            "reshuffled_bytes": sum(moved.values()),
            # At most: were each element a bundle of its own, it would fetch this anew.
            "side_input_bytes": fetched,
            "bytes_of_postings": POSTING_BYTES * postings,
        },
    }


def spilled_bytes(key_bits: int, snippets: int) -> float:
    """Bytes of a posting in a spill of so many snippets, of a block of made-up ones.

    Keys are uniform: real ones lie closer together.
    """
    rng = np.random.default_rng(0)
    held = min(snippets, BLOCK)
    most = (held << key_bits) // snippets  # keys among which those of a block lie
    keys = np.sort(rng.integers(0, most, held, np.uint64))
    gids = rng.integers(0, snippets, held, np.uint64)
    return sum(map(len, encode_run(keys << np.uint64(32) | gids))) / held


def listings(tracks: int, snippets: int, quantizer: Quantizer) -> Figures:
    """The manifest, which lists all files, and what a part reads of how others are cut."""
    segments = segments_of(tracks, snippets, quantizer.code_bytes)
    bits = choose_key_bits(segments, quantizer)
    shards = [
        _shard_entry(task.name, task.segment, task.table, task.key_lo)
        for segment in segments
        for task in plan_shards(segment, quantizer, bits)
    ]
    return {
        "manifest_bytes": manifest_bytes(segments, shards),
        "rows_footer_bytes": footer_bytes(count_parts(tracks)),
    }


def _size(element: Any) -> int:
    return len(pickle.dumps(element, protocol=pickle.HIGHEST_PROTOCOL))


def _shard_entry(name: str, segment: int, table: int, key_lo: int) -> FileEntry:
    path = f"versions/{FIRST_VERSION}/tables/{name}-{'0' * PATH_BYTES}.hbt"
    digest = hashlib.sha256(path.encode()).hexdigest()
    return FileEntry(path, "tables", 1 << 24, 1 << 27, digest, segment, table, key_lo, key_lo + 1)


def _entry_bytes() -> int:
    path = f"versions/{FIRST_VERSION}/work/spills/s000-p00000-{'0' * PATH_BYTES}.hbsp"
    digest = hashlib.sha256(path.encode()).hexdigest()
    return _size((0, FileEntry(path, "spills", 1 << 26, 1 << 29, digest, 0)))


def manifest_bytes(segments: list[SegmentCodes], shards: list[FileEntry]) -> int:
    """Of the files of parts and shards, as a manifest lists them."""
    entries = [*shards]
    for segment in segments:
        for part, paths in zip(
            segment.parts, zip(segment.paths, segment.tracks_paths, strict=True), strict=True
        ):
            for kind, path in zip(("codes", "tracks", "matrices"), (*paths, paths[0]), strict=True):
                digest = hashlib.sha256(path.encode()).hexdigest()
                name = path.removeprefix("gs://bucket/index/")
                entries.append(
                    FileEntry(name, kind, 1 << 20, 1 << 25, digest, segment.id, part=part)
                )
    return len(dump_json(Files.of(entries)))


def footer_bytes(parts: int) -> int:
    """Of a file of the rows that a run goes through, which a part reads to find its own."""
    row = pa.table({f"column_{number:02d}": ["x" * 20] for number in range(CATALOG_COLUMNS)})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, row.schema, compression="zstd") as writer:
        for _ in range(min(parts, PARTS_A_FILE)):
            writer.write_table(row)
    data = sink.getvalue()
    return int.from_bytes(data.slice(data.size - 8, 4).to_pybytes(), "little")
