"""Questions whose answer is known: cut from tracks, degraded, and put to an index."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hashing.audio import decode
from hashing.conditions import Condition, Floats, Surroundings
from hashing.decoder import Decoder
from hashing.encoders import QueryCodes
from hashing.errors import AudioError, HashbeamError
from hashing.search import Searcher
from pipelines import io
from pipelines.accuracy import PLACE_TOLERANCE_S, Result
from pipelines.opened import IndexTracks

# Rate at which queries are cut and degraded, Hz: above what any hasher hears, so that codecs and
# rooms work as they do in the world.
SAMPLE_RATE = 24_000

# Music around a query that its room has heard before it begins, seconds.
LEAD_S = 0.5


@dataclasses.dataclass(frozen=True)
class Source:
    """A track that queries are cut from; tracks of one `recording` are the same answer."""

    track_id: str
    uri: str
    recording: str


@dataclasses.dataclass(frozen=True)
class Questions:
    """What is asked.

    Attributes:
        durations: of the queries, seconds.
        conditions: how they are degraded; every duration under every condition.
        places: how many random places they are cut from, in tracks that the index holds, and as
            many in tracks that it does not.
        surroundings: noises and rooms, at `SAMPLE_RATE`.
        seed: of places, noises and rooms: the same gives the same queries.
    """

    durations: Sequence[float]
    conditions: Sequence[Condition]
    places: int
    surroundings: Surroundings
    seed: int

    @classmethod
    def prepare(
        cls,
        durations: Sequence[float],
        conditions: Sequence[Condition],
        places: int,
        noise: Sequence[str],
        rooms: Sequence[str],
        seed: int,
    ) -> Questions:
        """Reads the recordings in the folders `noise` and `rooms`.

        Raises: HashbeamError where nothing in them can be decoded.
        """
        air = Surroundings(SAMPLE_RATE, read_recordings(noise), read_recordings(rooms))
        return cls(durations, conditions, places, air, seed)

    def ask(
        self,
        searcher: Searcher,
        tracks: IndexTracks,
        inside: Sequence[Source],
        outside: Sequence[Source],
        recordings: dict[str, str],
        *,
        show: bool,
    ) -> Iterator[Result]:
        """Ask, place after place; also what could not be asked is a result.

        Args:
            searcher, tracks: an open index.
            inside: tracks that it holds, at least one.
            outside: tracks that it does not hold.
            recordings: the recording of each `track_id` of the catalogue.
            show: a progress bar on stderr.
        """
        from tqdm import tqdm

        rng = np.random.default_rng(self.seed)
        plan = [(inside[i], True) for i in draw(len(inside), self.places, rng)]
        if outside:
            plan += [(outside[i], False) for i in draw(len(outside), self.places, rng)]
        with Decoder() as decoder:
            for source, known in tqdm(plan, desc="places", disable=not show, file=sys.stderr):
                wanted = source.track_id if known else ""
                for asked, query in self._cut(source, searcher, decoder, rng):
                    result = dataclasses.replace(asked, wanted=wanted)
                    if query is None:
                        yield result
                        continue
                    begin = time.process_time()
                    found = searcher.search([query], top=1)[0]
                    cpu_ms = (time.process_time() - begin) * 1000
                    result = dataclasses.replace(result, cpu_ms=cpu_ms)
                    if not found:
                        yield result
                        continue
                    best = found[0]
                    answer = tracks.row(best.segment, best.ordinal)["track_id"]
                    right = known and recordings.get(answer) == source.recording
                    placed = abs(best.offset_s - asked.start_s) <= PLACE_TOLERANCE_S
                    yield dataclasses.replace(
                        result,
                        answer=answer,
                        score=best.score,
                        offset_s=best.offset_s,
                        right=right,
                        right_place=right and placed,
                    )

    def _cut(
        self, source: Source, searcher: Searcher, decoder: Decoder, rng: np.random.Generator
    ) -> Iterator[tuple[Result, QueryCodes | None]]:
        """Queries of every duration and condition from one place on: one decoding serves all."""
        kinds = [(seconds, one) for seconds in self.durations for one in self.conditions]
        try:
            with io.local_copy(source.uri) as path:
                audio = np.concatenate(list(decoder.blocks(path, SAMPLE_RATE)))
        except HashbeamError as error:
            kind = error.kind if isinstance(error, AudioError) else "unreadable"
            for seconds, condition in kinds:
                yield Result(condition.name, seconds, "", 0.0, error=kind), None
            return
        last = max(0, audio.size - int(max(self.durations) * SAMPLE_RATE))
        first = int(rng.integers(last + 1))
        lead = min(first, int(LEAD_S * SAMPLE_RATE))
        for seconds, condition in kinds:
            asked = Result(condition.name, seconds, "", first / SAMPLE_RATE)
            cut = audio[first - lead : first + int(seconds * SAMPLE_RATE)]
            heard = self.surroundings.degrade(cut, condition, rng)[lead:]
            try:
                yield asked, hash_samples(heard, searcher)
            except AudioError as error:  # silence in the music
                yield dataclasses.replace(asked, error=error.kind), None


def hash_samples(samples: Floats, searcher: Searcher) -> QueryCodes:
    """A query from samples at `SAMPLE_RATE`; raises `AudioError`."""
    import soxr

    rate = searcher.hasher.features.sample_rate
    resampled: Any = soxr.resample(samples, SAMPLE_RATE, rate)
    return searcher.hasher.hash_query([resampled])


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
