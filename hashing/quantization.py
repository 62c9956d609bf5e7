"""Product quantisation: a code of one byte for each part of a vector, compared by look-up.

Jégou, Douze & Schmid, "Product quantization for nearest neighbor search" (PAMI 2011): a vector is
cut into `m` parts, each of which is replaced by the nearest of 256 centroids. A query stays as it
is; its distance to any code is a sum of `m` numbers out of a table (asymmetric distance).
"Optimized product quantization" (Ge et al., CVPR 2013) first turns the space so that little is
lost; the turn is linear and can be folded into an encoder.

Bytes make keys of hash tables as well: a pair of parts is an inverted multi-index with 65,536 cells
(Babenko & Lempitsky, CVPR 2012). So that a shorter key is the beginning of a longer one, centroids
are numbered by splitting them in halves again and again: those that share the leading bits of their
number lie together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.errors import ModelError
from hashing.models import Model

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]

CENTROIDS = 256  # of a part: one byte
KEY_BITS = 16  # of two parts

# Embeddings that codebooks are trained on: 128 for each centroid.
TRAINING_ITEMS = 32_768

# Rounds of k-means, faiss's default, and of k-means and rotation in turns.
PQ_ROUNDS = 25
OPQ_ROUNDS = 50

# Rows encoded at once: 512 rows of 256 distances are 0.5 MB, and stay in the L2 cache.
_CHUNK_ROWS = 512


class ProductQuantizer:
    """Codes of `m` bytes, each the number of the nearest centroid of a part of the responses.

    Args:
      codebooks: [m, 256, width], centroids of each part; responses are [n, m * width].
      tables: [n_tables, 2] numbers of the two parts that make each table's key; neighbours by
        default, the first with the second, the third with the fourth and so on.

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
        if not np.all(np.isfinite(books)):
            raise ModelError("codebooks must be finite")
        parts = books.shape[0]
        if tables is None:
            tables = np.arange(parts // 2 * 2).reshape(-1, 2)
        pairs = np.asarray(tables, dtype=np.int64)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not pairs.size:
            raise ModelError(f"tables must name two parts each, got {pairs.shape}")
        if pairs.min() < 0 or pairs.max() >= parts or np.any(pairs[:, 0] == pairs[:, 1]):
            raise ModelError(f"tables must name two different parts of {parts}")
        self.codebooks = books
        self.tables = pairs
        self.code_bytes = parts
        self.n_tables = len(pairs)
        self.key_bits_max = KEY_BITS
        # Half the squared norm of each centroid, and centroids as columns, [m, width, 256].
        self._halves = np.einsum("jcw,jcw->jc", books, books) / np.float32(2.0)
        self._columns = np.ascontiguousarray(books.transpose(0, 2, 1))
        # What gives the product less half the squared norm, of values with a one behind them.
        self._nearness = np.concatenate((self._columns, -self._halves[:, None, :]), axis=1)
        # The two bytes' bits in turns, most significant first: a prefix has half of each.
        level = np.arange(KEY_BITS) // 2
        self._positions = 8 * pairs[:, np.arange(KEY_BITS) % 2] + 7 - level

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

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `from_model` reads."""
        return {"codebooks": self.codebooks, "tables": self.tables.astype(np.int16)}

    def encode(self, responses: Floats) -> Bytes:
        """Codes [n, m] of responses [n, m * width]."""
        parts = self._parts(responses)
        out = np.empty((len(parts), self.code_bytes), dtype=np.uint8)
        width = parts.shape[2]
        for first in range(0, len(parts), _CHUNK_ROWS):
            some = parts[first : first + _CHUNK_ROWS]
            values = np.ones((self.code_bytes, len(some), width + 1), dtype=np.float32)
            values[:, :, :width] = some.transpose(1, 0, 2)
            nearness = np.empty((len(some), CENTROIDS), dtype=np.float32)
            for part in range(self.code_bytes):
                np.matmul(values[part], self._nearness[part], out=nearness)
                out[first : first + len(some), part] = nearness.argmax(axis=1)
        return out

    def decode(self, packed: Bytes) -> Floats:
        """The vectors [n, m * width] that codes [n, m] stand for."""
        chosen = self.codebooks[np.arange(self.code_bytes), packed]
        return chosen.reshape(len(packed), self.code_bytes * self.codebooks.shape[2])

    def key_material(self, packed: Bytes) -> Bytes:
        """See `hashing.quantizers.Quantizer`: the codes themselves."""
        return packed

    def postings(self, packed: Bytes, table: int, key_bits: int) -> tuple[Ints, Keys]:
        """See `hashing.quantizers.Quantizer`."""
        return np.arange(len(packed)), codes.keys(packed, self._positions[table, :key_bits])

    def probe_keys(self, responses: Floats, key_bits: int, probes: int) -> Keys:
        """Keys of the cells nearest to responses [n, m * width], the nearest first.

        Cells come in the order of the sum of their two parts' squared distances: the multi-sequence
        of Babenko & Lempitsky. A part of a cell that is shared by several centroids, where the key
        is shorter than 16 bits, is as near as its nearest centroid. The own cell is first.

        Returns:
          [n, probes, n_tables]; where there are fewer cells than probes, the first is repeated.
        """
        bits = (-(-key_bits // 2), key_bits // 2)
        parts = self._parts(responses)
        count = max(1, probes)
        nearest, costs = [], []
        for side in (0, 1):
            near, cost = self._nearest_cells(parts, self.tables[:, side], bits[side], count)
            nearest.append(_spread(near, bits[side], key_bits - 1 - side))
            costs.append(cost)
        # The cell of ranks (i, j), from one, comes after i * j - 1 others at least.
        ranks = np.indices((costs[0].shape[2], costs[1].shape[2])).reshape(2, -1)
        a, b = ranks[:, (ranks[0] + 1) * (ranks[1] + 1) <= count]
        sums = costs[0][:, :, a] + costs[1][:, :, b]
        order = np.argsort(sums, axis=2, kind="stable")[:, :, :count]
        found = np.take_along_axis(nearest[0][:, :, a] | nearest[1][:, :, b], order, axis=2)
        missing = count - found.shape[2]
        if missing:
            found = np.concatenate((found, np.repeat(found[:, :, :1], missing, axis=2)), axis=2)
        return np.ascontiguousarray(found.transpose(0, 2, 1))

    def byte_scores(self, responses: Floats) -> Floats:
        """See `hashing.quantizers.Quantizer`: asymmetric squared distance, put on one scale.

        The nearest of all codes scores one, and codes score zero on average over all there are;
        in between the score falls as the squared distance grows.
        """
        parts = self._parts(responses)
        out = np.empty((len(parts), self.code_bytes, CENTROIDS), dtype=np.float32)
        for part in range(self.code_bytes):
            np.negative(self._costs(parts[:, part], part), out=out[:, part])
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

    def _parts(self, responses: Floats) -> Floats:
        width = self.codebooks.shape[2]
        if responses.ndim != 2 or responses.shape[1] != self.code_bytes * width:
            raise ValueError(
                f"responses must be [n, {self.code_bytes * width}], got {responses.shape}"
            )
        values = np.asarray(responses, dtype=np.float32)
        return values.reshape(-1, self.code_bytes, width)

    def _costs(self, values: Floats, part: int) -> Floats:
        """Half the squared distance to each centroid of a part, less what is common to all."""
        return np.asarray(self._halves[part] - values @ self._columns[part])

    def _nearest_cells(
        self, parts: Floats, chosen: Ints, bits: int, count: int
    ) -> tuple[Ints, Floats]:
        """The nearest `count` groups of centroids that share `bits` leading bits, and their costs.

        Both [n, n_tables, at most count], the nearest first.
        """
        costs = np.stack([self._costs(parts[:, part], part) for part in chosen.tolist()], axis=1)
        cells = costs.reshape(*costs.shape[:2], 1 << bits, CENTROIDS >> bits).min(axis=3)
        near = np.argsort(cells, axis=2, kind="stable")[:, :, :count]
        return near, np.take_along_axis(cells, near, axis=2)


def _spread(cells: Ints, bits: int, highest: int) -> Keys:
    """The bits of numbers below ``2**bits`` at every other place of a key, from `highest` down."""
    out = np.zeros(cells.shape, dtype=np.uint32)
    for level in range(bits):
        bit = (cells >> (bits - 1 - level) & 1).astype(np.uint32)
        out |= bit << np.uint32(highest - 2 * level)
    return out


@dataclasses.dataclass(frozen=True)
class ProductFit:
    """A fitted product quantiser.

    Attributes:
      rotation: [d, m * width]; responses are ``embeddings @ rotation``, which can be folded into
        the last layer of an encoder. Distances are kept, for its rows are orthonormal.
      codebooks: [m, 256, width], numbered for keys; see `order_centroids`.
    """

    rotation: Floats
    codebooks: Floats


def fit_pq(embeddings: npt.NDArray[np.floating], n_bytes: int, seed: int = 0) -> ProductFit:
    """Product quantiser of `n_bytes` bytes: k-means in each part (Jégou et al., 2011).

    Embeddings [n, d] whose `d` is no multiple of `n_bytes` are filled up with zeros, the last parts
    being the narrower ones.

    Raises:
      ValueError: fewer embeddings than centroids, or not from two to `d` bytes.

    >>> rng = np.random.default_rng(0)
    >>> fit = fit_pq(rng.standard_normal((300, 6)), n_bytes=2)
    >>> fit.rotation.shape, fit.codebooks.shape
    ((6, 6), (2, 256, 3))
    """
    rng = np.random.default_rng(seed)
    items = _as_items(embeddings, n_bytes, rng)
    width = -(-items.shape[1] // n_bytes)
    rotation = np.zeros((items.shape[1], n_bytes * width), dtype=np.float32)
    columns = np.array_split(np.arange(items.shape[1]), n_bytes)
    for part, chosen in enumerate(columns):
        rotation[chosen, part * width + np.arange(chosen.size)] = 1.0
    values = items @ rotation
    books = _first_codebooks(values, n_bytes, rng)
    for _ in range(PQ_ROUNDS):
        books = _moved(values, books, ProductQuantizer(books).encode(values), rng)
    return _numbered(rotation, books)


def fit_opq(embeddings: npt.NDArray[np.floating], n_bytes: int, seed: int = 0) -> ProductFit:
    """Optimised product quantiser (Ge et al., 2013): k-means and rotation in turns.

    Begins with their parametric solution, which is the best for Gaussian data (principal directions
    dealt out to parts so that the product of their variances is the same in each), and goes on with
    the nonparametric one: assign, move the centroids, turn the space towards them (Procrustes).

    Raises:
      ValueError: see `fit_pq`.
    """
    rng = np.random.default_rng(seed)
    items = _as_items(embeddings, n_bytes, rng)
    rotation = _dealt_directions(items, n_bytes)
    values = items @ rotation
    books = _first_codebooks(values, n_bytes, rng)
    for _ in range(OPQ_ROUNDS):
        quantizer = ProductQuantizer(books)
        packed = quantizer.encode(values)
        books = _moved(values, books, packed, rng)
        left, _, right = np.linalg.svd(
            items.T @ ProductQuantizer(books).decode(packed), full_matrices=False
        )
        rotation = left @ right
        values = items @ rotation
    return _numbered(rotation, books)


def order_centroids(centroids: npt.NDArray[np.floating]) -> Ints:
    """An order of centroids [2**b, width] in which numbers with equal leading bits lie together.

    Centroids are split in halves of equal number along their principal direction, the halves
    likewise, and so on.

    >>> order_centroids(np.array([[9.0], [1.0], [8.0], [2.0]])).tolist() in ([1, 3, 2, 0],
    ...     [0, 2, 3, 1])
    True
    """
    order = np.arange(len(centroids))
    size = len(centroids)
    while size > 1:
        for first in range(0, len(centroids), size):
            group = order[first : first + size]
            values = centroids[group].astype(np.float64)
            values -= values.mean(axis=0)
            direction = np.linalg.svd(values, full_matrices=False)[2][0]
            order[first : first + size] = group[np.argsort(values @ direction, kind="stable")]
        size //= 2
    return order


def _as_items(
    embeddings: npt.NDArray[np.floating], n_bytes: int, rng: np.random.Generator
) -> Floats:
    items = np.asarray(embeddings, dtype=np.float32)
    if items.ndim != 2 or not 2 <= n_bytes <= items.shape[1]:
        raise ValueError(f"embeddings {items.shape} cannot be cut into {n_bytes} parts")
    if len(items) < CENTROIDS:
        raise ValueError(f"{len(items)} embeddings are fewer than {CENTROIDS} centroids")
    return items[rng.permutation(len(items))[:TRAINING_ITEMS]]


def _first_codebooks(values: Floats, n_bytes: int, rng: np.random.Generator) -> Floats:
    """Codebooks of embeddings drawn without replacement."""
    drawn = values[rng.choice(len(values), CENTROIDS, replace=False)]
    return np.ascontiguousarray(drawn.reshape(CENTROIDS, n_bytes, -1).transpose(1, 0, 2))


def _moved(values: Floats, books: Floats, packed: Bytes, rng: np.random.Generator) -> Floats:
    """Centroids at the means of what is assigned to them; empty ones at an item drawn at random."""
    parts = values.reshape(len(values), len(books), -1)
    out = np.empty_like(books)
    for part in range(len(books)):
        counts = np.bincount(packed[:, part], minlength=CENTROIDS)
        for column in range(books.shape[2]):
            sums = np.bincount(packed[:, part], parts[:, part, column], minlength=CENTROIDS)
            out[part, :, column] = sums / np.maximum(counts, 1)
        empty = np.flatnonzero(counts == 0)
        out[part, empty] = parts[rng.integers(len(values), size=empty.size), part]
    return out


def _dealt_directions(items: Floats, n_bytes: int) -> Floats:
    """Principal directions dealt out to parts, [d, m * width].

    The next largest goes to the part with the least product of variances that has room (eigenvalue
    allocation of Ge et al.).
    """
    import scipy.linalg

    centred = (items - items.mean(axis=0)).astype(np.float64)
    variances, vectors = scipy.linalg.eigh(centred.T @ centred / len(items))
    # Logarithms from zero up, so that a part's product grows with each direction dealt to it; one
    # without variance must not have a logarithm of minus infinity.
    sizes = np.log(np.maximum(variances / max(variances[-1], 1e-30), 1e-12))
    sizes -= sizes.min()
    width = -(-items.shape[1] // n_bytes)
    rotation = np.zeros((items.shape[1], n_bytes * width), dtype=np.float32)
    products, held = np.zeros(n_bytes), np.zeros(n_bytes, dtype=np.int64)
    for direction in np.argsort(-variances, kind="stable"):
        part = int(np.argmin(np.where(held < width, products, np.inf)))
        rotation[:, part * width + held[part]] = vectors[:, direction]
        products[part] += sizes[direction]
        held[part] += 1
    return rotation


def _numbered(rotation: Floats, books: Floats) -> ProductFit:
    ordered = np.stack([book[order_centroids(book)] for book in books])
    return ProductFit(np.ascontiguousarray(rotation, dtype=np.float32), ordered)
