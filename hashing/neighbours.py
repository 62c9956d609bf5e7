"""Known nearest-neighbour indexes behind one protocol: what hash tables are measured against.

All of them are faiss's (Douze et al., "The Faiss library", 2024), run on one thread. faiss is
imported when an index is built: it is no part of the run-time installation.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hashing.binary import LinearHash
from hashing.codebooks import ProductFit, fit_opq, fit_pq
from hashing.one_thread_faiss import open_faiss

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Embeddings that centroids are trained on, and the seed of every draw.
TRAINING_ITEMS = 65_536
SEED = 1


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
      ids: rows of the items built from, [n, k], the best first; -1 where fewer were found.
      scores: [n, k], the higher the nearer; ``-inf`` where there is no id.
      examined: items whose code or vector each query was compared with, [n]; an item that is met
        twice counts twice.
    """

    ids: Ints
    scores: Floats
    examined: Ints


class Neighbours(Protocol):
    """An index of embeddings of length one.

    Attributes:
      name: for tables and figures.
      efforts: sensible values of the one setting that trades time for recall, rising.
      fixed_comparisons: comparisons that each search makes beside those with items: with the
        centroids of the lists of an inverted file.
      bytes_per_item: bytes of the index as faiss writes it to disk, centroids, links and item
        numbers included, over the number of items. In memory faiss takes more: up to several times
        as much where buckets are a hash map.
    """

    name: str
    efforts: tuple[int, ...]
    fixed_comparisons: int
    bytes_per_item: float

    def build(self, embeddings: Floats) -> None:
        """Train on and index embeddings [n, d] of length one; replaces what was built before."""

    def search(self, queries: Floats, effort: int, k: int = 10) -> Found:
        """The `k` nearest items of each query [n, d]."""


class _FaissIndex:
    """What the indexes have in common."""

    name: str
    efforts: tuple[int, ...] = (1,)
    fixed_comparisons = 0

    def __init__(self) -> None:
        self._index: Any = None
        self.bytes_per_item = 0.0

    def build(self, embeddings: Floats) -> None:
        """See `Neighbours`."""
        faiss = open_faiss()
        items = np.ascontiguousarray(embeddings, dtype=np.float32)
        index = self._empty(faiss, items.shape)
        if not index.is_trained:
            rng = np.random.default_rng(SEED)
            chosen = np.sort(rng.permutation(len(items))[:TRAINING_ITEMS])
            index.train(items[chosen])
        index.add(items)
        self._keep(index, faiss.serialize_index(index).nbytes / max(1, len(items)))

    def search(self, queries: Floats, effort: int, k: int = 10) -> Found:
        """See `Neighbours`."""
        if self._index is None:
            raise ValueError(f"{self.name} is searched before it is built")
        least = min(1, self.efforts[0])
        if effort < least:
            raise ValueError(f"effort={effort} must be {least} or more")
        open_faiss()
        return self._search(np.ascontiguousarray(queries, dtype=np.float32), effort, k)

    def _empty(self, faiss: Any, shape: tuple[int, ...]) -> Any:
        raise NotImplementedError

    def _search(self, queries: Floats, effort: int, k: int) -> Found:
        """Compares each query with every item, whatever the effort."""
        del effort
        scores, ids = self._index.search(queries, k)
        return _found(ids, scores, np.full(len(queries), self._index.ntotal))

    def _keep(self, index: Any, bytes_per_item: float) -> None:
        self._index = index
        self.bytes_per_item = bytes_per_item


class Exact(_FaissIndex):
    """All inner products: the truth.

    >>> index = Exact()
    >>> index.build(np.eye(3, dtype=np.float32))
    >>> index.search(np.array([[0.6, 0.8, 0.0]], np.float32), effort=1, k=2).ids.tolist()
    [[1, 0]]
    """

    name = "exact"

    def _empty(self, faiss: Any, shape: tuple[int, ...]) -> Any:
        return faiss.IndexFlatIP(shape[1])


