"""A light encoder for the index, taught by the one that listens to queries.

A catalogue is clean and long, a query is noisy and short. So the index's snippets, which are most
of the work, go through a third of the products: a smaller network that learns to answer a clean
snippet as the full encoder does (distillation: Hinton et al., 2015) and to be the nearest one to
the full encoder's answer to the same moment in noise.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hashing.training.encoder import (
    State,
    contrast,
    descend,
    encode,
    identify,
    resume,
)
from hashing.training.networks import ConvEncoder
from hashing.training.pairs import EncoderTraining, Floats, Pairs


@dataclasses.dataclass(frozen=True)
class LightTraining:
    """Settings of the light encoder. The defaults made the shipped model."""

    channels: tuple[int, ...] = (24, 48, 96)  # 1.5 million products a snippet
    steps: int = 3_600
    learning_rate: float = 3e-3
    likeness: float = 4.0  # weight of being like the teacher, beside being the nearest


def train_light(
    pairs: Pairs,
    unheard: Pairs,
    teacher: ConvEncoder,
    light: LightTraining,
    work: Path,
    log: Callable[[str], None],
) -> tuple[State, dict[str, float]]:
    """Train to ``light.steps``, resuming from the checkpoint in `work`.

    Returns:
      The trained state, and ``likeness`` (mean cosine to the teacher) and ``recall_light`` (as
      `hashing.training.encoder.recall`, light clean snippets against the teacher's degraded ones)
      on unheard music.
    """
    settings = dataclasses.replace(
        pairs.settings,
        channels=light.channels,
        learning_rate=light.learning_rate,
        steps=light.steps,
    )
    checkpoint = work / "light.pt"
    own = dataclasses.replace(pairs, settings=settings)
    # A teacher that has learned more since has other answers, though its settings are the same.
    identity = identify(own, light.likeness, _digest(teacher))
    state = resume(settings, pairs.pool.config, checkpoint, identity)
    if state.step:
        log(f"light encoder: resuming at step {state.step} of {light.steps}")
    teacher = teacher.to(state.device).eval()

    def draw(step: int) -> tuple[Floats, Floats]:
        # Past the shifted steps: queries at their place.
        rng = settings.seeds(stage=4, step=step)
        return pairs.draw(rng, settings.batch, settings.shifted_steps)

    def loss(clean: torch.Tensor, heard: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        return _loss(state.network, teacher, clean, heard, settings, light.likeness)

    def figures() -> dict[str, float]:
        return _figures(state, teacher, unheard)

    return state, descend(state, settings, checkpoint, draw, loss, figures, log, "light ")


def _digest(network: ConvEncoder) -> str:
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _loss(
    network: ConvEncoder,
    teacher: ConvEncoder,
    clean: torch.Tensor,
    heard: torch.Tensor,
    settings: EncoderTraining,
    likeness: float,
) -> tuple[torch.Tensor, dict[str, float]]:
    half = torch.autocast(clean.device.type, torch.bfloat16, enabled=settings.half_precision)
    with half, torch.no_grad():
        taught, _ = teacher(torch.cat((clean, heard)))
    with half:
        embedding, _ = network(clean)
    n = len(clean)
    nearest = contrast(taught[n:] @ embedding.T / settings.temperature)
    unlike = (1.0 - (embedding * taught[:n]).sum(dim=1)).mean()
    return nearest + likeness * unlike, {"nearest": nearest.item(), "unlike": unlike.item()}


def _figures(state: State, teacher: ConvEncoder, unheard: Pairs) -> dict[str, float]:
    snippets = min(2048, unheard.pool.spectra.shape[0] * 2)
    settings = unheard.settings
    clean, heard = unheard.draw(settings.seeds(stage=3), snippets, settings.steps)
    light, _ = encode(state.trained, clean, state.device)
    full, _ = encode(teacher, clean, state.device)
    queries, _ = encode(teacher, heard, state.device)
    found = (queries @ light.T).argmax(axis=1) == np.arange(snippets)
    return {
        "likeness": float((light * full).sum(axis=1).mean()),
        "recall_light": float(found.mean()),
    }
