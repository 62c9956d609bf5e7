"""Jobs that are sent and not waited for: the last step publishes, whatever happens on the way."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import away_runner
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from published_index import wav
from tiny_catalog import tiny_catalog, tune, write_rows

from hashing.errors import HashbeamError
from pipelines.cli import main
from pipelines.detached import PATIENCE_S, POLL_S, command_flag, command_of, give_again
from pipelines.history import list_versions
from pipelines.index import build_index
from pipelines.index_options import IndexOptions
from pipelines.job_folder import FinishedError
from pipelines.launch import launch_time
from pipelines.lock import IndexLock, LockedError
from pipelines.versions import current_version, open_manifest

pytestmark = pytest.mark.usefixtures("one_index_decoder", "one_decoder")

AWAY = [f"--runner={away_runner.RUNNER}", "--detach", "--json"]


@pytest.fixture(autouse=True)
def no_jobs() -> Iterator[None]:
    """No test leaves a job to the next."""
    away_runner.JOBS.clear()
    yield
    assert not away_runner.JOBS


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Five tracks."""
    return tiny_catalog(tmp_path / "music", 5)


def sent(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What a command that is sent away prints."""
    capsys.readouterr()
    assert main([*map(str, arguments), *AWAY]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sent"]
    return told


def test_an_index_is_published_by_the_last_step(
    tmp_path: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, plain = tmp_path / "index", tmp_path / "plain"
    told = sent(capsys, "index", "--catalog", catalog, "--out", index, "--workers", 7)
    assert told["job"] == "away-1"
    assert current_version(str(index)) is None
    with IndexLock(str(index)):  # nobody holds it while the job goes on
        pass
    away_runner.do_next()
    build_index(IndexOptions(str(catalog), str(plain), None, 1, quiet=True))
    made, wanted = open_manifest(str(index)), open_manifest(str(plain))
    told = json.loads((index / "versions" / "000001" / "run.json").read_text())
    assert told["parts_resumed"] == 0  # they are the work of this command
    assert told["workers"] == 1  # that were seen
    assert told["times_real_time"] > 0
    assert told["startup_s"] > 0
    digests = [[(file.kind, file.sha256) for file in one.files] for one in (made, wanted)]
    assert digests[0] == digests[1]


def test_a_reindex_is_published_and_one_of_nothing_sends_nothing(
    tmp_path: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    build_index(IndexOptions(str(catalog), str(index), None, 1, quiet=True))
    assert main(["reindex", "--catalog", str(catalog), "--index", str(index), *AWAY]) == 0
    assert "nothing_sent" not in capsys.readouterr().out
    assert not away_runner.JOBS
    wav(tmp_path / "music" / "new.wav", tune(77, 3.0))
    with catalog.open("a") as file:
        file.write("new,new.wav,New\n")
    sent(capsys, "reindex", "--catalog", catalog, "--index", index)
    assert current_version(str(index)) == "000001"
    away_runner.do_next()
    assert current_version(str(index)) == "000002"
    capsys.readouterr()
    assert main(["list", str(index), "--json"]) == 0
    assert '"new"' in capsys.readouterr().out


def test_segments_are_merged_and_old_versions_deleted_by_the_last_step(
    tmp_path: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    build_index(IndexOptions(str(catalog), str(index), None, 1, quiet=True))
    wav(tmp_path / "music" / "new.wav", tune(77, 3.0))
    with catalog.open("a") as file:
        file.write("new,new.wav,New\n")
    where = ["--catalog", str(catalog), "--index", str(index)]
    assert main(["reindex", *where, "--workers", "1", "--quiet"]) == 0
    for path in index.rglob("*"):
        os.utime(path, (1e9, 1e9))
    sent(capsys, "compact", "--all", "--keep", 1, index)
    assert current_version(str(index)) == "000002"
    assert (index / "versions/000001/manifest.json").exists()
    away_runner.do_next()
    (left,) = list_versions(str(index))
    assert (left.version, left.segments, left.tracks) == ("000003", 1, 6)
    # Nothing is left to do, and nothing is sent.
    capsys.readouterr()
    assert main(["compact", "--index", str(index), "--keep", "1", *AWAY]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["merge"]) == ("000003", None)
    assert (told["gc"]["kept"], told["gc"]["deleted"]) == (["000003"], [])


def test_queries_are_counted_by_the_last_step(
    tmp_path: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, out = tmp_path / "index", tmp_path / "answers"
    build_index(IndexOptions(str(catalog), str(index), None, 1, quiet=True))
    queries = write_rows(
        tmp_path / "q.csv", [{"query_id": "q", "uri": str(tmp_path / "music" / "3.wav")}]
    )
    sent(capsys, "lookup", "--index", index, "--queries", queries, "--out", out)
    assert not (out / "run.json").exists()
    away_runner.do_next()
    told = json.loads((out / "run.json").read_text())
    assert told["matched"] == 1
    assert told["workers"] is None  # nobody has counted them
    assert pq.read_table(out / "matches")["track_id"].to_pylist()[0] == "t03"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--detach"], "--detach: the local engine ends with its command"),
        (["--detach", "--runner=DirectRunner"], "--detach: the local engine ends"),
        (
            ["--runner=DataflowRunner", "--template_location=gs://b/t"],
            "--template_location: the job of a template starts when the launcher has ended",
        ),
    ],
)
def test_what_cannot_be_detached_is_refused_before_any_work(
    tmp_path: Path,
    catalog: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    line: str,
) -> None:
    out = tmp_path / "index"
    assert main(["index", "--catalog", str(catalog), "--out", str(out), *flags]) == 2
    assert line in capsys.readouterr().err
    assert not out.exists()


def test_metrics_are_of_a_command_that_waits(
    tmp_path: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["index", "--catalog", str(catalog), "--out", str(tmp_path / "i"), "--metrics", "m"]
    assert main([*given, *AWAY]) == 2
    assert "--metrics: a command with --detach ends before" in capsys.readouterr().err


def test_files_are_answered_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lookup", "--index", "i", "a.wav", *AWAY]) == 2
    assert "--detach: goes with --queries" in capsys.readouterr().err


def test_the_command_comes_back_as_it_was_but_for_one_worker() -> None:
    args = argparse.Namespace(
        verb="index", name=["A; B", "«Ő» 'x'"], workers="9", detach=True, quiet=False
    )
    command = command_of(PipelineOptions([command_flag(args)]))
    assert command is not None
    assert abs(command.pop("launched") - time.time()) < 60
    assert command == {
        **vars(args),
        "workers": "1",
        "detach": False,
        "quiet": True,
    }
    assert command_of(PipelineOptions([])) is None


class Tries:
    """Stands for a verb: raises what it is given, one after the other, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.waited, self.runs = list(errors), list[float](), 0

    def __call__(self, verb: str, args: argparse.Namespace) -> None:
        assert (verb, args) == ("index", argparse.Namespace(out="o"))
        assert launch_time() == 7.0
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)

    def again(self) -> int:
        command = {"verb": "index", "out": "o", "launched": 7.0}
        return give_again(5, command, self, self.waited.append)


def test_the_last_step_waits_for_a_lock_that_lapses() -> None:
    tries = Tries(LockedError("a"), LockedError("b"))
    assert tries.again() == 1
    assert (tries.runs, tries.waited) == (3, [POLL_S, POLL_S])
    patient = Tries(*[LockedError("held")] * 1000)
    with pytest.raises(LockedError):
        patient.again()
    assert sum(patient.waited) == PATIENCE_S


def test_the_last_step_done_twice_finds_everything_finished() -> None:
    assert Tries(FinishedError("o holds a published index")).again() == 1


def test_a_gate_that_refuses_fails_the_job() -> None:
    with pytest.raises(HashbeamError, match="not published"):
        Tries(HashbeamError("not published: too many failures")).again()
