"""Product quantisation: a code of one byte for each part of a vector, compared by look-up.

Jégou, Douze & Schmid, "Product quantization for nearest neighbor search" (PAMI 2011): a vector is
replaced by the nearest centroids of its parts (`hashing.codebooks`). A query stays as it is; its
distance to any code is a sum of as many numbers out of a table as there are parts (asymmetric
distance).

Bytes make keys of hash tables as well: a pair of parts is an inverted multi-index with 65,536 cells
(Babenko & Lempitsky, CVPR 2012), and a single part an inverted file with 256. Centroids that share
the leading bits of their number lie together, so a shorter key is the beginning of a longer one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.codebooks import CENTROIDS, Codebooks
from hashing.errors import ModelError
from hashing.models import Model

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]

BYTE_BITS = 8  # of a part, in a code and in a key


class ProductQuantizer:
    """Codes of `m` bytes, each the number of the nearest centroid of a part of the responses.

    Args:
      codebooks: [m, 256, width], centroids of each part; responses are [n, m * width].
      tables: [n_tables, 2] numbers of the two parts that make each table's key; neighbours by
        default, the first with the second, the third with the fourth and so on. Or [n_tables, 1],
        of the one part, whose byte is the key; the default where there is one part only.

    >>> codebooks = np.arange(512, dtype=np.float32).reshape(2, 256, 1)
    >>> quantizer = ProductQuantizer(codebooks)
    >>> quantizer.encode(np.array([[7.2, 300.9]], np.float32)).tolist()
    [[7, 45]]
    """

    replication = 1.0

    def __init__(
        self,
        codebooks: npt.NDArray[np.floating],
        tables: npt.NDArray[np.integer] | None = None,
    ) -> None:
        books = np.asarray(codebooks, dtype=np.float32)
        if books.ndim != 3 or books.shape[1] != CENTROIDS or not books.size:
            raise ModelError(f"codebooks must be [m, {CENTROIDS}, width], got {books.shape}")
        try:
            self.books = Codebooks(books)
        except ValueError as error:
            raise ModelError(str(error)) from None
        parts = self.books.n_parts
        if tables is None:
            tables = (
                np.arange(parts // 2 * 2).reshape(-1, 2)
                if parts > 1
                else np.zeros((1, 1), np.int64)
            )
        chosen = np.asarray(tables, dtype=np.int64)
        if chosen.ndim != 2 or chosen.shape[1] not in (1, 2) or not chosen.size:
            raise ModelError(f"tables must name one or two parts each, got {chosen.shape}")
        alike = chosen.shape[1] == 2 and np.any(chosen[:, 0] == chosen[:, 1])
        if chosen.min() < 0 or chosen.max() >= parts or alike:
            raise ModelError(f"tables must name different parts of {parts}")
        self.tables = chosen
        self.code_bytes = parts
        self.n_tables = len(chosen)
        self.key_bits_max = BYTE_BITS * chosen.shape[1]
        # The bytes' bits in turns, most significant first: a prefix of two has half of each.
        level, side = np.divmod(np.arange(self.key_bits_max), chosen.shape[1])
        self._positions = BYTE_BITS * chosen[:, side] + BYTE_BITS - 1 - level

    @classmethod
    def from_model(cls, model: Model) -> ProductQuantizer:
        """The quantizer of a model folder; raises `ModelError` where arrays do not fit."""
        if "codebooks" not in model.arrays:
            raise ModelError("lacks the array 'codebooks'")
        quantizer = cls(model.arrays["codebooks"], model.arrays.get("tables"))
        if 8 * quantizer.code_bytes != model.config.get("bits"):
            raise ModelError(
                f"has {quantizer.code_bytes} codebooks for {model.config.get('bits')} bits"
            )
        return quantizer

    @property
    def codebooks(self) -> Floats:
        """Centroids of each part, [m, 256, width]."""
        return self.books.centroids

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `from_model` reads."""
        return {"codebooks": self.codebooks, "tables": self.tables.astype(np.int16)}

    def encode(self, responses: Floats) -> Bytes:
        """Codes [n, m] of responses [n, m * width]."""
        return self.books.encode(responses)

    def decode(self, packed: Bytes) -> Floats:
        """The vectors [n, m * width] that codes [n, m] stand for."""
        return self.books.decode(packed)

    def key_material(self, packed: Bytes) -> Bytes:
        """See `hashing.quantizers.Quantizer`: the codes themselves."""
        return packed

    def postings(self, packed: Bytes, table: int, key_bits: int) -> tuple[Ints, Keys]:
        """See `hashing.quantizers.Quantizer`."""
        return np.arange(len(packed)), codes.keys(packed, self._positions[table, :key_bits])

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """Keys of the cells nearest to responses [n, m * width], the nearest first.

        Cells of two parts come in the order of the sum of their squared distances: the
        multi-sequence of Babenko & Lempitsky. A part of a cell that is shared by several centroids,
        where the key is shorter than its bytes, is as near as its nearest centroid. The own cell is
        first.

        Returns:
          [n, probes, n_tables]; where there are fewer cells than probes, the first is repeated.
        """
        costs = self.books.costs(responses)
        count = max(1, probes)
        sides = self.tables.shape[1]
        nearest, near_costs = [], []
        for side in range(sides):
            bits = -(-(key_bits - side) // sides)
            near, cost = _nearest_cells(costs[:, self.tables[:, side]], bits, count)
            nearest.append(_spread(near, bits, key_bits - 1 - side, sides))
            near_costs.append(cost)
        found = nearest[0] if sides == 1 else _nearest_pairs(nearest, near_costs, count)
        missing = count - found.shape[2]
        if missing:
            found = np.concatenate((found, np.repeat(found[:, :, :1], missing, axis=2)), axis=2)
        return np.ascontiguousarray(found.transpose(0, 2, 1))

    def byte_scores(self, responses: Floats) -> Floats:
        """See `hashing.quantizers.Quantizer`: asymmetric squared distance, put on one scale.

        The nearest of all codes scores one, and codes score zero on average over all there are;
        in between the score falls as the squared distance grows.
        """
        out = self.books.costs(responses)
        np.negative(out, out=out)
        out -= out.mean(axis=2, keepdims=True)
        # Centroids that are all alike tell nothing: every code scores zero.
        best = out.max(axis=2).sum(axis=1)
        out /= np.maximum(best, np.finfo(np.float32).tiny)[:, None, None]
        return out

    def likeness(self, one: Bytes, other: Bytes) -> Floats:
        """See `hashing.quantizers.Quantizer`: the cosine of the vectors that codes stand for."""
        first, second = self.decode(one), self.decode(other)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(np.einsum("ij,ij->i", first, second) / (lengths + 1e-9))


def _nearest_cells(costs: Floats, bits: int, count: int) -> tuple[Ints, Floats]:
    """The nearest `count` groups of centroids that share `bits` leading bits, and their costs.

    Of costs [n, n_tables, 256]; both [n, n_tables, at most count], the nearest first.
    """
    cells = costs.reshape(*costs.shape[:2], 1 << bits, CENTROIDS >> bits).min(axis=3)
    near = np.argsort(cells, axis=2, kind="stable")[:, :, :count]
    return near, np.take_along_axis(cells, near, axis=2)


def _nearest_pairs(nearest: list[Keys], costs: list[Floats], count: int) -> Keys:
    """The nearest `count` cells of two sides' nearest, [n, n_tables, at most count]."""
    # The cell of ranks (i, j), from one, comes after i * j - 1 others at least.
    ranks = np.indices((costs[0].shape[2], costs[1].shape[2])).reshape(2, -1)
    a, b = ranks[:, (ranks[0] + 1) * (ranks[1] + 1) <= count]
    sums = costs[0][:, :, a] + costs[1][:, :, b]
    order = np.argsort(sums, axis=2, kind="stable")[:, :, :count]
    return np.take_along_axis(nearest[0][:, :, a] | nearest[1][:, :, b], order, axis=2)


def _spread(cells: Ints, bits: int, highest: int, step: int) -> Keys:
    """The bits of numbers below ``2**bits`` at every `step`-th place of a key, from `highest`."""
    out = np.zeros(cells.shape, dtype=np.uint32)
    for level in range(bits):
        bit = (cells >> (bits - 1 - level) & 1).astype(np.uint32)
        out |= bit << np.uint32(highest - step * level)
    return out
