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
        self.dense = dense(channels * bins, size.hidden, size.bits)
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
        self.dense = dense(inputs, size.hidden, size.dimensions)
        _initialise(self)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        found = self.convolve(self.standardise(frames)[:, None])
        outputs: torch.Tensor = torch.tanh(
            self.dense(self.attention(found.transpose(1, 2).flatten(2)))
        )
        return outputs


class HashPair(torch.nn.Module):
    """A hash network for each side, which share no weights, as published.

    Frames [batch, time, bins] → the standardised frames, which embeddings are made of, and outputs.
    """

    def __init__(self, audio: Standardise, score: Standardise, size: HashSize) -> None:
        super().__init__()
        self.size = size
        self.sides = torch.nn.ModuleDict(
            {"audio": HashNetwork(audio, size), "score": HashNetwork(score, size)}
        )

    def forward(self, frames: torch.Tensor, side: str) -> tuple[torch.Tensor, torch.Tensor]:
        network = self.sides[side]
        assert isinstance(network, HashNetwork)
        return network.standardise(frames), network(frames)


class EmbeddingPair(torch.nn.Module):
    """An embedding network for each side, of standardised frames [batch, time, bins]."""

    def __init__(self, bins: int, size: EmbeddingSize) -> None:
        super().__init__()
        self.dimensions = size.dimensions
        # Theirs are standardised already.
        sides = {
            side: EmbeddingNetwork(Standardise(torch.zeros(bins), torch.ones(bins)), size)
            for side in ("audio", "score")
        }
        self.sides = torch.nn.ModuleDict(sides)

    def forward(self, frames: torch.Tensor, side: str) -> torch.Tensor:
        found: torch.Tensor = self.sides[side](frames)
        return found


def dense(inputs: int, hidden: Sequence[int], outputs: int) -> torch.nn.Sequential:
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
