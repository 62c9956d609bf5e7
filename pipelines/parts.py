"""One part of a catalogue becomes codes: what a worker of the index job does, without Beam.

A part is a run of consecutive tracks. Its files are written once and then a receipt; a track that
cannot be hashed becomes a row in ``failures/`` and never stops the part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import resource
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from hashing.artists.decoder import ArtistDecoder, HeardTrack
from hashing.artists.encoder import ArtistEncoder
from hashing.decoder import Decoder
from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError, HashbeamError
from hashing.matrix import write_matrix
from pipelines import io, parquet
from pipelines.content import file_checksum
from pipelines.disambiguation.store import Heard, as_heard, write_embeddings
from pipelines.file_state import FILE_STATE, FileState
from pipelines.look import modified
from pipelines.plain import write_plain
from pipelines.runs import Receipt, Run, new_attempt
from pipelines.versions import ARTIST_EMBEDDINGS, FORMAT_VERSION, FileEntry

MAX_PARTS = 4096  # 3 to 6 files each: the manifest of any catalogue stays small, opens at once
MIN_TRACKS = 8  # a part: its own cost (five durable files, 11 ms CPU) stays below 1 % of decoding

FAILURES = pa.schema(
    [(name, pa.string()) for name in ("track_id", "uri", "stage", "error", "message")]
)
# What change detection needs to know of a file: one that failed is tried again when it differs.
_FILE = {"etag": pa.string(), **FILE_STATE}
TRACK_FAILURES = pa.schema([*FAILURES, *_FILE.items()])
# What hashbeam says about a track, in the order of the columns; the catalogue's own follow.
MEASURED = {
    "ordinal": pa.uint32(),
    "track_id": pa.string(),
    "uri": pa.string(),
    "snippets": pa.uint32(),
    "gids": pa.uint32(),
    "duration_s": pa.float64(),
    **_FILE,
}
# Of these a column of the catalogue with the same name is kept beside, as catalog_NAME.
OWN = ("ordinal", "snippets", "gids", "duration_s", *FILE_STATE)
_JUDGED_BY_EAR = ("silent", "too-short")  # found while hashing; all other kinds while decoding


@dataclasses.dataclass(frozen=True)
class HashJob:
    """What a worker must know to hash any part: small, and sent to each of them.

    `max_seconds` of audio a track may have; `timeout_s` without a decoded block; `embeddings` says
    to keep them, and to compare queries with them.
    """

    run: Run
    max_seconds: float
    timeout_s: float
    embeddings: bool = False


@dataclasses.dataclass(frozen=True)
class _Hashed:
    """A track that was hashed: its place in the part, its codes, and its file as it was.

    `artist` is its artist embedding, or why there is none; None where none was asked for.
    """

    row: int
    codes: TrackCodes
    file: FileState
    artist: HeardTrack | AudioError | None

    @property
    def gids(self) -> int:
        """Snippet numbers that the track takes up: silent snippets have a number and no code."""
        return int(self.codes.snippet[-1]) + 1


def tracks_per_part(n_tracks: int) -> int:
    """How many consecutive tracks make a part.

    >>> tracks_per_part(427), tracks_per_part(10_000_000)
    (8, 2442)
    """
    return max(MIN_TRACKS, math.ceil(n_tracks / MAX_PARTS))


def part_name(part: int) -> str:
    """The name of a part's receipt: ``part-00012``."""
    return f"part-{part:05d}"


def catalog_path(run: Run) -> str:
    """Where a run keeps its catalogue, one row group a part."""
    return io.join(run.work, "catalog.parquet")


def write_parts(run: Run, catalog: pa.Table) -> None:
    """Cuts a catalogue into parts for the workers, unless an earlier start of the run has.

    Args:
        catalog: as from `pipelines.catalog.read_catalog`.
    """
    path = catalog_path(run)
    if not io.exists(path):
        parquet.write_table(path, catalog, row_group_size=tracks_per_part(catalog.num_rows))


