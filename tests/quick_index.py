"""Indexes that are made in milliseconds: no audio, no Beam, no other process.

Everything of ``hashbeam index`` and ``hashbeam reindex`` is what it is, but for two things: a track
is a file of a few bytes, of which `QuickDecoder` makes codes that look like random ones; and a
pipeline that consists of one `IndexJob` is carried out by plain calls, one piece of work after the
other (`run_at_once`). Tests of sequences of runs, and of runs that are killed, use it like this::

    with quick_jobs(model):                                # the model's folder: `quick_model`
        (folder / "a.song").write_bytes(song(1, 7))
        catalog = write_catalog(folder / "c.csv", [{"track_id": "a", "uri": "a.song"}])
        build(catalog, index, model)                       # hashbeam index
        update(catalog, index)                             # hashbeam reindex: nothing has changed
        assert contents(index).codes.keys() == {"a"}

The steps of a job are seen one by one: `quick_jobs(model, before=…)` calls a function with the name
of each piece of work before it is begun, and whatever that raises ends the run there. What stands
for the end of the process is `Killed`, for instance in `QuickJobs.killed_after`.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_fixture import random_model
from quick_sequences import as_bytes, sequence_of

from hashing.artists.decoder import HeardTrack
from hashing.artists.encoder import TrackEmbedding
from hashing.artists.measures import MEASURES
from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.errors import AudioError
from hashing.search import Searcher
from pipelines import io, parquet
from pipelines.also import ALSO
from pipelines.also_files import FILES
from pipelines.gates import NO_GATES
from pipelines.index import build_index
from pipelines.index_job import IndexJob
from pipelines.index_options import IndexOptions
from pipelines.kept import KeptTracks
from pipelines.live import removed_ordinals
from pipelines.opened import IndexTracks, open_index
from pipelines.part_files import part_name
from pipelines.parts import hash_part
from pipelines.reindexing.begin import ReindexOptions
from pipelines.reindexing.edits import edit_name, edit_rows
from pipelines.reindexing.run import Result, reindex
from pipelines.summary import Summary
from pipelines.tables import BuildTables
from pipelines.versions import FileEntry, Manifest, open_manifest

BITS, TABLES = 64, 2
KEY_BITS = 24  # so long that nothing is hit by chance: answers depend on what there is alone
RIFF_SNIPPETS = 3  # that a track has in common with those of the same riff

Row = Mapping[str, str]


def quick_model(folder: Path) -> Path:
    """The folder of a small model, made there."""
    random_model(folder, bits=BITS, n_tables=TABLES)
    return folder


def song(riff: int, number: int, mute: bool = False) -> bytes:
    """The file of a track: it begins as all tracks of the same riff do, and goes on by itself.

    A mute one gets codes, but neither artist embedding nor hash sequence.
    """
    return b"%d %d%s" % (riff, number, b" mute" if mute else b"")


def broken(number: int) -> bytes:
    """A file that cannot be decoded."""
    return b"broken %d" % number


def codes_of(data: bytes, code_bytes: int = BITS // 8) -> TrackCodes:
    """The codes that a file's bytes stand for: one of its snippets is silent.

    Raises: AudioError where it is a broken one.
    """
    words = data.split()
    if len(words) < 2 or words[0] == b"broken":
        raise AudioError("unreadable", "it is broken")
    riff, own = _random(b"riff " + words[0]), _random(data)
    codes = [riff.integers(0, 256, (RIFF_SNIPPETS, code_bytes), np.uint8)]
    codes.append(own.integers(0, 256, (int(own.integers(2, 6)), code_bytes), np.uint8))
    number = np.arange(sum(map(len, codes)) + 1, dtype=np.int32)
    snippet = np.delete(number, own.integers(0, len(number)))
    return TrackCodes(np.concatenate(codes), snippet, 0.5 * len(number) + 1.0)


def _random(data: bytes) -> np.random.Generator:
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    return np.random.Generator(np.random.Philox(seed))


class QuickDecoder:
    """Stands for `hashing.listening.ListeningDecoder`; `heard` are the files it was given."""

    pid = None

    def __init__(self) -> None:
        self.heard = list[str]()

    def hash_track(self, path: str, hasher: Hasher, **limits: Any) -> TrackCodes:
        """The codes of a file."""
        self.heard.append(path)
        return codes_of(Path(path).read_bytes(), hasher.quantizer.code_bytes)

    def hash_and_hear(
        self, path: str, hasher: Hasher, encoders: Mapping[str, Any], **limits: Any
    ) -> tuple[TrackCodes, dict[str, Any]]:
        """Codes, and what is asked for beside them or why it is not there."""
        codes, data = self.hash_track(path, hasher), Path(path).read_bytes()
        if data.endswith(b"mute"):
            return codes, {name: AudioError("too-short", "nobody plays") for name in encoders}
        vector = _random(b"artist " + data).random(4, np.float32)
        track = TrackEmbedding(vector, 1, codes.duration_s)
        artist = HeardTrack(track, vector[:1].repeat(len(MEASURES)))
        made = {"artist": artist, "sequence": sequence_of(data)}
        return codes, {name: made[name] for name in encoders}


@dataclasses.dataclass(frozen=True)
class QuickEncoder:
    """Stands for an encoder of any kind: nothing but its model is asked for."""

    model: Any
    digest: str


class _Pipeline:
    """Takes the one step that a job consists of, and keeps it."""

    job: IndexJob

    def __or__(self, named: Any) -> None:
        self.job = named.transform


class Killed(BaseException):
    """Stands for the end of the process."""


def run_at_once(
    build: Callable[[Any], Any],
    hasher: Hasher,
    decoder: Any,
    encoders: Mapping[str, Any] | None = None,
    before: Callable[[str], None] = lambda name: None,
) -> None:
    """Stands for `pipelines.runner.run_pipeline` of an `IndexJob`: one piece after the other.

    Args:
        encoders: of what the job may ask for beside codes, by kind.
        before: as that of `quick_jobs`.
    """
    pipeline = _Pipeline()
    build(pipeline)
    job = pipeline.job
    run, done = job.job.run, job.job.run.receipts()
    for piece in range(run.plan.n_edits):
        if edit_name(piece) not in done:
            before(edit_name(piece))
            edit_rows(run, piece)
    chosen = {name: (encoders or {})[name] for name in job.beside}
    kept, names = KeptTracks(job.job.sources, also=tuple(chosen)), []
    for part in run.plan.parts:
        if part_name(part) not in done:
            before(part_name(part))
            hash_part(job.job, part, hasher, decoder, chosen, kept)
        names.append(part_name(part))
    segments = job._segments(run, names)
    tables = BuildTables(run, job.model, job.quantizer, job.key_bits)
    totals, own = [segment.total for segment in segments], {one.id: [one] for one in segments}
    for segment in segments:
        spilled: dict[int, list[FileEntry]] = {segment.id: []}
        for piece in tables._pieces(segment, totals):
            if piece[1] is None:
                before(piece[0].name)
            number, entry = tables._spill(piece, own)
            spilled[number].append(entry)
        for task in tables._missing(segment, totals, spilled):
            before(task.name)
            tables._build(task, own, spilled)


@dataclasses.dataclass
class QuickJobs:
    """What `quick_jobs` has put in place of Beam and the decoder."""

    hasher: Hasher
    decoder: QuickDecoder
    before: Callable[[str], None]
    encoders: dict[str, QuickEncoder]

    def run(self, build: Callable[[Any], Any], options: object) -> None:
        """As `pipelines.runner.run_pipeline`."""
        run_at_once(build, self.hasher, self.decoder, self.encoders, self.before)

    @contextlib.contextmanager
    def killed_after(self, pieces: int) -> Iterator[None]:
        """Within it, a run is `Killed` that has done so many pieces of work and begins another."""
        left, earlier = iter(range(pieces)), self.before

        def before(name: str) -> None:
            if next(left, None) is None:
                raise Killed(name)

        self.before = before
        try:
            yield
        finally:
            self.before = earlier


@contextlib.contextmanager
def quick_jobs(
    model: Path, before: Callable[[str], None] = lambda name: None
) -> Iterator[QuickJobs]:
    """Within it, jobs on indexes of the model in this folder are carried out at once.

    Args:
        before: is called with the name of each piece of work (``part-00000``, ``edits-00000``,
            ``s000-t00-k0000``) before it is begun.
    """
    hasher = Hasher.load(str(model))
    encoders = {
        name: QuickEncoder(dataclasses.replace(hasher.model, digest=name), name) for name in ALSO
    }
    jobs = QuickJobs(hasher, QuickDecoder(), before, encoders)
    instead = {
        "run_pipeline": jobs.run,
        "find_hasher": lambda manifest, name: hasher,
        "Hasher": types.SimpleNamespace(load=lambda name: hasher),
        "load_kind": lambda name, model: encoders[name],
        "make_pipeline_options": lambda workers, flags: object(),
        "is_local": lambda options: True,
        "choose_key_bits_of": lambda *size: KEY_BITS,
    }
    with pytest.MonkeyPatch.context() as patched:
        for module in [one for name, one in sys.modules.items() if name.startswith("pipelines.")]:
            for name in instead.keys() & vars(module).keys():
                patched.setattr(module, name, instead[name])
        # Reading the versions of packages takes longer than all the rest of a run.
        patched.setattr("pipelines.summary.versions", dict)
        yield jobs


def write_catalog(path: Path, rows: Sequence[Row]) -> Path:
    """A catalogue of these rows, as CSV."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def build(catalog: Path | str, index: Path | str, model: Path, **options: Any) -> Summary:
    """``hashbeam index``, within `quick_jobs`, without gates; `options` are as `IndexOptions`."""
    chosen = {"key_bits": KEY_BITS, "bounds": NO_GATES, "quiet": True, **options}
    return build_index(IndexOptions(str(catalog), str(index), str(model), 1, **chosen))


