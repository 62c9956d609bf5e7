"""Settings of a training run of hash sequences, and the networks that they name."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from hashing.scores import ROLL
from hashing.training.schedules import cosine
from hashing.training.sequences.features import SCORE_FONTS
from hashing.training.sequences.networks import (
    EmbeddingPair,
    EmbeddingSize,
    HashPair,
    HashSize,
    Standardise,
)
from hashing.training.sequences.trunk import EmbeddingHead, Trunk, TrunkSize

System = Literal["contrast", "margin", "published"]
Network = Trunk | HashPair
Head = EmbeddingHead | EmbeddingPair


@dataclasses.dataclass(frozen=True)
class Margin:
    """Of the margin loss and its descent, as published for hash sequences, or embeddings."""

    alpha: float
    margin: float
    beta: float
    learning_rate: float
    rho: float
    batch: int


HASH_MARGIN = Margin(5.33, 4.0, 0.05, 1e-5, 0.26, 50)
EMBEDDING_MARGIN = Margin(3.342, 1.055, 0.0, 5e-6, 0.999, 20)


@dataclasses.dataclass(frozen=True)
class SequenceTraining:
    """Settings of a training run.

    Attributes:
      system: ``contrast`` trains one trunk for both sides by contrast; ``margin`` the same trunk
        by the published loss; ``published`` the published networks by the published loss.
      narrow: of ``published``, a share of its widths; 1 is the paper's. Narrower ones learn by the
        learning rate of the others, for the paper's would take days.

    >>> settings = SequenceTraining(steps=10, warm_up=2)
    >>> settings.learning_rate_at(9) < settings.learning_rate_at(5)
    True
    """

    system: System = "contrast"
    narrow: float = 1.0
    scores: tuple[str, ...] = SCORE_FONTS  # what plays them, or (`ROLL`,)
    size: TrunkSize = dataclasses.field(default_factory=TrunkSize)
    batch: int = 32  # pairs of crops
    frames: int = 192  # of an audio crop: 24 steps, 9 s
    temperature: float = 0.12  # of contrast, by products of bits, -1 to 1
    binary: float = 0.5  # weight of the contrast in which one side is reduced to its signs
    spread: float = 0.1  # weight of `spread_loss`
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warm_up: int = 200  # steps
    averaging: float = 0.998  # decay of the running mean of the weights
    steps: int = 8000
    every: int = 250  # steps between two reports
    embed_steps: int = 2000
    embed_frames: tuple[int, int] = (384, 960)  # of the crops that embeddings are learned from
    embed_batch: int = 32
    embed_temperature: float = 0.07
    attention: int | None = 128  # units; None weighs all steps alike
    dimensions: int = 128
    half_precision: bool = True
    seed: int = 1

    @property
    def at_paper_size(self) -> bool:
        """Whether all is as published, the descent too."""
        return self.system == "published" and self.narrow == 1

    def learning_rate_at(self, step: int) -> float:
        """Rising for `warm_up` steps, then falling along a cosine; as published always the same."""
        if self.at_paper_size:
            return HASH_MARGIN.learning_rate
        return _rate(self.learning_rate, step, self.warm_up, self.steps)

    def seeds(self, stage: int, step: int = 0) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])

    def network(self, audio: Standardise, score: Standardise) -> Network:
        """The network that makes hashes, before its first step."""
        if self.system != "published":
            return Trunk(audio, score, self.size)
        whole = HashSize()
        filters = tuple(self._narrowed(n) for n in whole.filters)
        hidden = tuple(self._narrowed(n) for n in whole.hidden)
        return HashPair(audio, score, HashSize(filters, hidden))

    def head(self) -> Head:
        """What makes embeddings of its features, before its first step."""
        if self.system != "published":
            inputs = self.size.channels[-1]
            return EmbeddingHead(inputs, self.attention, dimensions=self.dimensions)
        whole = EmbeddingSize()
        attention = None if self.attention is None else self._narrowed(whole.attention or 1)
        hidden = tuple(self._narrowed(n) for n in whole.hidden)
        size = EmbeddingSize(self._narrowed(whole.filters), attention, hidden, self.dimensions)
        return EmbeddingPair(self.size.bins, size)

    def _narrowed(self, width: int) -> int:
        return max(4, round(width * self.narrow))


def training_of(
    system: System, scores: str, *, attention: bool = True, **settings: Any
) -> SequenceTraining:
    """Settings by what a command asks for; `scores` are ``rendered`` or ``roll``."""
    if not attention:
        settings["attention"] = None
    if scores == ROLL:
        settings["scores"] = (ROLL,)
    if system == "published":
        settings["batch"], settings["embed_batch"] = HASH_MARGIN.batch, EMBEDDING_MARGIN.batch
        settings["frames"] = 104  # the published 100 are 12.5 codes
    return SequenceTraining(system=system, **settings)


def _rate(highest: float, step: int, warm_up: int, steps: int) -> float:
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * cosine(step / max(steps, 1))


@dataclasses.dataclass(frozen=True)
class HeadSchedule:
    """The descent of embeddings."""

    settings: SequenceTraining

    @property
    def steps(self) -> int:
        return self.settings.embed_steps

    def learning_rate_at(self, step: int) -> float:
        if self.settings.at_paper_size:
            return EMBEDDING_MARGIN.learning_rate
        return _rate(self.settings.learning_rate / 2, step, self.settings.warm_up, self.steps)
