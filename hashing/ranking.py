"""Candidates become ranked places: a query compared with whole codes along its diagonal.

Hash tables say where a query may be; whole codes say how well it fits there. At each
candidate the query's snippets meet the index's snippets of the same moments, one every hop, and
their similarities are added up along the diagonal, less what chance collects. The part of the query
with the largest sum is the part that the place explains: a recording that holds a track for five of
its sixty seconds is found as well as one that is the track.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Similarity that counts for nothing: two standard deviations of what codes of 256 bits that have
# nothing to do with one another reach. What is above adds to a place, what is below subtracts.
CHANCE_SIMILARITY = 0.125

# Strongest places of a query that are kept: what is further down is chance, of which the first few
# dozen tell enough, and every two of them are compared.
KEPT = 128

# Places that are looked at once more, steps to either side: a vote may be two steps off.
REFINED = 16
REACH = 2

# Likeness of the codes of two places, on average, for them to be the same recording: versions that
# a catalogue names as one had 0.68 in the median, tracks of different music at most 0.49.
TWIN_LIKENESS = 0.55

# Two places are about the same part of a query when they share more than this of the shorter one.
OVERLAP = 0.5


class Tracks(Protocol):
    """Which track a snippet of a segment belongs to."""

    def locate(self, segment: int, gids: Ints) -> tuple[Ints, Ints, Ints]:
        """Ordinal of the track of each of `gids`, its first snippet and its end (exclusive).

        The ordinal of a removed track is -1.
        """


class Codes(Protocol):
    """Codes by snippet number; see `hashing.matrix.CodeMatrices`."""

    def rows(self, segment: int, gids: Ints) -> tuple[Bytes, Flags]:
        """Codes [n, width] of snippets [n], and which there are."""


@runtime_checkable
class CodesOfAll(Codes, Protocol):
    """`Codes` that need not be asked segment by segment."""

    def rows_each(self, segment: Ints, gids: Ints) -> tuple[Bytes, Flags]:
        """`rows` of snippets [n] of any segments [n]."""


Compare = Callable[[Ints, Bytes], Floats]
"""Similarities [n] of snippets of the query, by row [n], and codes [n, width]."""

Likeness = Callable[[Bytes, Bytes], Floats]
"""Likeness [n] of codes [n, width] to others [n, width]: one for the same, zero for chance."""


def compare_bytes(scores: Floats) -> Compare:
    """Comparison by look-up: `scores` [snippets, code_bytes, 256] of a quantizer.

    >>> scores = np.zeros((1, 2, 256), np.float32)
    >>> scores[0, :, 7] = 0.5
    >>> compare_bytes(scores)(np.array([0]), np.array([[7, 7]], np.uint8)).tolist()
    [1.0]
    """
    width = scores.shape[1]
    flat = scores.reshape(-1)
    columns = np.arange(width, dtype=np.int64) * 256
    ones = np.ones(width, dtype=np.float32)

    def compare(row: Ints, codes: Bytes) -> Floats:
        at = codes + columns
        at += (row * (width * 256))[:, None]
        return np.asarray(flat.take(at) @ ones)  # a third faster than sum(axis=1)

    return compare


def compare_embeddings(embeddings: Floats) -> Compare:
    """Inner products of a query's embeddings [snippets, d] and float16 rows as bytes [n, 2 d]."""

    def compare(row: Ints, codes: Bytes) -> Floats:
        rows = np.ascontiguousarray(codes).view("<f2").astype(np.float32)
        return np.asarray(np.einsum("ij,ij->i", embeddings[row], rows), dtype=np.float32)

    return compare


def embedding_likeness(one: Bytes, other: Bytes) -> Floats:
    """`Likeness` of float16 embeddings as bytes [n, 2 d]: their inner products.

    >>> row = np.array([[0.6, 0.8]], "<f2").view(np.uint8)
    >>> [round(float(value), 2) for value in embedding_likeness(row, row)]
    [1.0]
    """
    first, second = (
        np.ascontiguousarray(rows).view("<f2").astype(np.float32) for rows in (one, other)
    )
    return np.asarray(np.einsum("ij,ij->i", first, second), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Places:
    """Places of one query in tracks, strongest first, [p].

    Attributes:
      segment, ordinal: the track.
      gid: a snippet of it within the part.
      diagonal: steps from the segment's first snippet to the start of the query.
      offset: steps from the start of the track to the start of the query.
      votes: hits of the candidate that led there.
      strength: similarity beyond chance, summed over the snippets of the part.
      similarity: mean over the snippets of the part.
      snippets: of the index that the part was compared with.
      first_step, last_step: first and last snippet of the query in the part.
    """

    segment: Ints
    ordinal: Ints
    gid: Ints
    diagonal: Ints
    offset: Ints
    votes: Ints
    strength: Values
    similarity: Values
    snippets: Ints
    first_step: Ints
    last_step: Ints

    @property
    def n(self) -> int:
        """How many there are."""
        return int(self.ordinal.size)

    @property
    def track(self) -> Ints:
        """A number for the track of each: the same for the same track of the same segment."""
        return np.asarray(self.segment << np.int64(40) | self.ordinal)

    def take(self, chosen: npt.NDArray[np.integer] | Flags) -> Places:
        """Some of them."""
        fields = [field.name for field in dataclasses.fields(self)]
        return Places(**{name: getattr(self, name)[chosen] for name in fields})

    @classmethod
    def join(cls, parts: Sequence[Places]) -> Places:
        """All of them, strongest first."""
        fields = [field.name for field in dataclasses.fields(cls)]
        joined = cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
        )
        return joined.take(np.argsort(-joined.strength, kind="stable"))


