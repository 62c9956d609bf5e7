"""Bits, failures, versions and segments of an unwell index, and what is said of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from unwell_index import (
    BITS,
    FAILED,
    HOSTILE,
    SNIPPETS,
    STUCK,
    codes_of,
    made_up_summary,
    write_unwell_index,
)

from pipelines.health.bits import examine_bits
from pipelines.health.examine import Health, examine
from pipelines.health.failed import EXAMPLES, examine_failures
from pipelines.health.past import examine_history, read_run
from pipelines.health.segments import examine_segments
from pipelines.health.verdict import BAD, GOOD, LOOK, _buckets, worst
from pipelines.inspect import describe
from pipelines.reindexing.compaction import MAX_SEGMENTS
from pipelines.versions import Files, Manifest, dump_json


@pytest.fixture(scope="module")
def unwell(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Manifest]:
    folder = tmp_path_factory.mktemp("examine") / "index"
    return str(folder), write_unwell_index(folder)


def looked_at(index: str, manifest: Manifest) -> Health:
    return examine(index, manifest, describe(index, manifest))


def test_bits_are_those_of_the_codes(unwell: tuple[str, Manifest]) -> None:
    bits = examine_bits(*unwell)
    assert (bits.rows, bits.files, bits.files_read) == (2 * SNIPPETS, 2, 2)
    expected = np.concatenate([codes_of(0), codes_of(1)]).mean(axis=0)
    # The last four bits of three bytes hold nothing and are left out.
    np.testing.assert_allclose(bits.shares, expected)
    assert len(bits.shares) == BITS
    assert bits.outside(0.02, 0.98) == list(STUCK)


def test_of_many_codes_some_are_read(unwell: tuple[str, Manifest]) -> None:
    bits = examine_bits(*unwell, sample_rows=600)
    assert (bits.rows, bits.files_read) == (600, 2)
    assert bits.outside(0.02, 0.98) == list(STUCK)
    assert examine_bits(*unwell, read_bytes=1).files_read == 1


def test_codes_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    manifest = write_unwell_index(tmp_path)
    path = tmp_path / manifest.files.select(kind="codes").column("path")[0]
    path.write_bytes(path.read_bytes()[:-9])
    bits = examine_bits(str(tmp_path), manifest)
    assert bits.files_read == 1
    assert [str(path) in said for said in bits.damaged] == [True]
    grave = worst(looked_at(str(tmp_path), manifest).findings)
    assert grave is not None
    assert (grave.topic, grave.level) == ("Files", BAD)


def test_failures_are_counted_by_kind_with_a_few_examples(unwell: tuple[str, Manifest]) -> None:
    failures = examine_failures(*unwell)
    assert failures.total == failures.read == sum(count for _, count in FAILED)
    assert [(kind.error, kind.tracks) for kind in failures.kinds] == list(FAILED)
    assert [len(kind.examples) for kind in failures.kinds] == [EXAMPLES, EXAMPLES, 1]
    assert failures.kinds[0].examples[1].track_id == f"track 1 {HOSTILE}"
    none = examine_failures(*unwell, read_files=0)
    assert (none.total, none.read, none.kinds) == (14, 0, [])


def test_versions_tell_what_changed_and_how_long_it_took(unwell: tuple[str, Manifest]) -> None:
    history = examine_history(*unwell)
    assert [one.version.state for one in history.versions] == ["earlier", "published", "unfinished"]
    assert history.versions[1].changes == {"unchanged": 30, "new": 90, "changed": 10, "removed": 60}
    walls = [one.run.wall_s if one.run else None for one in history.versions]
    assert walls == [80.0, 65.0, None]
    assert [version.version for version in history.stopped] == ["000003"]
    assert history.freed_bytes == history.versions[0].version.own_bytes
    short = examine_history(*unwell, shown=1)
    assert (len(short.versions), short.older) == (1, 2)


def test_a_run_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "versions/000001/run.json"
    path.parent.mkdir(parents=True)
    assert read_run(str(tmp_path), "000001") is None
    path.write_bytes(b"{")
    assert read_run(str(tmp_path), "000001") is None
    path.write_bytes(dump_json(made_up_summary(wall_s=7.0)))
    found = read_run(str(tmp_path), "000001")
    assert found is not None
    assert found.wall_s == 7.0


def test_segments_tell_when_compaction_pays(unwell: tuple[str, Manifest]) -> None:
    segments = examine_segments(unwell[1])
    assert [(row.id, row.version, row.removed) for row in segments.rows] == [
        (0, "000001", 70),
        (1, "000002", 0),
    ]
    assert segments.why_compact == "35 % of the tracks in the tables have gone"
    many = dataclasses.replace(segments, rows=segments.rows[1:] * (MAX_SEGMENTS + 1))
    assert many.why_compact == "a look-up asks 11 segments, one after another"
    assert dataclasses.replace(segments, rows=segments.rows[1:]).why_compact == ""


def test_an_unwell_index_is_found_to_be_so(unwell: tuple[str, Manifest]) -> None:
    health = looked_at(*unwell)
    levels = {finding.topic: finding.level for finding in health.findings}
    assert levels == {
        "Files": GOOD,
        "Failed tracks": LOOK,
        "Buckets": LOOK,
        "Bits of the codes": LOOK,
        "Segments": LOOK,
        "Versions": LOOK,
    }
    assert all(bool(one.advice) == (one.level != GOOD) for one in health.findings)
    assert health.tracks == 130
    assert health.verdict.startswith("Failed tracks: 9.7 % of the catalogue, most often not-audio.")


def test_a_missing_file_comes_before_all_else(tmp_path: Path) -> None:
    manifest = write_unwell_index(tmp_path)
    (tmp_path / manifest.files.select(kind="failures").column("path")[0]).unlink()
    health = looked_at(str(tmp_path), manifest)
    assert health.verdict.startswith("Files: version 000002 is not whole: ")
    assert "hashbeam rollback" in health.verdict


def test_a_sound_index_is_healthy(tmp_path: Path, unwell: tuple[str, Manifest]) -> None:
    health = looked_at(*unwell)
    sound = dataclasses.replace(
        health, findings=[one for one in health.findings if one.level == GOOD]
    )
    assert sound.verdict == "Healthy"
    assert worst(sound.findings) is None


def test_crowded_buckets_ask_for_longer_keys(unwell: tuple[str, Manifest]) -> None:
    buckets = dataclasses.replace(looked_at(*unwell).buckets, met=9.0)
    assert _buckets(buckets).level == GOOD
    found = _buckets(dataclasses.replace(buckets, mean_load=17.0))
    assert (found.level, found.said) == (LOOK, "17 postings a bucket, chosen for 4")
    assert "hashbeam compact" in found.advice


def test_an_index_without_codes_is_no_error(unwell: tuple[str, Manifest]) -> None:
    index, manifest = unwell
    empty = dataclasses.replace(manifest, files=Files.of([]), segments=[])
    health = looked_at(index, empty)
    levels = {finding.topic: finding.level for finding in health.findings}
    assert levels["Buckets"] == levels["Bits of the codes"] == LOOK
    assert health.tracks == 0
