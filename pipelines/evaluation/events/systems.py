"""The systems that are compared: embeddings in, distances of a database to queries out.

Each is fitted and then ranks; `Ranking.distances` gives blocks, so that no matrix of all queries
and all clips is in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hashing import asymmetric, codes
from hashing.binary import LinearHash, itq
from hashing.codebooks import CENTROIDS, Codebooks, fit_opq, fit_pq
from hashing.spectral import AnchorGraphHash, SpectralHash, fit_anchor_graph, fit_spectral

if TYPE_CHECKING:
    from hashing.training.events.probe import Probe
    from hashing.training.events.quantization import Quantized

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Queries whose distances to all clips are computed at once.
BLOCK = 64

UNSUPERVISED = ("SH", "ITQ", "AGH", "PQ", "OPQ")


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Embeddings of one kind, of length one.

    Attributes:
      name: of the embedding.
      training: of the clips that labels may be known of, [n, versions, d].
      database, queries: [N, d] and [q, d].
    """

    name: str
    training: Floats
    database: Floats
    queries: Floats

    def take(self, training: npt.NDArray[np.integer]) -> Embedded:
        """With some of the training clips only."""
        return dataclasses.replace(self, training=self.training[training])

    def coded(self) -> Floats:
        """What codebooks are fitted to: the database; a small one with all versions of training."""
        if len(self.database) >= CENTROIDS:
            return self.database
        return np.concatenate([self.database, self.training.reshape(-1, self.database.shape[1])])


@dataclasses.dataclass(frozen=True)
class Ranking:
    """How a system orders a database.

    Attributes:
      system: its name.
      bits: of a clip in the database.
      distances: blocks [b, N] of distances of queries, in order.
      fitted_s: CPU seconds of fitting.
      encoded_s: CPU seconds of encoding the database.
    """

    system: str
    bits: int
    distances: Callable[[], Iterator[npt.NDArray[np.generic]]]
    fitted_s: float = 0.0
    encoded_s: float = 0.0


def by_cosine(system: str, database: Floats, queries: Floats) -> Ranking:
    """Real-valued vectors compared as they are; bits of float32."""
    one, other = _unit(queries), np.ascontiguousarray(_unit(database).T)

    def distances() -> Iterator[npt.NDArray[np.generic]]:
        for first in range(0, len(one), BLOCK):
            yield -(one[first : first + BLOCK] @ other)

    return Ranking(system, 32 * database.shape[1], distances)


def by_tables(system: str, packed: Bytes, tables: Floats) -> Ranking:
    """Codes compared by look-up tables [q, m, 256]."""

    def distances() -> Iterator[npt.NDArray[np.generic]]:
        for first in range(0, len(tables), BLOCK):
            some = tables[first : first + BLOCK]
            yield np.stack([asymmetric.distances(packed, table) for table in some])

    return Ranking(system, 8 * packed.shape[1], distances)


def by_bits(system: str, packed: Bytes, asked: Bytes, bits: int) -> Ranking:
    """Binary codes compared by Hamming distance."""

    def distances() -> Iterator[npt.NDArray[np.generic]]:
        for first in range(0, len(asked), BLOCK):
            yield codes.hamming(asked[first : first + BLOCK, None], packed[None])

    return Ranking(system, bits, distances)


def unsupervised(embedded: Embedded, bits: int, seed: int) -> Iterator[Ranking]:
    """The hashers that need no labels, fitted to the whole database, as is usual.

    One that cannot be fitted to so few clips, or to embeddings of so few dimensions, is left out.
    """
    for name in UNSUPERVISED:
        with contextlib.suppress(_NotFittedError):
            yield from (_by_parts if name in ("PQ", "OPQ") else _by_signs)(
                name, embedded, bits, seed
            )


class _NotFittedError(ValueError):
    """A hasher needs more clips, or more dimensions."""


