"""Who is asked: what is counted while an index is asked, and what is said about an answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from published_index import Published
from tiny_catalog import RATE

from hashing.conditions import Floats
from pipelines.evaluation.accuracy import Result
from pipelines.evaluation.questions import SAMPLE_RATE, Question, Source
from pipelines.evaluation.systems import (
    CountedCodes,
    OpenedIndex,
    System,
    ask,
    examined,
    systems_of,
)


@pytest.fixture(scope="module")
def systems(published: Published) -> list[System]:
    return systems_of([OpenedIndex(str(published.index), None)], [1, 8])


def question(published: Published, track: str, start_s: float, seconds: float) -> Question:
    import soxr

    cut: Floats = soxr.resample(
        published.cut(track, start_s, start_s + seconds), RATE, SAMPLE_RATE
    ).astype(np.float32)
    source = Source(track, "", track)
    return Question(7, source, True, "clean", seconds, start_s, cut, cut)


class Heard:
    """Samples of the songs, as `Tracks` gives them."""

    def __init__(self, published: Published) -> None:
        self._published = published

    def samples(self, track_id: str) -> Floats:
        """All samples at `SAMPLE_RATE`."""
        import soxr

        song: Floats = soxr.resample(self._published.songs[track_id], RATE, SAMPLE_RATE)
        return song.astype(np.float32)


def asked(published: Published, one: Question, systems: list[System]) -> list[Result]:
    """What the systems say."""
    tracks: Any = Heard(published)
    return list(ask(one, systems, {track: track for track in published.songs}, tracks))


class Rows:
    """Codes of one byte that say their number."""

    def rows(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        del segment
        return gids[:, None].astype(np.uint8), gids < 9


def test_codes_that_are_read_twice_count_once() -> None:
    codes = CountedCodes(Rows())
    rows, there = codes.rows(0, np.array([1, 2, 9]))
    assert (rows.ravel().tolist(), there.tolist()) == ([1, 2, 9], [True, True, False])
    codes.rows(0, np.array([2, 3]))
    codes.rows(1, np.array([2]))
    assert codes.count() == 5
    assert codes.count() == 0


def test_an_answer_is_judged(published: Published, systems: list[System]) -> None:
    found = asked(published, question(published, "s11", 4.0, 3.0), systems)
    assert [one.system for one in found] == [system.name for system in systems]
    for one in found:
        assert (one.query, one.wanted, one.source, one.answer) == (7, "s11", "s11", "s11")
        assert one.right
        assert one.right_place
        assert one.right_audio
        assert one.offset_s == pytest.approx(4.0, abs=0.3)
        assert 0 < (one.compared or 0) < 1
        assert one.hash_cpu_ms is not None
    few, many = (one.examined or 0.0 for one in found)
    assert 0 < few < many < 1


def test_what_is_said_of_queries_without_an_answer(
    published: Published, systems: list[System]
) -> None:
    unknown = dataclasses.replace(question(published, "s11", 4.0, 3.0), known=False)
    for one in asked(published, unknown, systems):
        assert (one.wanted, one.answer, one.right, one.right_place) == ("", "s11", False, False)
        assert one.source == "s11"
    silent = dataclasses.replace(unknown, known=True, heard=0 * unknown.heard)
    for one in asked(published, silent, systems):
        assert (one.error, one.wanted, one.answer) == ("silent", "s11", "")
    broken = dataclasses.replace(unknown, heard=unknown.heard[:0], error="not-audio")
    assert {one.error for one in asked(published, broken, systems)} == {"not-audio"}


def test_a_right_track_in_a_wrong_place_is_compared_by_its_audio(
    published: Published, systems: list[System]
) -> None:
    """What was heard is from elsewhere than what is asked for: the audio there is another."""
    wanted, heard = (question(published, "s11", start_s, 3.0) for start_s in (8.0, 4.0))
    moved = dataclasses.replace(wanted, heard=heard.heard)
    (one,) = asked(published, moved, systems[1:])
    assert one.right
    assert not one.right_place
    assert not one.right_audio
    # Were the track a loop, the same would be right.
    (one,) = asked(published, dataclasses.replace(moved, clean=heard.clean), systems[1:])
    assert not one.right_place
    assert one.right_audio


def test_examined_are_the_snippets_of_the_buckets(
    published: Published, systems: list[System]
) -> None:
    (system, _) = systems
    searcher = system.searcher
    query = searcher.hasher.hash_query([published.cut("s11", 4.0, 5.0)])
    keys = searcher.hasher.quantizer.probe_keys(query.responses, searcher.key_bits, 1)
    assert keys.shape[1:] == (1, searcher.tables.n_tables)
    found = {
        gid
        for row in keys[:, 0]
        for gid in searcher.tables.lookup(0, row[None], searcher.max_bucket).gid.tolist()
    }
    assert examined(searcher, query) == len(found)
