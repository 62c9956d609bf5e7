"""Indexes of made-up music, stage by stage, each in a fresh process whose peak memory is told.

The stages are those of an index run, by the same functions in the same order, without Beam: parts
(`hash_part`), spills (`write_spill`), shards (`build_table`), manifest and publication. What is
merged is merged by `hashbeam merge` itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from scale_codes import MadeUpMusic, columns_of, read_real, save_key_model

from hashing.encoders import Hasher
from hashing.quantizers import Quantizer
from pipelines import io
from pipelines.footprint import POSTING_BYTES
from pipelines.gather import make_manifest
from pipelines.parts import HashJob, count_parts, hash_part, write_parts
from pipelines.planning.measure import run_of
from pipelines.publication import publish
from pipelines.reindexing.merging import Source, merged_rows, write_merged
from pipelines.runs import Plan, Receipt, Run
from pipelines.segment_codes import SegmentCodes, read_segments
from pipelines.spills import finished_spills, write_spill
from pipelines.tables import build_table, choose_key_bits, plan_shards, spills_of
from pipelines.versions import FIRST_VERSION, open_manifest, utc_now

Figures = dict[str, Any]

SILENCE_S = 1e9


def in_fresh_process(work: Callable[..., Figures], *arguments: Any) -> Figures:
    """What `work` tells, and the CPU seconds, wall seconds and peak memory of a process for it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_report, args=(theirs, work, arguments))
    child.start()
    theirs.close()
    try:
        figures: Figures = ours.recv()
    except EOFError:
        raise SystemExit(f"{work.__name__} ended without a result") from None
    child.join()
    return figures


def _report(pipe: Any, work: Callable[..., Figures], arguments: Sequence[Any]) -> None:
    before, begin = peak_rss_bytes(), (time.time(), time.process_time())
    figures = work(*arguments)
    figures |= {
        "cpu_s": time.process_time() - begin[1],
        "wall_s": time.time() - begin[0],
        "rss_before_bytes": before,
        "peak_rss_bytes": peak_rss_bytes(),
    }
    pipe.send(figures)
    pipe.close()


