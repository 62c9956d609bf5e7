from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from hashing.clusters.typical import distances_to_centre, edge_tracks, typical_tracks


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30))
def test_the_first_is_the_medoid(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points, labels = rng.standard_normal((n, 4)), rng.integers(1, 4, n)
    found = typical_tracks(points, labels, count=2)
    assert list(found) == sorted(set(labels.tolist()))
    for label, rows in found.items():
        own = np.flatnonzero(labels == label)
        squares = cdist(points[own], points[own], "sqeuclidean").mean(axis=1)
        assert rows == own[np.argsort(squares)][:2].tolist()


@given(seed=st.integers(0, 10**6), n=st.integers(2, 30))
def test_edges_are_nearest_to_another_centre(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points, labels = rng.standard_normal((n, 4)) + 5.0, rng.integers(1, 4, n)
    names = sorted(set(labels.tolist()))
    centres = np.array([points[labels == name].mean(axis=0) for name in names])
    squares = cdist(points, centres, "sqeuclidean")
    found = edge_tracks(points, labels, count=n)
    for number, name in enumerate(names):
        own = np.flatnonzero(labels == name)
        if len(names) == 1:
            assert found[name] == []
            continue
        assert sorted(row for row, _ in found[name]) == own.tolist()
        others = np.delete(squares, number, axis=1)
        lost = [others[row].min() - squares[row, number] for row, _ in found[name]]
        assert lost == sorted(lost)
        for row, other in found[name]:
            assert squares[row, names.index(other)] == others[row].min()


def test_by_hand() -> None:
    points, labels = [[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [9.0, 9.0]], [2, 2, 2, 1]
    np.testing.assert_allclose(distances_to_centre(points, labels), [10 / 3, 5 / 3, 5 / 3, 0])
    assert typical_tracks(points, labels) == {1: [3], 2: [1, 2, 0]}


def test_equal_tracks_come_in_their_order() -> None:
    point = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    assert typical_tracks(np.repeat(point, 1000, axis=0), np.ones(1000)) == {1: [0, 1, 2]}


def test_a_listener_hears_several_albums() -> None:
    points = np.array([[0.0], [0.1], [-0.2], [0.4], [-0.5]])
    albums = ["x", "x", "y", None, None]
    assert typical_tracks(points, np.ones(5), 5) == {1: [0, 1, 2, 3, 4]}
    assert typical_tracks(points, np.ones(5), 5, albums) == {1: [0, 2, 3, 4, 1]}
    assert typical_tracks(points, np.ones(5), 2, albums) == {1: [0, 2]}


def test_nothing_and_wrong_sizes() -> None:
    assert typical_tracks(np.zeros((0, 3)), []) == {}
    assert edge_tracks(np.zeros((0, 3)), []) == {}
    with pytest.raises(ValueError, match="2 labels for embeddings"):
        typical_tracks(np.zeros((3, 3)), [1, 2])
