from __future__ import annotations

import itertools
from collections.abc import Callable

import faiss
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from hashing import binary, codes, neighbours
from hashing.codebooks import fit_opq, fit_pq
from hashing.neighbours import Neighbours
from hashing.quantization import ProductQuantizer

N, D = 1200, 16


def embeddings(seed: int, n: int) -> np.ndarray:
    """Clustered embeddings of length one."""
    centres = np.random.default_rng(0).standard_normal((40, D))
    rng = np.random.default_rng(seed)
    values = centres[rng.integers(40, size=n)] + 0.5 * rng.standard_normal((n, D))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


ITEMS, QUERIES = embeddings(1, N), embeddings(2, 30)

MAKERS: dict[str, Callable[[], Neighbours]] = {
    "exact": neighbours.Exact,
    "pq-scan": lambda: neighbours.PqScan(n_bytes=4),
    "opq-scan": lambda: neighbours.OpqScan(n_bytes=4),
    "ivf": lambda: neighbours.Ivf(lists=20),
    "ivf-pq": lambda: neighbours.IvfPq(n_bytes=4, lists=20),
    "ivf-rabitq": lambda: neighbours.IvfRabitq(lists=20),
    "hnsw": lambda: neighbours.Hnsw(links=8),
    "binary-multi-index": lambda: neighbours.BinaryMultiIndex(
        binary.random_projection(ITEMS, 32), piece_bits=8
    ),
}


