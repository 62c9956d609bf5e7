"""A real reindex with two workers, killed at moments that follow from the number of the trial."""

from __future__ import annotations

import os

import pytest
from crash.black_box import Soak, summarise

pytestmark = pytest.mark.skipif(
    "HASHBEAM_SLOW" not in os.environ, reason="minutes: `make test-slow`"
)
TRIALS = 25


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    """The music, and the index that each trial starts from."""
    return Soak(tmp_path_factory.mktemp("soak") / "soak")


@pytest.mark.parametrize("number", range(TRIALS))
def test_a_reindex_that_is_killed_at_some_moment_finishes(soak: Soak, number: int) -> None:
    assert soak.run(number)["problem"] is None


def test_kills_came_at_all_times(soak: Soak) -> None:
    found = summarise(soak.trials())
    assert found["kills"] >= TRIALS
    # Not all of them before anything was done, or after everything was.
    assert len(found["phase"]) >= 3, found
