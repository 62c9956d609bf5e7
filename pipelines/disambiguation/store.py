"""Artist embeddings on disk, ``embeddings/part-*.parquet``: a row a track, reused while it holds.

An index that was asked for them (``hashbeam index --also artist``) has files of the same form.

A row holds while the track is what it was (`uri`, `etag`; of local files size and time as well)
and the model is the same: its digest stands in the schema of the file. Files of other models are
passed over. A file is written whole under a name of its own, so that any that can be read counts,
and a run that was stopped goes on with the tracks that no file has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.artists.decoder import HeardTrack
from hashing.artists.measures import MEASURES
from hashing.errors import AudioError, IndexFormatError, UsageError
from pipelines import io, parquet
from pipelines.io import FileInfo
from pipelines.runs import new_attempt
from pipelines.stores import is_remote, local
from pipelines.versions import ARTIST_EMBEDDINGS, Manifest, current_version, open_manifest

FORMAT_VERSION = 1
FOLDER = "embeddings"

# Columns of the measures, with their units: "loudness dB".
MEASURE_COLUMNS = tuple(f"{name} {unit}" for name, unit in MEASURES.items())

_IDENTITY = ("track_id", "uri", "etag", "size", "mtime", "duration_s")
Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Heard:
    """A track that was heard: its row in the catalogue, what was heard, and its file as it was.

    `measures` are those of `hashing.artists.measures.MEASURES`.
    """

    row: int
    embedding: Floats
    measures: Floats
    duration_s: float
    segments: int
    size: int | None
    mtime: float | None


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where the embeddings of a catalogue's tracks are.

    Attributes:
        paths: files of embeddings.
        file: int32 [tracks], which of them a track is in; -1: in none.
        place: int64 [tracks], its row there.
        duration_s: float32 [tracks], how long a track is.
        measures: float32 [tracks, measures], NaN where they are not known.
        dimensions: numbers of an embedding; 0 where there is no file.
    """

    paths: list[str]
    file: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64]
    duration_s: Floats
    measures: Floats
    dimensions: int

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """bool [tracks]: whether a track has an embedding."""
        return self.file >= 0


def as_heard(row: int, uri: str, found: HeardTrack, size: int | None, mtime: float | None) -> Heard:
    """What is kept of a track that was heard; `size` and `mtime` are those of its file.

    Raises: AudioError where its embedding is no number.
    """
    track = found.track
    embedding = np.asarray(track.embedding, np.float32)
    if not np.isfinite(embedding).all():
        raise AudioError("unreadable", f"{uri} is damaged: its embedding is no number")
    # The time of a temporary copy says nothing about the file that it was made from.
    kept = None if is_remote(uri) else mtime
    return Heard(row, embedding, found.measures, track.duration_s, track.n_segments, size, kept)


def write_embeddings(
    path: str, tracks: pa.Table, heard: Sequence[Heard], digest: str, counters: dict[str, str]
) -> FileInfo:
    """Writes the embeddings of some tracks; `tracks` are rows of the catalogue."""
    rows = pa.array([track.row for track in heard], pa.int64())
    values = np.stack([track.embedding for track in heard]).astype(np.float32)
    measures = np.stack([track.measures for track in heard]).astype(np.float32)
    etag = tracks["etag"] if "etag" in tracks.column_names else pa.nulls(len(tracks), pa.string())
    table = pa.table(
        {
            "track_id": tracks["track_id"].take(rows),
            "uri": tracks["uri"].take(rows),
            "etag": etag.cast(pa.string()).take(rows),
            "size": pa.array([track.size for track in heard], pa.int64()),
            "mtime": pa.array([track.mtime for track in heard], pa.float64()),
            "duration_s": pa.array([track.duration_s for track in heard], pa.float64()),
            "segments": pa.array([track.segments for track in heard], pa.int32()),
            **dict(zip(MEASURE_COLUMNS, map(pa.array, measures.T), strict=True)),
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(values.reshape(-1), pa.float32()), values.shape[1]
            ),
        }
    )
    stamp = {"hashbeam_format": str(FORMAT_VERSION), "model_digest": digest, **counters}
    return parquet.write_table(path, table, metadata=stamp, use_dictionary=False)


def check_index(index: str, digest: str) -> str:
    """Why nothing of ``--index`` can be reused, in one line; "" where something may be.

    Args:
        digest: of the artist model that is to be used.

    Raises: UsageError where there is neither an index nor a folder of results; IndexFormatError
        where an index is damaged.
    """
    if current_version(index) is None:
        if not io.is_dir(io.join(index, FOLDER)):
            raise UsageError(
                f"--index: {index} holds neither a published index nor results of disambiguate; "
                "name another folder, or leave the flag out"
            )
        return ""
    return _why_not(index, open_manifest(index), digest)


def _why_not(index: str, manifest: Manifest, digest: str) -> str:
    made_by = manifest.also.get("artist")
    if made_by is None:
        return f"{index} has no artist embeddings: `hashbeam index --also artist` makes some"
    if made_by["digest"] != digest:
        return (
            f"{index} has artist embeddings of model {made_by['name']} with digest "
            f"{made_by['digest'][:12]}, not {digest[:12]}: all tracks are heard"
        )
    return ""


