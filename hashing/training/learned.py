"""Codebooks and keys of embeddings: what a model of kind ``learned`` has beside its encoder.

`hashing.learned` says what such a model does. Everything here takes embeddings as they come, from
an encoder of ours or any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import binary
from hashing.codebooks import fit_opq
from hashing.codes import MAX_KEY_BITS
from hashing.forgiving import group_bits
from hashing.learned import LearnedQuantizer
from hashing.search import PROBES
from hashing.training.embeddings import Pairs

Floats = npt.NDArray[np.float32]

# Spreads are no less than this: a projection that never differs would blow up.
CONSTANT = 1e-6

# Dimensions that are turned at most. Longer embeddings are brought to their principal directions
# first: a code of 64 bytes says little about the others, and a round of fitting grows with the cube
# of them.
MOST_TURNED = 512

# Bits of the keys that figures are given for: an index of 30 hours has such.
FIGURE_KEY_BITS = 16


def learned_arrays(
    embeddings: Floats,
    weights: npt.NDArray[np.floating],
    code_bytes: int,
    n_tables: int,
    key_bits: int = MAX_KEY_BITS,
    seed: int = 1,
) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
    """The rotation of an encoder's last layer, and the arrays of the quantizer behind it.

    Args:
      embeddings: [n, d] of clean music: what stands in an index.
      weights: [d, bits] of the projections whose signs keys are made of; kept in half precision.
      code_bytes: of a code, 2 to d.
      n_tables, key_bits: of the keys; neither may be more than there are bits.

    Returns:
      The rotation [d, r], as it is after half precision (of more than `MOST_TURNED` dimensions, a
      projection), and arrays for `LearnedQuantizer`.

    Raises:
      ValueError: fewer embeddings than centroids, or a number that cannot be.

    >>> rng = np.random.default_rng(1)
    >>> items, weights = rng.standard_normal((400, 8), np.float32), rng.standard_normal((8, 32))
    >>> rotation, arrays = learned_arrays(items, weights, code_bytes=4, n_tables=2, key_bits=16)
    >>> rotation.shape, arrays["codebooks"].shape, arrays["tables"].shape
    ((8, 8), (4, 256, 2), (2, 16))
    """
    directions = _principal(embeddings)
    fit = fit_opq(embeddings @ directions, code_bytes, seed)
    whole = directions @ fit.rotation
    # What is stored in half precision is what thresholds are measured with.
    rotation = whole.astype(np.float16).astype(np.float32)
    turned = embeddings @ rotation
    half = (whole.T @ weights.astype(np.float32)).astype(np.float16)
    hashed = binary.with_medians(turned, half)
    signs = hashed.responses(turned) > hashed.thresholds
    return rotation, {
        "codebooks": fit.codebooks,
        "weights": half,
        "thresholds": hashed.thresholds,
        "spreads": np.maximum(hashed.spreads, np.float32(CONSTANT)),
        "tables": group_bits(signs, n_tables, key_bits),
    }


def _principal(embeddings: Floats) -> Floats:
    """Orthonormal directions [d, r] in which embeddings are longest, all where they are few.

    Of embeddings as they are, not of their differences: what is compared are inner products.
    """
    d = embeddings.shape[1]
    if d <= MOST_TURNED:
        return np.eye(d, dtype=np.float32)
    import scipy.linalg

    moments = (embeddings.T @ embeddings).astype(np.float64)
    _, vectors = scipy.linalg.eigh(moments, subset_by_index=(d - MOST_TURNED, d - 1))
    return np.ascontiguousarray(vectors, dtype=np.float32)


def learned_figures(
    quantizer: LearnedQuantizer, rotation: Floats, pairs: Pairs
) -> dict[str, float]:
    """How well degraded snippets find their own clean ones among those of all pairs.

    Args:
      rotation: [d, r] of the encoder's last layer, see `learned_arrays`.
      pairs: of embeddings [n, d], at least one.

    Returns:
      ``recall``, the share whose nearest clean embedding is their own; ``recall_rounded``, the same
      with clean embeddings as codes keep them; ``met_by_keys``, the share that meets its own in one
      of the tables; ``met_by_chance``, the share of others that a snippet meets there.
    """
    clean, heard = pairs.clean @ rotation, pairs.heard @ rotation
    n = len(clean)
    own = np.arange(n)
    codes = quantizer.encode(clean)
    material = quantizer.key_material(codes)
    key_bits = min(FIGURE_KEY_BITS, quantizer.key_bits_max)
    probes = quantizer.probe_keys(heard, key_bits, PROBES)
    met = np.zeros((n, n), dtype=bool)
    for table in range(quantizer.n_tables):
        _, keys = quantizer.postings(material, table, key_bits)
        for probe in range(probes.shape[1]):
            met |= probes[:, probe, table, None] == keys[None]
    right = int(met[own, own].sum())

    def recall(asked: Floats, kept: Floats) -> float:
        return float(np.mean((asked @ kept.T).argmax(axis=1) == own))

    return {
        "recall": recall(pairs.heard, pairs.clean),
        "recall_rounded": recall(heard, quantizer.decode(codes)),
        "met_by_keys": right / n,
        "met_by_chance": (int(met.sum()) - right) / max(1, n * (n - 1)),
    }
