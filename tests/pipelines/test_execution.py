"""A prepared run carried out: what stops it from being published, and what is left then."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from quick_index import QuickJobs, build, contents, quick_jobs, quick_model, song, write_catalog

from hashing.errors import HashbeamError
from pipelines import execution
from pipelines.gates import NO_GATES
from pipelines.gating.bounds import Bounds
from pipelines.lock import IndexLock
from pipelines.reindexing.begin import ReindexOptions
from pipelines.reindexing.run import Result, reindex
from pipelines.runs import Receipt, Run
from pipelines.versions import current_version, open_manifest

LAST = "s001-t01-k0000"  # the last piece of work of a reindex


class Night:
    """An index, and a catalogue with more in it; `names` are pieces of work that were begun."""

    def __init__(self, folder: Path, jobs: QuickJobs) -> None:
        self.index, self.catalog = folder / "index", folder / "c.csv"
        self.names = list[str]()
        self.jobs, self.at_last = jobs, [lambda: None]
        jobs.before = self._before

    def _before(self, name: str) -> None:
        self.names.append(name)
        if name == LAST:
            self.at_last.pop()()

    @property
    def folder(self) -> Path:
        """Of the version that is made."""
        return self.index / "versions/000002"

    def reindex(self, bounds: Bounds = NO_GATES) -> Result:
        self.names.clear()
        options = ReindexOptions(str(self.catalog), str(self.index), 1, quiet=True, bounds=bounds)
        return reindex(options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, QuickJobs]]:
    """An index of ten tracks, and a catalogue of 19; not to be changed."""
    folder = tmp_path_factory.mktemp("night")
    model, rows = quick_model(folder / "model"), []
    for number in range(19):
        (folder / f"{number}.song").write_bytes(song(number % 3, number))
        rows.append({"track_id": f"t{number:02d}", "uri": str(folder / f"{number}.song")})
    with quick_jobs(model) as jobs:
        build(write_catalog(folder / "c.csv", rows[:10]), folder / "index", model)
        write_catalog(folder / "c.csv", rows)
        yield folder, jobs


@pytest.fixture
def night(made: tuple[Path, QuickJobs], tmp_path: Path) -> Night:
    shutil.copytree(made[0] / "index", tmp_path / "index")
    shutil.copy(made[0] / "c.csv", tmp_path / "c.csv")
    return Night(tmp_path, made[1])


def test_a_file_that_came_out_wrong_is_not_published(night: Night) -> None:
    """Of full size, but of other bytes: only who reads it back sees that."""

    def spoil() -> None:
        path = min(night.folder.glob("codes/part-*.parquet"))
        data = path.read_bytes()
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])

    night.at_last.append(spoil)
    with pytest.raises(HashbeamError) as caught:
        night.reindex()
    told = str(caught.value)
    assert "version 000002 is not published: 1 problems, the first: " in told
    assert "SHA-256" in told
    assert f"delete {night.folder} and run the same command again" in told
    assert current_version(str(night.index)) == "000001"
    shutil.rmtree(night.folder)  # as it was told
    assert night.reindex().summary is not None
    assert len(contents(night.index).rows) == 19


def test_a_sample_is_read_back_where_there_is_too_much(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int | None]()

    def verify(index: str, manifest: object, *, own_only: str, most_bytes: int) -> list[str]:
        seen.append(most_bytes)
        assert own_only == "000002"
        return []

    monkeypatch.setattr(execution, "verify_files", verify)
    night.reindex()
    assert seen == [execution.READ_BACK_BYTES]


def test_a_gate_that_is_not_passed_leaves_all_that_was_done(night: Night) -> None:
    strict = Bounds(min_entropy=2.0, min_postings=1, left_out=("self-recall",))
    night.at_last.append(lambda: None)
    pieces = ["part-00002", "part-00003", "s001-t00-k0000", LAST]
    for begun in (pieces, []):
        with pytest.raises(HashbeamError, match="1 of 8 quality gates failed: bucket-entropy"):
            night.reindex(strict)
        assert night.names == begun
        assert current_version(str(night.index)) == "000001"
        assert not (night.folder / "manifest.json").exists()
        gates = json.loads((night.folder / "run.json").read_text())["gates"]
        assert [gate["name"] for gate in gates if not gate["passed"]] == ["bucket-entropy"]
    result = night.reindex(dataclasses.replace(strict, left_out=("bucket-entropy", "self-recall")))
    assert night.names == []
    assert result.summary is not None
    assert (result.summary.parts_resumed, result.summary.version) == (2, "000002")
    assert open_manifest(str(night.index)) == result.manifest


def lose_lock(night: Night, others: contextlib.ExitStack) -> None:
    (night.index / "LOCK").unlink()


def other_writer(night: Night, others: contextlib.ExitStack) -> None:
    (night.index / "LOCK").unlink()
    others.enter_context(IndexLock(str(night.index)))


@pytest.mark.parametrize(
    ("happens", "told"), [(lose_lock, "was removed"), (other_writer, "was taken by")]
)
def test_who_has_lost_the_lock_publishes_nothing(
    night: Night, happens: Callable[[Night, contextlib.ExitStack], None], told: str
) -> None:
    with contextlib.ExitStack() as others:
        night.at_last.append(lambda: happens(night, others))
        with pytest.raises(HashbeamError, match=f"the lock of .* {told}.*; nothing was published"):
            night.reindex()
    assert current_version(str(night.index)) == "000001"
    assert len(contents(night.index).rows) == 10


def test_work_that_is_missing_is_told(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that says it has finished, and has not."""
    real = Run.write_receipt

    def forget(run: Run, receipt: Receipt) -> Receipt:
        return receipt if receipt.name == LAST else real(run, receipt)

    night.at_last.append(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "write_receipt", forget)
        with pytest.raises(HashbeamError, match=f"shard {LAST} of .* not finished; run the same"):
            night.reindex()
    assert current_version(str(night.index)) == "000001"
    night.at_last.append(lambda: None)
    night.reindex()
    assert night.names == [LAST]
    assert len(contents(night.index).rows) == 19
