"""Distances by look-up, against those that are computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.asymmetric import distance_tables, distances, nearest, smallest, symmetric_tables
from hashing.codebooks import fit_pq
from hashing.quantization import ProductQuantizer

RNG = np.random.default_rng(3)


def test_distances_are_those_of_the_vectors_that_codes_stand_for() -> None:
    items = RNG.standard_normal((600, 24)).astype(np.float32)
    fit = fit_pq(items, n_bytes=4)
    quantizer = ProductQuantizer(fit.codebooks)
    packed, queries = quantizer.encode(items), items[:5] + np.float32(0.1)
    stand_for = quantizer.decode(packed)
    for table, query in zip(distance_tables(queries, fit.codebooks), queries, strict=True):
        wanted = ((stand_for - query) ** 2).sum(axis=1)
        np.testing.assert_allclose(distances(packed, table), wanted, atol=1e-4)
    for table, code in zip(symmetric_tables(packed[:5], fit.codebooks), stand_for[:5], strict=True):
        wanted = ((stand_for - code) ** 2).sum(axis=1)
        np.testing.assert_allclose(distances(packed, table), wanted, atol=1e-4)


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 45), st.integers(0, 2**32 - 1))
def test_the_nearest_are_those_of_a_stable_sort(n: int, m: int, wanted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    packed = rng.integers(0, 4, (n, m), dtype=np.uint8)
    table = rng.integers(0, 3, (m, 256)).astype(np.float32)  # so that many are equally near
    total = np.array([sum(table[j, code[j]] for j in range(m)) for code in packed], np.float32)
    order = np.argsort(total, kind="stable")[:wanted]
    rows, found = nearest(packed, table, wanted)
    assert rows.tolist() == order.tolist()
    assert found.tolist() == total[order].tolist()


def test_codes_that_do_not_lie_one_after_another() -> None:
    packed = RNG.integers(0, 256, (50, 16), dtype=np.uint8)
    table = RNG.random((8, 256)).astype(np.float32)
    apart = distances(packed[::2, ::2], table)
    assert np.array_equal(apart, distances(packed[::2, ::2].copy(), table))


def test_infinite_values_come_last() -> None:
    rows, found = smallest(np.array([np.inf, 1.0, np.inf], np.float32), 2)
    assert (rows.tolist(), found.tolist()) == ([1, 0], [1.0, np.inf])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: distances(np.zeros((3, 2), np.uint8), np.zeros((3, 256))), "do not fit a table"),
        (lambda: distances(np.zeros((3, 2), np.int64), np.zeros((2, 256))), "int64"),
        (lambda: distance_tables(np.zeros((1, 5)), np.zeros((2, 4, 2))), "do not fit codebooks"),
        (lambda: symmetric_tables(np.zeros((1, 3), np.uint8), np.zeros((2, 4, 2))), "codes"),
    ],
)
def test_shapes_that_do_not_fit(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
