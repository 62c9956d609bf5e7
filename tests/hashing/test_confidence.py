from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.confidence import NAMES, Confidence, Evidence
from hashing.errors import ModelError
from hashing.metrics import calibration_error
from hashing.models import list_models, load_model
from hashing.training.calibration import Answers, fit

SHIPPED = [Confidence.from_json(load_model(name).config["calibration"]) for name in list_models()]

values = st.floats(-1e5, 1e5)


def evidence(surprise: Any, margin: Any = 0.0, share: Any = 0.1, snippets: Any = 9.0) -> Evidence:
    columns = np.broadcast_arrays(surprise, margin, share, snippets)
    return Evidence(*(np.atleast_1d(np.asarray(column, dtype=float)) for column in columns))


def test_inputs_by_hand() -> None:
    found = evidence(5 * math.sinh(2), -5 * math.sinh(1), 0.25, math.exp(3)).inputs()
    np.testing.assert_allclose(found, [[1.0, 2.0, -1.0, 0.5, 3.0]])
    # What cannot be is taken as nothing, and the shape of the arrays is kept.
    found = evidence(np.zeros((2, 3)), share=-0.1, snippets=0.0).inputs()
    assert found.shape == (2, 3, 5)
    np.testing.assert_array_equal(found[1, 2], [1, 0, 0, 0, 0])


def test_score_by_hand() -> None:
    confidence = Confidence((1.0, 0.5, -2.0, 4.0, 0.25))
    logit = 1 + 0.5 * 2 - 2 * -1 + 4 * 0.5 + 0.25 * 3
    found = confidence.score(evidence(5 * math.sinh(2), -5 * math.sinh(1), 0.25, math.exp(3)))
    np.testing.assert_allclose(found, [1 / (1 + math.exp(-logit))])


@given(surprise=values, margin=values, share=st.floats(0, 1), snippets=st.floats(0, 1e5))
def test_a_score_is_a_probability(
    surprise: float, margin: float, share: float, snippets: float
) -> None:
    for confidence in (Confidence(), *SHIPPED):
        score = confidence.score(evidence(surprise, margin, share, snippets))
        assert 0.0 <= score[0] <= 1.0
    extreme = Confidence((1e6, -1e6, 1e6, 0.0, 0.0))
    assert 0.0 <= extreme.score(evidence(surprise, margin))[0] <= 1.0


@pytest.mark.parametrize("confidence", [Confidence(), *SHIPPED])
@given(low=st.floats(-1e5, 1e5), more=st.floats(0.01, 1e4), surprise=values, share=st.floats(0, 1))
def test_a_wider_margin_is_a_higher_score(
    confidence: Confidence, low: float, more: float, surprise: float, share: float
) -> None:
    # Also among hundreds of nats, where a score that was rounded would stand still.
    found = confidence.score(evidence(surprise, [low, low + more], share, 20.0))
    assert found[1] >= found[0]
    if more > 1e-4 * abs(low):
        assert found[1] > found[0]


@pytest.mark.parametrize("confidence", [Confidence(), *SHIPPED])
def test_more_evidence_without_a_rival_is_a_higher_score(confidence: Confidence) -> None:
    # Without another track for the part, the margin grows with the surprise.
    surprise = np.linspace(-20.0, 5_000.0, 400)
    found = confidence.score(evidence(surprise, surprise + 9.0, 0.1, 20.0))
    assert np.all(np.diff(found) > 0)
    assert found[0] < 0.5 < 0.95 < found[-1] < 1.0


@pytest.mark.parametrize("confidence", SHIPPED)
def test_a_rival_of_the_same_strength_leaves_the_answer_open(confidence: Confidence) -> None:
    for surprise in (10.0, 100.0, 1_000.0):
        assert confidence.score(evidence(surprise, 0.0, 0.1, 20.0))[0] < 0.5


def test_json_round_trip() -> None:
    confidence = Confidence((0.1, -2.5, 1e-9, 3.0, 4.0))
    text = json.dumps({**confidence.to_json(), "brier_score": 0.1})
    assert Confidence.from_json(json.loads(text)) == confidence
    assert set(confidence.to_json()["weights"]) == set(NAMES)
    assert Confidence.from_json({}) == Confidence()


@pytest.mark.parametrize(
    "calibration",
    [
        {"weights": None},
        {"weights": [1, 2, 3, 4, 5]},
        {"weights": {}},
        {"weight": dict.fromkeys(NAMES, 1.0)},
        {"weights": dict.fromkeys(NAMES[:-1], 1.0)},
        {"weights": {**dict.fromkeys(NAMES, 1.0), "more": 1.0}},
        {"weights": {**dict.fromkeys(NAMES, 1.0), "margin": math.nan}},
        {"weights": {**dict.fromkeys(NAMES, 1.0), "margin": math.inf}},
        {"weights": {**dict.fromkeys(NAMES, 1.0), "margin": "much"}},
        {"weights": {**dict.fromkeys(NAMES, 1.0), "margin": None}},
        {"weights": {**dict.fromkeys(NAMES, 1.0), "margin": [1.0]}},
        [1.0],
        "weights",
    ],
)
def test_a_damaged_calibration_is_named(calibration: Any) -> None:
    with pytest.raises(ModelError, match="the model's calibration") as caught:
        Confidence.from_json(calibration)
    assert "\n" not in str(caught.value)


def drawn(n: int, seed: int, weights: tuple[float, ...]) -> Answers:
    """Matches whose truth a known logistic decides."""
    rng = np.random.default_rng(seed)
    found = Evidence(
        rng.normal(5, 40, n), rng.normal(0, 40, n), rng.uniform(0, 0.3, n), rng.uniform(1, 80, n)
    )
    right = rng.random(n) < Confidence(weights).score(found)
    return Answers(found, right, np.ones(n, dtype=np.int64))


def test_a_known_logistic_is_recovered() -> None:
    # The decay pulls weights towards 0 a little: they are near, and the scores nearer.
    weights = (-1.0, 0.8, 1.2, 0.0, -0.3)
    answers = drawn(40_000, 1, weights)
    fitted = fit(answers)
    np.testing.assert_allclose(fitted.weights, weights, atol=0.15)
    true = Confidence(weights).score(answers.evidence)
    assert np.abs(fitted.score(answers.evidence) - true).mean() < 0.01


@pytest.mark.parametrize("seed", [2, 3])
def test_a_fitted_score_is_calibrated(seed: int) -> None:
    weights = (-2.0, 0.2, 2.0, 1.0, 0.1)
    fitted = fit(drawn(5_000, seed, weights))
    unheard = drawn(20_000, seed + 100, weights)
    scores = fitted.score(unheard.evidence)
    assert calibration_error(scores, unheard.right) < 0.02
    # The weights of no calibration would be off.
    assert calibration_error(Confidence().score(unheard.evidence), unheard.right) > 0.05


def test_matches_that_separate_perfectly_have_finite_weights() -> None:
    surprise = np.concatenate((np.full(50, -10.0), np.full(50, 300.0)))
    for right in (surprise > 0, np.ones(100, bool), np.zeros(100, bool)):
        answers = Answers(evidence(surprise, surprise), right, np.ones(100, dtype=np.int64))
        fitted = fit(answers)
        assert np.isfinite(fitted.weights).all()
        scores = fitted.score(answers.evidence)
        assert np.all((scores > 0.5) == right)
        assert Confidence.from_json(fitted.to_json()) == fitted
