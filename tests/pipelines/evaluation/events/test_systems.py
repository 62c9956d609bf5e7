"""The systems of ``hashbeam evaluate events``, by codes that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from labelled_vectors import rows_of, vectors_of

from hashing.training.events.labels import LabelSets
from hashing.training.events.probe import Probe
from hashing.training.events.quantization import Quantized, QuantizerTraining
from pipelines.evaluation.events.systems import (
    BLOCK,
    Embedded,
    Ranking,
    by_bits,
    by_cosine,
    by_tables,
    of_probe,
    of_quantized,
    real_valued,
    unsupervised,
)


def distances(ranking: Ranking) -> np.ndarray:
    blocks = list(ranking.distances())
    assert all(len(block) == BLOCK for block in blocks[:-1])
    assert [one.tolist() for one in ranking.distances()] == [one.tolist() for one in blocks]
    return np.concatenate(blocks)


def test_vectors_by_cosine() -> None:
    items = np.array([[2, 0], [0, 3], [-1, 0], [0, 0]], np.float32)
    asked = np.array([[5, 0], [0.3, 0.4]] * BLOCK, np.float32)
    ranking = by_cosine("x", items, asked)
    assert (ranking.system, ranking.bits) == ("x", 64)
    found = distances(ranking)
    assert found.shape == (2 * BLOCK, 4)
    np.testing.assert_allclose(found[:2], [[-1, 0, 1, 0], [-0.6, -0.8, 0.6, 0]], atol=1e-6)


def test_codes_by_tables() -> None:
    packed = np.array([[7, 9], [7, 0], [0, 0]], np.uint8)
    tables = np.zeros((2, 2, 256), np.float32)
    tables[0, 0, 7], tables[0, 1, 9], tables[1, 1, 0] = 1, 2, 5
    ranking = by_tables("x", packed, tables)
    assert ranking.bits == 16
    assert distances(ranking).tolist() == [[3, 1, 0], [0, 5, 5]]


def test_codes_by_bits() -> None:
    packed = np.array([[0b1111], [0b0001], [0]], np.uint8)
    ranking = by_bits("x", packed, np.array([[0b0011]] * (BLOCK + 1), np.uint8), 4)
    assert ranking.bits == 4
    assert distances(ranking).tolist() == [[2, 1, 2]] * (BLOCK + 1)


def quantized(system: str, outputs: int = 8) -> Quantized:
    """A network that gives back what is put into it, and codebooks of its first centroids."""
    eye = np.eye(outputs, dtype=np.float32)
    zero = np.zeros(outputs, np.float32)
    # What is negative would be lost between the layers.
    first = (np.hstack([eye, -eye]), np.zeros(2 * outputs, np.float32))
    books = np.full((2, 256, outputs // 2), 9, np.float32)
    books[:, 0], books[:, 1] = 0, [1, 0, 0, 0]
    settings = QuantizerTraining(
        system=system, code_bytes=outputs // 8 if system == "orthohash" else 2
    )  # type: ignore[arg-type]
    return Quantized(settings, (first, (np.vstack([eye, -eye]), zero)), books, [])


def embedded(items: np.ndarray, asked: np.ndarray) -> Embedded:
    return Embedded("e", items[:, None], items, asked)


def test_a_quantizer_asks_three_ways() -> None:
    items = np.zeros((2, 8), np.float32)
    items[0, 0], items[1, 4] = 1, 1
    asked = np.array([[0.6, 0, 0, 0, 0.8, 0, 0, 0]], np.float32)
    found = {one.system: one for one in of_quantized(quantized("dqn"), embedded(items, asked), "Q")}
    assert list(found) == ["Q", "Q symmetric", "Q real-valued"]
    assert [one.bits for one in found.values()] == [16, 16, 256]
    # Codes are (1, 0) and (0, 1); the query's is (1, 1).
    np.testing.assert_allclose(distances(found["Q"]), [[0.16 + 0.64, 0.36 + 0.04]], atol=1e-6)
    np.testing.assert_allclose(distances(found["Q symmetric"]), [[1, 1]], atol=1e-6)
    np.testing.assert_allclose(distances(found["Q real-valued"]), [[-0.6, -0.8]], atol=1e-6)


def test_signs_ask_three_ways() -> None:
    items = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, -1, -1, -1, -1]], np.float32)
    asked = np.array([[1, 1, 1, 1, 1, -0.1, -0.1, -0.1]], np.float32)
    one = embedded(items, asked)
    found = {one.system: one for one in of_quantized(quantized("orthohash"), one, "O")}
    assert list(found) == ["O", "O asymmetric", "O real-valued"]
    assert distances(found["O"]).tolist() == [[3, 1]]
    # Signs alone say the second, but all that speaks for it is near zero.
    near, far = distances(found["O asymmetric"])[0]
    # As cosines: the query has a length of √5.03, a code of ±1 one of √8.
    assert far - near == pytest.approx(2 * (1 - 3 * 0.1) / np.sqrt(5.03 * 8), abs=1e-5)


def test_hashers_that_need_no_labels() -> None:
    rows = rows_of({"database": 300, "queries": 5})
    vectors = vectors_of(rows)
    own = embedded(vectors[:300], vectors[:5])  # clips that are in the database
    found = {one.system: one for one in unsupervised(own, 16, seed=1)}
    names = ["SH", "ITQ", "AGH", "PQ", "PQ symmetric", "OPQ", "OPQ symmetric"]
    assert list(found) == names
    for name, ranking in found.items():
        assert ranking.bits == 16
        values = distances(ranking)
        assert values.shape == (5, 300)
        if name not in ("PQ", "OPQ"):  # a code is nearest to itself
            assert (values[np.arange(5), np.arange(5)] <= values.min(axis=1) + 1e-5).all(), name
        again = next(one for one in unsupervised(own, 16, seed=1) if one.system == name)
        assert np.array_equal(values, distances(again))


def test_what_cannot_be_fitted_is_left_out() -> None:
    rng = np.random.default_rng(1)
    few, narrow = (rng.standard_normal(shape).astype(np.float32) for shape in ((127, 20), (300, 7)))
    assert "PQ" not in {one.system for one in unsupervised(embedded(few, few[:2]), 8, 1)}
    names = {one.system for one in unsupervised(embedded(narrow, narrow[:2]), 64, 1)}
    assert "SH" in names
    assert not {"PQ", "OPQ"} & names  # 7 dimensions cannot be cut into 8 parts
    same = np.ones((300, 8), np.float32)
    assert not {"SH", "AGH"} & {one.system for one in unsupervised(embedded(same, same[:2]), 8, 1)}


def test_a_code_of_the_likeliest_label() -> None:
    probe = Probe(("a", "b", "c"), np.eye(3, dtype=np.float32) * 50, np.zeros(3, np.float32))
    rng = np.random.default_rng(2)
    items = np.eye(3, dtype=np.float32)[np.arange(300) % 3] + rng.normal(0, 0.01, (300, 3))
    own = embedded(items.astype(np.float32), np.eye(3, dtype=np.float32)[1:2])
    found = {one.system: one for one in of_probe(probe, own, 8, seed=1)}
    assert list(found) == ["probe + PQ", "class code"]
    for ranking in found.values():
        assert set(np.argsort(distances(ranking)[0])[:100] % 3) == {1}
    # Wider codes than there are labels: filled up; a label needs one byte only.
    assert [one.system for one in of_probe(probe, own, 64, seed=1)] == ["probe + PQ"]
    assert [one.system for one in of_probe(probe, own, 8, 1, "other")] == ["other + PQ"]
    names = [one.system for one in real_valued(own, probe)]
    assert names == ["embedding", "linear probe"]
    assert [one.system for one in real_valued(own, None)] == ["embedding"]


def test_label_sets_of_some_clips() -> None:
    sets = LabelSets.from_clips([["a"], ["b"], ["a", "b"]])
    some = sets.take(np.array([2, 0]))
    assert [some.sets[at] for at in some.of] == [("a", "b"), ("a",)]
    assert some.labels == sets.labels
