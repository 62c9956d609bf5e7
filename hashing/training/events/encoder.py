"""Training a clip encoder: on views of all clips, then on the labels of those that have some.

Two views of one clip must find one another among those of the others (NT-Xent: Chen et al., "A
simple framework for contrastive learning", ICML 2020). Where there are labels, the same network
then learns to tell them, one classifier a catalogue, while it goes on with the views. It can be
stopped at any moment and goes on from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from hashing.events.spectra import Spectra
from hashing.training.checkpoints import weights_digest
from hashing.training.encoder import State, contrast, descend, go_on, placed, running_mean
from hashing.training.events.labels import LabelSets
from hashing.training.events.networks import ClipEncoder
from hashing.training.events.views import ViewSettings, draw_views
from hashing.training.schedules import cosine

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Windows that are embedded at once.
EMBED_BATCH = 256


@dataclasses.dataclass(frozen=True)
class ClipTraining:
    """Settings of a training run. The defaults made the shipped encoder.

    Attributes:
      dimensions: of the narrow embedding.
      steps: of views alone; label_steps: of views and labels.
      batch: pairs of views a step; label_batch: labelled clips a step.
      temperature: of the similarity of views.
      views_beside: weight of views while labels are learned.
      smoothing: share of a label's certainty that is dealt to all others.
    """

    dimensions: int = 128
    steps: int = 700
    label_steps: int = 1800
    batch: int = 256
    label_batch: int = 256
    temperature: float = 0.1
    views_beside: float = 0.3
    smoothing: float = 0.1
    dropout: float = 0.2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warm_up: int = 100
    averaging: float = 0.99  # decay of the running mean of the weights that is kept
    half_precision: bool = True
    views: ViewSettings = dataclasses.field(default_factory=ViewSettings)
    seed: int = 1

    def seeds(self, stage: int, step: int) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])


@dataclasses.dataclass(frozen=True)
class _Stage:
    """See `hashing.training.encoder.Schedule`."""

    settings: ClipTraining
    steps: int

    def learning_rate_at(self, step: int) -> float:
        """Up over the first steps, then down along a cosine."""
        settings = self.settings
        falling = cosine(step / max(1, self.steps))
        return settings.learning_rate * min(1.0, (step + 1) / settings.warm_up) * falling


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Clips of one catalogue that have labels.

    Attributes:
      rows: of the windows, [n].
      labels: of these windows.
    """

    rows: Ints
    labels: LabelSets

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """Windows, all sets of labels alike often, and the shares of labels in each."""
        chosen = self.labels.draw(n, rng)
        return self.rows[chosen], self.labels.shares[self.labels.of[chosen]]


