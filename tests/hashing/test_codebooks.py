"""Codebooks: which centroid is the nearest, and what k-means and rotations make of vectors."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from hashing.codebooks import Codebooks, fit_opq, fit_pq, order_centroids


def random_books(seed: int, m: int, width: int, centroids: int = 256) -> Codebooks:
    return Codebooks(np.random.default_rng(seed).standard_normal((m, centroids, width)))


def correlated(seed: int, n: int, d: int) -> np.ndarray:
    """Vectors whose dimensions depend on each other, with variances that differ."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return ((rng.standard_normal((n, d)) / np.arange(1, d + 1)) @ turn).astype(np.float32)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 16, 256]), st.integers(1, 4)),
    n=st.integers(0, 20),
)
def test_costs_are_half_the_squared_distances_but_for_a_constant(
    seed: int, shape: tuple[int, int, int], n: int
) -> None:
    m, centroids, width = shape
    books = random_books(seed, m, width, centroids)
    vectors = np.random.default_rng(seed + 1).standard_normal((n, m * width)).astype(np.float32)
    parts = vectors.reshape(n, m, 1, width).astype(np.float64)
    distances = np.square(parts - books.centroids[None]).sum(axis=3)
    found = books.costs(vectors)
    assert (found.shape, found.dtype) == ((n, m, centroids), np.float32)
    constant = np.square(parts).sum(axis=3)
    np.testing.assert_allclose(2 * found + constant, distances, atol=2e-5)
    packed = books.encode(vectors)
    assert (packed.shape, packed.dtype) == ((n, m), np.uint8)
    chosen = np.take_along_axis(distances, packed[:, :, None].astype(int), axis=2)
    np.testing.assert_allclose(chosen, distances.min(axis=2, keepdims=True), atol=2e-5)


def test_one_codebook_is_vector_quantisation() -> None:
    # Corners of a square, numbered by hand; the nearest one of a whole vector.
    books = Codebooks(np.array([[[0.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 4.0]]]))
    vectors = np.array([[1.0, 3.5], [3.0, 3.0], [5.0, -1.0], [-9.0, 1.9]], np.float32)
    packed = books.encode(vectors)
    assert packed.tolist() == [[1], [3], [2], [0]]
    assert books.decode(packed).tolist() == [[0, 4], [4, 4], [4, 0], [0, 0]]


def test_rows_beyond_a_block_are_encoded_as_those_within() -> None:
    books = random_books(3, m=2, width=2)
    vectors = np.random.default_rng(4).standard_normal((1030, 4)).astype(np.float32)
    packed = books.encode(vectors)
    for rows in (slice(500, 530), slice(1020, 1030)):
        np.testing.assert_array_equal(packed[rows], books.encode(vectors[rows]))


