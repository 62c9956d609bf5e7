"""Running pipelines: the local engine, and errors of workers as one line."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

from hashing.errors import CatalogError, HashbeamError, ModelError, UsageError
from pipelines.catalog import read_catalog
from pipelines.progress import Progress, shows_progress
from pipelines.runner import is_local, make_pipeline_options, plain_error, run_pipeline

# As FnApiRunner reports an exception of a worker in another process.
TRACEBACK = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1512, in process
    raise ModelError("model m: lacks x; copy it anew")
hashing.errors.ModelError: model m: lacks x; copy it anew

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1623, in _reraise_augmented
hashing.errors.ModelError: model m: lacks x; copy it anew [while running 'index/hash']

"""


@pytest.mark.parametrize("flags", [[], ["--runner=FnApiRunner"], ["--runner", "DirectRunner"]])
def test_local_runners_are_the_pinned_engine(
    capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    options = make_pipeline_options(3, flags)
    assert options.view_as(StandardOptions).runner == "FnApiRunner"
    assert options.view_as(DirectOptions).direct_num_workers == 3
    assert is_local(options)
    told = capsys.readouterr().err
    assert told == ("hashbeam: --runner=DirectRunner is run as FnApiRunner\n" if flags[1:] else "")


@pytest.mark.parametrize("name", ["DataflowRunner", "flink", "my.own.Runner"])
def test_other_runners_are_passed_through(name: str) -> None:
    options = make_pipeline_options(3, [f"--runner={name}"])
    assert options.view_as(StandardOptions).runner == name
    assert not is_local(options)


def test_an_unknown_runner_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="--runner: Beam has no NoSuchRunner; use one of"):
        make_pipeline_options(1, ["--runner=NoSuchRunner"])


def test_an_error_comes_back_from_its_traceback() -> None:
    error = plain_error(RuntimeError(TRACEBACK))
    assert type(error) is ModelError
    assert str(error) == "model m: lacks x; copy it anew"
    assert plain_error(RuntimeError("ValueError: a defect")) is None
    assert plain_error(RuntimeError("hashing.errors.NoSuchError: x")) is None


def test_an_error_of_a_worker_in_this_process_keeps_type_and_message(tmp_path: Path) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create([str(tmp_path / "no.csv")]) | beam.Map(read_catalog)

    with pytest.raises(CatalogError) as caught:
        run_pipeline(build, make_pipeline_options(1, []))
    assert str(caught.value) == (
        f"{tmp_path}/no.csv does not exist: name a CSV, JSON Lines or Parquet file"
    )


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_pipeline(
            lambda pipeline: pipeline | beam.Create([0]) | beam.Map((1).__truediv__),
            make_pipeline_options(1, []),
        )


def test_an_interrupt_stays_one() -> None:
    def interrupt(element: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(
            lambda pipeline: pipeline | beam.Create([0]) | beam.Map(interrupt),
            make_pipeline_options(1, []),
        )


def test_a_worker_process_that_dies_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    hook = threading.excepthook

    def build(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create([7]) | beam.Reshuffle() | beam.Map(os._exit)

    with pytest.raises(HashbeamError, match=r"^a worker process died .*; run the same command"):
        run_pipeline(build, make_pipeline_options(2, []))
    # Neither the log of the workers nor the tracebacks of Beam's threads.
    assert capfd.readouterr().err == ""
    assert threading.excepthook is hook


def test_the_bar_follows_what_others_do(capfd: pytest.CaptureFixture[str]) -> None:
    done = [0]
    with Progress(4, lambda: done[0], unit="part", show=True):
        done[0] = 3
    assert "3/4" in capfd.readouterr().err
    with Progress(4, lambda: 1 // 0, unit="part", show=False):
        time.sleep(0.01)
    assert capfd.readouterr().err == ""


def test_a_bar_is_shown_when_asked_for_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert not shows_progress(quiet=False, asked=False)
    assert shows_progress(quiet=False, asked=True)
    assert not shows_progress(quiet=True, asked=True)
