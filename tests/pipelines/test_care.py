"""Versions of an index: shown, gone back to, deleted; at whatever moment a kill comes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
from change_fixture import Row, write_version
from index_helpers import error_line

from hashing.errors import HashbeamError
from pipelines import io, parquet
from pipelines.cli import main
from pipelines.history import check_whole, list_versions, published_versions, roll_back
from pipelines.lock import IndexLock
from pipelines.publication import past_versions, publish
from pipelines.sweep import plan_sweep, sweep
from pipelines.versions import (
    Files,
    Manifest,
    Segment,
    current_version,
    dump_json,
    is_temporary,
    open_manifest,
    version_path,
)

OLD = time.time() - 30 * 86400


def rows(*names: str) -> list[Row]:
    return [
        {"track_id": name, "uri": f"/m/{name}.mp3", "size": 5, "title": f"T\x1b{name}"}
        for name in names
    ]


def grow(index: str, number: int) -> Manifest:
    """Publishes version `number`: its parent's segments, and one more with a track of its own.

    Each version but the first removes a track of the first segment.
    """
    version, name = f"{number:06d}", f"n{number}"
    parent = None if number == 1 else open_manifest(index)
    own = write_version(
        index, [rows("a", "b", "c", "d", "e")] if parent is None else [rows(name)],
        version=version,
        failures=[[{"track_id": "bad", "uri": "/m/bad.mp3", "stage": "decode", "error": "empty",
                    "message": "it is empty"}]],
    )  # fmt: skip
    codes = io.write_bytes(version_path(index, version, "codes", "c"), name.encode())
    entries = list(own.files)
    entries.append(
        type(entries[0])(f"versions/{version}/codes/c", "codes", 1, codes.bytes, codes.sha256,
                         segment=number - 1)
    )  # fmt: skip
    segments = own.segments
    if parent is not None:
        entries = [type(e)(**{**e.__dict__, "segment": number - 1}) if e.kind == "tracks" else e
                   for e in entries]  # fmt: skip
        gone = parquet.write_table(
            version_path(index, version, "removals", "s000"),
            pa.table({"ordinal": pa.array(range(number - 1), pa.uint32())}),
        )
        removal = type(entries[0])(
            f"versions/{version}/removals/s000", "removals", gone.rows, gone.bytes, gone.sha256
        )
        first, *others = parent.segments
        first = dataclasses.replace(first, removals=removal)
        kept = [e for e in parent.files if e.kind != "failures"]
        segments = [first, *others, Segment(number - 1, number, 1, 1, 4, [4], [1])]
        entries = [*kept, *entries, removal]
    manifest = dataclasses.replace(
        own,
        parent=parent.version if parent else None,
        segments=segments,
        files=Files.of(entries),
    )
    publish(index, manifest)
    return manifest


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three versions, a month old; not to be changed."""
    index = tmp_path_factory.mktemp("three") / "index"
    for number in (1, 2, 3):
        grow(str(index), number)
    age(index)
    return index


def age(index: Path) -> None:
    for path in index.rglob("*"):
        os.utime(path, (OLD, OLD))


@pytest.fixture
def index(three: Path, tmp_path: Path) -> str:
    shutil.copytree(three, tmp_path / "index")
    return str(tmp_path / "index")


def files_of(index: str) -> set[str]:
    return set(io.list_files(index))


def ids(capsys: pytest.CaptureFixture[str], index: str, *flags: str) -> list[str]:
    assert main(["list", index, "--ids-only", *flags]) == 0
    return capsys.readouterr().out.split()


