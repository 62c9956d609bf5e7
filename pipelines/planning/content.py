"""What a track becomes in an index: how many snippets, and how many bytes of each kind of file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import pyarrow as pa

from hashing.encoders import Hasher
from hashing.sequences import SequenceFeatures
from pipelines.disambiguation.store import MEASURE_COLUMNS
from pipelines.versions import ARTIST_EMBEDDINGS, SEQUENCES


@dataclasses.dataclass(frozen=True)
class Overhead:
    """Bytes of a Parquet file beside values of a fixed width: of the file, and of each track."""

    file_bytes: float
    track_bytes: float


# Measured on an index of 427 tracks in 54 parts (footer and page headers; what is left beside codes
# and embeddings), and on 2,442 rows for what a track takes where parts are large.
CODES = Overhead(1500.0, 60.0)
ARTISTS = Overhead(6600.0, 90.0)
# Row groups of 16 tracks have a footer each, which is among the bytes of a track.
SEQUENCE_ROWS = Overhead(1900.0, 80.0)
# What is left of the frames of hash sequences, four bits a semitone, when they are compressed:
# measured on half an hour of made-up music.
LEVELS_KEPT = 0.72
USUAL = {ARTIST_EMBEDDINGS: ARTISTS, SEQUENCES: SEQUENCE_ROWS}
# Of ``tracks/`` by a catalogue's own columns (paths, titles, names), and by those that hashbeam
# adds: of them the checksum of 16 bytes, size and time do not shrink.
CATALOG_ROW = Overhead(1700.0, 110.0)
MEASURED_ROW = Overhead(2600.0, 50.0)

# A code matrix: header, one group of rows, and a bit for each snippet number.
MATRIX_FILE_BYTES = 48


@dataclasses.dataclass(frozen=True)
class Content:
    """What an index is to hold, and what tracks become in it.

    Attributes:
        hasher: the model.
        dimensions: numbers of a snippet's embedding that is kept (float16); 0: none are.
        artist_dimensions: numbers of a track's artist embedding (float32); 0: none are made.
        sequence_bytes_per_s: of a second of audio in the files of hash sequences; 0: none are made.
        heard: share of the snippets that are not silent.
        numbered: share of the snippets up to the last one that is heard.
        balance: entropy of the buckets over the bits of a key; 1 for a perfectly balanced hash.
        overheads: bytes beside those of fixed width, by kind of file.
    """

    hasher: Hasher
    dimensions: int = 0
    artist_dimensions: int = 0
    sequence_bytes_per_s: float = 0.0
    heard: float = 1.0
    numbered: float = 1.0
    balance: float = 1.0
    overheads: Mapping[str, Overhead] = dataclasses.field(default_factory=dict)

    def possible(self, track_s: float) -> float:
        """Snippets of a track of so many seconds in which nothing is silent.

        >>> content = Content(Hasher.load("forgiving"))
        >>> content.possible(60.0), content.possible(0.5)
        (118.5..., 0.0)
        """
        features = self.hasher.features
        window_s = features.snippet_samples / features.sample_rate
        # Of many tracks, half a step of the last one is lost on average.
        steps = (track_s - window_s) / features.snippet_hop_s + 0.5
        return max(0.0, steps) if track_s >= window_s else 0.0

    def fixed_widths(self) -> dict[str, int]:
        """Bytes of a snippet in each kind of file that holds values of a fixed width."""
        widths = {"codes": self.hasher.quantizer.code_bytes}
        if self.dimensions:
            widths["embeddings"] = 2 * self.dimensions
        return widths

    def row_widths(self) -> dict[str, int]:
        """The same of a track."""
        if not self.artist_dimensions:
            return {}
        return {ARTIST_EMBEDDINGS: 4 * (self.artist_dimensions + len(MEASURE_COLUMNS))}

    def second_widths(self) -> dict[str, float]:
        """The same of a second of audio."""
        return {SEQUENCES: self.sequence_bytes_per_s} if self.sequence_bytes_per_s else {}

    def overhead(self, kind: str, row: Overhead | None) -> Overhead:
        """What files of a kind take beside values of a fixed width.

        Args:
            row: of the catalogue at hand, where there is one: ``tracks/`` repeats its columns.
        """
        if kind == "tracks" and (row is not None or kind not in self.overheads):
            own, of_catalog = MEASURED_ROW, row or CATALOG_ROW
            return Overhead(
                own.file_bytes + of_catalog.file_bytes, own.track_bytes + of_catalog.track_bytes
            )
        return self.overheads.get(kind, USUAL.get(kind, CODES))


def sequence_bytes_per_s(features: SequenceFeatures) -> float:
    """Bytes that a second of audio takes in the files of hash sequences, compressed.

    >>> round(sequence_bytes_per_s(SequenceFeatures()))
    401
    """
    code = 4 + 2 * features.dimensions / features.hop
    frame = math.ceil(features.cqt.n_bins / 2) * LEVELS_KEPT
    return code / features.code_s + frame / features.cqt.frame_s


def rows_overhead(table: pa.Table) -> Overhead:
    """What a file of rows like these takes by itself and for each row, as ``tracks/`` has them.

    >>> import numpy as np
    >>> ids = np.random.default_rng(0).bytes(4096 * 16)
    >>> table = pa.table({"id": pa.FixedSizeBinaryArray.from_buffers(
    ...     pa.binary(16), 4096, [None, pa.py_buffer(ids)])})
    >>> found = rows_overhead(table)
    >>> 200 < found.file_bytes < 1000, round(found.track_bytes, 1)
    (True, 16.0)
    """
    few = table.slice(0, max(1, math.ceil(table.num_rows / 8)))
    if few.num_rows == table.num_rows:
        return Overhead(0.0, float(_file_bytes(table)))
    least, most = _file_bytes(few), _file_bytes(table)
    track_bytes = (most - least) / (table.num_rows - few.num_rows)
    return Overhead(max(0.0, least - few.num_rows * track_bytes), track_bytes)


def _file_bytes(table: pa.Table) -> int:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    return int(sink.getvalue().size)
