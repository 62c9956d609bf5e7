"""Stored codes looked up: their own place is the likest, and large buckets are passed over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hashing.encoders import Hasher, TrackCodes
from hashing.flow import FlowQuantizer
from hashing.memory_index import memory_searcher
from hashing.search import Searcher
from hashing.stored import Stretch, find_stored, own_keys

N = 30  # snippets of a track


@pytest.fixture(scope="module")
def tracks() -> list[TrackCodes]:
    """Four tracks of random codes; the third begins as the first does."""
    rng = np.random.default_rng(3)
    codes = [rng.integers(0, 256, (N, 58), np.uint8) for _ in range(4)]
    codes[2][:12] = codes[0][:12]
    return [TrackCodes(one, np.arange(N, dtype=np.int32), 15.0) for one in codes]


@pytest.fixture(scope="module")
def searcher(model_folder: Path, tracks: list[TrackCodes]) -> Searcher:
    """An index of them, with a key that hardly any two share by chance."""
    return memory_searcher(Hasher.load(str(model_folder)), tracks, 24)


def stretch(track: TrackCodes, *numbers: int) -> Stretch:
    """Snippets of a track."""
    rows = track.codes[list(numbers)]
    return Stretch(np.array(numbers) - numbers[0], rows, rows)


def test_every_stretch_is_found_where_it_stands(
    searcher: Searcher, tracks: list[TrackCodes]
) -> None:
    starts = [(track, first) for track in range(4) for first in range(N - 4)]
    stretches = [stretch(tracks[t], *range(first, first + 5)) for t, first in starts]
    for (track, first), places in zip(starts, find_stored(searcher, 0, stretches, 3), strict=True):
        likest = places.likeness >= 0.999
        assert (track * N + first) in places.gid[likest].tolist()
        assert track in places.ordinal[likest].tolist()


def test_both_places_of_a_copy_are_found(searcher: Searcher, tracks: list[TrackCodes]) -> None:
    (places,) = find_stored(searcher, 0, [stretch(tracks[2], 2, 4, 5)], 5)
    assert sorted(zip(places.gid.tolist(), places.ordinal.tolist(), strict=True)) == [
        (2, 0),
        (2 * N + 2, 2),
    ]
    assert places.likeness.tolist() == pytest.approx([1.0, 1.0])
    (places,) = find_stored(searcher, 0, [stretch(tracks[2], 2, 4, 5)], 1)
    assert places.gid.size == 1


def test_a_copy_that_ends_early_is_less_alike(searcher: Searcher, tracks: list[TrackCodes]) -> None:
    (places,) = find_stored(searcher, 0, [stretch(tracks[2], 10, 11, 12, 13)], 5)
    likeness = dict(zip(places.gid.tolist(), places.likeness.tolist(), strict=True))
    assert likeness[2 * N + 10] == pytest.approx(1.0)
    assert likeness[10] == pytest.approx(0.5, abs=0.2)


def test_a_place_that_reaches_into_the_next_track_counts_what_is_inside(
    searcher: Searcher, tracks: list[TrackCodes]
) -> None:
    """The last snippets of the first track, and the first ones of the second, are no stretch."""
    rows = np.concatenate((tracks[0].codes[-2:], tracks[1].codes[:2]))
    (places,) = find_stored(searcher, 0, [Stretch(np.arange(4), rows, rows)], 1)
    assert (places.gid.tolist(), places.ordinal.tolist()) == ([N - 2], [0])
    assert places.likeness[0] == pytest.approx(0.5)


def test_large_buckets_are_passed_over(searcher: Searcher, tracks: list[TrackCodes]) -> None:
    one, both = stretch(tracks[0], 20, 21), stretch(tracks[0], 1, 2)
    found = find_stored(searcher, 0, [one, both], 3, max_bucket=1)
    assert [places.gid.tolist() for places in found] == [[20], []]
    assert find_stored(searcher, 0, [one], 3, max_bucket=0)[0].likeness.size == 0


def test_nothing_is_found_of_what_is_not_there(searcher: Searcher) -> None:
    rows = np.full((3, 58), 7, np.uint8)
    (places,) = find_stored(searcher, 0, [Stretch(np.arange(3), rows, rows)], 3)
    assert places.gid.size == places.ordinal.size == places.likeness.size == 0


def test_the_first_of_several_keys_stands_for_a_code() -> None:
    """Soft assignment puts the second code into two buckets."""
    quantizer = FlowQuantizer(np.ones(3), radius=0.5, replication=1.5)
    codes = quantizer.encode(np.array([[2.0, 2.0, -2.0], [2.0, -0.1, -2.0]], np.float32))
    searcher: Any = SimpleNamespace(hasher=SimpleNamespace(quantizer=quantizer), key_bits=3)
    assert own_keys(searcher, codes).tolist() == [[6], [4]]
