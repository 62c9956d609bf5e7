"""Networks that more than one hasher is built from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]

# Networks whose second layers share one product after fusing: block-diagonal chunks waste
# (chunk - 1) / chunk of it on zeros, single networks waste it on call overhead.
NETWORKS_PER_CHUNK = 8


class Ensemble(torch.nn.Module):
    """Many one-hidden-layer perceptrons, each on a batch of its own, as batched products.

    Hidden layers are padded to the widest and masked, so that networks of different sizes train in
    one product.

    Args:
      inputs: size of the input.
      hidden: hidden units of each network.
      outputs: outputs of each network.

    Shape: [networks, batch, inputs] → logits [networks, batch, outputs].
    """

    mask: torch.Tensor

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.hidden = list(hidden)
        n, widest = len(self.hidden), max(self.hidden)
        sizes = torch.tensor(self.hidden)
        mask = (torch.arange(widest)[None, :] < sizes[:, None]).float()
        self.register_buffer("mask", mask[:, None, :])
        first = torch.randn(n, inputs, widest) / math.sqrt(inputs)
        second = torch.randn(n, widest, outputs) / torch.sqrt(sizes.float())[:, None, None]
        self.first = torch.nn.Parameter(first)
        self.first_bias = torch.nn.Parameter(torch.zeros(n, 1, widest))
        self.second = torch.nn.Parameter(second)
        self.second_bias = torch.nn.Parameter(torch.zeros(n, 1, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(torch.baddbmm(self.first_bias, x, self.first)) * self.mask
        return torch.baddbmm(self.second_bias, hidden, self.second)

    def fused(self) -> tuple[tuple[Floats, Floats], list[Floats], Floats]:
        """The networks as one product: first layers side by side, second layers in blocks.

        Returns:
          ``(weight [inputs, hidden of all], bias)``, the block-diagonal second layers by chunk of
          networks [hidden of the chunk, outputs of the chunk], and their bias [outputs of all].
        """
        first, first_bias, second, second_bias = (
            parameter.detach().numpy()
            for parameter in (self.first, self.first_bias, self.second, self.second_bias)
        )
        weight = np.concatenate([first[i][:, :h] for i, h in enumerate(self.hidden)], axis=1)
        bias = np.concatenate([first_bias[i, 0, :h] for i, h in enumerate(self.hidden)])
        outputs = second.shape[2]
        chunks = []
        for at in range(0, len(self.hidden), NETWORKS_PER_CHUNK):
            sizes = self.hidden[at : at + NETWORKS_PER_CHUNK]
            chunk = np.zeros((sum(sizes), len(sizes) * outputs), dtype=np.float32)
            row = 0
            for i, h in enumerate(sizes):
                chunk[row : row + h, i * outputs : (i + 1) * outputs] = second[at + i, :h]
                row += h
            chunks.append(chunk)
        return (weight, bias), chunks, second_bias.reshape(-1)
