"""Gradient descent of small perceptrons that see the same snippets, as plain matrix products.

The networks of Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007): one hidden
layer of tanh, sigmoid outputs, squared errors, no momentum. Side by side, the first layers of some
networks are one matrix and their second layers one of blocks, so that a step takes five products
and writes its weights once. With the products of `hashing.training.networks.Ensemble` and autograd
it takes two to four times as long on one core, and gives the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hashing.training.networks import Ensemble

# Networks in one block: their weights, and what passes between the layers, stay in a cache of 2 MB.
# Measured for the paper's sizes on 384 components: 8 take 0.13 s an epoch, 2 take 0.19, 58 0.33.
NETWORKS_PER_BLOCK = 8


class Block:
    """Some networks of an ensemble, and steps of theirs down the gradient.

    Args:
      ensemble: where weights come from, and go to with `store`.
      networks: which of its networks.

    >>> ensemble = Ensemble(2, [3, 1], 1)
    >>> block = Block(ensemble, [1])
    >>> x, wanted = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0]])
    >>> errors = [float(block.step(x, wanted, rate=1.0)) for _ in range(50)]
    >>> errors[-1] < errors[0]
    True
    """

    def __init__(self, ensemble: Ensemble, networks: Sequence[int]) -> None:
        self.networks = list(networks)
        self._ensemble = ensemble
        self._outputs = ensemble.second.shape[2]
        sizes = [ensemble.hidden[i] for i in self.networks]
        self._ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        self._mask = torch.zeros(self._ends[-1], len(sizes) * self._outputs)
        self._first = torch.empty(ensemble.first.shape[1], self._ends[-1])
        self._first_bias = torch.empty(self._ends[-1])
        self._second = torch.zeros_like(self._mask)
        self._second_bias = torch.empty(len(sizes) * self._outputs)
        self._copy(into_ensemble=False)

    def step(self, inputs: torch.Tensor, wanted: torch.Tensor, rate: float) -> torch.Tensor:
        """One step for a batch.

        Args:
          inputs: [batch, components].
          wanted: [batch, networks · outputs], of 0 and 1, network by network.
          rate: of descent, on the sum of squared errors.

        Returns:
          that sum before the step, a tensor of one value.
        """
        hidden = torch.addmm(self._first_bias, inputs, self._first).tanh_()
        out = torch.addmm(self._second_bias, hidden, self._second).sigmoid_()
        error = out - wanted
        back = error * out * (1.0 - out)
        below = torch.mm(back, self._second.T).mul_(1.0 - hidden * hidden)
        by = -2.0 * rate  # of the square
        self._second.addmm_(hidden.T, back, alpha=by).mul_(self._mask)
        self._second_bias.add_(back.sum(0), alpha=by)
        self._first.addmm_(inputs.T, below, alpha=by)
        self._first_bias.add_(below.sum(0), alpha=by)
        return torch.sum(error * error)

    def store(self) -> None:
        """Put the weights back into the ensemble."""
        self._copy(into_ensemble=True)

    def _copy(self, *, into_ensemble: bool) -> None:
        ensemble, outputs = self._ensemble, self._outputs
        with torch.no_grad():
            for at, network in enumerate(self.networks):
                units = slice(self._ends[at], self._ends[at + 1])
                bits = slice(at * outputs, (at + 1) * outputs)
                size = ensemble.hidden[network]
                self._mask[units, bits] = 1.0
                for theirs, ours in (
                    (ensemble.first[network, :, :size], self._first[:, units]),
                    (ensemble.first_bias[network, 0, :size], self._first_bias[units]),
                    (ensemble.second[network, :size], self._second[units, bits]),
                    (ensemble.second_bias[network, 0], self._second_bias[bits]),
                ):
                    target, source = (theirs, ours) if into_ensemble else (ours, theirs)
                    target.copy_(source)


def blocks_of(ensemble: Ensemble, networks_per_block: int = NETWORKS_PER_BLOCK) -> list[Block]:
    """All networks of an ensemble, some at a time.

    >>> [block.networks for block in blocks_of(Ensemble(2, [3, 1, 2], 1), 2)]
    [[0, 1], [2]]
    """
    n = len(ensemble.hidden)
    return [
        Block(ensemble, range(first, min(first + networks_per_block, n)))
        for first in range(0, n, networks_per_block)
    ]
