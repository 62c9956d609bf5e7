"""``hashbeam info`` shows what an index holds; ``hashbeam verify`` reads and checks all of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from hashing.errors import HashbeamError
from hashing.shards import Shard
from pipelines import io
from pipelines.options import add_output_arguments
from pipelines.progress import shows_progress
from pipelines.versions import FileEntry, Manifest, open_manifest

DESCRIPTION = """\
hashbeam info INDEX     shows the published version: model, tracks, hours, tables, files.
hashbeam verify INDEX   reads every file of it and compares size, SHA-256, rows, shards and model;
                        lists every problem and ends with status 1 where there is one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam info`` and ``hashbeam verify``."""
    parser.add_argument("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add_output_arguments(parser)


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam info`` or ``hashbeam verify``, by the verb."""
    manifest = open_manifest(args.index)
    if args.verb == "info":
        facts = describe(args.index, manifest)
        print(json.dumps(facts) if args.json else _as_text(facts))
        return 0
    show = shows_progress(quiet=args.quiet, asked=args.progress)
    problems = verify_index(args.index, manifest, show_progress=show)
    total = sum(manifest.files.column("bytes"))
    if args.json:
        found = {"files": len(manifest.files), "bytes": total, "problems": problems}
        print(json.dumps({"index": args.index, "version": manifest.version, **found}))
    else:
        print("\n".join(problems) or f"{args.index}: version {manifest.version} is whole")
        print(f"{len(manifest.files)} files, {total / 1e6:.1f} MB")
    if problems:
        raise HashbeamError(
            f"{args.index}: {len(problems)} problems, the first: {problems[0]}; restore these "
            "files from a copy, or build the index anew with `hashbeam index`"
        )
    return 0


def describe(index: str, manifest: Manifest) -> dict[str, Any]:
    """What a published version holds, from its manifest alone."""
    kinds: dict[str, dict[str, int]] = {}
    columns = (manifest.files.column(name) for name in ("kind", "rows", "bytes"))
    for kind, rows, size in zip(*columns, strict=True):
        of_kind = kinds.setdefault(kind, {"files": 0, "rows": 0, "bytes": 0})
        of_kind["files"] += 1
        of_kind["rows"] += rows
        of_kind["bytes"] += size
    return {
        "index": index,
        "version": manifest.version,
        "parent": manifest.parent,
        "created": manifest.created,
        "format_version": manifest.format_version,
        "model": manifest.model,
        "catalog_digest": manifest.catalog_digest,
        "key_bits": manifest.key_bits,
        "n_tables": manifest.n_tables,
        "snippet_hop_s": manifest.snippet_hop_s,
        "segments": len(manifest.segments),
        **manifest.counters,
        "kinds": kinds,
    }


def verify_index(index: str, manifest: Manifest, *, show_progress: bool = False) -> list[str]:
    """Reads every file that a manifest names; one line for each problem, none where all is well."""
    from tqdm import tqdm

    problems = list(_check_coverage(manifest))
    gids = {segment.id: sum(segment.part_gids) for segment in manifest.segments}
    total = sum(manifest.files.column("bytes"))
    with tqdm(total=total, unit="B", unit_scale=True, disable=not show_progress) as bar:
        for entry in manifest.files:
            try:
                problems += _check_file(index, manifest, entry, gids)
            except HashbeamError as error:
                problems.append(str(error))
            bar.update(entry.bytes)
    return problems


def _check_coverage(manifest: Manifest) -> Iterator[str]:
    """Whether the files make whole tables, and hold as many snippets as they should."""
    tables = manifest.files.select(kind="tables")
    for segment in manifest.segments:
        where = f"segment {segment.id}"
        for kind, expected in (("codes", segment.snippets), ("tracks", segment.tracks)):
            rows = sum(manifest.files.select(kind=kind, segment=segment.id).column("rows"))
            if rows != expected:
                yield f"{where}: {kind} of {rows} rows in the manifest, expected {expected}"
        for table in range(manifest.n_tables):
            shards = tables.select(segment=segment.id, table=table)
            ranges = sorted(zip(shards.column("key_lo"), shards.column("key_hi"), strict=True))
            ends = [0, *(high for _, high in ranges)]
            starts = [*(low for low, _ in ranges), 2**manifest.key_bits]
            if ends != starts:
                yield f"{where}, table {table}: the shards do not cover all keys: {ranges}"
            if sum(shards.column("rows")) != segment.snippets:
                postings = sum(shards.column("rows"))
                yield f"{where}, table {table}: {postings} postings, expected {segment.snippets}"


def _check_file(
    index: str, manifest: Manifest, entry: FileEntry, gids: dict[int, int]
) -> Iterator[str]:
    path = io.join(index, entry.path)
    size = io.file_size(path)
    if size is None:
        yield f"{path} is missing"
        return
    if size != entry.bytes:
        what = "truncated" if size < entry.bytes else "too long"
        yield f"{path} is {what}: {size} bytes, expected {entry.bytes}"
        return
    with io.local_copy(path) as local:
        digest = io.sha256_file(local)
        if digest != entry.sha256:
            yield f"{path} has SHA-256 {digest[:12]}…, expected {entry.sha256[:12]}…"
            return
        if entry.kind == "tables":
            shard = Shard.open(local)
            of_segment = None if entry.segment is None else gids.get(entry.segment)
            yield from (problem.replace(local, path) for problem in shard.verify(of_segment))
            place = ("segment", "table", "key_lo", "key_hi")
            found = tuple(getattr(shard.header, name) for name in place)
            expected = tuple(getattr(entry, name) for name in place)
            rows = shard.header.postings
            if found != expected or shard.header.key_bits != manifest.key_bits:
                yield f"{path} is of {dict(zip(place, found, strict=True))}, expected {expected}"
        else:
            rows = io.read_table(local, ["track_id"]).num_rows
            made_by = io.read_metadata(local).get("hasher_digest", "")
            if made_by != manifest.model["digest"]:
                expected_by = manifest.model["digest"]
                yield f"{path} was made by model {made_by[:12]}, the index by {expected_by[:12]}"
        if rows != entry.rows:
            yield f"{path} has {rows} rows, expected {entry.rows}"


def _as_text(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['index']}: version {facts['version']} of {facts['created']}",
        f"  model {facts['model']['name']} ({facts['model']['digest'][:12]})",
        f"  {facts['tracks_hashed']} of {facts['tracks']} tracks, {facts['audio_s'] / 3600:.2f} h, "
        f"{facts['snippets']} snippets every {facts['snippet_hop_s']:g} s, "
        f"{facts['tracks_failed']} failed",
        f"  {facts['n_tables']} tables of {facts['key_bits']} bits in {facts['segments']} segments",
    ]
    for kind, counts in facts["kinds"].items():
        size = f"{counts['bytes'] / 1e6:.1f} MB"
        lines.append(f"  {kind}: {counts['files']} files, {counts['rows']} rows, {size}")
    return "\n".join(lines)


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(sys.argv[1:]))
