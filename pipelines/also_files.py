"""Files of what an index has beside codes: how each kind is kept, written and read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.artists.decoder import HeardTrack
from hashing.artists.encoder import TrackEmbedding
from hashing.artists.measures import MEASURES
from pipelines import parquet, sequence_files
from pipelines.also import ALSO
from pipelines.disambiguation.store import MEASURE_COLUMNS, as_heard, write_embeddings
from pipelines.file_state import FileState
from pipelines.io import FileInfo

# track_id → what was made of it; None where there is nothing.
Find = Callable[[str], Any]


@dataclasses.dataclass(frozen=True)
class Files:
    """How a kind's files come to be and are read.

    Attributes:
        keep: row of the part, uri, what was made of the track, its file → what `write` takes;
            raises AudioError where that is no number.
        write: path, rows of the catalogue, what `keep` gave, digest of the model → the file.
        open: path → what finds in it what was made of a track, as if it had just been made.
    """

    keep: Callable[[int, str, Any, FileState], Any]
    write: Callable[[str, pa.Table, Sequence[Any], str], FileInfo]
    open: Callable[[str], Find]


def _open_artists(path: str) -> Find:
    table = parquet.read_table(path, small=True).combine_chunks()
    values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = values.reshape(table.num_rows, -1)
    measures = np.stack([table[name].to_numpy() for name in MEASURE_COLUMNS], axis=1)
    assert measures.shape[1] == len(MEASURES)
    own = (table[name].to_pylist() for name in ("track_id", "segments", "duration_s"))
    return {
        track_id: HeardTrack(TrackEmbedding(vectors[row], segments, duration_s), measures[row])
        for row, (track_id, segments, duration_s) in enumerate(zip(*own, strict=True))
    }.get


FILES = {
    "artist": Files(
        lambda row, uri, made, file: as_heard(row, uri, made, file.size, file.mtime),
        lambda path, tracks, kept, digest: write_embeddings(path, tracks, kept, digest, {}),
        _open_artists,
    ),
    "sequence": Files(
        lambda row, uri, made, file: sequence_files.keep(row, uri, made),
        sequence_files.write_sequences,
        sequence_files.open_sequences,
    ),
}
assert FILES.keys() == ALSO.keys()
