"""Segments merged into one: the index holds and answers what it did before."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from quick_index import (
    RIFF_SNIPPETS,
    Answer,
    Asker,
    Killed,
    QuickJobs,
    broken,
    build,
    contents,
    quick_jobs,
    quick_model,
    song,
    update,
    write_catalog,
)

from hashing.errors import HashbeamError
from pipelines import compact as verb
from pipelines import parquet
from pipelines.also import ALSO
from pipelines.cli import main
from pipelines.gates import NO_GATES, NOTHING_DECODED
from pipelines.history import list_versions, roll_back
from pipelines.live import tracks_of_segment
from pipelines.lock import IndexLock
from pipelines.reindexing import compaction
from pipelines.reindexing.compact import CompactOptions, compact
from pipelines.sweep import plan_sweep, sweep
from pipelines.track_tables import as_text
from pipelines.verify import verify_files
from pipelines.versions import Manifest, open_manifest

assert verb  # what it uses is replaced, too, within `quick_jobs`

FIRST, NIGHTS, NEW = 30, 4, 3
Shown = pytest.CaptureFixture[str]


@dataclasses.dataclass
class Grown:
    """An index of several segments, and how it came to be.

    Attributes:
        rows: of the catalogue.
    """

    folder: Path
    jobs: QuickJobs
    rows: dict[str, dict[str, str]]

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def catalog(self) -> Path:
        rows = [{"track_id": track_id, **row} for track_id, row in self.rows.items()]
        return write_catalog(self.folder / "catalog.csv", rows)

    def manifest(self) -> Manifest:
        return open_manifest(str(self.index))

    def add(self, number: int, data: bytes) -> None:
        (self.folder / f"{number}.song").write_bytes(data)
        # Tracks of all segments stand between one another.
        track_id = f"{'mdx'[number % 3]}{number:02d}"
        self.rows[track_id] = {"uri": f"{number}.song", "title": f"Song {number}"}

    def compact(self, **options: Any) -> Any:
        chosen = {"workers": 1, "whole": True, "quiet": True, "bounds": NO_GATES, **options}
        return compact(CompactOptions(str(self.index), **chosen))

    def copy(self, folder: Path) -> Grown:
        """The same in another folder, to be changed."""
        shutil.copytree(self.index, folder / "index")
        for path in self.folder.glob("*.song"):
            (folder / path.name).hardlink_to(path)
        rows = {
            name: {**row, "uri": str(self.folder / row["uri"])} for name, row in self.rows.items()
        }
        return Grown(folder, self.jobs, rows)

    def answers(self) -> list[list[Answer]]:
        """What the index says to stretches of all its tracks, and of those that have gone."""
        codes = contents(self.index).codes
        first = contents(self.index, open_manifest(str(self.index), "000001")).codes
        gone = [own for track_id, own in first.items() if track_id not in codes]
        stretches = [dict(list(own.items())[:4]) for _, own in sorted(codes.items())]
        # What those had for themselves: all that the others play as well would tell nothing.
        stretches += [dict(list(own.items())[RIFF_SNIPPETS:]) for own in gone]
        return Asker(self.index, self.jobs).ask(stretches)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    """An index of five segments with failures and all kinds beside codes; not to be changed."""
    folder = tmp_path_factory.mktemp("grown")
    model = quick_model(folder / "model")
    with quick_jobs(model) as jobs:
        grown = Grown(folder, jobs, {})
        for number in range(FIRST):
            data = broken(number) if number % 10 == 7 else song(number % 4, number, number == 5)
            grown.add(number, data)
        build(grown.catalog, grown.index, model, also=tuple(ALSO))
        for night in range(NIGHTS):
            for number in range(FIRST + NEW * night, FIRST + NEW * (night + 1)):
                grown.add(number, song(number % 4, number, number % 5 == 0))
            grown.add(90 + night, broken(night))
            del grown.rows[sorted(grown.rows)[4 * night]]
            grown.rows[sorted(grown.rows)[night]]["title"] = f"Night {night}"
            update(grown.catalog, grown.index)
        assert len(grown.manifest().segments) == NIGHTS + 1
        yield grown


@pytest.fixture
def own(grown: Grown, tmp_path: Path) -> Grown:
    """A copy of it."""
    return grown.copy(tmp_path)


def files_of(index: Path) -> set[str]:
    return {str(path.relative_to(index)) for path in index.rglob("*") if path.is_file()}


def test_a_merged_index_is_what_it_was(own: Grown) -> None:
    before, answers, old = contents(own.index), own.answers(), own.manifest()
    plan, summary = own.compact(bounds=NOTHING_DECODED)
    assert (plan.reason, plan.segments) == ("as asked", [0, 1, 2, 3, 4])
    manifest = own.manifest()
    (segment,) = manifest.segments
    assert (manifest.version, manifest.parent) == ("000006", "000005")
    assert (segment.tracks, segment.removals) == (len(before.rows), None)
    assert contents(own.index) == before
    assert own.answers() == answers
    assert any(len(one) > 1 for one in answers)
    assert verify_files(str(own.index), manifest) == []
    # Ordinals are ranks by track_id.
    tables = tracks_of_segment(str(own.index), manifest, segment)
    ids = pa.concat_tables(list(tables)).select(["ordinal", "track_id"])
    assert ids["track_id"].to_pylist() == sorted(before.rows)
    assert ids["ordinal"].to_pylist() == list(range(len(before.rows)))
    # What is counted is what is there.
    lost = sum(not stage for _, stage in before.failures)
    expected = {
        "tracks": len(before.rows) + lost, "tracks_hashed": len(before.rows),
        "tracks_failed": lost, "tracks_embedded": len(before.artists),
        "tracks_sequenced": len(before.sequences), "tracks_added": 0, "tracks_removed": 0,
        "snippets": sum(map(len, before.codes.values())),
        "audio_s": pytest.approx(sum(row["duration_s"] for row in before.rows.values())),
    }  # fmt: skip
    assert manifest.counters == expected
    assert (summary.tracks_indexed, summary.changes) == (len(before.rows), {})
    assert manifest.catalog_digest == old.catalog_digest
    assert not (own.index / "versions/000006/work").exists()
    # Nothing was decoded, and nothing is to be.
    heard = list(own.jobs.decoder.heard)
    assert update(own.catalog, own.index).summary is None
    assert own.jobs.decoder.heard == heard
    assert own.compact() is None
    assert own.manifest() == manifest


def test_some_segments_are_merged(own: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    before, answers, parent = contents(own.index), own.answers(), own.manifest()
    assert own.compact(whole=False) is None
    monkeypatch.setattr(compaction, "MAX_SEGMENTS", NIGHTS)
    plan, _ = own.compact(whole=False)
    assert plan.segments == [1, 2, 3, 4]  # the first is larger than all others together
    manifest = own.manifest()
    assert manifest.segments[0] == parent.segments[0]
    assert [one.id for one in manifest.segments] == [0, 5]
    assert contents(own.index) == before
    assert own.answers() == answers
    assert verify_files(str(own.index), manifest) == []
    kept = [e for e in parent.files if e.segment == 0 and e.kind != "failures"]
    assert [e for e in manifest.files if e.segment == 0] == kept
    update(own.catalog, own.index, force=True)  # and on from there
    assert contents(own.index).codes == before.codes


def test_back_and_forth_and_swept(own: Grown) -> None:
    before, old = contents(own.index), own.manifest()
    own.compact()
    with IndexLock(str(own.index)) as lock:
        roll_back(str(own.index), None, lock)
        assert own.manifest() == old
        roll_back(str(own.index), "000006", lock)
        sweep(str(own.index), plan_sweep(str(own.index), 1, grace_s=-1, unfinished_s=1e9), lock)
    assert {name.split("/")[1] for name in files_of(own.index) if "/" in name} >= {"000006"}
    named = own.manifest().every_file()
    assert {name for name in files_of(own.index) if name.endswith(".hbt")} <= named.keys()
    assert contents(own.index) == before
    assert verify_files(str(own.index), own.manifest()) == []
    versions = {one.version: one for one in list_versions(str(own.index))}
    assert (versions["000006"].added, versions["000006"].removed) == (0, 0)


@pytest.mark.parametrize("pieces", [0, 4, 6])
def test_a_killed_one_goes_on(own: Grown, pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many of five parts and two tables."""
    before, parent = contents(own.index), own.manifest()
    with own.jobs.killed_after(pieces), pytest.raises(Killed):
        own.compact()
    assert own.manifest() == parent
    done = files_of(own.index)
    names = list[str]()
    monkeypatch.setattr(own.jobs, "before", names.append)
    _, summary = own.compact()
    assert len(names) == 7 - pieces
    assert summary.parts_resumed == min(pieces, 5)
    assert {name for name in done if "/codes/" in name} <= files_of(own.index)
    assert contents(own.index) == before
    assert verify_files(str(own.index), own.manifest()) == []


