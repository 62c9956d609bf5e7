"""Losses of embeddings and codes of labelled clips.

* `pairwise_cosine`: Cao et al., "Deep quantization network for efficient image retrieval" (AAAI
  2016), taken to sound by Jati & Emmanouilidou (ICASSP 2020).
* `group_hard_triplet`: Liu et al., "Deep triplet quantization" (ACM MM 2018).
* `ortho_hash`: Hoe et al., "One loss for all: deep hashing with a single cosine similarity based
  learning objective" (NeurIPS 2021).
* `supervised_contrast`: Khosla et al. (NeurIPS 2020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def pairwise_cosine(
    outputs: torch.Tensor, likeness: torch.Tensor, balanced: bool = False
) -> torch.Tensor:
    """Mean squared difference of all pairs' cosine and their likeness.

    Args:
      outputs: [n, d]; likeness: [n, n] from -1 (nothing in common) to 1 (same labels).
      balanced: each degree of likeness counts as much as any other, however few pairs have it, and
        what is wanted is a cosine from 0 to 1, and none below zero is an error where nothing is in
        common: many classes cannot all be opposite.
    """
    unit = F.normalize(outputs, dim=1)
    cosine = unit @ unit.T
    if not balanced:
        return (cosine - likeness).square().mean()
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    wanted = (likeness + 1) / 2
    error = torch.where(wanted > 0, cosine - wanted, cosine.clamp(min=0)).square()
    _, degree = torch.unique(wanted[~itself], return_inverse=True)
    sums = torch.zeros(int(degree.max()) + 1, device=unit.device).index_add(
        0, degree, error[~itself]
    )
    return (sums / torch.bincount(degree)).mean()


def group_hard_triplet(
    outputs: torch.Tensor, likeness: torch.Tensor, margin: float, groups: int
) -> torch.Tensor:
    """Hinge of triplets: the hardest negatives of each group, against all positives in the group.

    The batch is dealt to groups in its order, so that the hardest negative of each is not always
    the same outlier. A triplet's negative is less like its anchor than its positive is.

    Args:
      margin: that cosines of positive and negative must be apart, times how much more alike the
        positive is by its labels.
    """
    unit = F.normalize(outputs, dim=1)
    total, count = outputs.sum() * 0.0, 0
    for own in torch.arange(len(outputs), device=outputs.device).chunk(groups):
        cosine = unit[own] @ unit[own].T
        alike = likeness[own][:, own]
        more = (alike[:, :, None] - alike[:, None, :]) / 2  # anchor, positive, negative
        itself = torch.eye(len(own), dtype=torch.bool, device=outputs.device)
        valid = (more > 0) & ~itself[:, :, None]
        loss = F.relu(margin * more - cosine[:, :, None] + cosine[:, None, :])
        # The hardest negative of each pair of anchor and positive.
        hardest = loss.masked_fill(~valid, 0.0).amax(dim=2)
        active = hardest > 0
        total, count = total + hardest.sum(), count + int(active.sum())
    return total / max(1, count)


def ortho_hash(
    outputs: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, scale: float, margin: float
) -> torch.Tensor:
    """Cross-entropy of scaled cosines with the classes' orthogonal codes.

    Args:
      outputs: [n, d]; targets: [classes, d] of ±1; shares: [n, classes] of the labels, sums of one.
      margin: that the cosine with an own code must have more.
    """
    cosine = F.normalize(outputs, dim=1) @ F.normalize(targets, dim=1).T
    return F.cross_entropy(scale * (cosine - margin * (shares > 0)), shares)


def supervised_contrast(
    unit: torch.Tensor, likeness: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Each item must find those of its labels among all others.

    Args:
      unit: [n, d] of length one; likeness: [n, n], weights of the positives, 0 for none.
    """
    n = len(unit)
    itself = torch.eye(n, dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, -1e9)
    chance = F.log_softmax(logits, dim=1)
    weight = likeness.clamp(min=0).masked_fill(itself, 0.0)
    total = weight.sum(dim=1)
    found = (weight * chance).sum(dim=1) / total.clamp(min=1e-6)
    return -found[total > 0].mean() if bool((total > 0).any()) else unit.sum() * 0.0
