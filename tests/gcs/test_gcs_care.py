"""The care of an index that is reindexed, on a disk and on ``gs://``: the same tests for both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_proxy import FaultyProxy
from index_helpers import error_line
from quick_index import QuickJobs, broken, song, update
from stored_songs import StoredSongs

from pipelines import gcs, io, sweep
from pipelines.cli import main
from pipelines.metrics_text import parse
from pipelines.opened import open_index
from pipelines.versions import open_manifest

Run = Callable[..., Any]


@pytest.fixture
def run(jobs: QuickJobs, capsys: pytest.CaptureFixture[str]) -> Run:
    """A verb with its arguments, which must end well; what it prints as JSON, or as text."""

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        assert main(list(arguments)) == 0, capsys.readouterr().err
        text = capsys.readouterr().out
        return json.loads(text) if "--json" in arguments else text

    return run


def listed(run: Run, index: str) -> set[str]:
    return set(run("list", index, "--ids-only").split())


def test_the_life_of_a_reindexed_index(
    root: str, model: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = StoredSongs(root, etags=True)
    for number in range(20):
        songs.put(f"s{number:02d}", song(number, number), title=f"Song {number}")
    songs.put("f", broken(0))
    songs.build(model)
    index, metrics = songs.index, io.join(root, "hashbeam.prom")
    names = ["--catalog", songs.path("catalog.csv"), "--index", index, "--workers", "1"]
    reindex = ["reindex", *names, "--max-failures", "0.2", "--json"]
    first = songs.held()

    songs.put("s01", song(1, 1000))
    songs.put("n", song(30, 30))
    songs.catalog()
    before = io.list_files(index)
    told = run(*reindex, "--dry-run")
    assert (told["version"], told["tracks_to_decode"]) == ("000001", 2)
    assert told["files_looked_at"] == 0
    assert io.list_files(index) == before

    told = run(*reindex, "--metrics", metrics)
    assert (told["version"], told["parent"]) == ("000002", "000001")
    assert {gate["name"] for gate in told["gates"] if not gate["passed"]} == set()
    values = parse(io.read_bytes(metrics).decode())
    assert list(values["last_run_success"].values()) == [1.0]
    second = songs.held()
    songs.check()

    assert run("remove", index, "--id", "s02", "--id", "s03", "--json")["version"] == "000003"
    assert {"s01", "n"} < listed(run, index)
    assert not {"s02", "s03"} & listed(run, index)
    songs.check()

    found = run("versions", index, "--json")
    assert [(one["version"], one["state"], one["added"], one["removed"]) for one in found] == [
        ("000001", "earlier", 20, 0),
        ("000002", "earlier", 1, 0),
        ("000003", "published", 0, 2),
    ]
    page = io.join(root, "health.html")
    assert run("info", index, "--html", page, "--json")["segments"] == 2
    assert b"000003" in io.read_bytes(page)

    told = run("compact", index, "--all", "--workers", "1", "--json")
    assert told["version"] == "000004"
    assert len(songs.check().segments) == 1
    assert "nothing to merge" in run("compact", index, "--all", "--workers", "1")

    # Back to before the tracks were taken out, and on from there.
    run("rollback", index, "--to", "000002")
    assert songs.held() == second
    del songs.rows["s04"]
    songs.catalog()
    told = run(*reindex, "--metrics", metrics)
    assert (told["version"], told["parent"]) == ("000005", "000002")
    assert listed(run, index) == songs.rows.keys() - {"f"}
    songs.check()
    values = parse(io.read_bytes(metrics).decode())
    assert list(values["index_tracks"].values()) == [20.0]

    # A run that does not pass its gates leaves the index as it is, and says so.
    for track_id in list(songs.rows)[:8]:
        del songs.rows[track_id]
    songs.catalog()
    assert main([*reindex, "--metrics", metrics]) == 1
    assert "live-tracks" in error_line(capsys, "reindex")
    values = parse(io.read_bytes(metrics).decode())
    assert list(values["last_run_success"].values()) == [0.0]
    assert open_manifest(index).version == "000005"
    told = run(*reindex, "--max-shrink", "0.5")
    assert told["version"] == "000006"
    songs.check()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipelines.gc.plan_sweep", _at_once)
        told = run("gc", index, "--keep", "2", "--json")
    assert told["kept"] == ["000005", "000006"]
    assert {*told["deleted"]} == {"000001", "000002", "000003", "000004"}
    last = songs.check()
    # What version 6 shares with the first ones is there; nothing else is.
    named = {*last.every_file(), *open_manifest(index, "000005").every_file(), "CURRENT", "HISTORY"}
    named |= {f"versions/{v}/{n}.json" for v in told["kept"] for n in ("manifest", "run")}
    assert set(io.list_files(index)) == named
    assert any(path.startswith("versions/000001/") for path in named)
    assert first.codes.keys() > songs.held().codes.keys() - {"n"}
    assert main(["rollback", index, "--to", "000002"]) == 1
    assert "has been deleted" in error_line(capsys, "rollback")
    run("rollback", index)
    songs.check()


def _at_once(*arguments: Any, **named: Any) -> sweep.Sweep:
    return sweep.plan_sweep(*arguments, grace_s=-5.0, **named)


def test_two_indexes_are_merged(root: str, model: Path, run: Run) -> None:
    one, other = StoredSongs(io.join(root, "one")), StoredSongs(io.join(root, "other"))
    for number in range(9):
        one.put(f"a{number}", song(number, number), title="One")
        other.put(f"b{number}", song(number, 100 + number), title="Other")
    other.put("f", broken(0))
    for songs in (one, other):
        songs.build(model)
        songs.put("late" + songs.root[-3:], song(50, 50 + len(songs.root)))
        del songs.rows[next(iter(songs.rows))]
        songs.update()
    out = io.join(root, "merged.index")
    run("merge", one.index, other.index, "--out", out, "--workers", "1")
    assert run("verify", out)
    assert open_manifest(out).counters["tracks_failed"] == 1
    together = {**one.held().codes, **other.held().codes}
    assert one.held(out).codes == together
    assert len(together) == 18


def test_a_reader_is_not_disturbed(root: str, model: Path, jobs: QuickJobs) -> None:
    """One that has opened a version goes on with it while the next ones are published."""
    songs = StoredSongs(root)
    for number in range(9):
        songs.put(f"s{number}", song(number, number))
    songs.build(model)
    searcher, tracks, manifest = open_index(songs.index, hasher=jobs.hasher)
    for number in range(9):
        songs.put(f"s{number}", song(number, 500 + number))
    songs.update()
    assert open_manifest(songs.index).version == "000002"
    gids = np.arange(manifest.segments[0].part_gids[0])
    ordinals, _, _ = tracks.locate(0, gids)
    assert (ordinals >= 0).all()
    assert {tracks.row(0, int(one))["track_id"] for one in ordinals} == {f"s{n}" for n in range(8)}
    _, present = searcher.codes.rows(0, gids)
    assert present.any()


# A no-change run asks for the pointer, the manifest, the lock, and each part of the tracks once.
PARTS = 50
FIXED, CHANGED = 40, 350


def test_requests_are_few(
    proxy: FaultyProxy, model: Path, jobs: QuickJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.parts.tracks_per_part", lambda n_tracks: 2)
    name = f"bucket-{os.urandom(4).hex()}"
    gcs.client().create_bucket(name)
    songs = StoredSongs(f"gs://{name}/some/root", etags=True)
    for number in range(2 * PARTS):
        songs.put(f"s{number:03d}", song(number, number))
    songs.build(model)
    assert open_manifest(songs.index).segments[0].n_parts == PARTS

    def asked() -> list[str]:
        catalog = songs.catalog()
        proxy.seen.clear()
        update(catalog, songs.index)
        return list(proxy.seen)

    assert len(asked()) <= PARTS + FIXED
    for number in (3, 50, 99):
        songs.put(f"s{number:03d}", song(number, 1000 + number))
    requests = asked()
    assert len(requests) <= CHANGED
    assert not [request for request in requests if "rewrite" in request or "/copyTo/" in request]
    assert len(asked()) <= PARTS + FIXED
    # Versions that gc has deleted are not asked for, however many there were.
    lines = "".join(f"{number:06d} 2026-01-01T00:00:00Z\n" for number in range(100_000, 100_300))
    io.write_bytes(io.join(songs.index, "HISTORY"), lines.encode())
    assert len(asked()) <= PARTS + FIXED
