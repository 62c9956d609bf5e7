"""Training the balanced flow hash on embeddings that an encoder has made.

Singh, Demuynck & Arora, "FlowHash" (2023): a projection, frozen, then a RealNVP (Dinh et al., 2017)
that makes the projected clean embeddings likely under a prior of independent bimodal coordinates,
while a cross-entropy asks the same moment heard twice for the same bits.

Deviations from the paper, each for what it measured on music that training had not heard:

* The projection is the principal components of the clean embeddings. The paper's triplet loss
  without a margin is done as soon as pairs are nearer than the mean of the others, and lets
  components die: it needs up to half as many candidates more at equal recall (`projection`).
* The couplings end in a fixed form of map of each coordinate, ``a * u + b * tanh(c * u)``, that
  starts as the one that makes a normal coordinate bimodal. Affine couplings alone can only make a
  coordinate bimodal by moving it as others say, and then its bit tells of them.
* Noise is added to the projected embeddings. The likelihood of thousands of tracks can be learned
  by heart, and bits that are balanced by heart are neither balanced nor stable elsewhere.

`train` can be stopped at any moment and goes on from its checkpoint.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import zuko

from hashing import codes
from hashing.balance import measure_balance
from hashing.flow import MAX_DOUBTFUL, MODE, FlowQuantizer, normal_scale, replication_factor
from hashing.training.checkpoints import write_checkpoint
from hashing.training.flow_export import Coupling, FlowWeights
from hashing.training.flow_projection import principal_components, triplet_projection
from hashing.training.schedules import cosine

Floats = npt.NDArray[np.float32]
Groups = npt.NDArray[np.integer] | None
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

# Steps between two lines of progress, and between two checkpoints.
STEPS_PER_REPORT = 250

# a, b and c of ``a * u + b * tanh(c * u)``: the least-squares fit, weighted by the normal density,
# to the map from a normal coordinate to one with the bimodal prior.
WARP = (1.2588, 1.1853, 3.5879)

# Difference of the two hearings of a moment below which a coordinate counts as kept (FlowHash).
CLOSE = 0.5

# Rows that the network is given at once where nothing is learned: bounds memory.
_BATCH = 8192


@dataclasses.dataclass(frozen=True)
class FlowTraining:
    """Settings of a training run. The defaults made the shipped model.

    >>> FlowTraining(steps=100).learning_rate_at(99) < 1e-5
    True
    """

    bits: int = 16
    projection: Literal["principal", "triplet"] = "principal"
    projection_steps: int = 1_500  # of the triplet loss
    couplings: int = 4
    hidden: tuple[int, ...] = (128,)
    stability: float = 0.03  # weight of the cross-entropy (lambda); more costs balance
    noise: float = 0.3  # on projected embeddings, in deviations of each coordinate
    pairs: int = 256  # a step
    items: int = 512  # clean embeddings a step, for the likelihood
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: int = 100  # steps
    averaging: float = 0.995  # decay of the running mean of the weights that is kept
    largest_gradient: float = 5.0  # length at which gradients are cut
    steps: int = 2_000
    radius: float = 0.0  # of soft assignment in the index
    max_doubtful: int = MAX_DOUBTFUL
    query_radius: float = math.inf
    seed: int = 1

    def learning_rate_at(self, step: int) -> float:
        """Up over `warm_up`, then down to zero along a cosine."""
        up = min(1.0, (step + 1) / self.warm_up)
        return self.learning_rate * up * cosine(step / self.steps)

    def seeds(self, stage: int, step: int = 0) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])


@dataclasses.dataclass(frozen=True)
class FlowData:
    """Embeddings of length one; ``unheard`` is other music, for figures only.

    Attributes:
      clean, heard: the same moments, clean and degraded, [n, d].
      dense: clean embeddings of many moments of the training music, [N, d].
      unheard_clean, unheard_heard, unheard_dense: the same of other music.
      unheard_groups: [rows of `unheard_dense`] by track, or None: items that are not independent.
      dense_groups: the same of `dense`.
      kept_dense, kept_groups: other moments of the training music, for figures only, or None.
    """

    clean: Floats
    heard: Floats
    dense: Floats
    unheard_clean: Floats
    unheard_heard: Floats
    unheard_dense: Floats
    unheard_groups: Groups = None
    dense_groups: Groups = None
    kept_dense: Floats | None = None
    kept_groups: Groups = None


class Flow(torch.nn.Module):
    """Projection, couplings and warp: embeddings [n, d] → z [n, bits].

    Args:
      weight, bias: of the projection, [d, bits] and [bits]; they are not trained.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weight: Floats, bias: Floats, couplings: int, hidden: tuple[int, ...]):
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(weight))
        self.register_buffer("bias", torch.from_numpy(bias))
        bits = bias.size
        flow = zuko.flows.RealNVP(bits, transforms=couplings, hidden_features=hidden)
        self.couplings = flow.transform
        for coupling in self.couplings.transforms:
            with torch.no_grad():  # start near the identity
                coupling.hyper[-1].weight.mul_(0.05)
                coupling.hyper[-1].bias.zero_()
        logs = torch.tensor(WARP).log()
        self.warp = torch.nn.Parameter(logs[:, None].repeat(1, bits))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.transform(self.project(embeddings))[0]

    def project(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Projected embeddings y, [n, bits]."""
        return embeddings @ self.weight + self.bias

    def transform(self, projected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z [n, bits] and the log of the factor by which volumes grow from y to z, [n]."""
        # zuko's forward direction is from data to prior.
        u, growth = self.couplings().call_and_ladj(projected)
        linear, height, steepness = self.warp.exp()
        bend = torch.tanh(steepness * u)
        slope = linear + height * steepness * (1.0 - bend.square())
        return linear * u + height * bend, growth + slope.log().sum(dim=-1)

    def weights(self) -> FlowWeights:
        """What `hashing.training.flow_export.append_flow` writes."""
        found = []
        for coupling in self.couplings.transforms:
            layers = [
                (_array(layer.weight).T, _array(layer.bias))
                for layer in coupling.hyper
                if isinstance(layer, zuko.nn.Linear)
            ]
            # zuko lays shift and scale of each coordinate side by side.
            weight, bias = layers[-1]
            mask = coupling.mask.numpy()
            found.append(
                Coupling(
                    kept=np.flatnonzero(mask),
                    moved=np.flatnonzero(~mask),
                    hidden=tuple(layers[:-1]),
                    shift=(weight[:, 0::2], bias[0::2]),
                    log_scale=(weight[:, 1::2], bias[1::2]),
                )
            )
        projection = (_array(self.weight), _array(self.bias))
        return FlowWeights(projection, tuple(found), _array(self.warp.exp()))


def _array(tensor: torch.Tensor) -> Floats:
    return tensor.detach().numpy()


def prior_log_density(z: torch.Tensor) -> torch.Tensor:
    """Log density [n] of independent coordinates ``(N(-2, 1) + N(2, 1)) / 2``.

    >>> round(float(prior_log_density(torch.zeros(1, 1)).exp()), 5)  # the normal density at 2
    0.05399
    """
    modes = torch.logaddexp(-0.5 * (z - MODE).square(), -0.5 * (z + MODE).square())
    return (modes - 0.5 * math.log(2.0 * math.pi) - math.log(2.0)).sum(dim=-1)


def disagreement(z: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the bits of z with those of another hearing, both ways, [n], in nats.

    The chance of a bit is the posterior of the upper mode, ``sigmoid(4 * z)`` for modes at ±2. The
    paper's text takes the densities of the modes themselves, which would push z outwards.
    """
    mine, theirs = 2.0 * MODE * z, 2.0 * MODE * other
    there = F.binary_cross_entropy_with_logits(theirs, torch.sigmoid(mine), reduction="none")
    back = F.binary_cross_entropy_with_logits(mine, torch.sigmoid(theirs), reduction="none")
    return (there + back).sum(dim=-1)


@dataclasses.dataclass
class State:
    """Everything that a checkpoint holds."""

    network: Flow
    average: torch.optim.swa_utils.AveragedModel
    optimiser: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, settings: FlowTraining, data: FlowData) -> State:
        """The state before the first step."""
        if settings.projection == "triplet":
            projection = triplet_projection(
                data.clean,
                data.heard,
                data.dense,
                settings.bits,
                lambda step: settings.seeds(1, step).integers(len(data.clean), size=settings.pairs),
                settings.projection_steps,
            )
        else:
            projection = principal_components(data.dense, settings.bits)
        torch.manual_seed(settings.seed)
        network = Flow(*projection, settings.couplings, settings.hidden)
        average = torch.optim.swa_utils.AveragedModel(
            network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
                settings.averaging
            ),
        )
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        return cls(network, average, optimiser)

    @property
    def trained(self) -> Flow:
        """The running mean of the weights, rounded as the exported graph keeps them."""
        flow = copy.deepcopy(self.average.module)
        assert isinstance(flow, Flow)
        with torch.no_grad():
            for tensor in (*flow.parameters(), *flow.buffers()):
                if tensor is flow.warp:
                    # The graph keeps the exponentials.
                    tensor.copy_(tensor.exp().half().float().log())
                elif tensor.is_floating_point():
                    tensor.copy_(tensor.half().float())
        return flow.eval()

    def save(self, path: Path) -> None:
        """Write a checkpoint; an interrupted write leaves the last one."""
        parts = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        write_checkpoint(parts, path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        parts = torch.load(path, weights_only=True)
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        self.optimiser.load_state_dict(parts["optimiser"])
        self.step = int(parts["step"])


def respond(flow: Flow, embeddings: Floats) -> Floats:
    """z [n, bits] of embeddings [n, d]."""
    with torch.no_grad():
        parts = [
            flow(torch.from_numpy(embeddings[first : first + _BATCH]))
            for first in range(0, len(embeddings), _BATCH)
        ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def loss_of(
    network: Flow, batch: Batch, settings: FlowTraining
) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss of clean items, noise on them projected, and pairs (clean, heard); and its parts."""
    items, noise, clean, heard = batch
    n = len(items)
    projected = network.project(torch.cat((items, clean, heard)))
    projected = torch.cat((projected[:n] + settings.noise * noise, projected[n:]))
    z, growth = network.transform(projected)
    unlikely = -(prior_log_density(z[:n]) + growth[:n]).mean()
    mine, theirs = z[n:].chunk(2)
    unstable = disagreement(mine, theirs).mean()
    parts = {"likelihood_loss": unlikely.item(), "stability_loss": unstable.item()}
    return unlikely + settings.stability * unstable, parts


def draw(data: FlowData, settings: FlowTraining, step: int) -> Batch:
    """The batch of a step, as `loss_of` takes it."""
    rng = settings.seeds(2, step)
    items = data.dense[rng.integers(len(data.dense), size=settings.items)]
    noise = rng.standard_normal((settings.items, settings.bits), dtype=np.float32)
    pairs = rng.integers(len(data.clean), size=settings.pairs)
    clean, heard = torch.from_numpy(data.clean[pairs]), torch.from_numpy(data.heard[pairs])
    return torch.from_numpy(items), torch.from_numpy(noise), clean, heard


def make_quantizer(flow: Flow, data: FlowData, settings: FlowTraining) -> FlowQuantizer:
    """The quantizer of a trained flow; its spreads and its replication are the training music's."""
    clean, heard = respond(flow, data.clean), respond(flow, data.heard)
    spreads = (normal_scale(heard) - normal_scale(clean)).std(axis=0)
    assigned = (settings.radius, settings.max_doubtful, settings.query_radius)
    quantizer = FlowQuantizer(spreads, *assigned)
    packed = quantizer.encode(respond(flow, data.dense))
    replication = replication_factor(quantizer, packed, settings.bits)
    return FlowQuantizer(spreads, *assigned, replication)


def figures_of(flow: Flow, quantizer: FlowQuantizer, data: FlowData) -> dict[str, float]:
    """Balance of training music, of its other moments and of other music; stability on the last."""
    figures = {"replication": quantizer.replication}
    parts: dict[str, tuple[Floats, Groups]] = {
        "train": (data.dense, data.dense_groups),
        "unheard": (data.unheard_dense, data.unheard_groups),
    }
    if data.kept_dense is not None:
        parts["kept"] = (data.kept_dense, data.kept_groups)
    for name, (dense, groups) in parts.items():
        bits = codes.pack(respond(flow, dense) > 0.0)
        keys = codes.keys(bits, np.arange(quantizer.bits))
        balance = measure_balance(keys, quantizer.bits, groups)
        for figure, value in dataclasses.asdict(balance).items():
            if value is not None:
                figures[f"{name}_{figure}"] = value
    clean, heard = respond(flow, data.unheard_clean), respond(flow, data.unheard_heard)
    figures["unheard_flipped"] = float(((clean > 0) != (heard > 0)).mean())
    figures["unheard_close"] = float((np.abs(clean - heard) < CLOSE).mean())
    return figures


def _identity(settings: FlowTraining, data: FlowData) -> str:
    """What a checkpoint belongs to: settings that change the training, and the music."""
    relevant = dataclasses.asdict(settings)
    for name in ("radius", "max_doubtful", "query_radius"):
        del relevant[name]
    digest = hashlib.sha256()
    for part in (data.clean, data.heard, data.dense):
        digest.update(repr(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    return json.dumps([relevant, digest.hexdigest()], sort_keys=True)


def train(
    data: FlowData, settings: FlowTraining, work: Path, log: Callable[[str], None] = print
) -> tuple[State, FlowQuantizer, dict[str, float]]:
    """Train to ``settings.steps``, resuming from the checkpoint in `work`.

    Returns:
      The trained state (its `trained.weights()` go into a graph), the quantizer, and the figures of
      both: see `hashing.balance.Balance`, and ``unheard_flipped``, the share of bits that differ
      between two hearings, and ``unheard_close``, that of coordinates that differ by less than 0.5.
    """
    work.mkdir(parents=True, exist_ok=True)
    identity, checkpoint = _identity(settings, data), work / "state.pt"
    settings_path = work / "settings.json"
    if not settings_path.exists() or settings_path.read_text() != identity:
        checkpoint.unlink(missing_ok=True)
        settings_path.write_text(identity)
    state = State.start(settings, data)
    if checkpoint.exists():
        state.restore(checkpoint)
        log(f"resuming at step {state.step} of {settings.steps}")
    started, first_step = time.monotonic(), state.step
    while state.step < settings.steps:
        for group in state.optimiser.param_groups:
            group["lr"] = settings.learning_rate_at(state.step)
        loss, parts = loss_of(state.network, draw(data, settings, state.step), settings)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.largest_gradient)
        state.optimiser.step()
        state.average.update_parameters(state.network)
        state.step += 1
        if state.step % STEPS_PER_REPORT == 0 or state.step == settings.steps:
            state.save(checkpoint)
            shown = "  ".join(f"{name} {value:.3f}" for name, value in parts.items())
            pace = (time.monotonic() - started) / (state.step - first_step)
            left = pace * (settings.steps - state.step) / 60.0
            log(f"step {state.step:6d} of {settings.steps}  {shown}  {left:.1f} minutes left")
    flow = state.trained
    quantizer = make_quantizer(flow, data, settings)
    return state, quantizer, figures_of(flow, quantizer, data)
