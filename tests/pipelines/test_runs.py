"""A run is continued where it was killed, at whatever moment, and never mixed with another."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memory_store
import numpy as np
import pytest
from made_up_manifest import made_up_manifest

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import io
from pipelines.lock import IndexLock
from pipelines.publication import publish
from pipelines.runs import AlreadyPublishedError, Receipt, Run, new_attempt, prepare_run
from pipelines.versions import (
    Files,
    Manifest,
    Segment,
    current_version,
    open_manifest,
    utc_now,
)

SAME: dict[str, Any] = {
    "catalog_digest": "c" * 64,
    "model_digest": "m" * 64,
    "model_name": "forgiving",
    "options": {"key_bits": "auto", "max_track_hours": 2.0},
    "n_tracks": 10,
    "n_parts": 2,
}
PARTS = ("part-00000", "part-00001")


@pytest.fixture(params=["disk", "object store"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    memory_store.OBJECTS.clear()
    return str(tmp_path / "index") if request.param == "disk" else "mem://bucket/index"


def work(run: Run, name: str, content: bytes = b"codes") -> Receipt:
    """One attempt at a part: a file of its own, then the receipt; returns the one that counts."""
    attempt = new_attempt()
    info = io.write_bytes(run.attempt_path("codes", name, attempt, ".parquet"), content)
    entry = run.entry("codes", info, rows=5, segment=0, part=int(name[-5:]))
    return run.write_receipt(Receipt(name, attempt, [entry], {"tracks": 5}, 1.0, 2.0))


def finish(run: Run) -> Manifest:
    """Does every part that has no receipt, and publishes."""
    for name in PARTS:
        if name not in run.receipts():
            work(run, name)
    receipts = run.receipts()
    manifest = made_up_manifest(
        version=run.version,
        model={"name": run.plan.model_name, "digest": run.plan.model_digest},
        catalog_digest=run.plan.catalog_digest,
        key_bits=22,
        segments=[Segment(0, 0, 2, 10, 10, [5, 5], [5, 5])],
        files=Files.of(entry for name in PARTS for entry in receipts[name].files),
        created=utc_now(),
    )
    publish(run.index, manifest)
    return manifest


def test_a_run_from_the_start_to_its_publication(index: str) -> None:
    run = prepare_run(index, **SAME)
    assert (run.version, run.plan.n_parts, run.receipts()) == ("000001", 2, {})
    receipt = work(run, "part-00000")
    path = f"versions/000001/codes/part-00000-{receipt.attempt}.parquet"
    assert receipt.files[0].path == path
    assert io.read_bytes(io.join(index, path)) == b"codes"
    assert run.receipts() == {"part-00000": receipt}
    manifest = finish(run)
    assert open_manifest(index) == manifest
    assert set(io.list_files(index)) == {
        "CURRENT",
        "versions/000001/manifest.json",
        *manifest.files.column("path"),
    }


def test_the_same_run_is_continued_with_its_receipts_and_plan(index: str) -> None:
    first = prepare_run(index, **SAME)
    receipt = work(first, "part-00000")
    again = prepare_run(index, **SAME)
    assert again == first
    assert again.receipts() == {"part-00000": receipt}
    assert prepare_run(index, **{**SAME, "n_parts": 7}).plan.n_parts == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"catalog_digest": "x" * 64, "n_tracks": 9}, r"another catalogue \(10 tracks, digest ccc"),
        ({"model_digest": "x" * 64, "model_name": "flow"}, r"another model \(forgiving, digest m"),
        (
            {"options": {"key_bits": 22, "max_track_hours": 2.0}},
            r"other options \(key_bits=auto, not key_bits=22\)",
        ),
        (
            {"options": {}},
            r"\(key_bits=auto, max_track_hours=2.0, not key_bits=None, max_track_hours=None\)",
        ),
    ],
)
def test_an_unfinished_run_of_something_else_is_named_and_kept(
    index: str, change: dict[str, Any], problem: str
) -> None:
    receipt = work(prepare_run(index, **SAME), "part-00000")
    with pytest.raises(HashbeamError, match=rf"holds an unfinished run with .*{problem}") as caught:
        prepare_run(index, **{**SAME, **change})
    assert f"or remove {index}, or name another folder" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert prepare_run(index, **SAME).receipts() == {"part-00000": receipt}


def test_a_published_index_is_refused_and_left_alone(index: str) -> None:
    finish(prepare_run(index, **SAME))
    before = io.list_files(index)
    for change in ({}, {"catalog_digest": "x"}):
        with pytest.raises(HashbeamError, match=r"holds a published index \(version 000001\); br"):
            prepare_run(index, **{**SAME, **change})
    assert io.list_files(index) == before


def test_a_run_killed_while_it_cleaned_up_says_that_it_is_finished(index: str) -> None:
    run = prepare_run(index, **SAME)
    plan = io.read_bytes(io.join(run.work, "plan.json"))
    finish(run)
    done = io.list_files(index)
    for change, error in (({}, AlreadyPublishedError), ({"catalog_digest": "x"}, HashbeamError)):
        io.write_bytes(io.join(run.work, "plan.json"), plan)
        io.write_bytes(run.attempt_path("codes", "part-00000", "late", ".parquet"), b"x")
        with pytest.raises(error) as caught:
            prepare_run(index, **{**SAME, **change})
        assert type(caught.value) is error
        assert io.list_files(index) == done


@pytest.mark.parametrize(
    "name", ["notes.txt", "versions/a", "versions/000001/codes/a.parquet", "versions/000002/b"]
)
def test_a_folder_with_something_else_is_refused_and_left_alone(index: str, name: str) -> None:
    io.write_bytes(io.join(index, name), b"mine")
    with pytest.raises(HashbeamError, match=f"is not empty .it holds {name}. and is no index; nam"):
        prepare_run(index, **SAME)
    assert io.list_files(index) == {name: 4}


def test_a_folder_of_folders_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    with pytest.raises(HashbeamError, match=r"is not empty \(it holds music\)"):
        prepare_run(str(tmp_path), **SAME)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(HashbeamError, match="file is a file; name a folder for the index"):
        prepare_run(str(tmp_path / "file"), **SAME)


def test_the_lock_and_leftovers_make_no_folder_full(index: str) -> None:
    leftovers = [".CURRENT.1.tmp", "versions/000001/work/.plan.json.1.tmp"]
    for name in ["LOCK", ".LOCK.1.tmp", *leftovers]:
        io.write_bytes(io.join(index, name), b"x")
    prepare_run(index, **SAME)
    kept = {"LOCK", ".LOCK.1.tmp", "versions/000001/work/plan.json"}
    assert set(io.list_files(index)) == kept


def test_a_plan_of_another_format_is_named(index: str) -> None:
    run = prepare_run(index, **SAME)
    path = io.join(run.work, "plan.json")
    data = io.read_bytes(path)
    io.write_bytes(path, data.replace(b'"format_version": 3', b'"format_version": 9'))
    with pytest.raises(IndexFormatError, match=r"plan\.json has format version 9"):
        prepare_run(index, **SAME)


def test_the_first_receipt_counts(index: str) -> None:
    run = prepare_run(index, **SAME)
    first = work(run, "part-00000", b"first")
    assert work(run, "part-00000", b"second!") == first
    assert run.receipts() == {"part-00000": first}
    manifest = finish(run)
    assert io.read_bytes(io.join(index, manifest.files[0].path)) == b"first"
    assert len(io.list_files(run.path("codes"))) == 2  # one a part: the second attempt is gone


def test_a_receipt_whose_files_are_gone_counts_no_more(index: str) -> None:
    run = prepare_run(index, **SAME)
    for harm in (io.remove, lambda path: io.write_bytes(path, b"shor")):
        harm(io.join(index, work(run, "part-00000").files[0].path))
        assert run.receipts() == {}
        later = work(run, "part-00000", b"later")
        assert run.receipts() == {"part-00000": later}
    run.discard("part-00000")
    assert run.receipts() == {}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format_version": 2}'])
def test_a_damaged_receipt_is_no_receipt(index: str, data: bytes) -> None:
    run = prepare_run(index, **SAME)
    work(run, "part-00000")
    io.write_bytes(run.receipt_path("part-00000"), data)
    assert run.receipts() == {}
    later = work(run, "part-00000", b"later")
    assert run.receipts() == {"part-00000": later}


def test_of_many_attempts_at_once_one_counts(tmp_path: Path) -> None:
    run, start = prepare_run(str(tmp_path), **SAME), threading.Barrier(6)
    counted: list[str] = []

    def attempt() -> None:
        start.wait()
        counted.append(work(run, "part-00000").attempt)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 6
    assert set(counted) == {run.receipts()["part-00000"].attempt}


def test_figures_that_are_no_json_are_refused_when_they_are_written(tmp_path: Path) -> None:
    run = prepare_run(str(tmp_path), **SAME)
    receipt = Receipt("a", "b", [], {"share": float("nan")}, 1.0, 2.0)
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        run.write_receipt(receipt)
    with pytest.raises(TypeError, match="int64 is not JSON serializable"):
        run.write_receipt(dataclasses.replace(receipt, counters={"n": np.int64(1)}))  # type: ignore[dict-item]
    assert run.receipts() == {}


# What changes the disk, beside writing. A process that is killed leaves to the kernel whatever it
# had written, synced or not: to kill it before each change is to kill it at any moment.
CHANGES = ("open", "mkdir", "link", "replace", "unlink", "rmdir")


def run_and_die(index: str, step: int) -> bool:
    """Runs it all in a process that kills itself before the `step`-th change; whether it lived."""
    child = os.fork()
    if child == 0:
        try:
            left = [step]

            def die() -> None:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any, **kwargs: Any) -> Any:
                    if real is not opened or args[1] & os.O_CREAT:
                        die()
                    return real(*args, **kwargs)

                return call

            def torn(file: io.Writer, data: Any) -> int:
                """Half of the bytes are on the disk when the kill comes."""
                half = len(data) // 2
                write(file, data[:half])
                file._file.flush()
                die()
                return half + write(file, data[half:])

            write, opened = io.Writer.write, os.open
            io.Writer.write = torn  # type: ignore[method-assign, assignment]
            for name in CHANGES:
                setattr(os, name, deadly(getattr(os, name)))
            with IndexLock(index):
                finish(prepare_run(index, **SAME))
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return not os.WIFSIGNALED(status)


def run_again(index: str) -> str:
    """The same command once more; what it says where it has nothing to do."""
    try:
        with IndexLock(index):
            finish(prepare_run(index, **SAME))
    except HashbeamError as error:
        return str(error)
    return ""


def test_a_run_killed_at_any_moment_is_continued(tmp_path: Path) -> None:
    step, survived = 0, False
    while not survived:
        index = str(tmp_path / f"index-{step}")
        survived = run_and_die(index, step)
        # Whatever the moment, a reader finds nothing published, or a whole version.
        published = current_version(index) is not None
        if published:
            for entry in open_manifest(index).files:
                assert io.sha256_file(io.join(index, entry.path)) == entry.sha256
        receipts = Path(index, "versions", "000001", "work", "receipts")
        left = io.list_files(f"{index}/versions/000001/work")
        done = {path.read_bytes() for path in receipts.glob("[!.]*")}
        said = run_again(index)
        if published:
            # With anything left to delete it says that it is done, else it refuses.
            expected = "had published version 000001 already" if left else "holds a published"
            assert expected in said, f"killed at step {step}"
        else:
            assert said == "", f"killed at step {step}"
        manifest = open_manifest(index)
        assert set(io.list_files(index)) == {
            "CURRENT",
            "versions/000001/manifest.json",
            *manifest.files.column("path"),
        }, f"killed at step {step}"
        assert sorted(os.listdir(f"{index}/versions/000001")) == ["codes", "manifest.json"]
        # What had a receipt was not done again: the file of its attempt is the one that counts.
        paths = manifest.files.column("path")
        assert published or all(any(path.encode() in data for path in paths) for data in done)
        step += 1
    assert step > 40


def test_a_disk_that_fills_up_loses_no_finished_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's full device in place of every file of the second part."""
    index = str(tmp_path / "index")
    run = prepare_run(index, **SAME)
    receipt = work(run, "part-00000")
    real = os.open

    def open_full(path: str, flags: int, *args: int) -> int:
        full = flags & os.O_CREAT and "part-00001" in path
        return real("/dev/full", os.O_WRONLY) if full else real(path, flags, *args)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_full)
        with pytest.raises(HashbeamError, match="No space left on device; free space and run the"):
            finish(run)
    with pytest.raises(HashbeamError, match="is not finished yet; run the same"):
        open_manifest(index)
    manifest = finish(prepare_run(index, **SAME))
    assert manifest.files[0] == receipt.files[0]


def test_late_workers_of_a_run_that_was_given_up_change_nothing(index: str) -> None:
    """The next one may have the same number: it neither takes over nor loses anything."""
    late = prepare_run(index, **SAME)
    io.remove_tree(late.path())
    run = prepare_run(index, **SAME)
    assert run.version == late.version
    first = work(late, "part-00000", b"of another catalogue")
    assert late.receipts() == {"part-00000": first}
    assert run.receipts() == {}
    own = work(run, "part-00000")
    assert run.receipts() == {"part-00000": own}
    with pytest.raises(HashbeamError, match="this run of version 000001 was given up"):
        work(late, "part-00000", b"of another catalogue")
    assert run.receipts() == {"part-00000": own}
    assert {entry.sha256 for entry in finish(run).files} == {own.files[0].sha256}


def test_a_run_that_goes_on_keeps_what_it_has_done(index: str) -> None:
    done = work(prepare_run(index, **SAME), "part-00000")
    assert prepare_run(index, **SAME).receipts() == {"part-00000": done}
