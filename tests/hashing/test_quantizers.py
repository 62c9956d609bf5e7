"""Quantizers of one bit a response, and how a model folder names its quantizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixture import learned_model, random_model

from hashing import codes
from hashing.errors import ModelError
from hashing.learned import LearnedQuantizer
from hashing.models import Model, load_model, save_model
from hashing.probing import probe_keys
from hashing.quantizers import QUANTIZERS, SignQuantizer, open_quantizer

rng_seeds = st.integers(0, 10**6)


def made(seed: int, bits: int, n_tables: int = 3, key_bits: int = 4) -> SignQuantizer:
    rng = np.random.default_rng(seed)
    return SignQuantizer(
        rng.standard_normal(bits),
        rng.uniform(0.5, 2.0, bits),
        rng.integers(0, bits, (n_tables, key_bits)),
    )


def responses_of(seed: int, n: int, bits: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, bits)).astype(np.float32)


def test_a_response_at_its_threshold_is_a_zero() -> None:
    quantizer = SignQuantizer(
        np.array([0.0, 1.0, -1.0]), np.array([1.0, 2.0, 0.5]), np.array([[2, 0, 1]])
    )
    responses = np.array([[0.0, 2.0, -1.0], [0.1, 1.0, 0.0]], np.float32)
    np.testing.assert_allclose(quantizer.margins(responses), [[0, 0.5, 0], [0.1, 0, 2]])
    packed = quantizer.encode(responses)
    assert packed.tolist() == [[0b010], [0b101]]
    # The key is bits 2, 0 and 1, the first the most significant; two bits are its beginning.
    assert quantizer.postings(packed, 0, 3)[1].tolist() == [0b001, 0b110]
    assert quantizer.postings(packed, 0, 2)[1].tolist() == [0b00, 0b11]
    assert quantizer.postings(packed, 0, 2)[0] is None


@given(seed=rng_seeds, bits=st.integers(1, 40), n=st.integers(0, 5))
def test_codes_and_keys_are_those_of_the_bits(seed: int, bits: int, n: int) -> None:
    quantizer, responses = made(seed, bits), responses_of(seed + 1, n, bits)
    packed = quantizer.encode(responses)
    assert packed.shape == (n, quantizer.code_bytes) == (n, -(-bits // 8))
    found = codes.unpack(packed, bits)
    np.testing.assert_array_equal(found, responses > quantizer.thresholds)
    for table in range(quantizer.n_tables):
        for key_bits in range(1, quantizer.key_bits_max + 1):
            rows, keys = quantizer.postings(packed, table, key_bits)
            assert rows is None
            weights = 1 << np.arange(key_bits)[::-1]
            chosen = quantizer.tables[table, :key_bits]
            np.testing.assert_array_equal(keys, found[:, chosen] @ weights)


def test_the_first_probe_is_the_key_under_which_a_code_stands() -> None:
    quantizer, responses = made(1, 30, 4, 12), responses_of(2, 20, 30)
    packed = quantizer.encode(responses)
    for key_bits in (1, 7, 12):
        probes = quantizer.probe_keys(responses, key_bits, 5)
        for table in range(4):
            _, keys = quantizer.postings(packed, table, key_bits)
            np.testing.assert_array_equal(probes[:, 0, table], keys)
        expected = probe_keys(quantizer.margins(responses), quantizer.tables[:, :key_bits], 5)
        np.testing.assert_array_equal(probes, expected)


@given(seed=rng_seeds, bits=st.integers(1, 40))
def test_similarity_is_the_cosine_of_margins_and_signs(seed: int, bits: int) -> None:
    quantizer = made(seed, bits)
    asked, stored = responses_of(seed + 1, 3, bits), responses_of(seed + 2, 4, bits)
    packed = quantizer.encode(stored)
    scores = quantizer.byte_scores(asked)
    assert scores.shape == (3, quantizer.code_bytes, 256)
    found = [[sum(one[j, c] for j, c in enumerate(code)) for code in packed] for one in scores]
    margins = (asked - quantizer.thresholds) / quantizer.spreads
    signs = np.where(stored > quantizer.thresholds, 1.0, -1.0)
    cosine = margins @ signs.T / np.linalg.norm(margins, axis=1, keepdims=True) / np.sqrt(bits)
    np.testing.assert_allclose(found, cosine, atol=1e-5)


def test_similarity_is_near_one_for_the_own_code_and_near_zero_for_others() -> None:
    quantizer = SignQuantizer(np.zeros(464), np.ones(464), np.arange(10)[None])
    responses = responses_of(3, 50, 464)
    packed, scores = quantizer.encode(responses), quantizer.byte_scores(responses)
    found = np.array([[one[np.arange(58), code].sum() for code in packed] for one in scores])
    # Of normal margins, the mean absolute value over the root mean square is sqrt(2 / pi).
    np.testing.assert_allclose(np.diag(found), np.sqrt(2 / np.pi), atol=0.06)
    others = found[~np.eye(50, dtype=bool)]
    assert abs(others.mean()) < 0.01
    assert others.std() == pytest.approx(1 / np.sqrt(464), rel=0.1)


def test_a_query_at_all_thresholds_is_near_nothing() -> None:
    quantizer = made(1, 12)
    scores = quantizer.byte_scores(quantizer.thresholds[None])
    np.testing.assert_array_equal(scores, 0.0)


@pytest.mark.parametrize(
    ("thresholds", "spreads", "tables", "words"),
    [
        (np.zeros((2, 3)), np.ones(6), [[0]], "do not fit 6 bits"),
        (np.zeros(6), np.ones(5), [[0]], "do not fit 6 bits"),
        (np.array([0, np.nan]), np.ones(2), [[0]], "thresholds must be finite"),
        (np.array([0, np.inf]), np.ones(2), [[0]], "thresholds must be finite"),
        (np.zeros(2), np.array([1.0, 0.0]), [[0]], "spreads above 0"),
        (np.zeros(2), np.array([1.0, -1.0]), [[0]], "spreads above 0"),
        (np.zeros(2), np.array([1.0, np.nan]), [[0]], "spreads above 0"),
        (np.zeros(2), np.ones(2), [0, 1], r"\[n_tables, key_bits\]"),
        (np.zeros(2), np.ones(2), [[0.0, 1.0]], "whole numbers"),
        (np.zeros(2), np.ones(2), [[1 << 16]], "bits outside 0 to 1"),  # 0 in 16 bits
        (np.zeros(2), np.ones(2), np.zeros((0, 3), int), r"\[n_tables, key_bits\]"),
        (np.zeros(2), np.ones(2), [[0, 2]], "bits outside 0 to 1"),
        (np.zeros(2), np.ones(2), [[0, -1]], "bits outside 0 to 1"),
        (np.zeros(2), np.ones(2), [[0] * 33], "more than 32 bits"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    thresholds: Any, spreads: Any, tables: Any, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        SignQuantizer(thresholds, spreads, np.array(tables))


@pytest.mark.parametrize("width", [1, 11, 13])
def test_responses_of_another_graph_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"{width} responses for 12 bits"):
        made(1, 12).encode(responses_of(1, 2, width))


# --- which quantizer a model has


def edited(model: Model, folder: Path, config: dict[str, Any], **arrays: Any) -> Model:
    """A model with other settings and arrays; None takes one away."""
    kept = {**model.arrays, **{name: np.asarray(v) for name, v in arrays.items() if v is not None}}
    kept = {name: array for name, array in kept.items() if arrays.get(name, 0) is not None}
    graphs = {"model": model.graph("model")}
    return save_model(folder, {**model.config, **config}, graphs, kept, "#")


@pytest.mark.parametrize("kind", ["signs", "forgiving"])
def test_kinds_of_one_bit_a_response(tmp_path: Path, kind: str) -> None:
    model = edited(random_model(tmp_path / "a"), tmp_path / "b", {"kind": kind})
    quantizer = open_quantizer(model)
    assert isinstance(quantizer, SignQuantizer)
    assert (quantizer.code_bytes, quantizer.n_tables, quantizer.key_bits_max) == (58, 20, 24)
    assert quantizer.replication == 1.0
    np.testing.assert_array_equal(quantizer.tables, model.arrays["tables"])


def test_the_kind_of_the_shipped_model(tmp_path: Path) -> None:
    quantizer = open_quantizer(learned_model(tmp_path / "a"))
    assert isinstance(quantizer, LearnedQuantizer)
    assert (quantizer.code_bytes, quantizer.n_tables, quantizer.key_bits_max) == (32, 20, 24)


def test_a_kind_that_nobody_knows(tmp_path: Path) -> None:
    model = random_model(tmp_path / "a")
    path = tmp_path / "a/config.json"
    path.write_text(json.dumps({**model.config, "kind": "oracle"}))
    with pytest.raises(
        ModelError, match="of kind 'oracle', which this hashbeam does not"
    ) as caught:
        open_quantizer(load_model(str(tmp_path / "a")))
    for kind in QUANTIZERS:
        assert kind in str(caught.value)


@pytest.mark.parametrize(
    ("config", "arrays", "words"),
    [
        ({}, {"spreads": None}, "lacks the array 'spreads': copy it anew"),
        ({"bits": 8}, {}, "has 464 thresholds for 8 bits: copy it anew"),
        ({"bits": None}, {}, "has 464 thresholds for None bits"),
        ({}, {"thresholds": np.zeros(463)}, "do not fit 463 bits"),
        ({}, {"tables": np.array([[464]])}, "tables name bits outside 0 to 463: copy it anew"),
    ],
)
def test_damaged_models_are_named(
    tmp_path: Path, config: dict[str, Any], arrays: dict[str, Any], words: str
) -> None:
    model = edited(random_model(tmp_path / "a"), tmp_path / "b", config, **arrays)
    with pytest.raises(ModelError, match=words) as caught:
        open_quantizer(model)
    assert str(caught.value).startswith(f"model {tmp_path / 'b'} ")
    assert "\n" not in str(caught.value)
