"""Fixtures that many tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_fixture import random_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model of 464 bits in 20 tables."""
    folder = tmp_path_factory.mktemp("models") / "random"
    random_model(folder)
    return folder
