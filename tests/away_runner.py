"""A runner elsewhere, for tests: jobs are taken, and done when the test says so.

main(["index", …, "--runner=away_runner.AwayRunner", "--detach"])   # ends at once
do_next()                                                           # the job, on FnApiRunner
"""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner

RUNNER = f"{__name__}.AwayRunner"
JOBS: list[Any] = []


class Taken(PipelineResult):
    """A job that was taken and is not done."""

    def __init__(self, job: str) -> None:
        super().__init__("RUNNING")
        self._job_id = job


class AwayRunner(PipelineRunner):
    """Takes pipelines."""

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Taken:
        """Notes a pipeline."""
        JOBS.append(pipeline)
        return Taken(f"away-{len(JOBS)}")


def do_next() -> None:
    """Does the first job that is not done."""
    FnApiRunner().run_pipeline(JOBS.pop(0), PipelineOptions([])).wait_until_finish()