def peak_rss_bytes() -> int:
    """Of this process alone: `ru_maxrss` would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(kilobytes)


def build(
    folder: Path, real: str, first: int, tracks: int, snippets: int, n_tables: int
) -> Figures:
    """A published index of some of the tracks, and what each of its stages took."""
    model = folder.parent / f"keys-{n_tables}"
    if not model.is_dir():
        save_key_model(model, n_tables)
    music = folder.parent / f"music-{n_tables}.npz"
    if not music.exists():
        MadeUpMusic.like(read_real(real), columns_of(n_tables), snippets).save(music)
    run = run_of(str(folder), Hasher.load(str(model)), tracks)
    stages = {
        "hash": in_fresh_process(_hash, run, str(model), str(music), first, snippets),
        "spill": in_fresh_process(_spill, run, str(model)),
        "build": in_fresh_process(_build, run, str(model)),
        "publish": in_fresh_process(_publish, run, str(model)),
    }
    return facts(folder) | {"stages": stages}


def facts(folder: Path) -> Figures:
    """What a published index is: its shape, and bytes by kind of file."""
    manifest = open_manifest(str(folder))
    sizes: dict[str, int] = {}
    for kind, size in manifest.files.tuples("kind", "bytes"):
        sizes[kind] = sizes.get(kind, 0) + size
    postings = sum(rows for (rows,) in manifest.files.tuples("rows", kind="tables"))
    return {
        "tracks": sum(segment.tracks for segment in manifest.segments),
        "postings_a_table": postings // manifest.n_tables,
        "n_tables": manifest.n_tables,
        "key_bits": manifest.key_bits,
        "segments": len(manifest.segments),
        "parts": sum(segment.n_parts for segment in manifest.segments),
        "shards": len(manifest.files.select(kind="tables")),
        "bytes": sizes,
        "table_bytes_a_posting": sizes["tables"] / postings,
    }


def _hash(run: Run, model: str, made_up: str, first: int, snippets: int) -> Figures:
    hasher = Hasher.load(model)
    music = MadeUpMusic.load(Path(made_up), snippets)
    names = [f"{track:08d}" for track in range(first, first + run.plan.n_tracks)]
    write_parts(run, pa.table({"track_id": names, "uri": names}))
    job = HashJob(run, SILENCE_S, SILENCE_S)
    done = run.receipts()
    parts: list[Receipt] = []
    for part in run.plan.parts:
        earlier = done.get(f"part-{part:05d}")
        parts.append(earlier or hash_part(job, part, hasher, music))  # type: ignore[arg-type]
    return {"pieces": len(parts)} | _largest(parts)


def _codes(run: Run, model: str) -> tuple[Quantizer, dict[str, Receipt], list[SegmentCodes], int]:
    """What tables are made by and of, what is done of them, and the bits of their keys."""
    quantizer, receipts = Hasher.load(model).quantizer, run.receipts()
    segments = read_segments(run, receipts)
    return quantizer, receipts, segments, choose_key_bits(segments, quantizer)


def _spill(run: Run, model: str) -> Figures:
    quantizer, receipts, segments, bits = _codes(run, model)
    done = list[Receipt]()
    for segment in segments:
        tasks = spills_of(segment, quantizer, bits)
        earlier = {one.name for one in finished_spills(segment, tasks, receipts)}
        for task in tasks:
            done.append(
                receipts[task.name]
                if task.name in earlier
                else write_spill(run, segment, task, quantizer)
            )
    postings = sum(file.rows for one in done for file in one.files)
    size = sum(file.bytes for one in done for file in one.files)
    return {
        "pieces": len(done),
        "postings": postings,
        "bytes": size,
        "bytes_of_postings": POSTING_BYTES * postings,
        "ratio": size / (POSTING_BYTES * postings) if postings else 0.0,
    } | _largest(done)


def _build(run: Run, model: str) -> Figures:
    quantizer, receipts, segments, bits = _codes(run, model)
    done = list[Receipt]()
    for segment in segments:
        pieces = spills_of(segment, quantizer, bits)
        entries = [one.files[0] for one in finished_spills(segment, pieces, receipts)]
        for task in plan_shards(segment, quantizer, bits):
            earlier = receipts.get(task.name)
            done.append(earlier or build_table(run, segment, task, quantizer, entries))
    postings = sum(one.counters["postings"] for one in done)
    return {
        "pieces": len(done),
        "postings": postings,
        "bytes": sum(one.files[0].bytes for one in done),
    } | _largest(done)


def _publish(run: Run, model: str) -> Figures:
    hasher = Hasher.load(model)
    manifest, _ = make_manifest(run, run.receipts(), hasher, None)
    publish(run.index, manifest)
    return {"manifest_bytes": os.path.getsize(run.path("manifest.json"))}


def _largest(receipts: Iterable[Receipt]) -> Figures:
    """The dearest piece, and all of them together, by their own clocks."""
    cpu = [one.counters["cpu_s"] for one in receipts] or [0.0]
    files = [file.bytes for one in receipts for file in one.files] or [0]
    return {"pieces_cpu_s": sum(cpu), "largest_cpu_s": max(cpu), "largest_file_bytes": max(files)}


def merge(folders: Sequence[Path], out: Path) -> Figures:
    """`hashbeam merge` of indexes, in a fresh process that is launcher and only worker."""
    watched = in_fresh_process(_merge, [str(one) for one in folders], str(out))
    return facts(out) | {"stages": watched}


def _merge(folders: Sequence[str], out: str) -> Figures:
    written: list[Receipt] = []
    real = Run.write_receipt

    def note(run: Run, receipt: Receipt) -> Receipt:
        written.append(receipt)
        return real(run, receipt)

    Run.write_receipt = note  # type: ignore[method-assign]
    from pipelines.cli import main

    status = main(["merge", *folders, "--out", out, "--workers", "1", "--no-gates", "all"])
    if status:
        raise SystemExit(status)
    pieces = {
        kind: [one for one in written if re.fullmatch(name, one.name)]
        for kind, name in (
            ("parts", r"part-\d+"),
            ("spills", r"s\d+-p\d+"),
            ("shards", r"s\d+-t\d+-k\d+"),
        )
    }
    return {
        kind: {
            "pieces": len(found),
            "bytes": sum(file.bytes for one in found for file in one.files),
            "postings": sum(file.rows for one in found for file in one.files),
        }
        | _largest(found)
        for kind, found in pieces.items()
    }


def rows_of_merge(folders: Sequence[Path], scratch: Path) -> Figures:
    """The catalogue of a merge alone: `merged_rows` and `write_merged`, in a fresh process."""
    figures = in_fresh_process(_rows_of_merge, [str(one) for one in folders], str(scratch))
    with contextlib.suppress(OSError):
        shutil.rmtree(scratch)
    return figures


def _rows_of_merge(folders: Sequence[str], scratch: str) -> Figures:
    sources = []
    for folder in folders:
        manifest = open_manifest(folder)
        sources.append(Source(folder, manifest, manifest.segments))
    tracks = sum(source.tracks for source in sources)
    plan = Plan(FIRST_VERSION, "", "", "", {}, tracks, count_parts(tracks), utc_now())
    run = Run(scratch, plan)
    write_merged(run, merged_rows(sources))
    return {"tracks": tracks, "bytes": sum(io.list_files(run.work).values())}
