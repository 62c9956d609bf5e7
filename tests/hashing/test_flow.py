from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from hashing import codes
from hashing.errors import ModelError
from hashing.flow import FlowQuantizer, likeliest_flips, normal_scale, replication_factor
from hashing.models import Model, save_model
from hashing.quantizers import Quantizer, open_quantizer

SPREADS = np.array([0.5, 0.7, 0.4, 0.9, 1.1], np.float32)


def bimodal(n: int, bits: int, seed: int = 0) -> np.ndarray:
    """Responses as the prior has them, float32 [n, bits]."""
    rng = np.random.default_rng(seed)
    modes = np.where(rng.random((n, bits)) < 0.5, -2.0, 2.0)
    return (modes + rng.standard_normal((n, bits))).astype(np.float32)


def key_of(bits: np.ndarray) -> int:
    return int("".join("1" if bit else "0" for bit in bits), 2)


def saved(folder: Path, bits: int = 5, **changed: np.ndarray) -> Model:
    quantizer = FlowQuantizer(SPREADS, 0.5, 3, 1.5, 2.25)
    arrays = {**quantizer.arrays(), **changed}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    config = {"kind": "flow", "bits": bits, "features": {}}
    return save_model(folder / "m", config, {}, arrays, "# Example")


def test_codes_by_hand() -> None:
    quantizer: Quantizer = FlowQuantizer(np.ones(9), radius=0.5, max_doubtful=2)
    z = np.full((3, 9), 2.0, np.float32)
    z[0, [0, 8]] = -0.1
    z[1] = [-0.4, 0.3, -0.2, 0.1, 3, 3, 3, 3, 0.5]  # the two nearest to zero are in doubt
    z[2, 4] = 0.0  # at zero a bit is 0
    assert quantizer.code_bytes == 4
    assert quantizer.encode(z).tolist() == [
        [0b1111_1110, 0, 0b0000_0001, 1],
        [0b1111_1010, 1, 0b0000_1100, 0],
        [0b1110_1111, 1, 0b0001_0000, 0],
    ]


def test_postings_by_hand() -> None:
    quantizer = FlowQuantizer(np.ones(4), radius=1.0)
    z = np.array([[2, 2, 2, 2], [0.5, -2, -0.5, 2], [-2, -2, -2, 0.1]], np.float32)
    rows, keys = quantizer.postings(quantizer.encode(z), 0, 4)
    assert rows.tolist() == [0, 1, 1, 1, 1, 2, 2]
    assert keys.tolist() == [0b1111, 0b1001, 0b1011, 0b0001, 0b0011, 0b0001, 0b0000]
    assert keys.dtype == np.uint32
    # Of a shorter key, the last bit is in doubt for nobody.
    rows, keys = quantizer.postings(quantizer.encode(z), 0, 2)
    assert rows.tolist() == [0, 1, 1, 2]
    assert keys.tolist() == [0b11, 0b10, 0b00, 0b00]


@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(1, 12),
    radius=st.floats(0, 3),
    max_doubtful=st.integers(0, 12),
    key_bits=st.integers(1, 12),
)
def test_an_item_stands_in_every_bucket_that_its_doubts_allow(
    seed: int, bits: int, radius: float, max_doubtful: int, key_bits: int
) -> None:
    key_bits = min(key_bits, bits)
    z = bimodal(6, bits, seed)
    quantizer = FlowQuantizer(np.ones(bits), radius, max_doubtful)
    packed = quantizer.encode(z)
    rows, keys = quantizer.postings(packed, 0, key_bits)
    assert np.all(np.diff(rows) >= 0)
    for row, response in enumerate(z):
        nearest = sorted(range(bits), key=lambda k: abs(response[k]))[:max_doubtful]
        doubtful = [k for k in nearest if abs(response[k]) < np.float32(radius) and k < key_bits]
        expected = set()
        for size in range(len(doubtful) + 1):
            for flipped in itertools.combinations(doubtful, size):
                own = response > 0
                own[list(flipped)] ^= True
                expected.add(key_of(own[:key_bits]))
        found = keys[rows == row].tolist()
        assert len(found) == 2 ** len(doubtful)
        assert set(found) == expected
        assert found[0] == key_of(response[:key_bits] > 0)
    assert replication_factor(quantizer, packed, key_bits) == rows.size / 6


@given(
    seed=st.integers(0, 10**6),
    key_bits=st.integers(1, 9),
    wanted=st.integers(1, 600),
    forbidden=st.integers(0, 9),
)
def test_flips_are_the_best_of_all_in_exact_order(
    seed: int, key_bits: int, wanted: int, forbidden: int
) -> None:
    costs = np.random.default_rng(seed).exponential(size=(3, key_bits))
    costs[1, :forbidden] = np.inf
    found = likeliest_flips(costs, wanted)
    assert found.shape == (3, wanted)
    for row in range(3):
        sums = {
            sum(1 << (key_bits - 1 - k) for k in chosen): sum(costs[row, k] for k in chosen)
            for size in range(key_bits + 1)
            for chosen in itertools.combinations(range(key_bits), size)
        }
        allowed = sorted((total, mask) for mask, total in sums.items() if np.isfinite(total))
        expected = [mask for _, mask in allowed][:wanted]
        assert found[row].tolist() == expected + [0] * (wanted - len(expected))


