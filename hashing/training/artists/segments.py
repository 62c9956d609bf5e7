"""Music of known artists as mel spectrograms, and the training sets that are cut from it.

The sets are those of Royo-Letelier et al. (ISMIR 2018): as much of every artist (balanced), few
artists with much and many with little (long-tailed), and such a catalogue balanced afterwards,
either cut down to what most artists have, or with the segments of the others repeated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from hashing.artists.mel_segments import MEL_9S, N_SEGMENTS, cut_segments, linear_starts
from hashing.audio import decode_blocks
from hashing.errors import AudioError, HashbeamError
from hashing.features import FeatureConfig, spectrogram
from hashing.training.artists.tags import Tags
from hashing.training.corpus import cached

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Shape = Literal["balanced", "long-tailed", "cut", "repeated"]

SHAPES: tuple[Shape, ...] = ("balanced", "long-tailed", "cut", "repeated")

# In a long-tailed set the first artist has so many times as much as the last: the paper's 45
# minutes against 1.5.
TAIL = 30.0

# Share of a long-tailed set's artists that have enough to stay where it is cut down: 1,002 of the
# paper's 1,749.
CUT_SHARE = 1002 / 1749

# Of an artist, no fewer segments: an anchor and a positive.
FEWEST = 2


@dataclasses.dataclass(frozen=True)
class ArtistMusic:
    """Spectrograms of tracks, one after another, and whose they are.

    Attributes:
      levels: dB re full scale, float16 [frames of all tracks, bands]; steps of 0.06 dB at most.
      starts: first frame of each track, and the end, [tracks + 1].
      track_ids: of each track.
      artists: number of each track's artist, [tracks].
      names: of the artists.
      tags: of the tracks.
      config: what a segment is.
    """

    levels: npt.NDArray[np.float16]
    starts: Ints
    track_ids: list[str]
    artists: Ints
    names: list[str]
    tags: Tags
    config: FeatureConfig

    def __len__(self) -> int:
        return len(self.track_ids)

    def frames(self, track: int) -> int:
        """Length of a track."""
        return int(self.starts[track + 1] - self.starts[track])

    def cut(self, places: Ints) -> Floats:
        """Segments at (track, first frame) [n, 2], in dB, [n, bands, frames of a segment]."""
        config = self.config
        out = np.empty((len(places), config.n_bands, config.snippet_frames), dtype=np.float32)
        for row, (track, start) in enumerate(places.tolist()):
            whole = self.levels[self.starts[track] : self.starts[track + 1]]
            out[row] = cut_segments(whole, np.array([start]), config)[0]
        return out

    def places(self, track: int, n: int = N_SEGMENTS) -> Ints:
        """At most `n` segments of a track, linearly spaced, as (track, first frame) [m, 2]."""
        starts = linear_starts(self.frames(track), self.config, n)
        return np.column_stack((np.full(len(starts), track), starts))

    def identity(self) -> str:
        """What tells this music from other."""
        parts = [self.track_ids, self.artists.tolist(), self.starts.tolist()]
        text = json.dumps([*parts, self.config.to_json()])
        return hashlib.sha256(text.encode()).hexdigest()


def load_music(
    rows: Sequence[Mapping[str, str]],
    cache: Path,
    config: FeatureConfig = MEL_9S,
    artist_column: str = "artist_id",
) -> ArtistMusic:
    """The spectrograms of a catalogue's tracks, made once and kept on disk.

    Args:
      rows: with ``track_id``, an absolute local ``uri``, `artist_column`, and tags where there are
        any (`Tags.of`). Labels are taken as they are.
      cache: a folder; made when missing. Segments of three and of nine seconds share it.
      config: what a segment is.

    Raises:
      HashbeamError: no track has an artist, or none can be decoded. Tracks that fail are printed
        and left out.
    """
    known = [row for row in rows if row.get(artist_column, "")]
    if not known:
        raise HashbeamError(f"no track has an artist in the column {artist_column}")
    whole = dataclasses.replace(config, snippet_frames=1, snippet_hop=1)

    def levels_of(row: Mapping[str, str]) -> Floats:
        found = spectrogram(decode_blocks(row["uri"], config.sample_rate), config)
        if len(found) < config.n_fft // config.hop_length:
            raise AudioError("too-short", f"{row['uri']} is shorter than a frame")
        return found.ravel()

    kind = json.dumps(["mel", dataclasses.asdict(whole)])
    values, starts, ids = cached(known, levels_of, kind, cache)
    by_id = {row["track_id"]: row for row in known}
    kept = [by_id[track] for track in ids]
    names = sorted({row[artist_column] for row in kept})
    number = {name: i for i, name in enumerate(names)}
    return ArtistMusic(
        levels=values.reshape(-1, config.n_bands),
        starts=starts // config.n_bands,
        track_ids=ids,
        artists=np.array([number[row[artist_column]] for row in kept], dtype=np.int64),
        names=names,
        tags=Tags.of(kept),
        config=config,
    )


@dataclasses.dataclass(frozen=True)
class SetRules:
    """What a training set is.

    Attributes:
      artists: how many; 0 for all there are.
      minutes: of each artist. In a long-tailed set and those made of it, of the first one; the last
        has a thirtieth. Infinite for all there are.
      shape: how the minutes are shared.
    """

    artists: int = 0
    minutes: float = float("inf")
    shape: Shape = "balanced"


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Segments to learn from.

    Attributes:
      places: (track, first frame) of each, [n, 2]; some more than once where they are repeated.
      artists: the set's own number of each segment's artist, [n], from 0 without gaps.
      n_artists: how many artists there are.
    """

    places: Ints
    artists: Ints
    n_artists: int

    def counts(self) -> Ints:
        """Segments of each artist, [n_artists]."""
        return np.bincount(self.artists, minlength=self.n_artists)


