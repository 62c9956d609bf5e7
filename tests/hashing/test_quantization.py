from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.codebooks import order_centroids
from hashing.errors import ModelError
from hashing.models import save_model
from hashing.quantization import ProductQuantizer
from hashing.quantizers import open_quantizer


def random_quantizer(seed: int, m: int = 4, width: int = 2) -> ProductQuantizer:
    """Random centroids, numbered as fitted ones are."""
    books = np.random.default_rng(seed).standard_normal((m, 256, width)).astype(np.float32)
    return ProductQuantizer(np.stack([book[order_centroids(book)] for book in books]))


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


@pytest.mark.parametrize("key_bits", [1, 3, 7, 8])
def test_keys_of_single_parts_are_their_leading_bits(key_bits: int):
    quantizer = ProductQuantizer(np.zeros((3, 256, 1)), tables=np.array([[2], [0]]))
    assert (quantizer.n_tables, quantizer.key_bits_max) == (2, 8)
    packed = np.random.default_rng(15).integers(0, 256, (50, 3)).astype(np.uint8)
    for table, part in enumerate((2, 0)):
        keys = quantizer.postings(packed, table, key_bits)[1]
        assert keys.tolist() == [int(f"{byte:08b}"[:key_bits], 2) for byte in packed[:, part]]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), key_bits=st.integers(1, 8), probes=st.integers(0, 300))
def test_probes_of_one_byte_are_the_nearest_centroids(seed: int, key_bits: int, probes: int):
    quantizer = random_quantizer(seed, m=1, width=3)
    assert quantizer.tables.tolist() == [[0]]
    queries = np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)
    found = quantizer.probe_keys(queries, key_bits, probes)
    assert (found.shape, found.dtype) == ((4, max(1, probes), 1), np.uint32)
    there = min(max(1, probes), 1 << key_bits)
    # A cell is as near as the nearest of the centroids that share its bits.
    cells = squared_distances(quantizer, queries).reshape(4, 1 << key_bits, -1).min(axis=2)
    own = quantizer.postings(quantizer.encode(queries), 0, key_bits)[1]
    for row, cost in enumerate(cells):
        keys = found[row, :there, 0]
        assert len(set(keys.tolist())) == there
        np.testing.assert_allclose(cost[keys], np.sort(cost)[:there], atol=1e-5)
        assert keys[0] == own[row]
        assert set(found[row, there:, 0].tolist()) <= {int(keys[0])}


@pytest.mark.parametrize("kind", ["product", "events"])
def test_a_model_folder_of_one_byte(tmp_path: Path, kind: str):
    quantizer = random_quantizer(16, m=1)
    config = {"kind": kind, "features": {}, "bits": 8}
    opened = open_quantizer(save_model(tmp_path / "m", config, {}, quantizer.arrays(), "# Test"))
    assert (opened.code_bytes, opened.n_tables, opened.key_bits_max) == (1, 1, 8)
    responses = np.random.default_rng(17).standard_normal((20, 2)).astype(np.float32)
    packed = opened.encode(responses)
    np.testing.assert_array_equal(packed, quantizer.encode(responses))
    scores = opened.byte_scores(responses)
    np.testing.assert_array_equal(scores[:, 0].argmax(axis=1), packed[:, 0])
    np.testing.assert_allclose(scores[:, 0].max(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(opened.likeness(packed, packed), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "bits", "said"),
    [
        ({}, 32, "lacks the array 'codebooks'"),
        ({"codebooks": np.zeros((4, 255, 2))}, 32, "codebooks must be"),
        ({"codebooks": np.zeros((0, 256, 2))}, 0, "codebooks must be"),
        ({"codebooks": np.full((4, 256, 2), np.nan)}, 32, "finite"),
        ({"codebooks": np.zeros((4, 256, 2))}, 24, "4 codebooks for 24 bits"),
        ({"codebooks": np.zeros((1, 256, 2)), "tables": np.array([[0, 0]])}, 8, "different"),
        ({"codebooks": np.zeros((1, 256, 2)), "tables": np.array([[1]])}, 8, "different"),
        ({"codebooks": np.zeros((4, 256, 2)), "tables": np.array([[0, 1, 2]])}, 32, "two parts"),
        ({"codebooks": np.zeros((4, 256, 2)), "tables": np.zeros((0, 1))}, 32, "two parts"),
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
