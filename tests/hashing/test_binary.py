from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from scipy.stats import iqr
from sklearn.decomposition import PCA

from hashing import binary, codes

FITTERS = {
    "random": binary.random_projection,
    "pca": binary.pca,
    "itq": binary.itq,
    "transport": binary.optimal_transport,
}


def embeddings(seed: int, n: int, d: int) -> np.ndarray:
    """Clustered embeddings of length one with a falling spectrum, about a mean that is not zero."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 20), d)) / np.arange(1, d + 1) ** 0.5
    values = centres[rng.integers(len(centres), size=n)] + 0.3 * rng.standard_normal((n, d)) + 0.1
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def entropy(keys: np.ndarray) -> float:
    share = np.unique(keys, return_counts=True)[1] / keys.size
    return float(-(share * np.log2(share)).sum())


@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), bits=st.integers(1, 70))
def test_thresholds_are_medians_and_spreads_half_the_quartiles(seed: int, n: int, bits: int):
    items = embeddings(seed, n, 5)
    weights = np.random.default_rng(seed).standard_normal((5, bits))
    hashed = binary.with_medians(items, weights)
    responses = items.astype(np.float64) @ weights
    np.testing.assert_allclose(hashed.thresholds, np.median(responses, axis=0), atol=1e-5)
    expected = iqr(responses, axis=0) / 2
    np.testing.assert_allclose(hashed.spreads, np.where(expected > 0, expected, 1.0), atol=1e-5)
    assert np.all(hashed.spreads > 0)
    bits_set = codes.unpack(hashed.encode(items), bits)
    np.testing.assert_array_equal(bits_set, hashed.responses(items) > hashed.thresholds)


@pytest.mark.parametrize("name", FITTERS)
def test_every_bit_is_fair_on_what_it_was_fitted_to(name: str):
    items = embeddings(1, 501, 24)
    hashed = FITTERS[name](items, bits=16)
    assert hashed.weights.shape == (24, 16)
    share = codes.unpack(hashed.encode(items), 16).mean(axis=0)
    np.testing.assert_allclose(share, 0.5, atol=2 / 501)


@pytest.mark.parametrize("name", FITTERS)
def test_the_same_arguments_give_the_same_hash(name: str):
    items = embeddings(2, 300, 8)
    first, second = FITTERS[name](items, bits=6), FITTERS[name](items, bits=6)
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.thresholds, second.thresholds)
    if name != "pca":
        assert np.abs(FITTERS[name](items, bits=6, seed=5).weights - first.weights).max() > 1e-3


@pytest.mark.parametrize("degrees", [10, 60, 120])
def test_random_projections_tell_the_angle(degrees: float):
    # Symmetric about zero, so that medians are at zero and Charikar's law is exact.
    rng = np.random.default_rng(3)
    half = rng.standard_normal((200, 4))
    hashed = binary.random_projection(np.concatenate((half, -half)), bits=20_000)
    a = np.deg2rad(degrees)
    pair = np.array([[1.0, 0, 0, 0], [np.cos(a), np.sin(a), 0, 0]])
    differing = float(np.mean(np.diff(hashed.responses(pair) > 0, axis=0)))
    sigma = np.sqrt(degrees / 180 * (1 - degrees / 180) / 20_000)
    assert differing == pytest.approx(degrees / 180, abs=4 * sigma)


def test_principal_directions_agree_with_scikit_learn():
    items = embeddings(4, 500, 12)
    found = binary.pca(items, bits=12).weights
    expected = PCA(svd_solver="full").fit(items.astype(np.float64)).components_.T
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1.0, atol=1e-3)
    with pytest.raises(ValueError, match="12 dimensions have no 13 principal directions"):
        binary.pca(items, bits=13)


def cube_error(items: np.ndarray, weights: np.ndarray) -> float:
    """ITQ's own loss: the squared distance to the nearest corner of the cube."""
    values = (items - items.mean(axis=0)).astype(np.float64) @ weights
    return float(np.mean(np.square(np.where(values > 0, 1.0, -1.0) - values)))


def test_itq_turns_as_near_to_the_corners_as_others_do():
    items = embeddings(5, 1000, 16) * 8.0  # about as long as a corner: the loss is not all length
    centred = items - items.mean(axis=0)
    start = binary.itq(items, bits=16, rounds=0).weights
    found = binary.itq(items, bits=16).weights
    np.testing.assert_allclose(found.T @ found, np.eye(16), atol=1e-5)
    # The alternation itself, with scipy's Procrustes, from the same start.
    turn = start.astype(np.float64)
    for _ in range(binary.ITQ_ROUNDS):
        turn = orthogonal_procrustes(centred, np.where(centred @ turn > 0, 1.0, -1.0))[0]
    assert cube_error(items, found) == pytest.approx(cube_error(items, turn), rel=0.005)
    assert cube_error(items, found) < 0.95 * cube_error(items, start)
    # faiss's, from a start of its own.
    reference = faiss.ITQMatrix(16)
    reference.train(np.ascontiguousarray(centred))
    theirs = faiss.vector_to_array(reference.A).reshape(16, 16).T
    assert cube_error(items, found) < 1.02 * cube_error(items, theirs)


