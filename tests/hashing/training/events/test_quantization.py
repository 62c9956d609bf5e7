"""Deep quantization: it learns labels, words and families, and gives the codes that it learned."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
import training_fixture  # noqa: F401  (torch on one thread)
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing import asymmetric
from hashing.average_precision import mean_average_precision
from hashing.codebooks import CENTROIDS, Codebooks, fit_pq
from hashing.events.words import WordVectors
from hashing.taxonomy import Taxonomy
from hashing.training.events.labels import LabelSets
from hashing.training.events.quantization import (
    PUBLISHED,
    Quantized,
    QuantizerTraining,
    _drawn,
    _Network,
    class_codes,
    train_quantizer,
)

D = 24

# Two instruments in each of three families.
FAMILIES = {
    "slide trombone": "brass",
    "horn": "brass",
    "oboe": "wind",
    "pan flute": "wind",
    "snare drum": "drums",
    "bass drum": "drums",
}
NAMES = list(FAMILIES)
TREE = Taxonomy({**dict.fromkeys(FAMILIES.values()), **FAMILIES})

SMALL = QuantizerTraining(
    hidden=32,
    bottleneck=24,
    steps=120,
    batch=64,
    learning_rate=6e-3,
    codebook_steps=30,
    seed=5,
)


def changed(**values: Any) -> QuantizerTraining:
    return dataclasses.replace(SMALL, **values)


@functools.cache
def clips(each: int = 60, versions: int = 2, seed: int = 1) -> tuple[np.ndarray, tuple[str, ...]]:
    """Embeddings [n, versions, D] of clips, and their labels.

    Labels are told by six numbers of 24. The others are larger in all, and tell nothing: codes that
    know no labels go by these.
    """
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(6), each)
    found = 0.2 * rng.standard_normal((len(of), versions, D))
    found[:, :, 6:] += 1.5 * rng.standard_normal((len(of), 1, D - 6))
    found[np.arange(len(of)), :, of] += 3.0
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0]
    return (found @ turn).astype(np.float32), tuple(NAMES[one] for one in of)


def label_sets(names: tuple[str, ...], tree: Taxonomy | None = None) -> LabelSets:
    return LabelSets.from_clips([[name] for name in names], tree)


@functools.cache
def trained(how: QuantizerTraining = SMALL, related: bool = False) -> Quantized:
    values, names = clips()
    return train_quantizer(values, label_sets(names, TREE if related else None), how)


def asked() -> tuple[np.ndarray, tuple[str, ...]]:
    """Clips that were not learned from."""
    values, names = clips(10, 1, seed=2)
    return values[:, 0], names


def relevant(some: tuple[str, ...], others: tuple[str, ...]) -> np.ndarray:
    return np.array([[one == other for other in others] for one in some])


def precision(asking: np.ndarray, stored: np.ndarray, codebooks: np.ndarray) -> float:
    """mAP of clips that were not learned from, among the codes of those that were."""
    packed = Codebooks(codebooks).encode(stored)
    tables = asymmetric.distance_tables(asking, codebooks)
    distances = np.stack([asymmetric.distances(packed, table) for table in tables])
    return mean_average_precision(distances, relevant(asked()[1], clips()[1]))


def unlearned(code_bytes: int) -> float:
    """The same of product quantization of the embeddings."""
    values = clips()[0]
    fit = fit_pq(values.reshape(-1, D), code_bytes)
    return precision(asked()[0] @ fit.rotation, values[:, 0] @ fit.rotation, fit.codebooks)


# It learns.


@pytest.mark.parametrize("system", ["dqn", "dtq"])
def test_codes_tell_labels_that_embeddings_hide(system: Any) -> None:
    found = trained(changed(system=system))
    learned = precision(found.respond(asked()[0]), found.respond(clips()[0][:, 0]), found.codebooks)
    assert learned > 0.9
    assert learned > unlearned(4) + 0.4
    assert found.words == ()
    assert found.word_vectors is None


def test_signs_tell_labels_too() -> None:
    found = trained(changed(system="orthohash"))
    assert found.codebooks.size == 0
    stored, asking = (found.respond(one) > 0 for one in (clips()[0][:, 0], asked()[0]))
    assert stored.shape[1] == 32
    unlike = (asking[:, None] != stored[None]).sum(axis=2)
    learned = mean_average_precision(unlike, relevant(asked()[1], clips()[1]))
    assert learned > 0.9
    assert learned > unlearned(4) + 0.4
    # Bits are even, and those of two labels differ in about half.
    assert 0.25 < stored.mean(axis=0).min() < stored.mean(axis=0).max() < 0.75
    other = ~relevant(asked()[1], clips()[1])
    assert unlike[other].mean() == pytest.approx(16, abs=3)
    assert unlike[~other].mean() < 6


def test_the_published_way_learns_as_well() -> None:
    how = dataclasses.replace(
        PUBLISHED, hidden=32, bottleneck=24, steps=150, batch=64, codebook_steps=50, seed=5
    )
    found = trained(how)
    stored, asking = found.respond(clips()[0][:, 0]), found.respond(asked()[0])
    assert precision(asking, stored, found.codebooks) > unlearned(4) + 0.25


def test_rates_fall() -> None:
    assert PUBLISHED.momentum == 0.9
    steps = PUBLISHED.steps
    rates = [PUBLISHED.learning_rate_at(step) for step in (0, steps // 10 - 1, steps // 10)]
    assert rates == [PUBLISHED.learning_rate, PUBLISHED.learning_rate, PUBLISHED.learning_rate / 2]
    last = PUBLISHED.learning_rate_at(steps - 1)
    assert last == pytest.approx(PUBLISHED.learning_rate / 2**9)
    cosine = [SMALL.learning_rate_at(step) for step in range(SMALL.steps)]
    assert cosine[0] == SMALL.learning_rate
    assert cosine[60] == pytest.approx(SMALL.learning_rate / 2)
    assert (np.diff(cosine) < 0).all()


def test_relatives_are_nearer_than_strangers() -> None:
    values, names = asked()
    same = relevant(names, names)
    family = np.array([[FAMILIES[a] == FAMILIES[b] for b in names] for a in names]) & ~same
    strangers = ~same & ~family

    def cosines(found: Quantized) -> tuple[float, float, float]:
        responses = found.respond(values)
        products = responses @ responses.T
        return tuple(float(products[who].mean()) for who in (same, family, strangers))  # type: ignore[return-value]

    own, relative, stranger = cosines(trained(changed(steps=250), related=True))
    # What is wanted of the balanced loss: 1, 1/2, and zero or less.
    assert own > 0.8
    assert relative == pytest.approx(0.5, abs=0.2)
    assert stranger < 0.15
    _, relative, stranger = cosines(trained(changed(steps=250)))
    assert abs(relative - stranger) < 0.15


def test_words_find_clips() -> None:
    found = trained(changed(words=0.5, steps=250), related=True)
    known = {word for name in (*FAMILIES, *FAMILIES.values()) for word in name.split()}
    assert found.words == tuple(sorted(known))
    assert found.word_vectors is not None
    assert found.word_vectors.shape == (len(known), SMALL.bottleneck)
    vectors = WordVectors(found.words, found.word_vectors)
    values, names = asked()
    responses = found.respond(values)

    def holds(text: str, wanted: set[str]) -> bool:
        """Whether what is wanted stands before everything else, but for a clip in ten."""
        vector, unknown = vectors.embed(text)
        assert unknown == []
        near = np.argsort(-(responses @ vector), kind="stable")[: 10 * len(wanted)]
        return sum(names[row] in wanted for row in near) >= 9 * len(wanted)

    for name in FAMILIES:
        assert holds(name, {name}), name
    for family in ("wind", "brass", "drums"):
        assert holds(family, {name for name in FAMILIES if FAMILIES[name] == family}), family
    both = responses @ vectors.embed("trombone & flutes")[0]
    mean = {name: np.mean(both[[one == name for one in names]]) for name in NAMES}
    assert set(sorted(NAMES, key=lambda name: -mean[name])[:2]) == {"slide trombone", "pan flute"}
    # Codes are not much worse for it.
    by_codes = precision(found.respond(values), found.respond(clips()[0][:, 0]), found.codebooks)
    assert by_codes > 0.9


def test_the_quantization_loss_brings_outputs_to_their_centroids() -> None:
    values = asked()[0]

    def error(found: Quantized) -> float:
        books, responses = Codebooks(found.codebooks), found.respond(values)
        return float(((books.decode(books.encode(responses)) - responses) ** 2).sum(axis=1).mean())

    how = {"code_bytes": 2, "codebook_steps": 20}
    without = error(trained(changed(quantization=0.0, **how)))
    assert error(trained(changed(quantization=3.0, **how))) < 0.8 * without


# What is given back.


@pytest.mark.parametrize("system", ["dqn", "orthohash"])
def test_folded_layers_are_the_network(system: Any) -> None:
    how = changed(system=system)
    values = torch.from_numpy(clips()[0] * np.float32(3) + np.float32(2))
    torch.manual_seed(1)
    network = _Network(values, how)
    if network.even is not None:
        assert network.even.running_mean is not None
        assert network.even.running_var is not None
        torch.nn.init.normal_(network.even.running_mean)
        torch.nn.init.uniform_(network.even.running_var, 0.2, 3.0)
    network.eval()
    layers = network.folded()
    found = Quantized(how, layers, np.empty((0, CENTROIDS, 0), np.float32), [])
    with torch.no_grad():
        expected = network(values[:, 0]).numpy()
    np.testing.assert_allclose(found.respond(values[:, 0].numpy()), expected, atol=2e-4)
    assert expected.std() > 0.05


def test_outputs_are_of_length_one() -> None:
    lengths = np.linalg.norm(trained().respond(asked()[0]), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_the_same_seed_gives_the_same_codes() -> None:
    how = changed(steps=25, words=0.3, codebook_steps=10)
    values, names = clips()
    before = values.copy()
    one = train_quantizer(values, label_sets(names), how)
    torch.rand(5)
    two = train_quantizer(values, label_sets(names), how)
    np.testing.assert_array_equal(one.codebooks, two.codebooks)
    np.testing.assert_array_equal(one.word_vectors, two.word_vectors)
    for first, second in zip(one.layers, two.layers, strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
    assert one.history == two.history
    other = train_quantizer(values, label_sets(names), dataclasses.replace(how, seed=6))
    assert not np.array_equal(one.codebooks, other.codebooks)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("code_bytes", [1, 2, 3, 4, 6, 8])
def test_codes_are_as_long_as_asked_for(code_bytes: int) -> None:
    values, names = clips()
    how = changed(code_bytes=code_bytes, steps=2, codebook_steps=1, codebook_epochs=0)
    found = train_quantizer(values, label_sets(names), how)
    assert found.codebooks.shape == (code_bytes, CENTROIDS, 24 // code_bytes)
    packed = Codebooks(found.codebooks).encode(found.respond(values[:, 0]))
    assert packed.shape == (len(values), code_bytes)
    # The second of two steps had codebooks to be near to.
    assert [[*one] for one in found.history] == [["step", "loss"], ["step", "loss", "quantization"]]
    binary = dataclasses.replace(how, system="orthohash")
    signs = train_quantizer(values, label_sets(names), binary)
    assert signs.respond(values[:, 0]).shape == (len(values), 8 * code_bytes)


def test_what_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="192 outputs cannot be cut into 5"):
        QuantizerTraining(code_bytes=5)
    values, names = clips()
    sets = label_sets(names[:100])
    with pytest.raises(ValueError, match="200 embeddings are fewer than 256 centroids"):
        train_quantizer(values[:100], sets, SMALL)
    # Clips without labels count for codebooks.
    how = changed(steps=2)
    found = train_quantizer(values[:100], sets, how, others=values[100:160, 0])
    assert found.codebooks.shape == (4, CENTROIDS, 6)


def test_a_turn_keeps_angles_and_makes_better_codes() -> None:
    """Of outputs and of words; codes are nearer to what they stand for."""
    items, _ = asked()
    how = changed(words=0.3)
    turned, plain = (trained(dataclasses.replace(how, turned=one)) for one in (True, False))
    one, other = turned.respond(items), plain.respond(items)
    assert not np.allclose(one, other, atol=0.05)
    assert np.allclose(one @ one.T, other @ other.T, atol=1e-4)
    assert turned.word_vectors is not None
    assert plain.word_vectors is not None
    assert np.allclose(one @ turned.word_vectors.T, other @ plain.word_vectors.T, atol=1e-3)
    learned = clips()[0][:, 0]
    errors = []
    for found in (turned, plain):
        outputs, books = found.respond(learned), Codebooks(found.codebooks)
        errors.append(np.square(outputs - books.decode(books.encode(outputs))).sum(axis=1).mean())
    assert errors[0] < 0.95 * errors[1]


def test_codebooks_are_those_of_what_is_to_be_coded() -> None:
    values, names = clips()
    sets, others = label_sets(names[:100]), values[100:, 0]
    how = changed(steps=2)
    found = train_quantizer(values[:100], sets, how, others)
    outputs, books = found.respond(others), Codebooks(found.codebooks)
    # As many centroids as clips, nearly: these are told exactly, others are not.
    own, else_ = (
        np.square(some - books.decode(books.encode(some))).sum(axis=1).mean()
        for some in (outputs, found.respond(values[:100, 0]))
    )
    assert own < 0.5 * else_


def test_a_batch_has_all_labels_alike_often_or_all_clips() -> None:
    of = np.repeat([0, 1, 3], [3, 1000, 30])  # no clip of set 2
    labels = dataclasses.replace(label_sets(("a", "b", "c", "d")), of=of)
    rng = np.random.default_rng(1)
    how = changed(batch=600)
    rows = _drawn(labels, dataclasses.replace(how, even=True), rng)
    counts = np.bincount(of[rows], minlength=4)
    assert (np.abs(counts[[0, 1, 3]] - 200) < 50).all()
    assert counts[2] == 0
    assert set(rows[of[rows] == 0].tolist()) == {0, 1, 2}
    plainly = np.bincount(of[_drawn(labels, how, rng)], minlength=4)
    assert plainly[0] <= 3
    assert plainly[1] > 500


def test_progress_is_told() -> None:
    lines: list[str] = []
    values, names = clips()
    how = changed(steps=10, words=0.3, codebook_steps=5, codebook_epochs=0)
    found = train_quantizer(values, label_sets(names), how, log=lines.append)
    assert [one["step"] for one in found.history] == [2, 4, 6, 8, 10]
    assert len(lines) == 5
    assert lines[0].startswith("step 2  loss ")
    assert "words" in lines[0]
    assert "quantization" not in lines[0]
    assert "quantization" in lines[-1]


# Codes of classes.


@pytest.mark.parametrize("bits", [8, 16, 64])
def test_codes_of_few_classes_are_orthogonal(bits: int) -> None:
    codes = class_codes(bits, bits, seed=2)
    assert set(np.unique(codes)) == {-1, 1}
    np.testing.assert_array_equal(codes @ codes.T, bits * np.eye(bits))
    few = class_codes(3, bits, seed=2)
    np.testing.assert_array_equal(few @ few.T, bits * np.eye(3))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 60), st.sampled_from([8, 16, 24, 48]), st.integers(0, 99))
def test_codes_of_classes_are_far_apart(classes: int, bits: int, seed: int) -> None:
    codes = class_codes(classes, bits, seed)
    assert codes.shape == (classes, bits)
    assert set(np.unique(codes)) == {-1, 1}
    products = codes @ codes.T - (bits + 1) * np.eye(classes)
    # Of as many that are drawn without any choice the nearest two are nearer.
    rng = np.random.default_rng(seed)
    drawn = np.where(rng.random((50, classes, bits)) < 0.5, 1, -1)
    nearest = (drawn @ drawn.transpose(0, 2, 1) - 2 * bits * np.eye(classes)).max(axis=(1, 2))
    assert products.max() <= np.median(nearest)
    assert products.max() < bits  # no two are one
    np.testing.assert_array_equal(codes, class_codes(classes, bits, seed))
