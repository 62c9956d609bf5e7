"""Training of hashes and embeddings: it learns, and a stopped run goes on as if it had not been."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_songs import BINS, TINY, any_statistics, tiny_songs
from training_fixture import Log

from hashing.errors import HashbeamError
from hashing.training.sequences import training
from hashing.training.sequences.losses import contrast_loss, margin_loss, spread_loss
from hashing.training.sequences.settings import (
    EMBEDDING_MARGIN,
    HASH_MARGIN,
    HeadSchedule,
    SequenceTraining,
    training_of,
)
from hashing.training.sequences.training import (
    embedding_loss,
    hash_loss,
    start,
    train_embeddings,
    train_hashes,
)


def changed(**values: Any) -> SequenceTraining:
    return dataclasses.replace(TINY, **values)


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


SYSTEMS = {
    "contrast": {},
    "margin": {"system": "margin"},
    "published": {"system": "published", "narrow": 0.03, "embed_steps": 4, "steps": 4},
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_resumed_run_is_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    settings, songs = changed(**SYSTEMS[name]), tiny_songs()
    whole, found = train_hashes(songs, settings, tmp_path / "whole", Log())
    with pytest.raises(KeyboardInterrupt):
        train_hashes(songs, settings, tmp_path / "cut", Log(stop_at="step      2"))
    log = Log()
    resumed, again = train_hashes(songs, settings, tmp_path / "cut", log)
    assert log.lines[0] == f"resuming at step 2 of {settings.steps}"
    assert same(whole, resumed)
    assert found == again
    # Embeddings too, whose crops are drawn step by step.
    head, figures = train_embeddings(whole, songs, settings, tmp_path / "whole", Log())
    with pytest.raises(KeyboardInterrupt):
        train_embeddings(whole, songs, settings, tmp_path / "cut", Log("embedding step      2"))
    other, again = train_embeddings(whole, songs, settings, tmp_path / "cut", Log())
    assert same(head, other)
    assert figures == again
    # A run that has ended is not begun again.
    train_embeddings(whole, songs, settings, tmp_path / "cut", Log("embedding step"))


def test_other_settings_begin_anew_and_more_steps_go_on(tmp_path: Path) -> None:
    songs = tiny_songs()
    first, _ = train_hashes(songs, changed(steps=2), tmp_path, Log())
    log = Log()
    train_hashes(songs, changed(steps=4), tmp_path, log)
    assert log.lines[0].startswith("resuming at step 2 of 4")
    with pytest.raises(HashbeamError, match="4 steps, which is more than 2"):
        train_hashes(songs, changed(steps=2), tmp_path, Log())
    log = Log()
    train_hashes(songs, changed(steps=2, temperature=0.2), tmp_path, log)
    assert not any(line.startswith("resuming") for line in log.lines)
    # Other songs are another run, and so are embeddings of another network.
    log = Log()
    train_hashes(songs[:-1], changed(steps=2, temperature=0.2), tmp_path, log)
    assert not any(line.startswith("resuming") for line in log.lines)
    train_embeddings(first, songs, changed(embed_steps=2), tmp_path, Log())
    second, _ = train_hashes(songs, changed(steps=2, seed=9), tmp_path / "b", Log())
    log = Log()
    train_embeddings(second, songs, changed(embed_steps=2), tmp_path, log)
    assert len(log.figures("loss")) == 1


def test_embeddings_leave_the_hashes_as_they_are(tmp_path: Path) -> None:
    settings, songs = changed(steps=2, embed_steps=2), tiny_songs()
    network, _ = train_hashes(songs, settings, tmp_path, Log())
    before = weights(network)
    train_embeddings(network, songs, settings, tmp_path, Log())
    assert all(torch.equal(before[name], value) for name, value in weights(network).items())


def test_only_songs_to_learn_from_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = set()
    draw = training.draw_pairs

    def told(songs: Any, *rest: Any, **more: Any) -> Any:
        drawn.update(song.role for song in songs)
        return draw(songs, *rest, **more)

    monkeypatch.setattr(training, "draw_pairs", told)
    settings = changed(steps=1, embed_steps=1)
    network, _ = train_hashes(tiny_songs(), settings, tmp_path, Log())
    train_embeddings(network, tiny_songs(), settings, tmp_path, Log())
    assert drawn == {"learn"}


# Losses of a batch.


class Given(torch.nn.Module):
    """Outputs that are given."""

    def forward(self, frames: torch.Tensor, side: str) -> tuple[torch.Tensor, torch.Tensor]:
        del side
        return frames, frames


def a_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    audio, score = (torch.tanh(torch.randn(3, 4, 8, generator=rng)) for _ in range(2))
    step = torch.tensor([[0, 1, 2, 3], [1, -1, 2, -1], [-1, -1, 0, 1]])
    return audio, score, step


def test_the_loss_of_a_batch_is_that_of_its_pairs() -> None:
    audio, score, step = a_batch()
    pairs = [(s, t, int(step[s, t])) for s in range(3) for t in range(4) if step[s, t] >= 0]
    one = torch.stack([audio[s, t] for s, t, _ in pairs])
    other = torch.stack([score[s, u] for s, _, u in pairs])
    together = torch.tensor([[a[0] == b[0] for b in pairs] for a in pairs])
    settings = changed(temperature=0.3, binary=0.0, spread=0.0)
    network: Any = Given()
    value, parts = hash_loss(network, audio, score, step, settings)
    assert float(value) == pytest.approx(float(contrast_loss(one, other, 0.3, together)))
    assert parts["loss"] == pytest.approx(float(value))
    spread = hash_loss(network, audio, score, step, changed(binary=0.0, spread=2.0))[1]["spread"]
    assert spread == pytest.approx(float(spread_loss(one) + spread_loss(other)), abs=1e-6)
    # With signs on one side.
    half = contrast_loss(one, other.sign(), 0.3, together)
    half = (half + contrast_loss(one.sign(), other, 0.3, together)) / 2
    value, parts = hash_loss(network, audio, score, step, changed(temperature=0.3, spread=0.0))
    assert parts["binary"] == pytest.approx(float(half))
    assert float(value) == pytest.approx(parts["loss"] + 0.5 * float(half))


def test_signs_pass_the_slope_on() -> None:
    audio, score, step = (part.requires_grad_(part.is_floating_point()) for part in a_batch())
    network: Any = Given()
    hash_loss(network, audio, score, step, changed(spread=0.0))[0].backward()  # type: ignore[no-untyped-call]
    assert audio.grad is not None
    assert bool((audio.grad[0].abs() > 0).all())
    assert bool((audio.grad[1, 1] == 0).all())


def test_wrong_pairs_of_the_margin_are_of_other_songs() -> None:
    audio, score, step = a_batch()
    network: Any = Given()
    value, _ = hash_loss(network, audio, score, step, changed(system="margin"))
    song, place = torch.nonzero(step >= 0, as_tuple=True)
    one, other = audio[song, place], score[song, step[song, place]]
    turned = [(n - 5) % len(one) for n in range(len(one))]
    far = [(n, t) for n, t in enumerate(turned) if song[n] != song[t]]
    assert len(far) > 2
    wrong = one[[n for n, _ in far]], other[[t for _, t in far]]
    how = HASH_MARGIN
    wanted = margin_loss(one, other, *wrong, alpha=how.alpha, margin=how.margin, beta=how.beta)
    assert float(value) == pytest.approx(float(wanted))


def test_the_loss_of_embeddings() -> None:
    rng = torch.Generator().manual_seed(2)
    one, other = (
        torch.nn.functional.normalize(torch.randn(5, 6, generator=rng), dim=1) for _ in range(2)
    )
    value, _ = embedding_loss(one, other, changed(embed_temperature=0.2))
    logits = one @ other.T / 0.2
    wanted = (-logits.log_softmax(1).diag().mean() - logits.log_softmax(0).diag().mean()) / 2
    assert float(value) == pytest.approx(float(wanted), rel=1e-5)
    value, parts = embedding_loss(one, other, changed(system="published"))
    how = EMBEDDING_MARGIN
    wrong = one, other[[4, 0, 1, 2, 3]]
    wanted = margin_loss(one, other, *wrong, alpha=how.alpha, margin=how.margin)
    assert float(value) == parts["loss"] == pytest.approx(float(wanted))


# Settings.


def test_the_published_descent_is_that_of_the_paper_at_its_size_only() -> None:
    paper = training_of("published", "rendered")
    assert paper.at_paper_size
    assert (paper.batch, paper.embed_batch, paper.frames) == (50, 20, 104)
    assert paper.learning_rate_at(0) == paper.learning_rate_at(7000) == 1e-5
    assert HeadSchedule(paper).learning_rate_at(9) == 5e-6
    network = torch.nn.Linear(2, 2)
    optimiser = start(paper, network, HASH_MARGIN).optimiser
    assert isinstance(optimiser, torch.optim.RMSprop)
    assert (optimiser.defaults["lr"], optimiser.defaults["alpha"]) == (1e-5, 0.26)
    narrow = training_of("published", "roll", narrow=0.5, attention=False)
    assert not narrow.at_paper_size
    assert narrow.scores == ("roll",)
    assert narrow.attention is None
    assert isinstance(start(narrow, network, HASH_MARGIN).optimiser, torch.optim.AdamW)


def test_rates_rise_and_fall() -> None:
    settings = SequenceTraining(steps=1000, warm_up=100, learning_rate=1.0, embed_steps=500)
    for one, steps, highest in ((settings, 1000, 1.0), (HeadSchedule(settings), 500, 0.5)):
        rates = np.array([one.learning_rate_at(step) for step in range(steps)])
        assert (np.diff(rates[:100]) > 0).all()
        assert (np.diff(rates[100:]) < 0).all()
        assert rates.max() == pytest.approx(highest)
        assert 0 < rates[-1] < 0.001
        assert rates[0] == pytest.approx(highest / 100)


def test_networks_are_those_that_settings_name() -> None:
    one = any_statistics(1)
    for values, steps in (
        ({}, 12),
        ({"system": "published", "narrow": 0.03}, 12),
        ({"system": "published", "narrow": 0.03, "attention": None}, 12),
    ):
        settings = changed(**values)
        network, head = settings.network(one, any_statistics(2)), settings.head()
        features, responses = network(torch.rand(2, 96, BINS), "score")
        assert responses.shape == (2, steps, 32)
        assert float(responses.detach().abs().max()) <= 1
        assert head(features, "score").shape == (2, 16)
        assert network.size.downsampling == settings.size.downsampling == 8
    whole = SequenceTraining(system="published")
    with torch.device("meta"):
        sizes = [tuple(p.shape) for p in whole.head().parameters()]
        hashes = [tuple(p.shape) for p in whole.network(one, one).parameters()]
    # As published: 2048 units of attention over 32 · 24 values, and dense layers of 2048.
    assert sizes.count((2048, 768)) == 4
    assert hashes.count((2048, 3072)) == 2
