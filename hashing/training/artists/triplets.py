"""Triplets of an anchor, a positive of its artist and a negative of another, and what they cost.

Royo-Letelier et al. (ISMIR 2018), after FaceNet (Schroff et al., CVPR 2015). With d the squared
distance and δ = d(a, n) − d(a, p), a triplet is hard where δ < 0, semi-hard where 0 ≤ δ < margin,
and easy beyond. (The paper has the sign of δ the other way round, and calls what costs nothing
hard.) Hard and semi-hard ones are those with a loss above zero, and only they are learned from.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from hashing.training.artists.tags import Flags

Ints = npt.NDArray[np.int64]

# Squared distance by which a negative is to be farther than a positive; the paper's.
MARGIN = 0.2

# Mean squared distance of embeddings from their mean, below which all segments have become one
# point. It is 1 where they point everywhere; after two steps on generated artists it was 0.03.
COLLAPSED = 1e-3


def anchor_pairs(artists: Ints) -> Ints:
    """All pairs of rows of one artist, each once, [pairs, 2].

    >>> anchor_pairs(np.array([7, 7, 8, 7, 8])).tolist()
    [[0, 1], [0, 3], [1, 3], [2, 4]]
    """
    same = np.triu(artists[:, None] == artists, 1)
    return np.argwhere(same).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class SideInformation:
    """How often a negative shares a tag with its anchor.

    Attributes:
      probability: that one is asked for.
      alike: of each kind of tag that is used, which rows share one, bool [n, n]; for each triplet
        one kind is drawn.
    """

    probability: float = 0.0
    alike: tuple[Flags, ...] = ()


def draw_triplets(
    artists: Ints, rng: np.random.Generator, side: SideInformation | None = None
) -> Ints:
    """All anchor–positive pairs of a batch with one negative each: rows [pairs, 3].

    The negative is any row of another artist. With the probability of `side` it is one that shares
    a tag with the anchor, where there is one; else any.

    Args:
      artists: of each row, [n].

    Raises:
      ValueError: a batch of one artist, or without two rows of one.

    >>> draw_triplets(np.array([1, 1, 2]), np.random.default_rng(0)).tolist()
    [[0, 1, 2]]
    """
    pairs = anchor_pairs(artists)
    anchors = pairs[:, 0]
    allowed = artists[anchors][:, None] != artists
    if not len(pairs) or not allowed.any(axis=1).all():
        raise ValueError("triplets need two segments of one artist, and one of another")
    if side is not None and side.alike and side.probability > 0:
        asked = rng.random(len(pairs)) < side.probability
        kind = rng.integers(len(side.alike), size=len(pairs))
        narrowed = allowed & np.stack(side.alike)[kind, anchors]
        use = asked & narrowed.any(axis=1)
        allowed = np.where(use[:, None], narrowed, allowed)
    # The largest of uniform numbers among those allowed: each is as likely as the others.
    keys = np.where(allowed, rng.random(allowed.shape), -1.0)
    return np.column_stack((pairs, keys.argmax(axis=1)))


def triplet_loss(
    embedding: torch.Tensor, triplets: torch.Tensor, margin: float = MARGIN
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean loss of the hard and semi-hard triplets; zero where there are none.

    Args:
      embedding: [n, d].
      triplets: rows [m, 3].

    Returns:
      The loss, and ``loss``, ``active`` (share of triplets that are kept), ``hard`` (share whose
      negative is nearer than the positive) and ``batch_spread`` (see `spread`).

    >>> points = torch.tensor([[0.0], [0.5], [0.6]])
    >>> loss, parts = triplet_loss(points, torch.tensor([[0, 1, 2]]))
    >>> round(loss.item(), 2), parts["active"], parts["hard"]  # 0.25 - 0.36 + 0.2
    (0.09, 1.0, 0.0)
    """
    anchor, positive, negative = (embedding[triplets[:, i]] for i in range(3))
    near = (anchor - positive).square().sum(dim=1)
    far = (anchor - negative).square().sum(dim=1)
    losses = torch.relu(near - far + margin)
    kept = losses.detach() > 0
    loss = losses.sum() / kept.sum().clamp(min=1)
    return loss, {
        "loss": loss.item(),
        "active": kept.float().mean().item(),
        "hard": (far < near).float().mean().item(),
        "batch_spread": spread(embedding.detach()),
    }


def contrastive_loss(
    embedding: torch.Tensor, artists: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020), all other rows in the denominator.

    Args:
      embedding: of length one, [n, d].
      artists: of each row, [n]; each has two rows or more.
      temperature: of the similarities.

    >>> points = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    >>> artists = torch.tensor([0, 0, 1, 1])
    >>> round(contrastive_loss(points, artists, 1.0)[0].item(), 4)  # ln(e + 2/e) - 1
    0.2395
    """
    n = len(embedding)
    self_mask = torch.eye(n, dtype=torch.bool, device=embedding.device)
    logits = (embedding @ embedding.T / temperature).masked_fill(self_mask, float("-inf"))
    likely = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    same = (artists[:, None] == artists) & ~self_mask
    loss = -(likely.masked_fill(~same, 0.0).sum(dim=1) / same.sum(dim=1)).mean()
    return loss, {"loss": loss.item(), "batch_spread": spread(embedding.detach())}


def spread(embedding: torch.Tensor) -> float:
    """Mean squared distance from the mean, 0 to 1 for embeddings of length one.

    >>> spread(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), spread(torch.ones(4, 1))
    (0.5, 0.0)
    """
    return float((embedding - embedding.mean(dim=0)).square().sum(dim=1).mean())
