"""Real music for the tests in this folder: where it is, and one line where nobody has said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "HASHBEAM_MUSIC"


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to run without music: a test that finds none would prove nothing."""
    folder = os.environ.get(VARIABLE, "")
    if not folder:
        raise pytest.UsageError(
            f"{VARIABLE} is not set; name a folder of music: {VARIABLE}=~/Music make test-music"
        )
    if not Path(folder).is_dir():
        raise pytest.UsageError(f"{VARIABLE}={folder} is not a folder; name a folder of music")


@pytest.fixture(scope="session")
def music() -> Path:
    """The folder of music."""
    return Path(os.environ[VARIABLE]).resolve()