def hash_part(
    job: HashJob,
    part: int,
    hasher: Hasher,
    decoder: ArtistDecoder,
    encoder: ArtistEncoder | None = None,
) -> Receipt:
    """Hashes every track of a part and writes codes, tracks, failures, and the receipt.

    With an artist `encoder`, artist embeddings as well. A track that is hashed but has none is
    among the failures, too.

    Returns the receipt that counts: another's, where another attempt was faster.

    Raises: HashbeamError where something cannot be written; never for a track.
    """
    started, cpu_s = time.time(), _cpu_s(decoder)
    tracks = parquet.read_table(catalog_path(job.run), row_groups=[part])
    hashed: list[_Hashed] = []
    heard: list[Heard] = []
    failures: list[dict[str, Any]] = []
    etags = tracks["etag"].to_pylist() if "etag" in tracks.column_names else []
    for row, (track_id, uri) in enumerate(
        zip(tracks["track_id"].to_pylist(), tracks["uri"].to_pylist(), strict=True)
    ):
        named = {"track_id": track_id, "uri": uri, "etag": etags[row] if etags else None}
        state = FileState()
        try:
            track = _hash_track(row, uri, state, job, hasher, decoder, encoder)
        except Exception as error:  # whatever one file does, the other tracks go on
            failures.append({**named, **_explain(error), **dataclasses.asdict(state)})
            continue
        hashed.append(track)
        if track.artist is not None:
            try:
                heard.append(_heard(track, uri))
            except AudioError as error:
                failed = {**_explain(error), "stage": "embed", **dataclasses.asdict(state)}
                failures.append({**named, **failed})
    attempt = new_attempt()
    files = []
    if hashed:
        codes = _codes_table(tracks, hashed, hasher)
        first = part * tracks_per_part(job.run.plan.n_tracks)
        entry, groups = _write_plain(job.run, "codes", part, attempt, codes, hasher)
        files.append(entry)
        width = hasher.quantizer.code_bytes
        if job.embeddings:
            embeddings = _embeddings_table(codes, hashed)
            entry, groups = _write_plain(job.run, "embeddings", part, attempt, embeddings, hasher)
            files.append(entry)
            width = 2 * embeddings["embedding"].type.list_size  # float16
        files.append(_write_matrix(job.run, part, attempt, hashed, width, groups))
        files.append(
            _write(job.run, "tracks", part, attempt, _tracks_table(tracks, hashed, first), hasher)
        )
    if encoder is not None and heard:
        files.append(_write_artists(job.run, part, attempt, tracks, heard, encoder))
    if failures:
        table = pa.Table.from_pylist(failures, schema=TRACK_FAILURES)
        files.append(_write(job.run, "failures", part, attempt, table, hasher))
    finished = time.time()
    kinds = Counter(failure["error"] for failure in failures)
    counters = {
        "tracks": tracks.num_rows,
        "tracks_hashed": len(hashed),
        "tracks_failed": tracks.num_rows - len(hashed),
        "tracks_embedded": len(heard),
        "tracks_not_embedded": 0 if encoder is None else len(hashed) - len(heard),
        **{f"failed_{kind}": count for kind, count in sorted(kinds.items())},
        "snippets": sum(len(track.codes.snippet) for track in hashed),
        "gids": sum(track.gids for track in hashed),
        "audio_s": sum(track.codes.duration_s for track in hashed),
        "cpu_s": _cpu_s(decoder) - cpu_s,
        "wall_s": finished - started,
        "max_rss_bytes": _max_rss_bytes(decoder),
    }
    return job.run.write_receipt(
        Receipt(part_name(part), attempt, files, counters, started, finished)
    )


def _hash_track(
    row: int,
    uri: str,
    state: FileState,
    job: HashJob,
    hasher: Hasher,
    decoder: ArtistDecoder,
    encoder: ArtistEncoder | None,
) -> _Hashed:
    limits: Any = {
        "max_seconds": job.max_seconds,
        "timeout_s": job.timeout_s,
        "embeddings": job.embeddings,
    }
    artist: HeardTrack | AudioError | None = None
    # The time is taken before the content: a file that is written meanwhile has changed since. That
    # of a temporary copy says nothing about the file that it was made from.
    state.mtime = modified(uri)
    with io.local_copy(uri) as path:
        with contextlib.suppress(OSError, ValueError):  # the decoder says it better
            state.size, state.content = file_checksum(path)
        if encoder is None:
            codes = decoder.hash_track(path, hasher, **limits)
        else:
            codes, artist = decoder.hash_and_embed(path, hasher, encoder, **limits)
    return _Hashed(row, codes, state, artist)


def _heard(track: _Hashed, uri: str) -> Heard:
    if isinstance(track.artist, HeardTrack):
        return as_heard(track.row, uri, track.artist, track.file.size, track.file.mtime)
    assert track.artist is not None
    raise track.artist


def _explain(error: Exception) -> dict[str, str]:
    message = " ".join(str(error).split())[:1000]
    if isinstance(error, AudioError):
        stage = "hash" if error.kind in _JUDGED_BY_EAR else "decode"
        return {"stage": stage, "error": error.kind, "message": message}
    if isinstance(error, HashbeamError | OSError):  # a remote file, or one that has just gone
        return {"stage": "fetch", "error": "unreadable", "message": message}
    return {"stage": "hash", "error": type(error).__name__, "message": message}


def _codes_table(tracks: pa.Table, hashed: list[_Hashed], hasher: Hasher) -> pa.Table:
    packed = np.concatenate([track.codes.codes for track in hashed])
    snippet = np.concatenate([track.codes.snippet for track in hashed])
    rows = np.repeat(
        [track.row for track in hashed], [len(track.codes.snippet) for track in hashed]
    )
    start_ms = np.rint(snippet * (hasher.features.snippet_hop_s * 1000)).astype(np.int32)
    code = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(hasher.quantizer.code_bytes), len(packed), [None, pa.py_buffer(packed)]
    )
    return pa.table(
        {
            "track_id": tracks["track_id"].combine_chunks().take(pa.array(rows)),
            "snippet": pa.array(snippet, pa.int32()),
            "start_ms": pa.array(start_ms, pa.int32()),
            "code": code,
        }
    )


