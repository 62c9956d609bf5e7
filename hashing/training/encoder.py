"""Training the snippet encoder: the same moment heard twice is near, everything else is far.

A clean snippet on one side, on the other the same moment degraded and up to half an index hop off;
the others of the batch are what it must not be taken for (NT-Xent: Chen et al., ICML 2020; for
audio fingerprints: Chang et al., ICASSP 2021). The same loss is taken once more with the clean
side reduced to the signs of its bits, which is what an index keeps, so that the bits are learned
for how they are used: real-valued query against binary code (Gordo et al., asymmetric distances,
2014). The gradient passes the sign straight through (Bengio et al., 2013).

`train` can be stopped at any moment and goes on from its checkpoint. It runs on a GPU where there
is one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from hashing.errors import HashbeamError
from hashing.features import FeatureConfig
from hashing.fronts import Answer, session_of
from hashing.models import Model, save_model
from hashing.track_fronts import Reach, SeparateSnippets, SharedLayers, TrackFront
from hashing.training.checkpoints import write_checkpoint
from hashing.training.export import append_linear, encoder_graph, track_graph
from hashing.training.learned import learned_arrays
from hashing.training.networks import ConvEncoder, TrackEncoder
from hashing.training.pairs import EncoderTraining, Pairs

Floats = npt.NDArray[np.float32]

# Steps between two lines of progress, and between two checkpoints.
STEPS_PER_REPORT = 250

# Clean snippets over which an exported model's statistics are taken: medians to ±0.4 % of rank.
STATISTICS_SNIPPETS = 16_384

# How many of them are of one tile of eight seconds.
TILE_SNIPPETS = 4


def contrast(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every row of [n, n] with its own column, and of columns with their rows."""
    own = torch.arange(len(logits), device=logits.device)
    rows = torch.nn.functional.cross_entropy(logits, own)
    return (rows + torch.nn.functional.cross_entropy(logits.T, own)) / 2


def loss_of(
    network: ConvEncoder, clean: torch.Tensor, heard: torch.Tensor, settings: EncoderTraining
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a batch of pairs, and its parts."""
    n, temperature = len(clean), settings.temperature
    # Products of the network in half precision; similarities keep all their digits.
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=settings.half_precision):
        embedding, logits = network(torch.cat((clean, heard)))
    real = contrast(embedding[n:] @ embedding[:n].T / temperature)
    # Forwards the sign, backwards the identity where the logit is not far from zero.
    soft = torch.clamp(logits[:n], -1.5, 1.5)
    signs = soft + (torch.where(logits[:n] > 0, 1.0, -1.0) - soft).detach()
    asked = torch.nn.functional.normalize(logits[n:], dim=1)
    binary = contrast(asked @ signs.T / math.sqrt(logits.shape[1]) / temperature)
    return real + binary, {"loss": real.item(), "loss_binary": binary.item()}


Network = TypeVar("Network", bound=torch.nn.Module)


class Schedule(Protocol):
    """How far a network descends, and how fast."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    def learning_rate_at(self, step: int) -> float:
        """Of one step, counted from zero."""


def placed(network: Network) -> tuple[Network, torch.device]:
    """A network on the GPU, where there is one, and the device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return network.to(device), device


def running_mean(network: torch.nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """The running mean of a network's weights and buffers."""
    return torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )


@dataclasses.dataclass
class State(Generic[Network]):
    """Everything that a checkpoint holds."""

    network: Network
    average: torch.optim.swa_utils.AveragedModel
    optimiser: torch.optim.Optimizer
    device: torch.device
    step: int = 0

    @classmethod
    def start(cls, settings: EncoderTraining, network: Network) -> State[Network]:
        """The state before the first step."""
        network, device = placed(network)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        return cls(network, running_mean(network, settings.averaging), optimiser, device)

    @property
    def trained(self) -> Network:
        """The running mean of the weights, ready to be used."""
        module = self.average.module
        assert isinstance(module, type(self.network))
        return module.eval()

    def save(self, path: Path) -> None:
        """Write a checkpoint; an interrupted write leaves the last one."""
        write_checkpoint(self.parts(), path)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        self.take(torch.load(path, weights_only=True, map_location=self.device))

    def take(self, parts: Mapping[str, Any]) -> None:
        """Become what `parts` were of."""
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        self.optimiser.load_state_dict(parts["optimiser"])
        self.step = int(parts["step"])


