"""The linear map from an embedding to the coordinates of a balanced flow hash."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Of the triplet loss; 1,500 steps of it move the principal components until the loss is zero.
LEARNING_RATE = 1e-3


def principal_components(dense: Floats, bits: int) -> tuple[Floats, Floats]:
    """Weight [d, bits] and bias [bits] to components of median zero and deviation one."""
    centred = dense - dense.mean(axis=0)
    _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    chosen = vectors[:, ::-1][:, :bits]
    # The sign of an eigenvector is a matter of the library: the largest entry is made positive.
    largest = np.abs(chosen).argmax(axis=0)
    chosen = chosen * np.sign(chosen[largest, np.arange(bits)])
    return standardised(chosen.astype(np.float32), dense)


def standardised(weight: Floats, dense: Floats) -> tuple[Floats, Floats]:
    """A projection scaled to deviation one, and its bias to median zero, over `dense`."""
    projected = dense @ weight
    scale = projected.std(axis=0)
    bias = -np.median(projected, axis=0) / scale
    return (weight / scale).astype(np.float32), bias.astype(np.float32)


def triplet_loss(y: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """By how much pairs [n, bits] are further apart than from the mean of the batch's others."""
    rest = (y.sum(dim=0) + other.sum(dim=0) - y - other) / (2 * len(y) - 2)
    return F.relu((y - other).norm(dim=1) - (y - rest).norm(dim=1)).mean()


def triplet_projection(
    clean: Floats,
    heard: Floats,
    dense: Floats,
    bits: int,
    draw: Callable[[int], Ints],
    steps: int,
) -> tuple[Floats, Floats]:
    """FlowHash's projection, trained from the principal components on by `triplet_loss`.

    Args:
      clean, heard: the same moments, [n, d]; `dense`: many moments, [N, d].
      draw: rows of the moments that a step learns from.
    """
    weight, bias = (torch.from_numpy(part) for part in principal_components(dense, bits))
    weight.requires_grad_()
    optimiser = torch.optim.Adam([weight], lr=LEARNING_RATE)
    one, another = torch.from_numpy(clean), torch.from_numpy(heard)
    for step in range(steps):
        chosen = torch.from_numpy(draw(step))
        y, other = one[chosen] @ weight + bias, another[chosen] @ weight + bias
        loss = triplet_loss(y, other)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return standardised(weight.detach().numpy(), dense)
