"""An Airflow of its own: a home folder, a database in it, and the DAGs of deploy/airflow.

Airflow reads its settings where it is imported, so all of them are set here, before any test is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "deploy" / "airflow"
HOME = Path(tempfile.mkdtemp(prefix="hashbeam-airflow-"))

for name in [name for name in os.environ if name.startswith(("AIRFLOW", "GOOGLE", "HASHBEAM_AIR"))]:
    del os.environ[name]
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": "google-cloud-platform://",
    "HASHBEAM_AIRFLOW_SETTINGS": str(DAGS / "hashbeam.example.json"),
    # No look-up of credentials may leave this machine.
    "NO_GCE_CHECK": "true",
}


@pytest.fixture(scope="session")
def airflow() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Airflow's own command line, on the same home; keywords are environment variables."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "airflow", *words],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def database(airflow: Callable[..., subprocess.CompletedProcess[str]]) -> Path:
    """Airflow's tables."""
    done = airflow("db", "migrate")
    assert done.returncode == 0, done.stderr
    return HOME / "airflow.db"


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    yield HOME
    shutil.rmtree(HOME, ignore_errors=True)