@pytest.fixture(scope="module")
def built() -> dict[str, Neighbours]:
    """Every index, built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hashing.codebooks.OPQ_ROUNDS", 5)
        patch.setattr("hashing.codebooks.PQ_ROUNDS", 5)
        indexes = {name: make() for name, make in MAKERS.items()}
        for index in indexes.values():
            index.build(ITEMS)
    return indexes


@pytest.mark.parametrize("name", MAKERS)
def test_answers_have_one_form(built: dict[str, Neighbours], name: str):
    index = built[name]
    assert index.name == name
    assert list(index.efforts) == sorted(set(index.efforts))
    for effort in index.efforts:
        found = index.search(QUERIES, effort, k=5)
        assert (found.ids.shape, found.ids.dtype) == ((30, 5), np.int64)
        assert (found.scores.shape, found.scores.dtype) == ((30, 5), np.float32)
        assert (found.examined.shape, found.examined.dtype) == ((30,), np.int64)
        assert found.ids.min() >= -1
        assert found.ids.max() < N
        # The best first, nothing twice, and no score where there is no id.
        previous, following = found.scores[:, :-1], found.scores[:, 1:]
        assert np.all((following <= previous + 1e-6) | (following == -np.inf))
        np.testing.assert_array_equal(found.ids < 0, found.scores == -np.inf)
        for row in found.ids.tolist():
            there = [i for i in row if i >= 0]
            assert len(set(there)) == len(there)
    assert faiss.omp_get_max_threads() == 1


def test_exact_agrees_with_scikit_learn(built: dict[str, Neighbours]):
    found = built["exact"].search(QUERIES, 1, k=7)
    reference = NearestNeighbors(n_neighbors=7, metric="cosine").fit(ITEMS)
    distances, ids = reference.kneighbors(QUERIES)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.scores, 1.0 - distances, atol=1e-5)
    assert found.examined.tolist() == [N] * 30


def test_all_lists_hold_the_truth(built: dict[str, Neighbours]):
    index, truth = built["ivf"], built["exact"].search(QUERIES, 1, k=5)
    for effort in (20, 500):
        found = index.search(QUERIES, effort, k=5)
        np.testing.assert_array_equal(found.ids, truth.ids)
        np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)
        assert found.examined.tolist() == [N] * 30


@pytest.mark.parametrize(
    ("name", "within", "hits"),
    [
        ("pq-scan", 0.05, 0.6),
        ("opq-scan", 0.05, 0.6),
        ("ivf-pq", 0.05, 0.6),
        ("ivf-rabitq", 0.12, 0.6),
    ],
)
def test_coarse_scores_are_near_the_cosine(
    built: dict[str, Neighbours], name: str, within: float, hits: float
):
    index = built[name]
    found = index.search(QUERIES, index.efforts[-1], k=5)
    cosines = np.einsum("qd,qkd->qk", QUERIES, ITEMS[found.ids])
    assert np.abs(found.scores - cosines).mean() < within
    truth = built["exact"].search(QUERIES, 1, k=1).ids
    assert np.mean((found.ids == truth).any(axis=1)) > hits


@pytest.mark.parametrize(("name", "fitter"), [("pq-scan", fit_pq), ("opq-scan", fit_opq)])
def test_a_scan_ranks_as_the_product_quantizer_does(
    built: dict[str, Neighbours], name: str, fitter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hashing.codebooks.OPQ_ROUNDS", 5)
    monkeypatch.setattr("hashing.codebooks.PQ_ROUNDS", 5)
    fit = fitter(ITEMS, 4, neighbours.SEED)
    quantizer = ProductQuantizer(fit.codebooks)
    packed = quantizer.encode(ITEMS @ fit.rotation)
    scores = quantizer.byte_scores(QUERIES @ fit.rotation)
    totals = scores[:, np.arange(4), packed].sum(axis=2)
    found = built[name].search(QUERIES, 1, k=5)
    assert found.examined.tolist() == [N] * 30
    chosen = np.take_along_axis(totals, found.ids, axis=1)
    np.testing.assert_allclose(chosen, -np.sort(-totals, axis=1)[:, :5], atol=1e-4)


@pytest.mark.parametrize("name", ["ivf", "ivf-pq", "ivf-rabitq"])
def test_examined_are_the_items_of_the_lists_looked_into(built: dict[str, Neighbours], name: str):
    index = built[name]
    assert index.fixed_comparisons == 20
    inner = index._index
    lists = [
        set(faiss.rev_swig_ptr(inner.invlists.get_ids(i), inner.invlists.list_size(i)).tolist())
        for i in range(20)
    ]
    assert sorted(itertools.chain(*lists)) == list(range(N))
    for effort in (1, 3):
        found = index.search(QUERIES, effort, k=N)
        returned = (found.ids >= 0).sum(axis=1)
        # Asked for as many as there are, a search returns all that it has examined.
        np.testing.assert_array_equal(found.examined, returned)
        for row in found.ids.tolist():
            met = {i for i in row if i >= 0}
            assert sum(met >= members for members in lists if members) >= effort
            assert met == set().union(*[members for members in lists if met & members])


def test_more_effort_finds_more_and_examines_more(built: dict[str, Neighbours]):
    truth = built["exact"].search(QUERIES, 1, k=10).ids
    for name in ("ivf", "hnsw", "binary-multi-index"):
        index = built[name]
        recall, examined = [], []
        for effort in index.efforts:
            found = index.search(QUERIES, effort, k=10)
            recall.append(
                np.mean([len(set(a) & set(b)) for a, b in zip(found.ids, truth, strict=True)])
            )
            examined.append(found.examined.mean())
        assert examined == sorted(examined)
        assert recall[-1] >= recall[0]
        assert examined[-1] > examined[0] > 0
    assert np.mean(built["hnsw"].search(QUERIES, 512, k=10).ids == truth) > 0.99


@pytest.mark.parametrize("flips", [0, 1, 2])
def test_a_multi_index_meets_what_differs_little_in_a_piece(flips: int):
    hashed = binary.random_projection(ITEMS, 32)
    index = neighbours.BinaryMultiIndex(hashed, piece_bits=8)
    index.build(ITEMS)
    found = index.search(QUERIES, flips, k=N)
    stored, asked = hashed.encode(ITEMS), hashed.encode(QUERIES)
    # Pieces of eight bits are the bytes of the code.
    piece = np.bitwise_count(asked[:, None] ^ stored[None])
    meetings = (piece <= flips).sum(axis=2)
    distance = piece.sum(axis=2, dtype=np.int64)
    for row in range(len(QUERIES)):
        met = np.flatnonzero(meetings[row])
        there = found.ids[row][found.ids[row] >= 0]
        assert sorted(there) == met.tolist()
        np.testing.assert_allclose(
            found.scores[row, : met.size], np.sort(1 - distance[row, met] / 32)[::-1]
        )
    # An item that is met in two pieces is compared once or twice, as faiss likes, but counted so.
    assert np.all(found.examined >= (meetings > 0).sum(axis=1))
    assert np.all(found.examined <= meetings.sum(axis=1))
    np.testing.assert_array_equal(codes.hamming(asked[:, None], stored[None]), distance)


def test_bytes_are_those_of_the_index_on_disk(built: dict[str, Neighbours]):
    size = {name: index.bytes_per_item for name, index in built.items()}
    assert 4 * D <= size["exact"] < 4 * D + 1
    centroids = 256 * D * 4 / N
    assert size["pq-scan"] == pytest.approx(4 + centroids + D * D * 4 / N, abs=1)
    assert size["ivf"] == pytest.approx(4 * D + 8 + 20 * D * 4 / N, abs=2)
    assert size["ivf-pq"] == pytest.approx(4 + 8 + centroids + 20 * D * 4 / N, abs=2)
    assert size["hnsw"] > 4 * D + 8 * 4
    assert 4 + 4 * 1 < size["binary-multi-index"] < 4 + 4 * 8 + 8


@pytest.mark.parametrize("name", MAKERS)
def test_misuse_says_what_is_wrong(name: str):
    index = MAKERS[name]()
    with pytest.raises(ValueError, match=f"{name} is searched before it is built"):
        index.search(QUERIES, 1)


def test_efforts_below_the_least_are_refused(built: dict[str, Neighbours]):
    for name in ("ivf", "hnsw", "exact"):
        with pytest.raises(ValueError, match="effort=0 must be 1 or more"):
            built[name].search(QUERIES, 0)
    with pytest.raises(ValueError, match="effort=-1 must be 0 or more"):
        built["binary-multi-index"].search(QUERIES, -1)
    with pytest.raises(ValueError, match="12 bits cannot be cut into pieces of 8"):
        neighbours.BinaryMultiIndex(binary.random_projection(ITEMS, 12), piece_bits=8)


def test_building_again_replaces_what_was_there():
    for make in (MAKERS["ivf"], MAKERS["hnsw"], MAKERS["binary-multi-index"]):
        index = make()
        index.build(ITEMS)
        index.build(ITEMS[:100])
        found = index.search(QUERIES, index.efforts[-1], k=10)
        assert 0 <= found.ids.max() < 100
