"""``hashbeam lookup --queries`` in several processes: the same rows as in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from published_index import Published, answer_rows
from tiny_catalog import write_rows

from pipelines import cli
from pipelines.cli import main

ROOT = Path(cli.__file__).parent.parent


def test_two_processes_and_one_and_the_direct_runner_answer_the_same(
    published: Published, tmp_path: Path
) -> None:
    """70 queries are two parts of at most 64; run as Beam users do."""
    starts_s = np.linspace(0, 9, 10).tolist()
    tracks = [f"s{number:02d}" for number in (0, 1, 4, 9, 10, 14, 18)]
    folder = published.index.parent
    given = [
        {
            "query_id": f"{track}-{start_s}",
            "uri": str(folder / f"{track}.wav"),
            "start_s": str(start_s),
            "duration_s": "1.5",
        }
        for track in tracks
        for start_s in starts_s
    ]
    queries = write_rows(tmp_path / "queries.csv", given)
    names = ["--index", str(published.index), "--queries", str(queries), "--min-score=0"]
    one = ["--out", str(tmp_path / "one"), "--workers=1"]
    direct = ["--out", str(tmp_path / "direct"), "--workers=1", "--runner=DirectRunner"]
    assert main(["lookup", *names, *one]) == 0
    assert main(["lookup", *names, *direct]) == 0
    two = ["--out", str(tmp_path / "two"), "--workers=2", "--runner=DirectRunner", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.lookup", *names, *two],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == "hashbeam: --runner=DirectRunner is run as FnApiRunner\n"
    assert done.returncode == 0
    assert json.loads(done.stdout)["parts"] == 2
    expected = answer_rows(tmp_path / "one")
    right = [row for row in expected if row["rank"] == 1]
    assert all(row["query_id"].startswith(row["track_id"]) for row in right)
    assert len(right) == 70
    assert answer_rows(tmp_path / "two") == expected
    assert answer_rows(tmp_path / "direct") == expected
