"""Commands of hashbeam as processes of their own, for tests on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deploy.flink.cluster import DOWNLOADS, ROOT

DOWNLOADED = "HASHBEAM_FLINK"  # the folder that `make flink` filled
COMMAND_S = 420  # s; ten times what any of them takes on two idle cores

Run = Callable[..., dict[str, Any]]


def hashbeam(*arguments: object) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "pipelines", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Of a command: this checkout, whatever folder it is given in."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def write(path: Path, table: pa.Table) -> Path:
    """A catalogue."""
    pq.write_table(table, path)
    return path


def copy_index(index: Path, to: Path) -> Path:
    """A copy that may be changed."""
    subprocess.run(["cp", "-r", str(index), str(to)], check=True)
    return to


def downloads() -> Path:
    """The jars of Flink and Beam, and Beam's programs."""
    return Path(os.environ.get(DOWNLOADED) or DOWNLOADS)
