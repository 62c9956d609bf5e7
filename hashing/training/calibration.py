"""Fitting the score of matches: queries with and without an answer, in indexes of several sizes."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tqdm

from hashing import codes, conditions, tables
from hashing.confidence import NAMES, Confidence, Evidence
from hashing.encoders import Hasher, TrackCodes
from hashing.errors import AudioError, HashbeamError
from hashing.search import Match, Searcher
from hashing.shards import Shard, TableSet
from hashing.training.augment import degrade
from hashing.training.corpus import Corpus

Ints = npt.NDArray[np.int64]

# Seconds of the queries, drawn evenly on a logarithmic scale.
QUERY_SECONDS = (1.0, 12.0)

# Matches of each query that the fit sees: the first, and two rivals, most of them wrong.
MATCHES = 3

# Weight decay of the logistic; it only keeps the weights finite where a model separates perfectly.
RIDGE = 1e-3


class MemoryTracks:
    """Tracks of a small index in memory; see `hashing.search.Tracks`."""

    def __init__(self, spans: Sequence[int]) -> None:
        """`spans`: snippet numbers that each track takes up, silent snippets included."""
        self.firsts = np.concatenate(([0], np.cumsum(spans))).astype(np.int64)

    def locate(self, segment: int, gids: Ints) -> tuple[Ints, Ints]:
        """Ordinal and first snippet of the track of each gid."""
        ordinal = np.searchsorted(self.firsts, gids, side="right") - 1
        return ordinal, self.firsts[ordinal]


def memory_searcher(hasher: Hasher, tracks: Sequence[TrackCodes], key_bits: int) -> Searcher:
    """An index of a few tracks without a file, for calibration and for tests."""
    spans = [int(track.snippet[-1]) + 1 for track in tracks]
    located = MemoryTracks(spans)
    gids = np.concatenate(
        [track.snippet + first for track, first in zip(tracks, located.firsts[:-1], strict=True)]
    ).astype(np.uint64)
    packed_codes = np.concatenate([track.codes for track in tracks])
    shards = {}
    for table, positions in enumerate(hasher.table_bits(key_bits)):
        packed = codes.keys(packed_codes, positions).astype(np.uint64) << np.uint64(32) | gids
        file = io.BytesIO()
        tables.build_shard(
            packed, file, table=table, segment=0, key_bits=key_bits, key_lo=0, key_hi=1 << key_bits
        )
        shards[str(table)] = file.getvalue()
    table_set = TableSet(
        [(name, 0, int(name), 0, 1 << key_bits) for name in shards],
        hasher.n_tables,
        key_bits,
        open_shard=lambda name: Shard(shards[name], name),
    )
    return Searcher(hasher, table_set, located, key_bits, len(gids))


@dataclasses.dataclass(frozen=True)
class Answers:
    """Matches of calibration queries, and which are right."""

    evidence: Evidence
    right: npt.NDArray[np.bool_]
    size: Ints  # tracks in the index that was asked

    @classmethod
    def gather(cls, matches: Sequence[tuple[Match, bool, int]]) -> Answers:
        """From (match, right, size of the index) triples."""

        def column(name: str) -> npt.NDArray[np.float64]:
            return np.array([getattr(match, name) for match, _, _ in matches], dtype=np.float64)

        return cls(
            Evidence(column("surprise"), column("margin"), column("share"), column("snippets")),
            np.array([right for _, right, _ in matches], dtype=bool),
            np.array([size for _, _, size in matches], dtype=np.int64),
        )


def ask(
    hasher: Hasher,
    corpus: Corpus,
    background: Sequence[int],
    asked: Sequence[int],
    sizes: Sequence[int],
    queries: int,
    surroundings: conditions.Surroundings,
    same: Sequence[str],
    seed: int,
) -> Answers:
    """Look up degraded queries in indexes of several sizes.

    Args:
      background: tracks that fill the indexes; queries are not cut from them.
      asked: tracks that queries are cut from; one half of them is in an index, the other half is
        not, and the other way round in the next.
      sizes: tracks of each index.
      queries: for each index.
      same: name of the recording of each track of the corpus; tracks of one name count as one.
    """
    rng = np.random.default_rng(seed)
    hashed: dict[int, TrackCodes] = {}
    for track in tqdm.tqdm([*background, *asked], desc="hash tracks", mininterval=5.0):
        try:
            hashed[track] = hasher.hash_track([corpus.track(track)])
        except AudioError:
            continue
    asked = [track for track in asked if track in hashed]
    if not asked:
        raise HashbeamError(
            "no track to calibrate the score with is long and loud enough: add music"
        )
    matches: list[tuple[Match, bool, int]] = []
    for fold, size in enumerate([size for size in sizes for _ in range(2)]):
        inside = [track for i, track in enumerate(asked) if i % 2 == fold % 2]
        filling = [track for track in background if track in hashed]
        extra = rng.permutation(filling)[: max(0, size - len(inside))].tolist()
        members = [*inside, *extra]
        # As `hashbeam index` chooses it: about four postings a bucket.
        key_bits = max(12, int(np.ceil(np.log2(sum(hashed[t].snippet.size for t in members)))) - 2)
        searcher = memory_searcher(hasher, [hashed[track] for track in members], key_bits)
        names = [same[track] for track in members]
        for track, query in _queries(hasher, corpus, asked, queries, surroundings, rng):
            answers = searcher.search([query], top=MATCHES)[0]
            matches += [
                (match, names[match.ordinal] == same[track], len(members)) for match in answers
            ]
    return Answers.gather(matches)


def _queries(
    hasher: Hasher,
    corpus: Corpus,
    asked: Sequence[int],
    n: int,
    surroundings: conditions.Surroundings,
    rng: np.random.Generator,
) -> list[tuple[int, Any]]:
    rate = corpus.sample_rate
    low, high = np.log(QUERY_SECONDS)
    drawn: list[tuple[int, Any]] = []
    while len(drawn) < n:
        track = int(rng.choice(np.asarray(asked)))
        seconds = float(np.exp(rng.uniform(low, high)))
        first = int(rng.integers(max(1, int((corpus.seconds(track) - seconds) * rate))))
        audio = degrade(corpus.excerpt(track, first, int(seconds * rate)), surroundings, rng)
        try:
            drawn.append((track, hasher.hash_query([audio])))
        except AudioError:
            continue  # silence, in music or in the excerpt of it: no query
    return drawn


def fit(answers: Answers) -> Confidence:
    """Logistic regression by Newton's method; figures by `hashing.metrics.calibration_error`.

    >>> one = np.ones(40)
    >>> surprise = np.concatenate((-10 * one, 30 * one))
    >>> evidence = Evidence(surprise, surprise, np.ones(80), np.ones(80))
    >>> fitted = fit(Answers(evidence, surprise > 0, np.ones(80, dtype=np.int64)))
    >>> bool(fitted.score(evidence)[0] < 0.1 < 0.9 < fitted.score(evidence)[-1])
    True
    """
    inputs = answers.evidence.inputs()
    truth = answers.right.astype(np.float64)
    weights = np.zeros(len(NAMES))
    penalty = np.full(len(NAMES), RIDGE * max(1, truth.size))
    penalty[0] = 0.0  # the intercept is free: the base rate is what it is
    for _ in range(50):
        scores = 1.0 / (1.0 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (scores - truth) + penalty * weights
        curvature = (inputs * (scores * (1 - scores))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + np.diag(penalty) + 1e-6 * np.eye(len(NAMES)), gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return Confidence(tuple(float(weight) for weight in weights))
