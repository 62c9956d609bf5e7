from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import ward as scipy_ward

from hashing.clusters import agglomerate as module
from hashing.clusters.agglomerate import agglomerate


def greedy(
    centroids: np.ndarray, sizes: np.ndarray, apart: set[tuple[int, int]]
) -> tuple[list[float], set[frozenset[int]]]:
    """Ward's method by the book: of all pairs the nearest, again and again."""
    parts = [
        ({row}, float(size), point)
        for row, (size, point) in enumerate(zip(sizes, centroids, strict=True))
    ]
    heights: list[float] = []
    while True:
        best = (np.inf, -1, -1)
        for i, (rows, size, point) in enumerate(parts):
            for j, (other_rows, other_size, other) in enumerate(parts[:i]):
                if any(
                    (a in rows and b in other_rows) or (b in rows and a in other_rows)
                    for a, b in apart
                ):
                    continue
                weight = 2 * size * other_size / (size + other_size)
                best = min(best, (float(np.sqrt(weight * ((point - other) ** 2).sum())), i, j))
        height, i, j = best
        if i < 0:
            return heights, {frozenset(rows) for rows, _, _ in parts}
        (rows, size, point), (other_rows, other_size, other) = parts[i], parts[j]
        union = (
            rows | other_rows,
            size + other_size,
            (size * point + other_size * other) / (size + other_size),
        )
        parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [union]
        heights.append(height)


def parts_left(n: int, merges: module.Merges) -> set[frozenset[int]]:
    parts = {row: {row} for row in range(n)}
    for one, other in zip(merges.first.tolist(), merges.second.tolist(), strict=True):
        assert parts[one] is not parts[other]
        union = parts[one] | parts[other]
        for row in union:
            parts[row] = union
    return {frozenset(part) for part in parts.values()}


@pytest.mark.parametrize(
    ("n", "d", "spread"), [(2, 1, 1.0), (30, 2, 1.0), (300, 16, 0.3), (700, 64, 3.0)]
)
def test_heights_are_those_of_scipy(n: int, d: int, spread: float) -> None:
    rng = np.random.default_rng(n)
    centres = rng.standard_normal((1 + n // 20, d))
    points = centres[rng.integers(len(centres), size=n)] + spread * rng.standard_normal((n, d))
    merges, left = agglomerate(points, np.ones(n))
    np.testing.assert_allclose(np.sort(merges.heights), scipy_ward(points)[:, 2], rtol=1e-9)
    assert left.size == 1


def test_chains_of_neighbours_give_the_same_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    points = rng.standard_normal((200, 8))
    apart = [(i, i + 100) for i in range(40)]
    rounds, left = agglomerate(points, np.ones(200), apart)
    monkeypatch.setattr(module, "_SEARCHES_PER_TRACK", 0)
    chains, chains_left = agglomerate(points, np.ones(200), apart)
    np.testing.assert_allclose(np.sort(chains.heights), np.sort(rounds.heights), rtol=1e-12)
    assert parts_left(200, chains) == parts_left(200, rounds)
    assert left.size == chains_left.size


def test_a_hub_does_not_take_a_search_of_all_for_each_merge() -> None:
    # A point in the middle of a simplex is the nearest of all others, merge after merge.
    n = 150
    points = np.vstack((np.zeros((1, n)), np.eye(n)))
    merges, _ = agglomerate(points, np.ones(n + 1))
    np.testing.assert_allclose(np.sort(merges.heights), scipy_ward(points)[:, 2], rtol=1e-9)
    counted = []
    search = module._State.search

    def counting(self: module._State, places: np.ndarray) -> None:
        counted.append(places.size)
        search(self, places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._State, "search", counting)
        agglomerate(points, np.ones(n + 1))
    assert sum(counted) < 25 * n


@given(data=st.data())
def test_constraints_and_sizes_agree_with_the_book(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    seed = data.draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, data.draw(st.integers(1, 3))))
    sizes = rng.integers(1, 6, size=n).astype(float)
    rows = st.integers(0, n - 1)
    pairs = data.draw(
        st.sets(st.tuples(rows, rows).filter(lambda pair: pair[0] != pair[1]), max_size=8)
    )
    merges, left = agglomerate(points, sizes, pairs)
    heights, parts = greedy(points, sizes, pairs)
    np.testing.assert_allclose(np.sort(merges.heights), np.sort(heights), rtol=1e-8, atol=1e-12)
    assert parts_left(n, merges) == parts
    assert len(parts) == left.size
    assert all(sum(int(row) in part for row in left) == 1 for part in parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SEARCHES_PER_TRACK", 0)
        chains, _ = agglomerate(points, sizes, pairs)
    assert parts_left(n, chains) == parts


def test_ties_end() -> None:
    grid = np.array([[float(i), float(j)] for i in range(8) for j in range(8)])
    merges, left = agglomerate(grid, np.ones(64))
    assert merges.heights.size == 63
    assert left.size == 1
    assert np.isclose(merges.heights.min(), 1.0)


def test_nothing_and_one() -> None:
    assert agglomerate(np.zeros((0, 4)), np.zeros(0))[1].size == 0
    assert agglomerate(np.zeros((1, 4)), np.ones(1))[1].tolist() == [0]


def test_memory_does_not_grow_with_the_square() -> None:
    n, d = 3000, 16
    points = np.random.default_rng(1).standard_normal((n, d))
    tracemalloc.start()
    agglomerate(points, np.ones(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6  # a matrix of all distances takes 72 MB, half of one 36
