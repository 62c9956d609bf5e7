from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.encoders import Hasher
from hashing.errors import ModelError
from hashing.features import BALUJA_COVELL, FeatureConfig
from hashing.minhash import MinHash, haar_matrix
from hashing.models import save_model
from hashing.quantizers import open_quantizer
from hashing.snippets import standardise

FEATURES = FeatureConfig()
SMALL = FeatureConfig(n_bands=4, snippet_frames=6)


def noise(seed: int, n: int, features: FeatureConfig = FEATURES) -> np.ndarray:
    """Standardised snippets of noise."""
    cut = np.random.default_rng(seed).standard_normal(
        (n, features.n_bands, features.snippet_frames)
    )
    return standardise(cut.astype(np.float32) * 5, features)


def test_haar_transform_by_hand() -> None:
    # Sums and differences of (4, 2) and (5, 5): coarse 16 / 2 and (6 - 10) / 2, fine 2 / √2 and 0.
    np.testing.assert_allclose(haar_matrix(4) @ [4, 2, 5, 5], [8, -2, np.sqrt(2), 0], atol=1e-12)
    assert haar_matrix(1).tolist() == [[1.0]]
    for wrong in (0, 3, 6):
        with pytest.raises(ValueError, match="no power of two"):
            haar_matrix(wrong)


def averages_and_differences(values: np.ndarray) -> np.ndarray:
    """Haar transform along the last axis, by taking pairs together until one value is left."""
    parts: list[np.ndarray] = []
    while values.shape[-1] > 1:
        left, right = values[..., ::2], values[..., 1::2]
        parts.insert(0, (left - right) / np.sqrt(2))
        values = (left + right) / np.sqrt(2)
    return np.concatenate([values, *parts], axis=-1)


@given(power=st.integers(0, 6), seed=st.integers(0, 10**6))
def test_haar_transform_takes_pairs_together(power: int, seed: int) -> None:
    n = 1 << power
    matrix = haar_matrix(n)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(n), atol=1e-12)
    values = np.random.default_rng(seed).standard_normal(n)
    np.testing.assert_allclose(matrix @ values, averages_and_differences(values), atol=1e-12)


@pytest.mark.parametrize("features", [FEATURES, SMALL, BALUJA_COVELL])
def test_wavelets_are_of_the_stretched_image(features: FeatureConfig) -> None:
    hasher = MinHash.draw(features, seed=1, permutations=4, n_tables=2)
    snippets = noise(1, 3, features)
    found = hasher.wavelets(snippets)
    for image, row in zip(
        snippets.reshape(3, features.n_bands, features.snippet_frames), found, strict=True
    ):
        stretched = image.astype(np.float64)
        for axis in (0, 1):
            old = image.shape[axis]
            new = 1 << (old - 1).bit_length()
            # Middles of the new cells, where cells of the old image are one wide.
            at = (np.arange(new) + 0.5) * old / new - 0.5
            stretched = np.apply_along_axis(
                lambda line, at=at: np.interp(at, np.arange(line.size), line), axis, stretched
            )
        expected = averages_and_differences(averages_and_differences(stretched).T).T
        np.testing.assert_allclose(row.reshape(expected.shape), expected, atol=1e-4)


def test_elements_are_the_largest_wavelets_with_their_signs() -> None:
    hasher = MinHash.draw(FEATURES, seed=1)
    assert hasher.kept == 50  # of 64 x 32
    snippets = noise(2, 5)
    for values, elements in zip(
        hasher.wavelets(snippets), hasher.elements(snippets).tolist(), strict=True
    ):
        ranked = [w for w in np.argsort(-np.abs(values), kind="stable").tolist() if w][:50]
        assert sorted(elements) == sorted(2 * w + (values[w] < 0) for w in ranked)


def test_bytes_are_the_first_positions_of_permuted_sets() -> None:
    hasher = MinHash.draw(SMALL, seed=3, permutations=40, n_tables=10, kept_share=0.1)
    rng = np.random.default_rng(3)
    orders = [np.argsort(rng.permutation(64)) for _ in range(40)]  # elements as they come
    snippets = noise(3, 30, SMALL)
    found = hasher.encode(hasher.responses(snippets))
    for row, elements in zip(found.tolist(), hasher.elements(snippets).tolist(), strict=True):
        members = set(elements)
        assert len(members) == 3
        expected = [
            next(at for at, element in enumerate(order.tolist()) if element in members)
            for order in orders
        ]
        assert row == expected