def test_versions_are_shown_with_what_each_changed(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    io.write_bytes(version_path(index, "000004", "work", "plan.json"), b"{}")
    assert main(["versions", index, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = ("version", "state", "parent", "tracks", "segments", "added", "removed")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("000001", "earlier", None, 5, 1, 5, 0),
        ("000002", "earlier", "000001", 5, 2, 1, 1),
        ("000003", "published", "000002", 5, 3, 1, 1),
        ("000004", "unfinished", None, None, None, None, None),
    ]
    assert found[2]["bytes"] == sum(open_manifest(index).files.column("bytes"))
    assert main(["versions", index]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "5 tracks (+1 -1 against 000002), 3 segments" in lines[2]
    assert "the command that began it goes on" in lines[3]
    io.write_bytes(version_path(index, "000001", "manifest.json"), b"{")
    damaged, second, *_ = list_versions(index)
    assert (damaged.state, second.added, second.tracks) == ("damaged", None, 5)


def test_rollback_goes_to_the_parent_and_forward_again(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(index)
    assert ids(capsys, index) == ["c", "d", "e", "n2", "n3"]
    assert main(["rollback", index]) == 0
    told = capsys.readouterr().out
    assert "version 000002 of 2026-01-02T03:04:05Z is published, with 5 tracks (+0)" in told
    assert f"to undo: hashbeam rollback {index} --to 000003" in told
    assert ids(capsys, index) == ["b", "c", "d", "e", "n2"]
    assert files_of(index) == before
    assert published_versions(index) == ["000001", "000003", "000002"]
    assert main(["rollback", index, "--to", "000003", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["to"] == "000003"
    assert current_version(index) == "000003"
    assert past_versions(index) == ["000001", "000002", "000003", "000002"]


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        ("000003", "version 000003 is published already; there are 000001, 000002"),
        ("000009", "version 000009 was never published; there are 000001"),
        ("newest", "version newest was never published"),
        ("000001", "version 000001 is not whole: .*tracks/part-00000.parquet is missing; run"),
        ("000002", "version 000002 is not whole: .*codes/c has 1 bytes, not 2"),
    ],
)
def test_rollback_refuses_what_is_not_whole_or_not_there(
    index: str, to: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    io.remove(version_path(index, "000001", "tracks", "part-00000.parquet"))
    if to == "000002":
        shutil.copy(version_path(index, "000003", "tracks", "part-00000.parquet"),
                    version_path(index, "000001", "tracks", "part-00000.parquet"))  # fmt: skip
        path = version_path(index, "000001", "tracks", "part-00000.parquet")
        size = open_manifest(index, "000001").files.select(kind="tracks")[0].bytes
        Path(path).write_bytes(bytes(size))
        Path(path.replace("part-00000", "part-00001")).touch()
        second = open_manifest(index, "000001").files.select(kind="tracks")[1]
        Path(index, second.path).write_bytes(bytes(second.bytes))
        Path(version_path(index, "000002", "codes", "c")).write_bytes(b"x")
    with pytest.raises(HashbeamError, match=problem), IndexLock(index) as lock:
        roll_back(index, to, lock)
    assert current_version(index) == "000003"
    assert main(["rollback", index, "--to", to]) == 1
    assert "\n" not in error_line(capsys, "rollback").strip()


def test_the_first_version_has_no_parent(tmp_path: Path) -> None:
    index = str(tmp_path / "index")
    grow(index, 1)
    assert past_versions(index) == []
    with (
        pytest.raises(HashbeamError, match="was made from no other; there is no other version"),
        IndexLock(index) as lock,
    ):
        roll_back(index, None, lock)


def test_gc_keeps_the_last_ones_and_every_file_that_they_name(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(index)
    needed = set(open_manifest(index).files.column("path"))
    assert main(["gc", index, "--keep", "1", "--dry-run"]) == 0
    would = capsys.readouterr().out
    assert "would delete " in would
    assert files_of(index) == before
    assert main(["gc", index, "--keep", "1"]) == 0
    assert capsys.readouterr().out == would.replace("would delete", "deleted")
    assert files_of(index) == needed | {"CURRENT", "HISTORY", "versions/000003/manifest.json"}
    check_whole(index, open_manifest(index))
    assert ids(capsys, index) == ["c", "d", "e", "n2", "n3"]
    # Of both others there are files that the last one shares; no run was stopped.
    assert any(name.startswith("versions/000001/") for name in needed)
    assert [one.version for one in list_versions(index)] == ["000003"]
    assert main(["rollback", index]) == 1
    assert "version 000002 has been deleted" in error_line(capsys, "rollback")
    assert main(["gc", index, "--keep", "1"]) == 0
    assert "deleted 0 files" in capsys.readouterr().out


def test_gc_goes_by_publication_and_not_by_number(index: str) -> None:
    with IndexLock(index) as lock:
        roll_back(index, "000001", lock)
        assert plan_sweep(index, 2).deleted == ["000002"]
        assert plan_sweep(index, 1).deleted == ["000002", "000003"]
        assert plan_sweep(index, 9).files == []


def test_gc_deletes_what_dead_runs_have_left_and_nothing_else(index: str) -> None:
    dead = ["versions/000003/work/receipts/a.json", "versions/000003/codes/late-attempt.parquet"]
    dead += [".CURRENT.0f.tmp", "versions/000002/codes/.c.0f.tmp"]
    weeks = ["versions/000005/work/plan.json", "versions/000005/codes/part.parquet"]
    kept = ["versions/000003/run.json", "versions/000004/work/plan.json", "notes.txt"]
    for name in [*dead, *weeks, *kept]:
        io.write_bytes(io.join(index, name), b"x")
        os.utime(io.join(index, name), (OLD, OLD))
    before = files_of(index)
    # A run that was stopped may be continued; and what is young may be in use.
    hour_ago = time.time() - 3600
    os.utime(io.join(index, "versions/000004/work/plan.json"), (hour_ago, hour_ago))
    io.write_bytes(io.join(index, "versions/000003/codes/young.parquet"), b"x")
    with IndexLock(index) as lock:
        plan = plan_sweep(index, 3)
        sweep(index, plan, lock)
    assert (plan.deleted, plan.unfinished) == ([], ["000005"])
    assert before - files_of(index) == {*dead, *weeks}
    assert not Path(index, "versions/000005").exists()


def test_gc_deletes_nothing_where_a_kept_manifest_is_damaged(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    io.write_bytes(version_path(index, "000002", "manifest.json"), b"{")
    before = files_of(index)
    assert main(["gc", index, "--keep", "2"]) == 1
    assert "is not whole JSON" in error_line(capsys, "gc")
    assert files_of(index) == before


@pytest.mark.parametrize("verb", ["versions", "rollback", "gc", "list"])
def test_no_index_is_one_line_and_nothing_is_made(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--keep", "1"] if verb == "gc" else []
    assert main([verb, str(tmp_path / "none"), *flags]) == 1
    assert "there is no such index" in error_line(capsys, verb)
    assert list(tmp_path.iterdir()) == []
    assert main([verb, "--help"]) == 0
    assert f"hashbeam {verb} music.index" in capsys.readouterr().out


def test_usage_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "i", "--unfinished-days", "x"]) == 2
    line = error_line(capsys, "gc")
    assert "--keep: is needed" in line
    assert "--unfinished-days: must be a number" in line
    assert main(["gc", "i", "--keep", "0"]) == 2
    assert "--keep: must be 1 or more" in error_line(capsys, "gc")
    assert main(["list", "i", "--limit", "0", "--ids-only", "--json"]) == 2
    assert "--limit: must be 1 or more, got 0; --ids-only: prints" in error_line(capsys, "list")


def test_a_second_writer_is_refused(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    with IndexLock(index):
        for command in (["rollback", index], ["gc", index, "--keep", "1"]):
            assert main(command) == 1
            assert "is being written by process" in error_line(capsys, command[0])
    assert current_version(index) == "000003"


def test_list_prints_tracks_and_failures(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", index, "--limit", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "c\t2.0\t\tT c\t/m/c.mp3",
        "d\t2.0\t\tT d\t/m/d.mp3",
    ]
    assert main(["list", index, "--json", "--limit", "1"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["track_id"], row["segment"], row["ordinal"], row["size"]) == ("c", 0, 2, 5)
    assert main(["list", index, "--failures"]) == 0
    assert capsys.readouterr().out == "bad\tdecode\tempty\t/m/bad.mp3\tit is empty\n"
    assert ids(capsys, index, "--failures") == ["bad"]


# A process that is killed before each change that it makes to the disk.
CHANGES = ("open", "replace", "unlink", "rmdir", "link")


def killed_at(index: str, step: int, action: str) -> bool:
    """Rolls back or sweeps in a process that dies before its `step`-th change; whether it did."""
    child = os.fork()
    if child == 0:
        try:
            left = [step]
            for name in CHANGES:
                real = getattr(os, name)

                def deadly(*args: object, real: object = real, name: str = name, **more: object):  # type: ignore[no-untyped-def]
                    if name != "open" or args[1] & os.O_CREAT:  # type: ignore[operator]
                        left[0] -= 1
                        if left[0] < 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **more)  # type: ignore[operator]

                setattr(os, name, deadly)
            with IndexLock(index) as lock:
                if action == "rollback":
                    roll_back(index, None, lock)
                else:
                    sweep(index, plan_sweep(index, 1), lock)
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("action", ["rollback", "gc"])
def test_a_kill_at_any_moment_leaves_whole_versions_and_the_next_run_finishes(
    three: Path, tmp_path: Path, action: str
) -> None:
    step, killed = 0, True
    expected = None
    while killed:
        index = str(tmp_path / f"index-{step}")
        shutil.copytree(three, index)
        killed = killed_at(index, step, action)
        where = f"killed at step {step}"
        # What is published is whole, and so is every version that has a manifest and is kept.
        check_whole(index, open_manifest(index))
        current = current_version(index)
        assert current in ("000003", "000002") if action == "rollback" else current == "000003"
        assert published_versions(index)[-1] == current, where
        for version in list_versions(index):
            assert version.state in ("published", "earlier", "unfinished"), where
            if version.state == "earlier":
                check_whole(index, open_manifest(index, version.version))
        with IndexLock(index) as lock:
            if action == "rollback" and current == "000003":
                roll_back(index, None, lock)
            elif action == "gc":
                sweep(index, plan_sweep(index, 1, grace_s=0), lock)
        assert current_version(index) == ("000002" if action == "rollback" else "000003")
        # What a killed rollback leaves is a temporary file for the next gc.
        left = {name for name in files_of(index) if action == "gc" or not is_temporary(name)}
        expected = expected or left
        assert left - {"HISTORY"} == expected - {"HISTORY"}, where
        step += 1
    assert step > (8 if action == "rollback" else 15)


def test_history_that_is_damaged_is_named(index: str) -> None:
    io.write_bytes(io.join(index, "HISTORY"), b"000001 x\nnonsense\n")
    with pytest.raises(HashbeamError, match="HISTORY names no version: 'nonsense'"):
        published_versions(index)
    # Without it the parents tell.
    io.remove(io.join(index, "HISTORY"))
    assert published_versions(index) == ["000001", "000002", "000003"]
    assert dump_json(open_manifest(index))
