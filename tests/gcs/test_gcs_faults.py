"""What a store and its network do wrong: passing faults are waited out, lasting ones one line."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from faulty_proxy import Fault, FaultyProxy

from hashing.errors import HashbeamError
from pipelines import gcs, io, parquet, patience
from pipelines.lock import IndexLock

BIG = bytes(range(256)) * 33_000  # 8.4 MB: more than goes out in one request


@pytest.fixture
def folder(proxy: FaultyProxy) -> str:
    """A folder on ``gs://`` behind the proxy, with ``a`` in it."""
    name = f"bucket-{os.urandom(4).hex()}"
    gcs.client().create_bucket(name)
    io.write_bytes(f"gs://{name}/f/a", b"abc")
    proxy.seen.clear()
    return f"gs://{name}/f"


@pytest.fixture
def impatient(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second without an answer is too long."""
    patient = patience.PATIENCE
    monkeypatch.setattr(patience, "PATIENCE", dataclasses.replace(patient, request_s=0.5))


PASSING = [429, 500, 502, 503, 504, 408, "reset", "lost answer"]


@pytest.mark.parametrize("kind", [*PASSING, "torn download"])
def test_reading_waits_out_what_passes(folder: str, proxy: FaultyProxy, kind: int | str) -> None:
    def broken() -> contextlib.AbstractContextManager[None]:
        return faults(proxy, Fault(kind, times=2))

    with broken():
        assert io.read_bytes(f"{folder}/a") == b"abc"
    with broken():
        assert io.read_range(f"{folder}/a", 1, 2) == b"bc"
    if kind != "torn download":  # of a short listing, half may be whole
        with broken():
            assert io.list_files(folder) == {"a": 3}
    with broken():
        assert io.file_size(f"{folder}/a") == 3


@contextlib.contextmanager
def faults(proxy: FaultyProxy, *of: Fault) -> Iterator[None]:
    """These faults, every one of which must happen."""
    proxy.faults = list(of)
    yield
    assert [fault for fault in of if fault.times] == []
    proxy.faults = []


@pytest.mark.parametrize("kind", [*PASSING, "torn upload"])
def test_writing_waits_out_what_passes(folder: str, proxy: FaultyProxy, kind: int | str) -> None:
    with faults(proxy, Fault(kind, "^POST", times=2)):
        io.write_bytes(f"{folder}/b", b"new")
    assert io.read_bytes(f"{folder}/b") == b"new"


@pytest.mark.usefixtures("impatient")
def test_silence_is_waited_out(folder: str, proxy: FaultyProxy) -> None:
    with faults(proxy, Fault("stall")):
        assert io.read_bytes(f"{folder}/a") == b"abc"
    with faults(proxy, Fault("stall")):
        io.write_bytes(f"{folder}/b", b"new")
    assert io.read_bytes(f"{folder}/b") == b"new"


@pytest.mark.parametrize("kind", [503, "reset", "torn upload", "lost answer"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_large_object_arrives_whole(
    folder: str, proxy: FaultyProxy, kind: int | str, method: str
) -> None:
    """It is sent by a session that is opened (POST) and then takes it (PUT)."""
    with faults(proxy, Fault(kind, f"^{method}")):
        info = io.write_bytes(f"{folder}/big", BIG)
    assert io.sha256_file(f"{folder}/big") == info.sha256


def test_a_large_object_is_read_whole_over_a_bad_line(folder: str, proxy: FaultyProxy) -> None:
    info = io.write_bytes(f"{folder}/big", BIG)
    with faults(proxy, Fault("torn download", "alt=media", times=3)):
        assert io.sha256_file(f"{folder}/big") == info.sha256
    with faults(proxy, Fault(503, times=2)), io.local_copy(f"{folder}/big") as copy:
        assert Path(copy).read_bytes() == BIG


@pytest.mark.parametrize("kind", [503, "reset", "lost answer"])
def test_a_condition_that_was_met_stays_met(
    folder: str, proxy: FaultyProxy, kind: int | str
) -> None:
    """A repeated write meets its own first attempt, whose answer was lost."""
    with faults(proxy, Fault(kind, "^POST")):
        assert io.create_exclusive(f"{folder}/new", b"1")
    assert not io.create_exclusive(f"{folder}/new", b"2")
    found = io.read_stamped(f"{folder}/a")
    assert found is not None
    with faults(proxy, Fault(kind, "^POST", times=2)):
        stamp = io.replace_if(f"{folder}/a", b"2", found.stamp)
    again = io.read_stamped(f"{folder}/a")
    assert again is not None
    assert (again.data, again.stamp) == (b"2", stamp)
    assert io.replace_if(f"{folder}/a", b"3", found.stamp) is None


@pytest.mark.parametrize("kind", [503, "reset", "lost answer"])
def test_deleting_waits_out_what_passes(folder: str, proxy: FaultyProxy, kind: int | str) -> None:
    with faults(proxy, Fault(kind, "^DELETE", times=2)):
        io.remove(f"{folder}/a")
    assert not io.exists(f"{folder}/a")


def test_deletions_carry_their_condition(folder: str, proxy: FaultyProxy) -> None:
    found = io.read_stamped(f"{folder}/a")
    assert found is not None
    assert io.remove_if(f"{folder}/a", found.stamp)
    assert f"ifGenerationMatch={found.stamp}" in proxy.seen[-1]
    with faults(proxy, Fault(412, "^DELETE")):
        assert not io.remove_if(f"{folder}/a", found.stamp)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (503, r"the store is not available \(503\)"),
        (429, r"too many requests \(429\)"),
        ("reset", r"the connection was lost \(\w+\)"),
        ("stall", r"the store did not answer in time \(\w*Timeout\w*\)"),
    ],
)
def test_what_lasts_is_one_line_that_names_the_object(
    folder: str, proxy: FaultyProxy, kind: int | str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry = patience.Patience(first_s=0.05, longest_s=0.2, deadline_s=0.6, request_s=0.4)
    monkeypatch.setattr(patience, "PATIENCE", hurry)
    proxy.faults = [Fault(kind, times=10_000)]
    started = time.monotonic()
    told = rf"{words} \(tried \d+ times in \d s\); check"
    with pytest.raises(HashbeamError, match=rf"^cannot read {folder}/a: {told}") as caught:
        io.read_bytes(f"{folder}/a")
    assert "\n" not in str(caught.value)
    with pytest.raises(HashbeamError, match=rf"^cannot write {folder}/b: {told}"):
        io.write_bytes(f"{folder}/b", b"x")
    with pytest.raises(HashbeamError, match=rf"^cannot read {folder}: {told}"):
        io.list_files(folder)
    with pytest.raises(HashbeamError, match=rf"^cannot read {folder}/t: {told}"):
        parquet.read_table(f"{folder}/t")
    assert time.monotonic() - started < 20
    proxy.faults = []
    assert io.read_if_exists(f"{folder}/b") is None  # and nothing torn stands there


def test_what_will_not_pass_is_told_at_once(folder: str, proxy: FaultyProxy) -> None:
    proxy.faults = [Fault(403, times=10_000)]
    with pytest.raises(HashbeamError, match=rf"cannot read {folder}/a: these credentials may not"):
        io.read_bytes(f"{folder}/a")
    assert len(proxy.seen) == 1


def test_a_torn_upload_leaves_what_stood_there(
    folder: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(patience.PATIENCE, deadline_s=1.0)
    monkeypatch.setattr(patience, "PATIENCE", short)
    proxy.faults = [Fault("torn upload", "^(POST|PUT)", times=10_000)]
    for data in (b"new" * 1000, BIG):
        with pytest.raises(HashbeamError, match=rf"cannot write {folder}/a: the connection was"):
            io.write_bytes(f"{folder}/a", data)
    proxy.faults = []
    assert io.read_bytes(f"{folder}/a") == b"abc"


def test_a_table_read_over_a_bad_line(folder: str, proxy: FaultyProxy) -> None:
    table = pa.table({"x": list(range(200_000))})
    parquet.write_table(f"{folder}/t.parquet", table)
    with faults(proxy, Fault("torn download", "alt=media"), Fault(503), Fault("reset")):
        assert parquet.read_table(f"{folder}/t.parquet").equals(table)


def test_the_lock_is_taken_renewed_and_released_over_a_bad_line(
    folder: str, proxy: FaultyProxy
) -> None:
    with (
        faults(proxy, Fault("lost answer", "^POST"), Fault(503), Fault("reset")),
        IndexLock(f"{folder}/index", lease_s=0.3) as lock,
    ):
        first = io.read_bytes(f"{folder}/index/LOCK")
        proxy.faults.append(Fault("lost answer", "^POST", times=2))
        deadline = time.monotonic() + 10
        while io.read_bytes(f"{folder}/index/LOCK") == first:
            assert time.monotonic() < deadline, "the lease is not renewed"
            time.sleep(0.05)
        lock.check()
    assert io.list_files(f"{folder}/index") == {}


def run_without_credentials(emulator: str | None, path: str) -> tuple[float, str]:
    """Seconds that a read of `path` takes in a new process, and what it says."""
    program = (
        "import sys, time\n"
        "from hashing.errors import HashbeamError\n"
        "from pipelines import io\n"
        "import google.cloud.storage\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    said = repr(io.read_if_exists(sys.argv[1]))\n"
        "except HashbeamError as error:\n"
        "    said = str(error)\n"
        "print(time.monotonic() - started, said)\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")}
    env.pop("STORAGE_EMULATOR_HOST", None)
    env |= {"STORAGE_EMULATOR_HOST": emulator} if emulator else {"GCE_METADATA_HOST": "127.0.0.1:9"}
    env |= {"PYTHONPATH": str(Path(io.__file__).parents[1]), "HOME": "/nonexistent"}
    command = [sys.executable, "-c", program, path]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    seconds, _, said = done.stdout.strip().partition(" ")
    return float(seconds), said


def test_nobody_waits_for_credentials_that_nobody_needs(folder: str, proxy: FaultyProxy) -> None:
    seconds, said = run_without_credentials(proxy.address, f"{folder}/a")
    assert said == "b'abc'"
    assert seconds < 5


def test_credentials_that_are_missing_are_one_line() -> None:
    _, said = run_without_credentials(None, "gs://bucket/a")
    assert said.startswith("gs://bucket/a: no Google credentials were found: run `gcloud auth")
