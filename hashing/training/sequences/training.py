"""Training a trunk of hash sequences, and embeddings on top of it.

Each step of a performance must find, among the steps of all scores of the batch, the one that it
plays: contrast (van den Oord et al., 2018) where the published system has a margin for pairs and
for non-pairs ("margin" trains that, for comparison). It can be stopped at any moment and goes on
from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from hashing import cqt
from hashing.sequences import SequenceFeatures, pack_codes
from hashing.training.encoder import State, descend, go_on, placed, running_mean
from hashing.training.sequences import judging
from hashing.training.sequences.corpus import (
    CHOOSE,
    LEARN,
    Song,
    Spoiling,
    draw_pairs,
    statistics,
)
from hashing.training.sequences.features import TRAINING_FONTS
from hashing.training.sequences.losses import contrast_loss, margin_loss, spread_loss
from hashing.training.sequences.networks import EmbeddingHead, Standardise, Trunk, TrunkSize

Floats = npt.NDArray[np.float32]
Loss = Literal["contrast", "margin"]

# Songs that choose, and others beside them, whose performances are the database on the way.
CHECK_DATABASE = 400
CHECK_DISTANCES = 100_000  # of foreign steps, for the Bhattacharyya coefficient


@dataclasses.dataclass(frozen=True)
class SequenceTraining:
    """Settings of a training run.

    >>> settings = SequenceTraining(steps=10)
    >>> settings.learning_rate_at(10) < settings.learning_rate_at(5)
    True
    """

    loss: Loss = "contrast"
    size: TrunkSize = dataclasses.field(default_factory=TrunkSize)
    batch: int = 32  # pairs of crops
    frames: int = 192  # of an audio crop: 24 steps, 9 s
    temperature: float = 0.12  # of contrast, by products of bits, -1 to 1
    binary: float = 0.5  # weight of the contrast in which one side is reduced to its signs
    spread: float = 0.1  # weight of `spread_loss`
    alpha: float = 5.33  # of the margin loss, as published, and so the next two
    margin: float = 4.0
    beta: float = 0.05
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warm_up: int = 200  # steps
    averaging: float = 0.998  # decay of the running mean of the weights
    steps: int = 5000
    every: int = 250  # steps between two reports
    embed_steps: int = 1500
    embed_frames: tuple[int, int] = (384, 960)  # of the crops that embeddings are learned from
    embed_batch: int = 32
    embed_temperature: float = 0.07
    attention: int | None = 128  # units; None weighs all steps alike
    dimensions: int = 128
    half_precision: bool = True
    seed: int = 1

    def learning_rate_at(self, step: int) -> float:
        """Rising for `warm_up` steps, then falling along a cosine."""
        return _rate(self.learning_rate, step, self.warm_up, self.steps)

    def seeds(self, stage: int, step: int = 0) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])


def _rate(highest: float, step: int, warm_up: int, steps: int) -> float:
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(steps, 1))))


@dataclasses.dataclass(frozen=True)
class _HeadSchedule:
    settings: SequenceTraining

    @property
    def steps(self) -> int:
        return self.settings.embed_steps

    def learning_rate_at(self, step: int) -> float:
        return _rate(self.settings.learning_rate / 2, step, self.settings.warm_up, self.steps)


def start(settings: SequenceTraining, network: torch.nn.Module) -> State[Any]:
    """The state before the first step."""
    placed_network, device = placed(network)
    optimiser = torch.optim.AdamW(
        placed_network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    average = running_mean(placed_network, settings.averaging)
    return State(placed_network, average, optimiser, device)


def train_trunk(
    songs: Sequence[Song],
    settings: SequenceTraining,
    work: Path,
    log: Callable[[str], None] = print,
    spoiling: Spoiling | None = Spoiling(),  # noqa: B008
) -> tuple[Trunk, dict[str, float]]:
    """Train the trunk on the songs to learn from; figures are of those that choose."""
    learn = [song for song in songs if song.role == LEARN]
    torch.manual_seed(settings.seed)
    audio, score = (
        Standardise(torch.from_numpy(mean), torch.from_numpy(deviation))
        for mean, deviation in statistics(learn, settings.seeds(0))
    )
    trunk = Trunk(audio, score, settings.size)
    state = start(settings, trunk)
    go_on(state, settings.steps, work / "state.pt", _identity(settings, songs))
    if state.step:
        log(f"resuming at step {state.step} of {settings.steps}")

    def draw(step: int) -> tuple[npt.NDArray[Any], ...]:
        rng = settings.seeds(1, step)
        args = (settings.batch, settings.frames, settings.size.downsampling)
        batch = draw_pairs(learn, rng, *args, spoiling)
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
    trunk: Trunk,
    audio: torch.Tensor,
    score: torch.Tensor,
    step: torch.Tensor,
    settings: SequenceTraining,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a batch of `corpus.Batch`, and its parts."""
    with torch.autocast(audio.device.type, torch.bfloat16, enabled=settings.half_precision):
        heard, read = trunk(audio, "audio")[1], trunk(score, "score")[1]
    heard, read = heard.float(), read.float()
    song, place = torch.nonzero(step >= 0, as_tuple=True)
    one, other = heard[song, place], read[song, step[song, place]]
    if settings.loss == "margin":
        # A step of another song: those of the batch turned by one song's worth of steps.
        turned = torch.roll(torch.arange(len(one), device=one.device), audio.shape[1] // 8 + 1)
        far = song != song[turned]
        value = margin_loss(
            one,
            other,
            one[far],
            other[turned][far],
            alpha=settings.alpha,
            margin=settings.margin,
            beta=settings.beta,
        )
        return value, {"loss": value.item()}
    same = song[:, None] == song[None, :]
    real = contrast_loss(one, other, settings.temperature, same)
    signs = contrast_loss(one, _signs(other), settings.temperature, same)
    signs = (signs + contrast_loss(_signs(one), other, settings.temperature, same)) / 2
    even = spread_loss(one) + spread_loss(other)
    value = real + settings.binary * signs + settings.spread * even
    return value, {"loss": real.item(), "binary": signs.item(), "spread": even.item()}


def _signs(outputs: torch.Tensor) -> torch.Tensor:
    """Forwards the sign, backwards the identity (Bengio et al., 2013)."""
    return outputs + (torch.where(outputs > 0, 1.0, -1.0) - outputs).detach()


def train_head(
    trunk: Trunk,
    songs: Sequence[Song],
    settings: SequenceTraining,
    work: Path,
    log: Callable[[str], None] = print,
    spoiling: Spoiling | None = Spoiling(),  # noqa: B008
) -> tuple[EmbeddingHead, dict[str, float]]:
    """Train embeddings on a trunk that stays as it is."""
    learn = [song for song in songs if song.role == LEARN]
    torch.manual_seed(settings.seed)
    inputs = settings.size.channels[-1]
    head = EmbeddingHead(inputs, settings.attention, dimensions=settings.dimensions)
    state = start(settings, head)
    trunk = trunk.to(state.device).eval()
    identity = json.dumps([_identity(settings, songs), _weights(trunk)])
    go_on(state, settings.embed_steps, work / "head.pt", identity)

    def draw(step: int) -> tuple[npt.NDArray[Any], ...]:
        rng = settings.seeds(2, step)
        down = settings.size.downsampling
        frames = int(rng.integers(*settings.embed_frames)) // down * down
        # As windows of a search lie: half a window apart, so up to a quarter beside each other.
        batch = draw_pairs(learn, rng, settings.embed_batch, frames, down, spoiling, slack=0.0)
        return batch.audio, batch.score

    def loss(audio: torch.Tensor, score: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        half = torch.autocast(audio.device.type, torch.bfloat16, enabled=settings.half_precision)
        with torch.no_grad(), half:
            heard, read = trunk(audio, "audio")[0].float(), trunk(score, "score")[0].float()
        shift = len(read[0]) // 4
        # The score's window begins up to a quarter later, or ends up to a quarter earlier.
        first, last = (int(torch.randint(0, shift + 1, ())) for _ in range(2))
        one, other = state.network(heard), state.network(read[:, first : len(read[0]) - last])
        scale = settings.dimensions  # `contrast_loss` divides by it
        value = contrast_loss(one, other * scale, settings.embed_temperature)
        return value, {"loss": value.item()}

    check = Check.of(songs, settings)
    found = descend(
        state,
        _HeadSchedule(settings),
        work / "head.pt",
        draw,
        loss,
        lambda: check.embedding_figures(trunk, state.trained),
        log,
        "embedding ",
        every=settings.every,
    )
    return state.trained, found


def _weights(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def _identity(settings: SequenceTraining, songs: Sequence[Song]) -> str:
    kept = dataclasses.asdict(settings)
    for later in ("steps", "every"):
        del kept[later]
    return json.dumps([kept, [song.name for song in songs]], sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Check:
    """Scores that ask, and performances among which they ask, of songs that are not learned from.

    Attributes:
      scores: heard frames of each query.
      played: of each recording; those of the queries come first.
      pairs: for the Bhattacharyya coefficient: the score's step of each step of a performance.
    """

    scores: list[Floats]
    played: list[Floats]
    steps: list[npt.NDArray[np.int64]]

    @classmethod
    def of(cls, songs: Sequence[Song], settings: SequenceTraining) -> Check:
        """A fixed examination."""
        rng = settings.seeds(3)
        asked = [song for song in songs if song.role == CHOOSE]
        others = [song for song in songs if song.role == LEARN]
        others = [others[n] for n in rng.permutation(len(others))[: CHECK_DATABASE - len(asked)]]
        scores, played = list[Floats](), list[Floats]()
        steps = list[npt.NDArray[np.int64]]()
        down, middle = settings.size.downsampling, (settings.size.downsampling - 1) / 2
        for song in [*asked, *others]:
            fonts = [one for one in song.played if one.font in TRAINING_FONTS]
            one = fonts[rng.integers(len(fonts))]
            played.append(cqt.heard_frames(one.magnitudes.astype(np.float32)))
            if len(scores) < len(asked):
                levels = list(song.scores.values())[rng.integers(len(song.scores))]
                scores.append(cqt.heard_frames(levels.astype(np.float32)))
                count = len(one.score_frame) // down
                at = one.score_frame[down // 2 :: down][:count]
                step = np.round((at - 0.5 - middle) / down)
                fits = np.isfinite(step) & (step >= 0) & (step < len(levels) // down)
                steps.append(np.where(fits, np.nan_to_num(step), -1).astype(np.int64))
        return cls(scores, played, steps)

    def figures(self, trunk: Trunk) -> dict[str, float]:
        """``mrr`` by Hamming DTW, and the Bhattacharyya coefficient ``bc`` of steps."""
        read = [pack_codes(outputs(trunk, frames, "score")[1]) for frames in self.scores]
        heard = [pack_codes(outputs(trunk, frames, "audio")[1]) for frames in self.played]
        truth = np.arange(len(read))
        found = judging.ranks_by_hash(read, judging.Sequences.of(heard), truth)
        one = np.concatenate([h[: len(s)][s >= 0] for h, s in zip(heard, self.steps, strict=False)])
        other = np.concatenate([r[s[s >= 0]] for r, s in zip(read, self.steps, strict=True)])
        same = np.bitwise_count(one ^ other)
        rng = np.random.default_rng(1)
        left, right = (rng.integers(len(one), size=CHECK_DISTANCES) for _ in range(2))
        foreign = np.bitwise_count(one[left] ^ other[right])
        return {
            "mrr": judging.mean_reciprocal_rank(found),
            "first": float((found == 1).mean()),
            "bc": judging.bhattacharyya(same, foreign),
            "same": float(same.mean()),
            "foreign": float(foreign.mean()),
        }

    def embedding_figures(self, trunk: Trunk, head: EmbeddingHead) -> dict[str, float]:
        """``mrr``, and the share of the database ``p97`` that must be kept to lose 3 %."""
        read = [embed(trunk, head, frames, "score") for frames in self.scores]
        heard = [embed(trunk, head, frames, "audio") for frames in self.played]
        offsets = np.cumsum([0, *(len(part) for part in heard)])[:-1]
        stacked = np.concatenate(heard)
        near = np.stack([np.maximum.reduceat((r @ stacked.T).max(axis=0), offsets) for r in read])
        found = judging.ranks(near, np.arange(len(read)))
        return {
            "mrr": judging.mean_reciprocal_rank(found),
            "p97": float(np.quantile(found, 0.97) / len(heard)),
            "kept10": float((found <= len(heard) / 10).mean()),
        }


def outputs(trunk: Trunk, frames: Floats, side: str) -> tuple[Floats, Floats]:
    """Features and outputs of one sequence of frames."""
    device = next(trunk.parameters()).device
    with torch.no_grad():
        found = trunk(torch.from_numpy(frames)[None].to(device), side)
    features, bits = (part[0].float().cpu().numpy() for part in found)
    return features, bits


def embed(trunk: Trunk, head: EmbeddingHead, frames: Floats, side: str) -> Floats:
    """Embeddings of the windows of one sequence of frames [n, d]."""
    device = next(head.parameters()).device
    features = torch.from_numpy(outputs(trunk, frames, side)[0]).to(device)
    with torch.no_grad():
        found = [head(features[None, part]) for part in SequenceFeatures().windows(len(features))]
    return np.asarray(torch.cat(found).cpu().numpy(), np.float32)
