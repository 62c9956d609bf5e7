"""Labels for clips that have none, guessed by a network that learned from the few that have some.

A network is trained on labelled clips, guesses the labels of the others, and another one is trained
on the labels and the surest guesses, several times: "Self-training with noisy student improves
ImageNet classification" (Xie et al., CVPR 2020); the noise is that of dropout and of the versions
in which clips are embedded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hashing.training.events.labels import LabelSets
from hashing.training.events.quantization import Quantized, QuantizerTraining, train_quantizer

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Cosines with the mean outputs of sets of labels become chances by a softmax of this scale.
SCALE = 10.0


@dataclasses.dataclass(frozen=True)
class SelfTraining:
    """How guesses are used.

    Attributes:
      rounds: trainings after the first one.
      kept: share of the guesses that are learned from, the surest of each set of labels.
      steps: of the trainings after the first, as often as there are of the first.
    """

    rounds: int = 1
    kept: float = 0.8
    steps: int = 2


def train_with_unlabelled(
    embeddings: Floats,
    labels: LabelSets,
    unlabelled: Floats,
    settings: QuantizerTraining,
    guessing: SelfTraining | None = None,
    items: Floats | None = None,
    log: Callable[[str], None] | None = None,
) -> Quantized:
    """Train a network and codebooks on clips with labels and others without.

    Args:
      embeddings: of the labelled clips in several versions each, [n, versions, d].
      labels: of these.
      unlabelled: embeddings of the others, [m, versions, d].
      items: embeddings that codebooks are fitted to beside those of labelled clips; None for those
        of the others.
      log: told how the loss goes.

    Raises:
      ValueError: fewer embeddings than centroids.
    """
    guessing = guessing or SelfTraining()
    items = unlabelled[:, 0] if items is None else items
    found = train_quantizer(embeddings, labels, settings, items, log)
    longer = dataclasses.replace(settings, steps=guessing.steps * settings.steps)
    for _ in range(guessing.rounds):
        sets, certainty = guess(found, embeddings, labels, unlabelled)
        kept = surest(sets, certainty, guessing.kept)
        both = np.concatenate([embeddings, unlabelled[kept]])
        told = dataclasses.replace(labels, of=np.concatenate([labels.of, sets[kept]]))
        found = train_quantizer(both, told, longer, items, log)
    return found


def guess(
    found: Quantized, embeddings: Floats, labels: LabelSets, unlabelled: Floats
) -> tuple[Ints, Floats]:
    """The set of labels that each of some clips has by a network, [m], and its chance, [m].

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
    chances = (chances / chances.sum(axis=2, keepdims=True)).mean(axis=1)
    return chances.argmax(axis=1), chances.max(axis=1)


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


def _outputs(found: Quantized, embeddings: Floats) -> Floats:
    n, versions, width = embeddings.shape
    return found.respond(embeddings.reshape(n * versions, width)).reshape(n, versions, -1)
