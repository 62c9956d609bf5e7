"""Search among codes of clips, against vectors that are compared one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.events.search import ClipIndex, centroids_for, fit_halves
from hashing.quantization import ProductQuantizer


def random_books(m: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, 256, width)).astype(np.float32)


def brute_force(
    index: ClipIndex, queries: np.ndarray, symmetric: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Distances [n] to the nearest of the queries, and which it is."""
    quantizer = ProductQuantizer(index.quantizer.codebooks)
    if symmetric:
        queries = quantizer.decode(quantizer.encode(queries))
    stand_for = quantizer.decode(index.codes).astype(np.float64)
    all_of_them = ((stand_for[:, None] - queries) ** 2).sum(axis=2)
    return all_of_them.min(axis=1), all_of_them.argmin(axis=1)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(1, 3), (1, 4), (2, 2), (3, 1), (8, 2)]),
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(1, 70),
    st.booleans(),
    st.sampled_from([None, 1.0]),
    st.integers(0, 99),
)
def test_the_nearest_are_those_of_brute_force(
    size: tuple[int, int],
    n: int,
    windows: int,
    top: int,
    symmetric: bool,
    share: float | None,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    index = ClipIndex(rng.integers(0, 256, (n, size[0]), np.uint8), random_books(*size))
    queries = rng.standard_normal((windows, size[0] * size[1])).astype(np.float32)
    near = index.nearest(queries, top, symmetric=symmetric, share=share)
    wanted, window = brute_force(index, queries, symmetric)
    assert len(near.rows) == min(n, top)
    np.testing.assert_allclose(near.distances, np.sort(wanted)[:top], atol=1e-4)
    np.testing.assert_allclose(near.distances, wanted[near.rows], atol=1e-4)
    assert (np.diff(near.distances) >= 0).all()
    if not symmetric:  # codes of two windows may be one
        assert (near.windows == window[near.rows]).all()


@pytest.mark.parametrize("size", [(1, 6), (1, 5), (2, 4), (8, 3)])
def test_a_share_of_the_cells_finds_nearly_all_neighbours(size: tuple[int, int]) -> None:
    """Clusters of 50: a tenth of the codes holds the nearest ten of nearly all queries."""
    rng = np.random.default_rng(2)
    books = random_books(*size)
    quantizer = ProductQuantizer(books)
    centres = rng.standard_normal((40, size[0] * size[1])) * 1.5
    values = (np.repeat(centres, 50, axis=0) + 0.2 * rng.standard_normal((2000, 1))).astype("f4")
    index = ClipIndex(quantizer.encode(values), books)
    kept, compared = [], []
    for query in values[::40]:
        full = index.nearest(query[None], 10).distances
        some = index.nearest(query[None], 10, share=0.1)
        compared.append(len(index._candidates(query[None], 0.1)))
        assert (some.distances >= full - 1e-6).all()
        kept.append(np.isclose(some.distances, full, atol=1e-6).mean())
    assert np.mean(kept) > 0.95
    assert min(compared) >= 200
    # A cell comes whole: one byte has few cells, and what is alike is in one of them.
    assert np.mean(compared) < (900 if size[0] == 1 else 450)


def test_ranks_within_a_share_are_by_the_codes_of_all_windows() -> None:
    """What is a candidate for one window is compared with the others, too."""
    rng = np.random.default_rng(3)
    index = ClipIndex(rng.integers(0, 256, (500, 4), np.uint8), random_books(4, 2))
    queries = rng.standard_normal((3, 8)).astype(np.float32)
    near = index.nearest(queries, 20, share=0.05)
    wanted, window = brute_force(index, queries, False)
    np.testing.assert_allclose(near.distances, wanted[near.rows], atol=1e-4)
    assert (near.windows == window[near.rows]).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=20),
    st.integers(1, 25),
    st.sampled_from([None, 0.3, 1.0]),
    st.integers(0, 99),
)
def test_one_window_of_each_recording(
    sizes: list[int], top: int, share: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    recordings = np.repeat(np.arange(len(sizes)) * 3, sizes)
    codes = rng.integers(0, 4, (len(recordings), 2), np.uint8)  # many are equal
    index = ClipIndex(codes, random_books(2, 2), recordings)
    query = rng.standard_normal((2, 4)).astype(np.float32)
    every = index.nearest(query, len(codes), share=share)
    best: dict[int, tuple[int, float]] = {}
    for row, distance in zip(every.rows.tolist(), every.distances.tolist(), strict=True):
        best.setdefault(int(recordings[row]), (row, distance))
    near = index.nearest(query, top, share=share, one_each=True)
    found = list(zip(near.rows.tolist(), near.distances.tolist(), strict=True))
    assert [distance for _, distance in found] == [d for _, d in list(best.values())[:top]]
    for row, distance in found:
        assert best[int(recordings[row])] == (row, distance)


def test_an_empty_index_finds_nothing() -> None:
    index = ClipIndex(np.empty((0, 2), np.uint8), random_books(2, 2), np.empty(0, np.int64))
    for share in (None, 0.5, 1.0):
        near = index.nearest(np.zeros((1, 4), np.float32), 5, share=share, one_each=True)
        assert [len(part) for part in (near.rows, near.distances, near.windows)] == [0, 0, 0]


def test_what_does_not_fit_is_refused() -> None:
    books = random_books(2, 2)
    codes = np.zeros((3, 2), np.uint8)
    index = ClipIndex(codes, books)
    query = np.zeros((1, 4), np.float32)
    for share in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share"):
            index.nearest(query, 1, share=share)
    with pytest.raises(ValueError, match="responses"):
        index.nearest(np.zeros((0, 4), np.float32), 1)
    with pytest.raises(ValueError, match="do not fit"):
        index.nearest(np.zeros((1, 5), np.float32), 1)
    with pytest.raises(ValueError, match="not told"):
        index.nearest(query, 1, one_each=True)
    with pytest.raises(ValueError, match="do not fit"):
        ClipIndex(np.zeros((3, 3), np.uint8), books)
    for recordings in ([0, 1], [1, 0, 0]):
        with pytest.raises(ValueError, match="never fall"):
            ClipIndex(codes, books, np.array(recordings))


def test_few_different_vectors_are_centroids_themselves() -> None:
    values = np.repeat(np.array([[1, 2], [5, 6]], np.float32), 50, axis=0)
    books = fit_halves(values, 4)
    assert books.shape == (2, 4, 1)
    assert np.unique(books[0]).tolist() == [1, 5]
    assert np.unique(books[1]).tolist() == [2, 6]


def test_centroids_are_better_than_those_drawn() -> None:
    """Of well separated clusters, k-means comes near their deviation."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 8)) * 10
    values = (centres[rng.integers(0, 6, 900)] + 0.1 * rng.standard_normal((900, 8))).astype("f4")

    def error(books: np.ndarray) -> float:
        return float(((values[:, None, :4] - books[0]) ** 2).sum(axis=2).min(axis=1).mean())

    assert error(fit_halves(values, 12)) < error(fit_halves(values[:14], 12))
    assert np.array_equal(fit_halves(values, 12, seed=1), fit_halves(values, 12, seed=1))


def test_cells_grow_with_the_index() -> None:
    sizes = [centroids_for(n) for n in (0, 1, 4, 64, 1024, 10**6, 10**9)]
    assert sizes == [1, 1, 1, 4, 16, 256, 256]
