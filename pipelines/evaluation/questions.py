"""Questions whose answer is known: cut from tracks and degraded, once for all who are asked."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from hashing.audio import decode
from hashing.conditions import Condition, Floats, Surroundings
from hashing.decoder import Decoder
from hashing.errors import AudioError, HashbeamError
from pipelines.allowed import allowed_now

# Rate at which queries are cut and degraded, Hz: above what any hasher hears, so that codecs and
# rooms work as they do in the world.
SAMPLE_RATE = 24_000

# Music around a query that its room has heard before it begins, seconds.
LEAD_S = 0.5

# Decoded tracks that are kept: those of a pair that shares audio are met again and again. Six
# tracks of five minutes at 24 kHz are 173 MB.
KEPT_TRACKS = 6

# The condition that leaves samples as they are: the same samples are in the index.
VERBATIM = "clean"


@dataclasses.dataclass(frozen=True)
class Source:
    """A track that queries are cut from; tracks of one `recording` are the same answer."""

    track_id: str
    uri: str
    recording: str


@dataclasses.dataclass(frozen=True)
class Question:
    """A query, before any hasher hears it.

    Attributes:
        number: counted through, the same for all who are asked.
        source: the track it was cut from.
        known: whether the indexes hold that track.
        condition, duration_s: how it was degraded, and how long it is.
        start_s: where in the track it starts.
        heard, clean: its samples at `SAMPLE_RATE`, degraded and as they were.
        error: why there are no samples.
    """

    number: int
    source: Source
    known: bool
    condition: str
    duration_s: float
    start_s: float
    heard: Floats
    clean: Floats
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Questions:
    """What is asked.

    Attributes:
        durations: of the queries, seconds.
        conditions: how they are degraded; every duration under every condition.
        places: how many random places they are cut from, in tracks that the index holds.
        negatives: the same in tracks that it does not hold.
        surroundings: noises and rooms, at `SAMPLE_RATE`.
        seed: of places, noises and rooms: the same gives the same queries, and what becomes of one
            place has no influence on the next.
    """

    durations: Sequence[float]
    conditions: Sequence[Condition]
    places: int
    negatives: int
    surroundings: Surroundings
    seed: int

    @classmethod
    def prepare(
        cls,
        durations: Sequence[float],
        conditions: Sequence[Condition],
        places: int,
        negatives: int,
        noise: Sequence[str],
        rooms: Sequence[str],
        seed: int,
    ) -> Questions:
        """Reads the recordings in the folders `noise` and `rooms`.

        Raises: HashbeamError where nothing in them can be decoded.
        """
        air = Surroundings(SAMPLE_RATE, read_recordings(noise), read_recordings(rooms))
        return cls(durations, conditions, places, negatives, air, seed)

    def cut(
        self,
        inside: Sequence[Source],
        outside: Sequence[Source],
        tracks: Tracks,
        *,
        show: bool,
    ) -> Iterator[Question]:
        """All questions, place after place; one that has no samples says why.

        Args:
            inside: tracks that the indexes hold, at least one.
            outside: tracks that they do not hold.
            tracks: their samples, at `SAMPLE_RATE`.
            show: a progress bar on stderr.
        """
        from tqdm import tqdm

        rng = np.random.default_rng(self.seed)
        plan = [(inside[i], True) for i in draw(len(inside), self.places, rng)]
        if outside:
            plan += [(outside[i], False) for i in draw(len(outside), self.negatives, rng)]
        number = 0
        bar = tqdm(plan, desc="places", disable=not show, file=sys.stderr)
        for place, (source, known) in enumerate(bar):
            own = np.random.default_rng([self.seed, place])
            for question in self._at_one_place(source, tracks, own):
                yield dataclasses.replace(question, number=number, known=known)
                number += 1

    def _at_one_place(
        self, source: Source, tracks: Tracks, rng: np.random.Generator
    ) -> Iterator[Question]:
        """Queries of every duration and condition from one place on: one decoding serves all."""
        kinds = [(seconds, one) for seconds in self.durations for one in self.conditions]
        nothing = np.empty(0, dtype=np.float32)
        try:
            audio = tracks.samples(source.track_id)
        except AudioError as error:
            for seconds, condition in kinds:
                yield Question(
                    0, source, False, condition.name, seconds, 0.0, nothing, nothing, error.kind
                )
            return
        last = max(0, audio.size - int(max(self.durations) * SAMPLE_RATE))
        first = int(rng.integers(last + 1))
        lead = min(first, int(LEAD_S * SAMPLE_RATE))
        for seconds, condition in kinds:
            cut = audio[first - lead : first + int(seconds * SAMPLE_RATE)]
            heard = self.surroundings.degrade(cut, condition, rng)[lead:]
            start_s = first / SAMPLE_RATE
            yield Question(0, source, False, condition.name, seconds, start_s, heard, cut[lead:])


class Tracks:
    """Samples of tracks, decoded when they are asked for; the last few are kept.

    Args:
        uris: where each track is.
        sample_rate: Hz.
        decoder: decodes what strangers made.
    """

    def __init__(self, uris: Mapping[str, str], sample_rate: int, decoder: Decoder) -> None:
        self._uris = uris
        self._rate = sample_rate
        self._decoder = decoder
        self.samples = functools.lru_cache(KEPT_TRACKS)(self._decode)

    def _decode(self, track_id: str) -> Floats:
        """All samples of a track; raises `AudioError`, also where it cannot be fetched."""
        try:
            with allowed_now().local_copy(self._uris[track_id]) as path:
                blocks = list(self._decoder.blocks(path, self._rate))
        except AudioError:
            raise
        except HashbeamError as error:
            raise AudioError("unreadable", str(error)) from None
        return np.concatenate([np.empty(0, dtype=np.float32), *blocks], dtype=np.float32)


def read_recordings(folders: Sequence[str]) -> list[Floats]:
    """Everything in some folders that can be decoded, at `SAMPLE_RATE`.

    Raises: HashbeamError where folders are named and nothing in them can be decoded.
    """
    found = []
    for folder in folders:
        for path in sorted(Path(folder).iterdir()):
            try:
                found.append(decode(str(path), SAMPLE_RATE))
            except AudioError:
                continue  # a list of licences beside the recordings
    if folders and not found:
        raise HashbeamError(f"{', '.join(folders)}: no recording could be decoded")
    return found


def draw(n: int, wanted: int, rng: np.random.Generator) -> list[int]:
    """`wanted` numbers below `n`, each about as often as any other, in random order.

    >>> sorted(draw(3, 6, np.random.default_rng(1)))
    [0, 0, 1, 1, 2, 2]
    """
    rounds = [rng.permutation(n) for _ in range(-(-wanted // n))]
    return [int(i) for i in np.concatenate(rounds)[:wanted]]


def leave_out(groups: Sequence[str], share: float, seed: int) -> list[int]:
    """Numbers of the tracks to leave out of an index, rising; a group goes as a whole.

    Groups are drawn by chance, and those that would make more than `share` of all tracks are passed
    over: a group larger than that always stays.

    Args:
        groups: of each track.
        share: of the tracks, 0 to 1.

    >>> leave_out(["a", "a", "a", "b", "c"], 0.4, seed=1)
    [3, 4]
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    order = list(members)
    wanted = int(share * len(groups) + 1e-9)
    chosen: list[int] = []
    for at in np.random.default_rng(seed).permutation(len(order)).tolist():
        group_members = members[order[at]]
        if len(chosen) + len(group_members) <= wanted:
            chosen += group_members
    return sorted(chosen)
