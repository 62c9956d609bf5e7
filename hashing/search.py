"""Queries become matches: hashing, look-up, ranking and scores in one place."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hashing import ranking, voting
from hashing.confidence import Confidence, Evidence
from hashing.encoders import Hasher, QueryCodes
from hashing.gone import Gone
from hashing.ranking import Codes, Compare, Places, Ranker, Tracks
from hashing.segments import JoinedTables
from hashing.shards import TableSet

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

# Keys looked up for each snippet and table.
PROBES = 8

# Snippets of the index that a query is compared with at most, over all its candidates: a query of
# one second has that many candidates, a longer one fewer, because its votes tell more.
COMPARISONS = 4096
CANDIDATES = (128, 1024)  # but not fewer and not more than this

# Places that are scored, however few are asked for: the best score is not always that of the
# largest sum, as where a short part fits better than a long one.
SCORED = 10

# Places that are looked at for being the same recording twice, and how strong the weaker one must
# be beside the stronger: two copies of a recording fit a query almost equally well.
TWINS = 3
TWIN_STRENGTH = 0.7

# Tracks that another one outdoes, by rank, that show how strong chance is for this query: the first
# few may be other versions of the right track.
BACKGROUND = slice(3, 59)


class LiveTracks(Tracks, Protocol):
    """`Tracks` that tell which of them have been removed."""

    def gone(self, segment: int) -> Gone:
        """Snippet numbers of the removed tracks of a segment."""


@dataclasses.dataclass(frozen=True)
class Match:
    """One answer to a query.

    Attributes:
      segment, ordinal: the track.
      score: probability that the match is right, 0 to 1.
      votes: hits of hash tables that led there.
      offset_s: where in the track the query starts, seconds; negative where it starts before.
      query_start_s, query_end_s: the part of the query that the match explains, seconds.
      evidence: what the score was made of.
    """

    segment: int
    ordinal: int
    score: float
    votes: int
    offset_s: float
    query_start_s: float
    query_end_s: float
    evidence: Evidence


class Searcher:
    """An open index and its hasher, ready for queries.

    Args:
      hasher: the model that made the index.
      tables: its hash tables.
      codes: its codes by snippet number, or its embeddings.
      tracks: its tracks.
      key_bits: bits of a key.
      n_snippets: postings of a table over all segments.
      probes: keys looked up for each snippet and table.
      max_bucket: buckets larger than this are passed over.
      embeddings: `codes` holds float16 embeddings.

    Attributes:
      likeness: of what `codes` holds.
    """

    def __init__(
        self,
        hasher: Hasher,
        tables: TableSet,
        codes: Codes,
        tracks: LiveTracks,
        key_bits: int,
        n_snippets: int,
        probes: int = PROBES,
        max_bucket: int | None = None,
        embeddings: bool = False,
    ) -> None:
        self.hasher = hasher
        self.tables = tables
        self.codes = codes
        self.tracks = tracks
        self.key_bits = hasher.check_key_bits(key_bits)
        self.n_snippets = n_snippets
        self.probes = probes
        self.max_bucket = max_bucket
        self.embeddings = embeddings
        self._joined = JoinedTables(tables, lambda segment: self.tracks.gone(segment))
        self.likeness = ranking.embedding_likeness if embeddings else hasher.quantizer.likeness
        self.confidence = Confidence.from_json(hasher.config.get("calibration", {}))
        self._hop = hasher.features.query_hop
        self._steps_per_snippet = hasher.features.snippet_hop // self._hop
        self._lead = hasher.features.query_margin // self._hop
        self.step_s = self._hop * hasher.features.frame_s
        self._snippet_s = hasher.features.snippet_samples / hasher.features.sample_rate

    def search(self, queries: Sequence[QueryCodes], top: int = 10) -> list[list[Match]]:
        """The best matches of each query, best first; an empty list where nothing was hit.

        Args:
          queries: any number; they are looked up in batches.
          top: matches of one query at most.
        """
        answers: list[list[Match]] = []
        for first in range(0, len(queries), voting.MAX_QUERIES):
            answers += self._search_batch(queries[first : first + voting.MAX_QUERIES], top)
        return answers

    def _search_batch(self, queries: Sequence[QueryCodes], top: int) -> list[list[Match]]:
        # The first snippet may begin before the query; steps are counted from there.
        steps = [query.start_frame.astype(np.int64) // self._hop + self._lead for query in queries]
        found = self.candidates(queries, steps)
        answers = list[list[Match]]()
        for number, query in enumerate(queries):
            mine = found.take(np.flatnonzero(found.query == number))
            if not mine.gid.size:
                answers.append([])
                continue
            ranker = self._ranker(steps[number], self.comparison(query))
            located = mine.ordinal, mine.first, mine.end
            places = ranker.rank(mine.segment, mine.gid, mine.diagonal, mine.votes, located)
            answers.append(self._matches(query, ranker, places, top) if places.n else [])
        return answers

    def candidates(self, queries: Sequence[QueryCodes], steps: Sequence[Ints]) -> voting.Candidates:
        """Where in the index the queries may be; `steps` of their snippets, [snippets] each."""
        quantizer = self.hasher.quantizer
        keys = [
            quantizer.probe_keys(query.responses, self.key_bits, self.probes) for query in queries
        ]
        hops = np.array([-(-(int(part[-1]) + 1) // self._steps_per_snippet) for part in steps])
        limits = np.clip(COMPARISONS // hops, *CANDIDATES)
        return voting.look_up(
            self._joined,
            self.tables.segments,
            keys,
            steps,
            limits,
            self._steps_per_snippet,
            self.n_snippets,
            functools.partial(ranking.locate_in, self.tracks),
            self.max_bucket,
        )

    def _ranker(self, steps: Ints, compare: Compare) -> Ranker:
        row_of_step = np.full(int(steps[-1]) + 1, -1, dtype=np.int64)
        row_of_step[steps] = np.arange(steps.size)
        return Ranker(
            self.codes,
            self.tracks,
            compare,
            row_of_step,
            self._steps_per_snippet,
            self.likeness,
            self.confidence.chance,
        )

    def comparison(self, query: QueryCodes) -> Compare:
        """Similarity of a query's snippets to what the index holds: its codes, or embeddings."""
        if self.embeddings and query.embeddings is not None:
            return ranking.compare_embeddings(query.embeddings)
        return ranking.compare_bytes(self.hasher.quantizer.byte_scores(query.responses))

    def _matches(self, query: QueryCodes, ranker: Ranker, places: Places, top: int) -> list[Match]:
        evidence = self._weigh(query, ranker, places, max(top, SCORED))
        scores = self.confidence.score(evidence)
        order = np.argsort(-scores, kind="stable")[:top]
        return [
            Match(
                segment=int(places.segment[at]),
                ordinal=int(places.ordinal[at]),
                score=float(scores[at]),
                votes=int(places.votes[at]),
                offset_s=float((places.offset[at] + self._lead) * self.step_s),
                query_start_s=self._query_s(places.first_step[at], 0.0, query),
                query_end_s=self._query_s(places.last_step[at], self._snippet_s, query),
                evidence=evidence.take(at),
            )
            for at in order.tolist()
        ]

    def _query_s(self, step: np.int64, later_s: float, query: QueryCodes) -> float:
        """Seconds from the start of a query, within it."""
        seconds = float((step - self._lead) * self.step_s) + later_s
        return min(max(seconds, 0.0), query.duration_s)

    def _weigh(self, query: QueryCodes, ranker: Ranker, places: Places, top: int) -> Evidence:
        """The evidence for the first `top` places, against all that were compared."""
        n = min(top, places.n)
        track = places.track
        same_part = ranking.overlapping(places.first_step, places.last_step)
        other = track[:, None] != track
        against = other[:n] & same_part[:n]
        # What nothing else explains better is no chance: a query may hold several tracks.
        outdone = np.triu(same_part & other, k=1).any(axis=0)
        background = _one_a_track(track, np.flatnonzero(outdone))[BACKGROUND]
        # The same recording once more does not speak against this one, nor is it chance.
        copies: dict[int, list[int]] = {}
        for at in range(min(TWINS, n)):
            if at not in copies:
                found = [at, *_copies(ranker, places, at, np.flatnonzero(against[at]))]
                copies.update(dict.fromkeys(found, found))
        for at in range(n):
            against[at, copies.get(at, [])] = False
        rival = np.full(n, np.nan)
        some = np.flatnonzero(against.any(axis=1))
        if some.size:
            rival[some] = places.strength[against[some].argmax(axis=1)]
        mean, deviation = np.full(n, np.nan), np.full(n, np.nan)
        for at in range(n):
            chance = places.strength[[b for b in background if b not in copies.get(at, [])]]
            if chance.size:
                mean[at], deviation[at] = chance.mean(), chance.std()
        return Evidence(
            strength=places.strength[:n],
            similarity=places.similarity[:n],
            rival=rival,
            mean=mean,
            deviation=deviation,
            snippets=places.snippets[:n].astype(np.float64),
            contrast=np.full(n, 1.0 if query.contrast is None else query.contrast.mean()),
            norm=np.full(n, 1.0 if query.norms is None else query.norms.mean()),
        )


def _copies(ranker: Ranker, places: Places, at: int, rivals: Ints) -> list[int]:
    """Places of the same recording as place `at`, strongest first, up to the first other one."""
    one, found = places.take(np.array([at])), []
    for rival in rivals.tolist():
        weaker, stronger = sorted((places.strength[rival], places.strength[at]))
        fits = weaker >= TWIN_STRENGTH * stronger
        if not fits or not ranker.twins(one, places.take(np.array([rival])))[0]:
            break
        found.append(rival)
    return found


def _one_a_track(track: Ints, places: Ints) -> Ints:
    """The first of `places` in each track, in their order; `track` of every place.

    >>> _one_a_track(np.array([7, 7, 3, 7, 3, 1]), np.array([1, 2, 3, 5])).tolist()
    [1, 2, 5]
    """
    _, firsts = np.unique(track[places], return_index=True)
    return np.asarray(places[np.sort(firsts)])
