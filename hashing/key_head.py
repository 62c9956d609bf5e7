"""Keys of hash tables from a learned head: signs of projections of what a code stands for.

A code that keeps nearly all of an embedding (`hashing.quantization`) makes poor keys: its bits say
where a vector lies, not which of that holds in noise. So projections are trained for that beside
the embedding, and taken of the *decoded* code: an index needs nothing but codes to build its
tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.errors import ModelError
from hashing.models import Model
from hashing.probing import check_tables, probe_keys

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint32]

# Codes decoded at once to make keys: 16,384 embeddings of 128 numbers are 8 MB.
CHUNK_ROWS = 16_384

# The arrays of a model folder that make a head.
ARRAYS = ("weights", "thresholds", "spreads", "tables")


class KeyHead:
    """Projections, and which of them make the keys of each table.

    Args:
      weights: [d, bits] of the projections.
      thresholds: [bits]; a bit is one where its projection is above.
      spreads: [bits], what a projection typically differs by.
      tables: [n_tables, key_bits_max] numbers of the bits of each table's key.

    Raises:
      ModelError: arrays that do not fit one another, or are not finite.

    >>> head = KeyHead(np.eye(2), np.zeros(2), np.ones(2), np.array([[0, 1], [1, 0]]))
    >>> head.keys(head.bits(np.array([[0.5, -0.5]], np.float32)), table=0, key_bits=2).tolist()
    [2]
    """

    def __init__(
        self,
        weights: npt.NDArray[Any],
        thresholds: npt.NDArray[Any],
        spreads: npt.NDArray[Any],
        tables: npt.NDArray[np.integer],
    ) -> None:
        floats = (weights, thresholds, spreads)
        self.weights, self.thresholds, self.spreads = (
            np.asarray(array, dtype=np.float32) for array in floats
        )
        if self.weights.ndim != 2:
            raise ModelError(f"weights must be [dimensions, bits], got {self.weights.shape}")
        self.dimensions, bits = self.weights.shape
        if self.thresholds.shape != (bits,) or self.spreads.shape != (bits,):
            raise ModelError(f"thresholds and spreads do not fit {bits} bits")
        if not all(np.isfinite(array).all() for array in floats):
            raise ModelError("weights, thresholds or spreads are not finite")
        if not np.all(self.spreads > 0):
            raise ModelError("spreads must be above 0")
        self.tables = check_tables(tables, bits)
        self.n_tables, self.key_bits_max = self.tables.shape

    @classmethod
    def from_model(cls, model: Model) -> KeyHead:
        """The head of a model folder; raises `ModelError` where arrays lack or do not fit."""
        try:
            return cls(*(model.arrays[name] for name in ARRAYS))
        except KeyError as error:
            raise ModelError(f"lacks the array {error}") from None

    def margins(self, vectors: Floats) -> Floats:
        """How far each projection of [n, d] is above its threshold, in spreads, [n, bits]."""
        found = (vectors @ self.weights - self.thresholds) / self.spreads
        return np.asarray(found, dtype=np.float32)

    def bits(self, vectors: Floats) -> Bytes:
        """Signs of all projections of decoded codes [n, d], packed, [n, ceil(bits / 8)]."""
        return codes.pack(vectors @ self.weights > self.thresholds)

    def bits_of_codes(self, packed: Bytes, decode: Callable[[Bytes], Floats]) -> Bytes:
        """`bits` of codes [n, width], which are decoded some at a time."""
        found = [self.bits(np.empty((0, self.dimensions), dtype=np.float32))]
        for first in range(0, len(packed), CHUNK_ROWS):
            found.append(self.bits(decode(packed[first : first + CHUNK_ROWS])))
        return np.concatenate(found)

    def keys(self, bits: Bytes, table: int, key_bits: int) -> Keys:
        """Keys [n] of a table, of packed bits."""
        return codes.keys(bits, self.tables[table, :key_bits])

    def probe_keys(self, vectors: Floats, key_bits: int, probes: int) -> Keys:
        """Keys [n, probes, n_tables] to look vectors [n, d] up with, the likeliest first."""
        return probe_keys(self.margins(vectors), self.tables[:, :key_bits], probes)