def new_encoder(settings: EncoderTraining, config: FeatureConfig) -> ConvEncoder:
    """The encoder before its first step."""
    torch.manual_seed(settings.seed)
    return ConvEncoder(
        config.n_bands,
        config.snippet_frames,
        settings.channels,
        settings.dimensions,
        settings.bits,
    )


def encode(
    network: ConvEncoder, cut: Floats, device: torch.device, batch: int = 512
) -> tuple[Floats, Floats]:
    """Embeddings [n, dimensions] and logits [n, bits] of standardised snippets."""
    parts = []
    with torch.no_grad():
        for first in range(0, len(cut), batch):
            parts.append(network(torch.from_numpy(cut[first : first + batch]).to(device)))
    embedding, logits = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return embedding, logits


def recall(state: State[ConvEncoder], pairs: Pairs, snippets: int) -> dict[str, float]:
    """Share of unheard degraded snippets whose nearest clean one, among `snippets`, is their own.

    ``recall`` compares embeddings, ``recall_binary`` a query's logits with the signs of the clean.
    """
    clean, heard = pairs.draw(pairs.settings.seeds(stage=3), snippets, pairs.settings.steps)
    clean_embedding, clean_logits = encode(state.trained, clean, state.device)
    embedding, logits = encode(state.trained, heard, state.device)
    own = np.arange(snippets)
    real = (embedding @ clean_embedding.T).argmax(axis=1) == own
    binary = (logits @ np.where(clean_logits > 0, 1.0, -1.0).T).argmax(axis=1) == own
    return {"recall": float(real.mean()), "recall_binary": float(binary.mean())}


def identify(pairs: Pairs, *more: Any) -> str:
    """What a checkpoint belongs to: the settings that its steps had, and the music.

    `more` is what else a kind of training depends on, as JSON has it.
    """
    settings = dataclasses.asdict(pairs.settings)
    for later in ("steps", "code_bytes", "n_tables", "key_bits"):
        del settings[later]
    sample = np.ascontiguousarray(pairs.pool.spectra[:, [0, -1], 0])
    digest = hashlib.sha256(sample.tobytes()).hexdigest()
    return json.dumps([settings, pairs.pool.spectra.shape, digest, *more], sort_keys=True)


def resume(
    settings: EncoderTraining, network: Network, path: Path, identity: str
) -> State[Network]:
    """The state of the checkpoint `path`, or that of `network` before the first step.

    Beside the checkpoint stands whose it is; one of another run is deleted. A longer run goes on
    from where a shorter one ended; raises `HashbeamError` where the checkpoint is past the last
    step, because training cannot be taken back.
    """
    state = State.start(settings, network)
    go_on(state, settings.steps, path, identity)
    return state


