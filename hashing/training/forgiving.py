"""Training the forgiving-hash ensemble (Baluja & Covell, IJCAI 2007).

The stages: a pool of degraded excerpts, a linear front, the networks as one fused product with
dynamic target reassignment, median thresholds, bits dealt out by mutual information, and a model
folder. Each is a function; `train` runs them in order and resumes from the work folder.

Deviations from the paper, with their reasons:

* Mini-batches with Adam, not single snippets with plain back-propagation: the same networks in
  minutes instead of hours on two cores.
* Snippets are degraded (noise, rooms, equalisers) and up to 0.25 s off, not clean and 116 ms apart:
  the hash has to hold in noise, at the 0.5 s hop of an index.
* 8 outputs (256 codes), not 10, and four songs to a code: with one, 46 % of degraded queries of
  1 s were right, with four 60 %, with sixteen 60 % (60 queries of each of seven conditions).
* Each network has songs of its own, so that the ensemble hears more music than one network could
  learn.
* A linear discriminant in front of the networks, which is one more matrix product.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashing import forgiving
from hashing.errors import ModelError
from hashing.features import FeatureConfig
from hashing.models import Model, save_model
from hashing.snippets import standardise
from hashing.training import targets
from hashing.training.checkpoints import write_checkpoint
from hashing.training.discriminant import fit_discriminant
from hashing.training.export import ensemble_graph
from hashing.training.networks import Ensemble
from hashing.training.pool import SnippetPool
from hashing.training.schedules import cosine

Floats = npt.NDArray[np.float32]

# Steps between two lines of progress, and between two checkpoints.
STEPS_PER_REPORT = 250

# Snippets over which thresholds, spreads and mutual information are taken: 16,384 give a median to
# ±0.4 % of its rank and mutual information to 1e-4 bits.
STATISTICS_SNIPPETS = 16_384


@dataclasses.dataclass(frozen=True)
class ForgivingTraining:
    """Settings of a training run. The defaults made the shipped model.

    >>> settings = ForgivingTraining()
    >>> len(settings.hidden), settings.bits
    (58, 464)
    """

    songs: int = 1024  # excerpts that a network learns; the paper: as many as there are codes
    components: int = 160  # of the linear front
    outputs: int = 8  # a network; the paper: 10, for 1,024 songs
    hidden: tuple[int, ...] = tuple(h for h in range(5, 62, 2) for _ in range(2))  # the paper's
    n_tables: int = 20
    key_bits: int = 32  # longest key; the first 23 bits of a table are in no other
    batch: int = 64  # snippets a network and step
    learning_rate: float = 2e-3
    rounds: int = 20  # of target reassignment, over the first half of the steps; the paper: 50
    steps: int = 2000
    seed: int = 1

    @property
    def bits(self) -> int:
        """Candidate bits of the ensemble."""
        return len(self.hidden) * self.outputs

    def check(self, excerpts: int) -> None:
        """Raises `ModelError` where a pool of so many excerpts is too small."""
        if self.songs > excerpts:
            raise ModelError(
                f"a network learns {self.songs} songs, the pool has {excerpts} excerpts: "
                "raise --excerpts or lower --songs"
            )

    def seeds(self, stage: int, step: int = 0) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])


class Bank:
    """Every snippet of a pool, standardised and projected by the front, ready to be drawn.

    Shape of `values`: [excerpts, versions, offsets, components], float16.
    """

    def __init__(self, pool: SnippetPool, front: Floats) -> None:
        excerpts, versions = pool.spectra.shape[:2]
        self.shape = (excerpts, versions, pool.offsets)
        values = np.empty((excerpts, versions * pool.offsets, front.shape[1]), dtype=np.float16)
        version, offset = np.divmod(np.arange(versions * pool.offsets), pool.offsets)
        for excerpt in range(excerpts):
            cut = pool.snippets(np.full(version.size, excerpt), version, offset)
            values[excerpt] = standardise(cut, pool.config) @ front
        self.values = torch.from_numpy(values.reshape(-1, front.shape[1]))

    def draw(
        self,
        excerpt: npt.NDArray[np.int64],
        rng: np.random.Generator,
        version: int | None = None,
        offset: int | None = None,
    ) -> torch.Tensor:
        """One snippet of each of `excerpt` (any shape), versions and offsets drawn unless told."""
        _, versions, offsets = self.shape
        at_version = rng.integers(versions, size=excerpt.shape) if version is None else version
        at_offset = rng.integers(offsets, size=excerpt.shape) if offset is None else offset
        rows = torch.from_numpy(np.asarray((excerpt * versions + at_version) * offsets + at_offset))
        return self.values[rows.reshape(-1)].float().reshape(*excerpt.shape, -1)


@dataclasses.dataclass
class State:
    """Everything that changes while the networks train."""

    network: Ensemble
    optimiser: torch.optim.Optimizer
    excerpts: npt.NDArray[np.int64]  # [networks, songs] which excerpts a network learns
    assigned: npt.NDArray[np.int64]  # [networks, songs] code number of each
    response_sum: torch.Tensor  # [networks, songs, outputs] since the last reassignment
    response_count: torch.Tensor  # [networks, songs]
    step: int = 0

    @classmethod
    def start(cls, settings: ForgivingTraining, excerpts: int) -> State:
        """The state before the first step; raises as `ForgivingTraining.check`."""
        settings.check(excerpts)
        torch.manual_seed(settings.seed)
        network = Ensemble(settings.components, settings.hidden, settings.outputs)
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        rng = settings.seeds(stage=0)
        chosen = np.stack([rng.permutation(excerpts)[: settings.songs] for _ in settings.hidden])
        assigned = np.stack(
            [targets.random_codes(settings.songs, settings.outputs, rng) for _ in settings.hidden]
        )
        shape = len(settings.hidden), settings.songs
        zeros = torch.zeros(*shape, settings.outputs)
        return cls(network, optimiser, chosen, assigned, zeros, torch.zeros(*shape))

    def save(self, path: Path) -> None:
        """Write a checkpoint; an interrupted write leaves the last one."""
        parts = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "excerpts": torch.from_numpy(self.excerpts),
            "assigned": torch.from_numpy(self.assigned),
            "response_sum": self.response_sum,
            "response_count": self.response_count,
            "step": self.step,
        }
        write_checkpoint(parts, path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        parts = torch.load(path, weights_only=True)
        self.network.load_state_dict(parts["network"])
        self.optimiser.load_state_dict(parts["optimiser"])
        self.excerpts = parts["excerpts"].numpy()
        self.assigned = parts["assigned"].numpy()
        self.response_sum = parts["response_sum"]
        self.response_count = parts["response_count"]
        self.step = int(parts["step"])


def learning_rate(settings: ForgivingTraining, step: int) -> float:
    """Constant while targets move, then down to zero along a cosine.

    >>> settings = ForgivingTraining(steps=100, learning_rate=1.0)
    >>> learning_rate(settings, 0), round(learning_rate(settings, 75), 3)
    (1.0, 0.5)
    """
    half = settings.steps // 2
    if step < half:
        return settings.learning_rate
    progress = (step - half) / max(1, settings.steps - half)
    return settings.learning_rate * cosine(progress)


def train_networks(
    state: State,
    bank: Bank,
    settings: ForgivingTraining,
    checkpoint: Path,
    report: Callable[[State, dict[str, float]], None],
) -> None:
    """Train to ``settings.steps``, from wherever `state` stands."""
    codes = torch.from_numpy(targets.all_codes(settings.outputs))
    networks = np.arange(len(settings.hidden))[:, None]
    half = settings.steps // 2
    steps_per_round = max(1, half // settings.rounds)
    while state.step < settings.steps:
        rng = settings.seeds(stage=1, step=state.step)
        songs = rng.integers(settings.songs, size=(len(settings.hidden), settings.batch))
        wanted = codes[torch.from_numpy(state.assigned[networks, songs])]
        responses = torch.sigmoid(state.network(bank.draw(state.excerpts[networks, songs], rng)))
        # Summed over networks: each learns as if alone.
        loss = torch.mean((responses - wanted) ** 2) * len(settings.hidden)
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(settings, state.step)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()
        state.step += 1
        if state.step <= half:
            with torch.no_grad():
                at = torch.from_numpy((networks * settings.songs + songs).reshape(-1))
                flat = responses.reshape(-1, settings.outputs)
                state.response_sum.view(-1, settings.outputs).index_add_(0, at, flat)
                state.response_count.view(-1).index_add_(0, at, torch.ones(at.numel()))
            if state.step % steps_per_round == 0:
                _reassign(state, settings)
        if state.step % STEPS_PER_REPORT == 0 or state.step == settings.steps:
            right = torch.mean(((responses > 0.5) == (wanted > 0.5)).float()).item()
            figures = {"loss": loss.item() / len(settings.hidden)}
            report(
                state, {**figures, f"bits_right_of_{settings.outputs}": settings.outputs * right}
            )
            state.save(checkpoint)


def _reassign(state: State, settings: ForgivingTraining) -> None:
    # A song that was not drawn since the last round answers 0.5 everywhere: it takes what is left.
    counts = state.response_count[:, :, None]
    mean = torch.where(counts > 0, state.response_sum / counts.clamp(min=1), torch.tensor(0.5))
    state.assigned = np.stack([targets.reassign(responses) for responses in mean.numpy()])
    state.response_sum.zero_()
    state.response_count.zero_()


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The median of each bit's response and its spread (half the distance of the quartiles)."""

    medians: Floats
    spreads: Floats
    bits: npt.NDArray[np.bool_]  # of the snippets that they were taken over

    @classmethod
    def measure(cls, state: State, bank: Bank, settings: ForgivingTraining) -> Thresholds:
        """Over random snippets of all excerpts, degraded ones among them."""
        rng = settings.seeds(stage=2)
        drawn = bank.draw(rng.integers(bank.shape[0], size=STATISTICS_SNIPPETS), rng)
        responses = respond(state, drawn)
        low, medians, high = np.quantile(responses, [0.25, 0.5, 0.75], axis=0)
        spreads = np.maximum((high - low) / 2, 1e-6)
        return cls(
            medians.astype(np.float32), spreads.astype(np.float32), responses > medians[None]
        )


