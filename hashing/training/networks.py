"""Networks that more than one hasher is built from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from hashing.training.export import Convolution

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


class ConvEncoder(torch.nn.Module):
    """A light convolutional encoder of snippets, with a head that makes bits of its embedding.

    Four 3 × 3 layers behind a 4 × 4 stem; a stride of two in each direction until 4 × 4 places are
    left, whose channels are joined and projected, so that the embedding knows where in frequency
    and time something was. 5.0 million products a snippet of 64 bands and 28 frames: kernels of
    this shape reach 75 GMAC/s on one core in ONNX Runtime, where bottlenecks and mixers of the same
    cost reach 35 to 53.

    Args:
      bands, frames: size of a snippet.
      channels: of the layers; a lighter encoder has fewer of them, up to four.
      dimensions: of the embedding.
      bits: of the head.

    Shape: [n, bands, frames] → embedding of length one [n, dimensions] and logits [n, bits]; a bit
    is one where its logit is above zero, and every bit is one for about half of all snippets.
    """

    def __init__(
        self, bands: int, frames: int, channels: Sequence[int], dimensions: int, bits: int
    ) -> None:
        super().__init__()
        self.depth = len(channels)
        layers: list[torch.nn.Module] = []
        width = 1
        for out, (kernel, stride, padding) in zip(channels, CONV_LAYERS, strict=False):
            layers += [
                torch.nn.Conv2d(width, out, kernel, stride, padding, bias=False),
                torch.nn.BatchNorm2d(out),
                torch.nn.ReLU(inplace=True),
            ]
            width = out
        self.trunk = torch.nn.Sequential(*layers)
        with torch.no_grad():
            size = self.trunk.eval()(torch.zeros(1, 1, bands, frames)).numel()
        self.train()
        self.project = torch.nn.Linear(size, dimensions)
        self.head = torch.nn.Linear(dimensions, bits, bias=False)
        # Without scale and shift: bits are balanced because logits are centred.
        self.balance = torch.nn.BatchNorm1d(bits, affine=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        trunk = self.trunk(x[:, None].contiguous(memory_format=torch.channels_last))
        projected = self.project(trunk.flatten(1)).float()
        with torch.autocast(x.device.type, enabled=False):
            embedding = torch.nn.functional.normalize(projected, dim=1)
            return embedding, self.balance(self.head(embedding))

    def folded(self) -> tuple[list[Convolution], tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Convolutions, projection and head as `hashing.training.export.encoder_graph` takes them.

        What normalises a batch in training is a scale and a shift afterwards, folded into the
        weights.
        """
        state = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        layers = []
        for i, (_, stride, padding) in enumerate(CONV_LAYERS[: self.depth]):
            gain, shift = _normalisation(state, f"trunk.{3 * i + 1}")
            weight = state[f"trunk.{3 * i}.weight"] * gain[:, None, None, None]
            layers.append(Convolution(weight, shift, stride, padding))
        gain, shift = _normalisation(state, "balance")
        project = state["project.weight"].T, state["project.bias"]
        return layers, project, (state["head.weight"].T * gain, shift)


def _normalisation(state: Mapping[str, Floats], name: str) -> tuple[Floats, Floats]:
    """Gain and shift of a batch normalisation that has been trained."""
    gain = 1.0 / np.sqrt(state[f"{name}.running_var"] + BATCH_NORM_EPSILON)
    gain = gain * state.get(f"{name}.weight", np.float32(1.0))
    shift = state.get(f"{name}.bias", np.float32(0.0)) - state[f"{name}.running_mean"] * gain
    return gain.astype(np.float32), shift.astype(np.float32)


BATCH_NORM_EPSILON = 1e-5  # torch's own

# Kernel, stride and padding of the encoder's layers, as (bands, frames).
CONV_LAYERS: tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]], ...] = (
    ((4, 4), (4, 2), (0, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 3), (1, 1), (1, 1)),
)
