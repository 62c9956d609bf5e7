"""Commands killed before and after each write, sync, renaming, link and deletion.

A killed process leaves what it has done: nothing is lost but what it had not handed over yet. The
same command then finishes, and all is as if nobody had killed it, also after a loss of power.
"""

from __future__ import annotations

import os
import random

import pytest
from crash.scenes import KILLED, SCENES, Scene, Stage, play_with_kills

SLOW = pytest.mark.skipif("HASHBEAM_SLOW" not in os.environ, reason="minutes: `make test-slow`")
SEED = 6
SHARES = 4  # tests that go through all points of a scene: none takes minutes
ROWS = 20  # of kills in a row, of a scene, in `make test-slow`
# Names that make something count when a file takes them.
COUNTS = ("manifest.json", "CURRENT")


def moments_of_publication(scene: Scene) -> list[int]:
    """The points before and after something begins to count."""
    names = [(step.target or step.path).rpartition("/")[2] for step in scene.steps]
    at = [
        number
        for number, (step, name) in enumerate(zip(scene.steps, names, strict=True), 1)
        if step.kind in ("rename", "unlink") and name in COUNTS
    ]
    return sorted({*at, *(number + 1 for number in at)})


def test_a_reindex_that_is_killed_when_something_begins_to_count_finishes(stage: Stage) -> None:
    scene = stage.scene("reindex")
    for point in moments_of_publication(scene):
        play_with_kills(stage, scene, point)


@pytest.mark.parametrize("name", SCENES)
def test_a_command_that_is_killed_half_way_finishes(stage: Stage, name: str) -> None:
    scene = stage.scene(name)
    play_with_kills(stage, scene, len(scene.steps) * 3 // 5)


@SLOW
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("name", SCENES)
def test_a_command_that_is_killed_at_any_point_finishes(
    stage: Stage, name: str, share: int
) -> None:
    scene = stage.scene(name)
    for point in range(1 + share, len(scene.steps) + 1, SHARES):
        play_with_kills(stage, scene, point)


@SLOW
@pytest.mark.parametrize("name", SCENES)
def test_what_goes_on_after_a_kill_may_be_killed_too(stage: Stage, name: str) -> None:
    scene, rng = stage.scene(name), random.Random(SEED)
    for _ in range(ROWS):
        n = rng.choice([2, 2, 3])
        play_with_kills(stage, scene, *(rng.randint(1, len(scene.steps)) for _ in range(n)))


def test_kills_in_a_row(stage: Stage) -> None:
    scene = stage.scene("reindex")
    third = len(scene.steps) // 3
    play_with_kills(stage, scene, third, 2 * third, third // 2)


def test_a_kill_is_a_kill_and_the_last_point_is_the_end(stage: Stage) -> None:
    scene = stage.scene("reindex")
    stage.set_up(scene.base)
    assert stage.run(scene.arguments, len(scene.steps)) == KILLED
    stage.set_up(scene.base)
    assert stage.run(scene.arguments, len(scene.steps) + 1) == 0


def test_every_kind_of_change_is_met(stage: Stage) -> None:
    kinds = {step.kind for step in stage.scene("reindex").steps}
    assert kinds == {
        "create", "write", "sync", "sync folder", "rename", "link", "unlink", "mkdir", "rmdir",
    }  # fmt: skip
