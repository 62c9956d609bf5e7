"""Gates that look up: what is stored must be found, what was removed must not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grown_index import (
    GONE,
    NEW,
    Grown,
    grow_index,
    parquet_bytes,
    removals_of,
    removed_path,
    rewrite,
    with_segment,
)
from quick_index import QuickDecoder, build, quick_jobs, quick_model, song, write_catalog

from hashing.encoders import Hasher, TrackCodes
from hashing.gone import NOTHING
from pipelines import index as index_verb
from pipelines import opened, parquet
from pipelines.gating import stored
from pipelines.gating.bounds import Bounds
from pipelines.gating.recall import gate_removed, gate_self_recall, new_segments
from pipelines.gating.stored import StoredCodes
from pipelines.opened import IndexTracks
from pipelines.plain import rows_of
from pipelines.versions import Manifest, open_manifest

BOUNDS = Bounds()


def test_new_segments_are_those_of_the_versions_own_tables(grown: Grown) -> None:
    assert (new_segments(grown.first), new_segments(grown.second)) == ([0], [1])


def test_stored_codes_find_themselves(grown: Grown) -> None:
    for manifest, hasher in ((grown.first, grown.hasher), (grown.second, grown.hasher)):
        gate = gate_self_recall(str(grown.index), manifest, hasher, BOUNDS)
        assert (gate.name, gate.value, gate.bound) == ("self-recall", 1.0, 0.98)
        assert gate.passed
    # Every snippet number of the three new tracks, silent ones included.
    n = sum(grown.second.segments[1].part_gids)
    assert gate.message == f"{n} of {n} stretches of stored codes are found where they stand"


def test_the_sample_is_as_large_as_asked_and_drawn_by_its_seed(grown: Grown) -> None:
    stored_codes = StoredCodes(str(grown.index), grown.first, grown.hasher)

    def places(seed: int) -> list[tuple[int, int]]:
        return [(one.ordinal, one.gid) for one in stored_codes.draw([0], 10, seed)]

    assert len(places(1)) == 10
    assert places(1) == places(1) != places(2)


def test_stretches_stay_within_their_tracks(grown: Grown) -> None:
    stored_codes = StoredCodes(str(grown.index), grown.second, grown.hasher)
    for sample in stored_codes.draw([0, 1], 500, 0):
        span = stored_codes.tracks.span(sample.segment, sample.ordinal)
        assert span is not None
        last = sample.gid + int(sample.stretch.number[-1])
        assert span[0] <= sample.gid <= last < span[1]
        assert sample.stretch.number[0] == 0
        assert last - sample.gid < stored.STRETCH
    assert {one.ordinal for one in stored_codes.draw([0], 500, 0)}.isdisjoint({3, 11})


def rolled_codes(grown: Grown) -> Manifest:
    """Version 000002 with the new codes one row further: each stands where another one should."""
    (path,) = grown.second.files.select(kind="codes", segment=1).column("path")
    data = (grown.index / path).read_bytes()
    rows = rows_of(parquet.read_table(str(grown.index / path), ["code"])["code"])
    place = data.index(rows.tobytes())
    rolled = np.roll(rows, 1, axis=0).tobytes()
    return rewrite(grown, path, data[:place] + rolled + data[place + len(rolled) :])


def test_codes_that_tables_do_not_lead_to_are_seen(grown: Grown) -> None:
    gate = gate_self_recall(str(grown.index), rolled_codes(grown), grown.hasher, BOUNDS)
    assert not gate.passed
    assert gate.value is not None
    assert gate.value < 0.1
    assert "stretches of stored codes are found where they stand; the first" in gate.message
    assert "that is not is of track 't2" in gate.message
    assert gate_self_recall(
        str(grown.index), rolled_codes(grown), grown.hasher, Bounds(min_self_recall=0.0)
    ).passed


def test_copies_of_a_recording_stand_for_each_other(tmp_path: Path) -> None:
    """More of them than are looked at: none need be the one that was drawn."""
    model = quick_model(tmp_path / "model")
    (tmp_path / "a.song").write_bytes(song(1, 1))
    rows = [{"track_id": f"t{number:02d}", "uri": "a.song"} for number in range(12)]
    with quick_jobs(model) as jobs:
        build(write_catalog(tmp_path / "c.csv", rows), tmp_path / "index", model)
        manifest = open_manifest(str(tmp_path / "index"))
    bounds = Bounds(min_self_recall=1.0)
    stored_codes = StoredCodes(str(tmp_path / "index"), manifest, jobs.hasher)
    found = list(stored_codes.find(stored_codes.draw([0], 12, 0)))
    assert any(one.gid not in places.gid for one, places in found)
    assert gate_self_recall(str(tmp_path / "index"), manifest, jobs.hasher, bounds).passed


def test_a_damaged_table_is_told_and_not_raised(grown: Grown) -> None:
    path = grown.second.files.select(kind="tables", segment=1).column("path")[0]
    (grown.index / path).write_bytes(b"")
    gate = gate_self_recall(str(grown.index), grown.second, grown.hasher, BOUNDS)
    assert (gate.passed, gate.value) == (False, None)
    assert gate.message.startswith("the new segments cannot be looked up in: ")
    assert path in gate.message


def test_a_version_without_new_tables_has_nothing_to_find(grown: Grown) -> None:
    manifest = dataclasses.replace(grown.first, version="000002")
    gate = gate_self_recall(str(grown.index), manifest, grown.hasher, BOUNDS)
    assert (gate.passed, gate.value) == (True, None)
    assert gate.message == "no new segment to look up in"


class EmbeddingDecoder(QuickDecoder):
    """With an embedding of each code: of its bits."""

    def hash_track(self, path: str, hasher: Hasher, **limits: object) -> TrackCodes:
        """The codes of a file."""
        track = super().hash_track(path, hasher)
        signs = np.unpackbits(track.codes, axis=1).astype(np.float32) * 2 - 1
        embeddings = (signs / np.sqrt(signs.shape[1])).astype(np.float16)
        return dataclasses.replace(track, embeddings=embeddings)


def test_embeddings_are_compared_where_an_index_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quick_index.QuickDecoder", EmbeddingDecoder)
    for module in (index_verb, opened):
        monkeypatch.setattr(module, "embedding_dimensions", lambda hasher: 64)
    grown = grow_index(tmp_path, keep_embeddings=True)
    assert grown.second.compared == "embeddings"
    gate = gate_self_recall(str(grown.index), grown.second, grown.hasher, BOUNDS)
    assert gate.value == 1.0
    gate = gate_removed(str(grown.index), grown.second, grown.first, grown.hasher, BOUNDS)
    assert gate.passed
    # Without the codes there are no keys.
    path = grown.second.files.select(kind="codes", segment=1).column("path")[0]
    table = pq.read_table(grown.index / path)
    (grown.index / path).write_bytes(parquet_bytes(table.slice(3)))
    gate = gate_self_recall(str(grown.index), grown.second, grown.hasher, BOUNDS)
    assert not gate.passed
    assert "lacks codes of snippets that it has embeddings of" in gate.message


def test_removed_tracks_are_not_found(grown: Grown) -> None:
    gate = gate_removed(str(grown.index), grown.second, grown.first, grown.hasher, BOUNDS)
    assert (gate.name, gate.value, gate.bound, gate.passed) == ("removed", 0, 0, True)
    n = len(GONE)
    expected = f"{n} of {n} tracks that this version removes looked up, none is found"
    assert gate.message == expected
    assert gate_removed(str(grown.index), grown.first, None, grown.hasher, BOUNDS).passed


def test_removals_that_a_reader_passes_over_are_seen(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.empty(0, int), NOTHING
    monkeypatch.setattr(IndexTracks, "_read_removals", lambda tracks, segment: nothing)
    gate = gate_removed(str(grown.index), grown.second, grown.first, grown.hasher, BOUNDS)
    assert (gate.passed, gate.value) == (False, 2)
    assert gate.message in {
        f"track {ordinal} of segment 0 was removed and is found" for ordinal in (3, 11)
    }


def test_a_removed_track_that_was_never_there_is_seen(grown: Grown) -> None:
    rewrite(grown, removed_path(grown.second), removals_of(3, 99))
    gate = gate_removed(str(grown.index), grown.second, grown.first, grown.hasher, BOUNDS)
    assert not gate.passed
    assert "segment 0 has no track 99" in gate.message


def test_removed_tracks_that_come_back_are_seen(grown: Grown) -> None:
    """Version 000003 has forgotten what 000002 had removed."""
    third = dataclasses.replace(
        with_segment(grown.second, dataclasses.replace(grown.second.segments[0], removals=None)),
        version="000003",
        parent="000002",
    )
    gate = gate_removed(str(grown.index), third, grown.second, grown.hasher, BOUNDS)
    assert (gate.passed, gate.value) == (False, 1)
    assert gate.message == "2 tracks of segment 0 that were removed are back, the first: 3"


def test_what_was_removed_before_is_not_looked_up_again(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = dataclasses.replace(grown.second, version="000003", parent="000002")
    monkeypatch.setattr(parquet, "read_table", None)
    assert gate_removed(str(grown.index), third, grown.second, grown.hasher, BOUNDS).passed
    assert gate_self_recall(str(grown.index), third, grown.hasher, BOUNDS).passed


def test_old_segments_are_not_read(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what the sample of removed tracks needs."""
    read: list[str] = []
    real = parquet.read_table

    def note(path: str, *args: object, **named: object) -> pa.Table:
        read.append(path)
        return real(path, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(parquet, "read_table", note)
    gate_self_recall(str(grown.index), grown.second, grown.hasher, BOUNDS)
    assert read
    tracks = [path for path in read if "/removals/" not in path]
    assert [path for path in tracks if "part-00003" not in path] == []
    assert NEW == 3
