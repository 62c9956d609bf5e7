"""Ways to find embeddings, each with its one dial from few candidates to many.

* `Buckets`: one hash table; what is in the union of the probed buckets is compared by the inner
  product of embeddings. All of them run on the same code, the list scan of faiss's inverted file,
  so that milliseconds differ only by what a hash makes faiss scan, and by the hashing itself.
* `Tables`: a hasher as the index has it: several tables, candidates ranked by their codes.
* `Faiss`: indexes of faiss as they are.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import faiss
import numpy as np
import onnx
import onnx.utils
import onnxruntime

from hashing.codes import keys, pack
from hashing.encoders import Hasher
from hashing.flow import likeliest_flips
from hashing.models import Model
from hashing.neighbours import Neighbours
from hashing.quantizers import Quantizer, SignQuantizer
from hashing.tables import build_shard

# Answers of a search for one snippet.
FOUND = 10

Respond = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Answers:
    """Of snippets [n]: items [n, k], -1 where there are fewer; scores; items compared with; time.

    `seconds` is CPU time of the process for all of them, one after another on one thread, from the
    embeddings (not from the audio) on.
    """

    items: np.ndarray
    scores: np.ndarray
    examined: np.ndarray
    seconds: float


class System(Protocol):
    """Something that finds items for snippets.

    Attributes:
      efforts: positions of its dial, from cheap to thorough.
      table_bytes, vector_bytes: an item, on average: hash tables or lists, and what is compared.
      replication: postings of an item in each table.
    """

    name: str
    efforts: Sequence[Any]
    table_bytes: float
    vector_bytes: float
    replication: float

    def search(self, snippets: Any, effort: Any) -> Answers:
        """The nearest items of each snippet, best first."""


class ExactProbes(SignQuantizer):
    """Signs of a linear hash, probed like the flow: in exact order of the flipped bits' margins."""

    def probe_keys(self, responses: np.ndarray, key_bits: int, probes: int) -> np.ndarray:
        margins = self.margins(responses)[:, :key_bits]
        own = keys(pack(margins > 0), np.arange(key_bits)[None])
        costs = np.abs(margins).astype(np.float64)  # squares need 5 % more candidates
        return (own ^ likeliest_flips(costs, probes))[:, :, None]


class Buckets:
    """One table of a hasher of embeddings, its buckets being the lists of an inverted file."""

    def __init__(
        self,
        name: str,
        respond: Respond,
        quantizer: Quantizer,
        key_bits: int,
        items: np.ndarray,
    ) -> None:
        self.name = name
        self.key_bits = key_bits
        self._respond, self._quantizer = respond, quantizer
        self.efforts = [p for p in PROBES if p <= 1 << key_bits]
        codes = quantizer.encode(respond(items))
        rows, found = quantizer.postings(codes, 0, key_bits)
        rows = np.arange(len(items)) if rows is None else rows
        # The primary bucket of each item, for balance: postings of a row begin with it.
        first = np.concatenate(([True], rows[1:] != rows[:-1]))
        self.primary = found[first].astype(np.int64)
        self.replication = rows.size / len(items)
        self.table_bytes = shard_bytes(found, rows, key_bits) / len(items)
        self.vector_bytes = 2.0 * items.shape[1]  # float16, as an index keeps them
        self._quantity = np.bincount(found, minlength=1 << key_bits)
        self._coarse = faiss.IndexFlatIP(items.shape[1])
        self._index = faiss.IndexIVFFlat(
            self._coarse, items.shape[1], 1 << key_bits, faiss.METRIC_INNER_PRODUCT
        )
        self._index.is_trained = True
        vectors = np.ascontiguousarray(items[rows], dtype=np.float32)
        ids, lists = rows.astype(np.int64), found.astype(np.int64)
        self._index.add_core(
            len(vectors), *(faiss.swig_ptr(array) for array in (vectors, ids, lists))
        )

    def search(self, snippets: np.ndarray, effort: int) -> Answers:
        """See `System`; `effort` is the buckets that are looked into."""
        started = time.process_time()
        responses = self._respond(snippets)
        lists = self._quantizer.probe_keys(responses, self.key_bits, effort)[:, :, 0]
        lists = lists.astype(np.int64)
        if effort > 1:
            # Where there are fewer buckets to look into, the own one is named again.
            lists[:, 1:][lists[:, 1:] == lists[:, :1]] = -1
        self._index.nprobe = effort
        zeros = np.zeros(lists.shape, dtype=np.float32)
        scores, items = self._index.search_preassigned(snippets, FOUND, lists, zeros)
        seconds = time.process_time() - started
        examined = np.where(lists >= 0, self._quantity[lists], 0).sum(axis=1)
        return Answers(items, scores, examined, seconds)


