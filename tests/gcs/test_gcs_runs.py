"""Reindexing that is killed, given up, raced and cut off, on a disk and on ``gs://``."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import Fault, FaultyProxy
from quick_index import QuickJobs, broken, song, update
from stored_songs import StoredSongs

from hashing.errors import HashbeamError
from pipelines import gcs, io, pages, patience
from pipelines.gating.bounds import DEFAULT_BOUNDS
from pipelines.gating.recall import gate_self_recall
from pipelines.versions import current_version, open_manifest

SLOW = "HASHBEAM_SLOW" in os.environ
TRACKS = 10  # in two parts
# What a run does to a store, all of it by these functions of `pipelines.io`.
ACTIONS = ("open_write", "replace_if", "create_exclusive", "remove", "remove_if")


def evening(root: str, model: Path) -> StoredSongs:
    """An index, and a catalogue that has changed since: every kind of work is to be done."""
    songs = StoredSongs(root)
    for number in range(TRACKS):
        songs.put(f"s{number}", song(number, number), title=f"Song {number}")
    songs.put("f", broken(0))
    songs.build(model)
    songs.put("s1", song(1, 1000))
    songs.rows["s2"]["title"] = "Another title"
    songs.move("s3", "s3.song2", "renamed")
    del songs.rows["s4"]
    for number in range(20, 29):
        songs.put(f"n{number}", song(number, number))
    songs.catalog()
    return songs


def in_a_process(action: Callable[[], Any]) -> int:
    """Does something in a process of its own; its exit status, negative where it was killed."""
    process = multiprocessing.get_context("fork").Process(target=action)
    process.start()
    process.join(100)
    assert process.exitcode is not None
    return process.exitcode


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def before_every_action(act: Callable[[int], None]) -> Iterator[None]:
    """Calls `act` with the number of everything that is about to be done to the store."""
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as patched:
        for name in ACTIONS:
            patched.setattr(io, name, _announced(getattr(io, name), lambda: act(next(numbers))))
        yield


def _announced(real: Callable[..., Any], tell: Callable[[], None]) -> Callable[..., Any]:
    def instead(*args: Any, **named: Any) -> Any:
        tell()
        return real(*args, **named)

    return instead


def test_a_reindex_that_is_killed_goes_on(root: str, model: Path, jobs: QuickJobs) -> None:
    """It is killed again and again: each start gets a little further."""
    songs = evening(root, model)
    before = songs.held()
    fresh = io.join(root, "fresh.index")
    songs.build(model, fresh)
    after = songs.held(fresh)
    done, started = set[str](), list[str]()
    published = []
    for stop in itertools.count(3, 1 if SLOW else 3):

        def run(stop: int = stop) -> None:
            with before_every_action(lambda number: die() if number == stop else None):
                update(songs.path("catalog.csv"), songs.index)

        if (status := in_a_process(run)) == 0:
            break
        assert status == -signal.SIGKILL
        version = current_version(songs.index)
        assert version is not None
        published.append(version)
        assert songs.held() == (before if version == "000001" else after)
        receipts = {
            name
            for name in io.list_files(io.join(songs.index, "versions"))
            if "/work/receipts/" in name and name.endswith(".json")
        }
        if version == "000001":
            assert done <= receipts  # nothing that was finished is lost
            done = receipts
    assert published.count("000001") >= 3
    jobs.before = started.append
    assert songs.update().summary is None
    assert started == []
    assert songs.held() == after


def test_finished_work_is_not_repeated(root: str, model: Path, jobs: QuickJobs) -> None:
    songs = evening(root, model)
    started = list[str]()

    def run() -> None:
        jobs.before = lambda name: die() if name.endswith("t01-k0000") else None
        update(songs.path("catalog.csv"), songs.index)

    assert in_a_process(run) == -signal.SIGKILL
    assert io.exists(io.join(songs.index, "LOCK"))
    jobs.decoder.heard.clear()
    jobs.before = started.append
    result = songs.update()
    assert result.manifest.version == "000002"
    assert started == ["s001-t01-k0000"]
    assert jobs.decoder.heard == []


def test_a_run_of_an_older_catalogue_is_given_up(
    root: str, model: Path, jobs: QuickJobs, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = evening(root, model)

    def run() -> None:
        jobs.before = lambda name: die() if name == "part-00003" else None
        update(songs.path("catalog.csv"), songs.index)

    assert in_a_process(run) == -signal.SIGKILL
    del songs.rows["n20"]
    songs.put("late", song(40, 40))
    capsys.readouterr()
    result = songs.update(quiet=False)
    assert "the unfinished run of version 000002 is given up: it was with another catalogue" in (
        capsys.readouterr().err
    )
    assert result.manifest.version == "000003"
    assert io.list_dir(io.join(songs.index, "versions")) == ["000001", "000003"]
    fresh = io.join(root, "fresh.index")
    songs.build(model, fresh)
    assert songs.held() == songs.held(fresh)


def test_a_second_writer_is_refused(root: str, model: Path, jobs: QuickJobs) -> None:
    songs = evening(root, model)
    said = list[str]()

    def second(name: str) -> None:
        with pytest.raises(HashbeamError) as caught:
            update(songs.path("catalog.csv"), songs.index)
        said.append(str(caught.value))

    jobs.before = second
    assert songs.update().manifest.version == "000002"
    refusal = f"{songs.index} is being written by process {os.getpid()}"
    assert said
    assert all(text.startswith(refusal) for text in said)


@pytest.fixture
def far(proxy: FaultyProxy) -> str:
    """A folder on ``gs://`` behind the proxy."""
    name = f"bucket-{os.urandom(4).hex()}"
    gcs.client().create_bucket(name)
    return f"gs://{name}/some/root"


