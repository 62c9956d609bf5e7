"""Balanced flow hash: one hash table whose buckets are meant to fill evenly.

Singh, Demuynck & Arora, "FlowHash: Accelerating Audio Search with Balanced Hashing via Normalizing
Flow" (2023): an embedding is projected to K numbers, and an invertible network sends these to z
whose K coordinates are independent, each with one mode at -2 and one at +2. Bit `k` of a code is
one where ``z[k] > 0``; then all ``2 ** K`` buckets are alike. A coordinate near zero is in doubt:
the item is put into the buckets of both of its bits (soft assignment), or a query looks into both.

The network is a part of the model's graph, so that responses are z; `hashing.training.flow` makes
it. This module holds what is done with z.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from hashing import codes
from hashing.errors import ModelError
from hashing.models import Model

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]

# Where the two modes of each coordinate lie, the deviation of either being one (FlowHash).
MODE = 2.0

# Coordinates of an item that can be in doubt: it stands in 2⁴ = 16 buckets at most. FlowHash's
# figures imply about 14 on average; a posting costs what the code itself does.
MAX_DOUBTFUL = 4


class FlowQuantizer:
    """Bits, soft assignment and probing of a balanced flow hash; see `hashing.quantizers`.

    A code is the K bits, then K more that mark the bits in doubt, each padded to bytes.

    Args:
      spreads: [bits], by how much the same moment heard again differs in each coordinate, on the
        scale of `margins`.
      radius: a bit of an item is in doubt where ``|z| < radius``; 0 for one bucket an item.
      max_doubtful: bits in doubt of an item at most, those nearest to zero; it stands in
        ``2 ** max_doubtful`` buckets at most.
      query_radius: a query looks only into buckets that differ from its own in bits with
        ``|z| < query_radius``.
      replication: postings of an item, on average, as measured on training music.

    >>> quantizer = FlowQuantizer(np.ones(3), radius=0.5)
    >>> packed = quantizer.encode(np.array([[2.0, -0.1, -2.0]], np.float32))
    >>> packed.tolist()
    [[1, 2]]
    >>> [column.tolist() for column in quantizer.postings(packed, table=0, key_bits=3)]
    [[0, 0], [4, 6]]
    >>> quantizer.probe_keys(np.array([[2.0, -0.1, -1.0]], np.float32), 3, 4).ravel().tolist()
    [4, 6, 5, 7]
    """

    n_tables = 1

    def __init__(
        self,
        spreads: npt.NDArray[Any],
        radius: float = 0.0,
        max_doubtful: int = MAX_DOUBTFUL,
        query_radius: float = np.inf,
        replication: float = 1.0,
    ) -> None:
        self.spreads = np.asarray(spreads, dtype=np.float32)
        if self.spreads.ndim != 1 or not 1 <= self.spreads.size <= codes.MAX_KEY_BITS:
            raise ModelError(
                f"has spreads of shape {self.spreads.shape}, not of 1 to {codes.MAX_KEY_BITS} bits"
            )
        if not (np.all(np.isfinite(self.spreads)) and np.all(self.spreads > 0)):
            raise ModelError("has spreads that are not above 0")
        self.bits = self.spreads.size
        if not 0 <= radius < np.inf:
            raise ModelError(f"has a radius of {radius}, which must be 0 or more, and finite")
        if not query_radius >= 0:
            raise ModelError(f"has a query radius of {query_radius}, which must be 0 or more")
        if max_doubtful < 0:
            raise ModelError(f"has {max_doubtful} bits in doubt at most, which must be 0 or more")
        self.max_doubtful = min(int(max_doubtful), self.bits)
        if not 1 <= replication <= 2**self.max_doubtful:
            raise ModelError(
                f"has {replication} postings an item, not 1 to {2**self.max_doubtful} as "
                f"{self.max_doubtful} bits in doubt give"
            )
        self.radius = np.float32(radius)
        self.query_radius = np.float32(query_radius)
        self.replication = float(replication)
        self.key_bits_max = self.bits
        self._width = -(-self.bits // 8)  # bytes of the bits, and of the mask
        self.code_bytes = 2 * self._width

    @classmethod
    def from_model(cls, model: Model) -> FlowQuantizer:
        """The quantizer of a model folder; raises `ModelError` where arrays do not fit."""
        try:
            spreads, assignment, doubtful = (
                model.arrays[name] for name in ("spreads", "assignment", "max_doubtful")
            )
        except KeyError as error:
            raise ModelError(f"lacks the array {error}") from None
        if assignment.shape != (3,) or not np.issubdtype(assignment.dtype, np.floating):
            raise ModelError(
                "assignment must be radius, query radius and replication, got "
                f"{assignment.dtype} {assignment.shape}"
            )
        if doubtful.shape != (1,) or not np.issubdtype(doubtful.dtype, np.integer):
            raise ModelError(
                f"max_doubtful must be one integer, got {doubtful.dtype} {doubtful.shape}"
            )
        radius, query_radius, replication = assignment.tolist()
        quantizer = cls(spreads, radius, int(doubtful[0]), query_radius, replication)
        if quantizer.bits != model.config.get("bits"):
            raise ModelError(f"has {quantizer.bits} spreads for {model.config.get('bits')} bits")
        return quantizer

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `from_model` reads."""
        assignment = [self.radius, self.query_radius, self.replication]
        return {
            "spreads": self.spreads,
            "assignment": np.array(assignment, dtype=np.float32),
            "max_doubtful": np.array([self.max_doubtful], dtype=np.int32),
        }

    def encode(self, responses: Floats) -> Bytes:
        """Codes [n, code_bytes] of responses [n, bits]: the bits, then which are in doubt."""
        z = self._checked(responses)
        distance = np.abs(z)
        doubtful = distance < self.radius
        if self.max_doubtful < self.bits:
            # Rank by distance; of equals the first bit is nearest, so that codes are reproducible.
            order = np.argsort(distance, axis=1, kind="stable")
            np.put_along_axis(doubtful, order[:, self.max_doubtful :], False, axis=1)
        return np.concatenate((codes.pack(z > 0.0), codes.pack(doubtful)), axis=1)

    def key_material(self, packed: Bytes) -> Bytes:
        """See `hashing.quantizers.Quantizer`: the codes themselves."""
        return packed

    def postings(self, packed: Bytes, table: int, key_bits: int) -> tuple[Ints, Keys]:
        """Rows [m] of codes, rising, and the keys [m] that they stand under.

        Of each row the own key comes first, then those with bits in doubt flipped.
        """
        if table != 0:
            raise ValueError(f"table={table}: a flow hash has one table")
        positions = self._positions(key_bits)
        own = codes.keys(packed[:, : self._width], positions)
        doubtful = codes.keys(packed[:, self._width :], positions)
        n_keys = np.int64(1) << np.bitwise_count(doubtful).astype(np.int64)
        rows = np.repeat(np.arange(len(packed)), n_keys)
        # Number of each posting within its row: its bits say which bits in doubt are flipped.
        number = np.arange(rows.size) - np.repeat(np.cumsum(n_keys) - n_keys, n_keys)
        keys = own[rows]
        left = doubtful
        for place in range(int(np.bitwise_count(doubtful).max(initial=0))):
            lowest = left & (~left + np.uint32(1))
            left = left ^ lowest
            keys ^= np.where(number >> place & 1, lowest[rows], np.uint32(0))
        return rows, keys

    def margins(self, responses: Floats) -> Values:
        """How far each coordinate is above zero, in spreads, [n, bits].

        z is first taken back to a scale on which the prior is normal. Between the modes the flow
        stretches space sevenfold, which is no reason to be surer of a bit.
        """
        z = self._checked(responses).astype(np.float64)
        return np.asarray(normal_scale(z) / self.spreads)

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """Keys [n, probes, 1] to look responses up with, the likeliest first.

        In exact order of the sum of the margins of the flipped bits (multi-probe: Lv et al., VLDB
        2007), over any number of bits. Where there are fewer keys, the own one is repeated.
        """
        own = codes.keys(codes.pack(self._checked(responses) > 0.0), self._positions(key_bits))
        if probes <= 1:
            return own[:, None, None]
        costs = np.abs(self.margins(responses))
        costs[np.abs(responses) >= self.query_radius] = np.inf
        flips = likeliest_flips(costs[:, :key_bits], probes)
        return np.asarray((own[:, None] ^ flips)[:, :, None])

    def byte_scores(self, responses: Floats) -> Floats:
        """[n, code_bytes, 256]: the cosine of the margins and a code's bits as ±1.

        Asymmetric distance (Gordo et al., PAMI 2014). Bytes that mark bits in doubt score nothing.
        """
        out = np.zeros((len(responses), self.code_bytes, 256), dtype=np.float32)
        out[:, : self._width] = codes.sign_scores(self.margins(responses), self.bits)
        return out

    def likeness(self, one: Bytes, other: Bytes) -> Floats:
        """See `hashing.quantizers.Quantizer`: the cosine of the two codes' bits as ±1."""
        return codes.likeness(one[:, : self._width], other[:, : self._width], self.bits)

    def _positions(self, key_bits: int) -> Ints:
        if not 1 <= key_bits <= self.bits:
            raise ValueError(f"key_bits={key_bits} of {self.bits} bits")
        return np.arange(key_bits)

    def _checked(self, responses: Floats) -> Floats:
        if responses.ndim != 2 or responses.shape[1] != self.bits:
            raise ValueError(f"responses must be [n, {self.bits}], got {responses.shape}")
        return responses


