"""The steps of ``hashbeam match-midi`` without Beam: on sequences that are made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hashing import cqt
from hashing.cascade import CascadeSettings, likeness, nearest
from hashing.cqt import CqtConfig
from hashing.errors import IndexFormatError
from hashing.pruning import bins_of, on_grid
from hashing.sequences import SequenceEncoder, TrackSequence
from pipelines import parquet
from pipelines.matching import run
from pipelines.matching.align import align_pair, ranked
from pipelines.matching.find import read_candidates
from pipelines.matching.job import (
    COUNT,
    GATHER,
    HEAR,
    PRUNE,
    SEARCH,
    MatchJob,
    MatchOptions,
    Task,
    cut,
)
from pipelines.matching.recordings import SequenceFile, read_recordings
from pipelines.sequence_files import Kept, write_sequences

CONFIG = CqtConfig()
SETTINGS = CascadeSettings(share=0.1, least=5, candidates=4, shortest=10)
RECORDINGS, QUERIES = 90, 5


def made_up(seed: int, codes: int = 40) -> TrackSequence:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((int(rng.integers(1, 5)), 128)) + 0.5
    levels = rng.uniform(-60, 0, (codes * 8, 48)).astype(np.float32)
    return TrackSequence(
        rng.integers(0, 2**32, codes, dtype=np.uint32),
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        cqt.pack_levels(levels, CONFIG),
    )


def like(other: TrackSequence, seed: int) -> TrackSequence:
    """The same but for a few bits, and for its embeddings, which are a little off."""
    rng = np.random.default_rng(seed)
    noise = (rng.integers(0, 2**32, (3, other.codes.size), dtype=np.uint32)).astype(np.uint32)
    vectors = other.embeddings + 0.02 * rng.standard_normal(other.embeddings.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = other.codes ^ (noise[0] & noise[1] & noise[2])
    return TrackSequence(codes, vectors.astype(np.float32), other.levels)


def write(path: Path, names: Sequence[str], sequences: Sequence[TrackSequence]) -> SequenceFile:
    tracks = pa.table({"track_id": list(names)})
    kept = [Kept(row, sequence) for row, sequence in enumerate(sequences)]
    write_sequences(str(path), tracks, kept, "digest")
    return SequenceFile(str(path), len(kept))


def names(count: int = RECORDINGS) -> list[str]:
    return [f"t{number:03d}" for number in range(count)]


@pytest.fixture(scope="module")
def music() -> tuple[list[TrackSequence], list[TrackSequence]]:
    """Recordings, and queries that belong to the first of them; the second one stands there twice.

    The third recording is too short to be compared.
    """
    recordings = [made_up(number) for number in range(RECORDINGS)]
    recordings[RECORDINGS - 1] = recordings[1]
    recordings[2] = made_up(2, codes=SETTINGS.shortest - 1)
    return recordings, [like(recordings[number], 500 + number) for number in range(QUERIES)]


def options(folder: Path) -> MatchOptions:
    flags = {"aligned": False, "json": False, "quiet": True, "progress": False}
    return MatchOptions(
        *("index", "midi", str(folder / "out"), None, "plain", 0.1, 4, 5, 0.0),
        workers=1,
        **flags,
    )


def search(
    folder: Path,
    music: tuple[list[TrackSequence], list[TrackSequence]],
    file_size: int,
    per_piece: int,
    settings: CascadeSettings = SETTINGS,
    reverse: bool = False,
) -> list[dict[str, Any]]:
    """All candidates, with the index cut into files and pieces of these sizes."""
    recordings, queries = music
    folder.mkdir(exist_ok=True)
    files = []
    for first in range(0, RECORDINGS, file_size):
        end = min(first + file_size, RECORDINGS)
        path = folder / f"part-{first:05d}.parquet"
        files.append(write(path, names()[first:end], recordings[first:end]))
    job = MatchJob(
        options(folder), settings, "m", "digest", QUERIES, 2, files, recordings_per_piece=per_piece
    )
    ids = [f"q{number}.mid" for number in range(QUERIES)]
    parquet.write_table(job.listing, pa.table({"query_id": ids}), row_group_size=2)
    for part in range(job.n_parts):
        own = slice(part * 2, min(part * 2 + 2, QUERIES))
        write(Path(job.work_path(Task(HEAR, part))), ids[own], queries[own])
    workers = [run.Worker(job), run.Worker(job)]
    for step in (COUNT, PRUNE, SEARCH, GATHER):
        tasks = job.tasks(step)
        for number, task in enumerate(reversed(tasks) if reverse else tasks):
            workers[number % 2].carry_out(task)
    found = read_candidates(job, 0, 0, QUERIES)
    return [
        {name: value for name, value in row.items() if name not in ("file", "row")}
        | {"names": ids[row["query"]]}
        for row in found
    ]


def brute_force(
    music: tuple[list[TrackSequence], list[TrackSequence]], settings: CascadeSettings = SETTINGS
) -> list[tuple[int, str, float]]:
    """Query, recording and bits of all candidates, from all recordings at once."""
    recordings, queries = music
    kept = [np.asarray(one.embeddings, np.float16) for one in recordings]
    bounds = np.concatenate(([0], np.cumsum([len(one) for one in kept])))
    out = []
    for number, query in enumerate(queries):
        own = on_grid(np.asarray(query.embeddings, np.float16))
        alike = bins_of(likeness(own, on_grid(np.concatenate(kept)), bounds))
        least = np.sort(alike)[::-1][settings.kept(RECORDINGS) - 1]
        left = np.flatnonzero(alike >= least)
        codes = [recordings[row].codes for row in left]
        ends = np.concatenate(([0], np.cumsum([len(one) for one in codes])))
        rows, scores = nearest(query.codes, np.concatenate(codes), ends, settings)
        out += [(number, names()[left[r]], s) for r, s in zip(rows, scores, strict=True)]
    return out


@pytest.mark.parametrize(("file_size", "per_piece"), [(90, 90), (7, 1), (16, 40), (33, 34)])
def test_candidates_are_those_of_all_recordings_however_files_are_cut(
    music: Any, tmp_path: Path, file_size: int, per_piece: int
) -> None:
    found = search(tmp_path / "a", music, file_size, per_piece, reverse=per_piece == 40)
    assert [(r["query"], r["track_id"], r["hash_score"]) for r in found] == brute_force(music)
    by_query = {n: [r["track_id"] for r in found if r["query"] == n] for n in range(QUERIES)}
    assert by_query[0][0] == "t000"
    assert by_query[1][:2] == ["t001", "t089"]  # equally good: by their names
    assert "t002" not in [row["track_id"] for row in found]  # too short, though it is the same
    assert found == search(tmp_path / "b", music, 20, 30)


def test_where_embeddings_are_not_asked_nothing_is_counted(music: Any, tmp_path: Path) -> None:
    everything = dataclasses.replace(SETTINGS, share=1.0)
    found = search(tmp_path / "all", music, 40, 40, everything)
    assert [(r["query"], r["track_id"], r["hash_score"]) for r in found] == brute_force(
        music, everything
    )
    assert not (tmp_path / "all" / "out" / "work" / COUNT).exists()
    few = dataclasses.replace(SETTINGS, least=RECORDINGS)
    assert search(tmp_path / "few", music, 40, 40, few) == found


def test_removed_tracks_are_passed_over(music: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "s.parquet", names(40), music[0][:40])
    tracks = pa.table({"track_id": names(41), "ordinal": pa.array(range(100, 141), pa.uint32())})
    pq.write_table(tracks, tmp_path / "tracks.parquet")
    gone = pa.table({"ordinal": pa.array([100, 117, 140, 7], pa.uint32())})
    pq.write_table(gone, tmp_path / "gone.parquet")
    live = dataclasses.replace(
        file, tracks=str(tmp_path / "tracks.parquet"), removals=str(tmp_path / "gone.parquet")
    )
    found = list(read_recordings(live, batch=16))
    ids = [name for batch in found for name in batch.track_ids]
    assert ids == [name for name in names(40) if name not in ("t000", "t017")]
    rows = np.concatenate([batch.rows for batch in found])
    assert [f"t{row:03d}" for row in rows.tolist()] == ids
    for batch in found:
        for place, row in enumerate(batch.rows.tolist()):
            own = slice(batch.code_offsets[place], batch.code_offsets[place + 1])
            np.testing.assert_array_equal(batch.codes[own], music[0][row].codes)
            own = slice(batch.window_offsets[place], batch.window_offsets[place + 1])
            stored = np.asarray(music[0][row].embeddings, np.float16)
            np.testing.assert_array_equal(batch.embeddings[own], on_grid(stored))


def test_damaged_embeddings_are_told(tmp_path: Path) -> None:
    one = made_up(1)
    bad = dataclasses.replace(one, embeddings=np.full_like(one.embeddings, np.nan))
    file = write(tmp_path / "s.parquet", ["a"], [bad])
    with pytest.raises(IndexFormatError, match=r"s\.parquet has embeddings that are no numbers"):
        list(read_recordings(file))


def test_pieces_hold_every_file_once_and_are_not_too_many() -> None:
    rng = np.random.default_rng(0)
    for most in (1, 5, 64):
        sizes = rng.integers(0, 50, 200).tolist()
        pieces = cut(sizes, 60, most)
        assert [number for piece in pieces for number in piece] == list(range(200))
        assert len(pieces) <= most
    assert cut([], 60, 5) == []


def chords(frames: int, seed: int) -> Any:
    """Levels of a piece: of some notes a frame is loud, and the same ones for half a second."""
    rng = np.random.default_rng(seed)
    levels = np.full((frames, 48), -60.0, np.float32)
    for first in range(0, frames, 11):
        levels[first : first + 11, rng.integers(0, 48, 4)] = rng.uniform(-20, 0, 4)
    return levels


def test_a_score_lies_where_its_recording_has_it() -> None:
    encoder = SequenceEncoder.load()
    config = encoder.features.cqt
    score = chords(900, 1)
    slower = score[150 + (np.arange(825) / 1.1).astype(int)]  # all but its beginning
    heard = encoder.hear_levels(score, "score"), encoder.hear_levels(slower)
    found = align_pair(*heard, encoder.features)
    assert found["path_score"] < 0.5
    assert found["query_start_s"] == pytest.approx(150 * config.frame_s, abs=0.4)
    assert found["offset_s"] == pytest.approx(-150 * config.frame_s, abs=0.4)
    assert found["query_end_s"] == pytest.approx(900 * config.frame_s, abs=0.4)
    midi_s, audio_s = np.array([list(pair.values()) for pair in found["alignment"]]).T
    assert (np.diff(midi_s) > 0).all()
    wanted_s = np.arange(8, 41) * 1.0
    true_s = 1.1 * (wanted_s - 150 * config.frame_s)
    assert np.median(np.abs(np.interp(wanted_s, midi_s, audio_s) - true_s)) < 0.1


def test_ranks_are_by_score_then_bits_then_name() -> None:
    rows = [
        {"score": score, "hash_score": bits, "track_id": name}
        for score, bits, name in (
            (1.0, 4.0, "c"),
            (1.0, 4.0, "b"),
            (1.0, 3.0, "z"),
            (0.4, 1.0, "a"),
        )
    ]
    assert [row["track_id"] for row in ranked(rows, 0.5, 9)] == ["z", "b", "c"]
    assert [row["rank"] for row in ranked(rows, 0.0, 9)] == [1, 2, 3, 4]
    assert len(ranked(rows, 0.0, 2)) == 2