@pytest.mark.parametrize("kind", ["lost answer", "reset", 503, "stall"])
def test_the_pointer_moves_once_whatever_becomes_of_the_answer(
    far: str,
    proxy: FaultyProxy,
    model: Path,
    jobs: QuickJobs,
    kind: str | int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", dataclasses.replace(patience.PATIENCE, request_s=1.0))
    songs = evening(far, model)
    pointer = io.read_stamped(io.join(songs.index, "CURRENT"))
    assert pointer is not None
    # No other object has its generation.
    proxy.faults = [Fault(kind, f"^POST.*ifGenerationMatch={pointer.stamp}", times=2)]
    assert songs.update().manifest.version == "000002"
    assert proxy.met == [kind] * 2
    assert current_version(songs.index) == "000002"
    assert io.read_bytes(io.join(songs.index, "HISTORY")).split()[0::2] == [b"000001"]


def test_a_pointer_that_cannot_be_moved_is_moved_by_the_next_run(
    far: str, proxy: FaultyProxy, model: Path, jobs: QuickJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = evening(far, model)
    before = songs.held()
    pointer = io.read_stamped(io.join(songs.index, "CURRENT"))
    assert pointer is not None
    started = list[str]()
    with monkeypatch.context() as hurry:
        hurry.setattr(patience, "PATIENCE", dataclasses.replace(patience.PATIENCE, deadline_s=0.5))
        proxy.faults = [Fault(503, f"^POST.*ifGenerationMatch={pointer.stamp}", times=10_000)]
        with pytest.raises(HashbeamError, match=r"cannot write .*/CURRENT: the store is not avail"):
            update(songs.path("catalog.csv"), songs.index)
        proxy.faults = []
    assert songs.held() == before
    jobs.before = started.append
    assert songs.update().manifest.version == "000002"
    assert started == []


def test_a_bad_line_from_beginning_to_end(
    far: str, proxy: FaultyProxy, model: Path, jobs: QuickJobs
) -> None:
    """Every sixth request of a reindex is broken, each time in another way; all gates are asked."""
    songs = evening(far, model)
    kinds = [503, 429, 500, 408, "reset", "torn upload", "lost answer", "torn download"]
    requests = itertools.count(1)

    class EverySixth(list[Fault]):
        def __iter__(self) -> Iterator[Fault]:
            number = next(requests)
            if number % 6 == 0:
                yield Fault(kinds[number // 6 % len(kinds)])

    proxy.faults = EverySixth()
    result = songs.update(bounds=dataclasses.replace(DEFAULT_BOUNDS, max_failures=0.1))
    proxy.faults = []
    assert set(proxy.met) == set(kinds)
    assert result.summary is not None
    assert {gate.name: gate.value for gate in result.summary.gates}["self-recall"] == 1.0
    fresh = io.join(far, "fresh.index")
    songs.build(model, fresh)
    assert songs.held() == songs.held(fresh)


def test_nobody_asks_for_credentials_that_nobody_needs(
    bucket: str, model: Path, jobs: QuickJobs
) -> None:
    """A reindex as users start it, Beam and its workers included; its one new file is broken."""
    songs = StoredSongs(f"{bucket}/some/root")
    for number in range(3):
        songs.put(f"s{number}", song(number, number))
    songs.build(model)
    songs.put("f", broken(0))
    names = ["--catalog", songs.catalog(), "--index", songs.index, "--model", str(model)]
    command = [sys.executable, "-m", "pipelines", "reindex", *names, "--workers", "1"]
    with socket.create_server(("127.0.0.1", 0)) as metadata:  # of a machine of Google's
        address = f"127.0.0.1:{metadata.getsockname()[1]}"
        env = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")}
        env |= {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address, "HOME": "/nonexistent"}
        env |= {"PYTHONPATH": str(Path(io.__file__).parents[1])}
        done = subprocess.run(
            [*command, "--no-gates", "all"], env=env, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        metadata.setblocking(False)
        with pytest.raises(BlockingIOError):
            metadata.accept()
    assert songs.check().counters["tracks_failed"] == 1


def test_stored_codes_are_looked_up_by_ranges(
    far: str,
    proxy: FaultyProxy,
    model: Path,
    jobs: QuickJobs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gate that looks new codes up reads the pages that it needs, and passes."""
    songs = StoredSongs(str(tmp_path))
    for number in range(300):
        songs.put(f"s{number:03d}", song(number, number))
    songs.build(model)
    for path in io.list_files(songs.index):
        io.write_bytes(io.join(far, path), io.read_bytes(io.join(songs.index, path)))
    manifest = open_manifest(far)
    sizes = {
        kind: sum(manifest.files.select(kind=kind).column("bytes"))
        for kind in ("tables", "codes", "tracks", "matrices")
    }
    monkeypatch.setattr(pages, "WHOLE_BYTES", 0)
    monkeypatch.setattr(pages, "GAP_BYTES", 0)
    monkeypatch.setattr(pages, "PAGE_BYTES", 256)
    proxy.bytes_down = 0
    proxy.seen.clear()
    bounds = dataclasses.replace(DEFAULT_BOUNDS, samples=1)
    gate = gate_self_recall(far, manifest, jobs.hasher, bounds)
    assert (gate.value, gate.passed) == (1.0, True)
    assert proxy.bytes_down < 0.5 * sum(sizes.values())
