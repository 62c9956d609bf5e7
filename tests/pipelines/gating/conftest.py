"""The index that gates are asked about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from grown_index import Grown, grow_index, kept_bytes


@pytest.fixture(scope="session")
def grown_once(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """An index of two versions, not to be changed."""
    return grow_index(tmp_path_factory.mktemp("grown"))


@pytest.fixture
def grown(grown_once: Grown) -> Iterator[Grown]:
    """The same; files that a test changes are put back."""
    for _ in kept_bytes(grown_once.index):
        yield grown_once
