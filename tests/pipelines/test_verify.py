"""``hashbeam verify`` of a version that was made from another one, and of a version's own files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grown_index import (
    Grown,
    parquet_bytes,
    removals_from,
    removals_of,
    removed_path,
    rewrite,
    with_files,
    without_file,
)

from pipelines import io
from pipelines.cli import main
from pipelines.coverage import check_coverage
from pipelines.verify import verify_files
from pipelines.versions import Manifest, dump_json, version_path


def own_problems(grown: Grown, manifest: Manifest) -> list[str]:
    return verify_files(str(grown.index), manifest, own_only="000002")


def all_problems(grown: Grown, manifest: Manifest) -> list[str]:
    return verify_files(str(grown.index), manifest)


def test_a_reindexed_version_is_whole(grown: Grown, capsys: pytest.CaptureFixture[str]) -> None:
    """With a file of tracks in place of an older part's, removals, and a segment of its own."""
    assert removed_path(grown.second).startswith("versions/000002/")
    (part,) = [
        entry
        for entry in grown.second.files.select(kind="tracks", segment=0)
        if entry.path.startswith("versions/000002/")
    ]
    assert part.part == 0
    for manifest in (grown.first, grown.second):
        assert all_problems(grown, manifest) == []
    assert own_problems(grown, grown.second) == []
    assert main(["verify", str(grown.index), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == len(grown.second.files) + 1  # and the removals


def test_only_the_versions_own_files_are_read(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = io.sha256_file

    def note(path: str) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(io, "sha256_file", note)
    assert own_problems(grown, grown.second) == []
    own = [path for path in grown.second.every_file() if path.startswith("versions/000002/")]
    assert sorted(read) == sorted(str(grown.index / path) for path in own)
    assert 0 < len(own) < len(grown.second.files)


@pytest.mark.parametrize("kind", ["codes", "tracks", "tables", "matrices", "removals"])
def test_damage_to_any_of_its_own_files_is_seen(grown: Grown, kind: str) -> None:
    path = next(
        path for path in grown.second.every_file() if path.startswith(f"versions/000002/{kind}/")
    )
    data = bytearray((grown.index / path).read_bytes())
    data[len(data) // 2] ^= 1
    (grown.index / path).write_bytes(data)
    (problem,) = own_problems(grown, grown.second)
    assert problem.startswith(f"{grown.index}/{path} has SHA-256 ")
    assert problem in all_problems(grown, grown.second)
    (grown.index / path).unlink()
    assert f"{grown.index}/{path} is missing" in own_problems(grown, grown.second)


def test_damage_to_older_files_is_seen_by_the_whole_check_alone(grown: Grown) -> None:
    path = grown.second.files.select(kind="codes", segment=0).column("path")[0]
    (grown.index / path).write_bytes(b"")
    assert own_problems(grown, grown.second) == []
    problems = all_problems(grown, grown.second)
    assert any(problem.startswith(f"{grown.index}/{path} is truncated") for problem in problems)


@pytest.mark.parametrize("ordinals", [(11, 3), (3, 3)])
def test_removals_out_of_order_are_seen(grown: Grown, ordinals: tuple[int, ...]) -> None:
    path = removed_path(grown.second)
    manifest = rewrite(grown, path, removals_of(*ordinals))
    expected = f"{grown.index}/{path} has ordinals that are not in order, or one of them twice"
    assert own_problems(grown, manifest) == [expected]


def test_removals_of_another_number_are_seen(grown: Grown) -> None:
    path = removed_path(grown.second)
    manifest = rewrite(grown, path, removals_of(3, 5, 11))
    assert own_problems(grown, manifest) == [f"{grown.index}/{path} has 3 rows, expected 2"]


def test_removals_of_nobody_are_seen(grown: Grown) -> None:
    path = removed_path(grown.second)
    manifest = rewrite(grown, path, removals_of(3, 20))
    expected = f"{grown.index}/{path} names 1 tracks that segment 0 does not have, the first: 20"
    assert all_problems(grown, manifest) == [expected]


@pytest.mark.parametrize(
    ("firsts", "ends", "snippets"),
    [
        ((0, 0), (3, 3), (3, 3)),  # one track's numbers twice
        ((0, 5), (5, 10**6), (1, 1)),  # beyond the segment
        ((0, 5), (5, 6), (1, 2)),  # more were heard than there are numbers
    ],
)
def test_removals_of_foreign_snippet_numbers_are_seen(
    grown: Grown, firsts: tuple[int, ...], ends: tuple[int, ...], snippets: tuple[int, ...]
) -> None:
    path = removed_path(grown.second)
    manifest = rewrite(grown, path, removals_from((3, 11), firsts, ends, snippets))
    (problem,) = own_problems(grown, manifest)
    assert "snippet numbers that segment 0 does not have, or two of them the same" in problem


def test_removals_without_their_column_are_seen(grown: Grown) -> None:
    manifest = rewrite(grown, removed_path(grown.second), parquet_bytes(pa.table({"x": [1, 2]})))
    (problem,) = own_problems(grown, manifest)
    assert "has no column end_gid, first_gid, ordinal, snippets" in problem


def change_gids(table: pa.Table) -> pa.Table:
    gids = table["gids"].to_pylist()
    column = pa.array([gids[0] + 1, *gids[1:]], pa.uint32())
    return table.set_column(table.schema.get_field_index("gids"), "gids", column)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (change_gids, " snippet numbers, expected "),
        (lambda table: table.take(list(range(table.num_rows))[::-1]), "ordinals that do not rise"),
    ],
)
def test_tracks_that_do_not_fit_their_part_are_seen(
    grown: Grown, change: Callable[[pa.Table], pa.Table], expected: str
) -> None:
    """Of the file in place of an older part's: its codes and matrix are those of before."""
    path = grown.second.files.select(kind="tracks", part=0).column("path")[0]
    changed = change(pq.read_table(grown.index / path))
    manifest = rewrite(grown, path, parquet_bytes(changed))
    (problem,) = own_problems(grown, manifest)
    assert str(grown.index / path) in problem
    assert expected in problem


def edited(manifest: Manifest, kind: str, column: str, change: Callable[[Any], Any]) -> Manifest:
    """A manifest with another value in the first row of a kind."""
    row = manifest.files.column("kind").index(kind)
    values = list(manifest.files.column(column))
    values[row] = change(values[row])
    return with_files(manifest, **{column: values})


def of_first(manifest: Manifest, **values: Any) -> Manifest:
    """A manifest with another first segment."""
    first, *others = manifest.segments
    return dataclasses.replace(manifest, segments=[dataclasses.replace(first, **values), *others])


def swapped(manifest: Manifest) -> Manifest:
    """The files of tracks of parts 1 and 2 have changed places."""
    parts = list(manifest.files.column("part"))
    kinds = manifest.files.column("kind")
    parts = [
        {1: 2, 2: 1}.get(part, part) if kind == "tracks" else part
        for part, kind in zip(parts, kinds, strict=True)
    ]
    return with_files(manifest, part=parts)


def as_removals(manifest: Manifest, **values: Any) -> Manifest:
    removals = manifest.segments[0].removals
    assert removals is not None
    return of_first(manifest, removals=dataclasses.replace(removals, **values))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: without_file(m, 2), "segment 0: tracks of 12 rows in the manifest, expected 20"),
        (swapped, "segment 0, part 1: tracks of [4] rows in the manifest, expected 8"),
        (
            lambda m: edited(m, "codes", "part", lambda part: 1),
            "segment 0, part 0: codes of no rows in the manifest, expected 0",
        ),
        (
            lambda m: edited(m, "codes", "part", lambda part: 1),
            "segment 0, part 1: codes of [54, 55] rows in the manifest, expected 109",
        ),
        (
            lambda m: edited(m, "codes", "path", lambda path: m.files.column("path")[1]),
            " is 2 times in the manifest",
        ),
        (
            lambda m: edited(m, "tables", "segment", lambda segment: 7),
            "there are files of segment 7, which is not in the manifest",
        ),
        (lambda m: edited(m, "tables", "key_hi", lambda key: key - 1), "do not cover all keys"),
        (lambda m: edited(m, "tables", "rows", lambda rows: rows - 1), " postings, expected "),
        (lambda m: of_first(m, tracks=21), "segment 0: parts of 20 tracks, expected 21"),
        (lambda m: of_first(m, n_parts=4), "does not say for each of its 4 parts what is in it"),
        (lambda m: of_first(m, n_parts=2), "does not say for each of its 2 parts what is in it"),
        (lambda m: of_first(m, id=1), "segment 1 is in the manifest twice"),
        (lambda m: of_first(m, first_part=1), "begins with part 3, which another one has"),
        (lambda m: as_removals(m, rows=21), " name 21 of 20 tracks"),
        (lambda m: as_removals(m, rows=0), " name 0 of 20 tracks"),
        (lambda m: as_removals(m, segment=1), " are called removals of segment 1"),
        (lambda m: as_removals(m, kind="tracks"), " are called tracks of segment 0"),
        (
            lambda m: as_removals(m, path=m.files.column("path")[0]),
            " are among the other files, too",
        ),
        (
            lambda m: dataclasses.replace(m, counters={**m.counters, "tracks_embedded": 3}),
            "artist_embeddings of 0 rows in the manifest, expected 3",
        ),
    ],
)
def test_a_manifest_that_does_not_add_up_is_seen(
    grown: Grown, change: Callable[[Manifest], Manifest], expected: str
) -> None:
    assert list(check_coverage(grown.second)) == []
    problems = list(check_coverage(change(grown.second)))
    assert any(expected in problem for problem in problems), problems


def test_the_command_names_the_removals(grown: Grown, capsys: pytest.CaptureFixture[str]) -> None:
    path = removed_path(grown.second)
    manifest = rewrite(grown, path, removals_of(3, 20))
    where = version_path(str(grown.index), "000002", "manifest.json")
    io.write_bytes(where, dump_json(manifest))
    assert main(["verify", str(grown.index)]) == 1
    said = capsys.readouterr()
    assert f"{path} names 1 tracks that segment 0 does not have, the first: 20" in said.out
    assert "1 problems, the first: " in said.err
