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
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from hashing.decoder import Decoder
from hashing.encoders import Hasher
from hashing.errors import AudioError
from hashing.listening import ListeningDecoder
from pipelines.allowed import Allowed, allowed_now
from pipelines.also import ALSO, LACKING
from pipelines.also_files import FILES
from pipelines.content import file_checksum
from pipelines.file_state import FileState
from pipelines.kept import KeptTracks, places_of
from pipelines.look import modified
from pipelines.part_files import Hashed, PartFiles, part_name
from pipelines.part_rows import has_rows, read_rows, write_rows
from pipelines.runs import Receipt, Run, new_attempt
from pipelines.track_tables import explain

MAX_PARTS = 4096  # 3 to 6 files each: the manifest of most catalogues stays small, opens at once
# Tracks of a part: catalogues of more than 16.8 million have more parts instead of larger ones, so
# that what a worker holds is bounded: of 480 snippets of 32 bytes, 63 MB of codes and some copies.
MAX_TRACKS = 4096
MIN_TRACKS = 8  # a part: its own cost (five durable files, 11 ms CPU) stays below 1 % of decoding
# Between these bounds parts grow as the square root of the catalogue: of 100,000 tracks a part is a
# minute of work, and whoever goes through all tracks opens hundreds of files, not thousands.


@dataclasses.dataclass(frozen=True)
class HashJob:
    """What a worker must know to hash any part: small, and sent to each of them.

    `max_seconds` of audio a track may have; `timeout_s` without a decoded block; `embeddings` says
    to keep them, and to compare queries with them; `sources` are index and version of where tracks
    are that need no decoding, and `decodes` is False where that is all of them; `recodes` makes
    their codes anew, of the embeddings that are kept there; `allowed` is where uris may lead.
    """

    run: Run
    max_seconds: float
    timeout_s: float
    embeddings: bool = False
    sources: tuple[tuple[str, str], ...] = ()
    decodes: bool = True
    recodes: bool = False
    allowed: Allowed = dataclasses.field(default_factory=allowed_now)


def tracks_per_part(n_tracks: int) -> int:
    """How many consecutive tracks make a part.

    >>> [tracks_per_part(n) for n in (20, 427, 100_000, 10_000_000, 100_000_000)]
    [8, 11, 159, 2442, 4096]
    """
    grown = math.ceil(math.sqrt(n_tracks) / 2)
    return min(MAX_TRACKS, max(MIN_TRACKS, grown, math.ceil(n_tracks / MAX_PARTS)))


