"""Gates that count: failures, live tracks, empty tables."""

from __future__ import annotations

import pytest
from made_up_manifest import made_up_manifest

from pipelines.gating.bounds import Bounds
from pipelines.gating.counts import (
    count_failed,
    gate_empty_tables,
    gate_failures,
    gate_live_tracks,
    gate_run_failures,
)
from pipelines.runs import Receipt
from pipelines.versions import FileEntry, Files, Manifest, Segment

BOUNDS = Bounds()


def part(**counters: int) -> Receipt:
    """The receipt of a part."""
    return Receipt("part", "a", [], dict(counters), 0.0, 1.0)


def of_tracks(live: int, removed: int = 0, version: str = "000001") -> Manifest:
    """A version with so many live tracks, and as many more that were removed."""
    gone = FileEntry("versions/000001/removals/a", "removals", removed, 1, "00", 0)
    tracks = live + removed
    segment = Segment(0, 0, 1, tracks, tracks, [tracks], [tracks], gone if removed else None)
    return made_up_manifest(version=version, segments=[segment])


def test_failures_are_counted_over_all_parts() -> None:
    parts = [
        part(tracks=8, tracks_failed=2, failed_unreadable=2),
        part(
            tracks=4, tracks_failed=1, tracks_not_embedded=1, failed_silent=1, failed_unreadable=1
        ),
    ]
    assert count_failed(parts) == (12, 4, {"unreadable": 3, "silent": 1})
    assert count_failed([]) == (0, 0, {})


@pytest.mark.parametrize(("failed", "passed"), [(0, True), (5, True), (6, False), (100, False)])
def test_a_share_of_the_catalogue_may_fail(failed: int, passed: bool) -> None:
    gate = gate_failures(100, failed, BOUNDS)
    assert (gate.name, gate.value, gate.bound) == ("failures", failed / 100, 0.05)
    assert gate.passed is passed
    assert gate.message == f"{failed} of 100 tracks of the catalogue failed"


def test_an_empty_catalogue_has_no_failures() -> None:
    assert gate_failures(0, 0, BOUNDS).passed


@pytest.mark.parametrize(
    ("tried", "failed", "first", "passed"),
    [
        (3, 1, False, True),  # of a night
        (3, 1, True, False),  # of a new index
        (5, 5, False, True),
        (6, 6, False, False),
        (1000, 50, False, True),
        (1000, 51, False, False),
        (0, 0, False, True),
    ],
)
def test_a_handful_of_a_run_may_fail(tried: int, failed: int, first: bool, passed: bool) -> None:
    gate = gate_run_failures(tried, failed, {"silent": failed}, BOUNDS, first=first)
    assert gate.passed is passed
    assert gate.message == f"{failed} of {tried} tracks that this run tried failed " + (
        f"({failed} silent)"
    )


@pytest.mark.parametrize(
    ("before", "live", "passed"),
    [
        (100, 100, True),
        (100, 150, True),
        (100, 90, True),
        (100, 89, False),
        (3, 2, True),  # one track may always go
        (3, 1, False),
        (1, 0, False),
        (0, 0, True),
    ],
)
def test_few_live_tracks_may_go(before: int, live: int, passed: bool) -> None:
    manifest = of_tracks(live, removed=7, version="000002")
    gate = gate_live_tracks(manifest, of_tracks(before), BOUNDS)
    assert gate.passed is passed
    assert gate.value == pytest.approx(max(0, before - live) / max(before, 1))
    assert gate.message == f"{live} live tracks, version 000001 has {before}"


def test_all_tracks_may_go_when_that_is_asked_for() -> None:
    assert gate_live_tracks(of_tracks(0, 9), of_tracks(9), Bounds(max_shrink=1.0)).passed
    assert not gate_live_tracks(of_tracks(0, 9), of_tracks(9), Bounds(max_shrink=0.99)).passed


def test_a_first_version_has_tracks() -> None:
    assert gate_live_tracks(of_tracks(1), None, BOUNDS).passed
    gate = gate_live_tracks(of_tracks(0), None, BOUNDS)
    assert (gate.passed, gate.message) == (False, "0 live tracks")


def tables(*rows: int) -> Manifest:
    """Two segments of two tables each, with so many postings."""
    places = [(segment, table) for segment in (0, 1) for table in (0, 1)]
    entries = [
        FileEntry(f"versions/000001/tables/{n}", "tables", count, 1, "00", *place, 0, 4096)
        for n, (place, count) in enumerate(zip(places, rows, strict=False))
    ]
    segments = [Segment(number, number, 1, 1, 5, [5], [1]) for number in (0, 1)]
    return made_up_manifest(n_tables=2, segments=segments, files=Files.of(entries))


def test_no_table_is_empty() -> None:
    gate = gate_empty_tables(tables(5, 5, 5, 5))
    assert (gate.passed, gate.value, gate.message) == (True, 0, "4 tables have postings")
    gate = gate_empty_tables(tables(5, 0, 5))
    assert (gate.passed, gate.value, gate.bound) == (False, 2, 0)
    assert gate.message == "2 of 4 tables are empty, the first: table 1 of segment 0"
