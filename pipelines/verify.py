"""``hashbeam verify``: reads every file of an index and checks it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hashing.errors import HashbeamError, IndexFormatError
from hashing.matrix import CodeMatrix
from hashing.shards import Shard
from pipelines import io, parquet
from pipelines.also import ALSO
from pipelines.coverage import check_coverage
from pipelines.opened import SPANS
from pipelines.options import add_output_arguments
from pipelines.progress import shows_progress
from pipelines.stores import in_turn, is_remote
from pipelines.versions import FileEntry, Manifest, folder_of, open_manifest

Ints = npt.NDArray[np.int64]

# Files of an object store that are read side by side. Each is copied to the disk, up to 100 MB,
# and so few of them take in what a network brings.
COPIES = 8

DESCRIPTION = """\
Read every file of the published version of an index, and compare size, SHA-256, rows, shards, code
matrices and model; list every problem, and end with status 1 where there is one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``hashbeam verify``."""
    parser.add_argument("index", metavar="INDEX", help="the folder that `hashbeam index` wrote")
    add_output_arguments(parser)


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam verify``: 0 only where nothing is wrong."""
    manifest = open_manifest(args.index)
    show = shows_progress(quiet=args.quiet, asked=args.progress)
    problems = verify_files(args.index, manifest, show_progress=show)
    entries = manifest.entries()
    total = sum(entry.bytes for entry in entries)
    if args.json:
        found = {"files": len(entries), "bytes": total, "problems": problems}
        print(json.dumps({"index": args.index, "version": manifest.version, **found}))
    else:
        print("\n".join(problems) or f"{args.index}: version {manifest.version} is whole")
        print(f"{len(entries)} files, {total / 1e6:.1f} MB")
    if problems:
        raise HashbeamError(
            f"{args.index}: {len(problems)} problems, the first: {problems[0]}; restore these "
            "files from a copy, or build the index anew with `hashbeam index`"
        )
    return 0


def verify_files(
    index: str,
    manifest: Manifest,
    *,
    own_only: str | None = None,
    most_bytes: int | None = None,
    show_progress: bool = False,
) -> list[str]:
    """Reads the files that a manifest names; one line for each problem, none where all is well.

    Args:
        own_only: a version, of whose files alone the bytes are read: those in its own folder. What
            the manifest itself tells is checked of all, but not whether a removed track was there.
        most_bytes: where the files have more, of a seeded sample so much is read.
    """
    from tqdm import tqdm

    problems = list(check_coverage(manifest))
    reader = _Reader(index, manifest, whole=own_only is None)
    entries = manifest.entries()
    if own_only is not None:
        entries = [entry for entry in entries if entry.path.startswith(folder_of(own_only))]
    total = sum(entry.bytes for entry in entries)
    if most_bytes is not None and total > most_bytes:
        entries = _sample(entries, most_bytes)
        total = sum(entry.bytes for entry in entries)
    with tqdm(total=total, unit="B", unit_scale=True, disable=not show_progress) as bar:
        found = in_turn(reader.problems, entries, is_remote(index), COPIES)
        for entry, told in zip(entries, found, strict=True):
            problems += told
            bar.update(entry.bytes)
    return problems + list(reader.check_widths()) + list(reader.check_removed())


def _sample(entries: list[FileEntry], most_bytes: int) -> list[FileEntry]:
    chosen, held = list[FileEntry](), 0
    for place in np.random.default_rng(0).permutation(len(entries)).tolist():
        if held + entries[place].bytes <= most_bytes:
            chosen.append(entries[place])
            held += entries[place].bytes
    return chosen


class _Reader:
    """Reads the files of a version, and keeps what of them must fit together."""

    def __init__(self, index: str, manifest: Manifest, whole: bool) -> None:
        self._index, self._manifest, self._whole = index, manifest, whole
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
        self._part_gids: dict[tuple[int | None, int | None], int] = {
            (segment.id, segment.first_part + at): gids
            for segment in manifest.segments
            for at, gids in enumerate(segment.part_gids)
        }
        # Of segments that have removals: ordinals of their tracks, and those that were removed.
        self._ordinals: dict[int, list[Ints]] = {
            segment.id: [] for segment in manifest.segments if segment.removals
        }
        self._removed: dict[str, Ints] = {}  # by file
        self._widths: dict[str, int] = {}  # bytes of a code, embedding or row, by file

    def problems(self, entry: FileEntry) -> list[str]:
        """`check`, and why a file cannot be read; may be asked of several files at once."""
        try:
            return list(self.check(entry))
        except HashbeamError as error:
            return [str(error)]

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
            kinds = {
                "tables": self._check_shard,
                "matrices": self._check_matrix,
                "tracks": self._check_tracks,
                "removals": self._check_removals,
            }
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

    def check_removed(self) -> Iterator[str]:
        """Removed tracks that were never there; after all files of the version were checked."""
        for segment in self._manifest.segments if self._whole else ():
            entry = segment.removals
            if entry is None or entry.path not in self._removed:
                continue
            known = np.concatenate([np.empty(0, np.int64), *self._ordinals[segment.id]])
            if known.size != segment.tracks:
                continue  # a file of tracks is damaged: that is among the problems
            unknown = np.setdiff1d(self._removed[entry.path], known)
            if unknown.size:
                where = io.join(self._index, entry.path)
                yield (
                    f"{where} names {unknown.size} tracks that segment {segment.id} does not have, "
                    f"the first: {unknown[0]}"
                )

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

    def _check_tracks(self, entry: FileEntry, local: str) -> list[str]:
        problems = self._check_rows(entry, local)
        table = parquet.read_table(local, ["ordinal", "gids"])
        ordinals, gids = (column.to_numpy().astype(np.int64) for column in table.columns)
        if not problems and self._whole and entry.segment in self._ordinals:
            self._ordinals[entry.segment].append(ordinals)
        if (np.diff(ordinals) <= 0).any():
            problems.append(f"{local} has ordinals that do not rise")
        expected = self._part_gids.get((entry.segment, entry.part))
        if expected is None:
            return [*problems, f"{local} is of no part of segment {entry.segment}"]
        return problems + _compare(local, "snippet numbers", int(gids.sum()), expected)

    def _check_removals(self, entry: FileEntry, local: str) -> list[str]:
        table = parquet.read_table(local, ["ordinal", *SPANS])
        ordinals, firsts, ends, snippets = (
            column.to_numpy().astype(np.int64) for column in table.columns
        )
        problems = _compare(local, "rows", ordinals.size, entry.rows)
        if (np.diff(ordinals) <= 0).any():
            problems.append(f"{local} has ordinals that are not in order, or one of them twice")
        numbers = self._gids.get(entry.segment or 0, 0)
        apart = (firsts >= 0) & (ends <= numbers) & (snippets > 0) & (snippets <= ends - firsts)
        if not apart.all() or (firsts[1:] < ends[:-1]).any():
            problems.append(
                f"{local} gives removed tracks snippet numbers that segment {entry.segment} does "
                "not have, or two of them the same"
            )
        self._removed[entry.path] = ordinals
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
        for one in ALSO.values():
            if entry.kind == one.files:
                stamp = "model_digest"
                digest = self._manifest.also.get(one.name, {}).get("digest", "")
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


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["verify", *sys.argv[1:]]))
