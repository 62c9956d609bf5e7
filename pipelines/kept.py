"""Tracks of a published version, taken over into another segment without decoding them.

What a run goes through are rows of a catalogue. A row that has the columns of `KEPT` names a track
of a version whose codes are still right: of a file that is known under another track_id now, or in
a segment that is merged with others. It is read here, and written as if it had just been hashed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.encoders import Hasher, TrackCodes
from hashing.errors import IndexFormatError
from pipelines import io, parquet
from pipelines.also import ALSO
from pipelines.also_files import FILES, Find
from pipelines.file_state import FILE_STATE, FileState
from pipelines.part_files import Hashed
from pipelines.plain import rows_of
from pipelines.track_tables import catalog_rows, unite
from pipelines.versions import Manifest, open_manifest

# Columns that a run's catalogue may have beside its owner's: where the codes of a track are. All
# null: it is to be decoded. The time is that of its file now, null where it is as it was.
KEPT = {
    "hashbeam_source": pa.int32(),
    "hashbeam_segment": pa.int32(),
    "hashbeam_part": pa.int32(),
    "hashbeam_ordinal": pa.uint32(),
    "hashbeam_mtime": pa.float64(),
}
# Bytes of the parts that are kept in memory: one or two of each segment that is merged, of at most
# 20 MB each in the largest segments (2,442 tracks) and of little in all others.
CACHED_BYTES = 256_000_000


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a track's codes are: number of the source, segment, part and ordinal there.

    `mtime` is the time of its file now, Unix seconds; None: as it was.
    """

    source: int
    segment: int
    part: int
    ordinal: int
    mtime: float | None = None


@dataclasses.dataclass(frozen=True)
class _Part:
    """A part of a version in memory.

    `firsts` are the first rows of codes of its tracks, `files` what was seen of their files,
    `beside` finds what they have beside codes, by kind, and `bytes` is about what all of it takes.
    """

    ordinals: Any
    firsts: Any
    tracks: pa.Table
    track_ids: list[str]
    durations_s: list[float]
    files: list[FileState]
    snippet: Any
    codes: Any
    embeddings: Any
    beside: Mapping[str, Find]
    bytes: int


