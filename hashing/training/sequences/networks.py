"""Networks for sequences of frames: one hash every eight frames, and one embedding of all of them.

Source: Raffel, "Learning-based methods for comparing sequences, with applications to audio-to-MIDI
alignment and matching" (2016), chapters 5 and 6; attention that looks at each frame by itself:
Raffel and Ellis, "Feed-forward networks with attention can solve some long-term memory problems"
(2016).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

POOLED = 2  # frames become one, three times: a hash for each eight of them
HE = 2.0  # variance of weights times inputs: He et al., "Delving deep into rectifiers" (2015)


@dataclasses.dataclass(frozen=True)
class HashSize:
    """How large a hash network is; the defaults are the published ones.

    Attributes:
      filters: of the two convolutions before each pooling.
      hidden: units of each dense layer.
      bits: of a hash.
    """

    filters: tuple[int, ...] = (16, 32, 64)
    hidden: tuple[int, ...] = (2048, 2048)
    bits: int = 32

    @property
    def downsampling(self) -> int:
        """Frames of a hash."""
        return int(POOLED ** len(self.filters))


class Standardise(torch.nn.Module):
    """Frames [..., n] with mean 0 and deviation 1 of every bin, as the training set has them."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return (frames - self.mean) / self.deviation


class HashNetwork(torch.nn.Module):
    """Frames [batch, time, bins] → outputs from -1 to 1 [batch, time // downsampling, bits].

    A bit of the hash is whether an output is above 0.
    """

    def __init__(self, standardise: Standardise, size: HashSize) -> None:
        super().__init__()
        bins = standardise.mean.numel()
        layers: list[torch.nn.Module] = []
        channels = 1
        for filters in size.filters:
            for _ in range(2):
                layers += [torch.nn.Conv2d(channels, filters, 3, padding=1), torch.nn.ReLU()]
                channels = filters
            layers.append(torch.nn.MaxPool2d((POOLED, 1)))
        self.standardise = standardise
        self.convolve = torch.nn.Sequential(*layers)
        self.dense = _dense(channels * bins, size.hidden, size.bits)
        _initialise(self)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        found = self.convolve(self.standardise(frames)[:, None])
        outputs: torch.Tensor = torch.tanh(self.dense(found.transpose(1, 2).flatten(2)))
        return outputs


class Attention(torch.nn.Module):
    """The mean of a sequence [batch, time, n] → [batch, n], weighted by what each step holds.

    e = v · tanh(W h + b), weights = softmax(e). Without `units` all weights are the same.
    """

    def __init__(self, inputs: int, units: int | None) -> None:
        super().__init__()
        self.energy: torch.nn.Module | None = None
        if units is not None:
            first, last = torch.nn.Linear(inputs, units), torch.nn.Linear(units, 1, bias=False)
            self.energy = torch.nn.Sequential(first, torch.nn.Tanh(), last)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        if self.energy is None:
            return steps.mean(dim=1)
        weights = torch.softmax(self.energy(steps), dim=1)
        return (weights * steps).sum(dim=1)


@dataclasses.dataclass(frozen=True)
class EmbeddingSize:
    """How large an embedding network is; the defaults are the published ones."""

    filters: int = 32
    attention: int | None = 2048
    hidden: tuple[int, ...] = (2048, 2048)
    dimensions: int = 128


class EmbeddingNetwork(torch.nn.Module):
    """Frames [batch, time, bins] → embeddings [batch, dimensions] from -1 to 1."""

    def __init__(self, standardise: Standardise, size: EmbeddingSize) -> None:
        super().__init__()
        bins = standardise.mean.numel()
        self.standardise = standardise
        self.convolve = torch.nn.Sequential(
            torch.nn.Conv2d(1, size.filters, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
        )
        inputs = size.filters * (bins // 2)
        self.attention = Attention(inputs, size.attention)
        self.dense = _dense(inputs, size.hidden, size.dimensions)
        _initialise(self)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        found = self.convolve(self.standardise(frames)[:, None])
        outputs: torch.Tensor = torch.tanh(
            self.dense(self.attention(found.transpose(1, 2).flatten(2)))
        )
        return outputs


@dataclasses.dataclass(frozen=True)
class TrunkSize:
    """How large a trunk is; the defaults make 1.3 MB at half precision.

    Attributes:
      channels: of the convolutions; after each of the first three frames become half as many.
      around: steps that the last convolution looks at.
      bits: of a hash.
      bins: of a frame.
    """

    channels: tuple[int, ...] = (96, 128, 192, 256)
    around: int = 5
    bits: int = 32
    bins: int = 48

    @property
    def downsampling(self) -> int:
        """Frames of a hash."""
        return int(POOLED ** (len(self.channels) - 1))


class Trunk(torch.nn.Module):
    """Frames [batch, time, bins] → features [batch, steps, n] and outputs [batch, steps, bits].

    Convolutions over time only, each bin a channel, with pooling of two frames three times. One
    trunk hears both sides, each standardised by its own statistics. Beyond the published networks,
    it looks at two and a half seconds for every hash, and costs a tenth of their products.
    """

    def __init__(self, audio: Standardise, score: Standardise, size: TrunkSize) -> None:
        super().__init__()
        self.sides = torch.nn.ModuleDict({"audio": audio, "score": score})
        self.size = size
        before = size.bins
        layers: list[torch.nn.Module] = []
        for channels in size.channels[:-1]:
            layers += [_heard(before, channels, 3), _heard(channels, channels, 3)]
            layers.append(torch.nn.MaxPool1d(POOLED))
            before = channels
        last = size.channels[-1]
        layers += [_heard(before, last, size.around), _heard(last, last, 1)]
        self.convolve = torch.nn.Sequential(*layers)
        self.hash = torch.nn.Conv1d(last, size.bits, 1)

    def forward(self, frames: torch.Tensor, side: str) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.convolve(self.sides[side](frames).transpose(1, 2))
        return found.transpose(1, 2), torch.tanh(self.hash(found)).transpose(1, 2)


class EmbeddingHead(torch.nn.Module):
    """Features of a trunk [batch, steps, n] → embeddings [batch, dimensions] of length one."""

    def __init__(
        self, inputs: int, attention: int | None = 128, hidden: int = 256, dimensions: int = 128
    ) -> None:
        super().__init__()
        self.attention = Attention(inputs, attention)
        self.dense = _dense(inputs, (hidden,), dimensions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.dense(self.attention(features)), dim=1)


def _heard(inputs: int, outputs: int, width: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv1d(inputs, outputs, width, padding=width // 2, bias=False),
        torch.nn.BatchNorm1d(outputs),
        torch.nn.ReLU(),
    )


def _dense(inputs: int, hidden: Sequence[int], outputs: int) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for units in hidden:
        layers += [torch.nn.Linear(inputs, units), torch.nn.ReLU()]
        inputs = units
    return torch.nn.Sequential(*layers, torch.nn.Linear(inputs, outputs))


def _initialise(network: torch.nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            inputs = layer.weight[0].numel()
            torch.nn.init.normal_(layer.weight, std=(HE / inputs) ** 0.5)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
