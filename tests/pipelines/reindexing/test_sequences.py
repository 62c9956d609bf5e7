"""Whatever is done to a catalogue, a reindexed index answers like one that is built anew.

Random sequences of changes, each followed by a run; what the index must hold is told by the files
and the rows alone (`World.expected`), and after the last run by an index made from nothing.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quick_index import (
    Asker,
    Contents,
    Killed,
    QuickJobs,
    broken,
    build,
    codes_of,
    contents,
    song,
    update,
    write_catalog,
)
from quick_sequences import as_bytes, sequence_of

from hashing.errors import AudioError
from pipelines.also import ALSO
from pipelines.changes.classes import CLASSES
from pipelines.content import file_checksum
from pipelines.history import roll_back
from pipelines.inspect import describe
from pipelines.lock import IndexLock
from pipelines.reindexing.compact import CompactOptions, compact
from pipelines.sweep import plan_sweep, sweep
from pipelines.verify import verify_files
from pipelines.versions import open_manifest, read_manifest

SLOW = "HASHBEAM_SLOW" in os.environ
IDS = [f"{letter}{number}" for number in range(4) for letter in "mdx"]
FIRST_TIME = 1_000_000_000.0  # Unix seconds, of the first file
COLUMNS = ("year", "size")  # a column of the owner's, and one that is called like one of ours


@dataclasses.dataclass
class World:
    """Music and a catalogue of it.

    Attributes:
        rows: track_id → its row.
        files: name of each file that is there → its bytes.
        etags: whether the catalogue has them: they change with the content alone.
    """

    folder: Path
    etags: bool
    rows: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    columns: set[str] = dataclasses.field(default_factory=set)
    clock: float = FIRST_TIME
    made: int = 0

    def new_name(self) -> str:
        self.made += 1
        return f"{self.made}.song"

    def put(self, name: str, data: bytes | None) -> None:
        """Writes a file, later than all before; None: deletes it."""
        path = self.folder / name
        if data is None:
            path.unlink(missing_ok=True)
            self.files.pop(name, None)
        else:
            path.write_bytes(data)
            self.touch(name)
            self.files[name] = data

    def touch(self, name: str, time: float | None = None) -> None:
        self.clock += 1
        time = self.clock if time is None else time
        os.utime(self.folder / name, (time, time))

    def catalog(self) -> Path:
        rows = []
        for track_id, row in self.rows.items():
            row = {"track_id": track_id, **row}
            if self.etags:
                row["etag"] = self.files.get(row["uri"], b"gone").hex()
            row |= {name: f"{name} of {track_id}" for name in self.columns}
            rows.append(row)
        return write_catalog(self.folder / "catalog.csv", rows)

    def expected(self, also: Sequence[str]) -> Contents:
        """What an index of this must hold, with what is asked for beside codes."""
        found = Contents({}, {}, {}, {}, {})
        for track_id, row in self.rows.items():
            path, data = self.folder / row["uri"], self.files.get(row["uri"])
            try:
                if data is None:
                    raise AudioError("unreadable", "it is not there")
                codes = codes_of(data)
            except AudioError as error:
                found.failures[track_id, ""] = str(path), error.kind
                continue
            size, content = file_checksum(str(path))
            own = {"snippets": len(codes.snippet), "gids": int(codes.snippet[-1]) + 1}
            state = {"size": size, "mtime": path.stat().st_mtime, "content": content}
            columns = {name: f"{name} of {track_id}" for name in self.columns}
            columns = {f"catalog_{k}" if k == "size" else k: v for k, v in columns.items()}
            if self.etags:
                columns["etag"] = data.hex()
            if row["title"]:
                columns["title"] = row["title"]
            found.rows[track_id] = {
                "uri": str(path), "duration_s": codes.duration_s, **own, **state, **columns
            }  # fmt: skip
            found.codes[track_id] = dict(
                zip(codes.snippet.tolist(), map(bytes, codes.codes), strict=True)
            )
            for name in also if data.endswith(b"mute") else ():
                found.failures[track_id, ALSO[name].stage] = str(path), "too-short"
            if "sequence" in also and not data.endswith(b"mute"):
                found.sequences[track_id] = as_bytes(sequence_of(data))
        return found


# What may happen to a catalogue between two runs; `one` and `two` are any whole numbers.


def add(world: World, one: int, two: int) -> None:
    """A track that is new, or back under an id that was there before."""
    track_id, name = IDS[one % len(IDS)], world.new_name()
    if track_id not in world.rows:
        world.put(name, song(two % 3, world.made, mute=two == 3))
        world.rows[track_id] = {"uri": name, "title": f"Song {two}"}


def copy(world: World, one: int, two: int) -> None:
    """The same file, or a copy of it, under one more id."""
    track_id, row = IDS[one % len(IDS)], chosen(world, two)
    if track_id not in world.rows and row["uri"] in world.files:
        name = row["uri"]
        if two % 2:
            name = world.new_name()
            world.put(name, world.files[row["uri"]])
        world.rows[track_id] = {**row, "uri": name}


def remove(world: World, one: int, two: int) -> None:
    """A track that goes, with its file or without."""
    if len(world.rows) > 1:
        row = world.rows.pop(sorted(world.rows)[one % len(world.rows)])
        if two % 2:
            world.put(row["uri"], None)


def change(world: World, one: int, two: int) -> None:
    """Another song in the same file."""
    world.made += 1
    world.put(chosen(world, one)["uri"], song(two % 3, world.made))


def change_same_size(world: World, one: int, two: int) -> None:
    """Another song of as many bytes in the same file."""
    name = chosen(world, one)["uri"]
    if name in world.files:
        world.put(name, world.files[name].replace(b" ", b" 9"))
        world.put(name, world.files[name].replace(b" 9", b" 8"))


def spoil(world: World, one: int, two: int) -> None:
    """A file that cannot be read any more, or is gone."""
    world.put(chosen(world, one)["uri"], broken(two) if two % 2 else None)


def silence(world: World, one: int, two: int) -> None:
    """A file that gets nothing but codes any more."""
    world.made += 1
    world.put(chosen(world, one)["uri"], song(two % 3, world.made, mute=True))


def touch(world: World, one: int, two: int) -> None:
    """The same file, written again."""
    name = chosen(world, one)["uri"]
    if name in world.files and not world.etags:  # with an etag nobody looks at the time
        world.touch(name)


def rename(world: World, one: int, two: int) -> None:
    """The same file under another id."""
    old, new = sorted(world.rows)[one % len(world.rows)], IDS[two % len(IDS)]
    if new not in world.rows:
        world.rows[new] = world.rows.pop(old)


def move(world: World, one: int, two: int) -> None:
    """The same file in another place; its time goes with it, or not."""
    row, name = chosen(world, one), world.new_name()
    if row["uri"] in world.files:
        time = (world.folder / row["uri"]).stat().st_mtime
        world.put(name, world.files[row["uri"]])
        if two % 2:
            world.touch(name, time)
        world.put(row["uri"], None)
        for other in world.rows.values():
            if other["uri"] == row["uri"] and other is not row:
                other["uri"] = name
        row["uri"] = name


def move_and_rename(world: World, one: int, two: int) -> None:
    """The same file in another place under another id."""
    move(world, one, two)
    rename(world, one, two)


def swap(world: World, one: int, two: int) -> None:
    """Two tracks change places."""
    ids = sorted(world.rows)
    first, second = ids[one % len(ids)], ids[two % len(ids)]
    world.rows[first], world.rows[second] = world.rows[second], world.rows[first]


def edit(world: World, one: int, two: int) -> None:
    """Another title, or none."""
    chosen(world, one)["title"] = f"Title {two}" if two else ""


def widen(world: World, one: int, two: int) -> None:
    """A column more in all rows, or less."""
    world.columns ^= {COLUMNS[one % len(COLUMNS)]}


def chosen(world: World, number: int) -> dict[str, str]:
    return world.rows[sorted(world.rows)[number % len(world.rows)]]


CHANGES = (
    add,
    copy,
    remove,
    change,
    change_same_size,
    spoil,
    silence,
    touch,
    rename,
    move,
    move_and_rename,
    swap,
    edit,
    widen,
)


# What may happen to the index between two runs.


def nothing(index: Path) -> None:
    """Nothing."""


def back(index: Path) -> None:
    """``hashbeam rollback``, where there is a version to go back to."""
    parent = open_manifest(str(index)).parent
    if parent and read_manifest(str(index), parent):
        with IndexLock(str(index)) as lock:
            roll_back(str(index), None, lock)


def collect_garbage(index: Path) -> None:
    """``hashbeam gc --keep 1``."""
    with IndexLock(str(index)) as lock:
        sweep(str(index), plan_sweep(str(index), 1, grace_s=-1, unfinished_s=1e9), lock)


def merge_segments(index: Path) -> None:
    """``hashbeam compact --all``."""
    compact(CompactOptions(str(index), 1, whole=True, quiet=True))


@dataclasses.dataclass(frozen=True)
class Step:
    """What happens up to the end of a run.

    Attributes:
        changes: of the catalogue, each with two numbers.
        care: of the index.
        flags: of the run.
        stop: pieces of work after which the run is killed, and started again; None: it is not.
        later: changes of the catalogue between the kill and the next start.
    """

    changes: list[tuple[Any, int, int]]
    care: Any = nothing
    flags: tuple[str, ...] = ()
    stop: int | None = None
    later: list[tuple[Any, int, int]] = dataclasses.field(default_factory=list)


numbers = st.integers(0, 11)
changes = st.tuples(st.sampled_from(CHANGES), numbers, numbers)
steps = st.builds(
    Step,
    changes=st.lists(changes, max_size=5),
    care=st.sampled_from((nothing, nothing, nothing, back, collect_garbage, merge_segments)),
    flags=st.sampled_from(((), (), (), ("retry_failed",), ("force",))),
    stop=st.sampled_from((None, None, None, 0, 1, 2, 3)),
    later=st.lists(changes, max_size=1),
)


class Life:
    """An index and its catalogue, from one run to the next."""

    def __init__(self, folder: Path, model: Path, jobs: QuickJobs, etags: bool) -> None:
        self.index, self.model, self.jobs = folder / "index", model, jobs
        self.also = () if etags else tuple(ALSO)
        self.world = World(folder, etags)
        for number in range(9):
            add(self.world, number, number)
        copy(self.world, 9, 4)
        spoil(self.world, 2, 0)
        spoil(self.world, 5, 1)
        # Of each version that was checked: the tracks that it has.
        self.tracks = dict[str, set[str]]()

    def begin(self) -> None:
        """Builds the first version."""
        build(self.world.catalog(), self.index, self.model, also=self.also)

    def go(self, step: Step) -> None:
        """Makes a step, and checks what the index holds then."""
        for kind, one, two in step.changes:
            kind(self.world, one, two)
        step.care(self.index)
        flags: dict[str, Any] = dict.fromkeys(step.flags, True)
        if step.stop is not None:
            before = open_manifest(str(self.index))
            try:
                with self.jobs.killed_after(step.stop):
                    update(self.world.catalog(), self.index, **flags)
            except Killed:
                assert open_manifest(str(self.index)) == before
                for kind, one, two in step.later:
                    kind(self.world, one, two)
                if step.later:  # a run that goes on makes what it was started for
                    update(self.world.catalog(), self.index, **flags)
        parent = open_manifest(str(self.index))
        if parent.version not in self.tracks:
            self.tracks[parent.version] = set(contents(self.index, parent).rows)
        result = update(self.world.catalog(), self.index, **flags)
        self.check(result.summary is not None, self.tracks[parent.version])

    def check(self, published: bool, earlier: set[str]) -> None:
        """Compares what the index holds with what it must, and its counters with that."""
        found, expected = contents(self.index), self.world.expected(self.also)
        assert found.failures == expected.failures
        assert found.codes == expected.codes
        for track_id, row in expected.rows.items():
            assert found.rows[track_id] == row, track_id
        unheard = {track_id for track_id, stage in found.failures if stage}
        lacking = len(self.also) * len(unheard)
        assert found.sequences == expected.sequences
        if self.also:
            assert found.artists.keys() == found.rows.keys() - unheard
        manifest = open_manifest(str(self.index))
        self.tracks[manifest.version] = set(found.rows)
        facts = describe(str(self.index), manifest)
        assert facts["tracks"] == len(self.world.rows)
        assert facts["tracks_hashed"] == len(found.rows)
        assert facts["tracks_failed"] == len(found.failures) - lacking
        assert facts["snippets"] == facts["kinds"].get("codes", {"rows": 0})["rows"]
        durations = (row["duration_s"] for row in found.rows.values())
        assert facts["audio_s"] == pytest.approx(sum(durations))
        if self.also:
            assert facts["tracks_embedded"] == len(found.artists)
            assert facts["tracks_sequenced"] == len(found.sequences)
        if published:
            assert facts["tracks_added"] == len(found.rows.keys() - earlier)
            assert facts["tracks_removed"] == len(earlier - found.rows.keys())
            classes = {name: facts[f"changes_{name}"] for name in CLASSES}
            assert sum(classes.values()) - classes["removed"] == len(self.world.rows)

    def end(self, scratch: Path) -> None:
        """Compares the index with one that is built anew, and reads every file of it."""
        index = self.index
        assert verify_files(str(index), open_manifest(str(index))) == []
        if not self.world.expected(self.also).rows:
            return  # of nothing no index can be built
        build(self.world.catalog(), scratch, self.model, also=self.also)
        found, fresh = contents(index), contents(scratch)
        assert (found.artists, found.sequences) == (fresh.artists, fresh.sequences)
        assert (found.codes, found.failures) == (fresh.codes, fresh.failures)
        stretches = [dict(list(codes.items())[1:5]) for codes in found.codes.values()]
        assert Asker(index, self.jobs).ask(stretches) == Asker(scratch, self.jobs).ask(stretches)


@pytest.fixture(scope="module")
def beginnings(
    jobs: tuple[Path, QuickJobs], tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, tuple[Life, Path]]:
    """A world with its first index, without etags and with them, and a copy of the folder."""
    model, made = jobs
    found = {}
    for etags in (False, True):
        folder = tmp_path_factory.mktemp("world") / "music"
        folder.mkdir()
        life = Life(folder, model, made, etags)
        life.begin()
        shutil.copytree(folder, folder.parent / "kept")
        found[etags] = life, folder.parent / "kept"
    return found


@settings(max_examples=800 if SLOW else 25, deadline=None, derandomize=True)
@given(etags=st.booleans(), sequence=st.lists(steps, min_size=1, max_size=6))
def test_any_sequence_ends_like_an_index_of_the_last_catalogue(
    beginnings: dict[bool, tuple[Life, Path]],
    etags: bool,
    sequence: list[Step],
) -> None:
    life, kept = beginnings[etags]
    shutil.rmtree(life.world.folder)
    shutil.copytree(kept, life.world.folder)
    first = Life.__new__(Life)
    first.__dict__.update(life.__dict__)
    first.world = dataclasses.replace(
        life.world,
        rows={track_id: dict(row) for track_id, row in life.world.rows.items()},
        files=dict(life.world.files),
        columns=set(),
    )
    first.tracks = {}
    for step in sequence:
        first.go(step)
    scratch = life.world.folder.parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    first.end(scratch)