def test_itq_finds_a_square_that_was_turned():
    rng = np.random.default_rng(6)
    corners = rng.choice([-1.0, 1.0], (1000, 2)) + rng.normal(0, 0.1, (1000, 2))
    turned = corners @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    bits = codes.unpack(binary.itq(turned, bits=2).encode(turned), 2)
    # Each bit is one side of the square, or its opposite.
    agreement = np.abs(np.corrcoef(bits.T, (corners > 0).T)[:2, 2:])
    assert agreement.max(axis=1).min() > 0.9
    assert sorted(agreement.argmax(axis=1)) == [0, 1]


@pytest.mark.parametrize("fitter", [binary.itq, binary.optimal_transport])
def test_full_whitening_leaves_nothing_in_common(fitter):
    items = embeddings(7, 1000, 12)
    responses = fitter(items, bits=12, rounds=4, whitening=1.0).responses(items)
    np.testing.assert_allclose(np.cov(responses.T), np.eye(12), atol=0.01)
    plain = np.cov(fitter(items, bits=12, rounds=4, whitening=0.0).responses(items).T)
    correlation = plain / np.sqrt(np.outer(np.diag(plain), np.diag(plain)))
    assert np.abs(correlation - np.eye(12)).max() > 0.1


@settings(max_examples=30)
@given(bits=st.integers(1, 90), key_bits=st.integers(1, 20))
def test_more_bits_than_dimensions_come_from_several_cubes(bits: int, key_bits: int):
    items = embeddings(8, 60, 20)
    hashed = binary.optimal_transport(items, bits, key_bits=key_bits, rounds=1, whitening=0.0)
    assert hashed.weights.shape == (20, bits)
    # No two bits are the same or each other's opposite, and those of a key are at right angles.
    products = np.abs(hashed.weights.T @ hashed.weights)
    np.testing.assert_allclose(np.diag(products), 1.0, atol=1e-4)
    np.fill_diagonal(products, 0.0)
    assert products.max(initial=0.0) < 0.999
    for first in range(0, bits, key_bits):
        key = slice(first, first + key_bits)
        assert products[key, key].max(initial=0.0) < 1e-4


def test_balanced_corners_by_hand():
    # Two items for each of two corners: the upper two get the upper corner although all are above.
    found = binary.balanced_corners(np.array([[4.0], [1.0], [3.0], [2.0]]), 0.01, 2000)
    np.testing.assert_allclose(found.ravel(), [1, -1, 1, -1], atol=0.01)
    # Three items for two corners: the middle one is cut in two.
    found = binary.balanced_corners(np.array([[4.0], [1.0], [2.0]]), 0.01, 2000)
    np.testing.assert_allclose(found.ravel(), [1, -1, 0], atol=0.01)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), copies=st.integers(1, 2))
def test_balanced_corners_are_the_best_even_assignment(seed: int, copies: int):
    """Entropy costs at most ``blur * log(corners)`` of the best even assignment's gain."""
    rng = np.random.default_rng(seed)
    cube = np.array([[(c >> k & 1) * 2.0 - 1.0 for k in range(3)] for c in range(8)])
    responses = rng.standard_normal((8 * copies, 3))
    gains = responses @ np.repeat(cube, copies, axis=0).T
    best = gains[linear_sum_assignment(gains, maximize=True)].mean()
    blur = 0.1
    found = binary.balanced_corners(responses, blur, 3000)
    gain = float(np.sum(responses * found, axis=1).mean())
    assert best - blur * np.log(8) - 1e-3 <= gain <= best + 1e-3
    # Every corner carries as much, so each coordinate averages zero.
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-3)
    assert np.abs(found).max() <= 1.0 + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_transport_fills_buckets_of_other_embeddings_more_evenly_than_itq(seed: int):
    rng = np.random.default_rng(seed)
    # A falling spectrum with heavy tails: turning alone leaves bits that depend on each other.
    items = rng.laplace(size=(5000, 16)) / np.arange(1, 17)
    train, other = items[:1000], items[1000:]
    plain = binary.itq(train, 16, seed=seed).encode(other)
    even = binary.optimal_transport(train, 16, key_bits=8, seed=seed, whitening=0.0).encode(other)
    for table in (0, 1):
        assert entropy(even[:, table]) > entropy(plain[:, table]) + 0.05
    assert np.mean([entropy(even[:, t]) - entropy(plain[:, t]) for t in (0, 1)]) > 0.2


def test_a_response_that_never_varies_is_no_bit_in_doubt():
    hashed = binary.with_medians(np.array([[1.0, 2.0], [1.0, 5.0], [1.0, 9.0]]), np.eye(2))
    assert hashed.spreads.tolist() == [1.0, 1.75]
    assert hashed.encode(np.array([[1.0, 6.0]])).tolist() == [[2]]


@pytest.mark.parametrize("name", FITTERS)
def test_what_cannot_be_fitted_says_why(name: str):
    items = embeddings(11, 20, 4)
    with pytest.raises(ValueError, match="bits=0 must be 1 or more"):
        FITTERS[name](items, bits=0)
    for wrong in (np.empty((0, 4)), np.zeros(4)):
        with pytest.raises(ValueError, match="embeddings must be"):
            FITTERS[name](wrong, bits=2)
    with pytest.raises(ValueError, match="finite"):
        FITTERS[name](np.array([[np.nan, 1.0]]), bits=1)
    with pytest.raises(ValueError, match="do not fit"):
        binary.with_medians(items, np.ones((3, 2)))
