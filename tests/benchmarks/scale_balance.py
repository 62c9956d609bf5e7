"""How far the keys of made-up music are from uniform ones, and those of real music."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scale_codes import SEED, SIGMA, MadeUpMusic, Real, columns_of, read_real

from hashing import codes
from hashing.encoders import Hasher
from hashing.probing import probe_keys
from hashing.search import PROBES

Figures = dict[str, Any]

BITS = (12, 15, 18, 21, 24, 27, 30, 32)
ASKED = 6000  # snippets of the half that asks
SIGMAS = (0.1, SIGMA, 0.5, 1.0)
DRAWS = 4  # of made-up and of uniform codes


def compare(index: str, snippets: int) -> Figures:
    """Real, made-up and uniform codes, as many of each, at some lengths of keys.

    `entropy`: bits, of the buckets of a table. `load`: share of all postings that a look-up of one
    key meets, mean over the own key and its probes.
    """
    real = read_real(index)
    rng = np.random.default_rng(SEED)
    asked = real.margins[rng.choice(np.flatnonzero(real.asks), ASKED, replace=False)]
    drawn = codes.pack(real.margins[~real.asks] > 0)
    n, width = drawn.shape
    uniform = [_balance(rng.integers(0, 256, (n, width), np.uint8), asked) for _ in range(DRAWS)]
    found = {"real": _balance(drawn, asked), "uniform": _mean(uniform)}
    for sigma in SIGMAS:
        made = [_balance(_made_up(real, sigma, snippets, n, draw), asked) for draw in range(DRAWS)]
        found[f"sigma {sigma:g}"] = _mean(made)
    return {"snippets": n, "asked": ASKED, "probes": PROBES, "sigma": SIGMA, **found}


def _made_up(real: Real, sigma: float, snippets: int, n: int, draw: int) -> np.ndarray:
    music = MadeUpMusic.like(real, columns_of(13), snippets, sigma)
    tracks = -(-n // snippets)
    first = draw * tracks
    return np.concatenate([music.codes(track) for track in range(first, first + tracks)])[:n]


def _balance(packed: np.ndarray, asked: np.ndarray) -> Figures:
    tables = Hasher.load().quantizer.head.tables  # type: ignore[attr-defined]
    found: Figures = {}
    for bits in BITS:
        entropies, loads = [], []
        for table in range(len(tables)):
            keys, counts = np.unique(codes.keys(packed, tables[table, :bits]), return_counts=True)
            share = counts / len(packed)
            entropies.append(-float(np.sum(share * np.log2(share))))
            wanted = probe_keys(asked, tables[table : table + 1, :bits], PROBES).ravel()
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            loads.append(float(np.where(keys[at] == wanted, share[at], 0.0).mean()))
        found[str(bits)] = {"entropy": float(np.mean(entropies)), "load": float(np.mean(loads))}
    return found


def _mean(several: list[Figures]) -> Mapping[str, Any]:
    return {
        bits: {name: float(np.mean([one[bits][name] for one in several])) for name in values}
        for bits, values in several[0].items()
    }
