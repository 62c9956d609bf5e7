"""Checkpoints of training: written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def write_checkpoint(parts: Mapping[str, Any], path: Path) -> None:
    """Write `parts` as torch has them; an interrupted write leaves the last checkpoint."""
    temporary = path.with_suffix(".tmp")
    torch.save(dict(parts), temporary)
    temporary.replace(path)


def weights_digest(network: torch.nn.Module) -> str:
    """What tells a network's weights and buffers from others: a checkpoint may hang on them."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()
