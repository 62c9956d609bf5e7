"""``hashbeam info`` shows what an index holds; ``hashbeam verify`` reads and checks all of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from hashing.errors import HashbeamError, IndexFormatError
from hashing.matrix import CodeMatrix
from hashing.shards import Shard
from pipelines import io, parquet
from pipelines.options import add_output_arguments
from pipelines.progress import shows_progress
from pipelines.versions import ARTIST_EMBEDDINGS, FileEntry, Manifest, open_manifest

DESCRIPTION = """\
hashbeam info INDEX     shows the published version: model, tracks, hours, tables, files.
hashbeam verify INDEX   reads every file of it and compares size, SHA-256, rows, shards, code
                        matrices and model; lists every problem and ends with status 1 where there
                        is one."""


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
        "also": manifest.also,
        "catalog_digest": manifest.catalog_digest,
        "key_bits": manifest.key_bits,
        "n_tables": manifest.n_tables,
        "compared": manifest.compared,
        "snippet_hop_s": manifest.snippet_hop_s,
        "segments": len(manifest.segments),
        **manifest.counters,
        "kinds": kinds,
    }


def verify_index(index: str, manifest: Manifest, *, show_progress: bool = False) -> list[str]:
    """Reads every file that a manifest names; one line for each problem, none where all is well."""
    from tqdm import tqdm

    problems = list(_check_coverage(manifest))
    reader = _Reader(index, manifest)
    total = sum(manifest.files.column("bytes"))
    with tqdm(total=total, unit="B", unit_scale=True, disable=not show_progress) as bar:
        for entry in manifest.files:
            try:
                problems += reader.check(entry)
            except HashbeamError as error:
                problems.append(str(error))
            bar.update(entry.bytes)
    return problems + list(reader.check_widths())


def _check_coverage(manifest: Manifest) -> Iterator[str]:
    """Whether the files make whole tables, and hold as many snippets as they should."""
    tables = manifest.files.select(kind="tables")
    embedded = sum(manifest.files.select(kind=ARTIST_EMBEDDINGS).column("rows"))
    expected = manifest.counters.get("tracks_embedded", 0)
    if embedded != expected:
        yield f"{ARTIST_EMBEDDINGS} of {embedded} rows in the manifest, expected {expected}"
    for segment in manifest.segments:
        where = f"segment {segment.id}"
        numbers = sum(segment.part_gids)
        wanted = {"codes": segment.snippets, "tracks": segment.tracks, "matrices": numbers}
        wanted[manifest.compared] = segment.snippets
        for kind, expected in wanted.items():
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
            postings = sum(shards.column("rows"))
            # Soft assignment gives a snippet one posting or more.
            wrong = postings < segment.snippets
            if wrong or (manifest.replication == 1 and postings != segment.snippets):
                yield f"{where}, table {table}: {postings} postings, expected {segment.snippets}"


class _Reader:
    """Reads the files of a version, and keeps what of them must fit together."""

    def __init__(self, index: str, manifest: Manifest) -> None:
        self._index, self._manifest = index, manifest
        self._gids = {segment.id: sum(segment.part_gids) for segment in manifest.segments}
        columns = ("segment", "part", "rows")
        self._snippets = {
            (segment, part): rows
            for segment, part, rows in manifest.files.tuples(*columns, kind="codes")
        }
        self._shards = {
            (segment, part): path
            for path, segment, part in manifest.files.tuples(
                "path", "segment", "part", kind=manifest.compared
            )
        }
        self._widths: dict[str, int] = {}  # bytes of a code, embedding or row, by file

    def check(self, entry: FileEntry) -> Iterator[str]:
        """What is wrong with one file; raises `HashbeamError` where it cannot be read."""
        path = io.join(self._index, entry.path)
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
            kinds = {"tables": self._check_shard, "matrices": self._check_matrix}
            check = kinds.get(entry.kind, self._check_rows)
            try:
                problems = check(entry, local)
            except HashbeamError as error:
                problems = [str(error)]
            yield from (problem.replace(local, path) for problem in problems)

    def check_widths(self) -> Iterator[str]:
        """Matrices whose rows are not as long as what they hold; after all files were checked."""
        compared = self._manifest.compared
        expected = {
            self._widths[path]
            for (path,) in self._manifest.files.tuples("path", kind=compared)
            if path in self._widths
        }
        for (path,) in self._manifest.files.tuples("path", kind="matrices"):
            width = self._widths.get(path)
            if width is not None and expected and expected != {width}:
                found = ", ".join(map(str, sorted(expected)))
                where = io.join(self._index, path)
                yield f"{where} has rows of {width} bytes, but {compared} have {found}"

    def _check_shard(self, entry: FileEntry, local: str) -> list[str]:
        shard = Shard.open(local)
        problems = shard.verify(None if entry.segment is None else self._gids.get(entry.segment))
        place = ("segment", "table", "key_lo", "key_hi")
        found = tuple(getattr(shard.header, name) for name in place)
        expected = tuple(getattr(entry, name) for name in place)
        if found != expected or shard.header.key_bits != self._manifest.key_bits:
            is_of = dict(zip(place, found, strict=True))
            problems.append(f"{local} is of {is_of}, expected {expected}")
        return problems + _compare(local, "rows", shard.header.postings, entry.rows)

    def _check_matrix(self, entry: FileEntry, local: str) -> list[str]:
        place = (entry.segment, entry.part)
        shard = self._shards.get(place)
        if shard is None:
            return [f"{local} has no {self._manifest.compared} beside it"]
        shard = io.join(self._index, shard)
        with io.local_copy(shard) as beside:
            try:
                matrix = CodeMatrix.open(local, beside)
                self._widths[entry.path] = matrix.width
                snippets = self._snippets.get(place, 0)
                problems = [
                    *_compare(local, "rows", matrix.n, entry.rows),
                    *_compare(local, "snippets", matrix.n_present, snippets),
                ]
                column = "code" if self._manifest.compared == "codes" else "embedding"
                if not problems and not _same_rows(matrix, beside, column):
                    problems = [f"{local} finds other rows in {shard} than stand there"]
            except IndexFormatError as error:
                problems = [str(error).replace(beside, shard)]
        return problems

    def _check_rows(self, entry: FileEntry, local: str) -> list[str]:
        import pyarrow.parquet as pq

        rows = parquet.read_table(local, ["track_id"]).num_rows
        for field in pq.read_schema(local):
            kind = field.type
            if field.name == "code":
                self._widths[entry.path] = kind.byte_width
            elif field.name == "embedding":
                self._widths[entry.path] = kind.list_size * kind.value_type.bit_width // 8
        stamp, digest = "hasher_digest", self._manifest.model["digest"]
        if entry.kind == ARTIST_EMBEDDINGS:
            stamp = "model_digest"
            digest = self._manifest.also.get("artist", {}).get("digest", "")
        made_by = parquet.read_metadata(local).get(stamp, "")
        problems = []
        if made_by != digest:
            problems.append(f"{local} was made by model {made_by[:12]}, the index by {digest[:12]}")
        return problems + _compare(local, "rows", rows, entry.rows)


def _same_rows(matrix: CodeMatrix, shard: str, column: str) -> bool:
    """Whether a matrix finds in a shard what Parquet reads there.

    True where widths differ, or where the shard is damaged: other checks tell that.
    """
    from pipelines.plain import rows_of

    try:
        expected = rows_of(parquet.read_table(shard, [column])[column])
    except IndexFormatError:
        return True
    found, present = matrix.rows(np.arange(matrix.n))
    return matrix.width != expected.shape[1] or np.array_equal(found[present], expected)


def _compare(path: str, what: str, found: int, expected: int) -> list[str]:
    return [] if found == expected else [f"{path} has {found} {what}, expected {expected}"]


def _as_text(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['index']}: version {facts['version']} of {facts['created']}",
        f"  model {facts['model']['name']} ({facts['model']['digest'][:12]})",
        f"  {facts['tracks_hashed']} of {facts['tracks']} tracks, {facts['audio_s'] / 3600:.2f} h, "
        f"{facts['snippets']} snippets every {facts['snippet_hop_s']:g} s, "
        f"{facts['tracks_failed']} failed",
        f"  {facts['n_tables']} tables of {facts['key_bits']} bits in {facts['segments']} segments",
        f"  queries are compared with {facts['compared']}",
        *(
            f"  {name} embeddings by model {model['name']} ({model['digest'][:12]})"
            for name, model in facts["also"].items()
        ),
    ]
    for kind, counts in facts["kinds"].items():
        size = f"{counts['bytes'] / 1e6:.1f} MB"
        lines.append(f"  {kind}: {counts['files']} files, {counts['rows']} rows, {size}")
    return "\n".join(lines)


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(sys.argv[1:]))
