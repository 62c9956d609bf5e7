"""An index in memory: which snippet is whose, and where codes stand in its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_fixture import learned_model, random_model

from hashing.encoders import Hasher, TrackCodes
from hashing.errors import ModelError
from hashing.matrix import as_rows
from hashing.memory_index import MemoryCodes, MemoryTracks, memory_searcher
from hashing.quantizers import SignQuantizer
from hashing.synthesis import render_track

RATE, KEY_BITS = 8000, 10


@pytest.fixture(scope="module")
def hasher(tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    return Hasher(random_model(tmp_path_factory.mktemp("m") / "signs", n_tables=5))


@pytest.fixture(scope="module")
def tracks(hasher: Hasher) -> list[TrackCodes]:
    songs = [render_track(seed, 3.0 + seed, RATE) for seed in range(4)]
    songs[2][2 * RATE : 4 * RATE] = 0.0  # two seconds of silence
    return [hasher.hash_track([song]) for song in songs]


def test_numbers_belong_to_tracks_one_after_another() -> None:
    tracks = MemoryTracks([3, 1, 4])
    ordinal, first, end = tracks.locate(0, np.array([0, 2, 3, 4, 7]))
    assert ordinal.tolist() == [0, 0, 1, 2, 2]
    assert first.tolist() == [0, 0, 3, 4, 4]
    assert end.tolist() == [3, 3, 4, 8, 8]
    assert all(column.size == 0 for column in tracks.locate(0, np.empty(0, np.int64)))


def test_silent_snippets_have_a_number_and_no_code() -> None:
    codes = MemoryCodes(np.array([[1, 2], [3, 4]], np.uint8), np.array([0, 3]), 5)
    rows, present = codes.rows(0, np.array([3, 1, 0, 4]))
    assert rows.tolist() == [[3, 4], [0, 0], [1, 2], [0, 0]]
    assert present.tolist() == [True, False, True, False]


def test_every_code_is_found_under_its_key_and_its_number(
    hasher: Hasher, tracks: list[TrackCodes]
) -> None:
    searcher = memory_searcher(hasher, tracks, KEY_BITS)
    spans = [int(track.snippet[-1]) + 1 for track in tracks]
    assert (len(tracks[2].snippet), spans[2]) == (6, 9)
    assert searcher.n_snippets == sum(len(track.codes) for track in tracks)
    first = 0
    for number, (track, span) in enumerate(zip(tracks, spans, strict=True)):
        gids = first + track.snippet.astype(np.int64)
        rows, present = searcher.codes.rows(0, gids)
        np.testing.assert_array_equal(rows, track.codes)
        assert present.all()
        ordinal, firsts, ends = searcher.tracks.locate(0, gids)
        assert set(ordinal.tolist()) == {number}
        assert (set(firsts.tolist()), set(ends.tolist())) == ({first}, {first + span})
        keys = np.stack(
            [hasher.quantizer.postings(track.codes, t, KEY_BITS)[1] for t in range(5)], axis=1
        )
        hits = searcher.tables.lookup(0, keys)
        for row, gid in enumerate(gids.tolist()):
            # Once in each of the five tables.
            assert np.count_nonzero(hits.gid[hits.row == row] == gid) == 5
        first += span
    silent = np.flatnonzero(~searcher.codes.rows(0, np.arange(first))[1])
    assert silent.tolist() == [sum(spans[:2]) + k for k in (4, 5, 6)]


class Twice(SignQuantizer):
    """Every code stands in two buckets of a table: its own, and that of the opposite bits."""

    replication = 2.0

    def postings(  # type: ignore[override]
        self, packed: np.ndarray, table: int, key_bits: int
    ) -> tuple[np.ndarray, np.ndarray]:
        _, keys = super().postings(packed, table, key_bits)
        both = np.stack((keys, keys ^ np.uint32((1 << key_bits) - 1)), axis=1)
        return np.repeat(np.arange(len(packed)), 2), both.reshape(-1)


def test_a_code_may_stand_in_several_buckets(tracks: list[TrackCodes], hasher: Hasher) -> None:
    plain = hasher.quantizer
    assert isinstance(plain, SignQuantizer)
    twice = Hasher(hasher.model)
    twice.quantizer = Twice(plain.thresholds, plain.spreads, plain.tables)
    searcher = memory_searcher(twice, tracks, KEY_BITS)
    assert searcher.n_snippets == 2 * sum(len(track.codes) for track in tracks)
    keys = np.stack([plain.postings(tracks[1].codes, t, KEY_BITS)[1] for t in range(5)], axis=1)
    for asked in (keys, keys ^ np.uint32((1 << KEY_BITS) - 1)):
        hits = searcher.tables.lookup(0, asked.astype(np.uint32))
        first = int(tracks[0].snippet[-1]) + 1
        for row, snippet in enumerate(tracks[1].snippet.tolist()):
            assert np.count_nonzero(hits.gid[hits.row == row] == first + snippet) == 5


def test_embeddings_stand_in_place_of_codes(tmp_path: Path) -> None:
    hasher = Hasher(learned_model(tmp_path / "m"))
    songs = [render_track(seed, 3.0, RATE) for seed in range(3)]
    tracks = [hasher.hash_track([song], embeddings=True) for song in songs]
    searcher = memory_searcher(hasher, tracks, KEY_BITS, embeddings=True)
    assert searcher.embeddings
    rows, present = searcher.codes.rows(0, np.arange(len(tracks[0].codes)))
    assert present.all()
    assert tracks[0].embeddings is not None
    np.testing.assert_array_equal(rows, as_rows(tracks[0].embeddings))
    # Keys are still those of the codes.
    plain = memory_searcher(hasher, tracks, KEY_BITS)
    keys = hasher.quantizer.probe_keys(hasher.hash_query([songs[1]]).responses, KEY_BITS, 3)
    asked = keys.reshape(-1, hasher.quantizer.n_tables)
    one, other = (index.tables.lookup(0, asked) for index in (searcher, plain))
    np.testing.assert_array_equal(one.gid, other.gid)


def test_what_cannot_be_indexed(hasher: Hasher, tracks: list[TrackCodes]) -> None:
    with pytest.raises(ValueError, match="hashed without their embeddings"):
        memory_searcher(hasher, tracks, KEY_BITS, embeddings=True)
    for key_bits in (0, 25):
        with pytest.raises(ModelError, match=f"keys of 1 to 24 bits, not {key_bits}"):
            memory_searcher(hasher, tracks, key_bits)
