"""Labels for clips that have none, guessed by a network that learned from the few that have some.

A network is trained on labelled clips, guesses the labels of the others, and another one is trained
on the labels and the surest guesses, several times: "Self-training with noisy student improves
ImageNet classification" (Xie et al., CVPR 2020); the noise is that of dropout and of the versions
in which clips are embedded. Where there are several embeddings of the clips, guesses are believed
on which the networks of all agree, as each sees what the others do not: "Combining labeled and
unlabeled data with co-training" (Blum & Mitchell, COLT 1998).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hashing.codebooks import CENTROIDS
from hashing.training.events.labels import LabelSets
from hashing.training.events.quantization import Quantized, QuantizerTraining, train_quantizer

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Cosines with the mean outputs of sets of labels become chances by a softmax of this scale.
SCALE = 10.0


@dataclasses.dataclass(frozen=True)
class SelfTraining:
    """How labels are guessed.

    Attributes:
      rounds: of guessing, each by networks that learned from the guesses of the one before.
      teachers: networks of a round, of different seeds, whose guesses are taken together.
      kept: share of the guesses that are learned from, the surest of each set of labels.
      steps: of what learns from guesses, as often as there are of what learns from labels alone.
    """

    rounds: int = 2
    teachers: int = 3
    kept: float = 0.6
    steps: int = 2


@dataclasses.dataclass(frozen=True)
class Guesses:
    """Labels of clips that have none.

    Attributes:
      rows: of the clips whose labels are guessed surely enough, rising.
      sets: the set of labels of each of these.
    """

    rows: Ints
    sets: Ints


def guess_labels(
    views: Sequence[tuple[Floats, Floats]],
    labels: LabelSets,
    settings: QuantizerTraining,
    guessing: SelfTraining | None = None,
    log: Callable[[str], None] | None = None,
) -> Guesses:
    """Guess the labels of clips from those of others.

    Args:
      views: for each embedding those of the labelled clips, in several versions each
        [n, versions, d], and those of the others, [m, versions, d]; one at least. Guesses on
        which not all agree are none.
      labels: of the labelled clips.
      settings: of the networks that guess.
      log: told how their losses go.

    Raises:
      ValueError: no embedding.
    """
    guessing = guessing or SelfTraining()
    agreed: Guesses | None = None
    for embeddings, unlabelled in views:
        found = _guesses_of(embeddings, labels, unlabelled, settings, guessing, log)
        if agreed is not None:
            rows, here, there = np.intersect1d(agreed.rows, found.rows, return_indices=True)
            alike = agreed.sets[here] == found.sets[there]
            found = Guesses(rows[alike], found.sets[there][alike])
        agreed = found
    if agreed is None:
        raise ValueError("there is no embedding to guess by")
    return agreed


def _guesses_of(
    embeddings: Floats,
    labels: LabelSets,
    unlabelled: Floats,
    settings: QuantizerTraining,
    guessing: SelfTraining,
    log: Callable[[str], None] | None,
) -> Guesses:
    """Those of one embedding's networks."""
    found = Guesses(np.zeros(0, np.int64), np.zeros(0, np.int64))
    for number in range(guessing.rounds):
        chances = np.zeros((len(unlabelled), len(labels.sets)), np.float32)
        for teacher in range(guessing.teachers):
            # Their codes are not wanted: no time is spent on turning them.
            seed = settings.seed + 1000 * teacher
            own = dataclasses.replace(settings, turned=False, seed=seed)
            if number:
                network = train_with_guesses(
                    embeddings, labels, unlabelled, found, own, guessing, log=log
                )
            else:
                network = train_quantizer(embeddings, labels, own, _items(unlabelled), log)
            chances += chances_of(network, embeddings, labels, unlabelled) / guessing.teachers
        sets = chances.argmax(axis=1)
        rows = surest(sets, chances.max(axis=1), guessing.kept)
        found = Guesses(rows, sets[rows])
    return found


def train_with_guesses(
    embeddings: Floats,
    labels: LabelSets,
    unlabelled: Floats,
    guesses: Guesses,
    settings: QuantizerTraining,
    guessing: SelfTraining | None = None,
    items: Floats | None = None,
    log: Callable[[str], None] | None = None,
) -> Quantized:
    """Train a network and codebooks on clips with labels and on others with guesses.

    Args:
      items: embeddings that codebooks are fitted to, as `train_quantizer` takes them; None for the
        clips without labels.

    Raises:
      ValueError: fewer embeddings than centroids.
    """
    guessing = guessing or SelfTraining()
    both, told = with_guesses(embeddings, labels, unlabelled, guesses)
    longer = dataclasses.replace(settings, steps=guessing.steps * settings.steps)
    items = _items(unlabelled) if items is None else items
    return train_quantizer(both, told, longer, items, log)


def with_guesses(
    embeddings: Floats, labels: LabelSets, unlabelled: Floats, guesses: Guesses
) -> tuple[Floats, LabelSets]:
    """Embeddings and labels of clips with labels, and behind them of those with guesses."""
    both = np.concatenate([embeddings, unlabelled[guesses.rows]])
    return both, labels.extended(guesses.sets)


def chances_of(
    found: Quantized, embeddings: Floats, labels: LabelSets, unlabelled: Floats
) -> Floats:
    """How likely each set of labels is that of some clips, by a network, [m, sets].

    Clips are compared with the mean output of each set; all versions of a clip have their say.
    """
    known = np.asarray(_outputs(found, embeddings).sum(axis=1), np.float32)
    means = np.zeros((len(labels.sets), known.shape[1]), np.float32)
    np.add.at(means, labels.of, known)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    means /= np.maximum(lengths, 1e-12)
    logits = SCALE * _outputs(found, unlabelled) @ means.T
    logits[:, :, lengths[:, 0] == 0] = -np.inf  # sets of which no clip is known
    chances = np.exp(logits - logits.max(axis=2, keepdims=True))
    return np.asarray((chances / chances.sum(axis=2, keepdims=True)).mean(axis=1), np.float32)


def surest(sets: Ints, certainty: Floats, kept: float) -> Ints:
    """Rows of the surest guesses: the same share of each set, so that none takes over.

    >>> surest(np.array([0, 0, 1, 1]), np.array([0.9, 0.5, 0.2, 0.3], np.float32), 0.5).tolist()
    [0, 3]
    """
    rows = []
    for number in np.unique(sets):
        own = np.flatnonzero(sets == number)
        order = own[np.argsort(-certainty[own], kind="stable")]
        rows.append(order[: round(kept * len(own))])
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


def _items(unlabelled: Floats) -> Floats:
    """What codebooks are fitted to: clips as they are, and where they are few, all versions."""
    if len(unlabelled) >= CENTROIDS:
        return unlabelled[:, 0]
    return unlabelled.reshape(-1, unlabelled.shape[2])


def _outputs(found: Quantized, embeddings: Floats) -> Floats:
    n, versions, width = embeddings.shape
    return found.respond(embeddings.reshape(n * versions, width)).reshape(n, versions, -1)