def test_codes_are_those_of_faiss():
    books = random_books(1, m=4, width=3)
    responses = np.random.default_rng(2).standard_normal((3000, 12)).astype(np.float32)
    reference = faiss.ProductQuantizer(12, 4, 8)
    faiss.copy_array_to_vector(books.centroids.ravel(), reference.centroids)
    theirs = reference.compute_codes(responses)
    assert np.mean(books.encode(responses) == theirs) > 0.999  # but for rounding
    np.testing.assert_array_equal(books.decode(theirs), reference.decode(theirs))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Codebooks(np.zeros((256, 2))), "codebooks must be"),
        (lambda: Codebooks(np.zeros((0, 256, 2))), "codebooks must be"),
        (lambda: Codebooks(np.full((1, 256, 2), np.inf)), "must be finite"),
        (lambda: random_books(1, 2, 3).encode(np.zeros((1, 5), np.float32)), r"\[n, 6\]"),
        (lambda: random_books(1, 2, 3).costs(np.zeros(6, np.float32)), r"\[n, 6\]"),
        (lambda: random_books(1, 2, 3).decode(np.zeros((1, 3), np.uint8)), r"codes \(1, 3\)"),
        (lambda: random_books(1, 2, 3).decode(np.zeros(2, np.uint8)), r"codes \(2,\)"),
        (lambda: random_books(1, 1, 1, 257).encode(np.zeros((1, 1), np.float32)), "number 257"),
    ],
)
def test_what_does_not_fit_is_refused(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()  # type: ignore[operator]


def test_order_of_centroids_on_a_line():
    # On a line, the halves are the smaller and the larger half, at every level.
    values = np.random.default_rng(3).standard_normal((256, 1))
    ordered = values[order_centroids(values), 0]
    for size in (128, 64, 32, 16, 8, 4, 2, 1):
        groups = ordered.reshape(-1, 2, size)
        low, high = groups[:, 0], groups[:, 1]
        below = low.max(axis=1) < high.min(axis=1)
        above = low.min(axis=1) > high.max(axis=1)
        assert np.all(below | above)


def test_a_shorter_key_is_a_coarser_cell():
    """Centroids that share leading bits lie together, much more so than if drawn at random."""
    centroids = np.random.default_rng(4).standard_normal((256, 4))
    order = order_centroids(centroids)
    assert sorted(order) == list(range(256))
    for bits in (1, 2, 3, 4, 5, 6):
        groups = centroids[order].reshape(1 << bits, -1, 4)
        spread = np.square(groups - groups.mean(axis=1, keepdims=True)).sum() / 256
        random = np.square(centroids - centroids.mean(axis=0)).sum() / 256
        assert spread < random * (1 - 0.12 * bits)


def distortion(items: np.ndarray, rotation: np.ndarray, books: np.ndarray) -> float:
    found = Codebooks(books)
    values = items @ rotation
    return float(np.square(values - found.decode(found.encode(values))).sum(axis=1).mean())


def test_codebooks_lose_as_little_as_those_of_scikit_learn():
    items = correlated(9, 1500, 8)
    fit = fit_pq(items, n_bytes=2)
    theirs = [
        KMeans(256, n_init=1, init="random", max_iter=25, random_state=1).fit(part)
        for part in (items[:, :4], items[:, 4:])
    ]
    ours = distortion(items, fit.rotation, fit.codebooks)
    assert ours == pytest.approx(sum(k.inertia_ for k in theirs) / len(items), rel=0.05)


def test_turning_first_loses_no_more_than_faiss_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hashing.codebooks.OPQ_ROUNDS", 25)
    vectors = correlated(10, 2000, 16)
    items, other = vectors[:1000], vectors[1000:]
    fit = fit_opq(items, n_bytes=2)
    np.testing.assert_allclose(fit.rotation @ fit.rotation.T, np.eye(16), atol=1e-5)
    reference = faiss.index_factory(16, "OPQ2,PQ2x8np")
    reference.train(items)
    theirs = np.square(reference.sa_decode(reference.sa_encode(other)) - other).sum(axis=1).mean()
    ours = distortion(other, fit.rotation, fit.codebooks)
    assert ours < 1.03 * theirs
    plain = fit_pq(items, n_bytes=2)
    assert ours < 0.98 * distortion(other, plain.rotation, plain.codebooks)


@pytest.mark.parametrize("fitter", [fit_pq, fit_opq])
def test_parts_of_unequal_width_are_filled_up(fitter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hashing.codebooks.OPQ_ROUNDS", 3)
    monkeypatch.setattr("hashing.codebooks.PQ_ROUNDS", 3)
    items = correlated(11, 400, 7)
    fit = fitter(items, n_bytes=3)
    assert fit.rotation.shape == (7, 9)
    assert fit.codebooks.shape == (3, 256, 3)
    # Distances are kept: the two columns too many hold nothing.
    np.testing.assert_allclose(fit.rotation @ fit.rotation.T, np.eye(7), atol=1e-5)
    again = fitter(items, n_bytes=3)
    np.testing.assert_array_equal(again.codebooks, fit.codebooks)
    assert np.abs(fitter(items, n_bytes=3, seed=1).codebooks - fit.codebooks).max() > 1e-3


def test_centroids_that_nothing_is_near_are_put_to_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hashing.codebooks.PQ_ROUNDS", 40)
    # 300 places, most items at few of them: drawn centroids coincide, and must be moved away.
    rng = np.random.default_rng(12)
    items = np.concatenate((np.zeros((600, 4)), rng.standard_normal((300, 4)) * 10))
    fit = fit_pq(items, n_bytes=2)
    for column in Codebooks(fit.codebooks).encode(items @ fit.rotation).T:
        assert len(np.unique(column)) > 200


@pytest.mark.parametrize("fitter", [fit_pq, fit_opq])
def test_what_cannot_be_fitted_says_why(fitter):
    with pytest.raises(ValueError, match="255 embeddings are fewer than 256 centroids"):
        fitter(np.zeros((255, 4)), n_bytes=2)
    for n_bytes in (-1, 0, 5):
        with pytest.raises(ValueError, match=f"cannot be cut into {n_bytes} parts"):
            fitter(np.zeros((300, 4)), n_bytes=n_bytes)


@pytest.mark.parametrize("fitter", [fit_pq, fit_opq])
def test_one_byte_is_one_codebook_over_the_whole_vector(fitter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hashing.codebooks.OPQ_ROUNDS", 25)
    items = correlated(13, 1500, 5)
    fit = fitter(items, n_bytes=1)
    assert (fit.rotation.shape, fit.codebooks.shape) == ((5, 5), (1, 256, 5))
    np.testing.assert_allclose(fit.rotation @ fit.rotation.T, np.eye(5), atol=1e-5)
    theirs = KMeans(256, n_init=1, init="random", max_iter=25, random_state=1).fit(items)
    ours = distortion(items, fit.rotation, fit.codebooks)
    assert ours == pytest.approx(theirs.inertia_ / len(items), rel=0.05)
    # Numbers that share leading bits lie together, so that keys may be shorter.
    halves = fit.codebooks[0].reshape(2, 128, 5)
    within = np.square(halves - halves.mean(axis=1, keepdims=True)).sum()
    assert within < 0.85 * np.square(fit.codebooks - fit.codebooks.mean(axis=1)).sum()
