"""Training a trunk of hash sequences, and embeddings on top of it.

Each step of a performance must find, among the steps of all scores of the batch, the one that it
plays: contrast (van den Oord et al., 2018) where the published system has a margin for pairs and
for non-pairs. It can be stopped at any moment and goes on from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from hashing.training.checkpoints import weights_digest
from hashing.training.encoder import State, descend, go_on, placed, running_mean
from hashing.training.sequences.checking import Check
from hashing.training.sequences.corpus import LEARN, Song, Spoiling, draw_pairs, statistics
from hashing.training.sequences.losses import contrast_loss, margin_loss, spread_loss
from hashing.training.sequences.networks import Standardise
from hashing.training.sequences.settings import (
    EMBEDDING_MARGIN,
    HASH_MARGIN,
    Head,
    HeadSchedule,
    Margin,
    Network,
    SequenceTraining,
)


def start(settings: SequenceTraining, network: torch.nn.Module, margin: Margin) -> State[Any]:
    """The state before the first step."""
    placed_network, device = placed(network)
    rate, parameters = settings.learning_rate, placed_network.parameters()
    optimiser: torch.optim.Optimizer
    if settings.at_paper_size:
        optimiser = torch.optim.RMSprop(parameters, margin.learning_rate, alpha=margin.rho)
    else:
        optimiser = torch.optim.AdamW(parameters, rate, weight_decay=settings.weight_decay)
    average = running_mean(placed_network, settings.averaging)
    return State(placed_network, average, optimiser, device)


def train_hashes(
    songs: Sequence[Song],
    settings: SequenceTraining,
    work: Path,
    log: Callable[[str], None] = print,
    spoiling: Spoiling | None = Spoiling(),  # noqa: B008
) -> tuple[Network, dict[str, float]]:
    """Train hashes on the songs to learn from; figures are of those that choose."""
    learn = [song for song in songs if song.role == LEARN]
    torch.manual_seed(settings.seed)
    audio, score = (
        Standardise(torch.from_numpy(mean), torch.from_numpy(deviation))
        for mean, deviation in statistics(learn, settings.seeds(0), settings.scores)
    )
    state = start(settings, settings.network(audio, score), HASH_MARGIN)
    go_on(state, settings.steps, work / "state.pt", _identity(settings, songs))
    if state.step:
        log(f"resuming at step {state.step} of {settings.steps}")

    def draw(step: int) -> tuple[npt.NDArray[Any], ...]:
        rng = settings.seeds(1, step)
        args = (settings.batch, settings.frames, settings.size.downsampling)
        batch = draw_pairs(learn, rng, *args, spoiling, scores=settings.scores)
        return batch.audio, batch.score, batch.step

    def loss(
        audio: torch.Tensor, score: torch.Tensor, step: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        return hash_loss(state.network, audio, score, step, settings)

    check = Check.of(songs, settings)
    every = settings.every
    found = descend(
        state,
        settings,
        work / "state.pt",
        draw,
        loss,
        lambda: check.figures(state.trained),
        log,
        every=every,
    )
    return state.trained, found


def hash_loss(
    network: Network,
    audio: torch.Tensor,
    score: torch.Tensor,
    step: torch.Tensor,
    settings: SequenceTraining,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a batch of `corpus.Batch`, and its parts."""
    with torch.autocast(audio.device.type, torch.bfloat16, enabled=settings.half_precision):
        heard, read = network(audio, "audio")[1], network(score, "score")[1]
    heard, read = heard.float(), read.float()
    song, place = torch.nonzero(step >= 0, as_tuple=True)
    one, other = heard[song, place], read[song, step[song, place]]
    if settings.system != "contrast":
        # Each step against one of another song: those of the batch, turned by a song's worth.
        turned = torch.roll(torch.arange(len(one), device=one.device), step.shape[1] + 1)
        far = song != song[turned]
        wrong = one[far], other[turned][far]
        value = _by_margin(one, other, *wrong, HASH_MARGIN)
        return value, {"loss": value.item()}
    same = song[:, None] == song[None, :]
    real = contrast_loss(one, other, settings.temperature, same)
    signs = contrast_loss(one, _signs(other), settings.temperature, same)
    signs = (signs + contrast_loss(_signs(one), other, settings.temperature, same)) / 2
    even = spread_loss(one) + spread_loss(other)
    value = real + settings.binary * signs + settings.spread * even
    return value, {"loss": real.item(), "binary": signs.item(), "spread": even.item()}