def test_equal_costs_are_taken_once_each_and_the_own_key_first() -> None:
    found = likeliest_flips(np.zeros((1, 4)), 16)[0].tolist()
    assert found[0] == 0
    assert sorted(found) == list(range(16))


def test_probes_begin_with_the_own_bucket_and_rise_in_doubt() -> None:
    quantizer = FlowQuantizer(SPREADS)
    z = bimodal(20, 5, seed=3)
    own = codes.keys(quantizer.encode(z)[:, :1], np.arange(5))
    for probes in (0, 1, 7, 32):
        found = quantizer.probe_keys(z, 5, probes)
        assert found.shape == (20, max(1, probes), 1)
        assert found.dtype == np.uint32
        np.testing.assert_array_equal(found[:, 0, 0], own)
        assert all(len(set(row)) == max(1, probes) for row in found[:, :, 0].tolist())
    more = quantizer.probe_keys(z, 3, 20)[:, :, 0]
    assert np.all(np.sort(more[:, :8], axis=1) == np.arange(8))
    assert np.all(more[:, 8:] == more[:, :1])


def test_certainty_is_measured_in_spreads() -> None:
    z = np.array([[0.5, -0.6]], np.float32)
    assert FlowQuantizer(np.array([1.0, 1.0])).probe_keys(z, 2, 3).ravel().tolist() == [2, 0, 3]
    assert FlowQuantizer(np.array([1.0, 2.0])).probe_keys(z, 2, 3).ravel().tolist() == [2, 3, 0]


def test_a_query_looks_no_further_than_its_radius() -> None:
    quantizer = FlowQuantizer(np.ones(3), query_radius=1.0)
    z = np.array([[0.5, -0.9, 1.0]], np.float32)
    assert quantizer.probe_keys(z, 3, 6).ravel().tolist() == [5, 1, 7, 3, 5, 5]


def test_an_item_is_found_by_its_own_response_with_one_probe() -> None:
    quantizer = FlowQuantizer(np.ones(12), radius=1.0)
    z = bimodal(200, 12, seed=5)
    rows, keys = quantizer.postings(quantizer.encode(z), 0, 12)
    asked = quantizer.probe_keys(z, 12, 1)[:, 0, 0]
    stands = set(zip(rows.tolist(), keys.tolist(), strict=True))
    assert all((row, key) in stands for row, key in enumerate(asked.tolist()))


def test_soft_assignment_finds_neighbours_in_the_bucket_next_door() -> None:
    rng = np.random.default_rng(6)
    z = bimodal(3000, 12, seed=6)
    heard = z + rng.normal(0, 0.4, z.shape).astype(np.float32)
    found = []
    for radius in (0.0, 1.0):
        quantizer = FlowQuantizer(np.ones(12), radius)
        rows, keys = quantizer.postings(quantizer.encode(z), 0, 12)
        asked = quantizer.probe_keys(heard, 12, 1)[:, 0, 0]
        found.append(
            np.mean(np.isin(rows.astype(np.int64) << 12 | keys, _pairs(asked))) * rows.size
        )
    assert found[1] > found[0] + 300


def _pairs(asked: np.ndarray) -> np.ndarray:
    return np.arange(asked.size, dtype=np.int64) << 12 | asked


def test_scores_are_the_cosine_of_margins_and_bits() -> None:
    quantizer = FlowQuantizer(SPREADS, radius=1.0)
    z = bimodal(4, 5, seed=7)
    packed = quantizer.encode(bimodal(6, 5, seed=8))
    scores = quantizer.byte_scores(z)
    assert scores.shape == (4, 2, 256)
    assert scores.dtype == np.float32
    assert not scores[:, 1].any()  # which bits are in doubt is no similarity
    signs = np.where(codes.unpack(packed[:, :1], 5), 1.0, -1.0)
    margins = quantizer.margins(z)
    for i, j in itertools.product(range(4), range(6)):
        found = scores[i, 0, packed[j, 0]] + scores[i, 1, packed[j, 1]]
        cosine = margins[i] @ signs[j] / np.linalg.norm(margins[i]) / np.sqrt(5)
        assert found == pytest.approx(cosine, abs=1e-6)


@given(st.floats(-12, 12))
def test_the_normal_scale_inverts_the_prior(z: float) -> None:
    found = float(normal_scale(np.array([z]))[0])
    share = 0.5 * stats.norm.cdf(z - 2.0) + 0.5 * stats.norm.cdf(z + 2.0)
    if abs(z) < 6:
        assert stats.norm.cdf(found) == pytest.approx(share, abs=1e-12)
    assert normal_scale(np.array([-z]))[0] == -found


