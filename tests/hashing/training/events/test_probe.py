"""The linear probe, against scikit-learn's logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import training_fixture  # noqa: F401  (torch on one thread)
from sklearn.linear_model import LogisticRegression

from hashing.training.events.labels import LabelSets
from hashing.training.events.probe import PENALTY, Probe, fit_probe, one_thread


def clips(n: int, versions: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [n, versions, 6] of three classes that overlap, not in one scale, and classes."""
    rng = np.random.default_rng(seed)
    of = np.concatenate([np.arange(3), rng.integers(3, size=n - 3)])
    centres = 2 * rng.standard_normal((3, 6))
    found = centres[of][:, None] + 1.5 * rng.standard_normal((n, versions, 6))
    return (found * [1, 5, 0.2, 1, 30, 1] + [0, 3, 0, -9, 0, 0]).astype(np.float32), of


def test_it_is_logistic_regression() -> None:
    values, of = clips(80, 2)
    names = np.array(["oboe", "flute", "drum"])[of]
    probe = fit_probe(values, LabelSets.from_clips([[name] for name in names]))
    assert probe.labels == ("drum", "flute", "oboe")
    flat = values.reshape(-1, 6)
    mean, deviation = flat.mean(axis=0, dtype=np.float64), flat.std(axis=0, ddof=1)
    # Half the squares against C times the sum, not the mean, of losses.
    model = LogisticRegression(C=1 / (2 * PENALTY * len(flat)), tol=1e-8, max_iter=2000)
    model.fit((flat - mean) / deviation, np.repeat(names, 2))
    for embeddings in (flat, clips(50, 1, seed=2)[0][:, 0]):
        expected = model.predict_proba((embeddings - mean) / deviation)
        np.testing.assert_allclose(probe.probabilities(embeddings), expected, atol=2e-3)
    # It has learned something that there is to learn, and not by heart.
    right = probe.probabilities(flat).argmax(axis=1) == 2 - np.repeat(of, 2)
    assert 0.8 < right.mean() < 1


def test_a_clip_of_two_labels_is_half_of_either() -> None:
    values, of = clips(60, 1)
    sets = [["a", "b"] if one == 0 else ["ab"[one - 1]] for one in of]
    probe = fit_probe(values, LabelSets.from_clips(sets))
    flat = values[:, 0].astype(np.float64)
    x = np.concatenate([flat, flat])
    y = np.array([one[0] for one in sets] + [one[-1] for one in sets])
    mean, deviation = flat.mean(axis=0), flat.std(axis=0, ddof=1)
    # Of two classes scikit-learn has one row of weights, the difference of ours: twice the squares
    # of our two rows, so half of the penalty.
    model = LogisticRegression(C=1 / (PENALTY * 60), tol=1e-8, max_iter=2000)
    model.fit((x - mean) / deviation, y, np.full(120, 0.5))
    expected = model.predict_proba((flat - mean) / deviation)
    np.testing.assert_allclose(probe.probabilities(values[:, 0]), expected, atol=2e-3)


def test_probabilities_and_their_roots_by_hand() -> None:
    probe = Probe(("a", "b"), np.array([[0.0, np.log(3)]], np.float32), np.zeros(2, np.float32))
    one = np.array([[1.0], [0.0], [-1.0]], np.float32)
    halves = np.array([[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]])
    np.testing.assert_allclose(probe.probabilities(one), halves, atol=1e-6)
    np.testing.assert_allclose(probe.roots(one), np.sqrt(halves), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(probe.roots(one), axis=1), 1, atol=1e-6)
    # Numbers that have no exponential.
    large = probe.probabilities(np.array([[1000.0]], np.float32))
    np.testing.assert_allclose(large, [[0, 1]])


def test_a_number_that_never_changes_is_no_trouble() -> None:
    values, of = clips(30, 1)
    values[:, :, 2] = 7.0
    probe = fit_probe(values, LabelSets.from_clips([[str(one)] for one in of]))
    assert np.isfinite(probe.weights).all()
    assert probe.probabilities(values[:, 0]).sum(axis=1) == pytest.approx(np.ones(30), abs=1e-5)


def test_one_thread() -> None:
    torch.set_num_threads(2)
    one_thread()
    assert torch.get_num_threads() == 1