def test_late_positions_are_one_byte() -> None:
    # One element among 4,096: its position is above 255 for all but one permutation in 16.
    hasher = MinHash.draw(FEATURES, seed=4, kept_share=1e-4)
    assert hasher.kept == 1
    found = hasher.encode(hasher.responses(noise(4, 40)))
    assert 0.90 < np.mean(found == 255) < 0.97
    rng = np.random.default_rng(4)
    raw = np.stack([rng.permutation(4096) for _ in range(100)], axis=1)
    np.testing.assert_array_equal(hasher.positions, np.minimum(raw, 255))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_agreement_is_the_share_that_sets_have_in_common(share: float) -> None:
    hasher = MinHash.draw(FEATURES, seed=5, permutations=4000, n_tables=1)
    one = noise(5, 1)
    rng = np.random.default_rng(6)
    other = np.where(rng.random(one.shape) < share, one, noise(6, 1)).astype(np.float32)
    a, b = (set(hasher.elements(x)[0].tolist()) for x in (one, other))
    jaccard = len(a & b) / len(a | b)
    found = np.mean(hasher.responses(one) == hasher.responses(other))
    sigma = np.sqrt(jaccard * (1 - jaccard) / 4000)
    # Positions capped at 255 agree as well: there are 4 % of them in each.
    assert jaccard - 4 * sigma - 1e-3 <= found <= jaccard + 4 * sigma + 0.01


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.5, 2.0, 4.0]))
def test_level_does_not_change_a_byte(seed: int, scale: float) -> None:
    hasher = MinHash.draw(SMALL, seed=1, permutations=20, n_tables=5, kept_share=0.2)
    snippets = noise(seed, 4, SMALL)
    np.testing.assert_array_equal(
        hasher.responses(snippets), hasher.responses(np.float32(scale) * snippets)
    )


def test_nothing_in_a_snippet_is_no_element() -> None:
    hasher = MinHash.draw(FEATURES, seed=1)
    found = hasher.responses(np.zeros((2, 64 * 28), np.float32))
    assert np.all(found == 255)
    assert hasher.responses(np.empty((0, 64 * 28), np.float32)).shape == (0, 100)


def test_a_seed_gives_the_same_bytes_whatever_the_batch() -> None:
    snippets = noise(7, 300)
    hasher = MinHash.draw(FEATURES, seed=9)
    whole = hasher.responses(snippets)
    assert (whole.shape, whole.dtype) == ((300, 100), np.float32)
    np.testing.assert_array_equal(MinHash.draw(FEATURES, seed=9).responses(snippets), whole)
    pieces = [hasher.responses(snippets[i : i + 7]) for i in range(0, 300, 7)]
    # The last digit of a product may turn on the batch, and with it the smallest wavelet kept.
    assert np.mean(np.concatenate(pieces) == whole) > 0.999
    assert np.mean(MinHash.draw(FEATURES, seed=8).responses(snippets) == whole) < 0.2


@pytest.mark.parametrize(("n_tables", "key_bits_max"), [(25, 32), (20, 32), (50, 16), (100, 8)])
def test_keys_are_the_bytes_of_a_table(n_tables: int, key_bits_max: int) -> None:
    hasher = MinHash.draw(FEATURES, seed=1, n_tables=n_tables)
    assert (hasher.n_tables, hasher.key_bits_max) == (n_tables, key_bits_max)
    responses = hasher.responses(noise(8, 20))
    packed = hasher.encode(responses)
    width = 100 // n_tables
    for table in (0, n_tables - 1):
        # Digits of each byte from the lowest up, bytes one after another.
        digits = ["".join(f"{b:08b}"[::-1] for b in row) for row in packed[:, table * width :]]
        for key_bits in (1, 5, 8, key_bits_max):
            rows, keys = hasher.postings(packed, table, key_bits)
            assert rows.tolist() == list(range(20))
            assert keys.tolist() == [int(d[:key_bits], 2) for d in digits]
            probed = hasher.probe_keys(responses, key_bits, 3)
            assert probed.shape == (20, 3, n_tables)
            for probe in range(3):
                np.testing.assert_array_equal(probed[:, probe, table], keys)
    assert hasher.probe_keys(responses, 8, 0).shape == (20, 1, n_tables)


