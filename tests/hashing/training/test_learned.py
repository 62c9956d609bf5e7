"""Codebooks and keys fitted to embeddings, and the figures of what was fitted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing import codebooks
from hashing.key_head import ARRAYS, KeyHead
from hashing.learned import LearnedQuantizer
from hashing.training import learned
from hashing.training.embeddings import Pairs
from hashing.training.learned import learned_arrays, learned_figures

BITS = 32


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty rounds fit better, and take longer."""
    monkeypatch.setattr(codebooks, "OPQ_ROUNDS", 5)


def items(n: int, dimensions: int, seed: int = 1) -> np.ndarray:
    """Embeddings of length one, of other variance in each direction."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((n, dimensions)) * np.linspace(0.5, 2, dimensions) + 0.3
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def weights(dimensions: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((dimensions, BITS))


def fitted(
    embeddings: np.ndarray, code_bytes: int, n_tables: int = 4, key_bits: int = 16
) -> tuple[np.ndarray, LearnedQuantizer]:
    rotation, arrays = learned_arrays(
        embeddings, weights(embeddings.shape[1]), code_bytes, n_tables, key_bits
    )
    head = KeyHead(*(arrays[name] for name in ARRAYS))
    return rotation, LearnedQuantizer(arrays["codebooks"], head)


@settings(max_examples=8, deadline=None)
@given(
    dimensions=st.integers(4, 14),
    code_bytes=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_every_bit_is_fair_and_cosines_are_kept(
    dimensions: int, code_bytes: int, seed: int
) -> None:
    """Also where the bytes do not divide the numbers: parts are filled up with zeros."""
    embeddings = items(400, dimensions, seed)
    rotation, quantizer = fitted(embeddings, code_bytes)
    width = -(-dimensions // code_bytes)
    assert rotation.shape == (dimensions, code_bytes * width)
    assert quantizer.product.codebooks.shape == (code_bytes, 256, width)
    assert rotation.dtype == np.float32
    np.testing.assert_array_equal(rotation, rotation.astype(np.float16))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dimensions), atol=5e-3)
    turned = embeddings @ rotation
    margins = quantizer.head.margins(turned)
    assert np.abs((margins > 0).mean(axis=0) - 0.5).max() < 0.01
    # The quartiles of a margin are a spread's distance off on both sides, on average.
    low, high = np.quantile(margins, [0.25, 0.75], axis=0)
    np.testing.assert_allclose(high - low, 2.0, rtol=1e-3)
    # Projections are those of the embeddings before they were turned.
    expected = embeddings @ weights(dimensions)
    np.testing.assert_allclose(turned @ quantizer.head.weights, expected, atol=2e-2)


def test_codes_are_near() -> None:
    embeddings = items(2000, 8)
    rotation, quantizer = fitted(embeddings, code_bytes=4)
    turned = embeddings @ rotation
    lost = np.mean((quantizer.decode(quantizer.encode(turned)) - turned) ** 2)
    # 256 cells of a plane: about sixteen levels of each number.
    assert lost < 0.03 * turned.var(axis=0).mean()
    _, rough = fitted(embeddings, code_bytes=2)
    rough_turned = embeddings @ fitted(embeddings, code_bytes=2)[0]
    more = np.mean((rough.decode(rough.encode(rough_turned)) - rough_turned) ** 2)
    assert more > 2 * lost


def test_a_number_that_never_varies() -> None:
    embeddings = items(300, 8)
    embeddings[:, 3] = 0.25
    rotation, arrays = learned_arrays(embeddings, np.eye(8, BITS), 2, n_tables=2, key_bits=8)
    # Columns of zeros and the fourth one tell nothing, and do not blow up.
    assert np.isfinite(rotation).all()
    assert (arrays["spreads"] > 0).all()
    quantizer = LearnedQuantizer(arrays["codebooks"], KeyHead(*(arrays[n] for n in ARRAYS)))
    kept = quantizer.decode(quantizer.encode(embeddings @ rotation)) @ rotation.T
    np.testing.assert_allclose(kept[:, 3], 0.25, atol=0.05)


def test_long_embeddings_are_brought_to_their_principal_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learned, "MOST_TURNED", 6)
    # Six of twelve numbers vary, in directions that are no axes.
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))[0]
    embeddings = (items(400, 6) @ turn[:6]).astype(np.float32)
    rotation, quantizer = fitted(embeddings, code_bytes=3)
    assert rotation.shape == (12, 6)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(6), atol=5e-3)
    turned = embeddings @ rotation
    np.testing.assert_allclose(turned @ turned.T, embeddings @ embeddings.T, atol=5e-3)
    expected = embeddings @ weights(12)
    np.testing.assert_allclose(turned @ quantizer.head.weights, expected, atol=2e-2)


def test_the_same_seed_gives_the_same_arrays() -> None:
    made = [learned_arrays(items(300, 8), weights(8), 2, 2, 8, seed) for seed in (1, 1, 2)]
    for name in ("codebooks", *ARRAYS):
        np.testing.assert_array_equal(made[0][1][name], made[1][1][name])
    assert not np.array_equal(made[0][1]["codebooks"], made[2][1]["codebooks"])


def test_tables_are_of_the_asked_shape() -> None:
    _, made = learned_arrays(items(300, 8), weights(8), 2, n_tables=4, key_bits=16)
    assert made["tables"].shape == (4, 16)
    assert made["weights"].dtype == np.float16
    with pytest.raises(ValueError, match="need more than 32 bits"):
        learned_arrays(items(300, 8), weights(8), 2, n_tables=33)
    with pytest.raises(ValueError, match="255 embeddings are fewer than 256 centroids"):
        learned_arrays(items(255, 8), weights(8), 2, n_tables=2, key_bits=8)
    with pytest.raises(ValueError, match="cannot be cut into 9 parts"):
        learned_arrays(items(300, 8), weights(8), 9, n_tables=2, key_bits=8)


def test_figures_of_pairs_that_are_the_same() -> None:
    embeddings = items(256, 16)
    rotation, quantizer = fitted(embeddings, code_bytes=8)
    same = Pairs(embeddings, embeddings, np.zeros(256, dtype=np.int64))
    found = learned_figures(quantizer, rotation, same)
    assert (found["recall"], found["recall_rounded"]) == (1.0, 1.0)
    assert found["met_by_keys"] > 0.95
    assert found["met_by_chance"] < 0.2


def test_figures_of_pairs_that_have_nothing_in_common() -> None:
    pairs = Pairs(items(200, 16, 3), items(200, 16, 4), np.zeros(200, dtype=np.int64))
    rotation, quantizer = fitted(items(400, 16), code_bytes=4)
    found = learned_figures(quantizer, rotation, pairs)
    assert found["recall"] < 0.05
    assert found["met_by_keys"] == pytest.approx(found["met_by_chance"], abs=0.1)


def test_figures_by_hand() -> None:
    """Four embeddings; two are heard as themselves, two as each other."""
    clean = np.eye(8, dtype=np.float32)[:4]
    heard = clean[[0, 1, 3, 2]]
    # Axes are centroids as they are, and the rotation swaps halves.
    books = np.zeros((2, 256, 4), np.float32)
    books[:, 1:5] = np.eye(4)
    head = KeyHead(np.eye(8)[:, 4:], np.full(4, 0.5), np.ones(4), np.array([[0, 1, 2, 3]]))
    rotation = np.eye(8, dtype=np.float32)[:, [4, 5, 6, 7, 0, 1, 2, 3]]
    found = learned_figures(
        LearnedQuantizer(books, head), rotation, Pairs(clean, heard, np.arange(4))
    )
    assert (found["recall"], found["recall_rounded"]) == (0.5, 0.5)
    assert 0.0 <= found["met_by_chance"] <= 1.0
    assert found["met_by_keys"] >= 0.5
