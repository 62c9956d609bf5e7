"""Fixtures that many tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_fixture import random_model

# Doctests are looked for in every module. Helpers of tests are imported by name; a second import
# of the same file under another name would, for one, register the object store in memory twice.
collect_ignore = [
    path.name for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_")
]


def pytest_collection_finish() -> None:
    """All modules are imported: the collector need not look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Writing through to the disk tells in a loss of power only, and takes longer than most tests.

    Whether it is asked for, and before what, is tested where files are written (`test_io.py`).
    """

    def check(descriptor: int) -> None:
        os.fstat(descriptor)  # one that is closed is still an error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", check)
        yield


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model of 464 bits in 20 tables."""
    folder = tmp_path_factory.mktemp("models") / "random"
    random_model(folder)
    return folder
