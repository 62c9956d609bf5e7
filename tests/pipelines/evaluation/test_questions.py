"""Which tracks are asked for and left out, and what questions are."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_index import wav
from tiny_catalog import RATE

from hashing.conditions import Condition
from hashing.decoder import Decoder
from hashing.synthesis import render_track
from pipelines.evaluation.questions import (
    SAMPLE_RATE,
    Question,
    Questions,
    Source,
    Tracks,
    draw,
    leave_out,
)
from pipelines.evaluation.trial import kept_rows


@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (3, 2), (3, 7), (5, 20)])
def test_places_are_spread_evenly(n: int, wanted: int) -> None:
    drawn = draw(n, wanted, np.random.default_rng(3))
    counts = np.bincount(drawn, minlength=n)
    assert (len(drawn), len(counts)) == (wanted, n)
    assert counts.max() - counts.min() <= 1


@given(
    groups=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30),
    share=st.floats(0, 0.9),
    seed=st.integers(0, 100),
)
def test_groups_are_left_out_whole(groups: list[str], share: float, seed: int) -> None:
    out = leave_out(groups, share, seed)
    assert out == sorted(set(out)) == leave_out(groups, share, seed)
    assert len(out) <= share * len(groups) + 1e-6
    gone = {groups[i] for i in out}
    assert [i for i, group in enumerate(groups) if group in gone] == out
    # No other group would have found room.
    room = int(share * len(groups) + 1e-9) - len(out)
    assert all(groups.count(group) > room for group in set(groups) - gone)


def options(**given: Any) -> Any:
    return types.SimpleNamespace(**{"left_out_by": "", "same": "", "seed": 1, **given})


def test_versions_of_a_recording_stay_together_across_albums() -> None:
    rows = [
        {"track_id": "a", "album": "1", "work": ""},
        {"track_id": "b", "album": "1", "work": "w"},
        {"track_id": "c", "album": "2", "work": "w"},
        {"track_id": "d", "album": "3", "work": ""},
    ]
    ids = {"a", "b", "c", "d"}
    for seed in range(5):
        kept = kept_rows(rows, ids, options(left_out=0.5, left_out_by="album", seed=seed))
        assert (0 in kept) == (1 in kept)
        # With the work they are three: too many, so that d goes.
        both = options(left_out=0.5, left_out_by="album", same="work", seed=seed)
        assert kept_rows(rows, ids, both) == [0, 1, 2]
    assert kept_rows(rows, ids, options(left_out=0.0)) == [0, 1, 2, 3]
    # Half of what is asked for: one of two; what is not asked for stays.
    kept = kept_rows(rows, {"a", "d"}, options(left_out=0.5))
    assert {1, 2} < set(kept)
    assert len(kept) == 3


def cut(folder: Path, inside: int, places: int, **more: Any) -> list[Question]:
    tracks = [Source(f"{n}", str(folder / f"{n}.wav"), f"{n}") for n in range(4)]
    conditions = [Condition.parse(name) for name in ("clean", "white@20")]
    questions = Questions.prepare(
        more.pop("durations", (1.0, 2.0)), conditions, places, 3, (), (), more.pop("seed", 1)
    )
    with Decoder() as decoder:
        samples = Tracks({one.track_id: one.uri for one in tracks}, SAMPLE_RATE, decoder)
        return list(questions.cut(tracks[:inside], tracks[inside:], samples, show=False))


def test_questions_are_numbered_cut_where_they_say_and_degraded(tmp_path: Path) -> None:
    songs = [render_track(n, 4.0, RATE) for n in range(3)]
    for n, song in enumerate(songs):
        wav(tmp_path / f"{n}.wav", song)
    (tmp_path / "3.wav").write_bytes(b"no audio")
    found = cut(tmp_path, 2, 4)
    assert [one.number for one in found] == list(range(7 * 4))
    assert [one.known for one in found] == [True] * 16 + [False] * 12
    for one in found:
        if one.source.track_id == "3":
            assert (one.error, one.heard.size) == ("not-audio", 0)
            continue
        assert (one.error, one.heard.size) == ("", one.duration_s * SAMPLE_RATE)
        assert one.clean.size == one.heard.size
        assert 0 <= one.start_s <= 2.0
        noise = one.heard - one.clean
        if one.condition == "clean":
            assert not noise.any()
        else:  # 20 dB below the music and its lead
            assert np.var(noise) < 0.1 * np.var(one.clean)
    # The same place for every duration and condition: the short query begins the long one.
    first = found[:4]
    assert len({one.start_s for one in first}) == 1
    np.testing.assert_array_equal(first[0].clean, first[2].clean[:SAMPLE_RATE])
    # What becomes of one place has no influence on the next, and the seed decides.
    again = cut(tmp_path, 2, 4)
    for one, same in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.heard, same.heard)
    assert [one.start_s for one in cut(tmp_path, 2, 4, seed=2)] != [one.start_s for one in found]
