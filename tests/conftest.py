"""Fixtures that many tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_fixture import random_model

# Doctests are looked for in every module. Helpers of tests are imported by name; a second import
# of the same file under another name would, for one, register the object store in memory twice.
collect_ignore = [
    path.name for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_")
]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model of 464 bits in 20 tables."""
    folder = tmp_path_factory.mktemp("models") / "random"
    random_model(folder)
    return folder
