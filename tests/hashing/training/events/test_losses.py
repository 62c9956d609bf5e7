"""Losses of labelled clips, against loops in numpy and values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.training.events.losses import (
    group_hard_triplet,
    ortho_hash,
    pairwise_cosine,
    supervised_contrast,
)

seeds = st.integers(0, 9999)
sizes = st.integers(2, 11)
EYE = torch.eye(2)
UNLIKE = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])


def batch(n: int, seed: int, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [n, d], and likenesses of few degrees [n, n] of labels in three families."""
    rng = np.random.default_rng(seed)
    family, label = rng.integers(3, size=n), rng.integers(2, size=n)
    same = family[:, None] == family[None]
    likeness = np.where(same & (label[:, None] == label[None]), 1.0, np.where(same, 0.0, -1.0))
    return rng.standard_normal((n, d)).astype(np.float32), likeness.astype(np.float32)


def cosines(outputs: np.ndarray) -> np.ndarray:
    unit = outputs.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(one) for one in arrays]


# Pairwise cosine.


def test_pairwise_cosine_by_hand() -> None:
    alike = torch.tensor([[3.0, 0.0], [1.0, 0.0]])  # a cosine of one where -1 is wanted
    assert float(pairwise_cosine(alike, UNLIKE)) == pytest.approx((0 + 4 + 4 + 0) / 4)
    assert float(pairwise_cosine(alike, UNLIKE, balanced=True)) == pytest.approx(1)
    opposite = torch.tensor([[3.0, 0.0], [-1.0, 0.0]])
    assert float(pairwise_cosine(opposite, UNLIKE)) == pytest.approx(0)
    # If balanced, what is at right angles or beyond is far enough.
    for far in (opposite, EYE):
        assert float(pairwise_cosine(far, UNLIKE, balanced=True)) == 0
    assert float(pairwise_cosine(EYE, UNLIKE)) == pytest.approx(0.5)
    assert float(pairwise_cosine(EYE, torch.ones(2, 2), balanced=True)) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(sizes, seeds)
def test_pairwise_cosine_is_a_mean_over_pairs(n: int, seed: int) -> None:
    outputs, likeness = batch(n, seed)
    cosine = cosines(outputs)
    errors = [(cosine[i, j] - likeness[i, j]) ** 2 for i in range(n) for j in range(n)]
    assert float(pairwise_cosine(*tensors(outputs, likeness))) == pytest.approx(
        np.mean(errors), rel=1e-4
    )
    by_degree: dict[float, list[float]] = {}
    for i in range(n):
        for j in range(n):
            if i != j:
                wanted = (likeness[i, j] + 1) / 2
                error = cosine[i, j] - wanted if wanted else max(0.0, cosine[i, j])
                by_degree.setdefault(float(wanted), []).append(error**2)
    expected = np.mean([np.mean(some) for some in by_degree.values()])
    found = float(pairwise_cosine(*tensors(outputs, likeness), balanced=True))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)


# Triplets.


