"""Linear binary hashes of embeddings: a bit tells on which side of a plane an embedding lies.

Four ways to lay the planes, from none learned to all balanced:

* `random_projection`: Gaussian directions. Charikar, "Similarity estimation techniques from
  rounding algorithms" (STOC 2002).
* `pca`: the principal directions themselves.
* `itq`: the principal subspace, turned so that embeddings lie near the corners of a cube. Gong &
  Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes" (CVPR 2011).
* `optimal_transport`: turned likewise, but towards corners that are handed out evenly.

All of them put each bit's threshold at its median over the training embeddings, which alone makes
each bit fair, as Baluja & Covell do (IJCAI 2007); they differ in how bits depend on each other.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hashing import codes

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

# Rounds of ITQ, the paper's.
ITQ_ROUNDS = 50

# Rounds of `optimal_transport`: 10, 20, 30 and 60 give 16-bit keys of other music the same entropy
# to 0.01 bits.
TRANSPORT_ROUNDS = 20

# Power of the deviations that principal values are divided by; see `optimal_transport`. Chosen on
# training music between 0, 0.25, 0.5, 0.75 and 1.
TRANSPORT_WHITENING = 0.25

# Embeddings that a round assigns to corners: 16 for each of 256.
TRANSPORT_ITEMS = 4096

# Bits whose corners are filled evenly together. 2**8 corners have 16 items each. With a key's whole
# 2**16 there would be more corners than items to fill them. Keys come out alike with 6, 8 and 10.
CUBE_BITS = 8

# Strength of the entropy that blurs the assignment, in units of a response's mean magnitude: 0.25,
# 0.5 and 1.0 give keys of the same entropy to 0.01 bits.
BLUR = 0.5

# Scalings of rows and columns; the corners' masses are then even to 0.1 %.
SINKHORN_STEPS = 20


@dataclasses.dataclass(frozen=True)
class LinearHash:
    """Bits of embeddings [n, d]: ``embeddings @ weights > thresholds``.

    Attributes:
      weights: [d, bits]; they can be folded into the last layer of an encoder.
      thresholds: median response of each bit over the training embeddings, [bits].
      spreads: half the distance between the quartiles of each bit's response, [bits]; above 0.
    """

    weights: Floats
    thresholds: Floats
    spreads: Floats

    def responses(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Real-valued responses [n, bits]."""
        return np.asarray(embeddings @ self.weights, dtype=np.float32)

    def encode(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """Packed codes [n, ceil(bits / 8)], see `hashing.codes`."""
        return codes.pack(self.responses(embeddings) > self.thresholds)


def with_medians(
    embeddings: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]
) -> LinearHash:
    """A hash of given directions [d, bits], thresholds and spreads from embeddings [n, d].

    A response that never varies gets a spread of one: its bit is always 0, and never in doubt of
    anything.

    Raises:
      ValueError: shapes that do not fit, no embeddings, or values that are not finite.

    >>> hashed = with_medians(np.array([[0.0], [1.0], [2.0], [3.0], [8.0]]), np.array([[2.0]]))
    >>> hashed.thresholds.tolist(), hashed.spreads.tolist(), hashed.encode(np.array([[2.5]]))
    ([4.0], [2.0], array([[1]], dtype=uint8))
    """
    items = _as_embeddings(embeddings)
    weights = np.asarray(weights, dtype=np.float32)
    if weights.ndim != 2 or weights.shape[0] != items.shape[1] or not weights.shape[1]:
        raise ValueError(f"weights {weights.shape} do not fit embeddings {items.shape}")
    quartiles = np.empty((3, weights.shape[1]), dtype=np.float32)
    # In parts: a million responses of 256 bits would take a gigabyte, and quantiles sort a copy.
    for first in range(0, weights.shape[1], 32):
        part = slice(first, first + 32)
        quartiles[:, part] = np.quantile(items @ weights[:, part], (0.25, 0.5, 0.75), axis=0)
    spreads = (quartiles[2] - quartiles[0]) / np.float32(2.0)
    return LinearHash(weights, quartiles[1], np.where(spreads > 0, spreads, np.float32(1.0)))


def random_projection(embeddings: npt.NDArray[np.floating], bits: int, seed: int = 0) -> LinearHash:
    """Sign-LSH: independent Gaussian directions, any number of them.

    Two embeddings at an angle `a` differ in a bit with probability ``a / π`` where the median is at
    zero (Charikar, 2002).

    Raises:
      ValueError: see `with_medians`.

    >>> rng = np.random.default_rng(0)
    >>> random_projection(rng.standard_normal((100, 4)), bits=6).weights.shape
    (4, 6)
    """
    items = _as_embeddings(embeddings)
    rng = np.random.default_rng(seed)
    return with_medians(items, rng.standard_normal((items.shape[1], _checked(bits))))


