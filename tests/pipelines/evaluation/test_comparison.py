"""Bootstrap intervals of differences: by hand where every sample is alike, and by theory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.accuracy import Result, summarise
from pipelines.evaluation.comparison import Bootstrap

RESAMPLES = 2000


def asked(right: Sequence[bool], scores: Sequence[float], tracks: Sequence[int]) -> list[Result]:
    """A positive query a value, all of 5 s."""
    return [
        Result("clean", 5.0, f"t{track}", 0.0, "x", score, right=one, query=number)
        for number, (one, score, track) in enumerate(zip(right, scores, tracks, strict=True))
    ]


def negatives(scores: Sequence[float]) -> list[Result]:
    return [
        Result("clean", 5.0, "", 0.0, "x", score, query=1000 + number, source=f"n{number}")
        for number, score in enumerate(scores)
    ]


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    right = [number < 60 for number in range(100)]
    found = Bootstrap({"one": asked(right, [0.5] * 100, range(100))}, 1, RESAMPLES)
    low, high = found.interval("one", "top1", 5.0)
    half = 1.96 * np.sqrt(0.6 * 0.4 / 100)
    assert low == pytest.approx(0.6 - half, abs=0.02)
    assert high == pytest.approx(0.6 + half, abs=0.02)


def test_queries_of_one_track_are_drawn_together() -> None:
    """Ten tracks of ten queries that are right or wrong together: an interval as of ten queries."""
    right = [number < 60 for number in range(100)]
    together = Bootstrap({"one": asked(right, [0.5] * 100, [n // 10 for n in range(100)])}, 1, 2000)
    low, high = together.interval("one", "top1", 5.0)
    assert high - low > 2.5 * 2 * 1.96 * np.sqrt(0.6 * 0.4 / 100)


def test_what_both_fail_at_does_not_widen_the_difference() -> None:
    right = [number < 50 for number in range(100)]
    better = [number < 52 for number in range(100)]
    scores, tracks = [0.5] * 100, range(100)
    both = Bootstrap(
        {"a": asked(better, scores, tracks), "b": asked(right, scores, tracks)}, 1, RESAMPLES
    )
    row = both.difference("a", "b", 5.0)["top1"]
    assert row["difference"] == 0.02
    assert 0.0 <= row["low"] < 0.02 < row["high"] < 0.06  # of unpaired shares: -0.12 to 0.16
    mirrored = both.difference("b", "a", 5.0)["top1"]
    assert (mirrored["low"], mirrored["high"]) == (-row["high"], -row["low"])
    assert both.difference("a", "b", 5.0)["at_1_percent"] is None  # there are no negatives
    assert both.difference("a", "a", None)["top1"] == {"difference": 0, "low": 0, "high": 0}


def test_the_threshold_is_set_anew_in_every_sample() -> None:
    """All that is right scores 0.5. Of two negatives one is above: with it in the sample (3 of 4
    times) nothing counts, without it everything.
    """
    results = [*asked([True] * 4, [0.5] * 4, range(4)), *negatives([0.9, 0.1])]
    found = Bootstrap({"one": results}, 1, RESAMPLES)
    samples = found._samples("one", "at_1_percent", 5.0)
    assert set(np.unique(samples)) == {0.0, 1.0}
    assert samples.mean() == pytest.approx(0.25, abs=0.05)
    assert found.interval("one", "at_1_percent", 5.0) == (0.0, 1.0)


@given(seed=st.integers(0, 200))
def test_what_was_measured_is_what_the_summary_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for query in range(40):
        known = bool(rng.random() < 0.6)
        rows.append(
            Result(
                str(rng.choice(["clean", "noisy"])),
                float(rng.choice([1.0, 3.0])),
                f"t{rng.integers(5)}" if known else "",
                0.0,
                "x",
                float(rng.choice([0.1, 0.4, 0.8])),
                right=known and bool(rng.random() < 0.7),
                query=query,
                source="n",
            )
        )
    other = [dataclasses.replace(row, right=False) for row in rows]
    both = Bootstrap({"one": rows, "none": other}, seed, 50)
    figures = summarise(rows)
    for row in (*figures["durations"], figures["overall"]):
        seconds = row["duration_s"]
        assert both.queries.get(seconds, 0) == row["queries"]
        found = both.difference("one", "none", seconds)
        for figure in ("top1", "at_1_percent"):
            if found[figure] is not None and row[figure] is not None:
                assert found[figure]["difference"] == pytest.approx(row[figure], abs=1e-4)


def test_only_queries_that_all_could_be_asked_are_compared() -> None:
    one = asked([True, False, True], [0.5] * 3, range(3))
    other = [dataclasses.replace(row, right=True) for row in one]
    other[1] = dataclasses.replace(other[1], error="silent", right=False)
    both = Bootstrap({"one": one, "other": other}, 1, 100)
    assert both.queries == {None: 2, 5.0: 2}
    (row, by_length) = both.differences()
    assert (row["one"], row["other"], row["duration_s"]) == ("one", "other", None)
    assert row["top1"]["difference"] == by_length["top1"]["difference"] == 0.0


def test_nothing_asked_is_no_difference() -> None:
    failed = [dataclasses.replace(row, error="silent") for row in asked([False], [0.0], [0])]
    both = Bootstrap({"one": failed, "other": failed}, 1, 100)
    (row,) = both.differences()
    assert (row["queries"], row["top1"], row["at_1_percent"]) == (0, None, None)
    assert both.interval("one", "top1", None) == (0.0, 1.0)
