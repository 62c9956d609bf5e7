"""A Flink cluster for the tests of this folder, and the music that its jobs go through."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import soundfile
from flink_jobs import COMMAND_S, Run, copy_index, downloads, environment, hashbeam, write

from deploy.flink.cluster import Cluster
from hashing.synthesis import render_track
from pipelines.catalog import read_catalog

MUSIC = "HASHBEAM_MUSIC"

MOST_TRACKS = 500
RENDERED, RENDERED_S, RATE = 160, 60.0, 16_000  # tracks, s, Hz: where there is no real music


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to run without Flink: tests that are skipped would prove nothing."""
    if not (downloads() / "bin" / "prism").exists():
        raise pytest.UsageError(f"{downloads()} has no Flink; `make flink-test` brings it")


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch folder, and the working folder of all commands."""
    return tmp_path_factory.mktemp("flink")


@pytest.fixture(scope="session")
def run(work: Path) -> Run:
    """Gives a command that must succeed; what it prints with ``--json``."""

    def give(*arguments: object) -> dict[str, Any]:
        done = subprocess.run(
            hashbeam(*arguments, "--json", "--quiet"),
            cwd=work,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return give


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A job manager, three task managers, of which two work at once, and a job server."""
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, task_managers=3, downloads=downloads()) as started:
        yield started


@pytest.fixture(scope="session")
def on_flink(cluster: Cluster) -> list[str]:
    """The flags of a job on the cluster."""
    return cluster.beam_args(2)


@pytest.fixture(scope="session")
def on_prism(cluster: Cluster) -> list[str]:
    """The flags of a job on Prism, with the same worker processes."""
    worker = [flag for flag in cluster.beam_args(2) if flag.startswith("--environment_")]
    return ["--runner=PrismRunner", f"--prism_location={downloads() / 'bin' / 'prism'}", *worker]


@pytest.fixture(scope="session")
def tracks(work: Path) -> pa.Table:
    """The catalogue of all music, sorted by track."""
    folder = os.environ.get(MUSIC, "")
    if folder:
        table = read_catalog(str(Path(folder).resolve() / "catalog.csv"))
        return table.slice(0, MOST_TRACKS)
    rows = []
    for number in range(RENDERED):
        path = work / "music" / f"{number:03d}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, render_track(number, RENDERED_S, RATE), RATE)
        name = f"Artist {number % 7}"
        rows.append({"track_id": f"t{number:03d}", "uri": str(path), "artist_name": [name]})
    return pa.Table.from_pylist([{**row, "title": row["track_id"]} for row in rows])


@pytest.fixture(scope="session")
def first(work: Path, tracks: pa.Table) -> Path:
    """The catalogue of the first night: all but every eighth track."""
    return write(work / "first.parquet", tracks.take(pa.array(places(tracks, without=3))))


@pytest.fixture(scope="session")
def second(work: Path, tracks: pa.Table) -> Path:
    """The next night's: other tracks are missing, and every tenth has another title."""
    title = tracks.column_names.index("title")
    titles = tracks["title"].to_pylist()
    changed = [f"{one} (live)" if row % 10 == 0 else one for row, one in enumerate(titles)]
    edited = tracks.set_column(title, "title", pa.array(changed, pa.string()))
    return write(work / "second.parquet", edited.take(pa.array(places(tracks, without=6))))


@pytest.fixture(scope="session")
def local_first(run: Run, work: Path, first: Path) -> Path:
    """The index of the first night, by the local engine."""
    run("index", "--catalog", first, "--out", "local.first")
    return work / "local.first"


@pytest.fixture(scope="session")
def local_second(run: Run, work: Path, local_first: Path, second: Path) -> Path:
    """The index after the second night, by the local engine."""
    copy_index(local_first, work / "local.second")
    run("reindex", "--catalog", second, "--index", "local.second", "--max-shrink", 0.5)
    return work / "local.second"


def places(tracks: pa.Table, *, without: int) -> list[int]:
    """All rows but one of every eight."""
    return [row for row in range(tracks.num_rows) if row % 8 != without]
