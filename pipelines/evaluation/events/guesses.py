"""Labels that are guessed of the clips of an evaluation, once for codes of all lengths."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.events.material import Material
from pipelines.evaluation.events.systems import Embedded

if TYPE_CHECKING:
    from hashing.training.events.quantization import QuantizerTraining
    from hashing.training.events.self_training import Guesses

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def any_unlabelled(material: Material, rows: Ints) -> bool:
    """Whether `unlabelled_clips` finds any."""
    return len(rows) < material.count("training") or not material.one_collection


def unlabelled_clips(embedded: Embedded, material: Material, rows: Ints) -> Floats:
    """Clips whose labels are guessed, in versions [m, versions, d].

    The training clips that have none, and the database, which is at hand when it is to be indexed,
    and which the unsupervised hashers are fitted to as well.

    Args:
      rows: of the training clips whose labels are known.
    """
    others = np.delete(embedded.training, rows, axis=0)
    if material.one_collection:
        return others
    stored = np.repeat(embedded.database[:, None], others.shape[1], axis=1)
    return np.concatenate([others, stored])


def guesses_of(
    material: Material, rows: Ints, settings: QuantizerTraining
) -> tuple[Guesses, float]:
    """Guesses by networks that learn from some labels, and the CPU seconds that they took.

    The networks of all embeddings must agree. The guesses are kept in the material's folder.

    Args:
      rows: of the training clips whose labels are known.
      settings: of the networks.
    """
    from hashing.training.events.self_training import Guesses, guess_labels

    told = [rows.tolist(), dataclasses.asdict(settings), material.digest]
    name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
    path = material.folder / "guesses" / f"{name}.npz"
    if not path.exists():
        started, views = time.process_time(), []
        for embedding in material.facts["embeddings"]:
            embedded = material.embedded(embedding)
            views.append((embedded.training[rows], unlabelled_clips(embedded, material, rows)))
        found = guess_labels(views, material.label_sets().take(rows), settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.tmp.npz")
        spent = time.process_time() - started
        np.savez(part, rows=found.rows, sets=found.sets, spent=spent)
        part.replace(path)
    with np.load(path, allow_pickle=False) as kept:
        return Guesses(kept["rows"], kept["sets"]), float(kept["spent"])