def killed(own: Grown) -> set[str]:
    """Files of a compaction that was killed."""
    before = files_of(own.index)
    with own.jobs.killed_after(3), pytest.raises(Killed):
        own.compact()
    return files_of(own.index) - before


def test_one_whose_segments_changed_meanwhile_is_given_up(own: Grown) -> None:
    left = killed(own)
    gone = sorted(own.rows)[3]
    del own.rows[gone]
    update(own.catalog, own.index)
    assert not left & files_of(own.index)
    before = contents(own.index)
    own.compact()
    assert own.manifest().version == "000008"  # no number is used again
    assert contents(own.index) == before
    assert gone not in before.rows


def test_one_that_started_elsewhere_is_given_up(own: Grown) -> None:
    left = killed(own)
    with IndexLock(str(own.index)) as lock:
        roll_back(str(own.index), "000003", lock)
    before = contents(own.index)
    own.compact()
    assert not left & files_of(own.index)
    manifest = own.manifest()
    assert (manifest.parent, len(manifest.segments)) == ("000003", 1)
    assert contents(own.index) == before
    assert verify_files(str(own.index), manifest) == []


def test_a_gate_that_is_not_passed_stops_it(own: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = dataclasses.replace(NOTHING_DECODED, min_entropy=2.0, min_postings=1)
    parent = own.manifest()
    with pytest.raises(HashbeamError, match=r"bucket-entropy .* --no-gates bucket-entropy"):
        own.compact(bounds=strict)
    assert own.manifest() == parent
    left_out = (*strict.left_out, "bucket-entropy")
    own.compact(bounds=dataclasses.replace(strict, left_out=left_out))
    assert len(own.manifest().segments) == 1


def test_a_damaged_file_stops_it(own: Grown, capsys: Shown) -> None:
    parent = own.manifest()
    (path,) = [
        path for path, part in parent.files.tuples("path", "part", kind="codes") if part == 2
    ]
    data = (own.index / path).read_bytes()
    (own.index / path).write_bytes(data[:-50])
    assert main(["compact", str(own.index), "--all", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert path in error
    assert "run `hashbeam verify`" in error
    (own.index / path).write_bytes(data)
    assert main(["compact", str(own.index), "--all", "--quiet"]) == 0
    assert len(own.manifest().segments) == 1


def test_key_length_follows_what_is_left(own: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen of the snippets that are there, not of a guess: else it would be made once more."""
    bits = {"guess": 19, "choice": 20}
    monkeypatch.setattr(compaction, "choose_key_bits_of", lambda *size: bits["guess"])
    monkeypatch.setattr("pipelines.tables.choose_key_bits_of", lambda *size: bits["choice"])
    before = contents(own.index)
    own.compact()
    manifest = own.manifest()
    assert manifest.key_bits == bits["choice"]
    assert verify_files(str(own.index), manifest) == []
    assert contents(own.index) == before
    assert own.compact() is None
    bits["guess"], bits["choice"] = 24, 23
    plan, _ = own.compact(whole=False)
    assert plan.reason == "keys have 20 bits, an index of its size gets 24"
    assert own.manifest().key_bits == 23


def test_columns_of_several_types(tmp_path: Path, grown: Grown) -> None:
    """A catalogue that says the same in other types leaves rows where they are."""
    typed = {
        "year": pa.array([1990, None], pa.int64()),
        "day": pa.array([7, None], pa.date32()),
        "live": pa.array([None, True], pa.bool_()),
        "gain": pa.array([-1.5, 2.0], pa.float64()),
        "tags": pa.array([["calm", "sad"], None], pa.list_(pa.string())),
        "size": pa.array([1, 2], pa.int8()),  # called like one of ours
        "segment": pa.array([4, None], pa.int32()),
        "only": pa.array(["here", None], pa.string()),
    }
    texts = {
        "year": "1990", "day": "1970-01-08", "live": "true", "gain": "-1.5", "tags": "calm;sad",
        "size": "1", "segment": "4",
    }  # fmt: skip
    for number in range(3):
        (tmp_path / f"{number}.song").write_bytes(song(number, number))
    index, catalog = tmp_path / "index", tmp_path / "catalog.parquet"
    uris = ["0.song", "1.song", "2.song"]
    table = pa.table({"track_id": ["b", "d"], "uri": uris[:2], **typed})
    parquet.write_table(str(catalog), table)
    build(catalog, index, grown.folder / "model")
    columns = {name: [*as_text(table[name]).to_pylist(), texts.get(name)] for name in typed}
    later = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    table = pa.table({"track_id": ["b", "d", "c"], "uri": uris, **later})
    parquet.write_table(str(catalog), table)
    result = update(catalog, index)
    assert result.changes.counts["tracks_unchanged"] == 2
    before = open_manifest(str(index))
    paths = [index / path for (path,) in before.files.tuples("path", kind="tracks")]
    kinds = [parquet.read_table(str(path)).schema.field("year").type for path in paths]
    assert kinds == [pa.int64(), pa.string()]
    compact(CompactOptions(str(index), 1, whole=True, quiet=True))
    rows = contents(index).rows
    assert list(rows) == ["b", "c", "d"]
    for track_id, at in (("b", 0), ("d", 1), ("c", 2)):
        for name, values in columns.items():
            told = rows[track_id].get({"size": "catalog_size"}.get(name, name))
            assert told == values[at], (track_id, name)
    assert rows["b"]["size"] == len(song(0, 0))
    assert verify_files(str(index), open_manifest(str(index))) == []
    assert update(catalog, index).summary is None


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (["nowhere"], 1, "nowhere: there is no such index"),
        ([], 2, "INDEX"),
        (["I", "--al"], 2, "unknown flag --al (did you mean --all?)"),
        (
            ["I", "--workers", "0", "--no-gates", "x"],
            2,
            "from 1 to 1024, got 0; --no-gates: ",
        ),
        (["I", "--dry-run", "J"], 2, "unexpected argument 'J'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    grown: Grown, capsys: Shown, flags: list[str], status: int, told: str
) -> None:
    before = files_of(grown.index)
    arguments = [str(grown.index) if flag == "I" else flag for flag in flags]
    assert main(["compact", *arguments]) == status
    error = capsys.readouterr().err
    assert error.startswith("hashbeam compact: error: ")
    assert told in error
    assert error.count("\n") == 1
    assert files_of(grown.index) == before
    assert not Path("nowhere").exists()


def test_what_it_prints(own: Grown, capsys: Shown) -> None:
    index = str(own.index)

    def said(*flags: str) -> str:
        assert main(["compact", index, "--workers", "1", *flags]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    before = files_of(own.index)
    dead = sum(one.tracks - one.live for one in own.manifest().segments)
    assert dead > 1
    nothing = f"nothing to merge: segments: 5, tracks in them that have gone: {dead}\n"
    assert said("--dry-run") == said() == f"{index}: {nothing}"
    told = {"index": index, "version": "000005", "merge": None}
    assert json.loads(said("--json")) == json.loads(said("--json", "--dry-run")) == told
    assert said("--all", "--dry-run") == f"{index}: would merge 5 of 5 segments (as asked)\n"
    merge = json.loads(said("--all", "--dry-run", "--json"))["merge"]
    assert (merge["segments"], merge["reason"], merge["whole"]) == (
        [0, 1, 2, 3, 4],
        "as asked",
        True,
    )
    assert files_of(own.index) == before
    told = json.loads(said("--all", "--json", "--quiet"))
    assert (told["version"], told["parent"], told["tracks_failed"]) == ("000006", "000005", 7)
    assert said("--all").endswith("segments: 1, tracks in them that have gone: 0\n")


def test_two_at_once_are_one_too_many(own: Grown, capsys: Shown) -> None:
    before = own.manifest()
    with IndexLock(str(own.index)):
        assert main(["compact", str(own.index), "--all"]) == 1
        assert main(["compact", str(own.index), "--all", "--dry-run"]) == 0
    assert "is being written" in capsys.readouterr().err
    assert own.manifest() == before


def test_night_after_night(tmp_path: Path, grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reindexed and compacted by turns, the index stays within the bounds, and whole."""
    most = 3  # segments
    monkeypatch.setattr(compaction, "MAX_SEGMENTS", most)
    shelf = Grown(tmp_path, grown.jobs, {})
    for number in range(8):
        shelf.add(number, song(number % 4, number))
    build(shelf.catalog, shelf.index, grown.folder / "model")
    merged = 0
    for night in range(12):
        shelf.add(8 + night, song(night % 4, 8 + night))
        if night % 3 == 0:
            del shelf.rows[sorted(shelf.rows)[night % 5]]
        update(shelf.catalog, shelf.index)
        merged += shelf.compact(whole=False) is not None
        segments = shelf.manifest().segments
        assert len(segments) <= most
        assert sum(one.live for one in segments) >= 0.8 * sum(one.tracks for one in segments)
    assert 2 <= merged <= 10
    assert contents(shelf.index).rows.keys() == shelf.rows.keys()
    assert verify_files(str(shelf.index), shelf.manifest()) == []
    again = shelf.folder / "again"
    build(shelf.catalog, again, grown.folder / "model")
    assert contents(again) == contents(shelf.index)
    stretches = [dict(list(one.items())[:4]) for one in contents(again).codes.values()]
    one, other = (Asker(index, shelf.jobs).ask(stretches) for index in (shelf.index, again))
    assert one == other
    assert np.mean([len(answer) for answer in one]) > 1