def respond(state: State, inputs: torch.Tensor) -> Floats:
    """Logits of all networks, [n, bits], for the same inputs [n, components]."""
    with torch.no_grad():
        parts = [
            state.network(part.expand(len(state.network.hidden), *part.shape))
            for part in torch.split(inputs, 1024)
        ]
        logits = torch.cat(parts, dim=1).permute(1, 0, 2)
    return np.asarray(logits.reshape(len(inputs), -1).numpy(), dtype=np.float32)


def held_out_figures(
    state: State, bank: Bank, held_out: Bank, settings: ForgivingTraining
) -> dict[str, float]:
    """How stable codes are on music that training has not heard.

    Returns:
      ``agreement``: share of equal bits between a clean snippet and a degraded one up to 0.25 s
      off (chance: 0.5). ``nearest``: share of degraded snippets whose nearest clean snippet of all
      held-out excerpts, by Hamming distance, is their own. ``effective_bits``: independent fair
      bits whose distances between unlike snippets would vary as much.
    """
    rng = settings.seeds(stage=3)
    medians = np.median(
        respond(state, bank.draw(rng.integers(bank.shape[0], size=4096), rng)), axis=0
    )
    everything = np.arange(held_out.shape[0])
    centre = held_out.shape[2] // 2
    clean = respond(state, held_out.draw(everything, rng, version=0, offset=centre)) > medians
    heard = respond(state, held_out.draw(everything, rng)) > medians
    unlike = clean.astype(np.float32) @ (1.0 - heard.T.astype(np.float32))
    distances = unlike + (1.0 - clean.astype(np.float32)) @ heard.T.astype(np.float32)
    others = distances[~np.eye(len(everything), dtype=bool)] / settings.bits
    return {
        "agreement": float(1.0 - np.diag(distances).mean() / settings.bits),
        "nearest": float((distances.argmin(axis=0) == everything).mean()),
        "effective_bits": float(others.mean() * (1.0 - others.mean()) / others.var()),
    }


