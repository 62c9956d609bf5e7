"""Tracks that share audio: found with the index, believed on the samples.

Catalogues hold a piece under several names, with another beginning, a voice over it, or a little
faster, and rows that should say so do not. A query from one such track is rightly answered with the
other, and a figure that calls this a mistake measures the catalogue. So clean excerpts of every
track are looked up in the index: where another track is nearly as near to an excerpt as the track
itself, the samples of the two places are compared. That keeps a hasher from being its own judge: to
one of them, quiet drones are all alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from hashing.encoders import Hasher, QueryCodes
from hashing.errors import AudioError
from hashing.matrix import as_rows
from hashing.search import Searcher

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Key = TypeVar("Key", bound=Hashable)

# Excerpts and how far apart they begin, seconds: all of a track is looked up once. Five seconds are
# enough to be found among any number of tracks. A shared part of twice that holds a whole excerpt
# wherever it begins; a shorter one is found where it happens to.
EXCERPT_S = 5.0

# Of an excerpt's snippets, the share that another place must be compared with.
COVERED = 0.8

# Answers to an excerpt that are looked at: the track itself, and as many copies of it.
ANSWERS = 4

# Share of its own similarity from which on another place is compared by its samples, and the
# correlation of the samples that makes it the same audio. On 427 game tracks, 19 of the 31 pairs
# above this nearness correlate by 0.66 or more and 12 by 0.44 or less; those are retold in another
# tempo, or are drones.
NEAR = 0.7
CORRELATED = 0.5

# Or, whatever the samples say, the share of its own similarity in how much of a track: music that
# was copied at another pitch or tempo is as near as this from end to end. On the same tracks, half
# of the excerpts or more were in all seven pairs of this kind, and at most a tenth in any other.
ALIKE = 0.8
WIDELY = 0.5
LEAST_WIDELY = 3

# Places of a pair of tracks whose samples are compared, the nearest first.
COMPARED_PLACES = 3

# Seconds by which the places that a look-up gives may be off.
LAG_S = 0.5

# Correlation with which a place other than the one asked for is the same audio: half of the energy
# is common to both. Of 852 such answers on held-out game music, 763 are above it: loops.
SAME_PLACE = 0.7


@dataclasses.dataclass(frozen=True)
class Shared(Generic[Key]):
    """Two tracks that share audio.

    Attributes:
      one: the track that was looked up.
      other: a track of the index.
      start_s, other_start_s: where in each of them they are nearest, seconds.
      nearness: similarity there, as a share of the similarity of the excerpt to itself.
      correlation: of their samples there, 0 to 1; see `correlation`.
      excerpts: of `one` that are as near to `other` as `ALIKE`.
      tried: excerpts of `one`.
    """

    one: Key
    other: Key
    start_s: float
    other_start_s: float
    nearness: float
    correlation: float
    excerpts: int
    tried: int


@dataclasses.dataclass(frozen=True)
class _Hit:
    """An excerpt that is near to another place."""

    start_s: float
    other_start_s: float
    nearness: float


def find_shared(
    searcher: Searcher,
    keys: Iterable[Key],
    audio: Callable[[Key], Floats],
    named: Callable[[int, int], Key],
) -> Iterator[Shared[Key]]:
    """Which of the tracks `keys` share audio with which tracks of an index.

    Args:
      searcher: the index.
      keys: tracks, in the index or not.
      audio: samples of a track at the hasher's rate. A track for which it raises `AudioError`
        shares nothing that could be believed.
      named: the key of a track of the index by its segment and ordinal.

    >>> from hashing.memory_index import memory_searcher
    >>> from hashing.synthesis import render_track
    >>> hasher = Hasher.load()
    >>> songs = {seed: render_track(seed, 12.0, 8000) for seed in (1, 2, 3)}
    >>> songs[2][:48000] = songs[1][32000:80000]
    >>> searcher = memory_searcher(hasher, [hasher.hash_track([songs[k]]) for k in (1, 3)], 12)
    >>> [(pair.one, pair.other) for pair in find_shared(
    ...     searcher, [2, 3], songs.__getitem__, lambda segment, ordinal: (1, 3)[ordinal])]
    [(2, 1)]
    """
    for one in keys:
        try:
            samples = audio(one)
        except AudioError:
            continue
        tried, found = _near(searcher, samples)
        for place, hits in found.items():
            other = named(*place)
            if other == one:
                continue
            hits.sort(key=lambda hit: -hit.nearness)
            agreeing = sum(hit.nearness >= ALIKE for hit in hits)
            widely = agreeing >= max(LEAST_WIDELY, WIDELY * tried)
            best, highest = _most_correlated(searcher.hasher, samples, other, hits, audio)
            if highest >= CORRELATED or widely:
                yield Shared(
                    one,
                    other,
                    best.start_s,
                    best.other_start_s,
                    best.nearness,
                    highest,
                    agreeing,
                    tried,
                )


def join(names: Mapping[Key, str], pairs: Iterable[Shared[Key]]) -> dict[Key, str]:
    """Names of recordings, those of tracks that share audio made one: the first in the alphabet.

    Tracks are joined through others as well (union-find: Tarjan, JACM 1975).

    Args:
      names: of every track that a pair may tell of; tracks of one name are one recording already.

    >>> pair = Shared("a", "c", 0.0, 0.0, 1.0, 1.0, 1, 1)
    >>> join({"a": "x", "b": "x", "c": "y", "d": "z"}, [pair])
    {'a': 'x', 'b': 'x', 'c': 'x', 'd': 'z'}
    """
    parent = {name: name for name in names.values()}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pair in pairs:
        first, second = sorted((root(names[pair.one]), root(names[pair.other])))
        parent[second] = first
    return {key: root(name) for key, name in names.items()}


def correlation(one: Floats, other: Floats) -> float:
    """How alike the samples of `one` are to the part of `other` that is most like it, 0 to 1.

    The largest normalised cross-correlation over all shifts of `one` within the longer `other`, of
    the samples or of their differences, which weigh treble as bass: a loud bass line of its own
    hides what the two have in common in one of them, hardly in both. A copy at another level or
    in another format is near 1; music that has been played again is near 0.

    >>> noise = np.random.default_rng(1).standard_normal(4000).astype(np.float32)
    >>> round(correlation(-0.1 * noise[500:3500], noise), 3)
    1.0
    >>> correlation(noise[:1000], noise[1500:3500]) < 0.2
    True
    """
    return max(_correlation(one, other), _correlation(np.diff(one), np.diff(other)))


def _correlation(one: Floats, other: Floats) -> float:
    import scipy.fft

    shifts = other.size - one.size + 1
    if shifts < 1 or not one.size:
        return 0.0
    n = scipy.fft.next_fast_len(other.size, real=True)
    # Circular, but the first `shifts` values are of shifts that do not wrap.
    product = scipy.fft.rfft(other, n) * np.conj(scipy.fft.rfft(one, n))
    together = np.abs(scipy.fft.irfft(product, n)[:shifts])
    energy = np.concatenate(([0.0], np.cumsum(np.square(other, dtype=np.float64))))
    # Silence has no direction: the floor keeps rounding from being taken for one.
    floor = 1e-6 * (float(energy[-1]) + 1e-12)
    lengths = np.sqrt(np.maximum(energy[one.size :] - energy[:shifts], floor))
    own = float(np.sqrt(np.sum(np.square(one, dtype=np.float64))))
    return float(min(1.0, (together / lengths).max() / own)) if own > 0.0 else 0.0


def correlation_at(excerpt: Floats, other: Floats, start_s: float, rate: int) -> float:
    """`correlation` of an excerpt with another track, at most `LAG_S` from one place of it.

    Args:
      excerpt, other: samples at `rate`.
      start_s: where in the other track the excerpt may begin, seconds; what lies outside the track
        is silence.

    >>> noise = np.random.default_rng(1).standard_normal(4000).astype(np.float32)
    >>> round(correlation_at(noise[1000:2000], noise, 1.2, rate=1000), 3)
    1.0
    """
    low = int((start_s - LAG_S) * rate)
    high = low + excerpt.size + int(2 * LAG_S * rate)
    there = np.zeros(high - low, dtype=np.float32)
    inside = other[max(0, low) : max(0, high)]
    there[max(0, -low) : max(0, -low) + inside.size] = inside
    return correlation(excerpt, there)


def _near(searcher: Searcher, samples: Floats) -> tuple[int, dict[tuple[int, int], list[_Hit]]]:
    """How many excerpts were looked up, and what is near to them, by segment and ordinal."""
    hasher = searcher.hasher
    queries, own, snippets, starts_s = [], [], [], []
    for start_s, excerpt in _excerpts(samples, hasher.features.sample_rate):
        try:
            query = hasher.hash_query([excerpt])
            similarity, n = _own_similarity(searcher, query, excerpt)
        except AudioError:
            continue  # silence, or a track too short to tell anything
        queries.append(query)
        own.append(similarity)
        snippets.append(n)
        starts_s.append(start_s)
    found: dict[tuple[int, int], list[_Hit]] = {}
    for number, matches in enumerate(searcher.search(queries, top=ANSWERS)):
        best: dict[tuple[int, int], _Hit] = {}
        for match in matches:
            nearness = float(match.evidence.similarity) / max(own[number], 1e-6)
            enough = match.evidence.snippets >= COVERED * snippets[number]
            place = (match.segment, match.ordinal)
            if nearness >= NEAR and enough and place not in best:
                best[place] = _Hit(starts_s[number], match.offset_s, nearness)
        for place, hit in best.items():
            found.setdefault(place, []).append(hit)
    return len(queries), found


def _excerpts(samples: Floats, rate: int) -> Iterator[tuple[float, Floats]]:
    """Where excerpts begin, seconds, and their samples: side by side, the last at the end."""
    length = int(EXCERPT_S * rate)
    last = max(0, samples.size - length)
    for first in [*range(0, last, length), last]:
        yield first / rate, samples[first : first + length]


def _own_similarity(searcher: Searcher, query: QueryCodes, excerpt: Floats) -> tuple[float, int]:
    """Similarity of a clean excerpt to its own codes, and how many an index would hold of it."""
    hasher = searcher.hasher
    track = hasher.hash_track([excerpt], embeddings=searcher.embeddings)
    frames = track.snippet.astype(np.int64) * hasher.features.snippet_hop
    # The query's snippet that begins nearest: the two grids may be a part of a step apart.
    row = np.abs(frames[:, None] - query.start_frame).argmin(axis=1)
    codes = track.codes if track.embeddings is None else as_rows(track.embeddings)
    return float(searcher.comparison(query)(row, codes).mean()), row.size


def _most_correlated(
    hasher: Hasher, samples: Floats, other: Key, hits: list[_Hit], audio: Callable[[Key], Floats]
) -> tuple[_Hit, float]:
    """The place where the samples agree most, and how much; 0 where there are none to compare."""
    try:
        others = audio(other)
    except AudioError:
        return hits[0], 0.0
    rate = hasher.features.sample_rate
    found = []
    for hit in hits[:COMPARED_PLACES]:
        first = int(hit.start_s * rate)
        excerpt = samples[first : first + int(EXCERPT_S * rate)]
        found.append((hit, correlation_at(excerpt, others, hit.other_start_s, rate)))
        if found[-1][1] >= CORRELATED:
            break
    return max(found, key=lambda pair: pair[1])
