"""Fixtures that the tests of look-up share."""

from __future__ import annotations

import pytest
from published_index import Published, publish_music


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """An index of twenty tracks; not to be changed."""
    return publish_music(tmp_path_factory.mktemp("published"))
