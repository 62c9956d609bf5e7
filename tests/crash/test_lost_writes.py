"""The power fails at any step, and what was not synced until then is lost, torn, or out of order.

What was published is whole whatever happens, and a command that had ended is not undone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from crash.disk import Chance, Disk, Journal, Luck, Names, Nothing, Tree
from crash.scenes import SCENES, Scene, Stage, play_with_kills, play_with_loss

from pipelines import stores

SLOW = pytest.mark.skipif("HASHBEAM_SLOW" not in os.environ, reason="minutes: `make test-slow`")
SHARES = 4  # tests that go through all losses of a scene: none takes minutes
SEEDS = 1  # of each kind of luck at every step in `make test-slow`


def losses(scene: Scene, seeds: int) -> Iterator[tuple[Tree, bool]]:
    """What may be found after a loss of power at each step, each only once; is the command over?"""
    model, seen = Disk(scene.base), set[str]()
    for number, step in enumerate([None, *scene.steps]):
        if step is not None:
            model.do(step)
        lucks: list[Luck] = [Nothing(), Names()]
        for seed in range(seeds):
            lucks += [Chance(1000 * seed + number), Journal(1000 * seed + number, number)]
        for luck in lucks:
            tree, done = model.lost(luck), number == len(scene.steps)
            if (found := f"{done} {tree}") not in seen:
                seen.add(found)
                yield tree, done


@pytest.mark.parametrize("name", SCENES)
def test_a_loss_of_power_leaves_a_whole_version(stage: Stage, name: str) -> None:
    scene = stage.scene(name)
    found = list(losses(scene, 1))
    meanwhile, afterwards = ([one for one in found if one[1] == done] for done in (False, True))
    for tree, done in (random.Random(1).choice(meanwhile), afterwards[0]):
        play_with_loss(stage, scene, tree, done)


@pytest.mark.parametrize(
    ("name", "forgetful"),
    [("sync", lambda file: file.flush()), ("sync_folder", lambda folder: None)],
)
def test_a_sync_that_is_forgotten_is_found(
    stage: Stage, name: str, forgetful: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = stage.scene("reindex")
    monkeypatch.setattr(stores, name, forgetful)
    with pytest.raises(AssertionError, match="the power failed"):
        play_with_kills(stage, scene, 2)


@SLOW
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("name", SCENES)
def test_a_loss_of_power_at_any_step_leaves_a_whole_version(
    stage: Stage, name: str, share: int
) -> None:
    scene = stage.scene(name)
    for tree, done in list(losses(scene, SEEDS))[share::SHARES]:
        play_with_loss(stage, scene, tree, done)
