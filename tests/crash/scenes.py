"""Commands that are interrupted: what is there before, what is expected after, and the checks."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path

from crash.disk import Disk, Nothing, Tree, missing, read_tree, write_tree
from crash.process import command, run_in_child
from crash.story import (
    MIDDLE,
    NEW,
    NEW_FILES,
    OLD,
    OLD_FILES,
    Content,
    Reader,
    content_of,
    expected,
    lay_out,
    leftovers,
)
from crash.watched_os import Step, read_steps
from model_fixture import random_model

from hashing.encoders import Hasher
from pipelines.history import check_whole, published_versions
from pipelines.verify import verify_files
from pipelines.versions import current_version, is_temporary, open_manifest, read_manifest

KILLED = -9


@dataclasses.dataclass(frozen=True)
class Scene:
    """A command on an index.

    Attributes:
        arguments: of the command line.
        base: the disk before, safely written: the index is the folder ``index`` in it.
        before, after: what the published version holds; None: nothing is published.
        steps: what the command does when nobody kills it.
        over: what the command says, and fails, when it is given again and nothing is left to do;
            "": it is content.
        tidies: whether it deletes temporary files of the index itself; others leave them to gc.
    """

    arguments: list[str]
    base: Tree
    before: Content | None
    after: Content
    steps: list[Step]
    over: str = ""
    tidies: bool = True


class Stage:
    """Where scenes are played: one folder with the music, a model, and a disk that fails."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk, self.index = folder, folder / "disk", folder / "disk" / "index"
        self._log, self._said = folder / "log", folder / "said"
        random_model(folder / "model", bits=64, n_tables=2)
        self.hasher = Hasher.load(str(folder / "model"))
        self._old = expected(OLD_FILES, OLD, self.hasher)
        self._new = expected(NEW_FILES, NEW, self.hasher)
        music = folder / "music"
        shared = ["--model", str(folder / "model"), "--workers", "1", "--quiet"]
        self._shared = shared
        shared_index = ["--out", str(self.index), "--max-failures", "0.5", *shared]
        shared_reindex = ["reindex", "--index", str(self.index), "--max-failures", "0.5", *shared]
        old = lay_out(music, "old", OLD_FILES, OLD)
        self._first = self._finished({}, ["index", "--catalog", str(old), *shared_index])
        middle = lay_out(music, "middle", NEW_FILES, MIDDLE)
        new = lay_out(music, "new", NEW_FILES, NEW)
        self._index = ["index", "--catalog", str(new), *shared_index]
        self._reindex = [*shared_reindex, "--catalog", str(new)]
        self._middle = [*shared_reindex, "--catalog", str(middle)]
        self.scene = functools.cache(self._scene)

    def _scene(self, name: str) -> Scene:
        """The scene of this name, one of `SCENES`."""
        return getattr(self, f"_scene_{name}")()  # type: ignore[no-any-return]

    def _scene_index(self) -> Scene:
        return self._played(self._index, {}, None, self._new, "holds a published index")

    def _scene_reindex(self) -> Scene:
        return self._played(self._reindex, self._first, self._old, self._new)

    def _scene_another_catalogue(self) -> Scene:
        """Of a run that was given up there are a plan, codes and tables."""
        self.set_up(self._first)
        steps = len(self._steps_of(self._middle))
        self.set_up(self._first)
        assert self.run(self._middle, steps * 3 // 4) == KILLED
        return self._played(self._reindex, read_tree(self.disk), self._old, self._new)

    def _scene_rollback(self) -> Scene:
        arguments = ["rollback", str(self.index), "--to", "000001"]
        return self._played(
            arguments, self._second, self._new, self._old, "is published already", False
        )

    def _scene_gc(self) -> Scene:
        arguments = ["gc", str(self.index), "--keep", "1"]
        return self._played(arguments, self._second, self._new, self._new)

    def _scene_compact(self) -> Scene:
        arguments = ["compact", str(self.index), "--all", *self._shared]
        return self._played(arguments, self._second, self._new, self._new)

    def _scene_remove(self) -> Scene:
        left = expected(NEW_FILES, [row for row in NEW if row[0] != "t6"], self.hasher)
        arguments = ["remove", str(self.index), "--id", "t6"]
        return self._played(arguments, self._second, self._new, left, "t6")

    @functools.cached_property
    def _second(self) -> Tree:
        """The disk after the reindexing."""
        return self._finished(self._first, self._reindex)

    def _finished(self, base: Tree, arguments: list[str]) -> Tree:
        self.set_up(base)
        self._steps_of(arguments)
        return read_tree(self.disk)

    def _played(
        self,
        arguments: list[str],
        base: Tree,
        before: Content | None,
        after: Content,
        over: str = "",
        tidies: bool = True,
    ) -> Scene:
        self.set_up(base)
        steps = self._steps_of(arguments)
        scene = Scene(arguments, base, before, after, steps, over, tidies)
        self.check_finished(scene)
        self.check_model_of(base)
        return scene

    def _steps_of(self, arguments: list[str]) -> list[Step]:
        assert self.run(arguments) == 0, self.said
        return list(read_steps(self._log))

    @property
    def said(self) -> str:
        """What the last command has printed."""
        return self._said.read_text()

    def set_up(self, tree: Tree) -> None:
        """The disk holds this, and nothing has been done since."""
        shutil.rmtree(self.disk, ignore_errors=True)
        write_tree(self.disk, tree)
        self._log.unlink(missing_ok=True)

    def run(self, arguments: list[str], kill_at: int | None = None) -> int:
        """The exit status of a command that is killed at a point; `KILLED` where it was."""
        watch = (self.disk, self._log, kill_at)
        return run_in_child(command(arguments, self.hasher), self._said, watch)

    def check_whole(self, *allowed: Content | None) -> None:
        """The published version is whole, and one of `allowed`; None: nothing is published.

        All versions are whole that can be rolled back to.
        """
        if not self.index.exists() or current_version(str(self.index)) is None:
            assert None in allowed, "nothing is published any more"
            return
        assert verify_files(str(self.index), open_manifest(str(self.index))) == []
        assert content_of(self.index, self.hasher) in allowed
        for version in published_versions(str(self.index)):
            manifest = read_manifest(str(self.index), version)
            if manifest is not None:
                check_whole(str(self.index), manifest)

    def play(self, scene: Scene, kill_at: int | None = None) -> None:
        """The command of a scene once more: to its end, or to a point where it is killed."""
        status = self.run(scene.arguments, kill_at)
        if status == KILLED and kill_at is not None:
            return
        assert status == 0 or (scene.over and scene.over in self.said), self.said

    def check_finished(self, scene: Scene) -> None:
        """All is as after a run that nobody killed."""
        self.check_whole(scene.after)
        left = leftovers(self.index)
        assert {name for name in left if scene.tidies or not is_temporary(name)} == set()

    def check_model_of(self, base: Tree) -> Disk:
        """The disk after all that was done since `set_up`, which the model of it tells, too."""
        disk = Disk(base)
        for step in read_steps(self._log):
            disk.do(step)
        assert disk.now() == read_tree(self.disk)
        return disk

    def reader(self) -> Reader:
        """Opens the published version for look-up."""
        return Reader(self.index, self.hasher)


def play_with_kills(stage: Stage, scene: Scene, *kill_at: int) -> None:
    """Kills a command at a point, the same command at the next one, and so on; then it finishes.

    A reader that has opened the version before the first kill gives the same answers after all of
    it. In the end the power fails: everything that is needed has been synced.
    """
    stage.set_up(scene.base)
    reader = None if scene.before is None else stage.reader()
    for point in kill_at:
        stage.play(scene, point)
        stage.check_whole(scene.before, scene.after)
    stage.play(scene)
    stage.check_finished(scene)
    if reader is not None:
        assert scene.before is not None
        assert reader.answers() == scene.before.answers
    disk = stage.check_model_of(scene.base)
    lost = missing(disk.now(), disk.lost(Nothing()))
    lost = [name for name in lost if scene.tidies or not is_temporary(name)]  # nobody needs those
    assert lost == [], f"the power failed, and {lost} are not as they were"


def play_with_loss(stage: Stage, scene: Scene, tree: Tree, done: bool) -> None:
    """The power fails, and the disk is found like this; then the same command is given.

    Args:
        done: the command had ended, so that what it published may not be lost.
    """
    stage.set_up(tree)
    stage.check_whole(scene.after, *([] if done else [scene.before]))
    stage.play(scene)
    stage.check_whole(scene.after)
    # Deletions that were lost are made again by the next sweep.
    assert stage.run(["gc", str(stage.index), "--keep", "2", "--unfinished-days", "0"]) == 0
    stage.check_finished(scene)


SCENES = [name.removeprefix("_scene_") for name in vars(Stage) if name.startswith("_scene_")]
