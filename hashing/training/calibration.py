"""Fitting the score of matches: queries with and without an answer, in indexes of several sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tqdm

from hashing import conditions
from hashing.codes import MAX_KEY_BITS
from hashing.confidence import NAMES, Confidence, Evidence
from hashing.duplicates import find_shared, join
from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.errors import AudioError, HashbeamError
from hashing.matrix import as_rows
from hashing.memory_index import memory_searcher
from hashing.metrics import brier_score, calibration_error
from hashing.ranking import CHANCE_SIMILARITY, compare_bytes, compare_embeddings
from hashing.search import Match
from hashing.training.augment import degrade
from hashing.training.corpus import Corpus

Ints = npt.NDArray[np.int64]

# Seconds of the queries, drawn evenly on a logarithmic scale.
QUERY_SECONDS = (1.0, 12.0)

# Matches of each query that the fit sees: the first, and two rivals, most of them wrong.
MATCHES = 3

# Weight decay of the logistic; it only keeps the weights finite where a model separates perfectly.
RIDGE = 1e-4

# Queries that are compared with chance codes, and snippets of each: the mean is right to a fiftieth
# of the deviation.
CHANCE_QUERIES = 200
CHANCE_PAIRS = 16


@dataclasses.dataclass(frozen=True)
class Answers:
    """Matches of calibration queries, and which are right."""

    evidence: Evidence
    right: npt.NDArray[np.bool_]
    size: Ints  # tracks in the index that was asked

    @classmethod
    def gather(cls, matches: Sequence[tuple[Match, bool, int]]) -> Answers:
        """From (match, right, size of the index) triples."""
        fields = [field.name for field in dataclasses.fields(Evidence)]
        columns = {
            name: np.array([float(getattr(match.evidence, name)) for match, _, _ in matches])
            for name in fields
        }
        return cls(
            Evidence(**columns),
            np.array([right for _, right, _ in matches], dtype=bool),
            np.array([size for _, _, size in matches], dtype=np.int64),
        )


def chance_similarity(
    hasher: Hasher, queries: Sequence[QueryCodes], tracks: Sequence[TrackCodes], seed: int
) -> float:
    """What a query's snippets reach against codes that they have nothing to do with.

    The mean and two deviations, over queries and codes of tracks drawn by chance.
    """
    rng = np.random.default_rng(seed)
    found = []
    for query in queries:
        track = tracks[int(rng.integers(len(tracks)))]
        if track.embeddings is not None and query.embeddings is not None:
            compare, held = compare_embeddings(query.embeddings), as_rows(track.embeddings)
        else:
            compare, held = (
                compare_bytes(hasher.quantizer.byte_scores(query.responses)),
                track.codes,
            )
        rows = rng.integers(len(query.responses), size=CHANCE_PAIRS)
        found.append(compare(rows, held[rng.integers(len(held), size=CHANCE_PAIRS)]))
    values = np.concatenate(found)
    return float(values.mean() + 2.0 * values.std())


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
    embeddings: bool = False,
) -> tuple[Answers, float]:
    """Look up degraded queries in indexes of several sizes.

    Args:
      background: tracks that fill the indexes; queries are not cut from them.
      asked: tracks that queries are cut from; one half of them is in an index, the other half is
        not, and the other way round in the next.
      sizes: tracks of each index.
      queries: for each index.
      same: name of the recording of each track of the corpus; tracks of one name count as one.
      embeddings: indexes keep embeddings, and compare with them.

    Returns:
      The answers, and the similarity that counts for nothing (`chance_similarity`).
    """
    rng = np.random.default_rng(seed)
    hashed: dict[int, TrackCodes] = {}
    for track in tqdm.tqdm([*background, *asked], desc="hash tracks", mininterval=5.0):
        try:
            hashed[track] = hasher.hash_track([corpus.track(track)], embeddings=embeddings)
        except AudioError:
            continue
    asked = [track for track in asked if track in hashed]
    if not asked:
        raise HashbeamError(
            "no track to calibrate the score with is long and loud enough: add music"
        )
    same = shared_recordings(hasher, corpus, hashed, same)
    heard = [
        query for _, query in _queries(hasher, corpus, asked, CHANCE_QUERIES, surroundings, rng)
    ]
    chance = chance_similarity(hasher, heard, list(hashed.values()), seed)
    matches: list[tuple[Match, bool, int]] = []
    for fold, size in enumerate([size for size in sizes for _ in range(2)]):
        inside = [track for i, track in enumerate(asked) if i % 2 == fold % 2]
        filling = [track for track in background if track in hashed]
        extra = rng.permutation(filling)[: max(0, size - len(inside))].tolist()
        members = [*inside, *extra]
        key_bits = key_bits_for(
            sum(hashed[t].snippet.size for t in members), hasher.quantizer.key_bits_max
        )
        searcher = memory_searcher(
            hasher, [hashed[track] for track in members], key_bits, embeddings=embeddings
        )
        searcher.confidence = Confidence(chance=chance)
        names = [same[track] for track in members]
        for track, query in _queries(hasher, corpus, asked, queries, surroundings, rng):
            answers = searcher.search([query], top=MATCHES)[0]
            matches += [
                (match, names[match.ordinal] == same[track], len(members)) for match in answers
            ]
    return Answers.gather(matches), chance


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


def shared_recordings(
    hasher: Hasher, corpus: Corpus, hashed: Mapping[int, TrackCodes], same: Sequence[str]
) -> list[str]:
    """`same`, with tracks joined that share audio, by `hashing.duplicates.find_shared`.

    Game soundtracks use a piece under several names, with another beginning or a voice over it: a
    query from one of them is rightly answered with the other, whatever the catalogue says.
    """
    numbers = sorted(hashed)
    snippets = sum(hashed[t].snippet.size for t in numbers)
    key_bits = key_bits_for(snippets, hasher.quantizer.key_bits_max)
    searcher = memory_searcher(hasher, [hashed[t] for t in numbers], key_bits)
    bar = tqdm.tqdm(numbers, desc="find shared audio", mininterval=5.0)
    pairs = find_shared(searcher, bar, corpus.track, lambda segment, ordinal: numbers[ordinal])
    joined = join(dict(enumerate(same)), pairs)
    return [joined[number] for number in range(len(same))]


def index_sizes(checking: int, background: int) -> list[int]:
    """Tracks of the three indexes that a score is fitted in: of `checking` and `background` tracks.

    >>> index_sizes(60, 280)
    [60, 120, 310]
    """
    return [checking, 2 * checking, checking // 2 + background]


def describe(answers: Answers, chance: float) -> dict[str, Any]:
    """The score that `fit` finds, as config.json holds it, and how good it is on `answers`."""
    confidence = fit(answers, chance)
    scores = confidence.score(answers.evidence)
    return {
        **confidence.to_json(),
        "matches": int(scores.size),
        "expected_calibration_error": round(calibration_error(scores, answers.right), 4),
        "brier_score": round(brier_score(scores, answers.right), 4),
    }


def key_bits_for(snippets: int, longest: int = MAX_KEY_BITS) -> int:
    """As `hashbeam index` chooses it: about four postings a bucket, if keys are that long."""
    return min(longest, max(12, int(np.ceil(np.log2(max(2, snippets)))) - 2))


def fit(answers: Answers, chance: float = CHANCE_SIMILARITY) -> Confidence:
    """Logistic regression by Newton's method; figures by `hashing.metrics.calibration_error`.

    >>> one = np.ones(40)
    >>> strength, ones = np.concatenate((0.2 * one, 0.7 * one)), np.ones(80)
    >>> evidence = Evidence(strength, strength, 0.2 * ones, 0.1 * ones, ones, ones, ones, ones)
    >>> fitted = fit(Answers(evidence, strength > 0.5, np.ones(80, dtype=np.int64)))
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
    return Confidence(tuple(float(weight) for weight in weights), chance)
