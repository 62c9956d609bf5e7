"""The figures of ``hashbeam evaluate lookup``, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.evaluation.accuracy import Result, summarise, thresholds


def result(condition: str, wanted: str, answer: str, score: float, **more: Any) -> Result:
    right = bool(wanted) and wanted == answer
    more.setdefault("right_place", right)
    more.setdefault("duration_s", 5.0)
    return Result(
        condition=condition,
        wanted=wanted,
        start_s=1.0,
        answer=answer,
        score=score,
        right=right,
        **more,
    )


def test_shares_by_hand() -> None:
    results = [
        result("clean", "a", "a", 0.9),
        result("clean", "b", "b", 0.4, right_place=False),  # right, but unsure and elsewhere
        result("clean", "c", "d", 0.7),  # wrong and sure
        result("clean", "e", "", 0.0),  # nothing found
        result("noisy", "a", "a", 0.8),
        result("clean", "", "x", 0.6),  # negatives: one wrongly sure,
        result("clean", "", "x", 0.1),
        result("noisy", "", "", 0.0),
    ]
    figures = summarise(results)
    clean, noisy = figures["conditions"]
    assert (clean["condition"], clean["duration_s"]) == ("clean", 5.0)
    assert (clean["queries"], clean["negatives"]) == (4, 2)
    assert clean["top1"] == 0.5
    assert clean["right_place"] == clean["right_audio"] == 0.5  # of two right answers
    assert clean["accepted"] == 0.25
    assert clean["false_positives"] == 0.5
    # 1 % of three negatives is none of them: what counts must be above 0.6, the highest.
    assert clean["threshold"] == noisy["threshold"] == 0.6
    assert clean["at_1_percent"] == 0.25
    assert noisy["at_1_percent"] == 1.0
    assert (noisy["top1"], noisy["false_positives"]) == (1.0, 0.0)
    (every,) = figures["durations"]
    assert (every["condition"], every["queries"], every["negatives"]) == ("all", 5, 3)
    assert every["top1"] == 0.6
    assert every["false_positives"] == 0.3333
    assert figures["overall"] == {**every, "duration_s": None, "threshold": None}
    low, high = clean["top1_interval"]
    assert (round(low, 3), round(high, 3)) == (0.150, 0.850)  # Wilson's for 2 of 4
    # Six answers; their squared distances from right (1) and wrong (0).
    squares = [0.1**2, 0.6**2, 0.7**2, 0.2**2, 0.6**2, 0.1**2]
    assert figures["brier_score"] == pytest.approx(np.mean(squares))
    # Six bins of one answer each: the mean distance.
    assert figures["expected_calibration_error"] == pytest.approx(np.mean(np.sqrt(squares)))
    assert [one["score"] for one in figures["reliability"]] == [0.1, 0.4, 0.6, 0.7, 0.8, 0.9]
    assert figures["not_asked"] == {}


def test_a_place_that_sounds_the_same_counts_apart() -> None:
    results = [
        result("clean", "a", "a", 0.9),
        result("clean", "a", "a", 0.9, right_place=False, right_audio=True),
        result("clean", "a", "a", 0.9, right_place=False),
        result("clean", "a", "b", 0.9),  # a wrong answer has no place
    ]
    (row,) = summarise(results)["conditions"]
    assert (row["right_place"], row["right_audio"]) == (0.3333, 0.6667)


def test_each_length_has_a_threshold_over_all_conditions() -> None:
    of_one_second = [
        result(name, "", "x", score, duration_s=1.0)
        for name, score in [("clean", 0.2), *[("noisy", 0.7)] * 1, *[("noisy", 0.1)] * 98]
    ]
    # One of a hundred may be above.
    assert thresholds([*of_one_second, result("clean", "", "x", 0.4)]) == {1.0: 0.2, 5.0: 0.4}
    assert thresholds([result("clean", "a", "a", 0.9)]) == {5.0: 0.0}
    found = [result("clean", "a", "a", 0.3, duration_s=s) for s in (1.0, 5.0)]
    figures = summarise([*of_one_second, result("clean", "", "x", 0.4), *found])
    assert [row["at_1_percent"] for row in figures["durations"]] == [1.0, 0.0]
    assert figures["overall"]["at_1_percent"] == 0.5


def test_a_share_of_nothing_is_none() -> None:
    row = summarise([result("clean", "a", "a", 0.9)])["conditions"][0]
    assert (row["top1"], row["accepted"]) == (1.0, 1.0)
    assert (row["false_positives"], row["at_1_percent"], row["threshold"]) == (None, None, None)
    assert row["look_up_cpu_ms"] is None
    row = summarise([result("clean", "", "a", 0.9)])["conditions"][0]
    assert (row["top1"], row["right_place"], row["accepted"]) == (None, None, None)
    assert (row["top1_interval"], row["false_positives"]) == ((0.0, 1.0), 1.0)
    # Without negatives of one length, all lengths together have no figure at 1 %.
    mixed = [
        result("clean", "a", "a", 0.9),
        result("clean", "", "x", 0.1),
        result("clean", "a", "a", 0.9, duration_s=1.0),
    ]
    figures = summarise(mixed)
    assert [row["at_1_percent"] for row in figures["durations"]] == [None, 1.0]
    assert figures["overall"]["at_1_percent"] is None


def test_what_could_not_be_asked_is_counted_apart() -> None:
    failed = [Result("clean", 1.0, "a", 0.0, error="silent"), Result("x", 5.0, "", 0.0, error="e")]
    figures = summarise([result("clean", "a", "a", 0.9), *failed, failed[0]])
    assert figures["not_asked"] == {"silent": 2, "e": 1}
    assert [row["queries"] for row in figures["conditions"]] == [1]
    nothing = summarise(failed)
    assert (nothing["conditions"], nothing["durations"]) == ([], [])
    assert nothing["overall"]["queries"] == 0


def test_durations_are_in_order_and_costs_are_medians_and_means() -> None:
    results = [
        Result("clean", s, "a", 0.0, "a", 0.9, right=s > 2, look_up_cpu_ms=ms, compared=ms / 100)
        for s, ms in ((10, 9), (5, 7), (1, 1), (1, 2), (1, 6))
    ]
    results.append(Result("clean", 1, "a", 0.0))  # nothing was measured
    figures = summarise(results)
    assert [(row["duration_s"], row["top1"]) for row in figures["durations"]] == [
        (1, 0.0),
        (5, 1.0),
        (10, 1.0),
    ]
    assert [row["look_up_cpu_ms"] for row in figures["durations"]] == [2.0, 7.0, 9.0]
    assert [row["compared"] for row in figures["durations"]] == [0.03, 0.07, 0.09]
    assert figures["durations"][0]["hash_cpu_ms"] is None