def pca(embeddings: npt.NDArray[np.floating], bits: int) -> LinearHash:
    """The directions of largest variance, the largest first; at most as many as dimensions.

    Raises:
      ValueError: more bits than dimensions; see also `with_medians`.

    >>> tall = np.array([[0.0, -3.0], [0.1, 3.0], [0.2, -4.0], [0.1, 4.0]])
    >>> abs(pca(tall, bits=1).weights.ravel().round(1)).tolist()
    [0.0, 1.0]
    """
    items = _as_embeddings(embeddings)
    if _checked(bits) > items.shape[1]:
        raise ValueError(f"{items.shape[1]} dimensions have no {bits} principal directions")
    return with_medians(items, _principal(items)[:, :bits])


def itq(
    embeddings: npt.NDArray[np.floating],
    bits: int,
    seed: int = 0,
    rounds: int = ITQ_ROUNDS,
    whitening: float = 0.0,
) -> LinearHash:
    """Iterative quantisation: the principal subspace, turned towards the corners of a cube.

    Alternates between the nearest corner of every embedding, ``B = sign(V R)``, and the rotation
    that brings embeddings nearest to them (orthogonal Procrustes). The paper has no more bits than
    dimensions; where more are asked for, they come from several cubes of equal size, each begun at
    another random rotation.

    Args:
      embeddings: [n, d].
      bits: of a code.
      seed: of the first rotations.
      rounds: alternations.
      whitening: principal values are divided by their deviation to this power before they are
        turned; the paper has 0, at 1 all directions count alike. See `optimal_transport`.

    Raises:
      ValueError: see `with_medians`.

    >>> rng = np.random.default_rng(0)
    >>> corners = rng.choice([-1.0, 1.0], (200, 2)) + rng.normal(0.0, 0.1, (200, 2))
    >>> abs(itq(corners, bits=2).weights).round(1).max(axis=0).tolist()  # the axes, not diagonals
    [1.0, 1.0]
    """
    items = _as_embeddings(embeddings)
    rng = np.random.default_rng(seed)
    centred = items - items.mean(axis=0)
    directions = _principal(items, whitening)
    parts = []
    for size in _cubes(bits, items.shape[1]):
        values = centred @ directions[:, :size]
        rotation = _random_rotation(size, rng)
        for _ in range(rounds):
            corners = np.where(values @ rotation > 0, np.float32(1.0), np.float32(-1.0))
            rotation = _procrustes(values, corners)
        parts.append(directions[:, :size] @ rotation)
    return with_medians(items, np.concatenate(parts, axis=1))


