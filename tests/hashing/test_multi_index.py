"""The inverted multi-index, against all cells sorted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.multi_index import MultiIndex, cells_of, fit_codebooks


def brute_force(index: MultiIndex, query: np.ndarray, wanted: int) -> tuple[list[int], list[float]]:
    """Items of the nearest cells, and the distances of those cells, from all of them sorted."""
    width = index.codebooks.shape[2]
    costs = [
        ((index.codebooks[side].astype(np.float64) - query[side * width : (side + 1) * width]) ** 2)
        .sum(axis=1)
        for side in (0, 1)
    ]  # fmt: skip
    sums = (costs[0][:, None] + costs[1]).ravel()
    items, found = list[int](), list[float]()
    for cell in np.argsort(sums, kind="stable"):
        if len(items) >= wanted:
            break
        own = index.rows[index.offsets[cell] : index.offsets[cell + 1]]
        items += own.tolist()
        found += [float(sums[cell])] * len(own)
    return items, found


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 80), st.integers(0, 100), st.integers(0, 2**32 - 1))
def test_candidates_are_those_of_the_nearest_cells(k: int, n: int, wanted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    books = rng.standard_normal((2, k, 3)).astype(np.float32)
    values = rng.standard_normal((n, 6)).astype(np.float32)
    index = MultiIndex.build(values, books)
    query = rng.standard_normal(6).astype(np.float32)
    found = index.rows[index.candidates(query, wanted)]
    items, _ = brute_force(index, query, wanted)
    assert found.tolist() == items
    assert len(found) >= min(wanted, n)
    assert len(set(found.tolist())) == len(found)


def test_cells_are_the_nearest_centroids() -> None:
    rng = np.random.default_rng(1)
    books = rng.standard_normal((2, 7, 4)).astype(np.float32)
    values = rng.standard_normal((9000, 8)).astype(np.float32)  # more than a block
    near = [
        ((values[:, None, part] - books[side]) ** 2).sum(axis=2).argmin(axis=1)
        for side, part in ((0, slice(0, 4)), (1, slice(4, 8)))
    ]
    assert (cells_of(values, books) == near[0] * 7 + near[1]).mean() > 0.9999


def test_a_few_cells_hold_nearly_all_neighbours() -> None:
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((40, 16)) * 3
    values = (centres[rng.integers(0, 40, 8000)] + rng.standard_normal((8000, 16))).astype(
        np.float32
    )
    index = MultiIndex.build(values, fit_codebooks(values, 16))
    kept = []
    for query in values[:50]:
        near = np.argsort(((values - query) ** 2).sum(axis=1))[:20]
        found = index.rows[index.candidates(query, 800)]  # a tenth
        assert len(found) < 1600
        kept.append(np.isin(near, found).mean())
    assert np.mean(kept) > 0.85


def test_the_same_seed_gives_the_same_codebooks() -> None:
    values = np.random.default_rng(4).standard_normal((500, 6)).astype(np.float32)
    assert np.array_equal(fit_codebooks(values, 8, seed=2), fit_codebooks(values, 8, seed=2))
    assert not np.array_equal(fit_codebooks(values, 8, seed=2), fit_codebooks(values, 8, seed=3))


@pytest.mark.parametrize(
    ("values", "centroids", "words"),
    [
        (np.zeros((5, 3)), 2, "two halves"),
        (np.full((5, 4), np.nan), 2, "finite"),
        (np.zeros((5, 4)), 6, "no 6 centroids"),
    ],
)
def test_items_that_have_no_codebooks(values: np.ndarray, centroids: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_codebooks(values, centroids)


@pytest.mark.parametrize(
    ("offsets", "rows", "words"),
    [
        ([0, 1, 2], [0, 1], "4 cells"),
        ([0, 1, 0, 1, 2], [0, 1], "4 cells"),
        ([0, 1, 1, 1, 1], [0, 1], "4 cells of 2"),
    ],
)
def test_arrays_of_strangers(offsets: list[int], rows: list[int], words: str) -> None:
    books = np.zeros((2, 2, 1), np.float32)
    with pytest.raises(ValueError, match=words):
        MultiIndex(books, np.array(offsets), np.array(rows))
    with pytest.raises(ValueError, match="finite"):
        MultiIndex(np.full((2, 2, 1), np.nan), np.array(offsets), np.array(rows))