def test_triplets_by_hand() -> None:
    # An anchor, its positive at right angles, and a negative that is the anchor itself.
    outputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    likeness = torch.tensor([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    # Anchor 0: 0.3 - 0 + 1; anchor 1: 0.3 - 0 + 0. The third has no positive.
    expected = (1.3 + 0.3) / 2
    assert float(group_hard_triplet(outputs, likeness, 0.3, 1)) == pytest.approx(expected)
    # A positive that is half as much more alike must be half as far.
    assert float(group_hard_triplet(outputs, likeness / 2, 0.3, 1)) == pytest.approx(
        (0.15 + 1 + 0.15) / 2
    )


def triplets_by_loops(
    outputs: np.ndarray, likeness: np.ndarray, margin: float, groups: int
) -> float:
    size = math.ceil(len(outputs) / groups)
    cosine, active = cosines(outputs), []
    for first in range(0, len(outputs), size):
        own = range(first, min(first + size, len(outputs)))
        for anchor in own:
            for positive in own:
                if positive == anchor:
                    continue
                hinges = [
                    margin * (likeness[anchor, positive] - likeness[anchor, negative]) / 2
                    - cosine[anchor, positive]
                    + cosine[anchor, negative]
                    for negative in own
                    if likeness[anchor, negative] < likeness[anchor, positive]
                ]
                if hinges and max(hinges) > 0:
                    active.append(max(hinges))
    return float(np.sum(active) / max(1, len(active)))


@settings(max_examples=40, deadline=None)
@given(sizes, seeds, st.sampled_from([0.1, 0.5]), st.integers(1, 4))
def test_triplets_are_the_hardest_of_their_group(
    n: int, seed: int, margin: float, groups: int
) -> None:
    outputs, likeness = batch(n, seed)
    found = group_hard_triplet(*tensors(outputs, likeness), margin, groups)
    expected = triplets_by_loops(outputs, likeness, margin, groups)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_batch_without_triplets_teaches_nothing_and_is_no_error() -> None:
    outputs = torch.randn(4, 3, requires_grad=True)
    loss = group_hard_triplet(outputs, torch.ones(4, 4), 0.3, 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()


# Orthogonal codes.


def test_orthogonal_codes_by_hand() -> None:
    codes = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    own = torch.tensor([[1.0, 0.0]])
    # At the own code the cosines are 1 and 0; between the two all is even.
    at_code = float(ortho_hash(torch.tensor([[5.0, 5.0]]), codes, own, 2.0, 0.0))
    assert at_code == pytest.approx(math.log(1 + math.exp(-2)))
    between = float(ortho_hash(torch.tensor([[7.0, 0.0]]), codes, own, 2.0, 0.0))
    assert between == pytest.approx(math.log(2))
    # A margin must be made good.
    margin = float(ortho_hash(torch.tensor([[5.0, 5.0]]), codes, own, 2.0, 0.25))
    assert margin == pytest.approx(math.log(1 + math.exp(-1.5)))


@settings(max_examples=30, deadline=None)
@given(sizes, seeds, st.sampled_from([0.0, 0.3]))
def test_orthogonal_codes_are_told_by_cross_entropy(n: int, seed: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    outputs = rng.standard_normal((n, 8)).astype(np.float32)
    codes = np.where(rng.random((4, 8)) < 0.5, 1, -1).astype(np.float32)
    held = rng.random((n, 4)) < 0.4
    held[np.arange(n), rng.integers(4, size=n)] = True
    shares = (held / held.sum(axis=1, keepdims=True)).astype(np.float32)
    losses = []
    for one, own, share in zip(outputs, held, shares, strict=True):
        cosine = codes @ one / np.linalg.norm(one) / math.sqrt(8)
        logits = 6.0 * np.where(own, cosine - margin, cosine)
        losses.append(-(share * (logits - np.log(np.exp(logits).sum()))).sum())
    found = float(ortho_hash(*tensors(outputs, codes, shares), 6.0, margin))
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


# Contrast with labels.


@settings(max_examples=30, deadline=None)
@given(sizes, seeds)
def test_contrast_finds_what_is_alike(n: int, seed: int) -> None:
    outputs, likeness = batch(n, seed)
    likeness[likeness == 0] = 0.5  # relatives count half
    unit = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    losses = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        logits = np.array([unit[i] @ unit[j] / 0.2 for j in others])
        chance = logits - np.log(np.exp(logits).sum())
        weight = np.array([max(0.0, likeness[i, j]) for j in others])
        if weight.sum() > 0:
            losses.append(-(weight * chance).sum() / weight.sum())
    found = float(supervised_contrast(*tensors(unit, likeness), 0.2))
    assert found == pytest.approx(np.mean(losses) if losses else 0.0, rel=1e-4, abs=1e-6)


def test_contrast_by_hand() -> None:
    # Two alike and a stranger, all at right angles: one of two is right.
    likeness = torch.tensor([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    loss = supervised_contrast(torch.eye(3), likeness, 0.1)
    assert float(loss) == pytest.approx(math.log(2))


def test_strangers_alone_teach_nothing() -> None:
    outputs = torch.eye(3, requires_grad=True)
    loss = supervised_contrast(outputs, 2 * torch.eye(3) - 1, 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0


@pytest.mark.parametrize("balanced", [False, True])
def test_a_step_downhill_brings_alike_outputs_together(balanced: bool) -> None:
    outputs, likeness = tensors(*batch(8, 3))
    outputs.requires_grad_()
    losses = {
        "cosine": lambda x: pairwise_cosine(x, likeness, balanced),
        "triplets": lambda x: group_hard_triplet(x, likeness, 0.3, 2),
        "contrast": lambda x: supervised_contrast(
            torch.nn.functional.normalize(x, dim=1), likeness, 0.3
        ),
    }
    for loss in losses.values():
        before = loss(outputs)
        (slope,) = torch.autograd.grad(before, outputs)
        assert loss(outputs - 0.01 * slope).item() < before.item()
