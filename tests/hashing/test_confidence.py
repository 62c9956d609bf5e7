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

N = len(NAMES)


def evidence(strength: Any, **values: Any) -> Evidence:
    """Evidence for matches of one snippet or more, whatever is not told being usual."""
    usual: dict[str, Any] = {
        "similarity": 0.6,
        "rival": math.nan,
        "mean": 0.1,
        "deviation": 0.05,
        "snippets": 4.0,
        "contrast": 12.0,
        "norm": 5.0,
    }
    columns = np.broadcast_arrays(strength, *({**usual, **values}.values()))
    return Evidence(*(np.atleast_1d(np.asarray(column, dtype=float)) for column in columns))


def weights_of(**values: float) -> tuple[float, ...]:
    return tuple(values.get(name, 0.0) for name in NAMES)


# --- the inputs


def test_inputs_by_hand() -> None:
    # Eight snippets: 0.7 each beyond chance, the rival 0.3 each, chance 0.1 ± 0.04.
    found = evidence(
        5.6, similarity=0.9, rival=2.4, mean=0.8, deviation=0.32, snippets=8.0, norm=math.e
    ).inputs()
    length = math.log(8)
    distance = math.asinh((0.7 - 0.1) / 0.05 / 4)
    expected = {
        "intercept": 1.0,
        "similarity": 0.9,
        "margin": 0.4,
        "ratio": 0.4 / 0.6,
        "distance": distance,
        "snippets": length,
        "similarity_snippets": 0.9 * length,
        "margin_snippets": 0.4 * length,
        "distance_snippets": distance * length,
        "contrast": 1.2,
        "norm": 1.0,
        "contrast_snippets": 1.2 * length,
        "norm_snippets": length,
        "similarity_contrast": 0.9 * 1.2,
        "similarity_norm": 0.9,
    }
    np.testing.assert_allclose(found, [[expected[name] for name in NAMES]])


def test_what_is_missing_is_taken_as_nothing() -> None:
    # A list of one track: no rival and no chance are zero, give or take 0.05 a snippet.
    alone = evidence(2.0, mean=math.nan, deviation=math.nan, snippets=1.0).inputs()
    same = evidence(2.0, rival=0.0, mean=0.0, deviation=0.05, snippets=1.0).inputs()
    np.testing.assert_array_equal(alone, same)
    # No snippets and no norm cannot be, and do no harm.
    assert np.isfinite(evidence(0.0, snippets=0.0, norm=0.0).inputs()).all()
    # A rival that leaves nothing to win does not divide by nothing.
    assert np.isfinite(evidence(1.0, rival=4.0).inputs()).all()


def test_the_shape_of_the_evidence_is_kept() -> None:
    found = evidence(np.zeros((2, 3)))
    assert found.inputs().shape == (2, 3, N)
    assert Confidence().score(found).shape == (2, 3)
    row = found.take(1)
    assert row.inputs().shape == (3, N)
    assert row.take(2).strength.shape == ()
    assert row.take(np.array([True, False, True])).rival.shape == (2,)
    assert found.take(np.empty(0, np.int64)).inputs().shape == (0, 3, N)


# --- the score


def test_score_by_hand() -> None:
    confidence = Confidence(weights_of(intercept=1.0, similarity=0.5, margin=-2.0, snippets=0.25))
    found = confidence.score(evidence(3.2, similarity=0.8, rival=0.8, snippets=4.0))
    logit = 1 + 0.5 * 0.8 - 2 * 0.6 + 0.25 * math.log(4)
    np.testing.assert_allclose(found, [1 / (1 + math.exp(-logit))])


values = st.floats(-1e4, 1e4)


@given(
    strength=values,
    similarity=st.floats(-1, 2),
    rival=st.one_of(values, st.just(math.nan)),
    mean=st.one_of(values, st.just(math.nan)),
    deviation=st.one_of(st.floats(0, 1e4), st.just(math.nan)),
    snippets=st.floats(0, 1e5),
    contrast=st.floats(0, 100),
    norm=st.floats(0, 1e4),
)
def test_a_score_is_a_probability(strength: float, **found: float) -> None:
    extreme = Confidence(tuple(1e6 * (-1) ** at for at in range(N)))
    for confidence in (Confidence(), extreme):
        score = confidence.score(evidence(strength, **found))[0]
        assert 0.0 <= score <= 1.0


def test_without_a_calibration_the_margin_decides() -> None:
    strength = np.linspace(0.0, 4.0, 50)
    scores = Confidence().score(evidence(strength, rival=0.4))
    assert np.all(np.diff(scores) > 0)
    assert scores[0] < 0.1 < 0.9 < scores[-1] < 1.0
    rivals = Confidence().score(evidence(3.0, rival=np.linspace(0.0, 3.0, 50)))
    assert np.all(np.diff(rivals) < 0)
    assert np.all(np.diff(Confidence().score(evidence(2.0, similarity=strength))) > 0)


def shipped(name: str) -> Confidence:
    return Confidence.from_json(load_model(name).config["calibration"])


