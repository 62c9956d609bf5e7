"""Networks that make an embedding of a segment of music, in which an artist's segments are near.

`ArtistNetwork` is that of Royo-Letelier et al., "Disambiguating Music Artists at Scale with Audio
Metric Learning" (ISMIR 2018), trained with triplets. `ArtistClassifier` is that of Park et al.,
"Representation Learning of Music Using Artist Labels" (ISMIR 2018), which they compare with.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

Averaging = Literal["time", "channels"]

# The first layer is log(1 + 10⁴ x) of a power x. The power is that of a window of 1,024 samples
# which is not normalised, as common libraries have it: a full-scale sine has (512 / 2)².
COMPRESSION = 1e4
FULL_SCALE = 65_536.0

# What comes out of it lies between 0 and 21, with a mean of 9.8 and a deviation of 2.8 on generated
# artists: the convolutions begin with numbers around zero.
CENTRE, SPREAD = 10.0, 4.0

CHANNELS = (16, 32, 64)

# Kernel 3; the paper prints a stride of 2 everywhere, but its sizes (128, 64, 21, 7) need these.
POOL_STRIDES = (2, 3, 3)

# Of the comparator: kernels and pools of the first four layers, along time.
CLASSIFIER_KERNELS, CLASSIFIER_POOLS = (4, 4, 4, 2), (4, 4, 4, 2)
CLASSIFIER_WIDTH, CLASSIFIER_EMBEDDING, CLASSIFIER_DROPOUT = 128, 256, 0.5


def compress(levels: torch.Tensor) -> torch.Tensor:
    """log(1 + 10⁴ x) of powers x that are given in dB re full scale.

    It is the softplus of a line, which loses no digits.

    >>> round(compress(torch.tensor([10 * math.log10(1 / FULL_SCALE)])).item(), 3)  # x = 1
    9.21
    """
    slope, offset = compression_line()
    return F.softplus(levels * slope + offset)


def compression_line() -> tuple[float, float]:
    """Slope and offset of the line that `compress` takes the softplus of."""
    return math.log(10.0) / 10.0, math.log(COMPRESSION * FULL_SCALE)


class ArtistNetwork(torch.nn.Module):
    """Three convolutions and a dense layer.

    The paper says two things about what stands before the dense layer. Its text flattens channels
    and bands and averages over time: 64 · 7 = 448 numbers of a segment of nine seconds. Its table
    averages over the channels: 21 · 7 = 147.

    Args:
      bands, frames: size of a segment.
      dimensions: of the embedding.
      dropout: share of what stands before the dense layer that is zero in training.
      averaging: "time" as the text, "channels" as the table.

    Shape: levels in dB [n, bands, frames] → embedding of length one [n, dimensions].
    """

    def __init__(
        self,
        bands: int,
        frames: int,
        dimensions: int,
        dropout: float = 0.0,
        averaging: Averaging = "time",
    ) -> None:
        super().__init__()
        self.bands, self.frames, self.averaging = bands, frames, averaging
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv2d(width, out, 3, padding=1)
            for width, out in zip((1, *CHANNELS), CHANNELS, strict=False)
        )
        self.dropout = torch.nn.Dropout(dropout)
        high, wide = self._left(bands), self._left(frames)
        if min(high, wide) < 1:
            raise ValueError(f"{bands} bands and {frames} frames are too few for three pools")
        features = high * (CHANNELS[-1] if averaging == "time" else wide)
        self.project = torch.nn.Linear(features, dimensions)
        # Weights tell the layout of everything, which is 2.5 times as fast to train on a CPU.
        for weight in self.convolutions.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        x = ((compress(levels) - CENTRE) / SPREAD)[:, None]
        for convolution, stride in zip(self.convolutions, POOL_STRIDES, strict=True):
            # The largest of what is above zero: the order of the two changes nothing.
            x = F.relu(F.max_pool2d(convolution(x), 3, stride, pool_padding(stride)))
        # [n, channels, bands, frames]
        flat = x.mean(dim=3) if self.averaging == "time" else x.mean(dim=1)
        projected = self.project(self.dropout(flat.flatten(1))).float()
        return F.normalize(torch.tanh(projected), dim=1)

    @staticmethod
    def _left(size: int) -> int:
        """Of so many bands or frames, those that are left behind the pools."""
        for stride in POOL_STRIDES:
            size = (size + 2 * pool_padding(stride) - 3) // stride + 1
        return size


def pool_padding(stride: int) -> int:
    """A pool that overlaps itself is padded, so that it halves; the others are not.

    >>> [(388 + 2 * pool_padding(2) - 3) // 2 + 1, (194 + 2 * pool_padding(3) - 3) // 3 + 1]
    [194, 64]
    """
    return 1 if stride == 2 else 0


class ArtistClassifier(torch.nn.Module):
    """Five convolutions along time, whose channels are all bands, and a softmax over the artists.

    Args:
      bands, frames: size of a segment.
      artists: that it tells apart.

    Shape: levels in dB [n, bands, frames] → embedding of length one [n, 256]. `logits` is what it
    is trained with, [n, artists].
    """

    def __init__(self, bands: int, frames: int, artists: int) -> None:
        super().__init__()
        self.bands, self.frames = bands, frames
        if frames < np.prod(CLASSIFIER_POOLS):
            raise ValueError(f"{frames} frames are too few: {np.prod(CLASSIFIER_POOLS)} at least")
        widths = (bands, *(CLASSIFIER_WIDTH for _ in CLASSIFIER_KERNELS))
        kernels = (*CLASSIFIER_KERNELS, 1)
        outs = (*widths[1:], CLASSIFIER_EMBEDDING)
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv1d(width, out, kernel, bias=False)
            for width, out, kernel in zip(widths, outs, kernels, strict=True)
        )
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(out) for out in outs)
        self.dropout = torch.nn.Dropout(CLASSIFIER_DROPOUT)
        self.head = torch.nn.Linear(CLASSIFIER_EMBEDDING, artists)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.features(levels).float(), dim=1)

    def logits(self, levels: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(levels)).float()  # type: ignore[no-any-return]

    def features(self, levels: torch.Tensor) -> torch.Tensor:
        """What the softmax stands on, [n, 256]."""
        x = (compress(levels) - CENTRE) / SPREAD
        sizes = (*CLASSIFIER_KERNELS, 1), (*CLASSIFIER_POOLS, 1)
        for convolution, norm, kernel, pool in zip(
            self.convolutions, self.norms, *sizes, strict=True
        ):
            # As long as before; where the kernel is even, one more is added behind.
            x = convolution(F.pad(x, length_padding(kernel)))
            x = F.relu(F.max_pool1d(norm(x), pool))
        dropped: torch.Tensor = self.dropout(x)
        return dropped.mean(dim=2)


def length_padding(kernel: int) -> tuple[int, int]:
    """Zeros before and behind, with which a kernel makes as many numbers as there were.

    >>> length_padding(4), length_padding(1)
    ((1, 2), (0, 0))
    """
    return (kernel - 1) // 2, kernel // 2


AnyNetwork = ArtistNetwork | ArtistClassifier
