"""The files of a part: codes, embeddings, code matrix, tracks, what is beside, and failures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.encoders import Hasher, TrackCodes
from hashing.matrix import write_matrix
from pipelines import io, parquet
from pipelines.also import ALSO
from pipelines.also_files import FILES
from pipelines.file_state import FILE_STATE, FileState
from pipelines.plain import write_plain
from pipelines.runs import Run
from pipelines.track_tables import TRACK_FAILURES, tracks_table
from pipelines.versions import FORMAT_VERSION, FileEntry


@dataclasses.dataclass(frozen=True)
class Hashed:
    """A track with codes: its place in the part, its codes, and its file as it was.

    `beside` has what was made beside them, or the `AudioError` that says why there is nothing, by
    kind (`pipelines.also.ALSO`) of those that were asked for.
    """

    row: int
    codes: TrackCodes
    file: FileState
    beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def gids(self) -> int:
        """Snippet numbers that the track takes up: silent snippets have a number and no code."""
        return int(self.codes.snippet[-1]) + 1


def part_name(part: int) -> str:
    """The name of a part's receipt: ``part-00012``."""
    return f"part-{part:05d}"


def beside_path(run: Run, name: str, part: int, attempt: str) -> str:
    """Where an attempt writes what a part has of the kind `name` beside codes."""
    one = ALSO[name]
    return run.attempt_path(one.folder, f"{part_name(part)}{one.mark}", attempt, ".parquet")


@dataclasses.dataclass(frozen=True)
class PartFiles:
    """Writes the files of one attempt at a part, each once, and tells their entries.

    Attributes:
        part: its number.
        tracks: the rows of the catalogue that make the part.
        hasher: whose codes they are.
    """

    run: Run
    part: int
    attempt: str
    tracks: pa.Table
    hasher: Hasher

    def write_hashed(
        self, hashed: Sequence[Hashed], first: int, *, embeddings: bool
    ) -> list[FileEntry]:
        """Everything that look-up needs of tracks, one or more of them.

        Args:
            first: ordinal of the part's first row.
            embeddings: keep those of snippets, and compare queries with them.
        """
        codes = self._codes_table(hashed)
        entry, groups = self._write_plain("codes", codes)
        entries, width = [entry], self.hasher.quantizer.code_bytes
        if embeddings:
            table = _embeddings_table(codes, hashed)
            entry, groups = self._write_plain("embeddings", table)
            entries.append(entry)
            width = 2 * table["embedding"].type.list_size  # float16
        entries.append(self._write_matrix(hashed, width, groups))
        entries.append(self._write("tracks", self._tracks_table(hashed, first)))
        return entries

    def write_beside(self, name: str, kept: Sequence[Any], digest: str) -> FileEntry:
        """What tracks have of one kind beside codes, one or more of them.

        Args:
            name: of the kind.
            kept: as `pipelines.also_files.Files.keep` gave it.
            digest: of its model.
        """
        path = beside_path(self.run, name, self.part, self.attempt)
        info = FILES[name].write(path, self.tracks, kept, digest)
        return self.run.entry(ALSO[name].files, info, part=self.part)

    def write_failures(self, failures: Sequence[dict[str, Any]]) -> FileEntry:
        """Tracks that failed, rows as `TRACK_FAILURES`."""
        return self._write("failures", pa.Table.from_pylist(failures, schema=TRACK_FAILURES))

    def _codes_table(self, hashed: Sequence[Hashed]) -> pa.Table:
        packed = np.concatenate([track.codes.codes for track in hashed])
        snippet = np.concatenate([track.codes.snippet for track in hashed])
        rows = np.repeat(
            [track.row for track in hashed], [len(track.codes.snippet) for track in hashed]
        )
        hop_ms = self.hasher.features.snippet_hop_s * 1000
        start_ms = np.rint(snippet * hop_ms).astype(np.int32)
        code = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(self.hasher.quantizer.code_bytes), len(packed), [None, pa.py_buffer(packed)]
        )
        return pa.table(
            {
                "track_id": self.tracks["track_id"].combine_chunks().take(pa.array(rows)),
                "snippet": pa.array(snippet, pa.int32()),
                "start_ms": pa.array(start_ms, pa.int32()),
                "code": code,
            }
        )

    def _tracks_table(self, hashed: Sequence[Hashed], first: int) -> pa.Table:
        kept = self.tracks.take(pa.array([track.row for track in hashed]))
        measured: dict[str, Any] = {
            "ordinal": [first + track.row for track in hashed],
            "snippets": [len(track.codes.snippet) for track in hashed],
            "gids": [track.gids for track in hashed],
            "duration_s": [track.codes.duration_s for track in hashed],
            **{name: [getattr(track.file, name) for track in hashed] for name in FILE_STATE},
        }
        return tracks_table(kept, measured)

    def _write_matrix(
        self, hashed: Sequence[Hashed], width: int, groups: list[tuple[int, int]]
    ) -> FileEntry:
        """Where look-up finds the rows that it compares queries with, by snippet number."""
        gids = np.array([track.gids for track in hashed])
        firsts = np.cumsum(gids) - gids
        numbers = np.concatenate(
            [track.codes.snippet + first for track, first in zip(hashed, firsts, strict=True)]
        )
        with io.open_write(self._path("matrices", ".hbm")) as file:
            write_matrix(file, width, groups, numbers, int(gids.sum()))
        return self.run.entry("matrices", file.info, rows=int(gids.sum()), part=self.part)

    def _write(self, kind: str, table: pa.Table) -> FileEntry:
        info = parquet.write_table(
            self._path(kind, ".parquet"), table, metadata=self._stamp, use_dictionary=False
        )
        return self.run.entry(kind, info, part=self.part)

    def _write_plain(self, kind: str, table: pa.Table) -> tuple[FileEntry, list[tuple[int, int]]]:
        """A table whose last column is read from the file as it lies there, and where it lies."""
        info, groups = write_plain(self._path(kind, ".parquet"), table, self._stamp)
        return self.run.entry(kind, info, part=self.part), groups

    def _path(self, kind: str, suffix: str) -> str:
        return self.run.attempt_path(kind, part_name(self.part), self.attempt, suffix)

    @property
    def _stamp(self) -> dict[str, str]:
        return stamp(self.hasher.digest)


def stamp(hasher_digest: str) -> dict[str, str]:
    """What stands in the schema of every Parquet file of a part."""
    return {"hashbeam_format": str(FORMAT_VERSION), "hasher_digest": hasher_digest}


def _embeddings_table(codes: pa.Table, hashed: Sequence[Hashed]) -> pa.Table:
    found: Any = [track.codes.embeddings for track in hashed]
    values = np.concatenate(found)
    flat = pa.array(values.reshape(-1), pa.float16())
    embedding = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return codes.drop_columns(["code"]).append_column("embedding", embedding)
