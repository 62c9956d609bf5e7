"""Music and degraded queries as embeddings of one encoder: what hashers are compared on.

The database holds clean snippets of the whole catalogue, as the graph for tracks embeds them.
Queries are cut from tracks that the encoder has not been trained on, at any sample, degraded with
noise that it has not heard, and embedded by the graph for queries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tqdm
from goal_conditions import CONDITIONS

from hashing.conditions import Condition, Surroundings
from hashing.encoders import Hasher
from hashing.features import spectrogram
from hashing.snippets import snippets
from hashing.training import corpus
from hashing.training.ambience import noise_files, surroundings
from hashing.training.embeddings import dense_embeddings

# Frames between two snippets of a query: half a second.
STEP = 16

# An answer is right where it is no further off than this, seconds: half the hop of an index.
TOLERANCE_S = 0.25

# Or where the music is the same there, as in a loop: cosine of clean embeddings.
SAME_MUSIC = 0.95

# Seconds before a query that a room or a codec has heard.
LEAD_S = 0.5


@dataclasses.dataclass(frozen=True)
class Music:
    """The database: clean snippets, `hop` frames apart.

    Attributes:
      embeddings: [N, d] of length one.
      track, frame: of each, [N].
      recording: [tracks], equal for tracks that are one recording.
      unheard: [tracks], whether the encoder has not been trained on it.
    """

    embeddings: np.ndarray
    track: np.ndarray
    frame: np.ndarray
    recording: np.ndarray
    unheard: np.ndarray
    hop: int


@dataclasses.dataclass(frozen=True)
class Queries:
    """Degraded excerpts of unheard music.

    Attributes:
      embeddings: [Q, steps, d] of their snippets, `STEP` frames apart.
      cuts: [Q, steps, bands, frames], the snippets themselves in dB.
      track, frame: where each begins, [Q]; frames with a fraction.
      condition: number of its condition, [Q].
    """

    embeddings: np.ndarray
    cuts: np.ndarray
    track: np.ndarray
    frame: np.ndarray
    condition: np.ndarray


class Bench:
    """A catalogue, its database, and queries from it.

    Args:
      rows: of the catalogue, with ``track_id`` and ``uri``.
      hasher: whose embeddings are compared.
      work: a folder for the decoded music.
      hop: frames between two snippets of the database.
      same: column whose equal values are one recording.
    """

    def __init__(
        self, rows: Sequence[Mapping[str, str]], hasher: Hasher, work: Path, hop: int, same: str
    ) -> None:
        self.hasher, self.features = hasher, hasher.features
        self.corpus = corpus.load(rows, self.features.sample_rate, work)
        by_id = {row["track_id"]: row for row in rows}
        names = [by_id[track].get(same, "") or track for track in self.corpus.track_ids]
        held_out = set(hasher.config["training"]["tracks_held_out"])
        unheard = np.array([track in held_out for track in self.corpus.track_ids])
        dense = dense_embeddings(
            hasher.respond_in_track, self.features, self.corpus, range(len(self.corpus)), hop
        )
        self.music = Music(
            dense.embeddings.astype(np.float32),
            dense.track,
            dense.frame,
            np.unique(names, return_inverse=True)[1],
            unheard,
            hop,
        )

    def training(self) -> np.ndarray:
        """Embeddings of the music that the encoder knows, at the hop of an index: to fit to."""
        music = self.music
        known = ~music.unheard[music.track] & (music.frame % self.features.snippet_hop == 0)
        return music.embeddings[known]

    def first_track(self) -> tuple[np.ndarray, np.ndarray]:
        """Spectrogram of the first track of the database, and its snippets' first frames."""
        track = int(self.music.track[0])
        spec = spectrogram([self.corpus.track(track)], self.features)
        return spec, self.music.frame[self.music.track == track]

    def cuts(self) -> Iterator[np.ndarray]:
        """All snippets of the database in its order, track by track, [n, bands, frames]."""
        for track in tqdm.tqdm(np.unique(self.music.track).tolist(), desc="hash", mininterval=5.0):
            spec = spectrogram([self.corpus.track(track)], self.features)
            yield snippets(spec, self.features, self.music.hop)[0]

    def queries(
        self, n: int, steps: int, noise: Sequence[Path], rooms: Sequence[Path], seed: int
    ) -> Queries:
        """`n` queries of `steps` snippets, conditions in turns; none that is silent."""
        rng = np.random.default_rng([seed, 0xBE])
        rate, features = self.corpus.sample_rate, self.features
        story = self.hasher.config["training"]
        kept_apart = set(story["noise_held_out"])
        every = [path for part in noise_files(noise) for path in part]
        air: Surroundings = surroundings(
            [path for path in every if path.name in kept_apart] if kept_apart else every,
            rooms,
            rate,
        )
        conditions = [Condition.parse(name) for name in CONDITIONS]
        needed = features.snippet_samples + (steps - 1) * STEP * features.hop_length
        lead = int(LEAD_S * rate)
        tracks = np.flatnonzero(self.music.unheard)
        room = np.maximum(np.diff(self.corpus.starts)[tracks] - needed + 1, 0)
        cuts, at, frames, which = [], [], [], []
        bar = tqdm.tqdm(total=n, desc="degrade queries", mininterval=5.0)
        while len(cuts) < n:
            track = int(rng.choice(tracks, p=room / room.sum()))
            first = int(rng.integers(self.corpus.starts[track + 1] - self.corpus.starts[track]))
            if first + needed > self.corpus.starts[track + 1] - self.corpus.starts[track]:
                continue
            number = len(cuts) % len(conditions)
            audio = self.corpus.excerpt(track, first - lead, lead + needed)
            heard = air.degrade(audio, conditions[number], rng)[lead : lead + needed]
            clean = snippets(spectrogram([audio[lead:]], features), features, STEP)[0]
            cut = snippets(spectrogram([heard], features), features, STEP)[0]
            if len(cut) < steps or len(clean) < steps:
                continue
            cuts.append(cut[:steps])
            at.append(track)
            frames.append(first / features.hop_length)
            which.append(number)
            bar.update()
        bar.close()
        stacked = np.stack(cuts)
        flat = stacked.reshape(-1, *stacked.shape[2:])
        answer = self.hasher.respond(flat)
        return Queries(
            answer.embeddings.reshape(n, steps, -1),
            stacked,
            np.array(at),
            np.array(frames),
            np.array(which),
        )


class Truth:
    """Which answers to queries are right."""

    def __init__(self, music: Music, queries: Queries, frame_s: float) -> None:
        self.music, self.queries = music, queries
        self.tolerance = TOLERANCE_S / frame_s
        # The item that is nearest to the beginning of each query.
        first = np.searchsorted(music.track, queries.track)
        last = np.searchsorted(music.track, queries.track, side="right")
        self.nearest = np.array(
            [
                a + np.abs(music.frame[a:b] - frame).argmin()
                for a, b, frame in zip(first, last, queries.frame, strict=True)
            ]
        )

    def right(self, items: np.ndarray) -> np.ndarray:
        """Whether `items` [Q], where each query begins, are right; -1 is no answer."""
        music, queries = self.music, self.queries
        found = np.maximum(items, 0)
        same = music.recording[music.track[found]] == music.recording[queries.track]
        near = np.abs(music.frame[found] - queries.frame) <= self.tolerance
        alike = np.einsum("ij,ij->i", music.embeddings[found], music.embeddings[self.nearest])
        return (items >= 0) & same & (near | (alike >= SAME_MUSIC))
