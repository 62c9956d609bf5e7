"""One file of hash sequences, ``sequences/part-*.parquet``: a row a track, in order of track_id.

A row group has few tracks, so that the frames of one recording, most of what a file holds, can be
read without those of the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from hashing.errors import AudioError
from hashing.sequences import TrackSequence
from pipelines import io, parquet
from pipelines.io import FileInfo
from pipelines.versions import FORMAT_VERSION

GROUP_TRACKS = 16  # of a row group: 1.5 MB of frames where a track has four minutes

# Bytes of a frame, in the schema of a file.
_WIDTH = "frame_bytes"


@dataclasses.dataclass(frozen=True)
class Kept:
    """The sequence of a track: its row in the part, and what was heard."""

    row: int
    sequence: TrackSequence


def schema(dimensions: int) -> pa.Schema:
    """The columns of a file whose windows have embeddings of so many numbers.

    >>> schema(128).names
    ['track_id', 'codes', 'embeddings', 'levels']
    """
    return pa.schema(
        {
            "track_id": pa.string(),
            "codes": pa.list_(pa.uint32()),
            "embeddings": pa.list_(pa.list_(pa.float16(), dimensions)),
            "levels": pa.binary(),
        }
    )


def keep(row: int, uri: str, made: TrackSequence) -> Kept:
    """What is kept of a track that was heard; raises AudioError where an embedding is no number."""
    if not np.isfinite(made.embeddings).all():
        raise AudioError("unreadable", f"{uri} is damaged: its embeddings are no numbers")
    return Kept(row, made)


def write_sequences(path: str, tracks: pa.Table, kept: Sequence[Kept], digest: str) -> FileInfo:
    """Writes the sequences of some tracks, one or more of them, in the order of their rows.

    Args:
        tracks: rows of the catalogue.
        digest: of the model.
    """
    import pyarrow.parquet as pq

    first = kept[0].sequence
    own = schema(first.embeddings.shape[1]).with_metadata(
        {
            "hashbeam_format": str(FORMAT_VERSION),
            "model_digest": digest,
            _WIDTH: str(first.levels.shape[1]),
        }
    )
    with (
        io.open_write(path) as file,
        pq.ParquetWriter(file, own, compression="zstd", use_dictionary=False) as writer,
    ):
        for at in range(0, len(kept), GROUP_TRACKS):
            writer.write_table(_table(tracks, kept[at : at + GROUP_TRACKS], own))
    return parquet.with_rows(file.info, len(kept))


def _table(tracks: pa.Table, kept: Sequence[Kept], own: pa.Schema) -> pa.Table:
    found = [one.sequence for one in kept]
    vectors = np.concatenate([one.embeddings for one in found]).astype(np.float16)
    windows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    columns = [
        tracks["track_id"].take(pa.array([one.row for one in kept])).combine_chunks(),
        pa.ListArray.from_arrays(
            _ends([len(one.codes) for one in found]),
            pa.array(np.concatenate([one.codes for one in found])),
        ),
        pa.ListArray.from_arrays(_ends([len(one.embeddings) for one in found]), windows),
        pa.array([one.levels.tobytes() for one in found], pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=own)


def _ends(counts: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate(([0], np.cumsum(counts))), pa.int32())


def sequences_of(table: pa.Table, frame_bytes: int) -> list[TrackSequence]:
    """The rows of a file, or of some of its row groups, as they were made."""
    table = table.combine_chunks()
    found = []
    for row in range(table.num_rows):
        vectors = table["embeddings"][row].values
        dimensions = vectors.type.list_size
        flat = vectors.flatten().to_numpy(zero_copy_only=False)
        levels = np.frombuffer(table["levels"][row].as_py(), np.uint8)
        found.append(
            TrackSequence(
                table["codes"][row].values.to_numpy(),
                flat.reshape(-1, dimensions).astype(np.float32),
                levels.reshape(-1, frame_bytes),
            )
        )
    return found


def open_sequences(path: str) -> Callable[[str], TrackSequence | None]:
    """What finds a track's sequence in a file; only the row group of the last one is in memory.

    Raises: IndexFormatError where the file is damaged.
    """
    ids = parquet.read_table(path, ["track_id"])["track_id"].to_pylist()
    rows = {track_id: row for row, track_id in enumerate(ids)}
    frame_bytes = int(parquet.read_metadata(path)[_WIDTH])
    last: dict[int, list[TrackSequence]] = {}

    def find(track_id: str) -> TrackSequence | None:
        row = rows.get(track_id)
        if row is None:
            return None
        group, at = divmod(row, GROUP_TRACKS)
        if group not in last:
            last.clear()
            last[group] = sequences_of(parquet.read_table(path, row_groups=[group]), frame_bytes)
        return last[group][at]

    return find
