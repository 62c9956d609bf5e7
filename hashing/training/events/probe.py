"""A linear probe: what labels tell of an embedding without any hashing, to compare with."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from hashing.training.events.labels import LabelSets

Floats = npt.NDArray[np.float32]

# Weight decay of the softmax regression, chosen on soundfonts that are heard in training alone.
PENALTY = 1e-3
ROUNDS = 100  # of L-BFGS


@dataclasses.dataclass(frozen=True)
class Probe:
    """Softmax regression.

    Attributes:
      labels: of the columns.
      weights, bias: of standardised embeddings, standardisation folded in.
    """

    labels: tuple[str, ...]
    weights: Floats
    bias: Floats

    def probabilities(self, embeddings: Floats) -> Floats:
        """Of each label, [n, labels], sums of one."""
        logits = np.asarray(embeddings @ self.weights + self.bias, np.float64)
        found = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(found / found.sum(axis=1, keepdims=True), np.float32)

    def roots(self, embeddings: Floats) -> Floats:
        """Square roots of the probabilities, of length one.

        Their product is the Bhattacharyya coefficient of what two clips may be.
        """
        return np.sqrt(self.probabilities(embeddings))


def one_thread() -> None:
    """Let torch use one thread, where every core has a process of its own."""
    torch.set_num_threads(1)


def fit_probe(embeddings: Floats, labels: LabelSets, seed: int = 0) -> Probe:
    """Fit to embeddings of clips in several versions each, [n, versions, d]."""
    torch.manual_seed(seed)
    flat = torch.from_numpy(embeddings.reshape(-1, embeddings.shape[2]))
    mean, gain = flat.mean(0), 1 / (flat.std(0) + 1e-6)
    x = (flat - mean) * gain
    wanted = torch.from_numpy(labels.shares[np.repeat(labels.of, embeddings.shape[1])])
    layer = torch.nn.Linear(x.shape[1], wanted.shape[1])
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(
        layer.parameters(), max_iter=ROUNDS, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(layer(x), wanted) + PENALTY * layer.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weights = np.asarray((layer.weight.detach() * gain).numpy().T, np.float32)
    bias = np.asarray(layer.bias.detach().numpy() - mean.numpy() @ weights, np.float32)
    return Probe(labels.labels, np.ascontiguousarray(weights), bias)