def _by_parts(name: str, embedded: Embedded, bits: int, seed: int) -> Iterator[Ranking]:
    items, started = embedded.database, time.process_time()
    try:
        fit = (fit_pq if name == "PQ" else fit_opq)(embedded.coded(), bits // 8, seed)
    except ValueError as error:
        raise _NotFittedError(str(error)) from None
    fitted = time.process_time()
    books = Codebooks(fit.codebooks)
    packed = books.encode(items @ fit.rotation)
    spent = fitted - started, time.process_time() - fitted
    turned = embedded.queries @ fit.rotation
    tables = asymmetric.distance_tables(turned, fit.codebooks)
    yield dataclasses.replace(
        by_tables(name, packed, tables), fitted_s=spent[0], encoded_s=spent[1]
    )
    symmetric = asymmetric.symmetric_tables(books.encode(turned), fit.codebooks)
    yield by_tables(f"{name} symmetric", packed, symmetric)


def _by_signs(name: str, embedded: Embedded, bits: int, seed: int) -> Iterator[Ranking]:
    items, started = embedded.database, time.process_time()
    try:
        hasher = _fitted(name, items, bits, seed)
    except ValueError as error:
        raise _NotFittedError(str(error)) from None
    fitted = time.process_time()
    packed = hasher.encode(items)
    spent = fitted - started, time.process_time() - fitted
    ranking = by_bits(name, packed, hasher.encode(embedded.queries), bits)
    yield dataclasses.replace(ranking, fitted_s=spent[0], encoded_s=spent[1])


def _fitted(
    name: str, items: Floats, bits: int, seed: int
) -> LinearHash | SpectralHash | AnchorGraphHash:
    if name == "ITQ":
        return itq(items, bits, seed)
    if name == "SH":
        return fit_spectral(items, bits)
    return fit_anchor_graph(items, bits, layers=2, seed=seed)


def of_quantized(found: Quantized, embedded: Embedded, name: str) -> Iterator[Ranking]:
    """A trained network: its codes, compared both ways, and its real-valued output."""
    settings = found.settings
    started = time.process_time()
    items = found.respond(embedded.database)
    asked = found.respond(embedded.queries)
    if settings.system == "orthohash":
        bits = settings.outputs
        packed = codes.pack(items > 0)
        yield by_bits(name, packed, codes.pack(asked > 0), bits)
        weights = -codes.sign_scores(asked, bits)
        yield by_tables(f"{name} asymmetric", packed, weights)
    else:
        books = Codebooks(found.codebooks)
        packed = books.encode(items)
        spent = time.process_time() - started
        tables = asymmetric.distance_tables(asked, found.codebooks)
        yield dataclasses.replace(by_tables(name, packed, tables), encoded_s=spent)
        symmetric = asymmetric.symmetric_tables(books.encode(asked), found.codebooks)
        yield by_tables(f"{name} symmetric", packed, symmetric)
    yield by_cosine(f"{name} real-valued", items, asked)


def of_probe(
    probe: Probe, embedded: Embedded, bits: int, seed: int, name: str = "probe"
) -> Iterator[Ranking]:
    """The comparators that know labels and do without deep quantization.

    The probe's probabilities, product-quantized in as many bytes; and a byte that is no more than
    the likeliest label, compared with the query's probabilities, of what is plainly a probe.
    """
    roots = probe.roots(embedded.database)
    asked = probe.roots(embedded.queries)
    # Codes of m bytes need m numbers at least.
    lacking = max(0, bits // 8 - roots.shape[1])
    items, wanted = (np.pad(one, ((0, 0), (0, lacking))) for one in (roots, asked))
    fit = fit_pq(items, bits // 8, seed)
    packed = Codebooks(fit.codebooks).encode(items @ fit.rotation)
    tables = asymmetric.distance_tables(wanted @ fit.rotation, fit.codebooks)
    yield by_tables(f"{name} + PQ", packed, tables)
    if name == "probe" and bits == 8 and len(probe.labels) <= 256:
        label = roots.argmax(axis=1).astype(np.uint8)[:, None]
        tables = np.zeros((len(asked), 1, 256), np.float32)
        tables[:, 0, : asked.shape[1]] = -(asked**2)
        yield by_tables("class code", label, tables)


def real_valued(embedded: Embedded, probe: Probe | None) -> Iterator[Ranking]:
    """What no code can be expected to beat by far."""
    yield by_cosine("embedding", embedded.database, embedded.queries)
    if probe is not None:
        one, other = probe.roots(embedded.database), probe.roots(embedded.queries)
        yield by_cosine("linear probe", one, other)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
