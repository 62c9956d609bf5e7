"""Training of the clip encoder: it learns, and a stopped run goes on as if it had not been."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_sounds import any_network, kinds_of_clips, nearest_are_alike, noisy, same_weights
from training_fixture import Log

from hashing.errors import HashbeamError
from hashing.training import encoder as shared
from hashing.training.events.encoder import (
    ClipTraining,
    Labelled,
    _Stage,
    embed,
    train_labels,
    train_views,
)
from hashing.training.events.labels import LabelSets
from hashing.training.events.networks import ClipEncoder
from hashing.training.events.views import ViewSettings, whole_windows

TINY = ClipTraining(
    dimensions=8,
    steps=4,
    label_steps=4,
    batch=6,
    label_batch=6,
    warm_up=2,
    averaging=0.5,
    half_precision=False,
    views=ViewSettings(frames=24, equaliser_db=2.0, shifted=1, masked=(2, 4)),
    seed=3,
)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every other step."""
    monkeypatch.setattr(shared, "STEPS_PER_REPORT", 2)


def changed(**values: Any) -> ClipTraining:
    return dataclasses.replace(TINY, **values)


def two_catalogues() -> tuple[Any, list[Labelled]]:
    """Windows of which the first six are labelled by kind, and the next five by something else."""
    spectra, labels = kinds_of_clips(3, 4)
    first = LabelSets.from_clips([labels[row] for row in (0, 4, 8, 1, 5, 9)])
    other = LabelSets.from_clips([["loud"], ["soft"], ["loud"], ["loud", "soft"], ["loud"]])
    return spectra, [
        Labelled(np.array([0, 4, 8, 1, 5, 9]), first),
        Labelled(np.array([2, 3, 6, 7, 10]), other),
    ]


class Careless(Log):
    """A log that draws random numbers of its own, which is none of the run's business."""

    def __call__(self, line: str) -> None:
        torch.rand(7)
        np.random.rand(7)
        super().__call__(line)


# Going on.


def test_a_resumed_run_on_views_is_an_undisturbed_one(tmp_path: Path) -> None:
    spectra = noisy(12)
    log = Log()
    whole = train_views(spectra, TINY, tmp_path / "whole", log)
    assert [line[:22] for line in log.lines] == [f"views step      {n} of 4" for n in (2, 4)]
    with pytest.raises(KeyboardInterrupt):
        train_views(spectra, TINY, tmp_path / "cut", Careless("views step      2"))
    log = Careless()
    resumed = train_views(spectra, TINY, tmp_path / "cut", log)
    assert log.lines[0] == "resuming at step 2 of 4"
    assert same_weights(whole, resumed)
    assert not whole.training
    # A run that has ended takes no more steps.
    log = Log("views step")
    assert same_weights(whole, train_views(spectra, TINY, tmp_path / "cut", log))
    assert log.lines == ["resuming at step 4 of 4"]
    # And another seed is another run.
    assert not same_weights(whole, train_views(spectra, changed(seed=4), tmp_path / "o", Log()))


def test_a_resumed_run_on_labels_is_an_undisturbed_one(tmp_path: Path) -> None:
    spectra, labelled = two_catalogues()
    begun = any_network()

    def train(work: str, log: Log) -> ClipEncoder:
        network = copy.deepcopy(begun)
        return train_labels(network, spectra, labelled, TINY, tmp_path / work, log)

    whole = train("whole", Log())
    with pytest.raises(KeyboardInterrupt):
        train("cut", Careless("labels step      2"))
    log = Careless()
    assert same_weights(whole, train("cut", log))
    assert log.lines[0] == "resuming at step 2 of 4"
    assert len(log.figures("labels")) == 1
    assert not same_weights(whole, begun)
    assert not whole.training


def resumes(log: Log) -> bool:
    return any(line.startswith("resuming") for line in log.lines)


def test_views_of_other_settings_or_sound_begin_anew(tmp_path: Path) -> None:
    spectra = noisy(12)

    def train(settings: ClipTraining, sound: Any = spectra) -> bool:
        log = Log()
        train_views(sound, settings, tmp_path, log)
        return resumes(log)

    assert not train(changed(steps=2))
    assert train(changed(steps=4))  # more steps go on
    with pytest.raises(HashbeamError, match="4 steps, which is more than 2"):
        train(changed(steps=2))
    # What labels are learned with has nothing to do with views.
    assert train(changed(label_steps=9, label_batch=3, views_beside=0.5))
    assert not train(changed(temperature=0.2))
    assert not train(changed(temperature=0.2, views=ViewSettings(frames=20, masked=(1, 1))))
    assert train(changed(temperature=0.2, views=ViewSettings(frames=20, masked=(1, 1))))
    assert not train(TINY, noisy(12, seed=2))
    assert not train(TINY, noisy(11, seed=2))


def test_labels_of_other_settings_networks_or_clips_begin_anew(tmp_path: Path) -> None:
    spectra, labelled = two_catalogues()

    def train(settings: ClipTraining, seed: int, clips: list[Labelled]) -> bool:
        log = Log()
        train_labels(any_network(seed=seed), spectra, clips, settings, tmp_path, log)
        return resumes(log)

    assert not train(changed(label_steps=2), 1, labelled)
    assert train(changed(label_steps=3), 1, labelled)
    with pytest.raises(HashbeamError, match="3 steps, which is more than 2"):
        train(changed(label_steps=2), 1, labelled)
    assert train(changed(label_steps=3, steps=99), 1, labelled)
    assert not train(changed(label_steps=2, smoothing=0.2), 1, labelled)
    assert not train(changed(label_steps=2), 1, labelled)
    assert not train(changed(label_steps=2), 2, labelled)
    assert not train(changed(label_steps=2), 2, labelled[:1])
    moved = Labelled(labelled[0].rows[::-1], labelled[0].labels)
    assert not train(changed(label_steps=2), 2, [moved])
    renamed = dataclasses.replace(moved.labels, labels=("x", "y", "z"))
    assert not train(changed(label_steps=2), 2, [Labelled(moved.rows, renamed)])
    assert train(changed(label_steps=2), 2, [Labelled(moved.rows, renamed)])