class _Taught(torch.nn.Module):
    """An encoder and a classifier of each catalogue's labels."""

    def __init__(self, encoder: ClipEncoder, classes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = dropout
        size = encoder.narrow.out_features
        self.classifiers = torch.nn.ModuleList([torch.nn.Linear(size, n) for n in classes])


def train_views(
    spectra: Spectra,
    settings: ClipTraining,
    work: Path,
    log: Callable[[str], None] = print,
    figures: Callable[[ClipEncoder], Mapping[str, float]] = lambda network: {},
) -> ClipEncoder:
    """Train on views of all windows, going on from the checkpoint in `work`."""
    torch.manual_seed(settings.seed)
    network = ClipEncoder(spectra.config.n_bands, settings.dimensions)
    state = _start(network, settings)
    identity = _identity(spectra, settings, ("label_steps", "label_batch", "views_beside"))
    go_on(state, settings.steps, work / "views.pt", identity)

    def draw(step: int) -> tuple[npt.NDArray[Any], ...]:
        rng = settings.seeds(1, step)
        return _pairs(spectra, settings, settings.batch, rng)

    def loss(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        value = _view_loss(state.network, one, other, settings)
        return value, {"loss": value.item()}

    stage = _Stage(settings, settings.steps)
    _descend(state, stage, work / "views.pt", draw, loss, lambda: dict(figures(state.trained)), log)
    return cast(ClipEncoder, state.trained)


def train_labels(
    network: ClipEncoder,
    spectra: Spectra,
    labelled: Sequence[Labelled],
    settings: ClipTraining,
    work: Path,
    log: Callable[[str], None] = print,
    figures: Callable[[ClipEncoder], Mapping[str, float]] = lambda network: {},
) -> ClipEncoder:
    """Train an encoder further on labels and views, going on from the checkpoint in `work`.

    The network that is given learns; what comes back has the running mean of its weights.
    """
    torch.manual_seed(settings.seed)
    classes = [len(one.labels.labels) for one in labelled]
    state = _start(_Taught(network, classes, settings.dropout), settings)
    told = [
        [one.rows.tolist(), one.labels.of.tolist(), one.labels.labels, one.labels.sets]
        for one in labelled
    ]
    identity = json.dumps([_identity(spectra, settings), weights_digest(network), told])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    go_on(state, settings.label_steps, work / "labels.pt", digest)
    # Catalogues with more labels are heard more often, but the small ones not seldom.
    weights = np.sqrt(classes) / np.sqrt(classes).sum()
    shares = np.maximum(1, np.round(weights * settings.label_batch)).astype(int)

    def draw(step: int) -> tuple[npt.NDArray[Any], ...]:
        rng = settings.seeds(2, step)
        torch.manual_seed(int(rng.integers(1 << 31)))
        drawn = [one.draw(int(n), rng) for one, n in zip(labelled, shares, strict=True)]
        rows = np.concatenate([rows for rows, _ in drawn])
        heard = draw_views(spectra, rows, settings.views, rng)
        beside = _pairs(spectra, settings, settings.batch // 2, rng)
        return (*beside, heard, *(shares for _, shares in drawn))

    def loss(
        one: torch.Tensor, other: torch.Tensor, heard: torch.Tensor, *wanted: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        taught = state.network
        views = _view_loss(taught.encoder, one, other, settings)
        with torch.autocast(heard.device.type, torch.bfloat16, enabled=settings.half_precision):
            found = F.dropout(taught.encoder(heard)[1].float(), taught.dropout)
        parts = torch.split(found, [len(share) for share in wanted])
        told = [
            F.cross_entropy(classifier(part), share, label_smoothing=settings.smoothing)
            for classifier, part, share in zip(taught.classifiers, parts, wanted, strict=True)
        ]
        labels = sum(
            (weight * value for weight, value in zip(weights.tolist(), told, strict=True)),
            start=views * 0.0,
        )
        total = labels + settings.views_beside * views
        return total, {"views": views.item(), "labels": labels.item()}

    def found() -> dict[str, float]:
        return dict(figures(state.trained.encoder))

    stage = _Stage(settings, settings.label_steps)
    _descend(state, stage, work / "labels.pt", draw, loss, found, log)
    return cast(_Taught, state.trained).encoder


def embed(network: ClipEncoder, windows: Floats) -> Floats:
    """Narrow embeddings [n, d] of length one of standardised windows [n, bands, frames]."""
    device = next(network.parameters()).device
    found = []
    with torch.no_grad():
        for first in range(0, len(windows), EMBED_BATCH):
            cut = torch.from_numpy(windows[first : first + EMBED_BATCH]).to(device)
            found.append(F.normalize(network.eval()(cut)[1].float(), dim=1).cpu())
    return np.asarray(torch.cat(found).numpy(), np.float32)


def _start(network: torch.nn.Module, settings: ClipTraining) -> State[Any]:
    placed_network, device = placed(network)
    optimiser = torch.optim.AdamW(
        placed_network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    return State(
        placed_network, running_mean(placed_network, settings.averaging), optimiser, device
    )


def _descend(
    state: State[Any],
    stage: _Stage,
    checkpoint: Path,
    draw: Callable[[int], tuple[npt.NDArray[Any], ...]],
    loss: Callable[..., tuple[torch.Tensor, dict[str, float]]],
    figures: Callable[[], dict[str, float]],
    log: Callable[[str], None],
) -> None:
    if state.step:
        log(f"resuming at step {state.step} of {stage.steps}")
    name = f"{checkpoint.stem} "
    descend(state, stage, checkpoint, draw, loss, figures, log, name)


def _pairs(
    spectra: Spectra, settings: ClipTraining, n: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    rows = rng.integers(len(spectra.levels), size=n)
    one = draw_views(spectra, rows, settings.views, rng)
    return one, draw_views(spectra, rows, settings.views, rng)


def _view_loss(
    network: ClipEncoder, one: torch.Tensor, other: torch.Tensor, settings: ClipTraining
) -> torch.Tensor:
    with torch.autocast(one.device.type, torch.bfloat16, enabled=settings.half_precision):
        found = network.contrasted(network(torch.cat((one, other)))[1])
    n = len(one)
    return contrast(found[:n] @ found[n:].T / settings.temperature)


def _identity(spectra: Spectra, settings: ClipTraining, others: Sequence[str] = ()) -> str:
    """What a checkpoint belongs to: the settings that its steps had, and the sound."""
    kept = dataclasses.asdict(settings)
    for later in ("steps", "label_steps", *others):
        kept.pop(later, None)
    digest = hashlib.sha256(np.ascontiguousarray(spectra.levels[:, ::16, ::8]).tobytes())
    return json.dumps([kept, spectra.levels.shape, digest.hexdigest()], sort_keys=True)
