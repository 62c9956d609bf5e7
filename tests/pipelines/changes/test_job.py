"""The Beam join gives what the comparison in one process gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from change_fixture import File, Row, World, catalog_table, write_version

from pipelines.changes import job
from pipelines.changes.classes import Asked, Changes
from pipelines.changes.compare import Files
from pipelines.changes.job import find_changes_on_beam
from pipelines.changes.memory import find_changes
from pipelines.runner import make_pipeline_options

N = 400
CONTENTS = [bytes([number % 251, number % 7]) + bytes(14) for number in range(N)]
WORLD = World({f"u{n}": File(n % 5, [None, 1.0, 2.0][n % 3], CONTENTS[n]) for n in range(0, N, 2)})


def random_rows(rng: np.random.Generator) -> tuple[list[list[Row]], list[Row], list[Row]]:
    """Tracks of two segments, failures and a catalogue."""
    segments: list[list[Row]] = [[], []]
    failures, wanted = [], []
    for number in range(N):
        track_id, kind = f"id-{number:04d}", rng.integers(8)
        uri = f"u{rng.integers(N) if rng.random() < 0.2 else number}"
        etag = [None, "e", "f"][rng.integers(3)]
        row = {"track_id": track_id, "uri": uri, "etag": etag, "title": "xy"[rng.integers(2)]}
        if kind < 6:
            wanted.append(row)
        old = {
            **row,
            "uri": f"u{number}",
            "size": number % 5,
            "mtime": 1.0,
            "content": CONTENTS[number],
            "title": "x",
        }
        if kind < 4 or kind == 7:
            # Some ids were others before.
            name = f"id-{number:04d}-old" if rng.random() < 0.2 else track_id
            segments[rng.integers(2)].append({**old, "track_id": name})
        elif kind == 4:
            failures.append({**old, "stage": "decode"})
    return segments, failures, wanted


@pytest.mark.parametrize(
    ("seed", "partitions", "asked"),
    [(0, 3, Asked()), (3, 2, Asked(retry_failed=True))],
)
def test_beam_equals_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, partitions: int, asked: Asked
) -> None:
    monkeypatch.setattr(job, "READ_ROWS", 64)
    segments, failures, wanted = random_rows(np.random.default_rng(seed))
    index = str(tmp_path / "index")
    removed = [range(0, 20, 3), []]
    manifest = write_version(index, segments, removed=removed, failures=[failures], part_rows=20)
    catalog = catalog_table(wanted)
    expected = find_changes(index, manifest, catalog, asked, WORLD.access)
    found = on_beam(index, manifest, catalog, tmp_path, asked, partitions)
    assert found.table.equals(expected.table)
    assert found.counts == expected.counts
    kinds = set(expected.table["class"].to_pylist())
    assert {"new", "removed"} <= kinds
    assert {"changed", "moved", "edited", "renamed"} <= kinds


def on_beam(
    index: str, manifest: Any, catalog: pa.Table, folder: Path, asked: Asked, partitions: int
) -> Changes:
    options = make_pipeline_options(1, [])
    work = str(folder / "work")
    return find_changes_on_beam(
        index, manifest, catalog, work, options, asked, Files(look, checksums), partitions
    )


def look(uris: Any) -> Any:
    """Of the module, so that workers find it."""
    return WORLD.look(uris)


def checksums(uris: Any) -> Any:
    return WORLD.checksums(uris)


def test_a_version_is_read_in_pieces_without_its_long_lists(tmp_path: Path) -> None:
    rows = [{"track_id": f"t{number:03d}", "uri": "u", "size": 1} for number in range(30)]
    manifest = write_version(str(tmp_path), [rows, rows], part_rows=4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job, "READ_ROWS", 9)
        parts = list(job.part_groups(manifest))
    assert [sum(part.files.column("rows")) for part in parts] == [12, 12, 6] * 2
    read = [job.read_tracks_group(part, str(tmp_path)) for part in parts]
    ids = [name for found in read for _, table in found for name in table["track_id"].to_pylist()]
    assert ids == [row["track_id"] for row in rows] * 2
    assert all(part.segments[0].part_gids == [] for part in parts)
    assert dataclasses.replace(parts[0], files=manifest.files).version == manifest.version