def count_parts(n_tracks: int) -> int:
    """How many parts so many tracks are cut into."""
    return -(-n_tracks // tracks_per_part(n_tracks))


def write_parts(run: Run, catalog: pa.Table) -> None:
    """Cuts a catalogue into parts for the workers, unless an earlier start of the run has.

    Args:
        catalog: as from `pipelines.catalog.read_catalog`.
    """
    if not has_rows(run.work, run.plan.n_parts):
        write_rows(run.work, [catalog], catalog.schema, tracks_per_part(catalog.num_rows))


def hash_part(
    job: HashJob,
    part: int,
    hasher: Hasher,
    decoder: ListeningDecoder,
    encoders: Mapping[str, Any] | None = None,
    kept: KeptTracks | None = None,
) -> Receipt:
    """Hashes every track of a part and writes codes, tracks, failures, and the receipt.

    With `encoders`, by the name of their kind (`pipelines.also.ALSO`), what these make as well. A
    track that is hashed but has nothing of a kind is among the failures, too. A row that names a
    track of a published version is `kept`.

    Returns the receipt that counts: another's, where another attempt was faster.

    Raises: HashbeamError where something cannot be written, or a track that is kept cannot be
        read; never for a track that is decoded.
    """
    started, cpu_s = time.time(), _cpu_s(decoder)
    plan = job.run.plan
    number = part - plan.first_part
    tracks = read_rows(job.run.work, number)
    tracks, places = places_of(tracks)
    if "uri" not in tracks.column_names:  # all of it is taken over, with what is said of it
        assert kept is not None
        tracks = kept.rows(places)
    hashed: list[Hashed] = []
    encoders = encoders or {}
    heard: dict[str, list[Any]] = {name: [] for name in encoders}
    failures: list[dict[str, Any]] = []
    lacking = 0  # tracks with codes that lack something beside them
    etags = tracks["etag"].to_pylist() if "etag" in tracks.column_names else []
    for row, (track_id, uri) in enumerate(
        zip(tracks["track_id"].to_pylist(), tracks["uri"].to_pylist(), strict=True)
    ):
        named = {"track_id": track_id, "uri": uri, "etag": etags[row] if etags else None}
        place, state = places[row], FileState()
        if place is not None:
            assert kept is not None
            track = kept.take(row, place)
        else:
            try:
                track = _hash_track(row, uri, state, job, hasher, decoder, encoders)
            except Exception as error:  # whatever one file does, the other tracks go on
                failures.append({**named, **explain(error, "hash"), **dataclasses.asdict(state)})
                continue
        hashed.append(track)
        whole = True
        for name in encoders:
            if name not in track.beside:  # nor where it was taken from
                whole = False
                continue
            try:
                heard[name].append(_heard(name, track, uri))
            except AudioError as error:
                whole = False
                failed = {
                    **explain(error, "hash"),
                    "stage": ALSO[name].stage,
                    **dataclasses.asdict(state),
                }
                failures.append({**named, **failed})
        lacking += not whole
    attempt = new_attempt()
    write = PartFiles(job.run, part, attempt, tracks, hasher)
    files = []
    if hashed:
        first = number * tracks_per_part(plan.n_tracks)
        files += write.write_hashed(hashed, first, embeddings=job.embeddings)
    files += [
        write.write_beside(name, found, encoders[name].digest)
        for name, found in heard.items()
        if found
    ]
    if failures:
        files.append(write.write_failures(failures))
    finished = time.time()
    kinds = Counter(failure["error"] for failure in failures)
    taken = [track for track in hashed if places[track.row] is not None]
    counters = {
        "tracks": tracks.num_rows,
        "tracks_hashed": len(hashed),
        "tracks_failed": tracks.num_rows - len(hashed),
        "tracks_kept": len(taken),
        **{ALSO[name].made: len(found) for name, found in heard.items()},
        **{ALSO[name].lacking: len(hashed) - len(found) for name, found in heard.items()},
        LACKING: lacking,
        **{f"failed_{kind}": count for kind, count in sorted(kinds.items())},
        "snippets": sum(len(track.codes.snippet) for track in hashed),
        "gids": sum(track.gids for track in hashed),
        "audio_s": sum(track.codes.duration_s for track in hashed),
        "audio_kept_s": sum(track.codes.duration_s for track in taken),
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
    decoder: ListeningDecoder,
    encoders: Mapping[str, Any],
) -> Hashed:
    limits: Any = {
        "max_seconds": job.max_seconds,
        "timeout_s": job.timeout_s,
        "embeddings": job.embeddings,
    }
    beside: dict[str, Any] = {}
    # The time is taken before the content: a file that is written meanwhile has changed since. That
    # of a temporary copy says nothing about the file that it was made from.
    state.mtime = modified(uri)
    with job.allowed.local_copy(uri) as path:
        with contextlib.suppress(OSError, ValueError):  # the decoder says it better
            state.size, state.content = file_checksum(path)
        if not encoders:
            codes = decoder.hash_track(path, hasher, **limits)
        else:
            codes, beside = decoder.hash_and_hear(path, hasher, encoders, **limits)
    return Hashed(row, codes, state, beside)


def _heard(name: str, track: Hashed, uri: str) -> Any:
    made = track.beside[name]
    if isinstance(made, AudioError):
        raise made
    return FILES[name].keep(track.row, uri, made, track.file)


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
