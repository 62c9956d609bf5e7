"""Tracks taken out of an index by their ids: they are gone at once, and nothing else is."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from quick_index import (
    RIFF_SNIPPETS,
    Asker,
    Contents,
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

from hashing.errors import UsageError
from pipelines import remove as verb
from pipelines.also import ALSO
from pipelines.cli import main
from pipelines.lock import IndexLock
from pipelines.reindexing.compact import CompactOptions, compact
from pipelines.verify import verify_files
from pipelines.versions import Manifest, open_manifest

assert verb  # what it uses is replaced, too, within `quick_jobs`

Shown = pytest.CaptureFixture[str]
FIRST, NEW = 10, 3
ODD = "with spaces, “quotes” and \u2028 a line"  # no end of a line that anybody means


class Kiosk:
    """An index of two segments, and the catalogue that it was made of."""

    def __init__(self, folder: Path, catalog: Path, jobs: QuickJobs) -> None:
        self.index, self.catalog, self.jobs, self.folder = folder / "index", catalog, jobs, folder

    def remove(self, *flags: str) -> int:
        return main(["remove", str(self.index), *flags])

    def manifest(self) -> Manifest:
        return open_manifest(str(self.index))

    def heard(self, codes: dict[str, dict[int, bytes]]) -> list[set[str]]:
        """The tracks that are found by what each of these had for itself."""
        stretches = [dict(list(own.items())[RIFF_SNIPPETS:]) for own in codes.values()]
        answers = Asker(self.index, self.jobs).ask(stretches)
        return [{track_id for track_id, *_ in matches} for matches in answers]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiosk]:
    """Tracks t00 to t12, the last three in a segment of their own; not to be changed.

    t03 and t11 failed, t05 has nothing but codes; one more has an odd name.
    """
    folder = tmp_path_factory.mktemp("kiosk")
    model, rows = quick_model(folder / "model"), []
    for number in range(FIRST + NEW):
        data = broken(number) if number in (3, 11) else song(number % 3, number, number == 5)
        (folder / f"{number}.song").write_bytes(data)
        rows.append({"track_id": f"t{number:02d}", "uri": str(folder / f"{number}.song")})
    (folder / "odd.song").write_bytes(song(1, 99))
    rows.insert(0, {"track_id": ODD, "uri": str(folder / "odd.song")})
    with quick_jobs(model) as jobs:
        kiosk = Kiosk(folder, folder / "c.csv", jobs)
        build(write_catalog(kiosk.catalog, rows[:-NEW]), kiosk.index, model, also=tuple(ALSO))
        update(write_catalog(kiosk.catalog, rows), kiosk.index)
        assert [one.live for one in kiosk.manifest().segments] == [10, 2]
        yield kiosk


@pytest.fixture
def kiosk(made: Kiosk, tmp_path: Path) -> Kiosk:
    """A copy of it, to be changed."""
    shutil.copytree(made.index, tmp_path / "index")
    return Kiosk(tmp_path, made.catalog, made.jobs)


def files_of(index: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()}


def without(found: Contents, ids: Sequence[str]) -> Contents:
    """What is left of the contents of an index."""
    return Contents(
        {key: row for key, row in found.rows.items() if key not in ids},
        {key: codes for key, codes in found.codes.items() if key not in ids},
        {key: vector for key, vector in found.artists.items() if key not in ids},
        {key: made for key, made in found.sequences.items() if key not in ids},
        {key: why for key, why in found.failures.items() if key[0] not in ids},
    )


@pytest.mark.parametrize(
    "ids",
    [
        ["t05"],  # has failed beside
        ["t01", "t12", ODD, "t02"],
        ["t03"],  # has failed: it is not tried again
        ["t11", "t00"],
        ["t10", "t12"],  # all of a segment, which goes as a whole
        [ODD, *(f"t{number:02d}" for number in range(FIRST + NEW))],
    ],
)
def test_what_is_taken_out_is_gone_and_the_rest_is_not(
    kiosk: Kiosk, capsys: Shown, ids: list[str]
) -> None:
    before, parent = contents(kiosk.index), kiosk.manifest()
    expected, heard = without(before, ids), len(kiosk.jobs.decoder.heard)
    assert kiosk.remove(*(word for one in ids for word in ("--id", one))) == 0
    told = capsys.readouterr()
    failed = len({"t03", "t11"} & set(ids))
    beside = f", {failed} of them among those that failed" if failed else ""
    count = f"{len(ids)} track{'' if len(ids) == 1 else 's'}"
    assert told.out == f"{kiosk.index}: version 000003 is published without {count}{beside}\n"
    assert told.err == ""
    manifest = kiosk.manifest()
    assert contents(kiosk.index) == expected
    assert verify_files(str(kiosk.index), manifest) == []
    live, lost = len(before.rows) - len(expected.rows), len(expected.failures)
    lost -= sum(bool(stage) for _, stage in expected.failures)
    counters = manifest.counters
    assert (manifest.parent, counters["tracks_removed"], counters["tracks_added"]) == (
        "000002", live, 0
    )  # fmt: skip
    assert counters["tracks_hashed"] == len(expected.rows)
    assert (counters["tracks_failed"], counters["tracks"]) == (lost, lost + len(expected.rows))
    assert counters["tracks_embedded"] == len(expected.artists)
    assert counters["tracks_sequenced"] == len(expected.sequences)
    durations = (row["duration_s"] for row in expected.rows.values())
    assert counters["audio_s"] == pytest.approx(sum(durations))
    stay = [one.id for one in parent.segments if not {"t10", "t12"} <= set(ids) or one.id == 0]
    assert [one.id for one in manifest.segments] == (stay if expected.rows else [])
    # A search finds what is left where it was, and nothing that has gone.
    if expected.rows:
        found = dict(zip(expected.codes, kiosk.heard(expected.codes), strict=True))
        assert all(track_id in answers for track_id, answers in found.items())
    gone = {key: codes for key, codes in before.codes.items() if key in ids}
    assert all(not found & set(ids) for found in kiosk.heard(gone))
    # What the catalogue still has comes back.
    assert len(kiosk.jobs.decoder.heard) == heard
    update(kiosk.catalog, kiosk.index)
    assert contents(kiosk.index) == before
    assert verify_files(str(kiosk.index), kiosk.manifest()) == []


def test_an_index_of_nothing_is_whole(kiosk: Kiosk, capsys: Shown) -> None:
    """The last track goes: nothing is found, compacted, or removed any more."""
    ids = [*contents(kiosk.index).rows, "t03", "t11"]
    (kiosk.folder / "ids").write_text("\n".join(ids))
    codes = contents(kiosk.index).codes
    assert kiosk.remove("--ids", str(kiosk.folder / "ids")) == 0
    assert kiosk.heard(codes) == [set()] * len(codes)
    assert compact(CompactOptions(str(kiosk.index), 1, whole=True)) is None
    for command in (["info"], ["verify"], ["list"], ["versions"]):
        assert main([command[0], str(kiosk.index)]) == 0
    capsys.readouterr()
    assert kiosk.remove("--id", "t00") == 1
    assert kiosk.remove("--id", "t00", "--missing-ok") == 0
    assert contents(kiosk.index) == Contents({}, {}, {}, {}, {})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"t00\nt01\n", ["t00", "t01"]),
        (b"t00\r\nt01\r\n\r\n", ["t00", "t01"]),
        (b"t00\rt01", ["t00", "t01"]),
        (b"\xef\xbb\xbft00\n", ["t00"]),
        (b"\n\n  t00  \n\t\nt00\nt01", ["t00", "t00", "t01"]),
        (ODD.encode() + b"\nt00\x0bx\n", [ODD, "t00\x0bx"]),
        (b"", []),
        (b"\xef\xbb\xbf\r\n", []),
    ],
)
def test_ids_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, expected: list[str]
) -> None:
    (tmp_path / "ids.txt").write_bytes(data)
    assert verb.read_ids(str(tmp_path / "ids.txt")) == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "latin-1"))
    assert verb.read_ids("-") == expected


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(UsageError, match=r"ids\.txt is no text in UTF-8, a track_id a line"):
        verb.read_ids(str(tmp_path / "ids.txt"))


def test_ids_of_files_flags_and_pipes_go_together(
    kiosk: Kiosk, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"t00\nt01\nt00\n")))
    before = contents(kiosk.index)
    assert kiosk.remove("--ids", "-", "--id", "t01", "--id", "t02", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "index": str(kiosk.index), "version": "000003", "removed": ["t00", "t01", "t02"],
        "dry_run": False,
    }  # fmt: skip
    assert contents(kiosk.index) == without(before, told["removed"])


def test_ids_that_are_not_there(kiosk: Kiosk, capsys: Shown) -> None:
    before = files_of(kiosk.index)
    missing = [word for name in "abcde" for word in ("--id", name)]
    assert kiosk.remove(*missing, "--id", "t00", "--id", "a") == 1
    told = "has no a, b, c and 2 more; see `hashbeam list`, or add --missing-ok\n"
    assert capsys.readouterr().err == f"hashbeam remove: error: {kiosk.index} {told}"
    assert kiosk.remove(*missing, "--dry-run") == 1
    assert kiosk.remove(*missing, "--missing-ok") == 0
    told = "nothing to remove: none of the 5 ids is there\n"
    assert capsys.readouterr().out == f"{kiosk.index}: {told}"
    assert kiosk.remove(*missing, "--missing-ok", "--json") == 0
    expected = {"index": str(kiosk.index), "version": None, "removed": [], "dry_run": False}
    assert json.loads(capsys.readouterr().out) == expected
    assert files_of(kiosk.index) == before
    assert kiosk.remove(*missing, "--missing-ok", "--id", "t00") == 0
    assert "t00" not in contents(kiosk.index).rows
    assert kiosk.remove("--id", "t00") == 1  # it is not there any more


def test_a_dry_run_changes_nothing(kiosk: Kiosk, capsys: Shown) -> None:
    """Nor does it give up what another run has begun, or need the lock."""
    begun = kiosk.index / "versions/000003/work/plan.json"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"{}")
    before = files_of(kiosk.index)
    with IndexLock(str(kiosk.index)):
        assert kiosk.remove("--id", "t00", "--id", "t03", "--dry-run") == 0
    told = "would remove 2 tracks, 1 of them among those that failed\n"
    assert capsys.readouterr().out == f"{kiosk.index}: {told}"
    assert kiosk.remove("--id", "t00", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["removed"] == ["t00"]
    assert kiosk.remove("--id", "z", "--missing-ok") == 0  # nothing to do: nothing is given up
    assert files_of(kiosk.index) == before
    assert kiosk.remove("--id", "t00") == 0
    assert kiosk.manifest().version == "000004"
    assert not begun.exists()


def test_removals_add_up_until_they_are_compacted(kiosk: Kiosk) -> None:
    for name in ("t00", "t07", "t12", "t01"):
        assert kiosk.remove("--id", name) == 0
    first, second = kiosk.manifest().segments
    assert (first.tracks, first.live, second.tracks, second.live) == (10, 7, 2, 1)
    before = contents(kiosk.index)
    compact(CompactOptions(str(kiosk.index), 1, quiet=True))  # a third has gone
    (segment,) = kiosk.manifest().segments
    assert (segment.tracks, segment.removals) == (8, None)
    assert contents(kiosk.index) == before
    assert main(["rollback", str(kiosk.index), "--to", "000002"]) == 0
    assert contents(kiosk.index).rows.keys() >= {"t00", "t07", "t12", "t01"}


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        ([], 2, "--ids: is needed, or --id"),
        (["--id", ""], 2, "--id: must not be empty"),
        (["--ids", "nowhere.txt"], 2, "--ids: there is no file nowhere.txt"),
        (["--ids", "."], 1, "."),
        (["--ids", "empty.txt"], 2, "--ids: empty.txt names no track"),
        (["--id", "t00", "--no-gates", "x", "--dry"], 2, "unknown flag --dry"),
        (["--id", "t00", "--no-gates", "x"], 2, "--no-gates: must be of"),
        (["--id", "t00", "--runner=x"], 2, "unknown flag --runner"),
        (["t00"], 2, "unexpected argument 't00'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    made: Kiosk, capsys: Shown, tmp_path: Path, flags: list[str], status: int, told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    before = files_of(made.index)
    assert made.remove(*flags) == status
    error = capsys.readouterr().err
    assert error.startswith("hashbeam remove: error: ")
    assert told in error
    assert error.count("\n") == 1
    assert files_of(made.index) == before


def test_what_is_no_index(tmp_path: Path, capsys: Shown) -> None:
    assert main(["remove", str(tmp_path / "nowhere"), "--id", "a"]) == 1
    assert "there is no such index" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
