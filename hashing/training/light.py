"""A light encoder for the index, taught by the one that listens to queries.

A catalogue is clean and long, a query is noisy and short. So the index's snippets, which are most
of the work, go through a smaller network that learns to answer a clean snippet as the full encoder
does (distillation: Hinton et al., 2015) and to be the nearest one to the full encoder's answer to
the same moment in noise. It hears a track at once and shares its layers between neighbouring
snippets (`hashing.track_fronts`): a sixth of the products of the full encoder,
whose first layers it begins with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hashing.training.checkpoints import weights_digest
from hashing.training.encoder import (
    State,
    contrast,
    descend,
    encode,
    identify,
    resume,
)
from hashing.training.networks import ConvEncoder, TrackEncoder
from hashing.training.pairs import EncoderTraining, Floats, Pairs


@dataclasses.dataclass(frozen=True)
class LightTraining:
    """Settings of the light encoder. The defaults made the shipped model."""

    channels: tuple[int, ...] = (32, 64, 128)  # 0.9 million products a snippet; 24, 48, 96: 0.55
    steps: int = 4_000
    learning_rate: float = 2e-3
    likeness: float = 4.0  # weight of being like the teacher, beside being the nearest


def train_light(
    pairs: Pairs,
    unheard: Pairs,
    teacher: ConvEncoder,
    light: LightTraining,
    work: Path,
    log: Callable[[str], None],
) -> tuple[State[TrackEncoder], dict[str, float]]:
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
    identity = identify(own, light.likeness, weights_digest(teacher))
    config = pairs.pool.config
    torch.manual_seed(settings.seed)
    network = TrackEncoder(
        config.n_bands, config.snippet_frames, light.channels, settings.dimensions
    )
    network.begin_as(teacher)
    state = resume(settings, network, checkpoint, identity)
    if state.step:
        log(f"light encoder: resuming at step {state.step} of {light.steps}")
    teacher = teacher.to(state.device).eval()

    def draw(step: int) -> tuple[Floats, Floats, Floats]:
        rng = settings.seeds(stage=4, step=step)
        return pairs.draw_in_track(rng, settings.batch, network.reach)

    def loss(
        around: torch.Tensor, clean: torch.Tensor, heard: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        return _loss(state.network, teacher, (around, clean, heard), settings, light.likeness)

    def figures() -> dict[str, float]:
        return _figures(state, teacher, unheard)

    return state, descend(state, settings, checkpoint, draw, loss, figures, log, "light ")


def _loss(
    network: TrackEncoder,
    teacher: ConvEncoder,
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    settings: EncoderTraining,
    likeness: float,
) -> tuple[torch.Tensor, dict[str, float]]:
    around, clean, heard = batch
    half = torch.autocast(clean.device.type, torch.bfloat16, enabled=settings.half_precision)
    with half, torch.no_grad():
        taught, _ = teacher(torch.cat((clean, heard)))
    with half:
        embedding = network(around)
    n = len(clean)
    nearest = contrast(taught[n:] @ embedding.T / settings.temperature)
    unlike = (1.0 - (embedding * taught[:n]).sum(dim=1)).mean()
    return nearest + likeness * unlike, {"nearest": nearest.item(), "unlike": unlike.item()}


def _figures(state: State[TrackEncoder], teacher: ConvEncoder, unheard: Pairs) -> dict[str, float]:
    snippets = min(2048, unheard.pool.spectra.shape[0] * 2)
    network = state.trained
    rng = unheard.settings.seeds(stage=3)
    around, clean, heard = unheard.draw_in_track(rng, snippets, network.reach)
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(around[first : first + 512]).to(state.device)).cpu()
            for first in range(0, snippets, 512)
        ]
    light = torch.cat(parts).numpy()
    full, _ = encode(teacher, clean, state.device)
    queries, _ = encode(teacher, heard, state.device)
    found = (queries @ light.T).argmax(axis=1) == np.arange(snippets)
    return {
        "likeness": float((light * full).sum(axis=1).mean()),
        "recall_light": float(found.mean()),
    }
