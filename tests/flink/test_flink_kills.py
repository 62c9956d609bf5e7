"""A task manager is killed in the middle of a job: the job ends all the same, with the same result.

What is published is read all the while: a reader sees the old version or the new one, whole.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flink_jobs import COMMAND_S, Run, copy_index, environment, hashbeam
from same_index import assert_same, files, published

from deploy.flink.cluster import Cluster
from hashing.errors import HashbeamError
from pipelines.verify import verify_files
from pipelines.versions import current_version

RECEIPTS = 2  # of the pieces that are done when the kill comes
READ_EVERY_S = 0.2


@pytest.fixture(autouse=True)
def whole_cluster(cluster: Cluster) -> Iterator[None]:
    """What a test has killed is started again."""
    yield
    while cluster.task_managers < 3:
        cluster.start_task_manager()


class Reader:
    """Reads an index again and again: which versions it saw, and what was wrong with them."""

    def __init__(self, index: Path) -> None:
        self._index, self._over = index, threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.seen, self.wrong, self.reads = list[str](), list[str](), 0

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(READ_EVERY_S):
            version = current_version(str(self._index))
            if version is None:
                continue
            try:
                manifest = published(self._index)
                # Every byte of every file against the manifest's checksums.
                self.wrong += map(str, verify_files(str(self._index), manifest))
            except (HashbeamError, OSError, AssertionError) as error:
                self.wrong.append(str(error))
            self.reads += 1
            if version not in self.seen:
                self.seen.append(version)


@contextlib.contextmanager
def under_way(work: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on while the block runs."""
    with subprocess.Popen(
        hashbeam(*arguments),
        cwd=work,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            yield command
        finally:
            if command.poll() is None:
                command.kill()


def wait_for_receipts(index: Path, version: str, command: subprocess.Popen[str]) -> int:
    """Waits until some parts are hashed; how many."""
    folder = index / "versions" / version / "work" / "receipts"
    while True:
        assert command.poll() is None, f"too late: it has ended; {command.communicate()}"
        done = len(list(folder.glob("part-*.json"))) if folder.is_dir() else 0
        if done >= RECEIPTS:
            return done
        time.sleep(0.02)


def kill_one_at_work(cluster: Cluster) -> None:
    """Kills a task manager that has a piece of work."""
    busy = cluster.busy_task_managers()
    assert len(busy) == 2, busy
    cluster.kill_task_manager(busy[0])


def assert_ended_well(command: subprocess.Popen[str], cluster: Cluster, restarts: int) -> None:
    out, err = command.communicate(timeout=COMMAND_S)
    assert command.returncode == 0, (out, err[-3000:])
    assert cluster.restarts() > restarts, "the kill has not disturbed the job"


def test_killed_in_index(
    work: Path, first: Path, local_first: Path, cluster: Cluster, on_flink: list[str]
) -> None:
    index, restarts = work / "killed.first", cluster.restarts()
    arguments = ("index", "--catalog", first, "--out", index, *on_flink)
    with under_way(work, *arguments) as command, Reader(index) as reader:
        done = wait_for_receipts(index, "000001", command)
        kill_one_at_work(cluster)
        assert current_version(str(index)) is None
        assert_ended_well(command, cluster, restarts)
    assert done < len([place for place in files(index) if place[0] == "codes"])
    assert not reader.wrong
    assert set(reader.seen) <= {"000001"}
    assert_same(index, local_first)


def test_killed_in_reindex(
    work: Path,
    second: Path,
    local_first: Path,
    local_second: Path,
    cluster: Cluster,
    on_flink: list[str],
    run: Run,
) -> None:
    index, restarts = copy_index(local_first, work / "killed.second"), cluster.restarts()
    # All is hashed anew, so that there is a middle to be killed in.
    flags = ("--catalog", second, "--index", index, "--force", "--max-shrink", 0.5)
    with under_way(work, "reindex", *flags, *on_flink) as command, Reader(index) as reader:
        wait_for_receipts(index, "000002", command)
        kill_one_at_work(cluster)
        assert_ended_well(command, cluster, restarts)
        time.sleep(2 * READ_EVERY_S)
    assert not reader.wrong
    assert reader.seen[0] == "000001"
    assert reader.reads >= 3
    plain = copy_index(local_first, work / "plain.second")
    run("reindex", "--catalog", second, "--index", plain, "--force", "--max-shrink", 0.5)
    assert_same(index, plain)


def test_what_a_reader_is_told_of_a_damaged_file(work: Path, local_first: Path) -> None:
    """The reader of these tests can see damage."""
    index = copy_index(local_first, work / "hurt")
    entry = next(one for one in published(index).files if one.kind == "tables")
    (index / entry.path).write_bytes(b"x" * entry.bytes)
    with Reader(index) as reader:
        while not reader.reads:
            time.sleep(READ_EVERY_S)
    assert any(entry.path in line for line in reader.wrong)