@pytest.mark.parametrize("name", list_models())
def test_shipped_models_prefer_what_fits_better_than_its_rival(name: str) -> None:
    confidence = shipped(name)
    assert -1.0 < confidence.chance < 0.6
    for snippets in (1.0, 8.0, 40.0):
        # A true match: well beyond chance, its rival near chance; and one as strong as its rival.
        strong = confidence.score(
            evidence(
                0.5 * snippets,
                similarity=confidence.chance + 0.5,
                rival=0.05 * snippets,
                mean=0.02 * snippets,
                deviation=0.02 * snippets,
                snippets=snippets,
                norm=50.0,  # as music in moderate noise has it
            )
        )[0]
        level = confidence.score(
            evidence(
                0.1 * snippets,
                similarity=confidence.chance + 0.1,
                rival=0.1 * snippets,
                mean=0.05 * snippets,
                deviation=0.02 * snippets,
                snippets=snippets,
                norm=50.0,  # as music in moderate noise has it
            )
        )[0]
        assert level < 0.5
        assert strong > level + 0.2
        if snippets > 1:
            assert strong > 0.5


# --- the model's file


def test_json_round_trip() -> None:
    confidence = Confidence(tuple(np.random.default_rng(1).normal(size=N).tolist()), 0.2)
    text = json.dumps({**confidence.to_json(), "brier_score": 0.1})
    assert Confidence.from_json(json.loads(text)) == confidence
    assert set(confidence.to_json()["weights"]) == set(NAMES)
    assert Confidence.from_json({}) == Confidence()
    # The order in the file is of no importance.
    weights = dict(reversed(confidence.to_json()["weights"].items()))
    assert Confidence.from_json({"weights": weights, "chance": 0.2}) == confidence


ONES = dict.fromkeys(NAMES, 1.0)


@pytest.mark.parametrize(
    "calibration",
    [
        {"weights": None},
        {"weights": [1.0] * N, "chance": 0.1},
        {"weights": {}, "chance": 0.1},
        {"weight": ONES, "chance": 0.1},
        {"weights": {name: 1.0 for name in NAMES[:-1]}, "chance": 0.1},
        {"weights": {**ONES, "surprise": 1.0}, "chance": 0.1},
        {"weights": {**ONES, "margin": math.nan}, "chance": 0.1},
        {"weights": {**ONES, "margin": math.inf}, "chance": 0.1},
        {"weights": {**ONES, "margin": "much"}, "chance": 0.1},
        {"weights": {**ONES, "margin": None}, "chance": 0.1},
        {"weights": {**ONES, "margin": [1.0]}, "chance": 0.1},
        {"weights": ONES},
        {"weights": ONES, "chance": None},
        {"weights": ONES, "chance": math.nan},
        {"weights": ONES, "chance": "0.1"},
        [1.0],
        "weights",
    ],
)
def test_a_damaged_calibration_is_named(calibration: Any) -> None:
    with pytest.raises(ModelError, match="the model's calibration") as caught:
        Confidence.from_json(calibration)
    assert "\n" not in str(caught.value)


# --- the fit


def drawn(n: int, seed: int, confidence: Confidence) -> Answers:
    """Matches whose truth a known logistic decides."""
    rng = np.random.default_rng(seed)
    snippets = rng.integers(1, 30, n).astype(float)
    strength = rng.uniform(0, 0.8, n)
    found = Evidence(
        strength * snippets,
        strength + rng.uniform(0.1, 0.4, n),
        rng.uniform(0, 0.5, n) * snippets,
        rng.uniform(0, 0.2, n) * snippets,
        rng.uniform(0.01, 0.1, n) * snippets,
        snippets,
        rng.uniform(5, 15, n),
        rng.uniform(1, 9, n),
    )
    right = rng.random(n) < confidence.score(found)
    return Answers(found, right, np.ones(n, dtype=np.int64))


def test_a_known_logistic_is_recovered() -> None:
    true = Confidence(weights_of(intercept=-1.0, similarity=0.8, margin=4.0, snippets=-0.3))
    answers = drawn(40_000, 1, true)
    fitted = fit(answers, chance=0.3)
    assert fitted.chance == 0.3
    # The inputs have much in common, so weights may differ where scores do not.
    difference = fitted.score(answers.evidence) - true.score(answers.evidence)
    assert np.abs(difference).mean() < 0.015


@pytest.mark.parametrize("seed", [2, 3])
def test_a_fitted_score_is_calibrated(seed: int) -> None:
    true = Confidence(weights_of(intercept=-2.0, similarity=0.2, margin=5.0, distance=1.0))
    fitted = fit(drawn(5_000, seed, true))
    unheard = drawn(20_000, seed + 100, true)
    scores = fitted.score(unheard.evidence)
    assert calibration_error(scores, unheard.right) < 0.02
    # The weights of no calibration would be off.
    assert calibration_error(Confidence().score(unheard.evidence), unheard.right) > 0.05


def test_matches_that_separate_perfectly_have_finite_weights() -> None:
    strength = np.concatenate((np.full(50, 0.1), np.full(50, 2.0)))
    for right in (strength > 1, np.ones(100, bool), np.zeros(100, bool)):
        answers = Answers(evidence(strength), right, np.ones(100, dtype=np.int64))
        fitted = fit(answers)
        assert np.isfinite(fitted.weights).all()
        scores = fitted.score(answers.evidence)
        assert np.all((scores > 0.5) == right)
        assert Confidence.from_json(fitted.to_json()) == fitted
