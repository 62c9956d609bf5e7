"""What turns a model's responses into codes, keys and similarities: one protocol, many hashers.

A hasher is a graph that answers a snippet with real numbers, and a *quantizer* that makes of them
what an index keeps. `Hasher` runs the graph; everything that differs between a forgiving hash, a
sign-LSH, a balanced flow or a product quantizer is behind `Quantizer`, so that indexing, look-up
and evaluation know no kind of hasher.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.errors import ModelError
from hashing.models import Model
from hashing.probing import check_tables, probe_keys

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]


class Quantizer(Protocol):
    """Responses of a model → codes, the keys of hash tables, and similarities.

    Attributes:
      code_bytes: bytes of a code.
      n_tables: hash tables that codes stand in.
      key_bits_max: bits of the longest key; a shorter key is the beginning of a longer one.
      replication: postings of an item in each table, on average; 1 but for soft assignment.
    """

    code_bytes: int
    n_tables: int
    key_bits_max: int
    replication: float

    def encode(self, responses: Floats) -> Bytes:
        """Codes [n, code_bytes] of responses [n, r]: what an index stores."""

    def key_material(self, codes: Bytes) -> Bytes:
        """What `postings` makes the keys of codes [n, code_bytes] of, a row for each.

        Made once for all tables: of codes that must be decoded first, that is most of the work.
        """

    def postings(self, material: Bytes, table: int, key_bits: int) -> tuple[Ints | None, Keys]:
        """Rows [m] of `material`, rising, and the keys [m] under which they stand in a table.

        None stands for every row once, in order.
        """

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """Keys [n, probes, n_tables] to look responses up with, the likeliest first."""

    def byte_scores(self, responses: Floats) -> Floats:
        """[n, code_bytes, 256]: a query's similarity to a code is the sum over the code's bytes.

        The sum is at most about one for a code that is the query's own, and about zero for a code
        that has nothing to do with it; both hold at any number of bits.
        """

    def likeness(self, one: Bytes, other: Bytes) -> Floats:
        """How alike codes [n, code_bytes] are to others, [n]: one for equal ones, zero for chance.

        Tells whether two tracks hold the same recording.
        """


class SignQuantizer:
    """One bit a response: above its threshold or not.

    What the forgiving hash, sign-LSH, PCA and ITQ hashing, optimal-transport balancing and the
    learned head of the shipped model have in common; they differ in how responses came to be.

    Args:
      thresholds: [bits]; a bit is one where its response is above.
      spreads: [bits], what a response typically differs by; puts all bits on one scale.
      tables: [n_tables, key_bits_max] numbers of the bits of each table's key.

    >>> quantizer = SignQuantizer(np.zeros(2), np.ones(2), np.array([[0, 1]]))
    >>> quantizer.encode(np.array([[0.5, -0.5]], np.float32)).tolist()
    [[1]]
    """

    replication = 1.0

    def __init__(
        self,
        thresholds: npt.NDArray[Any],
        spreads: npt.NDArray[Any],
        tables: npt.NDArray[np.integer],
    ) -> None:
        self.thresholds = np.asarray(thresholds, dtype=np.float32)
        self.spreads = np.asarray(spreads, dtype=np.float32)
        self.bits = self.thresholds.size
        if self.thresholds.shape != (self.bits,) or self.spreads.shape != (self.bits,):
            raise ModelError(f"thresholds and spreads do not fit {self.bits} bits")
        if not np.all(np.isfinite(self.thresholds)) or not np.all(self.spreads > 0):
            raise ModelError("thresholds must be finite, and spreads above 0")
        self.tables = check_tables(tables, self.bits)
        self.code_bytes = -(-self.bits // 8)
        self.n_tables, self.key_bits_max = self.tables.shape

    @classmethod
    def from_model(cls, model: Model) -> SignQuantizer:
        """The quantizer of a model folder; raises `ModelError` where arrays do not fit."""
        try:
            quantizer = cls(*(model.arrays[name] for name in ("thresholds", "spreads", "tables")))
        except KeyError as error:
            raise ModelError(f"lacks the array {error}") from None
        if quantizer.bits != model.config.get("bits"):
            raise ModelError(f"has {quantizer.bits} thresholds for {model.config.get('bits')} bits")
        return quantizer

    def margins(self, responses: Floats) -> Floats:
        """How far each response is above its threshold, in spreads, [n, bits]."""
        return np.asarray((responses - self.thresholds) / self.spreads, dtype=np.float32)

    def encode(self, responses: Floats) -> Bytes:
        """See `Quantizer`."""
        if responses.shape[1] != self.bits:
            raise ValueError(f"{responses.shape[1]} responses for {self.bits} bits")
        return codes.pack(responses > self.thresholds)

    def key_material(self, packed: Bytes) -> Bytes:
        """See `Quantizer`: the codes themselves."""
        return packed

    def postings(self, material: Bytes, table: int, key_bits: int) -> tuple[None, Keys]:
        """See `Quantizer`."""
        return None, codes.keys(material, self.tables[table, :key_bits])

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """See `Quantizer`."""
        return probe_keys(self.margins(responses), self.tables[:, :key_bits], probes)

    def byte_scores(self, responses: Floats) -> Floats:
        """See `Quantizer`: the cosine of the margins and the code's bits as ±1.

        Asymmetric distance (Gordo et al., PAMI 2014): the query keeps how sure its bits are.
        """
        return codes.sign_scores(self.margins(responses), self.bits)

    def likeness(self, one: Bytes, other: Bytes) -> Floats:
        """See `Quantizer`: the cosine of the two codes' bits as ±1."""
        return codes.likeness(one, other, self.bits)


# Where each kind of model has its quantizer: module and class. They are imported when a model of
# the kind is opened.
QUANTIZERS = {
    "signs": ("hashing.quantizers", "SignQuantizer"),
    "forgiving": ("hashing.quantizers", "SignQuantizer"),
    "learned": ("hashing.learned", "LearnedQuantizer"),
    "flow": ("hashing.flow", "FlowQuantizer"),
    "product": ("hashing.quantization", "ProductQuantizer"),
    "events": ("hashing.quantization", "ProductQuantizer"),
    "minhash": ("hashing.minhash", "MinHash"),
}


def open_quantizer(model: Model) -> Quantizer:
    """The quantizer of a model; raises `ModelError`, naming the folder."""
    kind = model.config["kind"]
    if kind not in QUANTIZERS:
        raise ModelError(
            f"model {model.path} is of kind {kind!r}, which this hashbeam does not know "
            f"({', '.join(QUANTIZERS)}): use the hashbeam that made it"
        )
    module, name = QUANTIZERS[kind]
    try:
        quantizer: Quantizer = getattr(importlib.import_module(module), name).from_model(model)
    except ModelError as error:
        raise ModelError(f"model {model.path} {error}: copy it anew") from None
    except (TypeError, ValueError, IndexError) as error:
        raise ModelError(f"model {model.path} has damaged arrays ({error}): copy it anew") from None
    return quantizer