class KeptTracks:
    """Reads tracks of published versions, part by part.

    Args:
        sources: index and version of each source.
        hasher: makes the codes anew, of the embeddings that a source keeps, where another model
            made them; None: they are taken as they are.
        also: kinds beside codes that are wanted.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, str]],
        hasher: Hasher | None = None,
        also: Collection[str] = tuple(ALSO),
    ) -> None:
        self._sources, self._hasher, self._also = sources, hasher, also
        self._manifest = functools.lru_cache(maxsize=None)(self._open)
        self._parts = OrderedDict[tuple[int, int, int], _Part]()  # used last at the end

    def take(self, row: int, place: Place) -> Hashed:
        """A track as if it had just been hashed, for row `row` of the part that takes it over.

        Raises: IndexFormatError where it is not there, or a file is damaged.
        """
        part = self._part(place.source, place.segment, place.part)
        (at,) = self._find(part, [place])
        first, end = part.firsts[at : at + 2]
        file = part.files[at]
        if place.mtime is not None:
            file = dataclasses.replace(file, mtime=place.mtime)
        embeddings = None if part.embeddings is None else part.embeddings[first:end]
        codes = part.codes[first:end]
        if self._hasher is not None:
            if embeddings is None:
                index, version = self._sources[place.source]
                raise IndexFormatError(f"{index}: version {version} keeps no embeddings")
            codes = self._hasher.codes_of(embeddings)
        track = TrackCodes(codes, part.snippet[first:end], part.durations_s[at], embeddings)
        found = {name: find(part.track_ids[at]) for name, find in part.beside.items()}
        beside = {name: made for name, made in found.items() if made is not None}
        return Hashed(row, track, file, beside)

    def rows(self, places: Sequence[Place | None]) -> pa.Table:
        """What the catalogue of its time says of tracks, a row each.

        Raises: IndexFormatError as `take`.
        """
        chosen: dict[tuple[int, int, int], list[int]] = {}
        for row, place in enumerate(places):
            assert place is not None  # a run that takes over decodes nothing
            chosen.setdefault((place.source, place.segment, place.part), []).append(row)
        tables, order = [], list[int]()
        for where, rows in chosen.items():
            part = self._part(*where)
            at = self._find(part, [place for row in rows if (place := places[row]) is not None])
            tables.append(catalog_rows(part.tracks.take(pa.array(at))))
            order += rows
        return unite(tables).take(pa.array(np.argsort(order)))

    def _find(self, part: _Part, places: Sequence[Place]) -> Any:
        """Where tracks of a part stand in it, [places]."""
        ordinals = np.array([place.ordinal for place in places])
        at = np.searchsorted(part.ordinals, ordinals)
        missing = np.append(part.ordinals, -1)[at] != ordinals
        if missing.any():
            place = places[int(np.argmax(missing))]
            index, version = self._sources[place.source]
            raise IndexFormatError(
                f"{index}: part {place.part} of segment {place.segment} of version {version} has "
                f"no track {place.ordinal}; run `hashbeam verify` on it"
            )
        return at

    def _part(self, source: int, segment: int, part: int) -> _Part:
        where = source, segment, part
        found = self._parts.pop(where, None) or self._read(*where)
        self._parts[where] = found
        while (
            len(self._parts) > 1 and sum(one.bytes for one in self._parts.values()) > CACHED_BYTES
        ):
            self._parts.popitem(last=False)
        return found

    def _open(self, source: int) -> tuple[Manifest, dict[tuple[str, int, int], str]]:
        index, version = self._sources[source]
        manifest = open_manifest(index, version)
        files = manifest.files.tuples("kind", "segment", "part", "path")
        return manifest, {(kind, segment, part): path for kind, segment, part, path in files}

    def _read(self, source: int, segment: int, part: int) -> _Part:
        manifest, paths = self._manifest(source)
        index, _ = self._sources[source]

        def read(kind: str, *columns: str) -> pa.Table | None:
            path = paths.get((kind, segment, part))
            if path is None:
                return None
            found = parquet.read_table(io.join(index, path), columns or None, small=True)
            return found.combine_chunks()

        tracks, codes = read("tracks"), read("codes", "snippet", "code")
        if tracks is None or codes is None:
            raise IndexFormatError(
                f"{index}: part {part} of segment {segment} of version {manifest.version} has no "
                "tracks or no codes; run `hashbeam verify` on it"
            )
        tables, embeddings = [tracks, codes], None
        if manifest.compared == "embeddings":
            table = read("embeddings", "embedding")
            assert table is not None
            tables.append(table)
            embeddings = rows_of(table["embedding"]).view(np.float16)
        counts = tracks["snippets"].to_numpy().astype(np.int64)
        beside = {
            name: FILES[name].open(io.join(index, path))
            for name in self._also
            if (path := paths.get((ALSO[name].files, segment, part))) is not None
        }
        files = zip(*(tracks[name].to_pylist() for name in FILE_STATE), strict=True)
        return _Part(
            tracks["ordinal"].to_numpy().astype(np.int64),
            np.concatenate(([0], np.cumsum(counts))),
            tracks,
            tracks["track_id"].to_pylist(),
            tracks["duration_s"].to_pylist(),
            [FileState(**dict(zip(FILE_STATE, file, strict=True))) for file in files],
            codes["snippet"].to_numpy(),
            rows_of(codes["code"]),
            embeddings,
            beside,
            sum(table.nbytes for table in tables),
        )


def places_of(tracks: pa.Table) -> tuple[pa.Table, list[Place | None]]:
    """The rows of a run's catalogue without the columns of `KEPT`, and what those say of each."""
    own = tracks.drop_columns([name for name in KEPT if name in tracks.column_names])
    if not set(KEPT) <= set(tracks.column_names):
        return own, [None] * tracks.num_rows
    rows = zip(*(tracks[name].to_pylist() for name in KEPT), strict=True)
    return own, [None if row[0] is None else Place(*row) for row in rows]
