"""Fixtures that tests of pipelines share: indexes not to be changed, and decoders."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from index_decoder import Heard
from published_index import Published, publish_music

if TYPE_CHECKING:
    from grown_index import Grown

# Where look-up has the name that `one_decoder` replaces.
USERS_OF_DECODERS = ("hashing.decoder", "pipelines.query_parts")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """An index of twenty tracks; not to be changed."""
    return publish_music(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def grown_once(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """An index of two versions, not to be changed."""
    from grown_index import grow_index  # brings Beam

    return grow_index(tmp_path_factory.mktemp("grown"))


@pytest.fixture
def grown(grown_once: Grown) -> Iterator[Grown]:
    """The same; files that a test changes are put back."""
    from grown_index import kept_bytes

    for _ in kept_bytes(grown_once.index):
        yield grown_once


@pytest.fixture(scope="session")
def open_decoder() -> Iterator[Heard]:
    """Its child process is started when it is needed first, and has loaded all models since."""
    with contextlib.closing(Heard()) as shared:
        yield shared


@pytest.fixture(scope="module")
def one_decoder(open_decoder: Heard) -> Iterator[None]:
    """One child process for all look-ups in this process: each would start its own."""
    with pytest.MonkeyPatch.context() as patched:
        for name in USERS_OF_DECODERS:
            module = importlib.import_module(name)
            patched.setattr(module, "Decoder", lambda: open_decoder)
        yield


@pytest.fixture(scope="module")
def one_index_decoder(open_decoder: Heard) -> Iterator[Heard]:
    """One child process for all indexing in this process: each run would start its own."""
    from pipelines import index_job  # brings Beam

    open_decoder.files.clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(index_job, "ListeningDecoder", lambda: open_decoder)
        yield open_decoder


@pytest.fixture
def memory_objects() -> Iterator[dict[str, bytes]]:
    """The objects below ``mem://``, by path; none at first."""
    from memory_store import OBJECTS  # brings Beam, which most tests do without

    OBJECTS.clear()
    yield OBJECTS
    OBJECTS.clear()
