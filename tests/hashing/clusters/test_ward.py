from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, is_monotonic, is_valid_linkage
from scipy.cluster.hierarchy import ward as scipy_ward
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from hashing.clusters import ward as module
from hashing.clusters.links import LinkError, linked_groups
from hashing.clusters.ward import Clustering, ward


def singers(rng: np.random.Generator, *sizes: int, d: int = 8, spread: float = 0.2) -> np.ndarray:
    """Unit vectors around a direction for each of some singers, one after another."""
    centres = np.repeat(rng.standard_normal((len(sizes), d)), sizes, axis=0)
    points = centres + spread * rng.standard_normal(centres.shape)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def whole(found: Clustering, n: int) -> None:
    """What every clustering holds."""
    assert found.labels.dtype == np.int32
    assert found.confidence.dtype == np.float32
    assert found.labels.shape == found.confidence.shape == (n,)
    assert found.linkage.shape == (max(0, n - 1), 4)
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert list(dict.fromkeys(found.labels.tolist())) == list(range(1, found.n_clusters + 1))
    if n > 1:
        assert is_valid_linkage(found.linkage)
        assert is_monotonic(found.linkage)
        cut = fcluster(found.linkage, found.cut, "distance")
        assert adjusted_rand_score(cut, found.labels) == 1.0


@pytest.mark.parametrize("small", [0, 10**6])
@pytest.mark.parametrize("cut", [0.3, 1.0, 2.0])
def test_clusters_are_those_of_scipy_and_scikit_learn(
    cut: float, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SMALL", small)
    points = singers(np.random.default_rng(3), 40, 25, 10, 1)
    found = ward(points.astype(np.float32), cut)
    whole(found, 76)
    expected = scipy_ward(points.astype(np.float32))
    np.testing.assert_allclose(found.linkage[:, 2:], expected[:, 2:], rtol=1e-9)
    for labels in (
        fcluster(expected, cut, "distance"),
        AgglomerativeClustering(None, distance_threshold=cut).fit_predict(points),
    ):
        assert adjusted_rand_score(labels, found.labels) == 1.0


@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), cut=st.floats(0.2, 4.0))
def test_the_order_of_tracks_does_not_matter(seed: int, n: int, cut: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 4))
    links = rng.integers(0, n, (3, 2))
    one = linked(points, cut, links)
    order = rng.permutation(n)
    place = np.argsort(order)
    other = linked(points[order], cut, place[links])
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        whole(one, n)
        assert adjusted_rand_score(one.labels[order], other.labels) == 1.0
        np.testing.assert_allclose(one.confidence[order], other.confidence, atol=1e-5)


def linked(points: np.ndarray, cut: float, links: np.ndarray) -> Clustering | None:
    pairs = [(int(one), int(other)) for one, other in links]
    try:
        return ward(points, cut, pairs[:2], pairs[2:])
    except LinkError:
        return None


@given(data=st.data())
def test_links_are_honoured(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 30))
    points = np.random.default_rng(data.draw(st.integers(0, 10**6))).standard_normal((n, 3))
    if data.draw(st.booleans()):
        points = points.round(0)  # with equal ones
    cut = data.draw(st.sampled_from([0.01, 0.5, 2.0, 100.0]))
    pair = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    must, cannot = data.draw(st.lists(pair, max_size=8)), data.draw(st.lists(pair, max_size=8))
    try:
        linked_groups(n, must, cannot)
    except LinkError:
        with pytest.raises(LinkError):
            ward(points, cut, must, cannot)
        return
    found = ward(points, cut, must, cannot)
    whole(found, n)
    for one, other in must:
        assert found.labels[one] == found.labels[other]
    for one, other in cannot:
        assert found.labels[one] != found.labels[other]
    if found.forced:
        assert found.linkage[-found.forced :, 2].min() > cut


def test_must_links_are_merged_first_and_count_as_one() -> None:
    points = np.array([[0.0], [10.0], [4.0], [20.0]])
    found = ward(points, 3.0, must_link=[(0, 1)])
    # 4 is sqrt(4 / 3) from the centroid 5 of the first two.
    np.testing.assert_allclose(found.linkage[0], [0, 1, 0, 2])
    np.testing.assert_allclose(found.linkage[1], [2, 4, np.sqrt(4 / 3), 3])
    assert found.labels.tolist() == [1, 1, 1, 2]


def test_what_an_editor_has_decided_is_certain() -> None:
    rng = np.random.default_rng(8)
    points = rng.standard_normal((6, 3))
    found = ward(points, 1.0, [(0, 1), (1, 2), (3, 4), (4, 5)], [(0, 5)])
    assert found.labels.tolist() == [1, 1, 1, 2, 2, 2]
    assert found.confidence.tolist() == [1.0] * 6
    assert found.doubt() == 0.0
    assert found.forced == 1
    assert found.bounds().tolist() == [[0.0, np.inf]] * 2


