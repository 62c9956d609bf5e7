"""Training as Baluja & Covell did: the procedures whose hashes their paper compares.

"Learning 'Forgiving' Hash Functions" (IJCAI 2007), Fig. 2. Many small perceptrons learn to give all
snippets of a song one code. The codes of the songs are dealt out anew between epochs
(``reassigned``), or stay as they were drawn (``static``), or nothing is learned (``random``).

Deviations from the paper, beside those of the music that it is given:

* Mini-batches of 64 snippets, each step the sum over the batch, instead of single snippets; plain
  gradient descent without momentum, as in the paper.
* Inputs are centred principal components of the snippets, not all 4,096 cells. The components are
  not scaled, so that a gradient step is the same as on the cells, up to what the components leave
  out (`Front.kept`).
* The learning rate is 5e-5 a snippet, not 2.5e-4: the paper does not say how its inputs were
  scaled. Of five rates this one was right most often on songs that nothing else is measured on
  (`hashing.training.study_beyond.at_rate`); the paper's own learns the codes by heart.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from hashing.training import targets
from hashing.training.checkpoints import write_checkpoint
from hashing.training.networks import Ensemble
from hashing.training.study_descent import blocks_of

Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.bool_]
Procedure = Literal["reassigned", "static", "random"]

# The paper's hidden layers: two networks of each size.
HIDDEN = tuple(h for h in range(5, 62, 2) for _ in range(2))

EPOCHS_PER_CHECKPOINT = 50

# Snippets that pass through all networks at once: 512 of 384 components and their hidden layers
# stay in the L2 cache.
SNIPPETS_PER_PASS = 512


def spread_over(n: int, count: int) -> list[int]:
    """`count` of the numbers below `n`, evenly spread, first and last among them.

    >>> spread_over(58, 4), spread_over(3, 3)
    ([0, 19, 38, 57], [0, 1, 2])
    """
    return [round(at) for at in np.linspace(0, n - 1, count).tolist()]


def hidden_sizes(networks: int) -> tuple[int, ...]:
    """Hidden units of so many networks: the paper's 58, or as many spread evenly over its sizes.

    >>> hidden_sizes(58) == HIDDEN, hidden_sizes(5)
    (True, (5, 19, 33, 47, 61))
    """
    return tuple(HIDDEN[at] for at in spread_over(len(HIDDEN), networks))


@dataclasses.dataclass(frozen=True)
class StudyTraining:
    """Settings of one ensemble. The defaults are the paper's but for what the module names.

    >>> settings = StudyTraining()
    >>> settings.rounds, settings.epochs_a_round, settings.rounds * settings.epochs_a_round
    (50, 10, 500)
    """

    outputs: int = 8  # a network; the paper: 10, for 1,024 songs
    hidden: tuple[int, ...] = HIDDEN
    epochs: int = 1000  # passes over all snippets
    learning_rate: float = 5e-5  # a snippet, on the sum of squared errors of its outputs
    batch: int = 64  # snippets
    seed: int = 1

    @property
    def epochs_a_round(self) -> int:
        """Epochs between two reassignments (the paper's E_dyn): a hundredth of all."""
        return max(1, self.epochs // 100)

    @property
    def rounds(self) -> int:
        """Reassignments (the paper's I_dyn), over the first half of the epochs."""
        return self.epochs // 2 // self.epochs_a_round

    def seeds(self, stage: int, step: int = 0) -> np.random.Generator:
        """A generator for one stage and step, so that a resumed run draws what a whole one does."""
        return np.random.default_rng([self.seed, stage, step])


@dataclasses.dataclass(frozen=True)
class Front:
    """Principal components of snippets: `mean` [cells] and orthonormal `axes` [cells, components].

    `kept` is the share of the variance of the snippets it was fitted to that the axes hold.
    """

    mean: Floats
    axes: Floats
    kept: float

    @classmethod
    def fit(cls, snippets: Floats, components: int) -> Front:
        """To snippets [n, cells].

        >>> front = Front.fit(np.array([[1, 0], [3, 0], [2, 0]], np.float32), 1)
        >>> np.abs(front.project(np.array([[4, 7]], np.float32))).tolist(), front.kept
        ([[2.0]], 1.0)
        """
        mean = snippets.mean(axis=0)
        centred = snippets - mean
        # The smaller of the two Gram matrices has the same eigenvalues.
        if snippets.shape[0] < snippets.shape[1]:
            values, left = np.linalg.eigh((centred @ centred.T).astype(np.float64))
            axes = centred.T @ left[:, ::-1][:, :components]
        else:
            values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
            axes = vectors[:, ::-1][:, :components]
        lengths = np.linalg.norm(axes, axis=0)
        usable = lengths > 1e-6 * lengths.max()
        axes = (axes / np.where(usable, lengths, 1.0))[:, usable]
        total = max(float(values.sum()), 1e-30)
        kept = float(values[::-1][: axes.shape[1]].sum()) / total
        return cls(mean, np.ascontiguousarray(axes, dtype=np.float32), round(kept, 6))

    def project(self, snippets: npt.NDArray[Any]) -> Floats:
        """[n, cells] → [n, components]."""
        return np.asarray((snippets.astype(np.float32) - self.mean) @ self.axes)

    def share(self, snippets: Floats) -> float:
        """Share of the variance of other snippets [n, cells] about the mean that the axes hold."""
        total = float(np.sum((snippets - self.mean) ** 2, dtype=np.float64))
        held = float(np.sum(self.project(snippets) ** 2, dtype=np.float64))
        return round(held / max(total, 1e-30), 6)


@dataclasses.dataclass(frozen=True)
class Trained:
    """An ensemble with its thresholds.

    Attributes:
      network: the perceptrons.
      medians: [networks · outputs] of the responses to the training snippets: thresholds.
      bits_right: [networks] outputs on the right side of the threshold, of all outputs, mean over
        the training snippets; 0.5 · outputs is chance. NaN where nothing was learned.
      code_changes: mean share of songs that got another code, in each round of reassignment.
    """

    network: Ensemble
    medians: Floats
    bits_right: npt.NDArray[np.float64]
    code_changes: list[float]

    def bits(self, inputs: Floats) -> Bits:
        """Bits [n, networks · outputs] of inputs [n, components], network by network."""
        return respond(self.network, inputs) > self.medians


def pick(trained: Trained, networks: Sequence[int]) -> Trained:
    """The ensemble of some of the networks."""
    chosen, old = torch.tensor(list(networks)), trained.network
    outputs = old.second.shape[2]
    new = Ensemble(old.first.shape[1], [old.hidden[i] for i in networks], outputs)
    widest = new.first.shape[2]  # units beyond a network's own are masked, so that none is lost
    with torch.no_grad():
        new.first.copy_(old.first[chosen][:, :, :widest])
        new.first_bias.copy_(old.first_bias[chosen][:, :, :widest])
        new.second.copy_(old.second[chosen][:, :widest])
        new.second_bias.copy_(old.second_bias[chosen])
    medians = trained.medians.reshape(-1, outputs)[chosen.numpy()].reshape(-1)
    return Trained(new, medians, trained.bits_right[chosen.numpy()], trained.code_changes)


def respond(network: Ensemble, inputs: Floats) -> Floats:
    """Responses before the sigmoid, which changes no order: [n, networks · outputs]."""
    parts = []
    with torch.no_grad():
        for part in torch.split(torch.from_numpy(np.ascontiguousarray(inputs)), SNIPPETS_PER_PASS):
            logits = network(part.expand(len(network.hidden), *part.shape))
            parts.append(logits.permute(1, 0, 2).reshape(len(part), -1).numpy())
    outputs = network.second.shape[2]
    empty = np.empty((0, len(network.hidden) * outputs), dtype=np.float32)
    return np.concatenate(parts) if len(inputs) else empty


@dataclasses.dataclass
class _State:
    """What changes while an ensemble trains."""

    network: Ensemble
    assigned: npt.NDArray[np.int64]  # [networks, songs] code number
    code_changes: list[float]
    epoch: int = 0

    def save(self, path: Path, identity: str) -> None:
        parts = {
            "identity": identity,
            "network": self.network.state_dict(),
            "assigned": torch.from_numpy(self.assigned),
            "code_changes": self.code_changes,
            "epoch": self.epoch,
        }
        write_checkpoint(parts, path)

    def restore(self, path: Path, identity: str) -> None:
        """Go on from a checkpoint, unless it is of another run."""
        parts = torch.load(path, weights_only=True)
        if parts["identity"] != identity:
            return
        self.network.load_state_dict(parts["network"])
        self.assigned = parts["assigned"].numpy()
        self.code_changes = list(parts["code_changes"])
        self.epoch = int(parts["epoch"])


def train_ensemble(
    songs: Floats,
    settings: StudyTraining,
    procedure: Procedure,
    *,
    members: npt.NDArray[np.int64] | None = None,
    checkpoint: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train the networks of `settings` on songs, each network as if alone.

    Args:
      songs: [songs, snippets, components] projected snippets, consecutive ones of each song.
      procedure: how; with ``random``, weights stay as they were drawn and only thresholds are
        taken.
      members: [networks, songs of a network] which songs each network learns; all of them, in
        every network, unless told.
      checkpoint: a file to go on from, and to write to every `EPOCHS_PER_CHECKPOINT` epochs.

    The result depends on the arguments only, also where a run was stopped and goes on.
    """
    n = len(settings.hidden)
    torch.manual_seed(settings.seed)
    network = Ensemble(songs.shape[2], settings.hidden, settings.outputs)
    rng = settings.seeds(stage=0)
    learned = songs.shape[0] if members is None else members.shape[1]
    assigned = np.stack([targets.random_codes(learned, settings.outputs, rng) for _ in range(n)])
    state = _State(network, assigned, [])
    if procedure != "random":
        identity = _identity(songs, settings, procedure, members)
        if checkpoint is not None and checkpoint.exists():
            state.restore(checkpoint, identity)
        _descend(state, songs, settings, procedure == "reassigned", members, log, checkpoint)
        if checkpoint is not None:
            state.save(checkpoint, identity)
    return _with_thresholds(state, songs, settings, procedure, members)


def _descend(
    state: _State,
    songs: Floats,
    settings: StudyTraining,
    reassigns: bool,
    members: npt.NDArray[np.int64] | None,
    log: Callable[[str], None],
    checkpoint: Path | None,
) -> None:
    snippets, outputs = songs.shape[1], settings.outputs
    bank = torch.from_numpy(songs.reshape(-1, songs.shape[2]))
    codes = torch.from_numpy(targets.all_codes(outputs))
    moving = settings.rounds * settings.epochs_a_round
    identity = _identity(songs, settings, "reassigned" if reassigns else "static", members)
    # Networks can share a product only where they see the same snippets.
    blocks = blocks_of(state.network) if members is None else blocks_of(state.network, 1)
    while state.epoch < settings.epochs:
        order = settings.seeds(1, state.epoch).permutation(state.assigned.shape[1] * snippets)
        song, snippet = np.divmod(order, snippets)
        total = torch.zeros(())
        for block in blocks:
            own = song if members is None else members[block.networks[0], song]
            inputs = bank[torch.from_numpy(own * snippets + snippet)]
            wanted = codes[torch.from_numpy(state.assigned[block.networks][:, song].T.copy())]
            wanted = wanted.reshape(len(order), -1)
            for first in range(0, len(order), settings.batch):
                part = slice(first, first + settings.batch)
                total += block.step(inputs[part], wanted[part], settings.learning_rate)
        state.epoch += 1
        if reassigns and state.epoch <= moving and state.epoch % settings.epochs_a_round == 0:
            for block in blocks:
                block.store()
            before = state.assigned
            means = _mean_responses(state.network, songs, members)
            state.assigned = np.stack([targets.reassign(mean) for mean in means])
            state.code_changes.append(round(float((before != state.assigned).mean()), 4))
        if state.epoch % EPOCHS_PER_CHECKPOINT == 0 or state.epoch == settings.epochs:
            for block in blocks:
                block.store()
            error = total.item() / len(order) / len(settings.hidden) / outputs
            log(f"epoch {state.epoch} of {settings.epochs}: squared error {error:.4f} an output")
            if checkpoint is not None:
                state.save(checkpoint, identity)


def _mean_responses(
    network: Ensemble, songs: Floats, members: npt.NDArray[np.int64] | None
) -> Floats:
    """Mean response between 0 and 1 to each song of each network, [networks, songs, outputs]."""
    n = len(network.hidden)
    logits = respond(network, songs.reshape(-1, songs.shape[2]))
    responses = torch.sigmoid(torch.from_numpy(logits)).numpy()
    means = responses.reshape(*songs.shape[:2], n, -1).mean(axis=1).transpose(1, 0, 2)
    if members is None:
        return np.ascontiguousarray(means)
    return np.stack([mean[one] for mean, one in zip(means, members, strict=True)])


def _with_thresholds(
    state: _State,
    songs: Floats,
    settings: StudyTraining,
    procedure: Procedure,
    members: npt.NDArray[np.int64] | None,
) -> Trained:
    n, outputs = len(settings.hidden), settings.outputs
    logits = respond(state.network, songs.reshape(-1, songs.shape[2]))
    by_network = logits.reshape(*songs.shape[:2], n, outputs)
    codes = targets.all_codes(outputs) > 0.5
    medians = np.empty((n, outputs), dtype=np.float32)
    right = np.full(n, np.nan)
    for i in range(n):
        own = by_network[:, :, i] if members is None else by_network[members[i], :, i]
        medians[i] = np.median(own, axis=(0, 1))
        if procedure != "random":
            wanted = codes[state.assigned[i]][:, None, :]
            right[i] = outputs * float(((own > medians[i]) == wanted).mean())
    return Trained(state.network, medians.reshape(-1), right, state.code_changes)


def _identity(
    songs: Floats,
    settings: StudyTraining,
    procedure: str,
    members: npt.NDArray[np.int64] | None,
) -> str:
    """What a checkpoint belongs to: procedure, settings, and the snippets that are learned."""
    digest = hashlib.sha256(np.ascontiguousarray(songs[:, 0]).tobytes())
    if members is not None:
        digest.update(np.ascontiguousarray(members).tobytes())
    parts: Sequence[Any] = [procedure, dataclasses.asdict(settings), songs.shape]
    return json.dumps([*parts, digest.hexdigest()], sort_keys=True)
