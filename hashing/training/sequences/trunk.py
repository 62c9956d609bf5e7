"""The network of the shipped sequences: one trunk for both sides, and embeddings on top of it."""

from __future__ import annotations

import dataclasses

import torch

from hashing.training.sequences.networks import POOLED, Attention, Standardise, dense


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
        self.dimensions = dimensions
        self.attention = Attention(inputs, attention)
        self.dense = dense(inputs, (hidden,), dimensions)

    def forward(self, features: torch.Tensor, side: str = "") -> torch.Tensor:
        del side  # both are one by now
        return torch.nn.functional.normalize(self.dense(self.attention(features)), dim=1)


def _heard(inputs: int, outputs: int, width: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv1d(inputs, outputs, width, padding=width // 2, bias=False),
        torch.nn.BatchNorm1d(outputs),
        torch.nn.ReLU(),
    )
