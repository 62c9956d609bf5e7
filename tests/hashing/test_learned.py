"""Product-quantised embeddings with keys of a learned head, against plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixture import learned_model

from hashing.errors import ModelError
from hashing.key_head import KeyHead
from hashing.learned import LearnedQuantizer
from hashing.models import Model, save_model
from hashing.quantizers import open_quantizer

seeds = st.integers(0, 10**6)


def made(seed: int, parts: int = 4, width: int = 2, bits: int = 12) -> LearnedQuantizer:
    """A quantizer of random codebooks, with three tables of six bits."""
    rng = np.random.default_rng(seed)
    head = KeyHead(
        rng.standard_normal((parts * width, bits)),
        rng.normal(0, 0.3, bits),
        rng.uniform(0.5, 2, bits),
        np.stack([rng.permutation(bits)[:6] for _ in range(3)]),
    )
    return LearnedQuantizer(rng.standard_normal((parts, 256, width)).astype(np.float32), head)


def vectors_of(seed: int, n: int, dimensions: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)


def test_codes_keys_and_scores_by_hand() -> None:
    # Centroid c of both parts is the number c - 100; keys tell which numbers are above 10 and 0.
    books = np.tile(np.arange(256, dtype=np.float32)[:, None] - 100, (2, 1, 1))
    head = KeyHead(np.eye(2), np.array([10, 0]), np.ones(2), np.array([[0, 1], [1, 0]]))
    quantizer = LearnedQuantizer(books, head)
    responses = np.array([[3.2, -0.6], [10.4, 7.0], [10.6, -1000.0]], np.float32)
    packed = quantizer.encode(responses)
    assert packed.tolist() == [[103, 99], [110, 107], [111, 0]]
    assert quantizer.decode(packed).tolist() == [[3, -1], [10, 7], [11, -100]]
    # The second code is not above 10, though what it was made of is: postings are those of codes.
    material = quantizer.key_material(packed)
    assert quantizer.postings(material, 0, 2)[1].tolist() == [0b00, 0b01, 0b10]
    assert quantizer.postings(material, 1, 2)[1].tolist() == [0b00, 0b10, 0b01]
    assert quantizer.postings(material, 1, 1)[1].tolist() == [0, 1, 0]
    assert quantizer.postings(material, 0, 2)[0] is None
    # A query is not rounded, so that the second one looks under its own key first.
    assert quantizer.probe_keys(responses, 2, 1)[:, 0, 0].tolist() == [0b00, 0b11, 0b10]
    scores = quantizer.byte_scores(np.array([[2.0, -1.0]], np.float32))
    assert scores.shape == (1, 2, 256)
    assert (scores[0, 0, 103], scores[0, 1, 99], scores[0, 1, 101]) == (6.0, 1.0, -1.0)


@given(seed=seeds, n=st.integers(0, 6), parts=st.integers(2, 5), width=st.integers(1, 3))
def test_each_part_is_its_nearest_centroid(seed: int, n: int, parts: int, width: int) -> None:
    quantizer = made(seed, parts, width)
    values = vectors_of(seed + 1, n, parts * width)
    packed = quantizer.encode(values)
    assert packed.shape == (n, quantizer.code_bytes) == (n, parts)
    assert packed.dtype == np.uint8
    cut = values.reshape(n, parts, 1, width).astype(np.float64)
    nearest = np.square(cut - quantizer.product.codebooks).sum(axis=-1).min(axis=-1)
    kept = quantizer.decode(packed).reshape(n, parts, width)
    np.testing.assert_allclose(
        np.square(kept - cut[:, :, 0]).sum(axis=-1), nearest, rtol=1e-4, atol=1e-5
    )


@given(seed=seeds)
def test_what_was_decoded_has_the_same_code(seed: int) -> None:
    quantizer = made(seed)
    packed = np.random.default_rng(seed).integers(256, size=(5, 4)).astype(np.uint8)
    decoded = quantizer.decode(packed)
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(decoded)), decoded)


@given(seed=seeds, parts=st.integers(2, 5), width=st.integers(1, 3))
def test_similarity_is_the_inner_product_with_what_a_code_stands_for(
    seed: int, parts: int, width: int
) -> None:
    quantizer = made(seed, parts, width)
    asked = vectors_of(seed + 1, 3, parts * width)
    packed = quantizer.encode(vectors_of(seed + 2, 4, parts * width))
    scores = quantizer.byte_scores(asked)
    assert scores.shape == (3, parts, 256)
    assert scores.dtype == np.float32
    found = [[one[np.arange(parts), code].sum() for code in packed] for one in scores]
    np.testing.assert_allclose(found, asked @ quantizer.decode(packed).T, atol=1e-4)


@given(seed=seeds, key_bits=st.integers(1, 6))
def test_postings_are_keys_of_decoded_codes(seed: int, key_bits: int) -> None:
    quantizer = made(seed)
    packed = quantizer.encode(vectors_of(seed + 1, 10))
    bits, material = quantizer.head.bits(quantizer.decode(packed)), quantizer.key_material(packed)
    for table in range(quantizer.n_tables):
        rows, keys = quantizer.postings(material, table, key_bits)
        assert rows is None
        assert keys.dtype == np.uint32
        np.testing.assert_array_equal(keys, quantizer.head.keys(bits, table, key_bits))
        longest = quantizer.postings(material, table, quantizer.key_bits_max)[1]
        np.testing.assert_array_equal(keys, longest >> np.uint32(6 - key_bits))


@given(seed=seeds)
def test_a_query_that_is_a_code_looks_under_its_key_first(seed: int) -> None:
    quantizer = made(seed)
    packed = np.random.default_rng(seed).integers(256, size=(8, 4)).astype(np.uint8)
    decoded = quantizer.decode(packed)
    clear = (np.abs(quantizer.head.margins(decoded)) > 1e-5).all(axis=1)
    found = quantizer.probe_keys(decoded, 6, 3)
    assert found.shape == (8, 3, 3)
    material = quantizer.key_material(packed)
    for table in range(3):
        keys = quantizer.postings(material, table, 6)[1]
        np.testing.assert_array_equal(found[clear, 0, table], keys[clear])


def test_a_byte_for_two_numbers_keeps_the_nearest_neighbour(tmp_path: Path) -> None:
    # 300 unit vectors of 64 numbers and noisy versions of them: rounding moves few neighbours.
    quantizer = open_quantizer(learned_model(tmp_path / "m"))
    assert isinstance(quantizer, LearnedQuantizer)
    rng = np.random.default_rng(1)
    stored = vectors_of(2, 300, 64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    asked = stored + rng.normal(0, 0.06, stored.shape).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    exact = asked @ stored.T
    packed = quantizer.encode(stored)
    found = quantizer.byte_scores(asked)[:, np.arange(32)[None], packed].sum(axis=-1)
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.98
    assert (found.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.98


# --- damage


def changed(model: Model, folder: Path, **arrays: Any) -> Model:
    """A copy with other arrays; None takes one away."""
    kept = {name: arrays.get(name, array) for name, array in model.arrays.items()}
    kept = {name: array for name, array in kept.items() if array is not None}
    return save_model(folder, model.config, {"model": model.graph("model")}, kept, "#")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"codebooks": None}, "lacks the array 'codebooks'"),
        ({"weights": None}, "lacks the array 'weights'"),
        ({"thresholds": None}, "lacks the array 'thresholds'"),
        ({"spreads": None}, "lacks the array 'spreads'"),
        ({"tables": None}, "lacks the array 'tables'"),
        ({"codebooks": np.zeros((8, 255, 2))}, r"codebooks must be \[m, 256, width\]"),
        ({"codebooks": np.zeros((8, 512))}, r"codebooks must be \[m, 256, width\]"),
        ({"codebooks": np.zeros((8, 256, 0))}, r"codebooks must be \[m, 256, width\]"),
        ({"codebooks": np.full((8, 256, 2), np.nan)}, "codebooks must be finite"),
        ({"codebooks": np.zeros((8, 256, 3))}, "has keys of 16 dimensions for 24"),
        ({"codebooks": np.zeros((7, 256, 2))}, "has keys of 16 dimensions for 14"),
        ({"weights": np.zeros((15, 256))}, "has keys of 15 dimensions for 16"),
        ({"weights": np.zeros((16, 255))}, "do not fit 255 bits"),
        ({"weights": np.full((16, 256), np.nan)}, "not finite"),
        ({"spreads": np.zeros(256)}, "above 0"),
        ({"tables": np.array([[256]])}, "bits outside 0 to 255"),
    ],
)
def test_damaged_models_are_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    model = learned_model(tmp_path / "a", dimensions=16)
    damaged = changed(model, tmp_path / "b", **arrays)
    with pytest.raises(ModelError, match=words) as caught:
        open_quantizer(damaged)
    assert str(caught.value).startswith(f"model {tmp_path / 'b'} ")
    assert "copy it anew" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [1, 7, 9])
def test_responses_of_another_encoder_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=r"responses must be \[n, 8\]"):
        made(1).encode(np.zeros((2, width), np.float32))
