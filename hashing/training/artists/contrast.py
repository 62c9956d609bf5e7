"""A linear map under which tracks of one artist are nearer each other than those of others.

It is learned from the identity by the supervised contrastive loss of Khosla et al. (NeurIPS 2020)
and then multiplied into a model's projection, so that it costs nothing when tracks are heard.
Catalogues are kept apart: what tells one from another, as recordings from what a program plays,
teaches nothing. The gradient is written out; no torch is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Of cosines: as Khosla et al. have it.
TEMPERATURE = 0.1

# Artists of each catalogue in a step, and tracks of each.
ARTISTS_A_STEP, TRACKS_AN_ARTIST = 24, 4

# An artist of fewer tracks has no two that could be drawn together.
LEAST_DRAWN = 2

# Share of a track's segments that it is heard by, at least: tracks are never heard twice alike.
LEAST_HEARD = 0.5

# Deviation of the noise on a track, at most, where its length is about 1.
NOISE = 0.3

# Of the squared distance to the identity: few artists are known, so that little can be learned.
PENALTY = 0.01

# Step of Adam, which falls to zero over the second half of the steps; its two memories, and what
# keeps it from dividing by nothing (Kingma & Ba, ICLR 2015).
RATE, MEMORIES, TINY = 1e-3, (0.9, 0.999), 1e-8


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Tracks as points, one for each segment.

    Attributes:
      segments: [tracks, most, k], zero beyond what a track has.
      counts: segments of each track, at least one, [tracks].
    """

    segments: Doubles
    counts: Ints

    @classmethod
    def of(cls, rows: Floats | Doubles, counts: Ints) -> Tracks:
        """Tracks of `counts` segments each, which are `rows` one after another.

        >>> Tracks.of(np.array([[1.0], [2.0], [6.0]]), np.array([1, 2])).means().tolist()
        [[1.0], [4.0]]
        """
        there = np.arange(counts.max()) < counts[:, None]
        segments = np.zeros((*there.shape, rows.shape[1]))
        segments[there] = rows
        return cls(segments, counts)

    def means(self) -> Doubles:
        """The mean of each track's segments, [tracks, k]."""
        return np.asarray(self.segments.sum(axis=1) / self.counts[:, None])

    def heard(self, places: Ints, rng: np.random.Generator) -> Doubles:
        """Means [n, k] of some of the segments of each of some tracks, `LEAST_HEARD` of them up."""
        counts = self.counts[places]
        share = rng.uniform(LEAST_HEARD, 1.0, len(places))
        wanted = np.maximum(np.rint(counts * share), 1)
        keys = rng.random((len(places), self.segments.shape[1]))
        keys[np.arange(keys.shape[1]) >= counts[:, None]] = 2.0  # not there: after all others
        chosen = keys.argsort(axis=1).argsort(axis=1) < wanted[:, None]
        sums = np.einsum("ns,nsk->nk", chosen.astype(np.float64), self.segments[places])
        return np.asarray(sums / wanted[:, None])


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """What is learned from in one catalogue.

    Attributes:
      tracks: of it.
      artists: of each artist, the places of the tracks, `LEAST_DRAWN` or more.
    """

    tracks: Tracks
    artists: Sequence[Ints]

    def draw(self, rng: np.random.Generator) -> tuple[Doubles, Ints]:
        """Points [n, k] for one step, and the artist of each: a number of this step, [n]."""
        several = min(ARTISTS_A_STEP, len(self.artists))
        places = [
            rng.choice(own, TRACKS_AN_ARTIST, replace=len(own) < TRACKS_AN_ARTIST)
            for own in (self.artists[one] for one in rng.permutation(len(self.artists))[:several])
        ]
        points = self.tracks.heard(np.concatenate(places), rng)
        spread = NOISE / np.sqrt(points.shape[1]) * rng.random((len(points), 1))
        points += spread * rng.standard_normal(points.shape)
        return points, np.repeat(np.arange(several), TRACKS_AN_ARTIST)


def learn_map(catalogues: Sequence[Catalogue], steps: int, seed: int) -> Doubles:
    """The map A [k, k] that is learned in some steps: a point x becomes x Aᵀ of length one.

    Args:
      catalogues: of points whose typical length is 1, of two artists or more each.
      steps: of Adam; none leave the identity.
      seed: the same gives the same map.

    Raises:
      ValueError: no catalogue, or one with fewer artists, or an artist with too few tracks.
    """
    if not catalogues or any(len(one.artists) < 2 for one in catalogues):
        raise ValueError("each catalogue needs two artists to tell apart, and there must be one")
    if any(len(own) < LEAST_DRAWN for one in catalogues for own in one.artists):
        raise ValueError(f"an artist has fewer than {LEAST_DRAWN} tracks to bring together")
    rng = np.random.default_rng(seed)
    identity = np.eye(catalogues[0].tracks.segments.shape[2])
    found, mean, square = identity.copy(), np.zeros_like(identity), np.zeros_like(identity)
    for step in range(1, steps + 1):
        slope = 2.0 * PENALTY * (found - identity)
        for one in catalogues:
            slope += contrast(found, *one.draw(rng))[1]
        mean = MEMORIES[0] * mean + (1.0 - MEMORIES[0]) * slope
        square = MEMORIES[1] * square + (1.0 - MEMORIES[1]) * slope**2
        unbiased = mean / (1.0 - MEMORIES[0] ** step)
        root = np.sqrt(square / (1.0 - MEMORIES[1] ** step))
        rate = RATE * min(1.0, 2.0 * (steps - step + 1) / steps)
        found -= rate * unbiased / (root + TINY)
    return found


def contrast(found: Doubles, points: Doubles, artist: Ints) -> tuple[float, Doubles]:
    """The loss of Khosla et al. (NeurIPS 2020, L_out of eq. 2) of a map, and its slope [k, k].

    Args:
      found: the map, [k, k].
      points: [n, k].
      artist: of each point, [n]; each has two points or more.

    >>> both = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> [round(contrast(np.eye(2), both, np.array(w))[0], 3) for w in ([0, 0, 1, 1], [0, 1, 0, 1])]
    [0.0, 10.0]
    """
    mapped = points @ found.T
    lengths = np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)
    units = mapped / lengths
    logits = units @ units.T / TEMPERATURE
    np.fill_diagonal(logits, -np.inf)  # nobody is compared with itself
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    sums = shares.sum(axis=1, keepdims=True)
    shares /= sums
    own = artist[:, None] == artist
    np.fill_diagonal(own, False)
    wanted = own / own.sum(axis=1, keepdims=True)
    to_own = (np.where(own, logits, 0.0) * wanted).sum(axis=1)
    loss = float(np.mean(np.log(sums[:, 0]) - to_own))
    by_logit = (shares - wanted) / len(points)
    by_unit = (by_logit + by_logit.T) @ units / TEMPERATURE
    # Only what is across a point's direction changes it.
    across = by_unit - units * (units * by_unit).sum(axis=1, keepdims=True)
    return loss, np.asarray((across / lengths).T @ points)
