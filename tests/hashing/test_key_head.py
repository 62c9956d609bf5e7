"""Keys that are signs of projections of what codes stand for, against plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing import key_head
from hashing.errors import ModelError
from hashing.key_head import ARRAYS, KeyHead
from hashing.models import Model
from hashing.probing import probe_keys

seeds = st.integers(0, 10**6)


def arrays(seed: int, dimensions: int = 8, bits: int = 12) -> dict[str, np.ndarray]:
    """Arrays of a head with three tables of six bits."""
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.standard_normal((dimensions, bits)).astype(np.float32),
        "thresholds": rng.normal(0, 0.3, bits).astype(np.float32),
        "spreads": rng.uniform(0.5, 2, bits).astype(np.float32),
        "tables": np.stack([rng.permutation(bits)[:6] for _ in range(3)]),
    }


def vectors_of(seed: int, n: int, dimensions: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)


def test_keys_by_hand() -> None:
    # Three projections: the first number, the second, and their sum, above 0, 1 and -1.
    weights = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    head = KeyHead(
        weights, np.array([0, 1, -1]), np.array([1, 2, 4]), np.array([[0, 1, 2], [2, 0, 1]])
    )
    vectors = np.array([[0.5, 2.0], [-1.0, 0.0], [-2.0, 1.5]], np.float32)
    np.testing.assert_allclose(
        head.margins(vectors), [[0.5, 0.5, 0.875], [-1.0, -0.5, 0.0], [-2.0, 0.25, 0.125]]
    )
    # The first bit of a key is the most significant; a projection at its threshold is a zero.
    bits = head.bits(vectors)
    assert bits.tolist() == [[0b111], [0b000], [0b110]]
    assert head.keys(bits, table=0, key_bits=3).tolist() == [0b111, 0b000, 0b011]
    assert head.keys(bits, table=1, key_bits=3).tolist() == [0b111, 0b000, 0b101]
    assert head.keys(bits, table=1, key_bits=2).tolist() == [0b11, 0b00, 0b10]
    assert (head.dimensions, head.n_tables, head.key_bits_max) == (2, 2, 3)


@given(seed=seeds, n=st.integers(0, 8), key_bits=st.integers(1, 6))
def test_keys_are_signs_of_projections(seed: int, n: int, key_bits: int) -> None:
    made, vectors = arrays(seed), vectors_of(seed + 1, n)
    head = KeyHead(**made)
    for table in range(3):
        chosen = made["tables"][table, :key_bits]
        projected = vectors.astype(np.float64) @ made["weights"][:, chosen]
        above = projected - made["thresholds"][chosen]
        keys = head.keys(head.bits(vectors), table, key_bits)
        assert (keys.dtype, keys.shape) == (np.uint32, (n,))
        expected = (above > 0) @ (1 << np.arange(key_bits)[::-1])
        clear = (np.abs(above) > 1e-5).all(axis=1)
        np.testing.assert_array_equal(keys[clear], expected[clear])


@given(seed=seeds, key_bits=st.integers(1, 5))
def test_a_shorter_key_is_the_beginning_of_a_longer_one(seed: int, key_bits: int) -> None:
    head = KeyHead(**arrays(seed))
    bits = head.bits(vectors_of(seed + 1, 20))
    for table in range(3):
        longest = head.keys(bits, table, 6)
        np.testing.assert_array_equal(
            head.keys(bits, table, key_bits), longest >> np.uint32(6 - key_bits)
        )


def test_codes_are_decoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    head, vectors = KeyHead(**arrays(3)), vectors_of(4, 50)
    packed = np.arange(50, dtype=np.uint8)[:, None]
    sizes: list[int] = []

    def decode(codes: np.ndarray) -> np.ndarray:
        sizes.append(len(codes))
        return vectors[codes[:, 0]]

    whole = head.bits(vectors)
    assert head.bits_of_codes(packed[:0], decode).shape == (0, 2)
    assert head.bits_of_codes(packed[:0], decode).dtype == np.uint8
    assert head.keys(whole[:0], 1, 6).dtype == np.uint32
    assert sizes == []
    for rows, expected in ((7, [7] * 7 + [1]), (49, [49, 1]), (50, [50]), (51, [50])):
        sizes.clear()
        monkeypatch.setattr(key_head, "CHUNK_ROWS", rows)
        np.testing.assert_array_equal(head.bits_of_codes(packed, decode), whole)
        assert sizes == expected


@given(seed=seeds)
def test_the_first_probe_is_the_own_key(seed: int) -> None:
    made, vectors = arrays(seed), vectors_of(seed + 1, 10)
    head = KeyHead(**made)
    margins = (vectors @ made["weights"] - made["thresholds"]) / made["spreads"]
    np.testing.assert_allclose(head.margins(vectors), margins, atol=1e-5)
    for key_bits, probes in ((6, 4), (3, 1)):
        found = head.probe_keys(vectors, key_bits, probes)
        assert found.shape == (10, probes, 3)
        expected = probe_keys(head.margins(vectors), head.tables[:, :key_bits], probes)
        np.testing.assert_array_equal(found, expected)
        clear = (np.abs(margins) > 1e-5).all(axis=1)
        for table in range(3):
            own = head.keys(head.bits(vectors), table, key_bits)
            np.testing.assert_array_equal(found[clear, 0, table], own[clear])


# --- damage


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": np.zeros(12)}, r"weights must be \[dimensions, bits\], got \(12,\)"),
        ({"weights": np.zeros((8, 11))}, "thresholds and spreads do not fit 11 bits"),
        ({"thresholds": np.zeros(11)}, "do not fit 12 bits"),
        ({"thresholds": np.zeros((12, 1))}, "do not fit 12 bits"),
        ({"spreads": np.ones(1)}, "do not fit 12 bits"),
        ({"weights": np.full((8, 12), np.inf)}, "not finite"),
        ({"thresholds": np.full(12, np.nan)}, "not finite"),
        ({"spreads": np.full(12, np.nan)}, "not finite"),
        ({"spreads": np.zeros(12)}, "spreads must be above 0"),
        ({"spreads": np.full(12, -1.0)}, "spreads must be above 0"),
        ({"tables": np.array([[12]])}, "bits outside 0 to 11"),
        ({"tables": np.array([[-1]])}, "bits outside 0 to 11"),
        ({"tables": np.array([1 << 16])}, r"\[n_tables, key_bits\]"),
        ({"tables": np.zeros((1, 33), int)}, "more than 32 bits"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        KeyHead(**{**arrays(1), **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_named(name: str) -> None:
    kept = {key: array for key, array in arrays(1).items() if key != name}
    with pytest.raises(ModelError, match=f"lacks the array '{name}'"):
        KeyHead.from_model(Model(Path("m"), {}, kept, ""))
