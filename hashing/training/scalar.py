"""Fitting a model of kind ``scalar`` to embeddings, and how well it holds in noise.

`hashing.scalar` says what such a model does. Everything here takes embeddings as they come, from
an encoder of ours or any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import binary
from hashing.codes import MAX_KEY_BITS
from hashing.forgiving import group_bits
from hashing.scalar import ScalarQuantizer, fit_levels
from hashing.search import PROBES
from hashing.training.embeddings import Pairs

Floats = npt.NDArray[np.float32]

# Numbers that vary less than this, of an embedding of length one, are as good as constant.
CONSTANT = 1e-6

# Bits of the keys that figures are given for: an index of 30 hours has such.
FIGURE_KEY_BITS = 16


def scalar_arrays(
    embeddings: Floats,
    weights: npt.NDArray[np.floating],
    n_tables: int,
    key_bits: int = MAX_KEY_BITS,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a model of kind ``scalar``.

    Args:
      embeddings: [n, d], d even, of clean music: what stands in an index.
      weights: [d, bits] of the projections whose signs keys are made of; kept in half precision.
      n_tables, key_bits: of the keys; neither may be more than there are bits.

    >>> rng = np.random.default_rng(1)
    >>> arrays = scalar_arrays(rng.standard_normal((400, 8)), rng.standard_normal((8, 32)), 2, 16)
    >>> arrays["tables"].shape, arrays["levels"].shape
    ((2, 16), (16,))
    """
    means, scales = embeddings.mean(axis=0), np.maximum(embeddings.std(axis=0), CONSTANT)
    # What is stored in half precision is what thresholds are measured with.
    half = weights.astype(np.float16)
    hashed = binary.with_medians(embeddings, half)
    signs = hashed.responses(embeddings) > hashed.thresholds
    return {
        "levels": fit_levels((embeddings - means) / scales),
        "means": means.astype(np.float32),
        "scales": scales.astype(np.float32),
        "weights": half,
        "thresholds": hashed.thresholds,
        "spreads": np.maximum(hashed.spreads, np.float32(CONSTANT)),
        "tables": group_bits(signs, n_tables, key_bits),
    }


def scalar_figures(quantizer: ScalarQuantizer, pairs: Pairs) -> dict[str, float]:
    """How well degraded snippets find their own clean ones among those of all pairs.

    ``recall`` is the share whose nearest clean embedding is their own, ``recall_rounded`` the same
    with clean embeddings as codes keep them; ``met_by_keys`` is the share that meets its own in one
    of the tables, ``met_by_chance`` the share of others that a snippet meets there.
    """
    n = len(pairs.clean)
    own = np.arange(n)
    codes = quantizer.encode(pairs.clean)
    key_bits = min(FIGURE_KEY_BITS, quantizer.key_bits_max)
    probes = quantizer.probe_keys(pairs.heard, key_bits, PROBES)
    met = np.zeros((n, n), dtype=bool)
    for table in range(quantizer.n_tables):
        _, keys = quantizer.postings(codes, table, key_bits)
        for probe in range(probes.shape[1]):
            met |= probes[:, probe, table, None] == keys[None]
    right = int(met[own, own].sum())

    def recall(kept: Floats) -> float:
        return float(np.mean((pairs.heard @ kept.T).argmax(axis=1) == own))

    return {
        "recall": recall(pairs.clean),
        "recall_rounded": recall(quantizer.decode(codes)),
        "met_by_keys": right / n,
        "met_by_chance": (int(met.sum()) - right) / max(1, n * (n - 1)),
    }
