"""Where a run starts: unfinished ones that go on, and others that are given up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from quick_index import (
    Killed,
    QuickJobs,
    build,
    contents,
    song,
    update,
    write_catalog,
)

from hashing.errors import HashbeamError
from pipelines.history import roll_back
from pipelines.lock import IndexLock
from pipelines.options import MAX_TRACK_HOURS
from pipelines.reindexing.start import find_start, next_version, open_parent, wanted_plan
from pipelines.runs import Plan
from pipelines.versions import dump_json, open_manifest


@dataclasses.dataclass
class Shop:
    """A small index and its catalogue; a run is killed before the piece of work that is named."""

    folder: Path
    jobs: QuickJobs
    killer: str = ""

    @property
    def index(self) -> Path:
        return self.folder / "index"

    def tracks(self, *numbers: int) -> Path:
        """A catalogue of these tracks; files that are not there are made."""
        for number in numbers:
            path = self.folder / f"{number}.song"
            if not path.exists():
                path.write_bytes(song(number, number))
        rows = [{"track_id": f"t{number:02d}", "uri": f"{number}.song"} for number in numbers]
        return write_catalog(self.folder / "catalog.csv", rows)

    def before(self, name: str) -> None:
        if name == self.killer:
            raise Killed(name)

    def killed(self, catalog: Path, name: str, **options: Any) -> None:
        """A run that ends before a piece of work."""
        self.killer = name
        with pytest.raises(Killed):
            update(catalog, self.index, **options)
        self.killer = ""

    def versions(self) -> list[str]:
        return sorted(path.name for path in (self.index / "versions").iterdir())


@pytest.fixture
def shop(tmp_path: Path, jobs: tuple[Path, QuickJobs]) -> Shop:
    """An index of nine tracks."""
    model, made = jobs
    shop = Shop(tmp_path, made)
    made.before, made.decoder.heard = shop.before, []
    build(shop.tracks(*range(9)), shop.index, model)
    made.decoder.heard.clear()
    return shop


def heard(shop: Shop) -> list[str]:
    """The files that were decoded since this was asked last."""
    names = sorted(Path(path).stem for path in shop.jobs.decoder.heard)
    shop.jobs.decoder.heard.clear()
    return names


def test_a_run_goes_on_where_it_was_killed(shop: Shop) -> None:
    """Seventeen new tracks are three parts; two were finished."""
    catalog = shop.tracks(*range(9, 26))
    shop.killed(catalog, "part-00004")
    assert len(heard(shop)) == 16
    assert open_manifest(str(shop.index)).version == "000001"
    half = shop.index / "versions/000002/codes/.part-00004-0a.parquet.0f.tmp"
    half.write_bytes(b"half of it")
    # Asked for again before its tables: nothing is decoded but what was missing.
    shop.killed(catalog, "s001-t01-k0000")
    assert heard(shop) == ["25"]
    assert not half.exists()
    result = update(catalog, shop.index)
    assert (result.manifest.version, heard(shop)) == ("000002", [])
    assert shop.versions() == ["000001", "000002"]
    assert not (shop.index / "versions/000002/work").exists()
    assert contents(shop.index).codes.keys() == {f"t{number:02d}" for number in range(9, 26)}


@pytest.mark.parametrize(
    ("numbers", "options", "reason"),
    [
        ((1, 2, 3, 10), {}, "another catalogue"),
        ((1, 2, 3, 9), {"force": True}, "other options"),
        ((1, 2, 3, 9), {"max_track_hours": 0.5}, "other options"),
    ],
)
def test_a_run_of_something_else_is_given_up(
    shop: Shop,
    capsys: pytest.CaptureFixture[str],
    numbers: tuple[int, ...],
    options: dict[str, Any],
    reason: str,
) -> None:
    shop.killed(shop.tracks(1, 2, 3, 9), "s001-t00-k0000")
    result = update(shop.tracks(*numbers), shop.index, quiet=False, **options)
    # Its number is not used again: one of its workers may be alive.
    assert (result.manifest.version, result.manifest.parent) == ("000003", "000001")
    assert f"version 000002 is given up: it was with {reason}" in capsys.readouterr().err
    assert shop.versions() == ["000001", "000003"]
    assert contents(shop.index).codes.keys() == {f"t{number:02d}" for number in numbers}


def test_a_run_from_another_version_is_given_up(shop: Shop) -> None:
    catalog = shop.tracks(1, 2, 3)
    assert update(catalog, shop.index).manifest.version == "000002"
    shop.killed(shop.tracks(1, 2, 3, 9), "part-00002")
    with IndexLock(str(shop.index)) as lock:
        roll_back(str(shop.index), None, lock)
    result = update(shop.tracks(1, 2, 3, 9), shop.index)
    assert (result.manifest.version, result.manifest.parent) == ("000004", "000001")
    assert shop.versions() == ["000001", "000002", "000004"]


def test_what_has_no_plan_or_a_foreign_one_is_given_up(shop: Shop) -> None:
    versions = shop.index / "versions"
    for name, plan in (("000002", b""), ("000003", b'{"format_version": 99}')):
        (versions / name / "work").mkdir(parents=True)
        (versions / name / "manifest.json").write_bytes(b"{")
        (versions / name / "work" / ("plan.json" if plan else "catalog.parquet")).write_bytes(plan)
    parent = open_manifest(str(shop.index))
    start = find_start(str(shop.index), parent, wanted(shop))
    assert start.run is None
    assert start.given_up["000002"] == "it had not begun"
    assert "format version 99" in start.given_up["000003"]
    assert next_version(str(shop.index)) == "000004"
    # Nothing has changed: nothing is published, and they are gone.
    assert update(shop.tracks(*range(9)), shop.index).summary is None
    assert shop.versions() == ["000001"]


def wanted(shop: Shop) -> Plan:
    parent = open_manifest(str(shop.index))
    options = {"max_track_hours": MAX_TRACK_HOURS}
    return wanted_plan(parent, parent.catalog_digest, options, parent.model)


def test_what_a_publication_has_left_is_tidied_up(shop: Shop) -> None:
    """The process was killed when only the work folder was to be deleted."""
    parent = open_manifest(str(shop.index))
    left = [
        shop.index / "versions/000001" / name
        for name in (
            "work/plan.json",
            "work/receipts/part-00000.json",
            "codes/part-00000-00.parquet",
        )
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dump_json(wanted(shop)) if path.stem == "plan" else b"{}")
    assert open_parent(str(shop.index)) == parent
    assert [path for path in left if path.exists()] == []
    assert all((shop.index / path).exists() for path in parent.every_file())


def test_nothing_starts_where_nothing_is_published(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(HashbeamError, match="is no index"):
        update(
            write_catalog(tmp_path / "c.csv", [{"track_id": "a", "uri": "a"}]), tmp_path / "empty"
        )
