"""Training a network that tells artists apart: settings, batches, early stopping, track embeddings.

One descent for three systems: ``metric`` (triplets, the paper's), ``contrastive`` (the same network
and batches with the supervised contrastive loss) and ``classifier`` (the paper's comparator). It
can be stopped at any moment and goes on from its checkpoint. It ends when the tracks of artists
that are not learned from are told apart no better, or when all embeddings have become one.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from hashing.clusters.scores import equal_error_rate
from hashing.training.artists import classifier as artist_classifier
from hashing.training.artists.networks import AnyNetwork, ArtistClassifier, ArtistNetwork, Averaging
from hashing.training.artists.segments import ArtistMusic, TrainingSet
from hashing.training.artists.tags import Kind
from hashing.training.artists.triplets import (
    COLLAPSED,
    MARGIN,
    SideInformation,
    contrastive_loss,
    draw_triplets,
    spread,
    triplet_loss,
)
from hashing.training.encoder import State, descend, go_on, placed, running_mean

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
System = Literal["metric", "classifier", "contrastive"]

# Share of the artists that are not learned from: by them the last step and the cut are chosen.
CHOOSING_SHARE = 0.1

# Of RMSProp, as in the paper.
RHO, EPSILON = 0.9, 1e-8

# Segments of a track of held-out artists that are heard on the way; all ten take 2.5 times as long.
CHECK_SEGMENTS = 4

# Segments that are embedded at once.
EMBED_BATCH = 64

# By so much must the equal error rate fall to count as better.
LEAST_GAIN = 1e-3

# Reports in a row with nearly no spread after which embeddings count as collapsed: a network that
# has just begun has little as well.
COLLAPSED_REPORTS = 3


@dataclasses.dataclass(frozen=True)
class ArtistTraining:
    """Settings of a training run. Where the paper gives a number, the defaults are its numbers.

    >>> ArtistTraining().batch, ArtistTraining(system="classifier").learning_rate_at(7)
    (128, 0.1)
    """

    system: System = "metric"
    dimensions: int = 32  # or 256; of the classifier always 256
    averaging: Averaging = "time"  # see `ArtistNetwork`
    dropout: float = 0.2  # the paper does not tell its own
    artists: int = 32  # in a batch, neither told; many, so that negatives are of all sorts
    samples: int = 4  # of each artist
    margin: float = MARGIN
    probability: float = 0.0  # that a negative shares a tag with its anchor; 0.5 was the best
    tags: tuple[Kind, ...] = ("genre",)
    temperature: float = 0.1  # of the contrastive loss; its authors' number
    learning_rate: float | None = None  # the paper's: 0.001, of the classifier 0.1
    steps: int = 4000  # at most
    every: int = 100  # steps between two reports
    patience: int = 8  # reports without gain after which training ends
    averaged: float = 0.0  # decay of the running mean of the weights; 0 for the last weights
    half_precision: bool = True  # bfloat16 products: twice as fast where the CPU has them
    seed: int = 1

    @property
    def batch(self) -> int:
        """Segments a step."""
        return self.artists * self.samples

    def learning_rate_at(self, step: int) -> float:
        """The same at every step."""
        if self.learning_rate is not None:
            return self.learning_rate
        return artist_classifier.LEARNING_RATE if self.system == "classifier" else 1e-3

    def seeds(self, stage: int, step: int = 0) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])


@dataclasses.dataclass
class ArtistState(State[torch.nn.Module]):
    """Everything that a checkpoint holds, with the best weights so far."""

    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    ended: str = ""  # why there are no more steps: "no gain" or "collapsed"

    @classmethod
    def begin(cls, settings: ArtistTraining, network: AnyNetwork) -> ArtistState:
        """The state before the first step."""
        network, device = placed(network)
        rate = settings.learning_rate_at(0)
        if settings.system == "classifier":
            optimiser = artist_classifier.optimiser(network, rate)
        else:
            optimiser = torch.optim.RMSprop(network.parameters(), rate, alpha=RHO, eps=EPSILON)
        return cls(network, running_mean(network, settings.averaged), optimiser, device)

    def parts(self) -> dict[str, Any]:
        """See `State`."""
        own = {"history": self.history, "best": self.best, "ended": self.ended}
        return {**super().parts(), **own}

    def take(self, parts: Mapping[str, Any]) -> None:
        """See `State`."""
        super().take(parts)
        self.history, self.best, self.ended = parts["history"], parts["best"], parts["ended"]

    def note(self, found: dict[str, float], patience: int) -> bool:
        """Keep a report, and the weights where they are the best; true where training is to end."""
        self.history.append({"step": self.step, **found})
        rates = [report["eer"] for report in self.history]
        if len(rates) == 1 or rates[-1] < min(rates[:-1]):
            self.best = copy.deepcopy(self.trained.state_dict())
        last = [report["spread"] for report in self.history[-COLLAPSED_REPORTS:]]
        if len(last) == COLLAPSED_REPORTS and max(last) < COLLAPSED:
            self.ended = "collapsed"
        elif len(rates) > patience and min(rates[-patience:]) > min(rates[:-patience]) - LEAST_GAIN:
            self.ended = "no gain"
        return bool(self.ended)


@dataclasses.dataclass(frozen=True)
class TrainedArtists:
    """What training made.

    Attributes:
      network: with the weights that did best on the held-out artists.
      history: a report each: ``step``, parts of the loss, ``eer`` and ``spread`` on them.
      ended: "no gain", "collapsed", or "" where all steps were taken.
    """

    network: AnyNetwork
    history: list[dict[str, float]]
    ended: str

    @property
    def collapsed(self) -> bool:
        """Whether all embeddings became one."""
        return self.ended == "collapsed"


def new_network(settings: ArtistTraining, music: ArtistMusic, n_artists: int) -> AnyNetwork:
    """The network before its first step."""
    torch.manual_seed(settings.seed)
    size = music.config.n_bands, music.config.snippet_frames
    if settings.system == "classifier":
        return ArtistClassifier(*size, n_artists)
    return ArtistNetwork(*size, settings.dimensions, settings.dropout, settings.averaging)


def draw_batch(chosen: TrainingSet, settings: ArtistTraining, rng: np.random.Generator) -> Ints:
    """Rows of the set that a step learns from, [batch] or fewer.

    For the classifier any; else some segments of each of some artists, an artist the likelier the
    more segments are its own. Of an artist with too few, some are there twice.
    """
    if settings.system == "classifier":
        return rng.integers(len(chosen.places), size=settings.batch)
    counts = chosen.counts()
    n = min(settings.artists, chosen.n_artists)
    artists = rng.choice(chosen.n_artists, n, replace=False, p=counts / counts.sum())
    rows = []
    for artist in artists:
        own = np.flatnonzero(chosen.artists == artist)
        # Repeated segments are one.
        own = own[np.unique(chosen.places[own], axis=0, return_index=True)[1]]
        rows.append(np.resize(rng.permutation(own), settings.samples))
    return np.concatenate(rows)


def train(
    music: ArtistMusic,
    chosen: TrainingSet,
    held_out: Sequence[int],
    settings: ArtistTraining,
    work: Path,
    log: Callable[[str], None] = print,
) -> TrainedArtists:
    """Train, going on from the checkpoint in `work`.

    Args:
      chosen: segments to learn from.
      held_out: numbers of other artists, by whose tracks training is stopped.
    """
    state = ArtistState.begin(settings, new_network(settings, music, chosen.n_artists))
    digest = [music.identity(), chosen.places.tolist(), [int(artist) for artist in held_out]]
    later = {key: v for key, v in dataclasses.asdict(settings).items() if key != "steps"}
    checkpoint = work / "state.pt"
    go_on(state, settings.steps, checkpoint, json.dumps([later, digest], sort_keys=True))
    if state.step:
        log(f"resuming at step {state.step} of {settings.steps}")
    tracks = np.flatnonzero(np.isin(music.artists, np.asarray(held_out, dtype=np.int64)))

    def figures() -> dict[str, float]:
        return check(state.trained, music, tracks)

    def done(found: dict[str, float]) -> bool:
        return state.note(found, settings.patience)

    if not state.ended and state.step < settings.steps:
        draw, loss = _batches(music, chosen, settings), _loss(state, settings)
        descend(
            state, settings, checkpoint, draw, loss, figures, log, every=settings.every, done=done
        )
    if state.ended:
        log(f"ended at step {state.step}: {state.ended}")
    network = state.trained
    assert isinstance(network, AnyNetwork)
    network.load_state_dict(state.best)
    return TrainedArtists(network.eval(), state.history, state.ended)


def _batches(
    music: ArtistMusic, chosen: TrainingSet, settings: ArtistTraining
) -> Callable[[int], tuple[npt.NDArray[Any], ...]]:
    """What a step learns from: segments, their artists, and triplets of rows."""

    def draw(step: int) -> tuple[npt.NDArray[Any], ...]:
        rng = settings.seeds(1, step)
        # What dropout draws is of this step as well.
        torch.manual_seed(int(rng.integers(1 << 31)))
        rows = draw_batch(chosen, settings, rng)
        places, artists = chosen.places[rows], chosen.artists[rows]
        triplets = np.empty((0, 3), dtype=np.int64)
        if settings.system == "metric":
            kinds = settings.tags if settings.probability else ()
            alike = tuple(music.tags.alike(kind, places[:, 0]) for kind in kinds)
            side = SideInformation(settings.probability, alike)
            triplets = draw_triplets(artists, rng, side)
        return music.cut(places), artists, triplets

    return draw


def _loss(
    state: ArtistState, settings: ArtistTraining
) -> Callable[..., tuple[torch.Tensor, dict[str, float]]]:
    """The loss of what `_batches` draws."""
    network, half = state.network, settings.half_precision

    def loss(
        levels: torch.Tensor, artists: torch.Tensor, triplets: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        if isinstance(network, ArtistClassifier):
            return artist_classifier.classifier_loss(network, levels, artists, half)
        with torch.autocast(levels.device.type, torch.bfloat16, enabled=half):
            embedding = network(levels)
        if settings.system == "contrastive":
            return contrastive_loss(embedding, artists, settings.temperature)
        return triplet_loss(embedding, triplets, settings.margin)

    return loss


def stepper(
    music: ArtistMusic, chosen: TrainingSet, settings: ArtistTraining
) -> Callable[[int], None]:
    """Takes a step of training, to see how long one takes."""
    state = ArtistState.begin(settings, new_network(settings, music, chosen.n_artists))
    draw, loss = _batches(music, chosen, settings), _loss(state, settings)

    def learn(step: int) -> None:
        value, _ = loss(*(torch.from_numpy(part).to(state.device) for part in draw(step)))
        state.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()

    return learn


def embed_tracks(
    network: torch.nn.Module, music: ArtistMusic, tracks: Ints, n_segments: int = 10
) -> Floats:
    """Embeddings of tracks: the mean of those of their segments, length one again, [tracks, d]."""
    places = [music.places(int(track), n_segments) for track in tracks]
    flat = np.concatenate(places)
    device = next(network.parameters()).device
    found = []
    with torch.no_grad():
        for first in range(0, len(flat), EMBED_BATCH):
            levels = torch.from_numpy(music.cut(flat[first : first + EMBED_BATCH])).to(device)
            found.append(network(levels).float().cpu())
    sums = np.cumsum([len(part) for part in places])[:-1]
    means = [part.mean(dim=0) for part in torch.tensor_split(torch.cat(found), sums.tolist())]
    return np.asarray(F.normalize(torch.stack(means), dim=1).numpy(), dtype=np.float32)


def check(network: torch.nn.Module, music: ArtistMusic, tracks: Ints) -> dict[str, float]:
    """``eer`` of pairs of tracks, of one artist or of two, and ``spread`` of the embeddings."""
    embeddings = embed_tracks(network, music, tracks, CHECK_SEGMENTS)
    artists = music.artists[tracks]
    first, second = np.triu_indices(len(tracks), 1)
    likeness = (embeddings @ embeddings.T)[first, second]
    return {
        "eer": equal_error_rate(likeness, artists[first] == artists[second]),
        "spread": spread(torch.from_numpy(embeddings)),
    }
