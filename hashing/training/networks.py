"""Networks that more than one hasher is built from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from hashing.track_fronts import Reach
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
        self.trunk = _trunk(channels)
        _, channel, high, wide = _shape(self.trunk, bands, frames)
        self.project = torch.nn.Linear(channel * high * wide, dimensions)
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
        gain, shift = _normalisation(_weights(self), "balance")
        head = self.head.weight.detach().cpu().numpy().T * gain, shift
        return _convolutions(self), _linear(self.project), head


class TrackEncoder(torch.nn.Module):
    """The first layers of a `ConvEncoder`, for snippets that share them with their neighbours.

    A snippet is heard with what is around it: where a `ConvEncoder` meets the edge of a snippet and
    takes zeros, this one takes the music that goes on there. So of a spectrogram every layer is
    computed once for all snippets, ``stride`` frames apart.

    Args:
      bands, frames: size of a snippet.
      channels: of the layers, three at most.
      dimensions: of the embedding.

    Attributes:
      reach: how far from one snippet to the next, and how much around a snippet it hears.

    Shape: a snippet with its surroundings [n, bands, ``reach.frames(1)``] → embedding of length one
    [n, dimensions].
    """

    def __init__(self, bands: int, frames: int, channels: Sequence[int], dimensions: int) -> None:
        super().__init__()
        if not 1 <= len(channels) <= 3:
            raise ValueError(f"{channels=}: one to three layers, more reach too far")
        self.trunk = _trunk(channels)
        stride = math.prod(layer[1][1] for layer in CONV_LAYERS[: len(channels)])
        _, channel, high, self.columns = _shape(self.trunk, bands, frames)
        self.high = high
        # One column before the snippet's own, and one after: three layers reach no further.
        self.reach = Reach(stride, stride, (self.columns + 1) * stride - frames)
        self.project = torch.nn.Linear(channel * high * self.columns, dimensions)

    def begin_as(self, full: ConvEncoder) -> None:
        """Take over the first layers of an encoder as far as they are as wide."""
        for own, other in zip(self.trunk, full.trunk, strict=False):
            state, found = own.state_dict(), other.state_dict()
            if any(found[name].shape != value.shape for name, value in state.items()):
                return
            own.load_state_dict(found)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        trunk = self.trunk(x[:, None].contiguous(memory_format=torch.channels_last))
        own = trunk[:, :, :, 1 : 1 + self.columns]
        return torch.nn.functional.normalize(self.project(own.flatten(1)).float(), dim=1)

    def folded(self) -> tuple[list[Convolution], tuple[Floats, Floats]]:
        """Convolutions and projection as `hashing.training.export.track_graph` takes them.

        The projection is a kernel [dimensions, channels, bands, columns] and its bias.
        """
        weight, bias = _linear(self.project)
        return _convolutions(self), (weight.T.reshape(bias.size, -1, self.high, self.columns), bias)


def _trunk(channels: Sequence[int]) -> torch.nn.Sequential:
    """The first of the encoder's layers, with so many channels."""
    layers: list[torch.nn.Module] = []
    width = 1
    for out, (kernel, stride, padding) in zip(channels, CONV_LAYERS, strict=False):
        layers += [
            torch.nn.Conv2d(width, out, kernel, stride, padding, bias=False),
            torch.nn.BatchNorm2d(out),
            torch.nn.ReLU(inplace=True),
        ]
        width = out
    return torch.nn.Sequential(*layers)


def _shape(trunk: torch.nn.Sequential, bands: int, frames: int) -> tuple[int, ...]:
    """What the layers make of one snippet: [1, channels, bands, frames]."""
    with torch.no_grad():
        shape = tuple(trunk.eval()(torch.zeros(1, 1, bands, frames)).shape)
    trunk.train()
    return shape


def _weights(network: torch.nn.Module) -> dict[str, Floats]:
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def _linear(layer: torch.nn.Linear) -> tuple[Floats, Floats]:
    weights = _weights(layer)
    return weights["weight"].T, weights["bias"]


def _convolutions(network: ConvEncoder | TrackEncoder) -> list[Convolution]:
    """The trunk's layers, each with the normalisation that follows it folded in."""
    state = _weights(network)
    layers = []
    for i in range(len(network.trunk) // 3):
        _, stride, padding = CONV_LAYERS[i]
        gain, shift = _normalisation(state, f"trunk.{3 * i + 1}")
        weight = state[f"trunk.{3 * i}.weight"] * gain[:, None, None, None]
        layers.append(Convolution(weight, shift, stride, padding))
    return layers


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
