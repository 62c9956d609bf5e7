"""What memory the steps of an index take in a worker process, for plans and for runners.

Dataflow gives a step with such a hint machines that have as much ("right fitting"). Any other
runner would only keep steps of different hints in different processes, and gets none.
"""

from __future__ import annotations

import re
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)

from hashing.tables import BLOCK_POSTINGS
from pipelines.spills import SPILL_SNIPPETS

# A worker with its decoder, after hundreds of tracks, measured.
WORKER_BYTES = 400e6
# Of a process that builds tables, without the tables: python, Beam, Arrow and the model.
PROCESS_BYTES = 250e6
POSTING_BYTES = 8  # of one that is sorted: key and snippet
# Of one that is spilled, at most: 4.0 with keys of 27 bits, 5.0 with 32 (`deploy/SCALE.md`).
SPILLED_BYTES = 5.1
# Of a key of a directory: its place, while that is written; and at most of the directory itself for
# each posting (`hashing.tables` takes no larger one).
KEY_BYTES, DIRECTORY_BYTES = 8, 2.4
# What keys are made of, of a snippet: 58 bytes of the largest shipped model.
MATERIAL_BYTES = 64

# Of one process, by step. Only what a step cannot do without: plans know more of a job.
HASH_BYTES = round(WORKER_BYTES)
SPILL_BYTES = round(PROCESS_BYTES + SPILL_SNIPPETS * (MATERIAL_BYTES + POSTING_BYTES))
SHARD_BYTES = round(PROCESS_BYTES + BLOCK_POSTINGS * (POSTING_BYTES + KEY_BYTES + DIRECTORY_BYTES))


def needing(process_bytes: int, step: Any, pipeline: beam.Pipeline) -> Any:
    """The step, with a hint of its memory where the runner of the pipeline goes by it.

    Args:
        process_bytes: that one process needs; a machine has one for each core.
    """
    cores = _cores(pipeline.options)
    return step.with_resource_hints(min_ram=process_bytes * cores) if cores else step


def _cores(options: PipelineOptions) -> int:
    """Cores of a machine of Dataflow; 0 where hints are not for the runner.

    >>> def cores(*flags):
    ...     return _cores(PipelineOptions(flags))
    >>> cores("--runner=DataflowRunner", "--machine_type=n2-standard-4"), cores("--runner=dataflow")
    (4, 1)
    >>> cores("--runner=DataflowRunner", "--flexrs_goal=COST_OPTIMIZED"), cores()
    (0, 0)
    """
    runner = (options.view_as(StandardOptions).runner or "").rpartition(".")[2].lower()
    # Right fitting and FlexRS exclude one another.
    if (
        runner.removesuffix("runner") != "dataflow"
        or options.view_as(GoogleCloudOptions).flexrs_goal
    ):
        return 0
    machine: Any = options.view_as(WorkerOptions).machine_type or ""
    custom = re.search(r"custom-(\d+)-", machine)
    plain = re.search(r"-(\d+)$", machine)
    found = custom or plain
    return int(found[1]) if found else 1
