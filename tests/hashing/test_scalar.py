"""Codes of four bits a number, against plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixture import scalar_model
from sklearn.cluster import KMeans

from hashing import scalar
from hashing.errors import ModelError
from hashing.models import Model, save_model
from hashing.probing import probe_keys
from hashing.quantizers import open_quantizer
from hashing.scalar import LEVELS, ScalarQuantizer, fit_levels

seeds = st.integers(0, 10**6)


def arrays(seed: int, dimensions: int = 8, bits: int = 12) -> dict[str, np.ndarray]:
    """Arrays of a quantizer."""
    rng = np.random.default_rng(seed)
    return {
        "levels": np.sort(rng.standard_normal(LEVELS)).astype(np.float32),
        "means": rng.normal(0, 0.1, dimensions).astype(np.float32),
        "scales": rng.uniform(0.1, 0.5, dimensions).astype(np.float32),
        "weights": rng.standard_normal((dimensions, bits)).astype(np.float32),
        "thresholds": rng.normal(0, 0.3, bits).astype(np.float32),
        "spreads": rng.uniform(0.5, 2, bits).astype(np.float32),
        "tables": np.stack([rng.permutation(bits)[:6] for _ in range(3)]),
    }


def embeddings_of(seed: int, n: int, dimensions: int = 8) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_code_by_hand() -> None:
    # Levels -7.5, -6.5 … 7.5 have borders at whole numbers; a number at a border is rounded down.
    made = arrays(1, dimensions=4)
    made |= {"levels": np.arange(LEVELS) - 7.5, "means": np.ones(4), "scales": np.full(4, 2.0)}
    quantizer = ScalarQuantizer(**made)
    standard = np.array([[-100.0, 0.5, 0.0, 7.2], [3.0, 3.001, 100.0, -7.0]])
    responses = (2 * standard + 1).astype(np.float32)
    packed = quantizer.encode(responses)
    # Levels 0 and 8, 7 and 15; 10 and 11, 15 and 0: the first of each pair in the low half.
    assert packed.tolist() == [[0x80, 0xF7], [0xBA, 0x0F]]
    expected = np.array([[-7.5, 0.5, -0.5, 7.5], [2.5, 3.5, 7.5, -7.5]])
    np.testing.assert_allclose(quantizer.decode(packed), 2 * expected + 1)


@given(seed=seeds, n=st.integers(0, 6), half=st.integers(1, 5))
def test_numbers_are_rounded_to_the_nearest_level(seed: int, n: int, half: int) -> None:
    made = arrays(seed, dimensions=2 * half)
    quantizer, embeddings = ScalarQuantizer(**made), embeddings_of(seed, n, 2 * half)
    packed = quantizer.encode(embeddings)
    assert packed.shape == (n, quantizer.code_bytes) == (n, half)
    assert packed.dtype == np.uint8
    standard = (embeddings - made["means"]) / made["scales"]
    nearest = np.abs(standard[..., None] - made["levels"]).min(axis=-1)
    rounded = (quantizer.decode(packed) - made["means"]) / made["scales"]
    np.testing.assert_allclose(np.abs(rounded - standard), nearest, atol=1e-5)


@given(seed=seeds)
def test_what_was_decoded_has_the_same_code(seed: int) -> None:
    quantizer = ScalarQuantizer(**arrays(seed))
    packed = np.random.default_rng(seed).integers(256, size=(5, 4)).astype(np.uint8)
    np.testing.assert_array_equal(quantizer.encode(quantizer.decode(packed)), packed)


@given(seed=seeds)
def test_similarity_is_the_inner_product_with_the_rounded_embedding(seed: int) -> None:
    quantizer = ScalarQuantizer(**arrays(seed))
    asked, stored = embeddings_of(seed, 3), embeddings_of(seed + 1, 4)
    packed = quantizer.encode(stored)
    scores = quantizer.byte_scores(asked)
    assert scores.shape == (3, 4, 256)
    found = [[one[np.arange(4), code].sum() for code in packed] for one in scores]
    np.testing.assert_allclose(found, asked @ quantizer.decode(packed).T, atol=1e-5)


@given(seed=seeds, key_bits=st.integers(1, 6))
def test_keys_are_signs_of_projections_of_the_rounded_embedding(seed: int, key_bits: int) -> None:
    made = arrays(seed)
    quantizer = ScalarQuantizer(**made)
    packed = quantizer.encode(embeddings_of(seed, 10))
    rounded = quantizer.decode(packed).astype(np.float64)
    for table in range(3):
        chosen = made["tables"][table, :key_bits]
        projected = rounded @ made["weights"][:, chosen] - made["thresholds"][chosen]
        rows, keys = quantizer.postings(packed, table, key_bits)
        assert rows is None
        assert keys.dtype == np.uint32
        expected = (projected > 0) @ (1 << np.arange(key_bits)[::-1])
        clear = np.abs(projected).min(axis=1) > 1e-5
        np.testing.assert_array_equal(keys[clear], expected[clear])


def test_keys_do_not_depend_on_how_many_codes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = ScalarQuantizer(**arrays(3))
    packed = quantizer.encode(embeddings_of(4, 50))
    whole = quantizer.postings(packed, 1, 6)[1]
    assert quantizer.postings(packed[:0], 1, 6)[1].shape == (0,)
    for rows in (1, 7, 49, 50):
        monkeypatch.setattr(scalar, "CHUNK_ROWS", rows)
        np.testing.assert_array_equal(quantizer.postings(packed, 1, 6)[1], whole)


def test_queries_are_probed_with_the_embedding_as_it_is() -> None:
    made = arrays(5)
    quantizer, embeddings = ScalarQuantizer(**made), embeddings_of(6, 20)
    margins = (embeddings @ made["weights"] - made["thresholds"]) / made["spreads"]
    np.testing.assert_allclose(quantizer.margins(embeddings), margins, atol=1e-5)
    for key_bits, probes in ((6, 4), (3, 1)):
        found = quantizer.probe_keys(embeddings, key_bits, probes)
        assert found.shape == (20, probes, 3)
        expected = probe_keys(quantizer.margins(embeddings), quantizer.tables[:, :key_bits], probes)
        np.testing.assert_array_equal(found, expected)
    # The rounded embedding mostly has the same key, so that the two meet.
    decoded = quantizer.decode(quantizer.encode(embeddings))
    same = quantizer.probe_keys(embeddings, 3, 1) == quantizer.probe_keys(decoded, 3, 1)
    assert same.mean() > 0.5


def test_four_bits_a_number_keep_the_nearest_neighbour(tmp_path: Path) -> None:
    # 300 unit vectors of 64 numbers and noisy versions of them: rounding moves few neighbours.
    quantizer = open_quantizer(scalar_model(tmp_path / "m"))
    rng = np.random.default_rng(1)
    stored = embeddings_of(2, 300, 64)
    asked = stored + rng.normal(0, 0.06, stored.shape).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    exact = asked @ stored.T
    packed = quantizer.encode(stored)
    scores = quantizer.byte_scores(asked)
    found = scores[:, np.arange(32)[None], packed].sum(axis=-1)
    np.testing.assert_allclose(found, exact, atol=0.12)
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.98
    assert (found.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.98


# --- the levels


@pytest.mark.parametrize("spread", ["normal", "uniform"])
def test_levels_are_as_good_as_those_of_k_means(spread: str) -> None:
    rng = np.random.default_rng(1)
    drawn = rng.standard_normal(2000) if spread == "normal" else rng.uniform(-1, 1, 2000)
    values = drawn.astype(np.float32)
    levels = fit_levels(values)
    assert levels.dtype == np.float32
    assert np.all(np.diff(levels) > 0)
    means = KMeans(LEVELS, n_init=3, random_state=1).fit(values[:, None])
    error = np.square(values[:, None] - levels).min(axis=1).sum()
    assert error <= 1.1 * means.inertia_


def test_levels_of_the_normal_distribution() -> None:
    # Max (1960), table I: the outermost of 16 levels at 2.733, the innermost at 0.128, and a mean
    # squared error of 0.009497.
    values = np.random.default_rng(1).standard_normal(200_000)
    levels = fit_levels(values.astype(np.float32), iterations=500)
    assert levels[-1] == pytest.approx(2.733, abs=0.06)
    assert levels[8] == pytest.approx(0.128, abs=0.02)
    error = np.square(values[:, None] - levels).min(axis=1).mean()
    assert error == pytest.approx(0.009497, rel=0.02)
    # As many rounds as are usual come near it.
    error = np.square(values[:, None] - fit_levels(values.astype(np.float32))).min(axis=1).mean()
    assert error < 1.05 * 0.009497


# --- damage


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"means": np.zeros(7)}, "do not fit 8 dimensions and 12 bits"),
        ({"scales": np.ones((8, 1))}, "do not fit 8 dimensions"),
        ({"thresholds": np.zeros(11)}, "do not fit 8 dimensions"),
        ({"spreads": np.ones(1)}, "do not fit 8 dimensions"),
        ({"weights": np.zeros((12, 8))}, "do not fit 12 dimensions and 8 bits"),
        ({"levels": np.arange(15)}, "16 rising numbers"),
        ({"levels": np.arange(16)[::-1]}, "16 rising numbers"),
        ({"levels": np.zeros(16)}, "16 rising numbers"),
        ({"levels": np.full(16, np.nan)}, "16 rising numbers"),
        ({"levels": np.array([*range(15), np.inf])}, "not finite"),
        ({"means": np.full(8, np.nan)}, "not finite"),
        ({"weights": np.full((8, 12), np.inf)}, "not finite"),
        ({"thresholds": np.full(12, np.nan)}, "not finite"),
        ({"scales": np.zeros(8)}, "above 0"),
        ({"spreads": np.full(12, -1.0)}, "above 0"),
        ({"tables": np.array([[12]])}, "bits outside 0 to 11"),
        ({"tables": np.array([[-1]])}, "bits outside 0 to 11"),
        ({"tables": np.array([1 << 16])}, r"\[n_tables, key_bits\]"),
        ({"tables": np.zeros((1, 33), int)}, "more than 32 bits"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        ScalarQuantizer(**{**arrays(1), **changes})


def test_an_odd_number_of_dimensions_is_refused() -> None:
    with pytest.raises(ModelError, match="do not fit 7 dimensions"):
        ScalarQuantizer(**arrays(1, dimensions=7))


@pytest.mark.parametrize("width", [1, 7, 9])
def test_embeddings_of_another_encoder_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"{width} responses for 8 dimensions"):
        ScalarQuantizer(**arrays(1)).encode(np.zeros((2, width), np.float32))


@pytest.mark.parametrize("name", ["levels", "means", "scales", "weights", "tables"])
def test_a_missing_or_misshapen_array_is_named_with_its_folder(tmp_path: Path, name: str) -> None:
    model = scalar_model(tmp_path / "a", dimensions=16)

    def changed(value: np.ndarray | None) -> Model:
        kept = {key: array for key, array in model.arrays.items() if key != name}
        if value is not None:
            kept[name] = value
        return save_model(tmp_path / "b", model.config, {"model": model.graph("model")}, kept, "#")

    with pytest.raises(ModelError, match=f"b lacks the array '{name}': copy it anew"):
        open_quantizer(changed(None))
    with pytest.raises(ModelError, match=f"model {tmp_path / 'b'} .*: copy it anew"):
        open_quantizer(changed(np.zeros(3, np.float32)))
