"""Networks of sequences: shapes, their start, and what attention is for."""

from __future__ import annotations

import pytest
import torch

from hashing.training.sequences.losses import contrast_loss, margin_loss, spread_loss
from hashing.training.sequences.networks import (
    Attention,
    EmbeddingNetwork,
    EmbeddingSize,
    HashNetwork,
    HashSize,
    Standardise,
)

PLAIN = Standardise(torch.zeros(48), torch.ones(48))


def test_a_hash_for_each_eight_frames() -> None:
    torch.manual_seed(0)
    network = HashNetwork(PLAIN, HashSize((2, 3, 4), (16,), 32))
    assert network(torch.rand(2, 100, 48)).shape == (2, 12, 32)
    assert HashSize().downsampling == 8
    # What lies far away changes nothing.
    frames = torch.rand(1, 96, 48)
    other = frames.clone()
    other[:, 64:] = 0
    assert torch.equal(network(frames)[:, :4], network(other)[:, :4])


def test_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = HashNetwork(Standardise(torch.zeros(48), torch.ones(48)), HashSize())
    dense = [tuple(layer.weight.shape) for layer in network.dense if hasattr(layer, "weight")]
    assert dense == [(2048, 3072), (2048, 2048), (32, 2048)]


def test_outputs_start_neither_dead_nor_full() -> None:
    torch.manual_seed(0)
    outputs = HashNetwork(PLAIN, HashSize((8, 8, 8), (256, 256), 32))(torch.randn(8, 96, 48))
    assert 0.1 < float(outputs.detach().std()) < 0.9


@pytest.mark.parametrize("attention", [None, 16])
def test_an_embedding_of_any_length(attention: int | None) -> None:
    torch.manual_seed(0)
    network = EmbeddingNetwork(PLAIN, EmbeddingSize(4, attention, (32,), 128))
    for length in (2, 77, 300):
        assert network(torch.rand(3, length, 48)).shape == (3, 128)


def addition(rng: torch.Generator, length: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers from -1 to 1, two of which are marked; the target is the mean of these two."""
    numbers = torch.rand(batch, length, generator=rng) * 2 - 1
    half = length // 2
    marks = torch.zeros(batch, length)
    rows = torch.arange(batch)
    first = torch.randint(0, half, (batch,), generator=rng)
    last = torch.randint(half, length, (batch,), generator=rng)
    marks[rows, first] = marks[rows, last] = 1.0
    return torch.stack([numbers, marks], 2), (numbers[rows, first] + numbers[rows, last]) / 2


def solved(attention: bool, length: int, steps: int) -> float:
    """The share of sums that a network gets right to .04 after some steps of training."""
    torch.manual_seed(1)
    rng = torch.Generator().manual_seed(2)
    look = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.LeakyReLU(0.01))
    gather = Attention(32, 32 if attention else None)
    answer = torch.nn.Sequential(
        torch.nn.Linear(32, 32), torch.nn.LeakyReLU(0.01), torch.nn.Linear(32, 1)
    )
    parts = torch.nn.ModuleList([look, gather, answer])
    descent = torch.optim.Adam(parts.parameters(), 0.003)
    for _ in range(steps):
        x, y = addition(rng, length, 100)
        loss = (answer(gather(look(x)))[:, 0] - y).square().mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
    x, y = addition(rng, length, 1000)
    with torch.no_grad():
        error = (answer(gather(look(x)))[:, 0] - y).abs()
    return float((error < 0.04).float().mean())


def test_attention_finds_two_of_many_where_the_mean_does_not() -> None:
    """The addition problem of Raffel and Ellis (2016)."""
    assert solved(attention=True, length=100, steps=150) > 0.9
    assert solved(attention=False, length=100, steps=150) < 0.5


def test_foreign_pairs_are_pushed_to_the_margin_and_no_further() -> None:
    zero, near, far = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 5.0]])
    pushed = margin_loss(zero, zero, zero, near, alpha=2.0, margin=4.0)
    assert float(pushed) == pytest.approx(2 * 9.0)
    assert float(margin_loss(zero, near, zero, far, alpha=2.0, margin=4.0)) == pytest.approx(1.0)
    small = margin_loss(near, near, zero, far, alpha=2.0, margin=4.0, beta=0.5)
    assert float(small) == pytest.approx(1.0)


def test_what_is_ignored_counts_neither_way() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4, 8), torch.randn(4, 8)
    twin = torch.zeros(4, 4, dtype=torch.bool)
    twin[0, 1] = twin[1, 0] = True
    assert float(contrast_loss(one, other, 0.5, twin)) < float(contrast_loss(one, other, 0.5))
    every = torch.ones(4, 4, dtype=torch.bool)
    assert float(contrast_loss(one, other, 0.5, every)) == pytest.approx(0.0)


def test_even_bits_are_no_loss() -> None:
    torch.manual_seed(0)
    signs = torch.randn(4000, 16).sign()
    assert float(spread_loss(signs)) < 0.01
    signs[:, 1] = signs[:, 0]
    assert float(spread_loss(signs)) > 0.008
