"""However tracks are spread over segments, and whatever was removed, answers are the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fixture import random_model
from segmented import segmented

from hashing import codes, segments
from hashing.encoders import Hasher, QueryCodes, TrackCodes
from hashing.quantizers import SignQuantizer
from hashing.search import Searcher

BITS, KEY_BITS, TABLES = 64, 6, 5


@pytest.fixture(scope="module")
def hasher(tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    """One whose responses are its codes' bits, with a few short keys: many votes of chance."""
    found = Hasher(random_model(tmp_path_factory.mktemp("models") / "signs"))
    positions = np.random.default_rng(3).permuted(np.tile(np.arange(BITS), (TABLES, 1)), axis=1)
    found.quantizer = SignQuantizer(np.zeros(BITS), np.ones(BITS), positions[:, :KEY_BITS])
    return found


def made_tracks(rng: np.random.Generator, lengths: list[int]) -> list[TrackCodes]:
    """Tracks of random codes with some silence in them, which may begin alike."""
    refrain = rng.integers(256, size=(4, BITS // 8), dtype=np.uint8)
    tracks = []
    for length in lengths:
        rows = rng.integers(256, size=(length, BITS // 8), dtype=np.uint8)
        if rng.random() < 0.3:
            rows[: len(refrain)] = refrain[:length]
        heard = np.flatnonzero(rng.random(length) < 0.9)
        heard = heard if heard.size else np.zeros(1, np.int64)
        tracks.append(TrackCodes(rows[heard], heard.astype(np.int32), length / 4))
    return tracks


def noisy(
    hasher: Hasher, rng: np.random.Generator, tracks: list[TrackCodes], hops: int
) -> QueryCodes:
    """A query that goes from one track to the next, in noise."""
    rows = np.concatenate([track.codes for track in tracks])
    first = int(rng.integers(max(1, len(rows) - hops)))
    per_hop = hasher.features.snippet_hop // hasher.features.query_hop
    bits = codes.unpack(np.repeat(rows[first : first + hops], per_hop, axis=0), BITS)
    responses = np.where(bits, 1.0, -1.0) + rng.standard_normal(bits.shape)
    starts = np.arange(len(responses), dtype=np.int32) * hasher.features.query_hop
    return QueryCodes(responses.astype(np.float32), starts, float(hops))


def answers(searcher: Searcher, query: QueryCodes, track_of: list[list[int]]) -> list[list[float]]:
    """Track, where, and how sure, in the order of tracks; track by segment and ordinal."""
    found = searcher.search([query], top=1000)[0]
    scores = [match.score for match in found]
    assert scores == sorted(scores, reverse=True)
    rows = [
        (
            track_of[m.segment][m.ordinal],
            *(m.offset_s, m.query_start_s, m.query_end_s, m.votes, m.score),
            *vars(m.evidence).values(),
        )
        for m in found
    ]
    return sorted([float(value) for value in row] for row in rows)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 24), min_size=2, max_size=12),
    data=st.data(),
)
def test_any_split_answers_like_one_segment_of_the_live_tracks(
    hasher: Hasher, seed: int, lengths: list[int], data: st.DataObject
) -> None:
    rng, n = np.random.default_rng(seed), len(lengths)
    tracks = made_tracks(rng, lengths)
    query = noisy(hasher, rng, tracks, data.draw(st.integers(1, 20), "hops"))
    n_segments = data.draw(st.integers(1, 5), "segments")
    places = st.lists(st.integers(0, n_segments - 1), min_size=n, max_size=n)
    segment_of = data.draw(places, "segment of")
    removed = data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1), "removed")
    live = [track for track in range(n) if track not in removed]
    one = segmented(hasher, [[tracks[track] for track in live]], KEY_BITS)
    split = [[t for t in range(n) if segment_of[t] == segment] for segment in range(n_segments)]
    gone = [[part.index(track) for track in part if track in removed] for part in split]
    several = segmented(hasher, [[tracks[t] for t in part] for part in split], KEY_BITS, gone)
    expected = answers(one, query, [live])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "KEYS_A_POSTING", data.draw(st.sampled_from([0.0, 1e9]), "held"))
        for _ in range(3):  # small segments are merged from the second time on, if they are
            found = answers(several, query, split)
            assert len(found) == len(expected)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
