"""The Beam job: MIDI files → queries → candidates → matches, step by step.

What moves between workers is names of tasks. Everything else goes through files, so that memory
grows neither with the index nor with the folder, and a run that is stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from hashing.sequences import SequenceEncoder
from pipelines.matching.align import align_part
from pipelines.matching.find import count_piece, gather_block, search_piece, settle_block
from pipelines.matching.job import (
    ALIGN,
    COUNT,
    GATHER,
    HEAR,
    PRUNE,
    SEARCH,
    STEPS,
    MatchJob,
    Task,
)
from pipelines.matching.queries import Blocks, hear_part
from pipelines.sequence_models import open_encoder

WITH_MODEL = {HEAR: hear_part, ALIGN: align_part}
WITH_QUERIES = {
    COUNT: count_piece,
    PRUNE: settle_block,
    SEARCH: search_piece,
    GATHER: gather_block,
}


class Worker:
    """What a worker holds: the model, when it is needed, and the queries that it has read last."""

    def __init__(self, job: MatchJob) -> None:
        self._job = job
        self._blocks = Blocks(job)
        self._encoder: SequenceEncoder | None = None

    def carry_out(self, task: Task) -> dict[str, float]:
        """Does a task, writes its receipt, and tells what it has counted."""
        if task.step in WITH_MODEL:
            counts = WITH_MODEL[task.step](self._job, task, self._open())
        else:
            queries = self._blocks.read(task.number)
            counts = WITH_QUERIES[task.step](self._job, task, queries)
        self._job.write_receipt(task, counts)
        return counts

    def _open(self) -> SequenceEncoder:
        if self._encoder is None:
            self._encoder = open_encoder(self._job.model, self._job.digest)
        return self._encoder


@dataclasses.dataclass
class MatchMidi(beam.PTransform[Any, Any]):
    """Tasks that are not done yet → their names, when they are.

    Attributes:
        job: what the workers must know.
        tasks: those that are left, of all steps.
    """

    job: MatchJob
    tasks: Sequence[Task]

    def expand(self, pbegin: Any) -> Any:
        """The steps."""
        done = None
        for step in STEPS:
            own = [task for task in self.tasks if task.step == step]
            if not own:
                continue
            tasks = pbegin | f"{step} tasks" >> beam.Create(own, reshuffle=False)
            if done is not None:
                # A step reads what all tasks of the one before it wrote: waits for their names,
                # some 20 bytes each.
                tasks = tasks | f"before {step}" >> beam.Map(_first, beam.pvalue.AsList(done))
            done = (
                tasks
                # Moves some 50 bytes a task; without it one worker would do them all.
                | f"spread {step}" >> beam.Reshuffle()
                | step >> beam.ParDo(CarryOut(self.job))
            )
        return done


def _first(task: Task, _: Sequence[str]) -> Task:
    return task


class CarryOut(beam.DoFn):
    """Tasks in, their names out."""

    def __init__(self, job: MatchJob) -> None:
        self._job = job
        self._shared = Shared()

    def setup(self) -> None:
        """One `Worker` for all threads of a process."""
        self._worker: Worker = self._shared.acquire(lambda: Worker(self._job))

    def process(self, task: Task) -> Iterable[str]:
        """Does one task."""
        for name, value in self._worker.carry_out(task).items():
            if name != "s" and not name.endswith("_s"):
                Metrics.counter("hashbeam", f"{task.step}_{name}").inc(int(value))
        yield task.name