def _write_matrix(
    run: Run,
    part: int,
    attempt: str,
    hashed: list[_Hashed],
    width: int,
    groups: list[tuple[int, int]],
) -> FileEntry:
    """Where look-up finds the rows that it compares queries with, by snippet number."""
    gids = np.array([track.gids for track in hashed])
    firsts = np.cumsum(gids) - gids
    numbers = np.concatenate(
        [track.codes.snippet + first for track, first in zip(hashed, firsts, strict=True)]
    )
    with io.open_write(run.attempt_path("matrices", part_name(part), attempt, ".hbm")) as file:
        write_matrix(file, width, groups, numbers, int(gids.sum()))
    return run.entry("matrices", file.info, rows=int(gids.sum()), part=part)


def _embeddings(track: _Hashed) -> Any:
    assert track.codes.embeddings is not None
    return track.codes.embeddings


def _embeddings_table(codes: pa.Table, hashed: list[_Hashed]) -> pa.Table:
    values = np.concatenate([_embeddings(track) for track in hashed])
    flat = pa.array(values.reshape(-1), pa.float16())
    embedding = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return codes.drop_columns(["code"]).append_column("embedding", embedding)


def _tracks_table(tracks: pa.Table, hashed: list[_Hashed], first: int) -> pa.Table:
    kept = tracks.take(pa.array([track.row for track in hashed]))
    own: dict[str, Any] = {
        "ordinal": [first + track.row for track in hashed],
        "snippets": [len(track.codes.snippet) for track in hashed],
        "gids": [track.gids for track in hashed],
        "duration_s": [track.codes.duration_s for track in hashed],
        **{name: [getattr(track.file, name) for track in hashed] for name in FILE_STATE},
    }
    columns = {}
    for name, kind in MEASURED.items():
        if name in own:
            columns[name] = pa.array(own[name], kind)
        else:
            found = name in kept.column_names
            columns[name] = kept[name] if found else pa.nulls(len(hashed), kind)
    for name in kept.column_names:
        if name not in columns or name in own:
            # A column of the catalogue that is called like one of ours is kept beside it.
            columns[f"catalog_{name}" if name in OWN else name] = kept[name]
    return pa.table(columns)


def _write(
    run: Run, kind: str, part: int, attempt: str, table: pa.Table, hasher: Hasher
) -> FileEntry:
    info = parquet.write_table(
        run.attempt_path(kind, part_name(part), attempt, ".parquet"),
        table,
        metadata=_stamp(hasher),
        use_dictionary=False,
    )
    return run.entry(kind, info, part=part)


def _write_artists(
    run: Run,
    part: int,
    attempt: str,
    tracks: pa.Table,
    heard: list[Heard],
    encoder: ArtistEncoder,
) -> FileEntry:
    path = run.attempt_path("embeddings", f"{part_name(part)}-artist", attempt, ".parquet")
    info = write_embeddings(path, tracks, heard, encoder.digest, {})
    return run.entry(ARTIST_EMBEDDINGS, info, part=part)


def _write_plain(
    run: Run, kind: str, part: int, attempt: str, table: pa.Table, hasher: Hasher
) -> tuple[FileEntry, list[tuple[int, int]]]:
    """A table whose last column is read from the file as it lies there, and where it lies."""
    info, groups = write_plain(
        run.attempt_path(kind, part_name(part), attempt, ".parquet"), table, _stamp(hasher)
    )
    return run.entry(kind, info, part=part), groups


def _stamp(hasher: Hasher) -> dict[str, str]:
    return {"hashbeam_format": str(FORMAT_VERSION), "hasher_digest": hasher.digest}


def _cpu_s(decoder: Decoder) -> float:
    """CPU seconds of this process and of its decoders so far, the dead and the living one."""
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = 0.0
    # Elsewhere than on Linux the decoder counts when it ends.
    with contextlib.suppress(OSError), open(f"/proc/{decoder.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
        living = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime
    return time.process_time() + dead.ru_utime + dead.ru_stime + living


def _max_rss_bytes(decoder: Decoder) -> int:
    """Peak memory of this process and of its living decoder together."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own_bytes = own if sys.platform == "darwin" else own * 1024
    with (
        contextlib.suppress(OSError),
        open(f"/proc/{decoder.pid}/status", encoding="ascii") as file,
    ):
        peaks = (line.split()[1] for line in file if line.startswith("VmHWM:"))
        return own_bytes + 1024 * int(next(peaks, "0"))
    return own_bytes
