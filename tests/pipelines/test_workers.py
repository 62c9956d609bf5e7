"""Worker processes that are stopped: none is left behind, and who waits for them is let go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_catalog import tiny_catalog

from pipelines import cli
from pipelines.workers import Workers

ROOT = Path(cli.__file__).parent.parent
ENDS_S = 60.0  # s; it takes three to five


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More tracks than are hashed before the command is stopped."""
    return tiny_catalog(tmp_path_factory.mktemp("music"), 120, seconds=12, files=4)


def workers_of(job: int) -> list[int]:
    """Worker processes in the group of a command."""
    found = subprocess.run(
        ["pgrep", "-g", str(job), "-f", "sdk_worker_main"], capture_output=True, text=True
    )
    return [int(number) for number in found.stdout.split()]


def heed_ctrl_c() -> None:
    """What a shell runs in the background is deaf to it, and so is what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(job: subprocess.Popen[str], there: Callable[[], bool]) -> None:
    until = time.monotonic() + ENDS_S
    while not there():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


# While workers start nobody tells them that they are not needed any more; later Beam does, mostly.
@pytest.mark.parametrize(
    ("number", "status", "told", "starting"),
    [(signal.SIGTERM, 143, "stopped", False), (signal.SIGINT, 130, "interrupted", True)],
)
def test_a_command_that_is_stopped_ends_its_workers(
    catalog: Path,
    model_folder: Path,
    tmp_path: Path,
    number: signal.Signals,
    status: int,
    told: str,
    starting: bool,
) -> None:
    out, metrics = tmp_path / "index", tmp_path / "metrics.prom"
    flags = ["--workers=2", "--metrics", str(metrics), "--model", str(model_folder)]
    job = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "index", "--catalog", catalog, "--out", out, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    receipts = out / "versions/000001/work/receipts"
    wait_for(job, lambda: bool(workers_of(job.pid) if starting else list(receipts.glob("*"))))
    os.kill(job.pid, number)  # the command alone: its workers have heard nothing
    _, stderr = job.communicate(timeout=ENDS_S)
    assert stderr == (
        f"hashbeam index: error: {told}; run the same command again to go on from the finished "
        "parts\n"
    )
    assert job.returncode == status
    assert workers_of(job.pid) == []
    assert not (out / "LOCK").exists()
    assert "hashbeam_last_run_success{" in metrics.read_text()
    assert not (out / "CURRENT").exists()


def test_after_a_kill_no_worker_starts() -> None:
    with Workers() as workers:
        workers.kill()
        done = subprocess.run(workers.command, shell=True, capture_output=True)
        assert done.returncode == 1
        assert workers.statuses() == [1]


def test_what_is_no_worker_is_not_killed() -> None:
    """A number may have been given to another process since."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with Workers() as workers:
        workers._file("numbers").write_text(f"{other.pid}\n")
    assert other.poll() is None
    other.communicate(b"\n")
    assert other.returncode == 0
