"""``hashbeam index`` in several processes: the same rows, and nothing lost by kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from index_helpers import assert_same_content, run_index
from tiny_catalog import tiny_catalog

from pipelines import cli
from pipelines.versions import open_manifest

ROOT = Path(cli.__file__).parent.parent


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty tracks, ten parts, of four files: enough work to be interrupted."""
    return tiny_catalog(tmp_path_factory.mktemp("music"), 80, seconds=12, files=4)


@pytest.fixture(scope="module")
def undisturbed(
    catalog: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The index as one process makes it."""
    out = tmp_path_factory.mktemp("undisturbed") / "index"
    assert run_index(catalog, out, model_folder) == 0
    return out


def start(catalog: Path, out: Path, model: Path, *flags: str) -> subprocess.Popen[str]:
    names = ["--catalog", str(catalog), "--out", str(out), "--model", str(model)]
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.index", *names, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_workers_give_the_same_rows_and_say_nothing(
    catalog: Path, undisturbed: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    job = start(catalog, out, model_folder, "--workers=2", "--runner=DirectRunner", "--json")
    stdout, stderr = job.communicate(timeout=120)
    assert stderr == "hashbeam: --runner=DirectRunner is run as FnApiRunner\n"
    assert job.returncode == 0
    summary = json.loads(stdout)
    assert (summary["workers"], summary["parts_resumed"]) == (2, 0)
    assert_same_content(out, undisturbed)


def test_a_run_that_is_killed_goes_on_from_its_finished_parts(
    catalog: Path, undisturbed: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    receipts = out / "versions/000001/work/receipts"
    job = start(catalog, out, model_folder, "--workers=1")
    until = time.monotonic() + 60
    while not list(receipts.glob("part-*.json")) and time.monotonic() < until:
        assert job.poll() is None, job.communicate()
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    done = {path.stem: json.loads(path.read_text()) for path in receipts.glob("part-*.json")}
    assert 0 < len(done) < 10
    assert not (out / "CURRENT").exists()
    before = {
        receipts.parent.parent / "codes" / f"{n}-{r['attempt']}.parquet" for n, r in done.items()
    }
    # The lock of the dead process is no obstacle.
    assert run_index(catalog, out, model_folder) == 0
    manifest = open_manifest(str(out))
    assert before <= {out / path for path in manifest.files.column("path")}
    summary = json.loads((out / "versions/000001/run.json").read_text())
    assert summary["parts_resumed"] == len(done)
    assert_same_content(out, undisturbed)
    # What the killed attempt had begun is gone.
    named = {out / path for path in manifest.files.column("path")}
    found = {path for path in (out / "versions/000001").rglob("*.*") if path.suffix != ".json"}
    assert found == named
