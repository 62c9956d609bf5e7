"""What makes two networks agree on what belongs together: the published margin, and contrast."""

from __future__ import annotations

import torch

from hashing.training.encoder import contrast


def margin_loss(
    one: torch.Tensor,
    other: torch.Tensor,
    foreign: torch.Tensor,
    other_foreign: torch.Tensor,
    *,
    alpha: float,
    margin: float,
    beta: float = 0.0,
) -> torch.Tensor:
    """Pairs close, foreign ones apart, outputs small (Raffel 2016, equations 5.1 and 6.2).

    mean |f - g|² + alpha · mean max(0, margin - |f - g|)² of foreign ones + beta · (mean |f|² +
    mean |g|²).

    Args:
      one, other: [..., n], outputs of the two networks for what belongs together.
      foreign, other_foreign: [..., n], for what does not.

    >>> same, far = torch.zeros(2, 3), torch.full((2, 3), 9.0)
    >>> float(margin_loss(same, same, same, far, alpha=1.0, margin=4.0))
    0.0
    >>> round(float(margin_loss(same, same, same, same, alpha=1.0, margin=4.0)), 3)
    16.0
    """
    together = (one - other).square().sum(-1).mean()
    # The root of a sum of squares has no slope at 0.
    apart = ((foreign - other_foreign).square().sum(-1) + 1e-12).sqrt()
    pushed = (margin - apart).clamp(min=0).square().mean()
    size = one.square().sum(-1).mean() + other.square().sum(-1).mean()
    return together + alpha * pushed + beta * size


def contrast_loss(
    one: torch.Tensor, other: torch.Tensor, temperature: float, ignored: torch.Tensor | None = None
) -> torch.Tensor:
    """Each row of `one` picks its own among all rows of `other`, and the other way round.

    InfoNCE (van den Oord et al., "Representation learning with contrastive predictive coding",
    2018), in both directions.

    Args:
      one, other: [n, d]; rows of one number belong together. Compared by inner product over d.
      temperature: what the similarities are divided by.
      ignored: [n, n] bool, pairs that are neither right nor wrong; the diagonal stays.

    >>> rows = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> bool(contrast_loss(rows, rows, 0.1) < contrast_loss(rows, -rows, 0.1))
    True
    """
    similar = one @ other.T / one.shape[1] / temperature
    if ignored is not None:
        own = torch.eye(len(one), dtype=torch.bool, device=one.device)
        similar = similar.masked_fill(ignored & ~own, float("-inf"))
    return contrast(similar)


def spread_loss(outputs: torch.Tensor) -> torch.Tensor:
    """How far the bits of outputs [n, d] are from being even and independent of each other.

    Mean square of the bits' means and of their covariances, as bits that say the same twice, or
    nothing, tell no sequences apart.

    >>> even = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> float(spread_loss(even)), float(spread_loss(torch.ones(4, 2)))
    (0.0, 1.0)
    """
    means = outputs.mean(0)
    centred = outputs - means
    covariance = centred.T @ centred / len(outputs)
    off = covariance - torch.diag(torch.diag(covariance))
    count = outputs.shape[1]
    return means.square().mean() + off.square().sum() / (count * max(count - 1, 1))