def test_similarity_is_the_share_of_equal_bytes() -> None:
    hasher = MinHash.draw(FEATURES, seed=1)
    snippets = noise(9, 6)
    mixed = np.concatenate((snippets, 0.8 * snippets + 0.2 * noise(10, 6))).astype(np.float32)
    responses = hasher.responses(mixed)
    packed = hasher.encode(responses)
    scores = hasher.byte_scores(responses)
    assert (scores.shape, scores.dtype) == ((12, 100, 256), np.float32)
    for row in range(12):
        total = scores[row, np.arange(100), packed].sum(axis=1)
        np.testing.assert_allclose(total, (packed == packed[row]).mean(axis=1), atol=1e-5)
        assert total[row] == pytest.approx(1.0, abs=1e-5)


def save(folder: Path, hasher: MinHash, **changed: object):
    config = {"kind": "minhash", "features": {}, "bits": 800, **changed}
    return save_model(folder, config, {}, hasher.arrays(), "# Test")


def test_a_model_folder_keeps_the_permutations(tmp_path: Path) -> None:
    hasher = MinHash.draw(FEATURES, seed=11, n_tables=20)
    opened = open_quantizer(save(tmp_path / "m", hasher))
    assert isinstance(opened, MinHash)
    assert (opened.kept, opened.n_tables, opened.replication) == (50, 20, 1.0)
    snippets = noise(11, 4)
    np.testing.assert_array_equal(opened.responses(snippets), hasher.responses(snippets))
    with pytest.raises(ValueError, match="snippets must be"):
        opened.responses(snippets[:, 1:])
    with pytest.raises(ValueError, match=r"responses must be \[n, 100\]"):
        opened.encode(np.zeros((1, 99), np.float32))


def test_a_hasher_runs_without_a_graph(tmp_path: Path) -> None:
    save(tmp_path / "m", MinHash.draw(FEATURES, seed=12))
    hasher = Hasher.load(str(tmp_path / "m"))
    rng = np.random.default_rng(13)
    samples = rng.standard_normal(24_000).astype(np.float32) * 0.1
    track, again = hasher.hash_track([samples]), hasher.hash_track([samples[:9000], samples[9000:]])
    assert track.codes.shape == (track.snippet.size, 100)
    assert track.snippet.size > 3
    np.testing.assert_array_equal(track.codes, again.codes)


@pytest.mark.parametrize(
    ("arrays", "bits", "said"),
    [
        ({"positions": None}, 800, "lacks the array 'positions'"),
        ({"numbers": None}, 800, "lacks the array 'numbers'"),
        ({"numbers": np.array([50])}, 800, "two integers"),
        ({"numbers": np.array([50.0, 25.0])}, 800, "two integers"),
        ({"numbers": np.array([0, 25])}, 800, "keeps 0 of 2048"),
        ({"numbers": np.array([2049, 25])}, 800, "keeps 2049 of 2048"),
        ({"numbers": np.array([50, 101])}, 800, "101 tables of 100 bytes"),
        ({"positions": np.zeros((4096, 100))}, 800, "must be bytes"),
        ({"positions": np.zeros((2048, 100), np.uint8)}, 800, "2048 elements, not 4096"),
        ({}, 792, "100 bytes for 792 bits"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path: Path, arrays: dict, bits: int, said: str) -> None:
    kept = {**MinHash.draw(FEATURES, seed=1).arrays(), **arrays}
    kept = {name: array for name, array in kept.items() if array is not None}
    config = {"kind": "minhash", "features": {}, "bits": bits}
    model = save_model(tmp_path / "m", config, {}, kept, "# Test")
    with pytest.raises(ModelError, match=said):
        open_quantizer(model)
