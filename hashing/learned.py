"""The default hasher: product-quantised embeddings, and keys from a head that was trained for them.

Of a second of noisy music every bit counts: 256 signs of an embedding of 128 numbers lost seven
points of nearest-neighbour recall against the embedding itself, 256 bits of an optimised product
quantizer less than one (Jégou et al., PAMI 2011; Ge et al., CVPR 2013). So codes are those, and
keys are signs of projections that were trained to hold in noise (`hashing.key_head`). The rotation
of the product quantizer is the last layer of the encoder's graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import ModelError
from hashing.key_head import KeyHead
from hashing.models import Model
from hashing.quantization import ProductQuantizer

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint32]


class LearnedQuantizer:
    """Codes of a product quantizer, keys of a head; see `hashing.quantizers.Quantizer`.

    Args:
      codebooks: [m, 256, width]; responses are rotated embeddings [n, m * width].
      head: makes keys of what codes stand for.

    >>> books = np.linspace(-1, 1, 512, dtype=np.float32).reshape(2, 256, 1)
    >>> head = KeyHead(np.eye(2), np.zeros(2), np.ones(2), np.array([[0, 1]]))
    >>> quantizer = LearnedQuantizer(books, head)
    >>> codes = quantizer.encode(np.array([[-0.5, 0.5]], np.float32))
    >>> quantizer.postings(quantizer.key_material(codes), table=0, key_bits=2)[1].tolist()
    [1]
    """

    replication = 1.0

    def __init__(self, codebooks: npt.NDArray[Any], head: KeyHead) -> None:
        self.product = ProductQuantizer(codebooks)
        self.head = head
        parts, _, width = self.product.codebooks.shape
        if head.dimensions != parts * width:
            raise ModelError(f"has keys of {head.dimensions} dimensions for {parts * width}")
        self.code_bytes = self.product.code_bytes
        self.n_tables, self.key_bits_max = head.n_tables, head.key_bits_max
        self._columns = np.ascontiguousarray(self.product.codebooks.transpose(0, 2, 1))

    @classmethod
    def from_model(cls, model: Model) -> LearnedQuantizer:
        """The quantizer of a model folder; raises `ModelError` where arrays do not fit."""
        if "codebooks" not in model.arrays:
            raise ModelError("lacks the array 'codebooks'")
        return cls(model.arrays["codebooks"], KeyHead.from_model(model))

    def encode(self, responses: Floats) -> Bytes:
        """Codes [n, m] of rotated embeddings [n, m * width]."""
        return self.product.encode(responses)

    def decode(self, codes: Bytes) -> Floats:
        """Rotated embeddings [n, m * width] as the codes have them."""
        return self.product.decode(codes)

    def key_material(self, codes: Bytes) -> Bytes:
        """See `hashing.quantizers.Quantizer`: the head's bits of what codes stand for."""
        return self.head.bits_of_codes(codes, self.decode)

    def postings(self, material: Bytes, table: int, key_bits: int) -> tuple[None, Keys]:
        """See `hashing.quantizers.Quantizer`."""
        return None, self.head.keys(material, table, key_bits)

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """See `hashing.quantizers.Quantizer`."""
        return self.head.probe_keys(responses, key_bits, probes)

    def byte_scores(self, responses: Floats) -> Floats:
        """See `hashing.quantizers.Quantizer`: the inner product with what a code stands for."""
        parts, width, _ = self._columns.shape
        values = np.asarray(responses, dtype=np.float32).reshape(-1, parts, width)
        scores = values.transpose(1, 0, 2) @ self._columns
        return np.ascontiguousarray(scores.transpose(1, 0, 2))

    def likeness(self, one: Bytes, other: Bytes) -> Floats:
        """See `hashing.quantizers.Quantizer`: the cosine of what two codes stand for."""
        return self.product.likeness(one, other)
