"""The comparator: a network learns to name the artists of the training set.

Park et al., "Representation Learning of Music Using Artist Labels" (ISMIR 2018). What stands before
the softmax is the embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from hashing.training.artists.networks import ArtistClassifier
from hashing.training.artists.triplets import spread

# Stochastic gradient descent as in the paper.
LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-5


def optimiser(network: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov's momentum."""
    return torch.optim.SGD(
        network.parameters(),
        lr=learning_rate,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=WEIGHT_DECAY,
    )


def classifier_loss(
    network: ArtistClassifier, levels: torch.Tensor, artists: torch.Tensor, half_precision: bool
) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross-entropy of the artists [n] of segments [n, bands, frames] in dB.

    Returns:
      The loss, and ``loss``, ``named`` (share of segments whose artist is the likeliest) and
      ``batch_spread`` (of the embeddings).
    """
    with torch.autocast(levels.device.type, torch.bfloat16, enabled=half_precision):
        features = network.features(levels)
        logits = network.head(features).float()
    loss = F.cross_entropy(logits, artists)
    named = (logits.argmax(dim=1) == artists).float().mean().item()
    around = spread(F.normalize(features.detach().float(), dim=1))
    return loss, {"loss": loss.item(), "named": named, "batch_spread": around}
