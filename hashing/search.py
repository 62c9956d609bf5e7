"""Queries become matches: hashing, look-up, voting and ranking in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hashing import voting
from hashing.confidence import Confidence, Evidence
from hashing.encoders import Hasher, QueryCodes
from hashing.forgiving import probe_keys
from hashing.shards import TableSet

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

# Keys looked up for each snippet and table.
PROBES = 8

# Two tracks that both have so large a share of the look-ups, from so many votes, one at least
# `TWIN_SHARE` of the other's, hold the same recording: neither speaks against the other. Of 480
# queries of 5 and 10 s from tracks that were not in the index the best wrong track had a share of
# 0.012 in the median and never more than 0.066; the right track of a clean query of 5 s has 0.098
# in the median.
TWIN_LOOK_UPS = 0.07
TWIN_VOTES = 50
TWIN_SHARE = 0.7

# Two windows are about the same part of a query when they share more than this of the shorter one.
OVERLAP = 0.5


class Tracks(Protocol):
    """Which track a snippet of a segment belongs to."""

    def locate(self, segment: int, gids: Ints) -> tuple[Ints, Ints]:
        """Ordinal of the track and its first snippet, for each of `gids`; -1 for a removed one."""


@dataclasses.dataclass(frozen=True)
class Match:
    """One answer to a query.

    Attributes:
      segment, ordinal: the track.
      score: probability that the match is right, 0 to 1.
      votes: hits that speak for it.
      offset_s: where in the track the query starts, seconds; negative where it starts before.
      query_start_s, query_end_s: the part of the query that the match explains, seconds.
      surprise, margin: nats; see `hashing.confidence.Evidence`.
    """

    segment: int
    ordinal: int
    score: float
    votes: int
    offset_s: float
    query_start_s: float
    query_end_s: float
    surprise: float
    margin: float
    share: float
    snippets: int


class Searcher:
    """An open index and its hasher, ready for queries.

    Args:
      hasher: the model that made the index.
      tables: its hash tables.
      tracks: its tracks.
      key_bits: bits of a key.
      n_snippets: postings of a table over all segments.
      probes: keys looked up for each snippet and table.
      max_bucket: buckets larger than this are passed over.
    """

    def __init__(
        self,
        hasher: Hasher,
        tables: TableSet,
        tracks: Tracks,
        key_bits: int,
        n_snippets: int,
        probes: int = PROBES,
        max_bucket: int | None = None,
    ) -> None:
        self.hasher = hasher
        self.tables = tables
        self.tracks = tracks
        self.n_snippets = n_snippets
        self.probes = probes
        self.max_bucket = max_bucket
        self.confidence = Confidence.from_json(hasher.config.get("calibration", {}))
        self._positions = hasher.table_bits(key_bits)
        self._steps_per_snippet = hasher.features.snippet_hop // hasher.features.query_hop
        self.step_s = hasher.features.query_hop * hasher.features.frame_s
        self._snippet_s = hasher.features.snippet_samples / hasher.features.sample_rate

    def search(self, queries: Sequence[QueryCodes], top: int = 10) -> list[list[Match]]:
        """The best matches of each query, best first; an empty list where nothing was hit.

        Args:
          queries: any number; they are looked up in batches.
          top: matches of one query at most.
        """
        keys = [probe_keys(query.margins, self._positions, self.probes) for query in queries]
        hop = self.hasher.features.query_hop
        steps = [query.start_frame.astype(np.int64) // hop for query in queries]
        return self.search_keys(keys, steps, top)

    def search_keys(
        self, keys: Sequence[npt.NDArray[np.uint32]], steps: Sequence[Ints], top: int = 10
    ) -> list[list[Match]]:
        """As `search`, from keys [snippets, probes, n_tables] and the steps of their snippets."""
        answers: list[list[Match]] = []
        for first in range(0, len(keys), voting.MAX_QUERIES):
            batch = slice(first, first + voting.MAX_QUERIES)
            answers += self._search_batch(keys[batch], steps[batch], top)
        return answers

    def _search_batch(
        self, keys: Sequence[npt.NDArray[np.uint32]], steps: Sequence[Ints], top: int
    ) -> list[list[Match]]:
        found = []
        look_ups = np.ones(len(keys))
        for segment in self.tables.segments:
            windows, look_ups = voting.look_up(
                self.tables,
                segment,
                keys,
                steps,
                self._steps_per_snippet,
                self.n_snippets,
                self.max_bucket,
            )
            found.append(self._place(segment, windows, look_ups))
        if not found:
            return [[] for _ in keys]
        places = _Places.join(found)
        evidence, repeated = self._weigh(places, look_ups, steps)
        scores = np.where(repeated, -1.0, self.confidence.score(evidence))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        return [
            [
                self._match(places, evidence, scores, query, at)
                for at in order[query].tolist()
                if scores[query, at] >= 0.0
            ]
            for query in range(len(keys))
        ]

    def _place(self, segment: int, windows: voting.Windows, look_ups: Values) -> _Places:
        """Windows of one segment as places in tracks."""
        valid = np.isfinite(windows.evidence)
        ordinal = np.full(valid.shape, -1, dtype=np.int64)
        first_gid = np.zeros(valid.shape, dtype=np.int64)
        ordinal[valid], first_gid[valid] = self.tracks.locate(segment, windows.gid[valid])
        surprise = voting.surprise(
            windows.evidence, windows.votes.astype(np.float64), look_ups[:, None], self.n_snippets
        )
        return _Places(
            segment=np.full(valid.shape, segment, dtype=np.int64),
            ordinal=ordinal,
            offset=windows.diagonal - first_gid * self._steps_per_snippet,
            votes=windows.votes,
            # A removed track is as good as no window.
            surprise=np.where(ordinal >= 0, surprise, -np.inf),
            first_step=windows.first_step,
            last_step=windows.last_step,
        )

    def _weigh(
        self, places: _Places, look_ups: Values, steps: Sequence[Ints]
    ) -> tuple[Evidence, npt.NDArray[np.bool_]]:
        """The evidence for each place, and which places say nothing new (or nothing at all)."""
        same_part = _overlaps(places.first_step, places.last_step)
        same_track = (places.ordinal[:, :, None] == places.ordinal[:, None, :]) & (
            places.segment[:, :, None] == places.segment[:, None, :]
        )
        missing = ~np.isfinite(places.surprise)
        # Places are in order of surprise: one repeats an earlier one of the same track that is
        # about the same part of the query.
        repeated = np.triu(np.ones(same_part.shape[1:], dtype=bool), k=1)
        repeated = (same_part & same_track & repeated).any(axis=1) | missing
        snippets = np.stack(
            [
                np.searchsorted(part, last, side="right") - np.searchsorted(part, first)
                for part, first, last in zip(
                    steps, places.first_step, places.last_step, strict=True
                )
            ]
        ).astype(np.float64)
        rows = np.array([max(1, part.size) for part in steps], dtype=np.float64)
        share = places.votes / np.maximum(1.0, snippets * (look_ups / rows)[:, None])
        # The rival of a place: the best of another track for the same part. Where there is none,
        # a single vote is the least that any track could have.
        least = -1.0 - np.log(np.maximum(look_ups, 1.0))[:, None]
        strong = (share >= TWIN_LOOK_UPS) & (places.votes >= TWIN_VOTES)
        mine, theirs = places.votes[:, :, None], places.votes[:, None, :]
        twins = strong[:, :, None] & strong[:, None, :]
        twins &= np.minimum(mine, theirs) >= TWIN_SHARE * np.maximum(mine, theirs)
        rivals = np.where(same_part & ~same_track & ~twins, places.surprise[:, None, :], -np.inf)
        margin = places.surprise - np.maximum(rivals.max(axis=2), least)
        surprise = np.where(missing, 0.0, places.surprise)
        return Evidence(surprise, np.where(missing, 0.0, margin), share, snippets), repeated

    def _match(
        self, places: _Places, evidence: Evidence, scores: Values, query: int, at: int
    ) -> Match:
        here = (query, at)
        return Match(
            segment=int(places.segment[here]),
            ordinal=int(places.ordinal[here]),
            score=float(scores[here]),
            votes=int(places.votes[here]),
            offset_s=float(places.offset[here] * self.step_s),
            query_start_s=float(places.first_step[here] * self.step_s),
            query_end_s=float(places.last_step[here] * self.step_s + self._snippet_s),
            surprise=float(evidence.surprise[here]),
            margin=float(evidence.margin[here]),
            share=float(evidence.share[here]),
            snippets=int(evidence.snippets[here]),
        )


@dataclasses.dataclass(frozen=True)
class _Places:
    """Places in tracks, [queries, places], most surprising first."""

    segment: Ints
    ordinal: Ints  # -1 where there is none
    offset: Ints  # steps from the start of the track to the start of the query
    votes: Ints
    surprise: Values  # minus infinity where there is none
    first_step: Ints
    last_step: Ints

    @classmethod
    def join(cls, parts: Sequence[_Places]) -> _Places:
        """Places of several segments, in order of surprise."""
        names = [field.name for field in dataclasses.fields(cls)]
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names
        }
        order = np.argsort(-columns["surprise"], axis=1, kind="stable")
        return cls(**{name: np.take_along_axis(columns[name], order, 1) for name in names})


def _overlaps(first: Ints, last: Ints) -> npt.NDArray[np.bool_]:
    """Which places are about the same part of the query, [queries, places, places].

    >>> _overlaps(np.array([[0, 0, 9]]), np.array([[9, 4, 20]])).astype(int).tolist()
    [[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]
    """
    length = last - first + 1
    shared = np.minimum(last[:, :, None], last[:, None]) - np.maximum(
        first[:, :, None], first[:, None]
    )
    shorter = np.minimum(length[:, :, None], length[:, None])
    return np.asarray(shared + 1 > OVERLAP * shorter)
