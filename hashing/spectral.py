"""Unsupervised spectral hashes of embeddings: bits are signs of a graph's smoothest functions.

Good bits are fair, independent, and seldom differ between neighbours. As real numbers, they are
eigenvectors of a neighbourhood graph's Laplacian. Two ways to extend those to any embedding:

* `fit_spectral`: as if embeddings filled a box along their principal directions, whose
  eigenfunctions are cosines. Weiss, Torralba & Fergus, "Spectral hashing" (NIPS 2008).
* `fit_anchor_graph`: with a graph that joins embeddings through a few anchors, one bit of each
  eigenvector or two. Liu, Wang, Kumar & Chang, "Hashing with graphs" (ICML 2011).

Other than those of `hashing.binary`, neither is linear: they cannot be folded into an encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hashing import codes
from hashing.one_thread_faiss import k_means

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Anchors of a graph, and how many of them an item is joined to. The paper has 300 for all, and 2 or
# 5 by data set; with 5, more neighbours are found where there are more clusters than anchors.
ANCHORS = 300
NEAREST = 5

# Numbers in the largest array that a block of rows makes: 8 MiB of float64.
_BLOCK_VALUES = 1 << 20

# What is less than these is rounding. The share of the largest variance that a direction needs.
_LEAST_VARIANCE = 1e-10
# The eigenvalue of a graph that is worked with: responses and their rounding are over its root.
_LEAST_EIGENVALUE = 1e-6
# The weight of an anchor's edges, and of those between an eigenvector's sides per item.
_LEAST_EDGES = 1e-9
# The spread of the values on a side as a share of their mean: the side is one point otherwise.
_LEAST_SPREAD = 1e-5

# Arrays of the hashes that hold whole numbers, and those that have two axes.
_WHOLE = ("axes", "modes", "nearest")
_TWO_AXES = ("directions", "anchors", "weights", "thresholds")


class _Hash:
    """What both hashes do; they are dataclasses of arrays, the first with a column a dimension."""

    @property
    def bits(self) -> int:
        """Bits of a code."""
        raise NotImplementedError

    def responses(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Responses [n, bits] of embeddings [n, d]; a bit is set where its response is above 0.

        Raises:
          ValueError: embeddings of another width, not of floating point, or not finite.
        """
        items = self._checked(embeddings)
        out = np.empty((len(items), self.bits), dtype=np.float32)
        for rows in self._blocks(items):
            out[rows] = self._respond(items[rows])
        return out

    def encode(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """Packed codes [n, ceil(bits / 8)] of embeddings [n, d]; raises as `responses` does."""
        items = self._checked(embeddings)
        parts = [codes.pack(self._respond(items[rows]) > 0) for rows in self._blocks(items)]
        return np.concatenate(parts)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `from_arrays` reads: the attributes."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The hash of `arrays`; raises ValueError where one is missing, damaged or does not fit."""
        return cls(**{name: _loaded(arrays, name) for name in cls.__annotations__})

    def _checked(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        return _as_embeddings(embeddings, next(iter(vars(self).values())).shape[-1])

    def _blocks(self, items: Floats) -> Iterator[slice]:
        # No array of a block has more columns than all those of the hash have rows and columns.
        return _blocks(len(items), sum(sum(array.shape) for array in vars(self).values()))

    def _check_shapes(self, **shapes: tuple[int, ...]) -> None:
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape}, got {getattr(self, name).shape}")

    def _respond(self, items: Floats) -> Floats:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class SpectralHash(_Hash):
    """Bits that are set where cosines along principal directions are above 0.

    Attributes:
      mean: of the training embeddings, [d].
      directions: principal directions as columns of length one, the largest variance first, [d, p].
      low, high: range of the training embeddings along each direction, about the mean, [p].
      axes: number of each bit's direction, int64 [bits].
      modes: how often each bit flips from `low` to `high`, 1 or more, int64 [bits].
    """

    mean: Floats
    directions: Floats
    low: Floats
    high: Floats
    axes: Ints
    modes: Ints

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return len(self.modes)

    def __post_init__(self) -> None:
        (d, p), bits = self.directions.shape, self.bits
        self._check_shapes(mean=(d,), low=(p,), high=(p,), axes=(bits,))
        if not np.all(self.high > self.low) or self.axes.min() < 0 or self.axes.max() >= p:
            raise ValueError(f"high must be above low, and axes 0 to {p - 1}")
        if self.modes.min() < 1 or self.modes.max() > bits:
            raise ValueError(f"modes must be 1 to {bits}")

    def _respond(self, items: Floats) -> Floats:
        mean, low = self.mean.astype(np.float64), self.low.astype(np.float64)
        share = ((items - mean) @ self.directions - low) / (self.high - low)
        # sin(π / 2 + π turns), which is the same with turns folded to 0…1: what stands on a flip
        # then has exactly 0.
        turns = np.abs((share[:, self.axes] * self.modes + 1.0) % 2.0 - 1.0)
        return np.asarray(np.sin(np.pi * (0.5 - turns)), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class AnchorGraphHash(_Hash):
    """Bits that are signs of eigenvectors of an anchor graph; two layers halve both sides as well.

    With two layers, the first half of the bits are the signs; a bit of the other half is set where
    its eigenvector is above the upper threshold, or not above 0 and below the lower one.

    Attributes:
      anchors: [m, d].
      bandwidth: of the similarity ``exp(-distance² / bandwidth)``, [1].
      nearest: how many anchors an embedding is joined to, int64 [1].
      weights: of anchors for each eigenvector, [m, e]; an embedding has the mean of its anchors'.
      thresholds: upper and lower ones of the second layer, [2, e]; [0, e] with one layer.
    """

    anchors: Floats
    bandwidth: Floats
    nearest: Ints
    weights: Floats
    thresholds: Floats

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.weights.shape[1]) * (2 if self.thresholds.size else 1)

    def __post_init__(self) -> None:
        m, e = len(self.anchors), self.weights.shape[1]
        layer = (2 if self.thresholds.size else 0, e)
        self._check_shapes(weights=(m, e), bandwidth=(1,), nearest=(1,), thresholds=layer)
        if self.bandwidth[0] <= 0 or not 1 <= self.nearest[0] <= m:
            raise ValueError(f"bandwidth must be above 0, and nearest 1 to {m}")

    def _respond(self, items: Floats) -> Floats:
        positions, squares = _nearest_anchors(items, self.anchors, int(self.nearest[0]))
        shares = _similarities(squares, self.bandwidth)
        values = np.zeros((len(items), self.weights.shape[1]))
        for place in range(positions.shape[1]):
            values += shares[:, place, None] * self.weights[positions[:, place]]
        first = values.astype(np.float32)
        if not self.thresholds.size:
            return first
        upper, lower = self.thresholds
        return np.concatenate((first, np.where(first > 0, first - upper, lower - first)), axis=1)


def fit_spectral(embeddings: npt.NDArray[np.floating], bits: int) -> SpectralHash:
    """Spectral hashing: signs of the smoothest functions on the box that embeddings [n, d] fill.

    Those along a direction are ``sin(π / 2 + mode π / (high - low) (x - low))``, with eigenvalues
    ``(mode π / (high - low))²``; the `bits` least are taken, of equal ones that along the direction
    of larger variance first. There may be more bits than dimensions: wide ones have several.

    Raises:
      ValueError: no bits, or embeddings that are none, not of floating point, not finite or equal.

    >>> hashed = fit_spectral(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]), bits=2)
    >>> hashed.modes.tolist()  # the first bit flips at 2, the second at 1 and at 3
    [1, 2]
    >>> hashed.encode(np.array([[0.5], [1.5], [2.5], [3.5]])).ravel().tolist()
    [3, 1, 0, 2]
    """
    import scipy.linalg

    items = _as_embeddings(embeddings)
    n, d = items.shape
    if bits < 1 or not n:
        raise ValueError(f"bits={bits} must be 1 or more, and there must be embeddings, not {n}")
    mean = items.mean(axis=0, dtype=np.float64).astype(np.float32).astype(np.float64)
    scatter = sum((items[rows] - mean).T @ (items[rows] - mean) for rows in _blocks(n, d))
    variances, vectors = scipy.linalg.eigh(scatter)
    count = min(bits, int(np.sum(variances > _LEAST_VARIANCE * abs(variances[-1]))))
    directions = _signed(vectors[:, ::-1][:, :count])
    parts = ((items[rows] - mean) @ directions for rows in _blocks(n, d + count))
    ends = np.array([(part.min(axis=0), part.max(axis=0)) for part in parts], dtype=np.float32)
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    if not count or not np.all(high > low):
        raise ValueError(f"{n} embeddings are all the same")
    width = high.astype(np.float64) - low
    # What float32 rounds off of embeddings does not order equals: to 0.001 %; [p, bits].
    steps = np.log(np.arange(1, bits + 1) * width.max() / width[:, None]).round(5)
    chosen = np.argsort(steps.ravel(), kind="stable")[:bits]
    axes, modes = chosen // bits, chosen % bits + 1
    return SpectralHash(mean.astype(np.float32), directions, low, high, axes, modes)


def fit_anchor_graph(
    embeddings: npt.NDArray[np.floating],
    bits: int,
    *,
    anchors: int = ANCHORS,
    nearest: int = NEAREST,
    layers: int = 1,
    seed: int = 0,
) -> AnchorGraphHash:
    """Anchor graph hashing: signs of eigenvectors of a graph of embeddings joined through anchors.

    Row i of Z [n, m] has the Gaussian similarities of embedding i to its nearest anchors, scaled to
    a sum of one. With Λ = diag(Zᵀ1), the graph is Z Λ⁻¹ Zᵀ. Its eigenvectors come from those of a
    matrix [m, m], and any embedding has values of them through its own nearest anchors.

    Two layers have two bits of each of half the eigenvectors (the paper's hierarchical hashing).
    The second's thresholds make its values smoothest on the graph, among those with a mean of 0.

    The authors leave out all eigenvectors of eigenvalues near one, this only the constant one: the
    others tell apart clusters that no edge joins.

    Args:
      embeddings: [n, d].
      bits: of a code; even with two layers.
      anchors: centres of k-means; fewer where there are fewer embeddings.
      nearest: anchors that an embedding is joined to, at least 2; all where there are fewer. The
        squared mean distance to the last of them is the bandwidth, as in the authors' program.
      layers: 1 or 2.
      seed: of k-means.

    Raises:
      ValueError: embeddings that are not of floating point, finite and two or more; numbers not as
        above; as many eigenvectors as anchors, or more than the graph has.

    >>> points = np.array([[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]])
    >>> hashed = fit_anchor_graph(points, bits=1, anchors=4, nearest=2)
    >>> hashed.encode(points).ravel().tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    True
    """
    import scipy.linalg
    import scipy.sparse

    items = _as_embeddings(embeddings)
    if layers not in (1, 2) or bits < 1 or bits % layers:
        raise ValueError(f"bits={bits} must be 1 or more and a multiple of layers={layers}, 1 or 2")
    if min(nearest, anchors, len(items)) < 2:
        raise ValueError(f"nearest={nearest} of {anchors} anchors, {len(items)} embeddings: 2 each")
    n, count = len(items), bits // layers
    places = _centres(items, anchors, seed)
    nearest = min(nearest, len(places))
    blocks = _blocks(n, len(places) + items.shape[1])
    parts = [_nearest_anchors(items[rows], places, nearest) for rows in blocks]
    positions, squares = (np.concatenate(some) for some in zip(*parts, strict=True))
    # Where all distances are 0, any bandwidth gives the same.
    bandwidth = np.array([np.sqrt(squares[:, -1]).mean() ** 2 or 1.0], dtype=np.float32)
    joined = (_similarities(squares, bandwidth).ravel(), positions.ravel())
    graph = scipy.sparse.csr_array((*joined, np.arange(n + 1) * nearest), (n, len(places)))
    # An anchor that nothing is joined to is no part of the graph.
    used = np.flatnonzero(graph.sum(axis=0) > _LEAST_EDGES)
    graph, places, m = graph[:, used], places[used], len(used)
    if count >= m:
        raise ValueError(f"bits={bits} in {layers} layers need more than {count} anchors, not {m}")
    mass = np.asarray(graph.sum(axis=0))
    root = np.sqrt(mass)
    # Less the constant eigenvector, of eigenvalue 1, which others may share.
    small = (graph.T @ graph).toarray() / np.outer(root, root) - np.outer(root, root) / n
    strengths, vectors = scipy.linalg.eigh(small, subset_by_index=[m - count, m - 1])
    if strengths[0] < _LEAST_EIGENVALUE:
        raise ValueError(f"a graph of {m} anchors does not have {count} eigenvectors of use")
    weights = _signed((np.sqrt(n / strengths) * vectors / root[:, None])[:, ::-1])
    pairs = [_thresholds(graph, mass, column) for column in weights.T] if layers == 2 else []
    thresholds = np.array(pairs, dtype=np.float32).T.reshape(-1, count)
    return AnchorGraphHash(places, bandwidth, np.array([min(nearest, m)]), weights, thresholds)


def _thresholds(graph: Any, mass: Values, weights: Floats) -> list[float]:
    """Upper and lower threshold of the eigenvector y = Z w of a graph Z [n, m], Λ = diag(mass).

    The second layer's values are |y| - (upper + lower) p + lower, where p is 1 on the upper side,
    else 0. A constant is nothing to the Laplacian L = 1 - Z Λ⁻¹ Zᵀ, so that pᵀL|y| / pᵀLp is the
    sum of the smoothest values' thresholds; a mean of 0 parts the sum.
    """
    values = graph @ weights.astype(np.float64)
    above = (values > 0).astype(np.float64)
    n, count, positive = len(values), above.sum(), values @ above
    reached = graph.T @ above
    cut = count - reached @ (reached / mass)
    sides = values[values > 0], values[values <= 0]
    # Where no edge joins the sides, all sums are alike: each side is cut at its own mean.
    found = [float(side.mean()) for side in sides]
    if cut > _LEAST_EDGES * n:
        total = (positive - (graph.T @ np.abs(values)) @ (reached / mass)) / cut
        upper = float((2.0 * positive + (n - count) * total) / n)
        found = [upper, float(total) - upper]
    for place, side in enumerate(sides):
        # A threshold on the only point of a side would cut by rounding: it goes half-way to 0.
        if np.ptp(side) < _LEAST_SPREAD * abs(side.mean()):
            found[place] = float(side.mean()) / 2.0
    return found


def _nearest_anchors(items: Floats, anchors: Floats, nearest: int) -> tuple[Ints, Values]:
    """Numbers of the nearest anchors, the nearest first, and squared distances, [n, nearest]."""
    # About the anchors' mean: products of long vectors would leave little of a distance.
    middle = anchors.mean(axis=0, dtype=np.float64)
    x, a = items - middle, anchors - middle
    squares = np.square(x).sum(axis=1)[:, None] + np.square(a).sum(axis=1) - 2.0 * (x @ a.T)
    every, shape = np.arange(len(items)), (len(items), nearest)
    positions, found = np.empty(shape, dtype=np.int64), np.empty(shape)
    for place in range(nearest):
        positions[:, place] = squares.argmin(axis=1)
        found[:, place] = squares[every, positions[:, place]]
        squares[every, positions[:, place]] = np.inf
    return positions, np.maximum(found, 0.0)


def _similarities(squares: Values, bandwidth: Floats) -> Values:
    """Gaussian similarities of squared distances [n, nearest], rising, scaled to a sum of one."""
    # Relative to the nearest: far from all anchors, no similarity would be above 0.
    shares = np.exp((squares[:, :1] - squares) / np.float64(bandwidth[0]))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _centres(items: Floats, anchors: int, seed: int) -> Floats:
    centres = items if len(items) <= anchors else k_means(items, anchors, seed)
    return np.unique(centres, axis=0)


def _as_embeddings(embeddings: npt.NDArray[np.floating], d: int | None = None) -> Floats:
    items = np.asarray(embeddings)
    fits = items.ndim == 2 and items.shape[1] == (d or items.shape[1]) > 0
    if items.dtype.kind != "f" or not fits:
        raise ValueError(f"embeddings {items.dtype} {items.shape} are not float [n, {d or 'd'}]")
    with np.errstate(over="ignore"):
        items = items.astype(np.float32, copy=False)
    if not all(np.isfinite(items[rows]).all() for rows in _blocks(*items.shape)):
        raise ValueError("embeddings must be finite")
    return items


def _blocks(n: int, columns: int) -> Iterator[slice]:
    size = max(1, _BLOCK_VALUES // columns)
    return (slice(first, first + size) for first in range(0, max(n, 1), size))


def _signed(vectors: Values) -> Floats:
    """Columns of the sign that makes the largest value, of about equals the first, positive."""
    size = np.abs(vectors)
    leading = np.argmax(size > 0.999 * size.max(axis=0), axis=0)
    signs = np.sign(vectors[leading, np.arange(vectors.shape[1])])
    return np.asarray(vectors * signs, dtype=np.float32)


def _loaded(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    if name not in arrays:
        raise ValueError(f"lacks the array {name!r}")
    array = np.asarray(arrays[name])
    kind, dtype = ("iu", np.int64) if name in _WHOLE else ("f", np.float32)
    empty = not array.size and name != "thresholds"
    if array.dtype.kind not in kind or array.ndim != 1 + (name in _TWO_AXES) or empty:
        raise ValueError(f"{name} must not be {array.dtype} {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite")
    return array
