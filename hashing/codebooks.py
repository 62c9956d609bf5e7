"""Codebooks: parts of vectors and their nearest centroids, and how centroids are fitted.

Jégou, Douze & Schmid, "Product quantization for nearest neighbor search" (PAMI 2011): a vector is
cut into `m` parts, each of which is replaced by the nearest of 256 centroids, a byte; with one part
that is vector quantisation. "Optimized product quantization" (Ge et al., CVPR 2013) first turns the
space so that little is lost; the turn is linear and can be folded into an encoder.

Centroids are numbered by splitting them in halves again and again: those that share the leading
bits of their number lie together, so that the beginning of a number is a coarser cell.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

CENTROIDS = 256  # of a part: one byte

# Embeddings that codebooks are trained on: 128 for each centroid.
TRAINING_ITEMS = 32_768

# Rounds of k-means, faiss's default, and of k-means and rotation in turns.
PQ_ROUNDS = 25
OPQ_ROUNDS = 50

# Rows encoded at once: 512 rows of 256 distances are 0.5 MB, and stay in the L2 cache.
_CHUNK_ROWS = 512


class Codebooks:
    """Centroids of the parts of vectors, and which of them a vector is near.

    Args:
      centroids: [m, c, width], of each part; vectors are [n, m * width]. Codes are bytes: only
        of up to 256 centroids a part can they be made.

    Raises:
      ValueError: another shape, none at all, or centroids that are not finite.

    >>> books = Codebooks(np.arange(512, dtype=np.float32).reshape(2, 256, 1))
    >>> books.encode(np.array([[7.2, 300.9]], np.float32)).tolist()
    [[7, 45]]
    >>> books.decode(np.array([[7, 45]], np.uint8)).tolist()
    [[7.0, 301.0]]
    """

    def __init__(self, centroids: npt.NDArray[np.floating]) -> None:
        books = np.asarray(centroids, dtype=np.float32)
        if books.ndim != 3 or not books.size:
            raise ValueError(f"codebooks must be [m, centroids, width], got {books.shape}")
        if not np.all(np.isfinite(books)):
            raise ValueError("codebooks must be finite")
        self.centroids = books
        self.n_parts = books.shape[0]
        self.dimensions = books.shape[0] * books.shape[2]
        # Half the squared norm of each centroid, and centroids as columns, [m, width, c].
        self._halves = np.einsum("jcw,jcw->jc", books, books) / np.float32(2.0)
        self._columns = np.ascontiguousarray(books.transpose(0, 2, 1))
        # What gives the product less half the squared norm, of values with a one behind them.
        self._nearness = np.concatenate((self._columns, -self._halves[:, None, :]), axis=1)

    def encode(self, vectors: Floats) -> Bytes:
        """Codes [n, m] of vectors [n, m * width]: the number of the nearest centroid of each part.

        Raises:
          ValueError: vectors that do not fit, or more centroids than a byte can number.
        """
        parts = self.parts(vectors)
        centroids, width = self.centroids.shape[1:]
        if centroids > CENTROIDS:
            raise ValueError(f"codes of a byte cannot number {centroids} centroids")
        out = np.empty((len(parts), self.n_parts), dtype=np.uint8)
        for first in range(0, len(parts), _CHUNK_ROWS):
            some = parts[first : first + _CHUNK_ROWS]
            values = np.ones((self.n_parts, len(some), width + 1), dtype=np.float32)
            values[:, :, :width] = some.transpose(1, 0, 2)
            nearness = np.empty((len(some), centroids), dtype=np.float32)
            for part in range(self.n_parts):
                np.matmul(values[part], self._nearness[part], out=nearness)
                out[first : first + len(some), part] = nearness.argmax(axis=1)
        return out

    def decode(self, packed: Bytes) -> Floats:
        """The vectors [n, m * width] that codes [n, m] stand for.

        Raises:
          ValueError: codes of another length.
        """
        if packed.ndim != 2 or packed.shape[1] != self.n_parts:
            raise ValueError(f"codes {packed.shape} do not fit codebooks {self.centroids.shape}")
        chosen = self.centroids[np.arange(self.n_parts), packed]
        return chosen.reshape(len(packed), self.dimensions)

    def costs(self, vectors: Floats) -> Floats:
        """Half the squared distance of vectors to each centroid, less what is common to all.

        That is half the squared norm of the vector's part, which changes no order.

        Args:
          vectors: [n, m * width].

        Returns:
          [n, m, c].

        Raises:
          ValueError: vectors that do not fit.
        """
        parts = self.parts(vectors)
        out = np.empty((len(parts), *self.centroids.shape[:2]), dtype=np.float32)
        np.matmul(parts.transpose(1, 0, 2), self._columns, out=out.transpose(1, 0, 2))
        np.subtract(self._halves, out, out=out)
        return out

    def parts(self, vectors: Floats) -> Floats:
        """Vectors [n, m * width] cut, [n, m, width]; raises `ValueError` where they do not fit."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise ValueError(
                f"responses must be [n, {self.dimensions}]: {vectors.shape} do not fit codebooks "
                f"{self.centroids.shape}"
            )
        values = np.asarray(vectors, dtype=np.float32)
        return values.reshape(-1, self.n_parts, self.centroids.shape[2])


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
    being the narrower ones. One byte is one codebook over the whole vector.

    Raises:
      ValueError: fewer embeddings than centroids, or not from one to `d` bytes.

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
        books = _moved(values, books, Codebooks(books).encode(values), rng)
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
        packed = Codebooks(books).encode(values)
        books = _moved(values, books, packed, rng)
        decoded = Codebooks(books).decode(packed)
        left, _, right = np.linalg.svd(items.T @ decoded, full_matrices=False)
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
    if items.ndim != 2 or not 1 <= n_bytes <= items.shape[1]:
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
