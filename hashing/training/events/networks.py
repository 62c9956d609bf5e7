"""The clip encoder: log-mel windows → an embedding that does not depend on when things happen."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Channels, strides (bands, frames) of its 3 × 3 layers: 34 million products a window of 64 bands
# and 152 frames, a millisecond on one core.
CHANNELS = (32, 64, 128, 128)
STRIDES = ((2, 2), (2, 2), (2, 2), (2, 1))

# Of what is learned from pairs of views: what the pairs have in common there is more than a label
# (Chen et al., 2020, "projection head"), and the embedding below it keeps more.
HIDDEN, CONTRASTED = 512, 128


class ClipEncoder(torch.nn.Module):
    """Four convolutions, whose outputs' means and maxima over time are the wide embedding.

    Bands stay apart: 128 channels × 4 bands × mean and maximum are 1,024 numbers. A linear map of
    them is the narrow embedding.

    Shape: [n, bands, frames] of any number of frames → wide [n, 1024], narrow [n, dimensions].
    """

    def __init__(self, bands: int = 64, dimensions: int = 128) -> None:
        super().__init__()
        self.bands = bands
        layers: list[torch.nn.Module] = []
        width, high = 1, bands
        for out, stride in zip(CHANNELS, STRIDES, strict=True):
            layers += [
                torch.nn.Conv2d(width, out, 3, stride, 1, bias=False),
                torch.nn.BatchNorm2d(out),
                torch.nn.ReLU(inplace=True),
            ]
            width, high = out, -(-high // stride[0])
        self.trunk = torch.nn.Sequential(*layers)
        self.wide = 2 * width * high
        # Without scale and shift: means and maxima come to one scale.
        self.balance = torch.nn.BatchNorm1d(self.wide, affine=False)
        self.narrow = torch.nn.Linear(self.wide, dimensions)
        self.head = torch.nn.Sequential(
            torch.nn.Linear(dimensions, HIDDEN),
            torch.nn.ReLU(inplace=True),
            torch.nn.Linear(HIDDEN, CONTRASTED),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.trunk(x[:, None].contiguous(memory_format=torch.channels_last))
        pooled = torch.cat((found.mean(3).flatten(1), found.amax(3).flatten(1)), 1).float()
        wide = self.balance(pooled)
        return wide, self.narrow(wide)

    def contrasted(self, narrow: torch.Tensor) -> torch.Tensor:
        """What views are compared by, of length one."""
        return F.normalize(self.head(narrow).float(), dim=1)