def optimal_transport(
    embeddings: npt.NDArray[np.floating],
    bits: int,
    key_bits: int = 16,
    seed: int = 0,
    rounds: int = TRANSPORT_ROUNDS,
    whitening: float = TRANSPORT_WHITENING,
) -> LinearHash:
    """ITQ's alternation with corners handed out evenly, so that buckets of keys fill evenly.

    In place of the nearest corner, embeddings get the corners of an optimal-transport plan in which
    every corner of the cube receives equally much (Sinkhorn's scaling: Cuturi, NeurIPS 2013; as
    equal-sized targets of learning: Asano et al., ICLR 2020; for the bits of audio hashes: Singh
    et al., ICASSP 2023, the comparator "OT" of FlowHash). The rotation then turns towards the
    plan's mean corners. Where ITQ knows bits one at a time, here all combinations of `CUBE_BITS`
    bits are balanced together; which bits of a key stand together is drawn anew in each round, so
    that in the end all of a key's bits do.

    What is fitted stays linear: the plan's own prices of corners are not kept. Keys come out
    markedly more even than ITQ's, not perfectly so.

    Args:
      embeddings: [n, d].
      bits: of a code; in several cubes where they are more than dimensions, as `itq`.
      key_bits: bits that are balanced against each other: bits ``t * key_bits`` on are table `t`.
      seed: of the first rotation, the draws of embeddings and of the groups.
      rounds: alternations.
      whitening: see `itq`. A turned cube cannot be balanced while some directions vary more than
        others; whitening mends that, and raises what noise is in the least directions.

    Raises:
      ValueError: see `with_medians`.

    >>> rng = np.random.default_rng(0)
    >>> hashed = optimal_transport(rng.standard_normal((300, 4)), bits=4, rounds=2)
    >>> np.bincount(hashed.encode(rng.standard_normal((300, 4))).ravel() & 1).shape
    (2,)
    """
    items = _as_embeddings(embeddings)
    rng = np.random.default_rng(seed)
    centred = items - items.mean(axis=0)
    directions = _principal(items, whitening)
    parts = []
    for size in _cubes(bits, items.shape[1], step=key_bits):
        values = centred @ directions[:, :size]
        rotation = _random_rotation(size, rng)
        for _ in range(rounds):
            chosen = rng.permutation(len(values))[:TRANSPORT_ITEMS]
            responses = values[chosen] @ rotation
            responses -= np.median(responses, axis=0)
            responses /= np.abs(responses).mean() + np.float32(1e-12)
            corners = np.empty_like(responses)
            for first in range(0, size, key_bits):
                key = first + rng.permutation(min(key_bits, size - first))
                for group in np.array_split(key, -(-key.size // CUBE_BITS)):
                    corners[:, group] = balanced_corners(responses[:, group])
            rotation = _procrustes(values[chosen], corners)
        parts.append(directions[:, :size] @ rotation)
    return with_medians(items, np.concatenate(parts, axis=1))


def balanced_corners(
    responses: npt.NDArray[np.floating], blur: float = BLUR, steps: int = SINKHORN_STEPS
) -> Floats:
    """Mean corner of each item in the plan that loads all corners of a cube equally.

    The plan is the one of largest ``Σ plan[i, c] * (responses[i] · corner[c])`` plus `blur` times
    its entropy, among all whose rows sum to ``1 / n`` and whose columns sum to ``1 / 2**k``.

    Args:
      responses: [n, k], about zero, with a mean magnitude of about one; k up to about 10.
      blur: near 0 every item has one corner, or is cut where the numbers do not divide.
      steps: scalings of rows and columns.

    Returns:
      float32 [n, k] within -1…1.

    >>> balanced_corners(np.array([[3.0], [2.0], [1.0], [0.5]]), 0.01, 1000).round(2).ravel()
    array([ 1.,  1., -1., -1.], dtype=float32)
    """
    n, k = responses.shape
    cube = np.where(np.arange(1 << k)[:, None] >> np.arange(k) & 1, 1.0, -1.0)
    gains = responses.astype(np.float64) @ cube.T / blur
    kernel = np.exp(gains - gains.max(axis=1, keepdims=True))
    # The smallest normal number stands for a corner that is out of reach of every item.
    tiny = np.finfo(np.float64).tiny
    prices = np.ones(1 << k)
    for _ in range(steps):
        rows = 1.0 / (n * (kernel @ prices))
        prices = 1.0 / ((1 << k) * np.maximum(rows @ kernel, tiny))
    plan = kernel * prices
    return np.asarray(plan @ cube / plan.sum(axis=1, keepdims=True), dtype=np.float32)


def _as_embeddings(embeddings: npt.NDArray[np.floating]) -> Floats:
    items = np.asarray(embeddings, dtype=np.float32)
    if items.ndim != 2 or not items.size:
        raise ValueError(f"embeddings must be [n, d] and not empty, got shape={items.shape}")
    if not np.all(np.isfinite(items)):
        raise ValueError("embeddings must be finite")
    return items


def _checked(bits: int) -> int:
    if bits < 1:
        raise ValueError(f"bits={bits} must be 1 or more")
    return bits


def _cubes(bits: int, dimensions: int, step: int = 1) -> list[int]:
    """Sizes of the fewest cubes of nearly equal size that fit the dimensions.

    Sizes are whole multiples of `step` but for the last, so that no key is cut in two.
    """
    room = max(1, dimensions // step) * step if dimensions >= step else dimensions
    count = -(-_checked(bits) // room)
    step = min(step, room)
    size = -(-bits // (count * step)) * step
    return [min(size, bits - first) for first in range(0, bits, size)]


def _principal(items: Floats, whitening: float = 0.0) -> Floats:
    """Principal directions as columns [d, d], the largest variance first.

    Columns have a length of one, or of the deviation to the power of ``-whitening``.
    """
    import scipy.linalg

    centred = (items - items.mean(axis=0)).astype(np.float64)
    variances, vectors = scipy.linalg.eigh(centred.T @ centred / len(items))
    # Directions in which nothing varies would blow up rounding errors.
    variances = np.maximum(variances, 1e-6 * variances[-1])
    scaled = vectors * variances ** (-whitening / 2.0) if whitening else vectors
    return np.ascontiguousarray(scaled[:, ::-1], dtype=np.float32)


def _random_rotation(size: int, rng: np.random.Generator) -> Floats:
    return np.asarray(np.linalg.qr(rng.standard_normal((size, size)))[0], dtype=np.float32)


def _procrustes(values: Floats, targets: Floats) -> Floats:
    """The rotation R with the least ``||values @ R - targets||`` (Schönemann, 1966)."""
    left, _, right = np.linalg.svd(values.T @ targets)
    return np.asarray(left @ right, dtype=np.float32)
