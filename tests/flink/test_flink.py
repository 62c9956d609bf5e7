"""The jobs of hashbeam on Flink: each gives what the local engine gives, row for row."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from flink_jobs import Run, copy_index, environment, hashbeam, write
from same_index import assert_same

from deploy.flink.cluster import Cluster
from pipelines.versions import current_version

QUERIES, QUERY_S = 150, 3.0
SAME_NAME, NAMESAKES = "The Owls", 60
PUBLISHED_S = 240.0  # s that a job which nobody waits for may take


@pytest.fixture(scope="session")
def queries(work: Path, tracks: pa.Table) -> Path:
    """Parts of tracks, indexed and not, from random places."""
    rng = np.random.default_rng(9)
    chosen = rng.permutation(tracks.num_rows)[:QUERIES]
    rows = [
        {
            "query_id": f"q{number:03d}",
            "uri": tracks["uri"][int(row)].as_py(),
            "start_s": float(rng.uniform(0, 30)),
            "duration_s": QUERY_S,
        }
        for number, row in enumerate(chosen)
    ]
    return write(work / "queries.parquet", pa.Table.from_pylist(rows))


@pytest.fixture(scope="session")
def homonyms(work: Path, tracks: pa.Table) -> Path:
    """Tracks of several artists under one name."""
    named = tracks.filter(pc.is_valid(tracks["artist_name"]))
    step = max(1, named.num_rows // NAMESAKES)
    some = named.take(pa.array(range(0, named.num_rows, step))).slice(0, NAMESAKES)
    names = pa.array([[SAME_NAME]] * some.num_rows)
    place = some.column_names.index("artist_name")
    return write(work / "homonyms.parquet", some.set_column(place, "artist_name", names))


@pytest.fixture(scope="session")
def flink_first(run: Run, work: Path, first: Path, on_flink: list[str]) -> Path:
    """The index of the first night, by Flink; the paths are relative, as a user would give them."""
    told = run("index", "--catalog", first.name, "--out", "flink.first", *on_flink)
    assert told["version"] == "000001"
    return work / "flink.first"


def test_index(flink_first: Path, local_first: Path) -> None:
    assert_same(flink_first, local_first)


def test_index_on_two_workers(flink_first: Path, cluster: Cluster) -> None:
    workers = [
        name for name in cluster.logs() if "Python sdk harness starting" in cluster.log(name)
    ]
    assert len(workers) >= 2, "one task manager did all the work"


def test_reindex(
    run: Run, work: Path, flink_first: Path, local_second: Path, second: Path, on_flink: list[str]
) -> None:
    index = copy_index(flink_first, work / "flink.second")
    command = ("reindex", "--catalog", second, "--index", index, "--max-shrink", 0.5)
    told = run(*command, *on_flink)
    assert told["version"] == "000002"
    assert_same(index, local_second)
    assert not run(*command, *on_flink)["published"]  # nothing has changed since


def test_lookup(
    run: Run, work: Path, local_first: Path, queries: Path, on_flink: list[str]
) -> None:
    command = ("lookup", "--index", local_first, "--queries", queries, "--min-score", 0)
    told = [
        run(*command, "--out", "local.answers"),
        run(*command, "--out", "flink.answers", *on_flink),
    ]
    tables = [pq.read_table(work / name / "matches") for name in ("local.answers", "flink.answers")]
    assert tables[1].equals(tables[0])
    assert tables[0].num_rows >= QUERIES / 2
    assert told[1]["matched"] == told[0]["matched"] > 0


def test_disambiguate(run: Run, work: Path, homonyms: Path, on_flink: list[str]) -> None:
    command = ("disambiguate", "--catalog", homonyms, "--min-confidence", 0)
    run(*command, "--out", "local.artists")
    run(*command, "--out", "flink.artists", *on_flink)
    for name in ("clusters", "memberships", "groups", "proposals"):
        local, flink = (
            pq.read_table(work / f"{engine}.artists" / f"{name}.parquet")
            for engine in ("local", "flink")
        )
        assert flink.equals(local), name
    clusters = pq.read_table(work / "flink.artists" / "clusters.parquet")
    assert pc.max(clusters["cluster"]).as_py() >= 1


def test_a_job_that_nobody_waits_for_publishes(
    run: Run, work: Path, first: Path, local_first: Path, on_flink: list[str]
) -> None:
    index = work / "flink.detached"
    told = run("index", "--catalog", first, "--out", index, "--detach", *on_flink)
    assert told["sent"]
    assert current_version(str(index)) is None
    wait_until(lambda: current_version(str(index)) == "000001", "nothing was published")
    assert_same(index, local_first)


def test_an_index_is_kept_tidy(
    run: Run, work: Path, local_second: Path, on_flink: list[str]
) -> None:
    """Segments are merged and the old versions deleted, as after a nightly reindex."""
    local, index = (copy_index(local_second, work / name) for name in ("local.tidy", "flink.tidy"))
    run("compact", local, "--all")
    for path in index.rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert run("compact", "--index", index, "--all", "--keep", 1, "--detach", *on_flink)["sent"]
    wait_until(lambda: current_version(str(index)) == "000003", "nothing was published")
    assert_same(index, local)
    left = index / "versions"
    wait_until(lambda: [path.name for path in left.iterdir()] == ["000003"], "old versions stay")


def wait_until(there: Callable[[], bool], problem: str) -> None:
    """Until the last step of a job that nobody waits for has done something."""
    deadline = time.monotonic() + PUBLISHED_S
    while not there():
        assert time.monotonic() < deadline, problem
        time.sleep(1)


def test_an_error_of_a_worker_is_one_line(
    work: Path, local_first: Path, queries: Path, on_flink: list[str]
) -> None:
    index = copy_index(local_first, work / "damaged")
    for shard in (index / "versions" / "000001" / "tables").iterdir():
        shard.write_bytes(shard.read_bytes()[:-64])
    done = subprocess.run(
        hashbeam("lookup", "--index", index, "--queries", queries, "--out", "none", *on_flink),
        cwd=work,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, done.stderr
    assert "damaged/versions/000001/tables" in lines[0]
    assert "Traceback" not in done.stderr
    assert not (work / "none" / "run.json").exists()


def test_index_and_lookup_on_prism(
    run: Run, work: Path, first: Path, local_first: Path, queries: Path, on_prism: list[str]
) -> None:
    run("index", "--catalog", first, "--out", "prism.first", *on_prism)
    assert_same(work / "prism.first", local_first)
    run("lookup", "--index", local_first, "--queries", queries, "--out", "prism.answers", *on_prism)
    run("lookup", "--index", local_first, "--queries", queries, "--out", "plain.answers")
    found = [pq.read_table(work / name / "matches") for name in ("prism.answers", "plain.answers")]
    assert found[0].equals(found[1])
    assert json.loads((work / "prism.answers" / "run.json").read_text())["queries"] == QUERIES
