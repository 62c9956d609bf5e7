"""Rows of ``tracks/`` written anew, where what the catalogue says of a track has changed.

Codes stay where they are: only the file of tracks of their part is written again, beside the old
one, and the next manifest names it in its place; and that of its artist embeddings, where it says
of a file what is no more so. Hash sequences say nothing but the track_id, which stays.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hashing.errors import IndexFormatError
from pipelines import io, parquet
from pipelines.file_state import FILE_STATE
from pipelines.part_files import beside_path, part_name, stamp
from pipelines.reindexing.work import EDITED, read_edits
from pipelines.runs import Receipt, Run, new_attempt
from pipelines.track_tables import OWN, tracks_table, unite
from pipelines.versions import ARTIST_EMBEDDINGS, open_manifest


def edit_name(piece: int) -> str:
    """The name of the receipt of a piece: ``edits-00003``."""
    return f"edits-{piece:05d}"


def edit_rows(run: Run, piece: int) -> Receipt:
    """Writes the files of tracks of a piece anew, and its receipt.

    Raises: IndexFormatError where the parent lacks a track that is to be rewritten.
    """
    started, cpu_s = time.time(), time.process_time()
    parent = open_manifest(run.index, run.plan.parent)
    paths = {
        (kind, segment, part): path
        for kind in ("tracks", ARTIST_EMBEDDINGS)
        for segment, part, path in parent.files.tuples("segment", "part", "path", kind=kind)
    }
    attempt, entries, count = new_attempt(), [], 0
    for segment, part, rows in read_edits(run, piece):
        path = io.join(run.index, paths.get(("tracks", segment, part), ""))
        table = edited(parquet.read_table(path, small=True), rows, path)
        info = parquet.write_table(
            run.attempt_path("tracks", part_name(part), attempt, ".parquet"),
            table,
            metadata=stamp(parent.model["digest"]),
            use_dictionary=False,
        )
        entries.append(run.entry("tracks", info, segment=segment, part=part))
        heard = paths.get((ARTIST_EMBEDDINGS, segment, part))
        if heard is not None:
            path = io.join(run.index, heard)
            old = parquet.read_table(path, small=True)
            artists = artists_as_now(old, table)
            if not artists.equals(old):
                info = parquet.write_table(
                    beside_path(run, "artist", part, attempt),
                    artists,
                    metadata=parquet.read_metadata(path),
                    use_dictionary=False,
                )
                entries.append(run.entry(ARTIST_EMBEDDINGS, info, segment=segment, part=part))
        count += rows.num_rows
    counters = {"tracks_edited": count, "cpu_s": time.process_time() - cpu_s}
    return run.write_receipt(
        Receipt(edit_name(piece), attempt, entries, counters, started, time.time())
    )


def edited(tracks: pa.Table, rows: pa.Table, where: str = "tracks") -> pa.Table:
    """A table of tracks with some rows in place of those of the same ordinals.

    Args:
        rows: of a catalogue, with the columns of `work.EDITED`, ordered by ordinal; of the file's
            state what is null stays as it was.
        where: the name of `tracks`, for the message.

    Raises: IndexFormatError where an ordinal is not there.
    """
    tracks = tracks.combine_chunks()
    ordinals = rows["hashbeam_ordinal"].to_numpy()
    present = tracks["ordinal"].to_numpy().astype(np.int64)
    at = np.searchsorted(present, ordinals)
    if (at == len(present)).any() or (present[at] != ordinals).any():
        raise IndexFormatError(
            f"{where} lacks tracks that are to be rewritten; run `hashbeam verify` on the index"
        )
    old = tracks.take(pa.array(at)).combine_chunks()
    measured: dict[str, Any] = {name: old[name] for name in OWN}
    for name in FILE_STATE:
        seen = rows[f"hashbeam_{name}"].combine_chunks()
        measured[name] = pc.coalesce(seen, old[name].combine_chunks())
    fresh = tracks_table(rows.drop_columns(list(EDITED)), measured)
    others = np.ones(len(present), bool)
    others[at] = False
    return unite([tracks.filter(pa.array(others)), fresh]).sort_by("ordinal")


def artists_as_now(artists: pa.Table, tracks: pa.Table) -> pa.Table:
    """Artist embeddings of a part with the files that their tracks have now.

    By these `disambiguate --index` sees that a track need not be heard again.

    >>> old = pa.table({"track_id": ["b"], "uri": ["/b"], "etag": pa.nulls(1, pa.string()),
    ...     "size": [5], "mtime": [1.5]})
    >>> now = pa.table({"track_id": ["a", "b"], "uri": ["/a", "/new"], "etag": ["e", "f"],
    ...     "size": [4, 5], "mtime": [1.0, 2.5]})
    >>> artists_as_now(old, now).to_pylist()
    [{'track_id': 'b', 'uri': '/new', 'etag': 'f', 'size': 5, 'mtime': 2.5}]
    """
    tracks = tracks.combine_chunks()
    at = pc.index_in(artists["track_id"], value_set=tracks["track_id"].combine_chunks())
    for name in ("uri", "etag", "size", "mtime"):
        place = artists.column_names.index(name)
        now = tracks[name].take(at).cast(artists.schema.field(name).type)
        artists = artists.set_column(place, artists.schema.field(name), now)
    return artists