class PqScan(_FaissIndex):
    """Every code of a product quantiser, asymmetric distance (Jégou et al., PAMI 2011)."""

    name = "pq-scan"

    def __init__(self, n_bytes: int = 16) -> None:
        super().__init__()
        self.n_bytes = n_bytes

    def build(self, embeddings: Floats) -> None:
        """See `Neighbours`."""
        faiss = open_faiss()
        fit = self._fit(embeddings)
        self._rotation = fit.rotation
        index = faiss.IndexPQ(fit.rotation.shape[1], self.n_bytes, 8, faiss.METRIC_L2)
        faiss.copy_array_to_vector(fit.codebooks.ravel(), index.pq.centroids)
        index.is_trained = True
        index.add(np.ascontiguousarray(embeddings @ fit.rotation))
        total = faiss.serialize_index(index).nbytes + fit.rotation.nbytes
        self._keep(index, total / len(embeddings))

    def _fit(self, embeddings: Floats) -> ProductFit:
        return fit_pq(embeddings, self.n_bytes, SEED)

    def _search(self, queries: Floats, effort: int, k: int) -> Found:
        turned = np.ascontiguousarray(queries @ self._rotation)
        return _with_cosines(super()._search(turned, effort, k))


class OpqScan(PqScan):
    """The same after a learned rotation (Ge et al., CVPR 2013)."""

    name = "opq-scan"

    def _fit(self, embeddings: Floats) -> ProductFit:
        return fit_opq(embeddings, self.n_bytes, SEED)


class Ivf(_FaissIndex):
    """Inverted file: items in lists by their nearest centroid; effort is the lists looked into.

    Args:
      lists: number of centroids; ``4 * sqrt(n)`` unless told, as faiss's guide advises.
    """

    name = "ivf"
    efforts = (1, 2, 4, 8, 16, 32, 64, 128)

    def __init__(self, lists: int | None = None) -> None:
        super().__init__()
        self.lists = lists

    def _empty(self, faiss: Any, shape: tuple[int, ...]) -> Any:
        lists = self._lists(shape[0])
        coarse = faiss.IndexFlatIP(shape[1])
        return _seeded(faiss.IndexIVFFlat(coarse, shape[1], lists, faiss.METRIC_INNER_PRODUCT))

    def _search(self, queries: Floats, effort: int, k: int) -> Found:
        # The lists are found here, so that their sizes can be added up for each query.
        nprobe = min(effort, int(self._index.nlist))
        distances, lists = self._index.quantizer.search(queries, nprobe)
        self._index.nprobe = nprobe
        scores, ids = self._index.search_preassigned(queries, k, lists, distances)
        return _found(ids, scores, (self._sizes[lists] * (lists >= 0)).sum(axis=1))

    def _lists(self, n: int) -> int:
        lists = self.lists or round(4 * np.sqrt(n))
        return max(1, min(int(lists), n))

    def _keep(self, index: Any, bytes_per_item: float) -> None:
        super()._keep(index, bytes_per_item)
        lists = range(index.nlist)
        self._sizes = np.array([index.invlists.list_size(i) for i in lists], dtype=np.int64)
        self.fixed_comparisons = int(index.nlist)


class IvfPq(Ivf):
    """Inverted file of product-quantised residuals: the usual index of neural fingerprints.

    Jégou et al. (PAMI 2011); what Chang et al., "Neural audio fingerprint" (ICASSP 2021) search
    with.
    """

    name = "ivf-pq"

    def __init__(self, n_bytes: int = 16, lists: int | None = None) -> None:
        super().__init__(lists)
        self.n_bytes = n_bytes

    def _empty(self, faiss: Any, shape: tuple[int, ...]) -> Any:
        lists = self._lists(shape[0])
        coarse = faiss.IndexFlatL2(shape[1])
        index = faiss.IndexIVFPQ(coarse, shape[1], lists, self.n_bytes, 8, faiss.METRIC_L2)
        index.pq.cp.seed = SEED
        index.pq.cp.min_points_per_centroid = 1
        index.pq.cp.max_points_per_centroid = 128
        return _seeded(index)

    def _search(self, queries: Floats, effort: int, k: int) -> Found:
        return _with_cosines(super()._search(queries, effort, k))