def update(catalog: Path | str, index: Path | str, **options: Any) -> Result:
    """``hashbeam reindex``, within `quick_jobs`, without gates; `options` as `ReindexOptions`."""
    return reindex(
        ReindexOptions(
            str(catalog), str(index), 1, **{"quiet": True, "bounds": NO_GATES, **options}
        )
    )


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a version holds of its live tracks, whatever segments they are in.

    Attributes:
        rows: track_id → its row of ``tracks/`` without its id and ordinal; what is null left out.
        codes: track_id → snippet number → code.
        artists: track_id → artist embedding.
        sequences: track_id → codes, embeddings and levels of its hash sequence.
        failures: track_id, and the stage where it is live beside, else "" → uri and error.
    """

    rows: dict[str, dict[str, Any]]
    codes: dict[str, dict[int, bytes]]
    artists: dict[str, list[float]]
    sequences: dict[str, tuple[bytes, bytes, bytes]]
    failures: dict[tuple[str, str], tuple[str, str]]


def contents(index: Path | str, manifest: Manifest | None = None) -> Contents:
    """What the published version holds, or another one; each track once, or it is an error."""
    manifest = manifest or open_manifest(str(index))
    found = Contents({}, {}, {}, {}, {})
    paths = {
        (kind, segment, part): path
        for kind, segment, part, path in manifest.files.tuples("kind", "segment", "part", "path")
    }
    for segment in manifest.segments:
        removed = set(removed_ordinals(str(index), segment).tolist())
        for part in range(segment.first_part, segment.first_part + segment.n_parts):
            rows = _rows(index, paths.get(("tracks", segment.id, part)))
            codes = iter(_rows(index, paths.get(("codes", segment.id, part))))
            artists = _rows(index, paths.get(("artist_embeddings", segment.id, part)))
            path = paths.get(("sequences", segment.id, part))
            sequences = FILES["sequence"].open(io.join(str(index), path)) if path else {}.get
            for row in rows:
                own = [next(codes) for _ in range(row["snippets"])]
                track_id = row.pop("track_id")
                assert {code["track_id"] for code in own} == {track_id}
                if row.pop("ordinal") in removed:
                    continue
                assert track_id not in found.rows, f"{track_id} is live twice"
                found.rows[track_id] = {name: v for name, v in row.items() if v is not None}
                found.codes[track_id] = {code["snippet"]: code["code"] for code in own}
                found.artists.update(
                    (track_id, one["embedding"]) for one in artists if one["track_id"] == track_id
                )
                if (sequence := sequences(track_id)) is not None:
                    found.sequences[track_id] = as_bytes(sequence)
            assert next(codes, None) is None
    for (path,) in manifest.files.tuples("path", kind="failures"):
        for row in _rows(index, path):
            stages = [one.stage for one in ALSO.values()]
            key = row["track_id"], row["stage"] if row["stage"] in stages else ""
            assert key not in found.failures, f"{key} failed twice"
            found.failures[key] = row["uri"], row["error"]
    return found


def _rows(index: Path | str, path: str | None) -> list[dict[str, Any]]:
    if path is None:
        return []
    table = parquet.read_table(io.join(str(index), path), small=True)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


# The track, the score, where in it the query starts, and how strongly it fits.
Answer = tuple[str, float, float, float]


class Asker:
    """Asks an index for tracks by stretches of their own codes."""

    def __init__(self, index: Path | str, jobs: QuickJobs) -> None:
        opened: tuple[Searcher, IndexTracks, Manifest] = open_index(str(index), hasher=jobs.hasher)
        self._searcher, self._tracks, _ = opened
        self._hasher = jobs.hasher

    def ask(self, stretches: Sequence[dict[int, bytes]]) -> list[list[Answer]]:
        """All matches of each stretch (snippet number → code), the best first, then by name."""
        found = self._searcher.search([self._query(one) for one in stretches], top=1000)
        return [
            sorted(
                (
                    (
                        self._tracks.row(match.segment, match.ordinal)["track_id"],
                        round(match.score, 9),
                        round(match.offset_s, 6),
                        round(float(match.evidence.strength), 6),
                    )
                    for match in matches
                ),
                key=lambda answer: (-answer[1], -answer[3], answer),
            )
            for matches in found
        ]

    def _query(self, stretch: dict[int, bytes]) -> QueryCodes:
        number = np.array(list(stretch))
        packed = np.frombuffer(b"".join(stretch.values()), np.uint8).reshape(len(stretch), -1)
        bits = np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32) * 2 - 1
        # Bits are not equally sure, so that the keys that are tried are the same each time.
        responses = bits * np.linspace(0.5, 1.0, bits.shape[1], dtype=np.float32)
        features = self._hasher.features
        frames = (number - number[0]) * features.snippet_hop
        seconds = float(frames[-1]) * features.frame_s + 1.0
        return QueryCodes(responses, frames.astype(np.int32), seconds)
