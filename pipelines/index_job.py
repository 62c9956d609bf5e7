"""The Beam job of an index: parts are hashed, changed rows rewritten, tables built.

What flows are numbers and names only: files are written by the workers, and receipts on the store
are the truth about them, so that a run can be stopped and continued at any moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from hashing.encoders import Hasher
from hashing.errors import HashbeamError
from hashing.listening import ListeningDecoder
from hashing.quantizers import Quantizer
from pipelines.also import ALSO, load_kind
from pipelines.footprint import HASH_BYTES, needing
from pipelines.gather import check_failures, part_receipts
from pipelines.kept import KeptTracks
from pipelines.part_files import part_name
from pipelines.parts import HashJob, hash_part
from pipelines.reindexing.edits import edit_name, edit_rows
from pipelines.runs import Receipt, Run
from pipelines.segment_codes import SegmentCodes, read_segments
from pipelines.sent_quantizer import QuantizerByName, check_digest
from pipelines.tables import BuildTables, choose_key_bits, plan_shards, spills_of

# Counters of a part that the runner shows while it works; `run.json` has all of them.
COUNTED = (
    *("tracks_hashed", "tracks_failed", "snippets", "audio_s"),
    *(one.made for one in ALSO.values()),
)


@dataclasses.dataclass
class IndexJob(QuantizerByName, beam.PTransform[Any, Any]):
    """Parts of a catalogue → codes → hash tables, each leaving files and a receipt.

    Attributes:
        job: what the workers must know.
        model: name or folder of the hasher.
        quantizer: makes keys of codes.
        key_bits: of a key, or None to choose by the number of snippets.
        max_failures: share of failed tracks above which no tables are built.
        beside: what is made beside codes (`pipelines.also.ALSO`) → name or folder of its model.
    """

    job: HashJob
    model: str
    quantizer: Quantizer
    key_bits: int | None
    max_failures: float
    beside: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def made_for(self) -> Run:
        """See `QuantizerByName`."""
        return self.job.run

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        run = self.job.run
        done = run.receipts()
        missing = [part for part in run.plan.parts if part_name(part) not in done]
        edits = [piece for piece in range(run.plan.n_edits) if edit_name(piece) not in done]
        if edits:
            edited = (
                pbegin
                | "edits" >> beam.Create(edits, reshuffle=False)
                # Moves one number for each 64 files of tracks.
                | "spread edits" >> beam.Reshuffle()
                | "edit" >> beam.Map(edit_once, run)
            )
        hash_parts = beam.ParDo(HashParts(self.job, self.model, self.beside))
        hashed = (
            pbegin
            | "parts" >> beam.Create(missing, reshuffle=False)
            # Moves one number a part; without it one worker would hash them all.
            | "spread parts" >> beam.Reshuffle()
            | "hash" >> needing(HASH_BYTES, hash_parts, pbegin.pipeline)
        )
        built = (
            pbegin
            | "once" >> beam.Create([run], reshuffle=False)
            # The names of the parts (a few bytes each) hold it back until all are hashed.
            | "segments" >> beam.FlatMap(self._segments, beam.pvalue.AsList(hashed))
            | "tables" >> self._tables()
        )
        return (built, edited) | "done" >> beam.Flatten() if edits else built

    def is_done(self) -> bool:
        """Whether every piece of work has its receipt: then there is nothing to run."""
        run = self.job.run
        done = run.receipts()
        names = [part_name(part) for part in run.plan.parts]
        names += [edit_name(piece) for piece in range(run.plan.n_edits)]
        if any(name not in done for name in names):
            return False
        segments = read_segments(run, done) if run.plan.n_parts else []
        return self._tables().is_built(segments, done)

    def _tables(self) -> BuildTables:
        return BuildTables(self.job.run, self.model, self.quantizer, self.key_bits)

    def count_pieces(self, parts: Mapping[str, Receipt]) -> int:
        """Pieces of work of the run, each of which leaves a receipt.

        Args:
            parts: receipts of parts by name; until all are there, one shard a table is reckoned.
        """
        run = self.job.run
        known = run.plan.n_parts + run.plan.n_edits
        if not run.plan.n_parts:
            return known
        if len(parts) < run.plan.n_parts:
            return known + self.quantizer.n_tables
        segments = read_segments(run, parts)
        bits = self.key_bits or choose_key_bits(segments, self.quantizer)
        for segment in segments:
            known += len(spills_of(segment, self.quantizer, bits))
            known += sum(1 for _ in plan_shards(segment, self.quantizer, bits))
        return known

    def _segments(self, run: Run, hashed: Iterable[str]) -> list[SegmentCodes]:
        receipts = run.receipts()
        try:
            check_failures(run, part_receipts(run, receipts), self.max_failures)
        except HashbeamError:
            return []  # no tables; the launcher says why
        return read_segments(run, receipts)


def edit_once(piece: int, run: Run) -> str:
    """The receipt of a piece of rows that are rewritten, by name; nobody does it twice."""
    return (run.finished(edit_name(piece)) or edit_rows(run, piece)).name


class HashParts(beam.DoFn):
    """Part numbers in, names of receipts out; one hasher and one decoder a worker."""

    def __init__(self, job: HashJob, model: str, beside: Mapping[str, str]) -> None:
        self._job, self._model, self._beside = job, model, dict(beside)
        self._shared, self._shared_beside = Shared(), {name: Shared() for name in beside}

    def setup(self) -> None:
        """Loads the hasher, once for all threads of a worker, and starts the decoder."""
        plan = self._job.run.plan
        self._hasher = self._shared.acquire(lambda: Hasher.load(self._model))
        check_digest(self._model, self._hasher.digest, plan.model_digest)
        self._encoders = dict[str, Any]()
        for name, model in self._beside.items():
            load = functools.partial(load_kind, name, model)
            self._encoders[name] = self._shared_beside[name].acquire(load)
            check_digest(model, self._encoders[name].digest, plan.options["also"][name])
        recoder = self._hasher if self._job.recodes else None
        self._kept = KeptTracks(self._job.sources, recoder, tuple(self._encoders))
        self._stack = contextlib.ExitStack()
        self._decoder = ListeningDecoder()
        self._stack.enter_context(self._decoder)
        if self._job.decodes:
            self._decoder.prepare(self._hasher)
            if self._encoders:
                self._decoder.prepare_beside(self._encoders)

    def process(self, part: int) -> Iterable[str]:
        """Hashes one part, if nobody has, and counts for whoever watches the runner."""
        receipt = self._job.run.finished(part_name(part)) or hash_part(
            self._job, part, self._hasher, self._decoder, self._encoders, self._kept
        )
        for name in COUNTED:
            Metrics.counter("hashbeam", name).inc(int(receipt.counters.get(name, 0)))
        yield receipt.name

    def teardown(self) -> None:
        """Ends the decoder."""
        self._stack.close()