def go_on(state: State[Network], steps: int, path: Path, identity: str) -> None:
    """Take a new state to where the checkpoint `path` is, as `resume` does."""
    owner = path.parent / ("settings.json" if path.stem == "state" else f"{path.stem}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not owner.exists() or owner.read_text() != identity:
        path.unlink(missing_ok=True)
        owner.write_text(identity)
    if path.exists():
        state.restore(path)
    if state.step > steps:
        raise HashbeamError(
            f"{path} has learned for {state.step} steps, which is more than {steps}: "
            "ask for as many steps, or name another folder with --work"
        )


def train(
    pairs: Pairs, unheard: Pairs, work: Path, log: Callable[[str], None] = print
) -> tuple[State[ConvEncoder], dict[str, float]]:
    """Train to ``settings.steps``, resuming from the checkpoint in `work`.

    Args:
      pairs: of the training music.
      unheard: of other music, for the recall that is reported on the way.

    Returns:
      The trained state and its last figures.
    """
    settings, checkpoint = pairs.settings, work / "state.pt"
    network = new_encoder(settings, pairs.pool.config)
    state = resume(settings, network, checkpoint, identify(pairs))
    if state.step:
        log(f"resuming at step {state.step} of {settings.steps}")
    snippets = min(2048, unheard.pool.spectra.shape[0] * 2)

    def draw(step: int) -> tuple[Floats, Floats]:
        return pairs.draw(settings.seeds(stage=1, step=step), settings.batch, step)

    def loss(clean: torch.Tensor, heard: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        return loss_of(state.network, clean, heard, settings)

    def figures() -> dict[str, float]:
        return recall(state, unheard, snippets)

    return state, descend(state, settings, checkpoint, draw, loss, figures, log)


def descend(
    state: State[Network],
    settings: Schedule,
    checkpoint: Path,
    draw: Callable[[int], tuple[Floats, ...]],
    loss_of_batch: Callable[..., tuple[torch.Tensor, dict[str, float]]],
    figures: Callable[[], dict[str, float]],
    log: Callable[[str], None],
    name: str = "",
    every: int | None = None,
    done: Callable[[dict[str, float]], bool] = lambda found: False,
) -> dict[str, float]:
    """Take the steps that are left, with a checkpoint and a line of progress now and then.

    Args:
      state: changed in place.
      draw: what a step learns from.
      loss_of_batch: of `state.network` for what was drawn, and its parts.
      figures: of the network as it stands, on unheard music.
      name: what the lines of progress begin with.
      every: steps between two of them, `STEPS_PER_REPORT` unless told.
      done: told the parts and figures of each; true where no more steps are wanted.

    Returns:
      The last figures.
    """
    started, first_step, every = time.monotonic(), state.step, every or STEPS_PER_REPORT
    while state.step < settings.steps:
        batch = [torch.from_numpy(part).to(state.device) for part in draw(state.step)]
        for group in state.optimiser.param_groups:
            group["lr"] = settings.learning_rate_at(state.step)
        state.network.train()
        loss, parts = loss_of_batch(*batch)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()
        state.average.update_parameters(state.network)
        state.step += 1
        if state.step % every == 0 or state.step == settings.steps:
            found = {**parts, **figures()}
            enough = done(found)
            state.save(checkpoint)
            shown = "  ".join(f"{what} {value:.3f}" for what, value in found.items())
            pace = (time.monotonic() - started) / (state.step - first_step)
            left = pace * (settings.steps - state.step) / 60.0
            at = f"{name}step {state.step:6d} of {settings.steps}"
            log(f"{at}  {shown}  {left:.0f} minutes left")
            if enough:
                break
    return figures()


def export(
    folder: Path,
    state: State[ConvEncoder],
    pairs: Pairs,
    light: TrackEncoder | None,
    training: Mapping[str, Any],
    card: str,
) -> Model:
    """Write the model folder: encoder graphs, codebooks, keys, and bits dealt out to tables.

    Where there is a light encoder, it makes the index, and the full one listens to queries.
    Codebooks, medians, spreads and the information that bits share are taken over clean snippets
    of the training music, which is what stands in an index.
    """
    settings, config = pairs.settings, pairs.pool.config
    layers, project, (weights, _) = state.trained.folded()
    graphs = {"model": encoder_graph(config.n_bands, config.snippet_frames, layers, project)}
    if light is not None:
        graphs["query"] = graphs["model"]
        graphs["model"] = track_graph(config.n_bands, *light.folded(), light.reach)
    # What is stored in half precision is what is measured.
    embeddings = clean_music(graphs["model"], light.reach if light else None, pairs)
    rotation, arrays = learned_arrays(
        embeddings,
        weights,
        settings.code_bytes,
        settings.n_tables,
        settings.key_bits,
        settings.seed,
    )
    bias = np.zeros(rotation.shape[1], dtype=np.float32)
    graphs = {name: append_linear(one, rotation, bias) for name, one in graphs.items()}
    model_config = {
        "kind": "learned",
        "bits": 8 * settings.code_bytes,
        "dimensions": settings.dimensions,
        "features": dataclasses.asdict(config),
        "training": {**dataclasses.asdict(settings), **training},
        "calibration": {},
    }
    return save_model(folder, model_config, graphs, arrays, card)


def clean_music(graph: bytes, reach: Reach | None, pairs: Pairs) -> Floats:
    """Embeddings [n, d] of clean snippets at random places, as an index has them.

    Args:
      graph: an encoder of snippets, or one of spectrograms with such a `reach`.
    """
    session = session_of(graph)
    (source,) = (end.name for end in session.get_inputs())
    pool, rng = pairs.pool, pairs.settings.seeds(stage=2)

    def run(values: Floats) -> Answer:
        return Answer(np.asarray(session.run(["embedding"], {source: values})[0]))

    front: TrackFront = SeparateSnippets(run, pool.config)
    if reach is not None:
        front = SharedLayers(run, reach, pool.config)
    tiles = np.sort(rng.integers(len(pool.spectra), size=STATISTICS_SNIPPETS // TILE_SNIPPETS))
    found = []
    for tile in tiles:
        # Not one after another: neighbours are alike.
        starts = np.sort(rng.permutation(pool.offsets)[:TILE_SNIPPETS])
        spec = pool.spectra[tile, 0].astype(np.float32)
        found += [answer.responses for answer in front(spec, starts)]
    return np.concatenate(found)
