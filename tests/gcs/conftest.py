"""Stores for the tests of ``gs://``: an emulator with and without faults, and the local disk."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, faulty_proxy
from gcs_emulator import MISSING, binary, emulator
from quick_index import QuickJobs, quick_jobs, quick_model

from pipelines import gcs, patience
from pipelines.verbs import VERBS

BUCKETS = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without an emulator these tests do not run, and say so."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and binary() is None:
            item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session")
def emulator_address() -> Iterator[str]:
    """The emulator, one for all tests of a process."""
    with emulator() as address:
        yield address


def new_bucket() -> str:
    """A bucket that nobody has used."""
    name = f"bucket-{next(BUCKETS)}"
    gcs.client().create_bucket(name)
    return f"gs://{name}"


@pytest.fixture
def bucket(emulator_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """``gs://…``, empty."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator_address)
    return new_bucket()


@pytest.fixture(params=["disk", "gs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder, on a disk or on ``gs://``."""
    if request.param == "disk":
        return str(tmp_path / "root")
    bucket: str = request.getfixturevalue("bucket")
    return f"{bucket}/some/root"


@pytest.fixture
def proxy(emulator_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before the emulator, through which ``gs://`` is reached, in a hurry."""
    hurry = patience.Patience(first_s=0.01, longest_s=0.05, deadline_s=60.0, request_s=20.0)
    monkeypatch.setattr(patience, "PATIENCE", hurry)
    with faulty_proxy(emulator_address) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.address)
        yield running


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, for `jobs`."""
    return quick_model(tmp_path_factory.mktemp("quick") / "model")


@pytest.fixture
def jobs(model: Path) -> Iterator[QuickJobs]:
    """Jobs on indexes of `model` are carried out at once, by whichever verb."""
    for verb in ("index", "reindex", "compact", "merge", "remove"):
        importlib.import_module(VERBS[verb].module)  # what is there already is replaced
    with quick_jobs(model) as running:
        yield running
