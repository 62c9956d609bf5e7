"""Who is asked: an index with its hasher, opened once and asked with several numbers of probes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.conditions import Floats
from hashing.duplicates import SAME_PLACE, correlation_at
from hashing.encoders import Hasher, QueryCodes
from hashing.errors import AudioError
from hashing.ranking import Codes
from hashing.search import Searcher
from pipelines import io, parquet
from pipelines.evaluation.accuracy import PLACE_TOLERANCE_S, Result
from pipelines.evaluation.questions import SAMPLE_RATE, Question, Tracks
from pipelines.opened import IndexTracks, open_index
from pipelines.versions import Manifest

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Held:
    """A track of an index: where its snippets are, and where its audio was."""

    segment: int
    ordinal: int
    first: int
    uri: str


class CountedCodes:
    """The codes of an index, and which of them have been read since the last `count`."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._read: list[tuple[int, Ints]] = []

    def rows(self, segment: int, gids: Ints) -> tuple[Any, Any]:
        """See `hashing.ranking.Codes`."""
        self._read.append((segment, gids))
        return self._codes.rows(segment, gids)

    def count(self) -> int:
        """Different snippets whose codes were read; the count begins anew."""
        read, self._read = self._read, []
        segments = {segment for segment, _ in read}
        return sum(
            np.unique(np.concatenate([gids for one, gids in read if one == segment])).size
            for segment in segments
        )


class OpenedIndex:
    """An index, ready to be asked questions and to tell what it is.

    Args:
        path: its folder.
        model: name or folder of its model, where that is not a shipped one.
        manifest: of a version, which need not be published; None: the published one.
        hasher: its model, where that is open already.

    Attributes:
        name: what to call it: its model's name, until it is given another.
        searcher, tracks, manifest: as `open_index` gives them.
        held: its tracks by id, without those that were removed.
        snippets: snippets of all its tracks.
    """

    def __init__(
        self,
        path: str,
        model: str | None,
        *,
        manifest: Manifest | None = None,
        hasher: Hasher | None = None,
    ) -> None:
        self.path = path
        opened = open_index(path, model, manifest=manifest, hasher=hasher)
        self.searcher, self.tracks, self.manifest = opened
        self.name = self.searcher.hasher.model.name
        self.snippets = sum(segment.snippets for segment in self.manifest.segments)

    @functools.cached_property
    def held(self) -> dict[str, Held]:
        """Read when it is asked for first."""
        return _held(self.path, self.manifest, self.tracks)

    def id_of(self, segment: int, ordinal: int) -> str:
        """The `track_id` of a track that a search has found."""
        return str(self.tracks.row(segment, ordinal)["track_id"])

    def with_probes(self, probes: int) -> Searcher:
        """The same index, looked up with so many keys a snippet and table, its codes counted."""
        searcher = copy.copy(self.searcher)
        searcher.probes = probes
        searcher.codes = CountedCodes(self.searcher.codes)
        return searcher


@dataclasses.dataclass(frozen=True)
class System:
    """An index and a number of probes; `name` is its name wherever figures are shown."""

    name: str
    index: OpenedIndex
    probes: int
    searcher: Searcher


def systems_of(indexes: Sequence[OpenedIndex], probes: Sequence[int]) -> list[System]:
    """Every index with every number of probes; probes are named where there are several."""
    return [
        System(
            index.name if len(probes) == 1 else f"{index.name}, {n} probe{'s' if n > 1 else ''}",
            index,
            n,
            index.with_probes(n),
        )
        for index in indexes
        for n in probes
    ]


