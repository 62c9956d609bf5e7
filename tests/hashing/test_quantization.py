from __future__ import annotations

import functools
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from hashing.errors import ModelError
from hashing.models import save_model
from hashing.quantization import ProductQuantizer, fit_opq, fit_pq, order_centroids
from hashing.quantizers import open_quantizer


def random_quantizer(seed: int, m: int = 4, width: int = 2) -> ProductQuantizer:
    """Random centroids, numbered as fitted ones are."""
    books = np.random.default_rng(seed).standard_normal((m, 256, width)).astype(np.float32)
    return ProductQuantizer(np.stack([book[order_centroids(book)] for book in books]))


def correlated(seed: int, n: int, d: int) -> np.ndarray:
    """Vectors whose dimensions depend on each other, with variances that differ."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return ((rng.standard_normal((n, d)) / np.arange(1, d + 1)) @ turn).astype(np.float32)


def squared_distances(quantizer: ProductQuantizer, responses: np.ndarray) -> np.ndarray:
    """To every centroid of each part, [n, m, 256], in double precision."""
    m, _, width = quantizer.codebooks.shape
    parts = responses.reshape(-1, m, 1, width).astype(np.float64)
    return np.square(parts - quantizer.codebooks[None]).sum(axis=3)


def interleaved(a: np.ndarray, b: np.ndarray, key_bits: int) -> np.ndarray:
    """The key of two bytes, written with digits."""
    out = []
    for first, second in zip(a.tolist(), b.tolist(), strict=True):
        digits = "".join(x + y for x, y in zip(f"{first:08b}", f"{second:08b}", strict=True))
        out.append(int(digits[:key_bits], 2))
    return np.array(out)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 30), width=st.integers(1, 4))
def test_codes_are_the_nearest_centroids(seed: int, n: int, width: int):
    quantizer = random_quantizer(seed, m=3, width=width)
    responses = np.random.default_rng(seed + 1).standard_normal((n, 3 * width)).astype(np.float32)
    found = quantizer.encode(responses)
    assert (found.shape, found.dtype) == ((n, 3), np.uint8)
    distances = squared_distances(quantizer, responses)
    chosen = np.take_along_axis(distances, found[:, :, None].astype(int), axis=2)[:, :, 0]
    np.testing.assert_allclose(chosen, distances.min(axis=2), atol=1e-5)
    # A centroid is its own nearest, but for rounding where another is as good as there.
    decoded = quantizer.decode(found)
    again = quantizer.decode(quantizer.encode(decoded))
    np.testing.assert_allclose(again, decoded, atol=3e-3)


def test_codes_are_those_of_faiss():
    quantizer = random_quantizer(1, m=4, width=3)
    responses = np.random.default_rng(2).standard_normal((3000, 12)).astype(np.float32)
    reference = faiss.ProductQuantizer(12, 4, 8)
    faiss.copy_array_to_vector(quantizer.codebooks.ravel(), reference.centroids)
    theirs = reference.compute_codes(responses)
    assert np.mean(quantizer.encode(responses) == theirs) > 0.999  # but for rounding
    np.testing.assert_array_equal(quantizer.decode(theirs), reference.decode(theirs))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_scores_fall_with_the_squared_distance_from_one_to_zero(seed: int):
    quantizer = random_quantizer(seed)
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((3, 8)).astype(np.float32)
    items = rng.integers(0, 256, (200, 4)).astype(np.uint8)
    scores = quantizer.byte_scores(queries)
    assert (scores.shape, scores.dtype) == ((3, 4, 256), np.float32)
    for row, query in enumerate(queries):
        total = scores[row, np.arange(4), items].sum(axis=1)
        distances = np.square(query - quantizer.decode(items)).sum(axis=1)
        # One straight line, falling: the same order, and differences in proportion.
        slope, offset = np.polyfit(distances, total, 1)
        np.testing.assert_allclose(total, slope * distances + offset, atol=1e-4)
        assert slope < 0
        own = quantizer.encode(query[None])[0]
        assert scores[row, np.arange(4), own].sum() == pytest.approx(1.0, abs=1e-4)
    # The mean over all 256**4 codes is the sum of the bytes' means.
    np.testing.assert_allclose(scores.mean(axis=2).sum(axis=1), 0.0, atol=1e-5)


def test_centroids_that_are_all_alike_tell_nothing():
    quantizer = ProductQuantizer(np.ones((2, 256, 1)))
    assert not quantizer.byte_scores(np.array([[3.0, 4.0]], np.float32)).any()


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


@pytest.mark.parametrize("key_bits", [1, 2, 3, 7, 8, 15, 16])
def test_keys_take_the_bits_of_two_bytes_in_turns(key_bits: int):
    quantizer = ProductQuantizer(np.zeros((4, 256, 1)), tables=np.array([[0, 1], [3, 1]]))
    packed = np.random.default_rng(5).integers(0, 256, (50, 4)).astype(np.uint8)
    for table, (a, b) in enumerate(((0, 1), (3, 1))):
        rows, keys = quantizer.postings(packed, table, key_bits)
        assert rows.tolist() == list(range(50))
        np.testing.assert_array_equal(keys, interleaved(packed[:, a], packed[:, b], key_bits))
        full = quantizer.postings(packed, table, 16)[1]
        np.testing.assert_array_equal(keys, full >> (16 - key_bits))


# All pairs of centroids, and the cost of each cell as a sum over them.
PAIRS = np.stack(np.divmod(np.arange(1 << 16), 256))


@functools.cache
def keys_of_pairs() -> np.ndarray:
    return interleaved(PAIRS[0], PAIRS[1], 16)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    key_bits=st.sampled_from([1, 2, 5, 8, 16]),
    probes=st.integers(1, 60),
)
def test_probes_are_the_nearest_cells(seed: int, key_bits: int, probes: int):
    quantizer = random_quantizer(seed)
    query = np.random.default_rng(seed).standard_normal((1, 8)).astype(np.float32)
    found = quantizer.probe_keys(query, key_bits, probes)
    assert (found.shape, found.dtype) == ((1, probes, 2), np.uint32)
    distances = squared_distances(quantizer, query)[0]
    cells = keys_of_pairs() >> (16 - key_bits)
    for table in (0, 1):
        sums = distances[2 * table][PAIRS[0]] + distances[2 * table + 1][PAIRS[1]]
        cost = np.full(1 << key_bits, np.inf)
        np.minimum.at(cost, cells, sums)
        there = min(probes, 1 << key_bits)
        keys = found[0, :there, table]
        assert len(set(keys.tolist())) == there
        np.testing.assert_allclose(cost[keys], np.sort(cost)[:there], atol=1e-5)
        assert set(found[0, there:, table].tolist()) <= {int(keys[0])}


def test_the_first_probe_is_the_key_of_the_index():
    quantizer = random_quantizer(6, m=6)
    responses = np.random.default_rng(7).standard_normal((100, 12)).astype(np.float32)
    packed = quantizer.encode(responses)
    for key_bits in range(1, 17):
        for probes in (0, 1, 5):
            found = quantizer.probe_keys(responses, key_bits, probes)
            assert found.shape == (100, max(1, probes), 3)
            for table in range(3):
                own = quantizer.postings(packed, table, key_bits)[1]
                np.testing.assert_array_equal(found[:, 0, table], own)


def test_no_responses_have_no_codes_and_no_keys():
    quantizer = random_quantizer(8)
    nothing = np.empty((0, 8), np.float32)
    assert quantizer.encode(nothing).shape == (0, 4)
    assert quantizer.probe_keys(nothing, 16, 4).shape == (0, 4, 2)
    assert quantizer.byte_scores(nothing).shape == (0, 4, 256)


def distortion(items: np.ndarray, rotation: np.ndarray, books: np.ndarray) -> float:
    quantizer = ProductQuantizer(books)
    values = items @ rotation
    return float(np.square(values - quantizer.decode(quantizer.encode(values))).sum(axis=1).mean())


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
    monkeypatch.setattr("hashing.quantization.OPQ_ROUNDS", 25)
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
    monkeypatch.setattr("hashing.quantization.OPQ_ROUNDS", 3)
    monkeypatch.setattr("hashing.quantization.PQ_ROUNDS", 3)
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
    monkeypatch.setattr("hashing.quantization.PQ_ROUNDS", 40)
    # 300 places, most items at few of them: drawn centroids coincide, and must be moved away.
    rng = np.random.default_rng(12)
    items = np.concatenate((np.zeros((600, 4)), rng.standard_normal((300, 4)) * 10))
    fit = fit_pq(items, n_bytes=2)
    for column in ProductQuantizer(fit.codebooks).encode(items @ fit.rotation).T:
        assert len(np.unique(column)) > 200


@pytest.mark.parametrize("fitter", [fit_pq, fit_opq])
def test_what_cannot_be_fitted_says_why(fitter):
    with pytest.raises(ValueError, match="255 embeddings are fewer than 256 centroids"):
        fitter(np.zeros((255, 4)), n_bytes=2)
    for n_bytes in (0, 1, 5):
        with pytest.raises(ValueError, match=f"cannot be cut into {n_bytes} parts"):
            fitter(np.zeros((300, 4)), n_bytes=n_bytes)


def test_a_model_folder_keeps_the_quantizer(tmp_path: Path):
    quantizer = random_quantizer(13, m=4)
    config = {"kind": "product", "features": {}, "bits": 32}
    model = save_model(tmp_path / "m", config, {}, quantizer.arrays(), "# Test")
    opened = open_quantizer(model)
    assert isinstance(opened, ProductQuantizer)
    assert (opened.code_bytes, opened.n_tables, opened.key_bits_max) == (4, 2, 16)
    assert opened.replication == 1.0
    responses = np.random.default_rng(14).standard_normal((20, 8)).astype(np.float32)
    np.testing.assert_array_equal(opened.encode(responses), quantizer.encode(responses))
    with pytest.raises(ValueError, match=r"responses must be \[n, 8\]"):
        opened.encode(responses[:, :7])


@pytest.mark.parametrize(
    ("arrays", "bits", "said"),
    [
        ({}, 32, "lacks the array 'codebooks'"),
        ({"codebooks": np.zeros((4, 255, 2))}, 32, "codebooks must be"),
        ({"codebooks": np.zeros((0, 256, 2))}, 0, "codebooks must be"),
        ({"codebooks": np.full((4, 256, 2), np.nan)}, 32, "finite"),
        ({"codebooks": np.zeros((4, 256, 2))}, 24, "4 codebooks for 24 bits"),
        ({"codebooks": np.zeros((1, 256, 2))}, 8, "tables must name two parts"),
        ({"codebooks": np.zeros((4, 256, 2)), "tables": np.array([[0, 4]])}, 32, "different"),
        ({"codebooks": np.zeros((4, 256, 2)), "tables": np.array([[-1, 2]])}, 32, "different"),
        ({"codebooks": np.zeros((4, 256, 2)), "tables": np.array([[2, 2]])}, 32, "different"),
        ({"codebooks": np.zeros((4, 256, 2)), "tables": np.array([0, 1])}, 32, "two parts"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path: Path, arrays: dict, bits: int, said: str):
    config = {"kind": "product", "features": {}, "bits": bits}
    model = save_model(tmp_path / "m", config, {}, arrays or {"x": np.zeros(1)}, "# Test")
    with pytest.raises(ModelError, match=said):
        open_quantizer(model)
