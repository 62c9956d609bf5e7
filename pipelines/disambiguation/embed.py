"""Tracks of a catalogue → artist embeddings: what the workers of the job do.

A part is a run of tracks that no earlier file has. Its embeddings are one file, and its failures
another; a track that cannot be heard never stops the part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from hashing.artists.decoder import ArtistDecoder, HeardTrack
from hashing.errors import ModelError
from pipelines import io, parquet
from pipelines.allowed import Allowed, allowed_now
from pipelines.disambiguation.store import (
    FOLDER,
    Heard,
    as_heard,
    file_state,
    write_embeddings,
)
from pipelines.part_rows import read_rows, write_rows
from pipelines.runs import new_attempt
from pipelines.track_tables import FAILURES, explain

Ear = Callable[[str], HeardTrack]

TRACKS_PER_PART = 32  # seconds of work: little is repeated after a stop
# Of a large catalogue: the files stay a list that is read at once. A huge one has more parts and no
# larger ones, so that what is done again when a worker is lost is bounded.
MAX_PARTS, MAX_TRACKS = 4096, 4096


@dataclasses.dataclass(frozen=True)
class EmbedJob:
    """What a worker must know: small, and sent to each of them.

    `out` is the folder of results, `work` what only this run needs in it; `digest` is the model's;
    `allowed` is where uris may lead.
    """

    out: str
    work: str
    model: str
    digest: str
    max_seconds: float
    timeout_s: float
    allowed: Allowed = dataclasses.field(default_factory=allowed_now)

    def receipt_path(self, part: int) -> str:
        """Where the failures of a part stand, be there any or none, when it is finished."""
        return io.join(self.work, "failures", f"part-{part:05d}.parquet")


def write_todo(job: EmbedJob, tracks: pa.Table) -> int:
    """Cuts tracks into parts for the workers; returns the number of parts."""
    count = int(tracks.num_rows)
    if not count:
        return 0
    size = min(MAX_TRACKS, max(TRACKS_PER_PART, -(-count // MAX_PARTS)))
    write_rows(job.work, [tracks], tracks.schema, size)
    return -(-count // size)


class EmbedParts(beam.DoFn):
    """Part numbers in, part numbers out; one encoder a worker."""

    def __init__(self, job: EmbedJob) -> None:
        self._job = job
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the encoder, once for all threads of a worker, and starts the decoder."""
        self._encoder = self._shared.acquire(lambda: load_encoder(self._job.model))
        if self._encoder.digest != self._job.digest:
            raise ModelError(
                f"model {self._job.model} has digest {self._encoder.digest[:12]} on the worker and "
                f"{self._job.digest[:12]} where the run was started; install the same on both"
            )
        self._stack = contextlib.ExitStack()
        self._ear = self._stack.enter_context(open_ear(self._encoder, self._job))

    def process(self, part: int) -> Iterable[int]:
        """Hears one part, if nobody has, and counts for whoever watches the runner."""
        if not io.exists(self._job.receipt_path(part)):
            heard, failed = embed_part(self._job, part, self._ear)
            Metrics.counter("hashbeam", "tracks_heard").inc(heard)
            Metrics.counter("hashbeam", "tracks_failed").inc(failed)
        yield part

    def teardown(self) -> None:
        """Ends the decoder."""
        self._stack.close()


@dataclasses.dataclass
class EmbedTracks(beam.PTransform[Any, Any]):
    """Numbers of parts → files of embeddings and failures.

    Attributes:
        job: what the workers must know.
        parts: how many there are.
        listener: what hears a part, made of the job.
    """

    job: EmbedJob
    parts: int
    listener: Callable[[EmbedJob], beam.DoFn] = EmbedParts

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        return (
            pbegin
            | "parts" >> beam.Create(list(range(self.parts)), reshuffle=False)
            # Moves one number a part; without it one worker would hear them all.
            | "spread parts" >> beam.Reshuffle()
            | "hear" >> beam.ParDo(self.listener(self.job))
        )


def load_encoder(model: str) -> Any:
    """The artist encoder of a name or folder; raises ModelError."""
    from hashing.artists.encoder import ArtistEncoder

    return ArtistEncoder.load(model)


@contextlib.contextmanager
def open_ear(encoder: Any, job: EmbedJob) -> Iterator[Ear]:
    """What hears a file: a child process, since a broken file may crash or hang a decoder."""
    decoder = ArtistDecoder()
    with decoder:
        decoder.prepare_artist(encoder)
        yield lambda path: decoder.embed_file(
            path, encoder, max_seconds=job.max_seconds, timeout_s=job.timeout_s
        )


def embed_part(job: EmbedJob, part: int, ear: Ear) -> tuple[int, int]:
    """Hears every track of a part and writes what came of it; returns heard and failed.

    Raises: HashbeamError where something cannot be written; never for a track.
    """
    started = time.time()
    tracks = read_rows(job.work, part)
    heard: list[Heard] = []
    failures: list[dict[str, str]] = []
    for row, (track_id, uri) in enumerate(
        zip(tracks["track_id"].to_pylist(), tracks["uri"].to_pylist(), strict=True)
    ):
        try:
            heard.append(_hear(row, uri, ear, job.allowed))
        except Exception as error:  # whatever one file does, the other tracks go on
            failures.append({"track_id": track_id, "uri": uri, **explain(error, "embed", uri)})
    if heard:
        counters = {
            "audio_s": str(sum(track.duration_s for track in heard)),
            "wall_s": str(time.time() - started),
        }
        path = io.join(job.out, FOLDER, f"part-{new_attempt()}.parquet")
        write_embeddings(path, tracks, heard, job.digest, counters)
    # Written last, also where nothing failed: it says that the part is finished.
    path = job.receipt_path(part)
    parquet.write_table(path, pa.Table.from_pylist(failures, schema=FAILURES))
    return len(heard), len(failures)


def finished_parts(job: EmbedJob) -> int:
    """How many parts are finished, for whoever watches."""
    return len(io.list_dir(io.join(job.work, "failures")))


def read_failures(job: EmbedJob) -> pa.Table:
    """What the workers could not hear, each track once, by track id."""
    folder = io.join(job.work, "failures")
    tables = [parquet.read_table(io.join(folder, name)) for name in io.list_dir(folder)]
    table = pa.concat_tables(tables) if tables else FAILURES.empty_table()
    rows = {row["track_id"]: row for row in table.to_pylist()}
    return pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=FAILURES)


def _hear(row: int, uri: str, ear: Ear, allowed: Allowed) -> Heard:
    with allowed.local_copy(uri) as path:
        found = ear(path)
        size, mtime = file_state(path)
    return as_heard(row, uri, found, size, mtime)