@dataclasses.dataclass(frozen=True)
class Ranker:
    """Compares one query with an index.

    Attributes:
      codes, tracks: of the index.
      compare: similarity of the query's snippets to codes.
      row_of_step: number of the query's snippet that starts at each step, -1 for a silent one.
      steps_per_snippet: steps of a query to one hop of the index.
      likeness: how alike codes are to one another.
      chance: similarity that counts for nothing.
    """

    codes: Codes
    tracks: Tracks
    compare: Compare
    row_of_step: Ints
    steps_per_snippet: int
    likeness: Likeness
    chance: float = CHANCE_SIMILARITY

    def rank(
        self,
        segment: Ints | int,
        gid: Ints,
        diagonal: Ints,
        votes: Ints,
        located: tuple[Ints, Ints, Ints] | None = None,
    ) -> Places:
        """Places at the candidates [c], strongest first; `segment` of each, or of them all.

        A track is listed once for each part of the query that it explains. `located`: what
        `Tracks.locate` says of the candidates, where that is known.
        """
        segment = np.broadcast_to(segment, gid.shape)
        places = self._places(segment, gid, diagonal, votes, located)
        if self.row_of_step.size > 1 and places.n:
            best = places.take(np.arange(min(REFINED, places.n)))
            shifts = [shift for shift in range(-REACH, REACH + 1) if shift]
            near = self._places(
                np.tile(best.segment, len(shifts)),
                np.tile(best.gid, len(shifts)),
                np.concatenate([best.diagonal + shift for shift in shifts]),
                np.tile(best.votes, len(shifts)),
            )
            places = Places.join([places, near])
        places = places.take(np.arange(min(KEPT, places.n)))
        return places.take(np.flatnonzero(~_repeated(places)))

    def along(self, segment: int, gid: Ints, diagonal: Ints) -> tuple[Bytes, Ints, Flags]:
        """What the query meets at each candidate.

        Args:
          gid: a snippet of the track, [c].
          diagonal: steps from the segment's first snippet to the start of the query, [c].

        Returns:
          Codes [c, k, width], the step [c, k] of the query's snippet that each is compared with,
          and which of them count [c, k]: there is a snippet on both sides, in the same track.
        """
        _, first, end = self.tracks.locate(segment, gid)
        return self._along(np.broadcast_to(segment, gid.shape), first, end, diagonal)

    def _along(
        self, segment: Ints, first: Ints, end: Ints, diagonal: Ints
    ) -> tuple[Bytes, Ints, Flags]:
        hop, steps = self.steps_per_snippet, self.row_of_step.size
        step = (-diagonal % hop)[:, None] + np.arange(-(-steps // hop)) * hop
        number = (diagonal[:, None] + step) // hop
        counts = (step < steps) & (number >= first[:, None]) & (number < end[:, None])
        counts &= self.row_of_step[np.minimum(step, steps - 1)] >= 0
        segments = np.repeat(segment, counts.sum(axis=1))
        # Where nothing counts, any segment of the index tells how long rows are.
        of = segments if segments.size else segment[:1]
        rows, present = rows_in(self.codes, of, number[counts])
        codes = np.zeros((*counts.shape, rows.shape[1]), dtype=np.uint8)
        codes[counts] = rows
        counts[counts] = present
        return codes, step, counts

    def _places(
        self,
        segment: Ints,
        gid: Ints,
        diagonal: Ints,
        votes: Ints,
        located: tuple[Ints, Ints, Ints] | None = None,
    ) -> Places:
        ordinal, first_gid, end_gid = located or locate_in(self.tracks, segment, gid)
        codes, step, counts = self._along(segment, first_gid, end_gid, diagonal)
        similarity = np.zeros(counts.shape, dtype=np.float64)
        similarity[counts] = self.compare(self.row_of_step[step[counts]], codes[counts])
        first, last, strength = largest_part(np.where(counts, similarity - self.chance, 0.0))
        column = np.arange(counts.shape[1])
        inside = counts & (column >= first[:, None]) & (column <= last[:, None])
        snippets = inside.sum(axis=1)
        kept = np.flatnonzero((snippets > 0) & (ordinal >= 0))
        kept = kept[np.argsort(-strength[kept], kind="stable")]
        row = np.arange(gid.size)
        hop = self.steps_per_snippet
        return Places(
            segment=segment,
            ordinal=ordinal,
            gid=(diagonal + step[row, first]) // hop,
            diagonal=diagonal,
            offset=diagonal - first_gid * hop,
            votes=votes,
            strength=strength,
            similarity=(similarity * inside).sum(axis=1) / np.maximum(snippets, 1),
            snippets=snippets,
            first_step=step[row, first],
            last_step=step[row, last],
        ).take(kept)

    def twins(self, one: Places, others: Places) -> Flags:
        """Which of `others` [p] are the same recording as the single place `one`.

        What their codes along the part of `one` stand for is alike, `TWIN_LIKENESS` on average,
        where both have codes.
        """
        mine, step, counts = self.along(int(one.segment[0]), one.gid, one.diagonal)
        part = counts[0] & (step[0] >= one.first_step[0]) & (step[0] <= one.last_step[0])
        own_step, own = step[0][part], mine[0][part]
        out = np.zeros(others.n, dtype=bool)
        if not own_step.size:
            return out
        for at in range(others.n):
            place = others.take(np.array([at]))
            codes, step, counts = self.along(int(place.segment[0]), place.gid, place.diagonal)
            there, theirs = step[0][counts[0]], codes[0][counts[0]]
            # The grids of two tracks are up to half a hop apart: the nearer of those before and
            # after counts, and the more alike where both are as near.
            after = np.searchsorted(own_step, there)
            sides = np.clip(np.stack((after - 1, after)), 0, own_step.size - 1)
            off = np.abs(own_step[sides] - there)
            likeness = np.stack([self.likeness(own[side], theirs) for side in sides])
            likeness[off > off.min(axis=0)] = -1.0
            met = off.min(axis=0) <= REACH
            if met.any():
                out[at] = likeness.max(axis=0)[met].mean() >= TWIN_LIKENESS
        return out


def locate_in(tracks: Tracks, segment: Ints, gid: Ints) -> tuple[Ints, Ints, Ints]:
    """`Tracks.locate` of snippets [n] of any segments [n]."""
    if not segment.size:
        return gid, gid, gid  # no segment need have the number 0
    if (segment == segment[0]).all():
        return tracks.locate(int(segment[0]), gid)
    out = np.empty((3, gid.size), dtype=np.int64)
    for one in np.unique(segment).tolist():
        chosen = np.flatnonzero(segment == one)
        out[:, chosen] = tracks.locate(one, gid[chosen])
    return out[0], out[1], out[2]


def rows_in(codes: Codes, segment: Ints, gid: Ints) -> tuple[Bytes, Flags]:
    """`Codes.rows` of snippets [n] of any segments [n]."""
    if (segment == segment[:1]).all():  # of one segment, or there are none
        return codes.rows(int(segment[0]) if segment.size else 0, gid)
    if isinstance(codes, CodesOfAll):
        return codes.rows_each(segment, gid)
    order = np.argsort(segment, kind="stable")
    numbers, starts = np.unique(segment[order], return_index=True)
    parts = zip(numbers.tolist(), np.split(gid[order], starts[1:]), strict=True)
    found, present = zip(*(codes.rows(one, part) for one, part in parts), strict=True)
    back = np.argsort(order)
    return np.concatenate(found)[back], np.concatenate(present)[back]


def largest_part(excess: Values) -> tuple[Ints, Ints, Values]:
    """First and last column of the run with the largest sum of each row, and that sum.

    Bentley's maximum-sum scan (CACM 1984). A row with nothing above zero gives its largest value;
    a run begins and ends with a value above zero where there is one.

    >>> [part.tolist() for part in largest_part(np.array([[-1.0, 2.0, -1.0, 3.0, -5.0]]))]
    [[1], [3], [4.0]]
    """
    total = np.cumsum(excess, axis=1)
    before = np.concatenate((np.zeros((len(excess), 1)), total[:, :-1]), axis=1)
    lowest = np.minimum.accumulate(before, axis=1)
    gain = total - lowest
    last = np.argmax(gain, axis=1)
    row = np.arange(len(excess))
    # From behind: columns of nothing before the run are no part of it.
    upto = np.arange(excess.shape[1]) <= last[:, None]
    behind = np.where(upto, before, np.inf)[:, ::-1]
    first = excess.shape[1] - 1 - np.argmin(behind, axis=1)
    return first, last, gain[row, last]


def overlapping(first: Ints, last: Ints, n: int | None = None) -> Flags:
    """Which of the first `n` parts of a query are about the same music as which, [n, p].

    Parts are given by their first and last steps [p]; all of them where `n` is None.

    >>> overlapping(np.array([0, 0, 9]), np.array([9, 4, 20])).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    shared = np.minimum(last[:n, None], last) - np.maximum(first[:n, None], first) + 1
    length = last - first + 1
    return np.asarray(shared > OVERLAP * np.minimum(length[:n, None], length))


def _repeated(places: Places) -> Flags:
    """Which places repeat a stronger one: the same track for the same part of the query."""
    track = places.track
    same = np.triu(track[:, None] == track, k=1)
    same &= overlapping(places.first_step, places.last_step)
    repeated = np.asarray(same.any(axis=0))
    # One that is itself left out hides no other: parts may overlap like links of a chain.
    for at in np.flatnonzero(repeated):
        repeated[at] = (same[:at, at] & ~repeated[:at]).any()
    return repeated
