"""The gate of a model that is to take over: what counts as worse, and how often by chance."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.gating.bounds import Bounds
from pipelines.gating.model import FAR, MARGIN, gate_model


def figures(difference: float, low: float, high: float) -> dict[str, object]:
    shares = {"published": 0.9, "new": 0.9 + difference}
    counts = {"queries": 200, "tracks": 150}
    return {**counts, **shares, "difference": difference, "low": low, "high": high}


@pytest.mark.parametrize(
    ("difference", "low", "high", "passed"),
    [
        (0.03, 0.01, 0.05, True),
        (0.0, -0.03, 0.03, True),
        (-0.02, -0.03, -0.01, True),  # worse for sure, but by no more than the margin
        (-0.03, -0.05, -0.01, False),
        (-0.04, -0.09, 0.01, True),  # may be chance
        (-0.04, -0.08, 0.0, True),
        (-0.06, -0.15, 0.03, False),  # too much, be it chance
    ],
)
def test_what_counts_as_worse(difference: float, low: float, high: float, passed: bool) -> None:
    gate = gate_model(figures(difference, low, high), Bounds())
    assert (gate.name, gate.passed, gate.value, gate.bound) == (
        "model", passed, difference, -MARGIN
    )  # fmt: skip
    assert f"published one 90.0%: {100 * difference:+.1f} points" in gate.message
    assert "of 200 queries from 150 tracks" in gate.message


def test_nothing_that_could_be_asked_is_no_pass() -> None:
    gate = gate_model({"queries": 0, "tracks": 0, "not_asked": {}}, Bounds())
    assert (gate.passed, gate.value) == (False, None)
    assert "no query could be cut" in gate.message


@pytest.mark.parametrize(("worse", "refused"), [(0.0, 1 / 40), (0.05, 3 / 5), (0.08, 19 / 20)])
def test_how_often_models_of_200_queries_are_refused(worse: float, refused: float) -> None:
    """The module says so, of models that disagree on a tenth of the queries."""
    rng = np.random.default_rng(1)
    n, rounds = 200, 20_000
    lost = rng.multinomial(n, [0.05 + worse / 2, 0.05 - worse / 2, 0.9], rounds)
    difference = (lost[:, 1] - lost[:, 0]) / n
    spread = np.sqrt((lost[:, :2].sum(axis=1) / n - difference**2) / n)
    high = difference + 1.96 * spread
    found = (difference < -FAR) | ((difference < -MARGIN) & (high < 0))
    assert found.mean() == pytest.approx(refused, abs=0.06)
