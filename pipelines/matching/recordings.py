"""The hash sequences of a version's live tracks, some of them at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hashing.errors import IndexFormatError, UsageError
from hashing.models import Model
from hashing.pruning import on_grid
from pipelines import io, parquet
from pipelines.also import models_beside
from pipelines.sequence_files import GROUP_TRACKS
from pipelines.versions import SEQUENCES, Manifest

Ints = npt.NDArray[np.int64]

# Recordings that are in memory at once: at four minutes 3 MB of codes and 8 of embeddings.
BATCH_RECORDINGS = 1024
_KIND = "sequence"


@dataclasses.dataclass(frozen=True)
class SequenceFile:
    """A file of sequences, and what tells which of its tracks have gone since it was written.

    Attributes:
        path: of the file.
        rows: in it.
        tracks, removals: the part of ``tracks/`` that it belongs to, and the file of removed
            ordinals of its segment; both "" where nothing has been removed.
    """

    path: str
    rows: int
    tracks: str = ""
    removals: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings of a file, in the order of their rows.

    Attributes:
        track_ids: [n].
        rows: [n], in the file.
        codes, code_offsets: of all of them, one after another, and where each begins, [n + 1].
        embeddings, window_offsets: likewise, [w, d], as `hashing.pruning.on_grid` has them.
    """

    track_ids: list[str]
    rows: Ints
    codes: npt.NDArray[np.uint32]
    code_offsets: Ints
    embeddings: npt.NDArray[np.float32]
    window_offsets: Ints

    def __len__(self) -> int:
        return len(self.track_ids)


def sequence_model(index: str, manifest: Manifest, model: str | None) -> Model:
    """The model that made the sequences of a version.

    Args:
        model: name or folder, where it is not a shipped one or has moved.

    Raises: UsageError where the index has no sequences; ModelError where the model is missing, or
        is another one: both digests are named.
    """
    made_by = manifest.also.get(_KIND)
    if made_by is None:
        raise UsageError(
            f"--index: {index} has no hash sequences, by which MIDI files are matched: make an "
            "index that has them with `hashbeam index --also sequence --catalog C --out INDEX`"
        )
    only = dataclasses.replace(manifest, also={_KIND: made_by})
    return models_beside(only, {_KIND: model} if model else {})[_KIND]


def find_files(index: str, manifest: Manifest) -> list[SequenceFile]:
    """The files of sequences of a version, in the order of segments and parts."""
    removals = {
        segment.id: io.join(index, segment.removals.path)
        for segment in manifest.segments
        if segment.removals is not None
    }
    columns = ("segment", "part", "path")
    tracks = {
        (segment, part): io.join(index, path)
        for segment, part, path in manifest.files.tuples(*columns, kind="tracks")
    }
    found = []
    names = (*columns, "rows")
    for segment, part, path, rows in sorted(manifest.files.tuples(*names, kind=SEQUENCES)):
        own = tracks.get((segment, part))
        if own is None:
            raise IndexFormatError(
                f"index {index}: {path} has no tracks; run `hashbeam verify` on it"
            )
        gone = removals.get(segment, "")
        found.append(SequenceFile(io.join(index, path), rows, own if gone else "", gone))
    return found


def read_recordings(file: SequenceFile, batch: int = BATCH_RECORDINGS) -> Iterator[Recordings]:
    """The live recordings of a file, without their frames, so many at a time or fewer.

    Raises: IndexFormatError where the file is damaged.
    """
    gone, step = _gone(file), max(1, batch // GROUP_TRACKS)
    groups = -(-file.rows // GROUP_TRACKS)
    columns = ["track_id", "codes", "embeddings"]
    for first in range(0, groups, step):
        chosen = range(first, min(first + step, groups))
        table = parquet.read_table(file.path, columns, row_groups=chosen)
        rows = np.arange(table.num_rows, dtype=np.int64) + first * GROUP_TRACKS
        if gone:
            live = np.array([name not in gone for name in table["track_id"].to_pylist()], bool)
            table, rows = table.filter(pa.array(live)), rows[live]
        yield _recordings(file.path, table, rows)


def as_recordings(path: str, table: pa.Table) -> Recordings:
    """All rows of a table as of `pipelines.sequence_files`."""
    return _recordings(path, table, np.arange(table.num_rows, dtype=np.int64))


def _recordings(path: str, table: pa.Table, rows: Ints) -> Recordings:
    codes, code_offsets = _lists(table["codes"])
    windows, window_offsets = _lists(table["embeddings"])
    flat = windows.flatten().to_numpy(zero_copy_only=False)
    embeddings = flat.reshape(len(windows), -1) if len(windows) else flat.reshape(0, 1)
    if not np.isfinite(embeddings).all():
        raise IndexFormatError(f"{path} has embeddings that are no numbers; run `hashbeam verify`")
    return Recordings(
        table["track_id"].to_pylist(),
        rows,
        codes.to_numpy(zero_copy_only=False).astype(np.uint32),
        code_offsets,
        on_grid(embeddings),
        window_offsets,
    )


def _lists(column: pa.ChunkedArray) -> tuple[pa.Array, Ints]:
    """The values of lists one after another, and where each begins."""
    import pyarrow.compute as pc

    whole = column.combine_chunks()
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    lengths = pc.fill_null(pc.list_value_length(whole), 0).to_numpy(zero_copy_only=False)
    return whole.flatten(), np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def _gone(file: SequenceFile) -> frozenset[str]:
    """Ids of the tracks of a file that have gone."""
    if not file.removals:
        return frozenset()
    table = parquet.read_table(file.tracks, ["track_id", "ordinal"])
    lost = np.isin(table["ordinal"].to_numpy().astype(np.int64), _removed(file.removals))
    return frozenset(table.filter(pa.array(lost))["track_id"].to_pylist())


@functools.lru_cache(maxsize=8)
def _removed(path: str) -> Ints:
    # Nothing that a manifest names is ever changed: it may be kept.
    found: Ints = parquet.read_table(path, ["ordinal"])["ordinal"].to_numpy().astype(np.int64)
    return found
