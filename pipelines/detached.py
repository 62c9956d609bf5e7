"""``--detach``: a job that is sent to its runner and not waited for.

The command prepares its work, sends the job, and ends; its lock is free again. What the command
would have done after the job, a last step of the job does on a worker: it gives the same command
once more, on the worker's local engine, which finds all pieces of work done and publishes. So a
launcher is needed for seconds only, as where Dataflow starts a job from a Flex Template, and
whatever a worker loses on the way is made good as in any run that goes on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.transforms.combiners import Count

from hashing.errors import UsageError
from pipelines.job_folder import FinishedError
from pipelines.launch import launched_at
from pipelines.lock import LEASE_S, LockedError
from pipelines.sent_away import SentAwayError
from pipelines.verbs import VERBS, carry_out

# Of the command, on the worker that gives it again. All else is as the launcher was told.
_ON_THE_WORKER = {
    "workers": "1",
    "detach": False,
    "quiet": True,
    "progress": False,
    "json": True,
}
# s. The lock of a launcher that died, or of an attempt before this one, lapses within its lease.
PATIENCE_S = 2 * LEASE_S
POLL_S = 5.0


class DetachedOptions(PipelineOptions):
    """What the last step of a job is given: the command, as JSON."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--hashbeam_command", default=None, help=argparse.SUPPRESS)


def command_flag(args: argparse.Namespace) -> str:
    """The flag that makes the job of a command a detached one.

    >>> command_flag(argparse.Namespace(verb="index", workers="4", detach=True))
    '--hashbeam_command={"verb": "index", "workers": "1", "detach": false, "launched": ...}'
    """
    values = {name: _ON_THE_WORKER.get(name, value) for name, value in vars(args).items()}
    values["launched"] = time.time()
    return f"--hashbeam_command={json.dumps(values)}"


def command_of(options: PipelineOptions) -> dict[str, Any] | None:
    """The command that the last step is to give; None where the job is waited for."""
    text = options.view_as(DetachedOptions).hashbeam_command
    return None if text is None else json.loads(text)


def check_detached(options: PipelineOptions, *, local: bool) -> None:
    """Refuses runners that cannot do without the launcher, or that cannot do with it.

    Raises: UsageError.
    """
    template = options.view_as(GoogleCloudOptions).template_location
    if command_of(options) is None:
        if template:
            raise UsageError(
                "--template_location: the job of a template starts when the launcher has ended; "
                "add --detach, so that the job itself finishes the work"
            )
    elif local:
        raise UsageError(
            "--detach: the local engine ends with its command; name a runner elsewhere with "
            "--runner, or leave the flag out"
        )


def send(
    build: Callable[[beam.Pipeline], Any], options: PipelineOptions, command: Mapping[str, Any]
) -> None:
    """Sends a job with a last step that gives a command, and does not wait.

    Args:
        build: adds the transforms to an empty pipeline; gives the collection of what is done.

    Raises: SentAwayError, always: the rest of the command is done elsewhere.
    """
    pipeline = beam.Pipeline(options=options)
    _ = (
        build(pipeline)
        # One number, when the last piece is done.
        | "all pieces" >> Count.Globally()
        | "finish" >> beam.Map(give_again, dict(command))
    )
    result: Any = pipeline.run()
    job = getattr(result, "_job_id", None)
    if job is None and getattr(result, "has_job", False):
        job = result.job_id()
    raise SentAwayError(job, str(options.view_as(GoogleCloudOptions).template_location or ""))


def send_nothing(beam_args: Sequence[str]) -> None:
    """Sends a job that does nothing, where a command found nothing to do and a template needs one.

    Raises: SentAwayError where it did.
    """
    options = PipelineOptions(list(beam_args))
    if template := options.view_as(GoogleCloudOptions).template_location:
        pipeline = beam.Pipeline(options=options)
        _ = pipeline | "nothing was left to do" >> beam.Create([0], reshuffle=False)
        pipeline.run()
        raise SentAwayError(None, template)


def give_again(
    _: int,
    command: Mapping[str, Any],
    run: Callable[[str, argparse.Namespace], Any] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Gives a command on a worker, when all pieces of its work are done.

    A worker may die when it has just finished: then the next one finds everything finished.

    Args:
        run: carries a verb out (for tests).

    Raises: HashbeamError as the command itself; also where another one has held the lock for
        `PATIENCE_S`.
    """
    values = dict(command)
    verb, launched = values.pop("verb"), values.pop("launched")
    waited = 0.0
    while True:
        try:
            with launched_at(launched):
                (run or _run_verb)(verb, argparse.Namespace(**values))
        except FinishedError:
            pass
        except LockedError:
            if waited >= PATIENCE_S:
                raise
            wait(POLL_S)
            waited += POLL_S
            continue
        return 1


def _run_verb(verb: str, args: argparse.Namespace) -> None:
    args.verb = verb
    carry_out(importlib.import_module(VERBS[verb].module), args, [])