def embedding_loss(
    one: torch.Tensor, other: torch.Tensor, settings: SequenceTraining
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of embeddings of pairs [batch, d], and its parts."""
    if settings.system != "contrast":
        wrong = one, torch.roll(other, 1, 0)
        value = _by_margin(one, other, *wrong, EMBEDDING_MARGIN)
    else:
        scale = one.shape[1]  # `contrast_loss` divides by it, and these have length one
        value = contrast_loss(one, other * scale, settings.embed_temperature)
    return value, {"loss": value.item()}


def _by_margin(
    one: torch.Tensor,
    other: torch.Tensor,
    wrong: torch.Tensor,
    other_wrong: torch.Tensor,
    how: Margin,
) -> torch.Tensor:
    weights = {"alpha": how.alpha, "margin": how.margin, "beta": how.beta}
    return margin_loss(one, other, wrong, other_wrong, **weights)


def _signs(outputs: torch.Tensor) -> torch.Tensor:
    """Forwards the sign, backwards the identity (Bengio et al., 2013)."""
    return outputs + (torch.where(outputs > 0, 1.0, -1.0) - outputs).detach()


def train_embeddings(
    network: Network,
    songs: Sequence[Song],
    settings: SequenceTraining,
    work: Path,
    log: Callable[[str], None] = print,
    spoiling: Spoiling | None = Spoiling(),  # noqa: B008
) -> tuple[Head, dict[str, float]]:
    """Train embeddings on hashes' features, which stay as they are."""
    learn = [song for song in songs if song.role == LEARN]
    torch.manual_seed(settings.seed)
    state = start(settings, settings.head(), EMBEDDING_MARGIN)
    network = network.to(state.device).eval()
    identity = json.dumps([_identity(settings, songs), weights_digest(network)])
    go_on(state, settings.embed_steps, work / "head.pt", identity)

    def draw(step: int) -> tuple[npt.NDArray[Any], ...]:
        rng = settings.seeds(2, step)
        down = settings.size.downsampling
        frames = int(rng.integers(*settings.embed_frames)) // down * down
        # As windows of a search lie: half a window apart, so up to a quarter beside each other.
        batch = draw_pairs(
            learn, rng, settings.embed_batch, frames, down, spoiling, 0.0, settings.scores
        )
        # The score's window begins up to a quarter later, and ends up to a quarter earlier.
        return batch.audio, batch.score, rng.random(2)

    def loss(
        audio: torch.Tensor, score: torch.Tensor, cut: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        half = torch.autocast(audio.device.type, torch.bfloat16, enabled=settings.half_precision)
        with torch.no_grad(), half:
            heard, read = network(audio, "audio")[0].float(), network(score, "score")[0].float()
        first, last = (int(share * (len(read[0]) // 4 + 1)) for share in cut.tolist())
        part = read[:, first : len(read[0]) - last]
        one, other = state.network(heard, "audio"), state.network(part, "score")
        return embedding_loss(one, other, settings)

    check = Check.of(songs, settings)
    found = descend(
        state,
        HeadSchedule(settings),
        work / "head.pt",
        draw,
        loss,
        lambda: check.embedding_figures(network, state.trained),
        log,
        "embedding ",
        every=settings.every,
    )
    return state.trained, found


def _identity(settings: SequenceTraining, songs: Sequence[Song]) -> str:
    kept = dataclasses.asdict(settings)
    for later in ("steps", "every"):
        del kept[later]
    return json.dumps([kept, [song.name for song in songs]], sort_keys=True)