def test_figures_are_told_on_the_way(tmp_path: Path) -> None:
    spectra, labelled = two_catalogues()
    judged: list[ClipEncoder] = []

    def figures(network: ClipEncoder) -> dict[str, float]:
        assert not network.training
        judged.append(copy.deepcopy(network))
        return {"judged": len(judged)}

    log = Log()
    network = train_views(spectra, TINY, tmp_path, log, figures)
    assert log.figures("judged") == [1, 2]
    assert len(log.figures("loss")) == 2
    # What is judged is what is kept: the running mean.
    assert same_weights(judged[1], network)
    assert not same_weights(judged[0], network)
    judged.clear()
    log = Log()
    network = train_labels(network, spectra, labelled, TINY, tmp_path, log, figures)
    assert log.figures("judged") == [1, 2]
    assert len(log.figures("views")) == len(log.figures("labels")) == 2
    assert same_weights(judged[1], network)


# What it learns.


def test_it_learns_views_and_then_labels(tmp_path: Path) -> None:
    spectra, labels = kinds_of_clips(8, 6)
    unheard, kinds = kinds_of_clips(8, 8, seed=2)
    windows = whole_windows(unheard, np.arange(len(kinds)))
    settings = changed(
        steps=40, label_steps=40, batch=16, label_batch=24, learning_rate=5e-3, averaging=0.8
    )
    torch.manual_seed(1)
    untrained = ClipEncoder(16, 8)
    network = train_views(spectra, settings, tmp_path, Log())
    by_views = embed(network, windows)
    found = nearest_are_alike(by_views, kinds)
    assert found > 0.95
    assert found > nearest_are_alike(embed(untrained, windows), kinds) + 0.1
    # Every other kind has one label, which views cannot tell.
    even = np.array([int(label[-1]) % 2 for (label,) in kinds])
    same = even[:, None] == even[None]

    def apart(vectors: np.ndarray) -> float:
        products = vectors @ vectors.T
        return float(products[same].mean() - products[~same].mean())

    assert apart(by_views) < 0.15
    sets = LabelSets.from_clips([[str(int(label[-1]) % 2)] for (label,) in labels])
    log = Log()
    labelled = [Labelled(np.arange(len(labels)), sets)]
    network = train_labels(network, spectra, labelled, settings, tmp_path, log)
    told = log.figures("labels")
    assert np.mean(told[-3:]) < 0.7 * told[0]
    by_labels = embed(network, windows)
    assert apart(by_labels) > apart(by_views) + 0.1
    assert nearest_are_alike(by_labels, even.tolist()) > 0.95


def test_classifiers_count_by_the_roots_of_their_numbers_of_labels(tmp_path: Path) -> None:
    """At a rate of zero nothing is learned, so that all classifiers are as good as chance."""
    spectra, labelled = two_catalogues()
    log = Log()
    settings = changed(label_steps=1, dropout=0.0, learning_rate=0.0)
    before, after = any_network(), any_network()
    after = train_labels(after, spectra, labelled, settings, tmp_path, log)
    weights = dict(after.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in before.named_parameters())
    assert labelled[0].labels.labels == ("kind0", "kind1", "kind2")
    assert labelled[1].labels.labels == ("loud", "soft")
    # Of three and of two labels, of which each classifier knows nothing.
    three, two = np.sqrt(3), np.sqrt(2)
    chance = (three * np.log(3) + two * np.log(2)) / (three + two)
    assert log.figures("labels")[0] == pytest.approx(chance, abs=0.4)


# Draws.


def test_all_sets_of_labels_are_drawn_alike_often() -> None:
    clips = [["many"]] * 90 + [["few"]] * 9 + [["many", "few"]]
    rows = np.arange(100) + 1000
    drawn, shares = Labelled(rows, LabelSets.from_clips(clips)).draw(6000, np.random.default_rng(1))
    assert shares.dtype == np.float32
    found = Counter(map(tuple, shares.tolist()))  # of few and of many
    assert set(found) == {(0, 1), (1, 0), (0.5, 0.5)}
    assert min(found.values()) > 1850
    # Each window comes with its own labels, and each is drawn.
    for share, own in (((0, 1), range(90)), ((1, 0), range(90, 99)), ((0.5, 0.5), (99,))):
        assert set(drawn[(shares == share).all(axis=1)] - 1000) == set(own)


def test_rates_rise_and_fall() -> None:
    stage = _Stage(changed(learning_rate=1.0, warm_up=20), 200)
    rates = np.array([stage.learning_rate_at(step) for step in range(200)])
    assert rates[0] == pytest.approx(1 / 20)
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[100] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


def test_embeddings_are_of_length_one_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, windows = any_network(), whole_windows(noisy(7), np.arange(7))
    found = embed(network, windows)
    assert found.shape == (7, 8)
    assert found.dtype == np.float32
    with torch.no_grad():
        narrow = network(torch.from_numpy(windows))[1].numpy()
    np.testing.assert_allclose(
        found, narrow / np.linalg.norm(narrow, axis=1, keepdims=True), atol=1e-6
    )
    monkeypatch.setattr("hashing.training.events.encoder.EMBED_BATCH", 3)
    np.testing.assert_allclose(embed(network.train(), windows), found, atol=1e-5)
