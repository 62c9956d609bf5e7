"""Jobs without audio and Beam, for the tests that build an index each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_index import QuickJobs, quick_jobs, quick_model


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, QuickJobs]]:
    """The folder of a model, and jobs on indexes that it makes."""
    model = quick_model(tmp_path_factory.mktemp("quick") / "model")
    with quick_jobs(model) as made:
        yield model, made