# Buckets that are looked into.
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Tables:
    """Several tables, candidates ranked by the asymmetric similarity of codes, as look-up does."""

    def __init__(
        self,
        name: str,
        quantizer: Quantizer,
        codes: np.ndarray,
        efforts: Sequence[tuple[int, int]],
    ) -> None:
        self.name = name
        self.efforts = list(efforts)
        self._quantizer, self._codes = quantizer, codes
        self._built: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.replication = quantizer.replication
        key_bits = efforts[0][0]
        keys, postings = self._tables(key_bits)[0]
        one = shard_bytes(keys, postings, key_bits)
        self.table_bytes = quantizer.n_tables * one / len(codes)
        self.vector_bytes = float(quantizer.code_bytes)

    def search(self, snippets: np.ndarray, effort: tuple[int, int]) -> Answers:
        """See `System`; `snippets` are responses, `effort` is bits of a key, and probes a table."""
        key_bits, probes = effort
        tables = self._tables(key_bits)
        started = time.process_time()
        n = len(snippets)
        items, examined = np.full((n, FOUND), -1, np.int64), np.zeros(n, np.int64)
        scores = np.full((n, FOUND), -np.inf, np.float32)
        for row in range(n):
            responses = snippets[row : row + 1]
            wanted = self._quantizer.probe_keys(responses, key_bits, probes)[0]
            met = []
            for table, (ordered, postings) in enumerate(tables):
                for key in np.unique(wanted[:, table]):
                    first, last = np.searchsorted(ordered, (key, key + np.uint64(1)))
                    met.append(postings[first:last])
            found = np.unique(np.concatenate(met))
            examined[row] = found.size
            each = self._quantizer.byte_scores(responses)[0]
            score = each[np.arange(each.shape[0]), self._codes[found]].sum(axis=1)
            best = np.argsort(-score, kind="stable")[:FOUND]
            items[row, : best.size], scores[row, : best.size] = found[best], score[best]
        return Answers(items, scores, examined, time.process_time() - started)

    def _tables(self, key_bits: int) -> list[tuple[np.ndarray, np.ndarray]]:
        if key_bits not in self._built:
            self._built[key_bits] = []
            for table in range(self._quantizer.n_tables):
                rows, found = self._quantizer.postings(self._codes, table, key_bits)
                order = np.argsort(found, kind="stable")
                postings = order if rows is None else rows[order]
                self._built[key_bits].append((found[order].astype(np.uint64), postings))
        return self._built[key_bits]


class Faiss:
    """An index of `hashing.neighbours`."""

    replication = 1.0

    def __init__(self, index: Neighbours, items: np.ndarray) -> None:
        index.build(items)
        n_bytes = getattr(index, "n_bytes", 0)
        self.name = f"{index.name}-{8 * n_bytes}" if n_bytes else index.name
        self.efforts = index.efforts
        self._index = index
        self.table_bytes, self.vector_bytes = 0.0, index.bytes_per_item

    def search(self, snippets: np.ndarray, effort: int) -> Answers:
        """See `System`; centroids that a query is compared with count like items."""
        started = time.process_time()
        found = self._index.search(snippets, effort, FOUND)
        seconds = time.process_time() - started
        examined = found.examined + self._index.fixed_comparisons
        return Answers(found.ids, found.scores, examined, seconds)


def shard_bytes(keys: np.ndarray, rows: np.ndarray, key_bits: int) -> int:
    """Bytes of a hash table in the format of the index, directory and postings."""
    packed = keys.astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)
    sink = io.BytesIO()
    build_shard(packed, sink, table=0, segment=0, key_bits=key_bits, key_lo=0, key_hi=1 << key_bits)
    return sink.tell()


def head_of(model: Model) -> Respond:
    """What a model's graph does behind its embedding: embeddings [n, d] → responses [n, r].

    Where it does nothing more, responses are embeddings.
    """
    graph = onnx.load_from_string(model.graph("model"))
    if "responses" not in [end.name for end in graph.graph.output]:
        return lambda embeddings: embeddings
    head = onnx.utils.Extractor(graph).extract_model(["embedding"], ["responses"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        head.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def respond(embeddings: np.ndarray) -> np.ndarray:
        parts = [
            session.run(["responses"], {"embedding": np.ascontiguousarray(part)})[0]
            for part in np.array_split(embeddings, max(1, len(embeddings) // 8192))
        ]
        return np.concatenate(parts)

    return respond


def codes_of(hasher: Hasher, cuts: Iterable[np.ndarray]) -> np.ndarray:
    """Codes [N, bytes] of all snippets, by a hasher that hears tracks as it hears queries."""
    encode = hasher.quantizer.encode
    return np.concatenate([encode(hasher.respond(cut).responses) for cut in cuts])