def embedding_files(folder: str) -> list[str]:
    """The files that may hold artist embeddings in a folder of results, or in an index.

    Raises: IndexFormatError where an index is damaged.
    """
    if current_version(folder) is None:
        place = io.join(folder, FOLDER)
        return [io.join(place, name) for name in io.list_dir(place) if name.endswith(".parquet")]
    files = open_manifest(folder).files.select(kind=ARTIST_EMBEDDINGS)
    return [io.join(folder, path) for path in files.column("path")]


def find_stored(files: Sequence[str], catalog: pa.Table, digest: str) -> Stored:
    """Where the embeddings are that still hold, in these files; of several the first counts.

    Args:
        files: from `embedding_files`; those of another kind or model are passed over.
        catalog: as from `pipelines.catalog.read_catalog`.
        digest: of the model.
    """
    row_of = {track_id: row for row, track_id in enumerate(catalog["track_id"].to_pylist())}
    uris = catalog["uri"].to_pylist()
    etags: Sequence[str | None] = [None] * len(uris)
    if "etag" in catalog.column_names:
        etags = catalog["etag"].cast(pa.string()).to_pylist()
    file = np.full(len(uris), -1, np.int32)
    place = np.zeros(len(uris), np.int64)
    duration_s = np.zeros(len(uris), np.float32)
    measures = np.full((len(uris), len(MEASURES)), np.nan, np.float32)
    paths: list[str] = []
    dimensions = 0
    for path in files:
        width = _width(path, digest)
        if not width or (dimensions and width != dimensions):
            continue
        dimensions = width
        paths.append(path)
        table = parquet.read_table(path, [*_IDENTITY, *MEASURE_COLUMNS])
        sounds = np.stack([table[name].to_numpy() for name in MEASURE_COLUMNS], axis=1)
        for at, stored in enumerate(table.select(_IDENTITY).to_pylist()):
            row = row_of.get(stored["track_id"], -1)
            if row < 0 or file[row] >= 0:
                continue
            if stored["uri"] == uris[row] and stored["etag"] == etags[row] and _unchanged(stored):
                file[row], place[row] = len(paths) - 1, at
                duration_s[row], measures[row] = stored["duration_s"], sounds[at]
    return Stored(paths, file, place, duration_s, measures, dimensions)


def read_embeddings(stored: Stored, out: Floats) -> npt.NDArray[np.bool_]:
    """Fills `out` [tracks, dimensions] file by file; returns which rows are good numbers.

    Only one file is in memory at a time, so `out` may be mapped from a disk.
    """
    good = np.zeros(len(out), bool)
    for number, path in enumerate(stored.paths):
        rows = np.flatnonzero(stored.file == number)
        if rows.size:
            column = parquet.read_table(path, ["embedding"])["embedding"].combine_chunks()
            values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
            chosen = values[stored.place[rows]]
            good[rows] = np.isfinite(chosen).all(axis=1)
            out[rows] = chosen
    return good


def adopt(stored: Stored, folder: str, others: Sequence[str]) -> None:
    """Copies the rows that hold of `others` (files) into a folder of results.

    So that the next run finds them there, whatever becomes of where they were.
    """
    for number, path in enumerate(stored.paths):
        rows = np.sort(stored.place[stored.file == number])
        if path in others and rows.size:
            table = parquet.read_table(path)
            kept = table.take(pa.array(rows))
            target = io.join(folder, FOLDER, f"part-{new_attempt()}.parquet")
            parquet.write_table(target, kept, use_dictionary=False)


def forget_stale(stored: Stored, folder: str) -> None:
    """Deletes the files in a folder of results that no track of the catalogue needs any more."""
    used = {stored.paths[number] for number in np.unique(stored.file[stored.found]).tolist()}
    for path in embedding_files(folder):
        if path not in used:
            io.remove(path)


def file_state(uri: str) -> tuple[int | None, float | None]:
    """Size in bytes and time of change of a local file; nothing of one that is not there."""
    if not is_remote(uri):
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(local(uri))
            return status.st_size, status.st_mtime
    return None, None


def _unchanged(stored: dict[str, object]) -> bool:
    uri = str(stored["uri"])
    if is_remote(uri):
        return True  # the catalogue's etag says what is to be said
    return (stored["size"], stored["mtime"]) == file_state(uri) != (None, None)


def _width(path: str, digest: str) -> int:
    """Numbers of an embedding in a file of this model; 0 for any other file, damaged ones too."""
    import pyarrow.parquet as pq

    try:
        if parquet.read_metadata(path).get("model_digest") != digest:
            return 0
        with io.local_copy(path) as copy:
            schema = pq.read_schema(copy)
    except (IndexFormatError, pa.ArrowException):
        return 0  # a file cut short is as good as none: its tracks are heard again
    if not {*_IDENTITY, *MEASURE_COLUMNS} <= set(schema.names) or "embedding" not in schema.names:
        return 0
    kind = schema.field("embedding").type
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 0
