"""Labels that are guessed, and what is learned from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hashing.average_precision import mean_average_precision
from hashing.training.events import self_training
from hashing.training.events.labels import LabelSets
from hashing.training.events.quantization import QuantizerTraining, train_quantizer
from hashing.training.events.self_training import (
    Guesses,
    SelfTraining,
    chances_of,
    guess_labels,
    surest,
    train_with_guesses,
)

NAMES = ("horn", "lute", "oboe", "viol")
TINY = QuantizerTraining(
    code_bytes=4, hidden=64, bottleneck=24, words=1.0, steps=60, batch=64, seed=3
)


def clips(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [n, 2, 48] and classes [n]: few clips of a class do not tell its middle."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(0).normal(size=(len(NAMES), 48))
    of = rng.integers(len(NAMES), size=n)
    middle = middles[of] + rng.normal(0, 1.3, (n, 48))
    versions = middle[:, None] + rng.normal(0, 0.35, (n, 2, 48))
    return versions.astype(np.float32), of


def labelled() -> tuple[np.ndarray, LabelSets]:
    """Four clips of each class."""
    found, of = clips(400, 1)
    rows = np.concatenate([np.flatnonzero(of == one)[:4] for one in range(len(NAMES))])
    return found[rows], LabelSets.from_clips([[NAMES[of[row]]] for row in rows])


def map_of(found: object) -> float:
    (asking, own), (held, its) = clips(100, 5), clips(300, 6)
    asked, stored = (found.respond(one[:, 0]) for one in (asking, held))  # type: ignore[attr-defined]
    return mean_average_precision(-asked @ stored.T, own[:, None] == its[None])


def test_clips_without_labels_help() -> None:
    known, labels = labelled()
    others, of = clips(500, 2)
    alone = train_quantizer(known, labels, TINY, others[:, 0])
    chances = chances_of(alone, known, labels, others)
    assert chances.shape == (500, len(NAMES))
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-4)
    sets, certainty = chances.argmax(axis=1), chances.max(axis=1)
    assert (sets == of).mean() > 0.6
    sure = certainty >= np.median(certainty)
    assert (sets == of)[sure].mean() > (sets == of)[~sure].mean()
    guesses = guess_labels([(known, others)], labels, TINY)
    assert (guesses.sets == of[guesses.rows]).mean() > (sets == of)[guesses.rows].mean()
    taught = train_with_guesses(known, labels, others, guesses, TINY)
    assert map_of(taught) > map_of(alone) + 0.02
    assert taught.codebooks.shape == (4, 256, 6)
    assert set(taught.words) == set(NAMES)


def test_the_steps_and_clips_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    known, labels = labelled()
    others, _ = clips(100, 2)
    first = train_quantizer(known, labels, dataclasses.replace(TINY, steps=2), np.zeros((256, 48)))
    asked = []

    def noted(values, sets, settings, items, log=None):  # type: ignore[no-untyped-def]
        asked.append((len(values), len(sets.of), settings.steps, len(items), settings.seed))
        return first

    monkeypatch.setattr(self_training, "train_quantizer", noted)
    guesses = guess_labels(
        [(known, others), (known, others)], labels, TINY, SelfTraining(2, 2, 0.5, 3)
    )
    # Half of each set that is guessed, rounded.
    assert abs(len(guesses.rows) - 50) <= 2
    both = 16 + len(guesses.rows)
    rounds = [(16, 16, 60, 200), (both, both, 180, 200)]  # few: in both versions
    assert asked == 2 * [(*one, seed) for one in rounds for seed in (3, 1003)]
    train_with_guesses(known, labels, others, guesses, TINY, items=known[:, 0])
    assert asked[-1] == (both, both, 120, 16, 3)


def test_sets_without_a_clip_are_never_guessed() -> None:
    known, labels = labelled()
    some = np.flatnonzero(labels.of != 0)
    noise = np.random.default_rng(0).normal(size=(256, 48))
    found = train_quantizer(known, labels, TINY, noise)
    chances = chances_of(found, known[some], labels.take(some), clips(50, 9)[0])
    assert (chances[:, 0] == 0).all()
    assert np.isfinite(chances).all()


def test_guesses_on_which_two_embeddings_agree_are_better() -> None:
    """Each has half of what tells the labels, and so do its networks."""
    known, labels = labelled()
    others, of = clips(500, 2)
    halves = [(known[:, :, :24], others[:, :, :24]), (known[:, :, 24:], others[:, :, 24:])]
    few = SelfTraining(rounds=1, teachers=1, kept=1.0)

    def right(views: list[tuple[np.ndarray, np.ndarray]]) -> tuple[int, float]:
        found = guess_labels(views, labels, TINY, few)
        return len(found.rows), float((found.sets == of[found.rows]).mean())

    (whole, one), (_, other), (fewer, both) = right(halves[:1]), right(halves[1:]), right(halves)
    assert whole == 500 > fewer > 200
    assert both > max(one, other) + 0.05
    with pytest.raises(ValueError, match="no embedding"):
        guess_labels([], labels, TINY)


def test_without_rounds_nothing_is_guessed() -> None:
    known, labels = labelled()
    found = guess_labels([(known, clips(9, 3)[0])], labels, TINY, SelfTraining(rounds=0))
    assert isinstance(found, Guesses)
    assert found.rows.tolist() == found.sets.tolist() == []


def test_nothing_that_is_sure_is_nothing() -> None:
    assert surest(np.zeros(0, np.int64), np.zeros(0, np.float32), 0.8).tolist() == []
    sets, certainty = np.array([1, 1, 1, 0]), np.array([0.1, 0.3, 0.2, 0.9], np.float32)
    assert surest(sets, certainty, 1.0).tolist() == [0, 1, 2, 3]
    assert surest(sets, certainty, 0.67).tolist() == [1, 2, 3]
