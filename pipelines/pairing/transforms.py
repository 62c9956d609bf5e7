"""The Beam job: numbers of parts in, and out when they are finished.

What is read, heard and aligned goes through files, so that a run that is stopped goes on where it
was; between workers move only the numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics

from hashing.decoder import Decoder
from pipelines.pairing.align import align_part, hear_recording
from pipelines.pairing.job import PairsJob
from pipelines.pairing.read import read_part
from pipelines.sequence_models import open_encoder


@dataclasses.dataclass
class EachPart(beam.PTransform[Any, Any]):
    """Parts of a stage → files of what came of them.

    Attributes:
        do: what is done with each: `ReadParts` or `AlignParts`.
        parts: numbers of those that are not finished.
    """

    do: beam.DoFn
    parts: Sequence[int]

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        return (
            pbegin
            | "parts" >> beam.Create(list(self.parts), reshuffle=False)
            # Moves one number a part; without it one worker would do them all.
            | "spread parts" >> beam.Reshuffle()
            | "do" >> beam.ParDo(self.do)
        )


class ReadParts(beam.DoFn):
    """Parts of the MIDI files → files that say what they hold."""

    def __init__(self, job: PairsJob) -> None:
        self._job = job

    def process(self, part: int) -> Iterable[int]:
        """Reads one part, and counts for whoever watches the runner."""
        read, broken = read_part(self._job, part)
        Metrics.counter("hashbeam", "midi_files_read").inc(read)
        Metrics.counter("hashbeam", "midi_files_failed").inc(broken)
        yield part


class AlignParts(beam.DoFn):
    """Parts of the candidates → files of their alignments.

    One decoder a worker: a child process, since a broken file may crash or hang it.
    """

    def __init__(self, job: PairsJob) -> None:
        self._job = job

    def setup(self) -> None:
        """Starts the decoder, and opens the model."""
        self._encoder = open_encoder(self._job.options.model, self._job.digest)
        self._stack = contextlib.ExitStack()
        decoder = self._stack.enter_context(Decoder())
        decoder.start()
        timeout_s = self._job.options.decode_timeout_s
        self._ear = functools.partial(
            hear_recording,
            decoder=decoder,
            timeout_s=timeout_s,
            encoder=self._encoder,
            allowed=self._job.options.allowed,
        )

    def process(self, part: int) -> Iterable[int]:
        """Aligns one part, and counts for whoever watches the runner."""
        aligned, failed = align_part(self._job, part, self._ear, self._encoder)
        Metrics.counter("hashbeam", "pairs_aligned").inc(aligned)
        Metrics.counter("hashbeam", "pairs_failed").inc(failed)
        yield part

    def teardown(self) -> None:
        """Ends the decoder."""
        self._stack.close()