class IvfRabitq(Ivf):
    """Inverted file of RaBitQ's codes: a bit a dimension, unbiased inner products.

    Gao & Long, "RaBitQ" (SIGMOD 2024). Embeddings are turned by a random rotation first, which the
    bound on the error asks for.
    """

    name = "ivf-rabitq"

    def build(self, embeddings: Floats) -> None:
        """See `Neighbours`."""
        d = embeddings.shape[1]
        turned = np.linalg.qr(np.random.default_rng(SEED).standard_normal((d, d)))[0]
        self._rotation = turned.astype(np.float32)
        super().build(embeddings @ self._rotation)

    def _empty(self, faiss: Any, shape: tuple[int, ...]) -> Any:
        coarse = faiss.IndexFlatL2(shape[1])
        index = faiss.IndexIVFRaBitQ(coarse, shape[1], self._lists(shape[0]), faiss.METRIC_L2)
        index.qb = 8  # bits of a query's values: exact but for rounding
        return _seeded(index)

    def _search(self, queries: Floats, effort: int, k: int) -> Found:
        turned = np.ascontiguousarray(queries @ self._rotation)
        return _with_cosines(super()._search(turned, effort, k))


class Hnsw(_FaissIndex):
    """Graph of near items, walked from far to near (Malkov & Yashunin, PAMI 2020).

    Effort is the length of the list of open candidates; it is at least `k`.
    """

    name = "hnsw"
    efforts = (16, 32, 64, 128, 256, 512)

    def __init__(self, links: int = 32, build_effort: int = 80) -> None:
        super().__init__()
        self.links = links
        self.build_effort = build_effort

    def _empty(self, faiss: Any, shape: tuple[int, ...]) -> Any:
        index = faiss.IndexHNSWFlat(shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_effort
        return index

    def _search(self, queries: Floats, effort: int, k: int) -> Found:
        self._index.hnsw.efSearch = max(effort, k)
        return _one_by_one(self._index, queries, k, open_faiss().cvar.hnsw_stats)


class BinaryMultiIndex(_FaissIndex):
    """Codes of a linear hash in one table for each piece of the code (Norouzi et al., PAMI 2014).

    Buckets that differ from a piece in no more bits than the effort are looked into; what is met
    is ranked by the Hamming distance of whole codes. A score is the share of equal bits.

    Args:
      hasher: turns embeddings into codes, of a multiple of eight bits.
      piece_bits: of a key; a code is cut into as many pieces as fit.
    """

    name = "binary-multi-index"
    efforts = (0, 1, 2, 3)

    def __init__(self, hasher: LinearHash, piece_bits: int = 16) -> None:
        super().__init__()
        self.hasher = hasher
        self.piece_bits = piece_bits
        self.bits = hasher.thresholds.size
        if self.bits % 8 or not 1 <= piece_bits <= self.bits:
            raise ValueError(f"{self.bits} bits cannot be cut into pieces of {piece_bits}")

    def build(self, embeddings: Floats) -> None:
        """See `Neighbours`."""
        faiss = open_faiss()
        pieces = self.bits // self.piece_bits
        index = faiss.IndexBinaryMultiHash(self.bits, pieces, self.piece_bits)
        index.add(self.hasher.encode(embeddings))
        self._keep(index, faiss.serialize_index_binary(index).nbytes / max(1, len(embeddings)))

    def _search(self, queries: Floats, effort: int, k: int) -> Found:
        self._index.nflip = effort
        packed = self.hasher.encode(queries)
        found = _one_by_one(self._index, packed, k, open_faiss().cvar.indexBinaryHash_stats)
        agreeing = np.float32(1.0) - found.scores / np.float32(self.bits)
        return _found(found.ids, agreeing, found.examined)


def _seeded(index: Any) -> Any:
    index.cp.seed = SEED
    index.cp.min_points_per_centroid = 1  # no warning on stderr for a small training set
    return index


def _one_by_one(index: Any, queries: npt.NDArray[Any], k: int, stats: Any) -> Found:
    """Searches query by query, for faiss counts comparisons of a whole call only."""
    ids = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    examined = np.empty(len(queries), dtype=np.int64)
    for row in range(len(queries)):
        stats.reset()
        scores[row], ids[row] = index.search(queries[row : row + 1], k)
        examined[row] = stats.ndis
    return _found(ids, scores, examined)


def _found(ids: Any, scores: Any, examined: Any) -> Found:
    ids = np.asarray(ids, dtype=np.int64)
    values = np.where(ids >= 0, np.asarray(scores, dtype=np.float32), np.float32(-np.inf))
    return Found(ids, values, np.asarray(examined, dtype=np.int64))


def _with_cosines(found: Found) -> Found:
    """Cosines of vectors of length one in place of their squared distances."""
    return _found(found.ids, 1.0 - found.scores / np.float32(2.0), found.examined)