def training_set(
    music: ArtistMusic, artists: Sequence[int], rules: SetRules, seed: int
) -> TrainingSet:
    """Cut a training set from the music of some artists.

    Segments do not overlap, are at most ten a track, and are taken from all of an artist's tracks
    in turns. The same seed takes the same artists in the same order: a set with more artists or
    more minutes holds the smaller one.

    Args:
      artists: numbers of those that may be learned from.

    Raises:
      HashbeamError: there are not as many artists with as many minutes.
    """
    seconds = music.config.snippet_hop_s
    asked = rules.minutes * 60.0 / seconds
    rng = np.random.default_rng(seed)
    pools = {int(a): _segments_of(music, int(a), seed) for a in rng.permutation(sorted(artists))}
    order = [artist for artist, pool in pools.items() if len(pool) >= FEWEST]
    n = rules.artists or len(order)
    if rules.shape == "balanced" and np.isfinite(asked):
        order = [artist for artist in order if len(pools[artist]) >= round(asked)]
    if not 2 <= n <= len(order):
        raise HashbeamError(
            f"{n} artists with {rules.minutes:g} minutes each are wanted, {len(order)} are there: "
            "ask for fewer artists or minutes"
        )
    wanted = _wanted(rules.shape, n, asked, [len(pools[artist]) for artist in order[:n]])
    kept = [(pools[artist], count) for artist, count in zip(order, wanted, strict=False) if count]
    parts = [pool[:count] for pool, count in kept]
    if rules.shape == "repeated":
        most = max(len(part) for part in parts)
        parts = [np.resize(part, (most, 2)) for part in parts]
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return TrainingSet(np.concatenate(parts), numbers, len(parts))


def _wanted(shape: Shape, n: int, asked: float, there: Sequence[int]) -> list[int]:
    """Segments of each of `n` artists, 0 for one that is left out."""
    if shape == "balanced":
        return [round(min(asked, count)) for count in there]
    first = min(asked, max(there))
    tail = first * TAIL ** -np.linspace(0.0, 1.0, n)
    long = [max(FEWEST, min(round(t), count)) for t, count in zip(tail, there, strict=True)]
    if shape != "cut":
        return long
    level = sorted(long, reverse=True)[max(2, round(CUT_SHARE * n)) - 1]
    return [level if count >= level else 0 for count in long]


def _segments_of(music: ArtistMusic, artist: int, seed: int) -> Ints:
    """All segments of an artist that do not overlap, [n, 2], one of each track in turns."""
    rng = np.random.default_rng([seed, artist])
    turns: list[tuple[int, int, Ints]] = []
    for track in np.flatnonzero(music.artists == artist).tolist():
        room = music.frames(track) // music.config.snippet_frames
        if not room:
            continue
        places = rng.permutation(music.places(track, min(room, N_SEGMENTS)))
        order = int(rng.integers(1 << 32))
        turns += [(turn, order, place) for turn, place in enumerate(places)]
    turns.sort(key=lambda one: one[:2])
    return np.array([place for _, _, place in turns], dtype=np.int64).reshape(-1, 2)
