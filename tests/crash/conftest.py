"""The stage of the crash tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.scenes import Stage

# Helpers are imported by name, not looked through for doctests; but for the model of a disk.
collect_ignore = [
    path.name
    for path in Path(__file__).parent.glob("*.py")
    if not path.name.startswith("test_") and path.name != "disk.py"
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The music, a model, and a disk that may fail."""
    return Stage(tmp_path_factory.mktemp("stage"))
