"""Two versions asked the same: which tracks, what counts as right, and the figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from change_fixture import catalog_table, write_version

from hashing.errors import AudioError
from pipelines.changes.classes import CHANGES, Changes
from pipelines.evaluation.accuracy import Result
from pipelines.evaluation.questions import SAMPLE_RATE, Question, Source
from pipelines.reindexing.rivals import KINDS, NEW, PUBLISHED, _figures, _judged, in_both


def changes(*rows: tuple[str, str, str]) -> Changes:
    """A comparison that found these track_ids, classes and reasons."""
    found = [{"track_id": one, "class": name, "reason": why} for one, name, why in rows]
    plain = pa.schema({"track_id": pa.string(), "class": pa.string(), "reason": pa.string()})
    table = pa.Table.from_pylist(found, plain)
    columns = {name: table[name] for name in plain.names}
    whole = {f.name: columns.get(f.name, pa.nulls(len(found), f.type)) for f in CHANGES}
    return Changes(pa.table(whole).cast(CHANGES), {})


def test_tracks_that_are_the_same_in_both_are_asked_for(tmp_path: Path) -> None:
    names = ["changed", "edited", "failed", "forced", "lost", "moved", "mute", "new", "renamed"]
    catalog = catalog_table([{"track_id": name, "uri": f"/{name}"} for name in [*names, "same"]])
    lost = {"track_id": "lost", "uri": "/lost", "stage": "decode", "error": "x"}
    mute = {"track_id": "mute", "uri": "/mute", "stage": "embed", "error": "x"}
    rows = [{"track_id": "same", "uri": "/same"}]
    new = write_version(str(tmp_path), [rows], failures=[[lost], [mute]], version="000002")
    since = changes(
        ("changed", "changed", "etag"),
        ("edited", "edited", "row"),
        ("failed", "failed", "etag"),
        ("forced", "changed", "forced"),
        ("moved", "moved", "content"),
        ("new", "new", "id"),
        ("renamed", "renamed", "content"),
        ("gone", "removed", "id"),
    )
    found = in_both(str(tmp_path), new, since, catalog)["track_id"].to_pylist()
    assert found == ["edited", "forced", "moved", "mute", "same"]


NOTES = np.random.default_rng(1).standard_normal((2, 5 * SAMPLE_RATE)).astype(np.float32)


class Played:
    """Samples of tracks: ``copy`` sounds as ``a`` does, ``b`` otherwise; ``c`` cannot be read."""

    def samples(self, track_id: str) -> Any:
        if track_id == "c":
            raise AudioError("unreadable", "c")
        return NOTES[int(track_id == "b")]


@pytest.mark.parametrize(
    ("answer", "offset_s", "right"),
    [("a", 2.0, True), ("copy", 2.0, True), ("copy", 1.0, False), ("b", 2.0, False),
     ("c", 2.0, False), ("elsewhere", 2.0, False), ("", 0.0, False)],
)  # fmt: skip
def test_another_track_is_right_where_it_sounds_the_same(
    answer: str, offset_s: float, right: bool
) -> None:
    catalog = catalog_table([{"track_id": name, "uri": f"/{name}"} for name in ("a", "b", "copy")])
    clean = NOTES[0, 2 * SAMPLE_RATE : 4 * SAMPLE_RATE]
    question = Question(0, Source("a", "/a", ""), True, "clean", 2.0, 2.0, clean, clean)
    result = Result("clean", 2.0, "a", 2.0, answer, 0.5, offset_s, right=answer == "a")
    played: Any = Played()
    uris = {"a": "/a", "c": "/c"}
    (found,) = _judged([result], question, catalog, uris, played)
    assert found == dataclasses.replace(result, right=right)


def test_a_query_that_one_of_two_cannot_hear_is_one_that_it_misses() -> None:
    one = Result("clean", 2.0, "a", 2.0, "a", 0.5, right=True)
    other = Result("clean", 2.0, "a", 2.0, error="too-short")
    silence = np.empty(0, np.float32)
    question = Question(0, Source("a", "/a", ""), True, "clean", 2.0, 2.0, silence, silence)
    nothing: Any = None
    assert [r.error for r in _judged([one, other], question, nothing, {}, nothing)] == ["", ""]
    both = _judged([other, other], question, nothing, {}, nothing)
    assert [r.error for r in both] == ["too-short", "too-short"]


def test_figures() -> None:
    def asked(system: str, *right: bool) -> list[Result]:
        rows = []
        for number, flag in enumerate(right):
            seconds, condition = KINDS[number % 2]
            track = f"t{number // 2}"
            rows.append(
                Result(condition, seconds, track, 0.0, right=flag, query=number, source=track)
            )
        silent = Result("clean", 2.0, "t9", 0.0, error="silent", query=99, source="t9")
        return [dataclasses.replace(row, system=system) for row in [*rows, silent]]

    found = _figures(
        {
            PUBLISHED: asked(PUBLISHED, True, True, False, True),
            NEW: asked(NEW, True, False, False, False),
        }
    )
    assert (found["queries"], found["tracks"], found["not_asked"]) == (4, 2, {"silent": 1})
    assert (found["published"], found["new"], found["difference"]) == (0.75, 0.25, -0.5)
    assert (found["low"], found["high"]) == (-0.5, -0.5)  # of each track one of two
    first, second, *none = found["kinds"]
    assert (first["queries"], first["published"], first["new"]) == (2, 0.5, 0.5)
    assert (second["queries"], second["published"], second["new"]) == (2, 1.0, 0.0)
    assert [kind["queries"] for kind in none] == [0, 0]
    assert _figures({PUBLISHED: [], NEW: []}) == {"queries": 0, "tracks": 0, "not_asked": {}}
