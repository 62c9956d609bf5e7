from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.scalar import ScalarQuantizer
from hashing.training.embeddings import Pairs
from hashing.training.scalar import scalar_arrays, scalar_figures

NAMES = ("levels", "means", "scales", "weights", "thresholds", "spreads", "tables")


def items(n: int, d: int, seed: int = 1) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(0.5, 2.0, d)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def weights(d: int, bits: int = 32) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((d, bits))


def quantizer(embeddings: np.ndarray, n_tables: int = 4, key_bits: int = 16) -> ScalarQuantizer:
    made = scalar_arrays(embeddings, weights(embeddings.shape[1]), n_tables, key_bits)
    return ScalarQuantizer(*(made[name] for name in NAMES))


@settings(max_examples=20)
@given(half=st.integers(4, 12), seed=st.integers(0, 99))
def test_every_bit_is_fair_and_codes_are_near(half: int, seed: int) -> None:
    embeddings = items(400, 2 * half, seed)
    fitted = quantizer(embeddings)
    bits = fitted.margins(embeddings) > 0
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.01
    # The quartiles of a margin are half a spread's distance off on both sides, on average.
    low, high = np.quantile(fitted.margins(embeddings), [0.25, 0.75], axis=0)
    np.testing.assert_allclose(high - low, 2.0, rtol=1e-3)
    rounded = fitted.decode(fitted.encode(embeddings))
    # Sixteen levels of a normal number leave 1.2 % of its power (Max, 1960).
    lost = np.mean((rounded - embeddings) ** 2) / np.mean((embeddings - fitted.means) ** 2)
    assert lost < 0.03


def test_a_number_that_never_varies_is_kept_as_it_is() -> None:
    embeddings = items(300, 8)
    embeddings[:, 3] = 0.25
    fitted = quantizer(embeddings)
    np.testing.assert_allclose(fitted.decode(fitted.encode(embeddings))[:, 3], 0.25, atol=1e-5)


def test_tables_are_of_the_asked_shape() -> None:
    made = scalar_arrays(items(300, 8), weights(8), n_tables=4, key_bits=16)
    assert made["tables"].shape == (4, 16)
    assert made["weights"].dtype == np.float16
    with pytest.raises(ValueError, match="need more than 32 bits"):
        scalar_arrays(items(300, 8), weights(8), n_tables=33)


def test_figures_of_pairs_that_are_the_same() -> None:
    embeddings = items(200, 16)
    found = scalar_figures(
        quantizer(embeddings), Pairs(embeddings, embeddings, np.zeros(200, dtype=np.int64))
    )
    assert (found["recall"], found["recall_rounded"]) == (1.0, 1.0)
    assert found["met_by_keys"] > 0.95
    assert found["met_by_chance"] < 0.2


def test_figures_of_pairs_that_have_nothing_in_common() -> None:
    pairs = Pairs(items(200, 16, 3), items(200, 16, 4), np.zeros(200, dtype=np.int64))
    found = scalar_figures(quantizer(items(400, 16)), pairs)
    assert found["recall"] < 0.05
    assert found["met_by_keys"] == pytest.approx(found["met_by_chance"], abs=0.1)


def test_figures_by_hand() -> None:
    """Four embeddings; two are heard as themselves, two as each other."""
    clean = np.eye(8, dtype=np.float32)[:4]
    heard = clean[[0, 1, 3, 2]]
    found = scalar_figures(quantizer(items(400, 8)), Pairs(clean, heard, np.arange(4)))
    assert found["recall"] == 0.5
