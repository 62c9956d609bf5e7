"""The figures of ``hashbeam evaluate lookup``, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.accuracy import Result, as_text, summarise


def result(condition: str, wanted: str, answer: str, score: float, **more: Any) -> Result:
    right = bool(wanted) and wanted == answer
    placed = more.pop("right_place", right)
    return Result(condition, 5.0, wanted, 1.0, answer, score, right=right, right_place=placed)


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
    assert clean["right_place"] == 0.25
    assert clean["accepted"] == 0.25
    assert clean["false_positives"] == 0.5
    # 1 % of three negatives is none of them: what counts must be above 0.6, the highest.
    assert clean["at_1_percent"] == 0.25
    assert noisy["at_1_percent"] == 1.0
    assert (noisy["top1"], noisy["false_positives"]) == (1.0, 0.0)
    (every,) = figures["durations"]
    assert (every["condition"], every["queries"], every["negatives"]) == ("all", 5, 3)
    assert every["top1"] == 0.6
    assert every["false_positives"] == 0.3333
    low, high = clean["top1_interval"]
    assert (round(low, 3), round(high, 3)) == (0.150, 0.850)  # Wilson's for 2 of 4
    # Six answers; their squared distances from right (1) and wrong (0).
    squares = [0.1**2, 0.6**2, 0.7**2, 0.2**2, 0.6**2, 0.1**2]
    assert figures["brier_score"] == pytest.approx(np.mean(squares))
    # Six bins of one answer each: the mean distance.
    assert figures["expected_calibration_error"] == pytest.approx(np.mean(np.sqrt(squares)))
    assert figures["not_asked"] == {}


def test_a_share_of_nothing_is_none() -> None:
    row = summarise([result("clean", "a", "a", 0.9)])["conditions"][0]
    assert (row["top1"], row["accepted"]) == (1.0, 1.0)
    assert (row["false_positives"], row["at_1_percent"]) == (None, None)
    row = summarise([result("clean", "", "a", 0.9)])["conditions"][0]
    assert (row["top1"], row["right_place"], row["accepted"]) == (None, None, None)
    assert (row["top1_interval"], row["false_positives"]) == ((0.0, 1.0), 1.0)


def test_what_could_not_be_asked_is_counted_apart() -> None:
    failed = [Result("clean", 1.0, "a", 0.0, error="silent"), Result("x", 5.0, "", 0.0, error="e")]
    figures = summarise([result("clean", "a", "a", 0.9), *failed, failed[0]])
    assert figures["not_asked"] == {"silent": 2, "e": 1}
    assert [row["queries"] for row in figures["conditions"]] == [1]
    nothing = summarise(failed)
    assert (nothing["conditions"], nothing["durations"]) == ([], [])


def test_durations_are_told_apart_and_in_order() -> None:
    results = [Result("clean", s, "a", 0.0, "a", 0.9, right=s > 2, cpu_ms=s) for s in (10, 5, 1)]
    figures = summarise(results)
    assert [(row["duration_s"], row["top1"]) for row in figures["durations"]] == [
        (1, 0.0),
        (5, 1.0),
        (10, 1.0),
    ]
    assert figures["look_up_cpu_ms"] == {"1": 1.0, "5": 5.0, "10": 10.0}


def test_the_table_for_people() -> None:
    facts = {"tracks_indexed": 9, "tracks_left_out": 2, "key_bits": 12, "probes": 8}
    results = [result("clean", "a", "a", 0.9), result("clean", "b", "", 0.0)]
    text = as_text({**facts, **summarise(results)})
    lines = text.splitlines()
    assert lines[0] == "9 tracks indexed, 2 left out, keys of 12 bits, 8 probes"
    assert lines[3].split() == ["5", "s"]
    assert lines[4].split() == ["clean", "50.0"]
    assert lines[-3].split() == ["all", "-"]  # no negatives
