"""What a balanced flow hash is trained on: embeddings, as an index and as queries have them.

Clean embeddings come from the graph that tracks are hashed with, degraded ones from the graph that
listens to queries; where a model has only one graph, both are its.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.conditions import Surroundings
from hashing.encoders import Hasher
from hashing.training.corpus import Corpus
from hashing.training.embeddings import Dense, Pairs, dense_embeddings, paired_embeddings
from hashing.training.flow import FlowData

Floats = npt.NDArray[np.float32]

# Frames between two snippets of the music that a flow is fitted to: 0.125 s, four times as many as
# an index holds. Nearer ones tell nothing new.
DENSE_HOP = 4

# Share of each track, at its end, that a flow is not fitted to: how its balance holds on other
# moments of the same music.
KEPT_SHARE = 0.15

# Moments that are heard twice, clean and degraded, of the training music and of other music.
PAIRS = 32_768
UNHEARD_PAIRS = 4_096


def gather(
    hasher: Hasher,
    music: Corpus,
    training: Sequence[int],
    unheard: Sequence[int],
    air: Surroundings,
    seed: int,
    work: Path,
    log: Callable[[str], None],
) -> FlowData:
    """Embeddings of the tracks `training` and, for figures only, of `unheard`.

    They are kept in `work`, and taken from there where the same were made before.

    Raises:
      HashbeamError: the music is too short, or silent.
      ModelError: the model has no embeddings.
    """
    facts: dict[str, Any] = {
        "version": 1,
        "encoder": hasher.digest,
        "tracks": [music.track_ids[i] for i in (*training, *unheard)],
        "training": len(training),
        "samples": int(music.starts[-1]),
        "air": [part.size for part in (*air.ambiences, *air.rooms)],
        "settings": [DENSE_HOP, KEPT_SHARE, PAIRS, UNHEARD_PAIRS, seed],
    }
    identity = json.dumps(facts, sort_keys=True)
    arrays_path, identity_path = work / "embeddings.npz", work / "embeddings.json"
    if identity_path.exists() and identity_path.read_text() == identity:
        log("embeddings are those of an earlier run")
        with np.load(arrays_path, allow_pickle=False) as arrays:
            return FlowData(**dict(arrays))
    log(f"embedding {len(training)} tracks to train, {len(unheard)} others")

    def dense(tracks: Sequence[int]) -> Dense:
        return dense_embeddings(hasher.respond_in_track, hasher.features, music, tracks, DENSE_HOP)

    def pairs(tracks: Sequence[int], n: int, stage: int) -> Pairs:
        return paired_embeddings(
            hasher.respond_in_track,
            hasher.respond,
            hasher.features,
            music,
            tracks,
            n,
            air,
            2 * seed + stage,
        )

    fitted, kept = cut_ends(dense(training))
    other = dense(unheard)
    heard, judged = pairs(training, PAIRS, 0), pairs(unheard, UNHEARD_PAIRS, 1)
    data = FlowData(
        clean=heard.clean,
        heard=heard.heard,
        dense=fitted.embeddings.astype(np.float32),
        unheard_clean=judged.clean,
        unheard_heard=judged.heard,
        unheard_dense=other.embeddings.astype(np.float32),
        unheard_groups=other.track,
        dense_groups=fitted.track,
        kept_dense=kept.embeddings.astype(np.float32),
        kept_groups=kept.track,
    )
    work.mkdir(parents=True, exist_ok=True)
    identity_path.unlink(missing_ok=True)
    arrays = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    np.savez(arrays_path, **arrays)
    identity_path.write_text(identity)
    return data


def cut_ends(music: Dense) -> tuple[Dense, Dense]:
    """Snippets but for those of the last `KEPT_SHARE` of each track, and those.

    >>> music = Dense(np.zeros((20, 2), np.float16), np.zeros(20, np.int64), np.arange(20))
    >>> [part.frame.tolist() for part in cut_ends(music)][1]
    [17, 18, 19]
    """
    _, row, n = np.unique(music.track, return_inverse=True, return_counts=True)
    end = np.zeros(n.size)
    np.maximum.at(end, row, music.frame + 1.0)
    late = music.frame >= (1.0 - KEPT_SHARE) * end[row]
    early, last = (
        Dense(music.embeddings[chosen], music.track[chosen], music.frame[chosen])
        for chosen in (~late, late)
    )
    return early, last