def test_the_normal_scale_rises_and_makes_the_prior_normal() -> None:
    grid = normal_scale(np.linspace(-30, 30, 4001))
    assert np.all(np.isfinite(grid))
    assert np.all(np.diff(grid) > 0)
    assert stats.kstest(normal_scale(bimodal(20_000, 1)[:, 0]), "norm").pvalue > 0.001
    at_one = optimize.brentq(lambda z: float(normal_scale(np.array([z]))[0]) - 1.0, 0, 5)
    below = 0.5 * stats.norm.cdf(at_one - 2) + 0.5 * stats.norm.cdf(at_one + 2)
    assert below == pytest.approx(0.841345, abs=1e-6)


def test_a_model_folder_brings_everything_back(tmp_path: Path) -> None:
    quantizer = open_quantizer(saved(tmp_path))
    assert isinstance(quantizer, FlowQuantizer)
    assert (quantizer.bits, quantizer.key_bits_max, quantizer.n_tables) == (5, 5, 1)
    assert (quantizer.radius, quantizer.query_radius) == (0.5, 1.5)
    assert (quantizer.max_doubtful, quantizer.replication) == (3, 2.25)
    np.testing.assert_array_equal(quantizer.spreads, SPREADS)
    everywhere = FlowQuantizer(SPREADS)
    folder = tmp_path / "everywhere"
    again = open_quantizer(saved(folder, **everywhere.arrays()))
    assert isinstance(again, FlowQuantizer)
    assert again.query_radius == np.inf


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"spreads": None}, "lacks the array 'spreads'"),
        ({"assignment": None}, "lacks the array 'assignment'"),
        ({"max_doubtful": None}, "lacks the array 'max_doubtful'"),
        ({"spreads": np.ones(4, np.float32)}, "4 spreads for 5 bits"),
        ({"spreads": np.ones((1, 5), np.float32)}, "shape"),
        ({"spreads": np.ones(33, np.float32)}, "32 bits"),
        ({"spreads": np.zeros(5, np.float32)}, "not above 0"),
        ({"spreads": np.full(5, np.nan, np.float32)}, "not above 0"),
        ({"assignment": np.zeros(2, np.float32)}, "assignment must be"),
        ({"assignment": np.ones(3, np.int32)}, "assignment must be"),
        ({"assignment": np.array([-1, 1, 1], np.float32)}, "a radius of -1"),
        ({"assignment": np.array([np.nan, 1, 1], np.float32)}, "a radius of nan"),
        ({"assignment": np.array([np.inf, 1, 1], np.float32)}, "a radius of inf"),
        ({"assignment": np.array([1, -1, 1], np.float32)}, "query radius of -1"),
        ({"assignment": np.array([1, np.nan, 1], np.float32)}, "query radius of nan"),
        ({"assignment": np.array([1, 1, 0], np.float32)}, "0.0 postings an item"),
        ({"assignment": np.array([1, 1, 9], np.float32)}, "not 1 to 8"),
        ({"max_doubtful": np.array([-1], np.int32)}, "-1 bits in doubt"),
        ({"max_doubtful": np.array([1.0], np.float32)}, "one integer"),
        ({"max_doubtful": np.array([1, 1], np.int32)}, "one integer"),
    ],
)
def test_a_folder_that_does_not_fit_is_named(
    tmp_path: Path, changed: dict[str, np.ndarray], said: str
) -> None:
    model = saved(tmp_path, **changed)
    with pytest.raises(ModelError, match=said) as caught:
        open_quantizer(model)
    assert str(model.path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_asked() -> None:
    quantizer = FlowQuantizer(SPREADS)
    z = bimodal(2, 5)
    packed = quantizer.encode(z)
    for call in (
        lambda: quantizer.encode(z[:, :4]),
        lambda: quantizer.encode(z[0]),
        lambda: quantizer.probe_keys(z[:, :4], 4, 2),
        lambda: quantizer.byte_scores(z[:, :4]),
    ):
        with pytest.raises(ValueError, match="responses must be"):
            call()
    with pytest.raises(ValueError, match="table=1"):
        quantizer.postings(packed, 1, 5)
    for key_bits in (0, 6):
        with pytest.raises(ValueError, match="key_bits"):
            quantizer.postings(packed, 0, key_bits)
        with pytest.raises(ValueError, match="key_bits"):
            quantizer.probe_keys(z, key_bits, 2)


def test_nothing_makes_no_postings_and_no_keys() -> None:
    quantizer = FlowQuantizer(SPREADS, radius=1.0)
    none = np.empty((0, 5), np.float32)
    packed = quantizer.encode(none)
    assert packed.shape == (0, 2)
    assert [column.size for column in quantizer.postings(packed, 0, 5)] == [0, 0]
    assert quantizer.probe_keys(none, 5, 4).shape == (0, 4, 1)
    assert quantizer.byte_scores(none).shape == (0, 2, 256)
    assert replication_factor(quantizer, packed, 5) == 0.0