def _identity(pool: SnippetPool, settings: ForgivingTraining) -> str:
    """What a checkpoint belongs to: the settings, and the music that was learned."""
    # A frame of the first and of the last version of every excerpt tells one pool from another.
    sample = np.ascontiguousarray(pool.spectra[:, [0, -1], 0])
    digest = hashlib.sha256(sample.tobytes()).hexdigest()
    return json.dumps([dataclasses.asdict(settings), pool.spectra.shape, digest], sort_keys=True)


def train(
    pool: SnippetPool,
    held_out_pool: SnippetPool,
    settings: ForgivingTraining,
    work: Path,
    log: Callable[[str], None] = print,
) -> tuple[State, Floats, Thresholds, dict[str, float]]:
    """Run the stages up to the thresholds, resuming from the checkpoint in `work`.

    Returns:
      The trained state, the front, the thresholds, and the held-out figures at the end.
    """
    work.mkdir(parents=True, exist_ok=True)
    identity = _identity(pool, settings)
    settings_path, checkpoint = work / "settings.json", work / "state.pt"
    front_path = work / "front.npy"
    if not settings_path.exists() or settings_path.read_text() != identity:
        checkpoint.unlink(missing_ok=True)
        front_path.unlink(missing_ok=True)
        settings_path.write_text(identity)
    if not front_path.exists():
        temporary = work / "front.tmp.npy"
        np.save(temporary, fit_discriminant(pool, settings.components, settings.seed))
        temporary.replace(front_path)
    front = np.load(front_path, allow_pickle=False)
    bank, held_out = Bank(pool, front), Bank(held_out_pool, front)
    state = State.start(settings, bank.shape[0])
    if checkpoint.exists():
        state.restore(checkpoint)
        log(f"resuming at step {state.step} of {settings.steps}")

    def report(state: State, figures: dict[str, float]) -> None:
        figures = {**figures, **held_out_figures(state, bank, held_out, settings)}
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        log(f"step {state.step:6d} of {settings.steps}  {shown}")

    train_networks(state, bank, settings, checkpoint, report)
    # What is stored as float16 is what is measured: thresholds fit the shipped weights.
    with torch.no_grad():
        for parameter in state.network.parameters():
            parameter.copy_(parameter.half().float())
    rounded = front.astype(np.float16).astype(np.float32)
    thresholds = Thresholds.measure(state, bank, settings)
    return state, rounded, thresholds, held_out_figures(state, bank, held_out, settings)


def export(
    folder: Path,
    state: State,
    front: Floats,
    thresholds: Thresholds,
    settings: ForgivingTraining,
    features: FeatureConfig,
    training: dict[str, Any],
    card: str,
) -> Model:
    """Write the model folder: graph, thresholds, spreads, and bits dealt out to tables."""
    graph = ensemble_graph(front, *state.network.fused())
    tables = forgiving.group_bits(thresholds.bits, settings.n_tables, settings.key_bits)
    arrays: dict[str, npt.NDArray[Any]] = {
        "thresholds": thresholds.medians,
        "spreads": thresholds.spreads,
        "tables": tables,
    }
    config = {
        "kind": "forgiving",
        "bits": settings.bits,
        "features": dataclasses.asdict(features),
        "training": {**dataclasses.asdict(settings), **training},
        "calibration": {},
    }
    return save_model(folder, config, {"model": graph}, arrays, card)