def test_a_cluster_kept_from_one_may_merge_with_another() -> None:
    points = np.array([[0.0], [1.0], [2.5]])
    assert ward(points, 2.0).labels.tolist() == [1, 1, 2]
    assert ward(points, 2.0, cannot_link=[(0, 1)]).labels.tolist() == [1, 2, 2]


@pytest.mark.parametrize("n", [2, 60, 1000])
def test_equal_embeddings_are_one_cluster_without_doubt(n: int) -> None:
    point = np.random.default_rng(0).standard_normal(32).astype(np.float32)
    for points in (np.tile(point, (n, 1)), np.zeros((n, 32))):
        found = ward(points, 0.001)
        whole(found, n)
        assert found.n_clusters == 1
        assert not found.linkage[:, 2].any()
        assert found.confidence.tolist() == [1.0] * n
    # The same within others, through the way of large groups, and kept apart where told.
    points = np.vstack((np.tile(point, (n, 1)), -np.tile(point, (n, 1)), point + 0.001))
    found = ward(points, 0.5, cannot_link=[(0, 1)])
    whole(found, 2 * n + 1)
    assert found.n_clusters == 3
    assert found.labels[0] != found.labels[1]
    assert len(set(found.labels[n : 2 * n].tolist())) == 1


def test_few_tracks() -> None:
    assert ward(np.zeros((0, 4)), 1.0).labels.size == 0
    assert ward(np.zeros((0, 4)), 1.0).doubt() == 0.0
    one = ward(np.ones((1, 4)), 1.0)
    whole(one, 1)
    assert (one.labels.tolist(), one.confidence.tolist(), one.doubt()) == ([1], [1.0], 0.0)
    assert one.bounds().tolist() == [[0.0, np.inf]]
    near, far = ward([[0.0], [0.1]], 1.0), ward([[0.0], [9.0]], 1.0)
    assert (near.labels.tolist(), far.labels.tolist()) == ([1, 1], [1, 2])
    assert near.bounds().tolist() == [[0.1, np.inf]]
    assert far.bounds().tolist() == [[0.0, 9.0]] * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 5, 500])
def test_broken_embeddings_are_refused(bad: float, n: int) -> None:
    points = np.zeros((n, 3), dtype=np.float32)
    points[n // 2, 1] = bad
    with pytest.raises(ValueError, match=f"1 of {n} embeddings have NaN .* track {n // 2}:"):
        ward(points, 1.0)


def test_wrong_arguments_are_refused() -> None:
    points = np.zeros((3, 2))
    for cut in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="the cut must be"):
            ward(points, cut)
    with pytest.raises(ValueError, match="the spread must be"):
        ward(points, 1.0, spread=0.0)
    with pytest.raises(ValueError, match=r"must be \[tracks, dimensions\]"):
        ward(np.zeros(3), 1.0)
    with pytest.raises(ValueError, match="names track 3"):
        ward(points, 1.0, must_link=[(0, 3)])


def test_two_clear_artists_are_less_doubtful_than_two_close_ones() -> None:
    rng = np.random.default_rng(4)
    clear = ward(singers(rng, 20, 20, d=32, spread=0.1), 1.5)
    close = ward(singers(rng, 40, d=32, spread=1.0), 1.5)
    assert clear.labels.tolist() == [1] * 20 + [2] * 20
    assert clear.doubt() < 0.1 < close.doubt() < 1.0
    assert clear.cluster_confidence().shape == (2,)
    weights = np.bincount(close.labels)[1:]
    mean = np.average(close.cluster_confidence(), weights=weights)
    assert mean == pytest.approx(1 - close.doubt(), abs=1e-6)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), cut=st.floats(0.2, 5.0))
def test_bounds_are_where_a_cluster_is_one(seed: int, n: int, cut: float) -> None:
    points = np.random.default_rng(seed).standard_normal((n, 3))
    found = ward(points, cut)
    bounds = found.bounds()
    assert bounds.shape == (found.n_clusters, 2)
    for number, (low, high) in enumerate(bounds, 1):
        assert low <= cut < high
        rows = set(np.flatnonzero(found.labels == number).tolist())
        for other_cut, same in (
            (low, True),
            (np.nextafter(high, 0), True),
            (np.nextafter(low, 0), False),
            (high, False),
        ):
            if not 0 < other_cut < np.inf:
                continue
            labels = ward(points, other_cut).labels
            there = set(np.flatnonzero(labels == labels[min(rows)]).tolist())
            assert (there == rows) == same


def test_large_groups_take_little_memory_and_time() -> None:
    n = 4000
    points = singers(np.random.default_rng(2), *[40] * 100, d=32).astype(np.float32)
    started = time.process_time()
    found = ward(points, 3.0)
    assert time.process_time() - started < 10  # 0.4 s where it was written
    assert found.n_clusters == 100
    assert adjusted_rand_score(np.repeat(np.arange(100), 40), found.labels) > 0.95
    tracemalloc.start()
    ward(points, 3.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # half a matrix of all distances takes 64 MB
    assert n == found.labels.size
