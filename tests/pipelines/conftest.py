"""Fixtures that the tests of look-up share."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

import pytest
from published_index import Published, publish_music

from hashing import decoder

# Where look-up has the name that `one_decoder` replaces.
USERS_OF_DECODERS = ("hashing.decoder", "pipelines.lookup")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """An index of twenty tracks; not to be changed."""
    return publish_music(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def one_decoder() -> Iterator[None]:
    """One child process for all look-ups in this process: each would start its own."""
    with decoder.Decoder() as shared, pytest.MonkeyPatch.context() as patched:
        for name in USERS_OF_DECODERS:
            module = importlib.import_module(name)
            patched.setattr(module, "Decoder", lambda: contextlib.nullcontext(shared))
        yield


@pytest.fixture
def memory_objects() -> Iterator[dict[str, bytes]]:
    """The objects below ``mem://``, by path; none at first."""
    from memory_store import OBJECTS  # brings Beam, which most tests do without

    OBJECTS.clear()
    yield OBJECTS
    OBJECTS.clear()