def replication_factor(quantizer: FlowQuantizer, packed: Bytes, key_bits: int) -> float:
    """Postings an item of codes [n, code_bytes]: by how much soft assignment grows a table.

    >>> quantizer = FlowQuantizer(np.ones(2), radius=1.0)
    >>> packed = quantizer.encode(np.array([[0.5, 3.0], [3.0, 3.0]], np.float32))
    >>> replication_factor(quantizer, packed, key_bits=2)
    1.5
    """
    return quantizer.postings(packed, 0, key_bits)[0].size / max(1, len(packed))


def normal_scale(z: npt.NDArray[np.floating]) -> Values:
    """Coordinates with the bimodal prior, moved to where a normal prior has the same share below.

    Odd and rising, so that bits and their order by certainty within a coordinate stay.

    >>> normal_scale(np.array([0.0, 2.0, -2.0])).round(3).tolist()
    [0.0, 0.674, -0.674]
    """
    distance = np.abs(np.asarray(z, dtype=np.float64))
    # In the upper tail by its complement: shares near one would be rounded to one.
    above = 0.5 * (ndtr(MODE - distance) + ndtr(-MODE - distance))
    return np.asarray(np.copysign(-ndtri(np.maximum(above, 1e-300)), z))


def likeliest_flips(costs: Values, wanted: int) -> Keys:
    """The sets of bits with the smallest sums of costs, as masks to flip a key with.

    Bits are taken in order of cost, and the best of the sums without and with each are kept: a sum
    that is not among the best so far cannot become so by more terms.

    Args:
      costs: [n, key_bits], 0 or more; infinite for a bit that must not be flipped.
      wanted: masks a row.

    Returns:
      [n, wanted], the empty set first, sums rising; empty sets again where there are no more.

    >>> likeliest_flips(np.array([[1.0, 5.0, 3.0]]), 6).tolist()
    [[0, 4, 1, 5, 2, 6]]
    >>> likeliest_flips(np.array([[1.0, np.inf]]), 3).tolist()
    [[0, 2, 0]]
    """
    n, key_bits = costs.shape
    order = np.argsort(costs, axis=1, kind="stable")
    rising = np.take_along_axis(costs, order, axis=1)
    bits = np.uint32(1) << (key_bits - 1 - order).astype(np.uint32)
    sums, masks = np.zeros((n, 1)), np.zeros((n, 1), dtype=np.uint32)
    for j in range(key_bits):
        cost = rising[:, j : j + 1]
        if sums.shape[1] == wanted and bool(np.all(cost >= sums[:, -1:])):
            break  # nothing with this bit or a dearer one is among the best
        sums = np.concatenate((sums, sums + cost), axis=1)
        masks = np.concatenate((masks, masks | bits[:, j : j + 1]), axis=1)
        best = np.argsort(sums, axis=1, kind="stable")[:, :wanted]
        sums = np.take_along_axis(sums, best, axis=1)
        masks = np.take_along_axis(masks, best, axis=1)
    masks[np.isinf(sums)] = 0
    return np.pad(masks, ((0, 0), (0, wanted - masks.shape[1])))
