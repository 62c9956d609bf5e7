"""How a pipeline is run: the local engine pinned, other runners passed through, errors made plain.

The local engine is Beam's FnApiRunner. Beam's DirectRunner would first try to download a binary,
and chooses its engine by the shape of the pipeline, so that name is taken to mean FnApiRunner too.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from hashing import errors
from hashing.errors import HashbeamError, UsageError
from pipelines.detached import check_detached, command_of, send
from pipelines.launch import is_given_again
from pipelines.workers import Workers

LOCAL_RUNNERS = ("DirectRunner", "BundleBasedDirectRunner", "FnApiRunner")

_OURS: dict[str, type[HashbeamError]] = {
    name: kind
    for name, kind in vars(errors).items()
    # An AudioError ends in failures/ and never gets out of a worker.
    if isinstance(kind, type) and issubclass(kind, HashbeamError) and name != "AudioError"
}
# The error of a worker in another process comes back as the text of its traceback only.
_RAISED = re.compile(rf"^hashing\.errors\.({'|'.join(_OURS)}): (.*)$", re.MULTILINE)
_WHILE = re.compile(r" \[while running '.*'\]$")  # Beam adds the name of the step
_ENDED = re.compile(r"failed in state (\w+): ?(.*)", re.DOTALL)  # of Beam's portable runner
_AGAIN = "the same command goes on from the finished parts"
MOST_TOLD = 300  # characters of what a runner says; its log has the rest
_DIED = ("Channel closed prematurely", "Worker subprocess exited")


def make_pipeline_options(workers: int, beam_args: Sequence[str]) -> PipelineOptions:
    """Beam's options for a run with `workers` processes of the local engine.

    A runner that is not local gets `beam_args` as they are; `workers` does not concern it.

    Raises: UsageError where Beam knows no such runner.

    >>> options = make_pipeline_options(2, ["--runner=DirectRunner"])
    >>> options.view_as(StandardOptions).runner, options.view_as(DirectOptions).direct_num_workers
    ('FnApiRunner', 2)
    """
    options = PipelineOptions(list(beam_args))
    # Our modules are imported by the workers; nothing that lives in __main__ has to be sent.
    options.view_as(SetupOptions).save_main_session = False
    standard = options.view_as(StandardOptions)
    if standard.runner == "DirectRunner":
        print("hashbeam: --runner=DirectRunner is run as FnApiRunner", file=sys.stderr)
    if standard.runner is None or standard.runner in LOCAL_RUNNERS:
        standard.runner = "FnApiRunner"
        options.view_as(DirectOptions).direct_num_workers = workers
        check_detached(options, local=True)
        return options
    known = StandardOptions.KNOWN_RUNNER_NAMES
    if "." not in standard.runner and standard.runner.lower() not in _spellings(known):
        raise UsageError(f"--runner: Beam has no {standard.runner}; use one of {', '.join(known)}")
    check_detached(options, local=False)
    return options


def _spellings(names: Sequence[str]) -> set[str]:
    """Beam takes runners in any case, with or without "Runner" at the end."""
    whole = {name.lower().rpartition(".")[2] for name in names}
    return whole | {name.removesuffix("runner") for name in whole}


def runs_elsewhere(beam_args: Sequence[str]) -> bool:
    """Whether these flags of Beam name a runner that is not the local engine.

    >>> runs_elsewhere(["--runner=DirectRunner"]), runs_elsewhere(["--runner", "FlinkRunner"])
    (False, True)
    """
    runner = PipelineOptions(list(beam_args)).view_as(StandardOptions).runner
    return runner is not None and runner not in LOCAL_RUNNERS


def is_local(options: PipelineOptions) -> bool:
    """Whether these options mean the local engine."""
    return bool(options.view_as(StandardOptions).runner == "FnApiRunner")


def workers_here(options: PipelineOptions, asked: int) -> int | None:
    """Processes that a job had; None where it ran elsewhere, and nobody here has counted them.

    Args:
        asked: of the local engine.

    >>> [workers_here(make_pipeline_options(2, flags), 2) for flags in ([], ["--runner=flink"])]
    [2, None]
    """
    return asked if is_local(options) and not is_given_again() else None


def run_pipeline(build: Callable[[beam.Pipeline], Any], options: PipelineOptions) -> None:
    """Builds a pipeline, runs it, and waits for its end.

    Args:
        build: adds the transforms to an empty pipeline; gives the collection of what is done.
        options: from `make_pipeline_options`.

    Raises: SentAwayError where the job is not waited for (`pipelines.detached`); the HashbeamError
        that a worker raised, also where only its text came back; HashbeamError where a worker
        process died, or the runner gave the job up.
    """
    with _quiet_threads(), Workers() as workers:
        try:
            if (command := command_of(options)) is not None:
                send(build, options, command)
            pipeline = beam.Pipeline(runner=_runner(options, workers), options=options)
            build(pipeline)
            with workers.guard():
                result: Any = pipeline.run()
                state = result.wait_until_finish()
        except Exception as error:
            if "RuntimeError: KeyboardInterrupt" in f"{type(error).__name__}: {error}":
                raise KeyboardInterrupt from error  # Beam makes an error of anything in a step
            died = is_local(options) and any(sign in str(error) for sign in _DIED)
            plain = workers.died() if died else plain_error(error)
            if plain is None and not is_local(options):
                plain = _failed_elsewhere(error, options)
            if plain is None:
                raise
            raise plain from error
    if state not in (None, "DONE"):
        raise HashbeamError(f"the pipeline ended as {state}; see the log of the runner")


def plain_error(error: BaseException) -> HashbeamError | None:
    """The HashbeamError behind what a runner raised; None where it is a defect.

    >>> plain_error(RuntimeError("…\\nhashing.errors.ModelError: no m [while running 'hash']"))
    ModelError('no m')
    """
    if isinstance(error, HashbeamError):
        return type(error)(_WHILE.sub("", str(error)))
    raised = _RAISED.findall(str(error))
    if not raised:
        return None
    name, message = raised[-1]
    return _OURS[name](_WHILE.sub("", message))


def _failed_elsewhere(error: Exception, options: PipelineOptions) -> HashbeamError | None:
    """What a runner that is not ours says of a job that it gave up; None where it is a defect."""
    ended = _ENDED.search(str(error))
    if isinstance(error, grpc.FutureTimeoutError):
        where = options.view_as(PortableOptions).job_endpoint
        return HashbeamError(f"no job server answers at {where}: start it, or mend --job_endpoint")
    if isinstance(error, grpc.RpcError):
        return HashbeamError(f"the runner does not answer any more: {error.details()}; {_AGAIN}")
    if not isinstance(error, RuntimeError) or ended is None:
        return None
    first = next(iter(ended[2].splitlines()), "")[:MOST_TOLD].strip()
    return HashbeamError(
        f"the runner ended the job as {ended[1]}: {first or 'see its log'}; {_AGAIN}"
    )


def _runner(options: PipelineOptions, workers: Workers) -> FnApiRunner | None:
    if not is_local(options):
        return None  # Beam makes it from the options
    if options.view_as(DirectOptions).direct_num_workers == 1:
        return FnApiRunner()
    return FnApiRunner(SubprocessSDKEnvironment.from_command_string(workers.command))


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """When a worker fails, Beam's threads each die of it with a traceback; one line is enough."""
    hook = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        yield
    finally:
        threading.excepthook = hook
