"""Codes of a few bits a dimension: nearly the embedding itself, with keys from a learned head.

One bit a dimension keeps too little for a second of noisy music to be told from its neighbours: of
embeddings of 128 numbers, 256 signs lost seven points of nearest-neighbour recall where four bits a
number lost less than one. So a code is the embedding itself, each number rounded to one of 16
levels (Lloyd, 1982; Max, 1960), and keys are signs of projections that were trained to hold in
noise, taken of the rounded embedding. Query embeddings are compared unrounded with rounded ones
(asymmetric distance: Jégou et al., PAMI 2011).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes as binary_codes
from hashing.errors import ModelError
from hashing.models import Model
from hashing.probing import check_tables, probe_keys

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]

LEVELS = 16  # of a number: four bits, two numbers a byte

# Codes decoded at once to make keys: 16,384 embeddings of 128 numbers are 8 MB.
CHUNK_ROWS = 16_384


class ScalarQuantizer:
    """Rounds embeddings, and makes keys of the signs of projections of them.

    Args:
      levels: [16], rising: the values that a standardised number is rounded to.
      means, scales: [d], what numbers are standardised with.
      weights: [d, bits] of the projections.
      thresholds, spreads: [bits]; see `hashing.quantizers.SignQuantizer`.
      tables: [n_tables, key_bits_max] numbers of the bits of each table's key.
    """

    replication = 1.0

    def __init__(
        self,
        levels: npt.NDArray[Any],
        means: npt.NDArray[Any],
        scales: npt.NDArray[Any],
        weights: npt.NDArray[Any],
        thresholds: npt.NDArray[Any],
        spreads: npt.NDArray[Any],
        tables: npt.NDArray[np.integer],
    ) -> None:
        floats = (levels, means, scales, weights, thresholds, spreads)
        self.levels, self.means, self.scales, self.weights, self.thresholds, self.spreads = (
            np.asarray(array, dtype=np.float32) for array in floats
        )
        dimensions, bits = self.weights.shape
        shapes = (self.means.shape, self.scales.shape, self.thresholds.shape, self.spreads.shape)
        if shapes != ((dimensions,), (dimensions,), (bits,), (bits,)) or dimensions % 2:
            raise ModelError(f"arrays do not fit {dimensions} dimensions and {bits} bits")
        if self.levels.shape != (LEVELS,) or not np.all(np.diff(self.levels) > 0):
            raise ModelError(f"levels must be {LEVELS} rising numbers")
        if not all(np.isfinite(array).all() for array in floats):
            raise ModelError("arrays hold numbers that are not finite")
        if not (np.all(self.scales > 0) and np.all(self.spreads > 0)):
            raise ModelError("scales and spreads must be above 0")
        self.tables = check_tables(tables, bits)
        self.code_bytes = dimensions // 2
        self.n_tables, self.key_bits_max = self.tables.shape
        self._borders = (self.levels[1:] + self.levels[:-1]) / 2
        # Values of the two numbers of each byte, standardised, [256, 2].
        nibbles = np.stack((np.arange(256) & 15, np.arange(256) >> 4), axis=1)
        self._pairs = self.levels[nibbles]

    @classmethod
    def from_model(cls, model: Model) -> ScalarQuantizer:
        """The quantizer of a model folder; raises `ModelError` where arrays do not fit."""
        names = ("levels", "means", "scales", "weights", "thresholds", "spreads", "tables")
        try:
            return cls(*(model.arrays[name] for name in names))
        except KeyError as error:
            raise ModelError(f"lacks the array {error}") from None

    def encode(self, responses: Floats) -> Bytes:
        """Codes [n, d / 2] of embeddings [n, d]; the first number of a byte is in its low half."""
        if responses.shape[1] != self.means.size:
            raise ValueError(f"{responses.shape[1]} responses for {self.means.size} dimensions")
        standard = (responses - self.means) / self.scales
        level = np.searchsorted(self._borders, standard).astype(np.uint8)
        return np.asarray(level[:, 0::2] | level[:, 1::2] << 4, dtype=np.uint8)

    def decode(self, codes: Bytes) -> Floats:
        """Embeddings [n, d] as the codes have them."""
        standard = self._pairs[codes].reshape(len(codes), 2 * self.code_bytes)
        return np.asarray(standard * self.scales + self.means, dtype=np.float32)

    def margins(self, embeddings: Floats) -> Floats:
        """How far each projection is above its threshold, in spreads, [n, bits]."""
        found = (embeddings @ self.weights - self.thresholds) / self.spreads
        return np.asarray(found, dtype=np.float32)

    def postings(self, codes: Bytes, table: int, key_bits: int) -> tuple[Ints | None, Keys]:
        """See `hashing.quantizers.Quantizer`."""
        chosen = self.tables[table, :key_bits]
        weights, thresholds = self.weights[:, chosen], self.thresholds[chosen]
        places = np.arange(key_bits)[None]
        keys = [np.empty(0, dtype=np.uint32)]
        for first in range(0, len(codes), CHUNK_ROWS):
            bits = self.decode(codes[first : first + CHUNK_ROWS]) @ weights > thresholds
            keys.append(binary_codes.keys(binary_codes.pack(bits), places)[:, 0])
        return None, np.concatenate(keys)

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """See `hashing.quantizers.Quantizer`."""
        return probe_keys(self.margins(responses), self.tables[:, :key_bits], probes)

    def byte_scores(self, responses: Floats) -> Floats:
        """See `hashing.quantizers.Quantizer`: the inner product with the rounded embedding."""
        weights = (responses * self.scales).reshape(len(responses), self.code_bytes, 2)
        scores = weights @ self._pairs.T
        # What the means give is the same for every code: a share of it is in every byte.
        scores += (responses @ self.means / self.code_bytes)[:, None, None]
        return np.asarray(scores, dtype=np.float32)


def fit_levels(standard: Floats, iterations: int = 50) -> Floats:
    """16 levels with the least squared error for standardised numbers (Lloyd, 1982).

    >>> levels = fit_levels(np.random.default_rng(1).standard_normal(20_000).astype(np.float32))
    >>> bool(np.all(np.abs(levels + levels[::-1]) < 0.15))  # the normal distribution is symmetric
    True
    """
    values = np.sort(standard.reshape(-1).astype(np.float64))
    total = np.concatenate(([0.0], np.cumsum(values)))
    levels = np.quantile(values, (np.arange(LEVELS) + 0.5) / LEVELS)
    for _ in range(iterations):
        borders = np.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        edges = np.concatenate(([0], borders, [values.size]))
        counts = np.maximum(np.diff(edges), 1)
        levels = np.where(np.diff(edges) > 0, np.diff(total[edges]) / counts, levels)
    return levels.astype(np.float32)