def ask(
    question: Question, systems: Sequence[System], recordings: Mapping[str, str], tracks: Tracks
) -> Iterator[Result]:
    """What each of the systems says; a model hashes the question once for all its probes.

    Args:
        recordings: the recording of each `track_id` of the catalogue and of the indexes.
        tracks: their samples, at `SAMPLE_RATE`.
    """
    hashed: dict[str, tuple[QueryCodes | None, float | None, str]] = {}
    for system in systems:
        index = system.index
        if index.name not in hashed:
            hashed[index.name] = _hash(question, index)
        query, hash_cpu_ms, error = hashed[index.name]
        result = Result(
            condition=question.condition,
            duration_s=question.duration_s,
            wanted=question.source.track_id if question.known else "",
            start_s=question.start_s,
            hash_cpu_ms=hash_cpu_ms,
            error=error,
            query=question.number,
            system=system.name,
            source=question.source.track_id,
        )
        if query is None:
            yield result
            continue
        begin = time.process_time()
        found = system.searcher.search([query], top=1)[0]
        look_up_cpu_ms = (time.process_time() - begin) * 1000
        codes = system.searcher.codes
        compared = codes.count() if isinstance(codes, CountedCodes) else 0
        result = dataclasses.replace(
            result,
            look_up_cpu_ms=look_up_cpu_ms,
            examined=examined(system.searcher, query) / max(1, index.snippets),
            compared=compared / max(1, index.snippets),
        )
        if not found:
            yield result
            continue
        best = found[0]
        answer = index.id_of(best.segment, best.ordinal)
        right = question.known and recordings.get(answer) == question.source.recording
        placed = right and abs(best.offset_s - question.start_s) <= PLACE_TOLERANCE_S
        yield dataclasses.replace(
            result,
            answer=answer,
            score=best.score,
            offset_s=best.offset_s,
            right=right,
            right_place=placed,
            right_audio=placed or (right and same_audio(question, answer, best.offset_s, tracks)),
        )


def examined(searcher: Searcher, query: QueryCodes) -> int:
    """Different snippets of an index that stand in the buckets that a query looks into.

    What Baluja & Covell (IJCAI 2007) call candidates, and Singh et al. ("FlowHash", 2023) the share
    of the database that is evaluated; over all snippets of the query together.
    """
    keys = searcher.hasher.quantizer.probe_keys(query.responses, searcher.key_bits, searcher.probes)
    rows = keys.reshape(-1, searcher.tables.n_tables)
    return sum(
        np.unique(searcher.tables.lookup(segment, rows, searcher.max_bucket).gid).size
        for segment in searcher.tables.segments
    )


def _hash(question: Question, index: OpenedIndex) -> tuple[QueryCodes | None, float | None, str]:
    """The query, the CPU time that it took in ms, and why there is none."""
    if question.error:
        return None, None, question.error
    samples = _resampled(question.heard, index)
    begin = time.process_time()
    try:
        query = index.searcher.hasher.hash_query([samples])
    except AudioError as error:  # silence in the music
        return None, None, error.kind
    return query, (time.process_time() - begin) * 1000, ""


def same_audio(question: Question, answer: str, offset_s: float, tracks: Tracks) -> bool:
    """Whether the track that was answered sounds there as the query did before it was degraded.

    False where it cannot be decoded.
    """
    try:
        there = tracks.samples(answer)
    except AudioError:
        return False
    return correlation_at(question.clean, there, offset_s, SAMPLE_RATE) >= SAME_PLACE


def _resampled(samples: Floats, index: OpenedIndex) -> Floats:
    import soxr

    rate = index.searcher.hasher.features.sample_rate
    resampled: Any = soxr.resample(samples, SAMPLE_RATE, rate)
    return np.asarray(resampled, dtype=np.float32)


def _held(path: str, manifest: Manifest, tracks: IndexTracks) -> dict[str, Held]:
    columns = ["track_id", "ordinal", "gids", "uri"]
    first_parts = {segment.id: segment.first_part for segment in manifest.segments}
    held: dict[str, Held] = {}
    for file, segment, part in manifest.files.tuples("path", "segment", "part", kind="tracks"):
        table = parquet.read_table(io.join(path, file), columns)
        gids = table["gids"].to_numpy().astype(np.int64)
        start = int(tracks.starts[segment][part - first_parts[segment]])
        firsts = start + np.cumsum(gids) - gids
        there, _, _ = tracks.locate(segment, firsts)  # -1 where a track was removed
        rows = zip(
            *(table[name].to_pylist() for name in ("track_id", "ordinal", "uri")),
            firsts.tolist(),
            there.tolist(),
            strict=True,
        )
        for track_id, ordinal, uri, first, found in rows:
            if found >= 0:
                held[track_id] = Held(segment, int(ordinal), first, uri)
    return held
