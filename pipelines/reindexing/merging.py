"""Segments of published versions as one catalogue of tracks whose codes are taken over."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import HashbeamError, IndexFormatError
from pipelines.kept import KEPT
from pipelines.live import tracks_of_segment
from pipelines.ordered import Ordered
from pipelines.part_rows import write_rows
from pipelines.parts import tracks_per_part
from pipelines.runs import Run
from pipelines.versions import Manifest, Segment

# A row of a run that only takes over: all that its owner says of a track stands where it is.
TAKEN_OVER = pa.schema({"track_id": pa.string(), **KEPT})
_TOLD = 3  # ids in a message


@dataclasses.dataclass(frozen=True)
class Source:
    """Segments of a published version that are merged with others."""

    index: str
    manifest: Manifest
    segments: Sequence[Segment]

    @property
    def tracks(self) -> int:
        """Live tracks of the segments."""
        return sum(segment.live for segment in self.segments)


def merged_rows(sources: Sequence[Source]) -> Iterator[pa.Table]:
    """The live tracks of all sources as `TAKEN_OVER`, in order of track_id.

    Of each segment one table of `live.BATCH_ROWS` is in memory, whatever they hold.

    Raises: HashbeamError where a track_id is there twice.
    """
    sides = [
        Ordered(_rows(source, number, segment))
        for number, source in enumerate(sources)
        for segment in source.segments
    ]
    # Up to the lowest end of what comes next of each, nothing more can come of any.
    while ends := [end for side in sides if (end := side.end) is not None]:
        until = min(ends)
        rows = pa.concat_tables(table for side in sides for table in side.take(until))
        rows = rows.take(pc.sort_indices(rows["track_id"]))
        _check_once(rows, [source.index for source in sources])
        yield rows


def _rows(source: Source, number: int, segment: Segment) -> Iterator[pa.Table]:
    wanted = ("track_id", "ordinal")
    for table in tracks_of_segment(source.index, source.manifest, segment, columns=wanted):
        rows = table.num_rows
        columns = {
            "track_id": table["track_id"],
            "hashbeam_source": pa.array(np.full(rows, number, np.int32)),
            "hashbeam_segment": table["segment"],
            "hashbeam_part": table["part"],
            "hashbeam_ordinal": table["ordinal"],
            "hashbeam_mtime": pa.nulls(rows, pa.float64()),
        }
        yield pa.table(columns, schema=TAKEN_OVER)


def _check_once(rows: pa.Table, indexes: Sequence[str]) -> None:
    ids = rows["track_id"].combine_chunks()
    if len(ids) < 2 or not pc.any(again := pc.equal(ids[1:], ids[:-1])).as_py():
        return
    twice = ids[1:].filter(again).unique().to_pylist()
    first = again.to_pylist().index(True)
    found = dict.fromkeys(rows["hashbeam_source"][first : first + 2].to_pylist())
    told = " and ".join(indexes[source] for source in found)
    if len(found) == 1:
        raise IndexFormatError(
            f"{told} has {twice[0]} twice; go back with `hashbeam rollback`, or index anew"
        )
    raise HashbeamError(
        f"{told} both have track_ids such as {', '.join(twice[:_TOLD])}, and a track has one "
        "place: take them out of one of the two with `hashbeam remove`"
    )


def write_merged(run: Run, rows: Iterable[pa.Table]) -> None:
    """Cuts what a run takes over into parts for the workers, as `parts.write_parts` does."""
    write_rows(run.work, rows, TAKEN_OVER, tracks_per_part(run.plan.n_tracks))
