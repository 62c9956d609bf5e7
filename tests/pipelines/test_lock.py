"""One writer an index: the second is refused, a dead one is recognised, a lost lock is noticed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memory_store
import pytest

from hashing.errors import HashbeamError
from pipelines import io, lock
from pipelines.lock import LEASE_S, IndexLock, LockHolder

HOLD = (
    "import sys, time\n"
    "from pipelines.lock import IndexLock\n"
    "with IndexLock(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `tmp_path`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(lock.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def read_lock(index: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((index / "LOCK").read_bytes())
    return values


def rewrite_lock(index: Path, **changes: Any) -> None:
    (index / "LOCK").write_text(json.dumps({**read_lock(index), **changes}))


@pytest.fixture
def left_behind(tmp_path: Path) -> Path:
    """An index whose lock is this very process's, as if it were still held; tests change it."""
    with IndexLock(str(tmp_path)):
        values = read_lock(tmp_path)
    (tmp_path / "LOCK").write_text(json.dumps(values))
    return tmp_path


@pytest.mark.parametrize("kind", ["disk", "object store"])
def test_the_second_writer_is_refused_and_the_next_is_not(tmp_path: Path, kind: str) -> None:
    memory_store.OBJECTS.clear()
    index = str(tmp_path / "new" / "index") if kind == "disk" else "mem://bucket/index"
    with IndexLock(index) as first:
        first.check()
        holder = json.loads(io.read_bytes(io.join(index, "LOCK")))
        with pytest.raises(HashbeamError) as caught, IndexLock(index):
            raise AssertionError("not reached")
        assert str(caught.value) == (
            f"{index} is being written by process {os.getpid()} of host {socket.gethostname()} "
            f"since {holder['since']}; wait until it has finished, or stop it"
        )
        first.check()
    assert io.list_files(index) == {}
    with IndexLock(index):
        assert io.list_dir(index) == ["LOCK"]
    assert io.list_files(index) == {}


def test_the_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), IndexLock(str(tmp_path)):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_live_process_keeps_its_lock_and_a_killed_one_loses_it(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(HashbeamError, match=f"written by process {holder.pid} of host .* since"):
        IndexLock(str(tmp_path)).__enter__()
    rewrite_lock(tmp_path, lease_end=0.0)  # suspended, say: on this machine the process counts
    with pytest.raises(HashbeamError, match=f"written by process {holder.pid} of host"):
        IndexLock(str(tmp_path)).__enter__()
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    with IndexLock(str(tmp_path)):
        assert read_lock(tmp_path)["pid"] == os.getpid()


def test_another_process_of_the_same_number_is_not_the_holder(left_behind: Path) -> None:
    with pytest.raises(HashbeamError, match="being written"), IndexLock(str(left_behind)):
        raise AssertionError("not reached")
    rewrite_lock(left_behind, process_start="1")
    with IndexLock(str(left_behind)) as taken:
        taken.check()


@pytest.mark.parametrize(
    "elsewhere", [{"host": "other"}, {"machine": "the boot before"}, {"machine": ""}]
)
def test_the_lease_decides_about_other_machines(
    left_behind: Path, elsewhere: dict[str, str]
) -> None:
    rewrite_lock(left_behind, **elsewhere, process_start="1", lease_end=time.time() + 50)
    with pytest.raises(HashbeamError, match=r"if it is dead, its lease lapses in (49|50) s"):
        IndexLock(str(left_behind)).__enter__()
    rewrite_lock(left_behind, lease_end=time.time() - 1)
    with IndexLock(str(left_behind)) as taken:
        taken.check()
    assert os.listdir(left_behind) == []


def test_the_lease_is_renewed_while_the_work_goes_on(tmp_path: Path) -> None:
    others = set(threading.enumerate())
    with IndexLock(str(tmp_path), lease_s=0.06):
        first = read_lock(tmp_path)
        assert first["lease_end"] - time.time() < 0.06 < LEASE_S
        deadline = time.monotonic() + 10
        while (later := read_lock(tmp_path))["lease_end"] < first["lease_end"] + 0.1:
            assert time.monotonic() < deadline, "the lease is not renewed"
            time.sleep(0.01)
        assert {**later, "lease_end": 0} == {**first, "lease_end": 0}
    renewals = set(threading.enumerate()) - others
    assert not [thread for thread in renewals if thread.name == "hashbeam-lock"]


def test_a_lost_lock_is_noticed_and_not_taken_from_its_new_holder(tmp_path: Path) -> None:
    with IndexLock(str(tmp_path)) as held:
        rewrite_lock(tmp_path, token="another", host="other", pid=7)
        with pytest.raises(
            HashbeamError, match=r"was taken by process 7 of host other since .*; n"
        ):
            held.check()
    assert read_lock(tmp_path)["token"] == "another"
    (tmp_path / "LOCK").unlink()
    with IndexLock(str(tmp_path)) as held:
        (tmp_path / "LOCK").unlink()
        with pytest.raises(HashbeamError, match="was removed; nothing was published"):
            held.check()


@pytest.mark.parametrize("data", [b"", b"{", b'{"format_version": 1}', b'{"format_version": 2}'])
def test_a_lock_that_cannot_be_read_is_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "LOCK").write_bytes(data)
    with pytest.raises(HashbeamError, match="LOCK cannot be read as a lock; make sure that") as e:
        IndexLock(str(tmp_path)).__enter__()
    assert "\n" not in str(e.value)
    assert (tmp_path / "LOCK").read_bytes() == data


@pytest.mark.parametrize("attempt", range(5))
def test_of_many_writers_one_takes_the_lock_of_a_dead_one(left_behind: Path, attempt: int) -> None:
    rewrite_lock(left_behind, process_start="1")
    start, finished = threading.Barrier(6), threading.Barrier(6)
    taken: list[IndexLock] = []

    def take() -> None:
        start.wait()
        try:
            with IndexLock(str(left_behind)) as mine:
                taken.append(mine)
                finished.wait()
        except HashbeamError:
            finished.wait()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_what_a_killed_holder_left_is_deleted(tmp_path: Path) -> None:
    (tmp_path / ".LOCK.0f.tmp").write_bytes(b"half")
    with IndexLock(str(tmp_path)):
        assert os.listdir(tmp_path) == ["LOCK"]


def test_a_file_in_place_of_the_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HashbeamError, match=r"cannot write .*file: .*; a file stands where a fol"):
        IndexLock(str(tmp_path / "file")).__enter__()


def test_the_start_of_a_process_tells_it_from_others(holder: subprocess.Popen[str]) -> None:
    mine, its = lock._process_start(os.getpid()), lock._process_start(holder.pid)
    assert mine is not None
    assert its is not None
    assert int(mine) < int(its)  # in clock ticks since the boot
    assert lock._process_start(2**22 + 1) is None  # above the largest number that Linux gives


def test_the_holder_is_a_record(left_behind: Path) -> None:
    holder = LockHolder.from_json(read_lock(left_behind), "LOCK")
    assert holder.pid == os.getpid()
    assert dataclasses.asdict(holder) == read_lock(left_behind)
