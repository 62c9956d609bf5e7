"""What is merged and when: within bounds afterwards, at a cost that grows as a logarithm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_manifest import made_up_manifest

from hashing.quantizers import SignQuantizer
from hashing.table_format import MAX_GIDS
from pipelines.reindexing.compaction import (
    MAX_KEY_BITS_BEHIND,
    MAX_REMOVED,
    MAX_SEGMENTS,
    Compaction,
    plan_compaction,
)
from pipelines.tables import choose_key_bits_of
from pipelines.versions import FileEntry, Manifest, Segment

QUANTIZER = SignQuantizer(np.zeros(32), np.ones(32), np.arange(32)[None])
SNIPPETS = 100  # of a track


def segment(number: int, tracks: int, removed: int = 0, snippets: int = SNIPPETS) -> Segment:
    removals = None
    if removed:
        removals = FileEntry("versions/000001/removals/s", "removals", removed, 9, "0", number)
    total = tracks * snippets
    return Segment(number, number, 1, tracks, total, [total], [tracks], removals)


def index_of(*segments: tuple[int, int], key_bits: int | None = None) -> Manifest:
    """An index of segments with so many tracks, and so many of them removed."""
    made = [segment(number, *sizes) for number, sizes in enumerate(segments)]
    return with_segments(made_up_manifest(key_bits=key_bits or 12), made, key_bits is None)


def with_segments(manifest: Manifest, segments: Sequence[Segment], choose: bool) -> Manifest:
    bits = choose_key_bits_of(sum(one.snippets for one in segments), QUANTIZER)
    return dataclasses.replace(
        manifest, segments=list(segments), key_bits=bits if choose else manifest.key_bits
    )


def compacted(manifest: Manifest, plan: Compaction) -> Manifest:
    """The version that a compaction makes."""
    chosen = [one for one in manifest.segments if one.id in plan.segments]
    assert sorted(plan.segments) == [one.id for one in chosen]
    assert plan.whole == (len(chosen) == len(manifest.segments))
    kept = [one for one in manifest.segments if one.id not in plan.segments]
    made = segment(max(one.id for one in manifest.segments) + 1, sum(one.live for one in chosen))
    return with_segments(manifest, [*kept, made], plan.whole)


def read_cost(manifest: Manifest) -> tuple[int, float]:
    """Segments, and the share of their tracks that has gone."""
    tracks = sum(one.tracks for one in manifest.segments)
    return len(manifest.segments), 1 - sum(one.live for one in manifest.segments) / tracks


@pytest.mark.parametrize(
    ("segments", "chosen", "reason"),
    [
        ([(100, 0)] * MAX_SEGMENTS, None, ""),
        ([(100, 20), (100, 20)], None, ""),  # a fifth, and no more than that
        ([(100, 41), (100, 0)], [0], "20% of the tracks have gone, more than 20%"),
        ([(100, 60), (100, 9), (100, 11)], [0, 2], "27% of the tracks have gone, more than 20%"),
        ([(10**6, 0)] + [(10, 0)] * 10, list(range(1, 11)), "11 segments, more than 10"),
        # What removals leave counts: segment 0 is the smallest.
        ([(900, 895)] + [(10 * 4**n, 0) for n in range(10)], [0, 1], "11 segments, more than 10"),
        # Few and then one three times as large as all before: two at least.
        ([(3**n, 0) for n in range(11)], [0, 1], "11 segments, more than 10"),
        ([(2**n, 0) for n in range(12)], list(range(12)), "12 segments, more than 10"),
        ([(10**5, 50000)] + [(10, 0)] * 10, list(range(11)),
         "11 segments, more than 10, and 50% of the tracks have gone, more than 20%"),
    ],
)  # fmt: skip
def test_what_is_merged(
    segments: list[tuple[int, int]], chosen: list[int] | None, reason: str
) -> None:
    manifest = index_of(*segments)
    plan = plan_compaction(manifest, QUANTIZER)
    if chosen is None:
        assert plan is None
        return
    assert plan is not None
    assert (plan.segments, plan.reason) == (sorted(chosen), reason)
    if not plan.whole:
        assert plan.key_bits == manifest.key_bits


def test_an_index_that_has_outgrown_its_keys_is_made_anew() -> None:
    sizes = [(1000, 0), (10, 0)]
    bits = choose_key_bits_of(1010 * SNIPPETS, QUANTIZER)
    for behind in range(MAX_KEY_BITS_BEHIND + 1):
        assert plan_compaction(index_of(*sizes, key_bits=bits - behind), QUANTIZER) is None
    short = index_of(*sizes, key_bits=bits - MAX_KEY_BITS_BEHIND - 1)
    told = f"keys have {short.key_bits} bits, an index of its size gets {bits}"
    assert plan_compaction(short, QUANTIZER) == Compaction([0, 1], bits, told, True)
    assert plan_compaction(short, QUANTIZER, whole=True) == Compaction([0, 1], bits, told, True)
    # Keys that are longer than needed cost nothing.
    assert plan_compaction(index_of(*sizes, key_bits=bits + 9), QUANTIZER) is None


def test_all_is_merged_where_that_changes_something() -> None:
    for sizes in ([(5, 0), (5, 0)], [(5, 1)]):
        plan = plan_compaction(index_of(*sizes), QUANTIZER, whole=True)
        assert plan is not None
        assert (plan.segments, plan.reason) == (list(range(len(sizes))), "as asked")
        assert plan.whole
    # Its owner may have asked for other keys than would have been chosen.
    for index in (index_of((5, 0)), index_of((5, 0), key_bits=20), index_of()):
        assert plan_compaction(index, QUANTIZER, whole=True) is None
        assert plan_compaction(index, QUANTIZER) is None


def full(*shares: float) -> Manifest:
    """Segments with these shares of the snippet numbers that one may have."""
    made = []
    for number, share in enumerate(shares):
        gids = round(share * MAX_GIDS)
        tracks = max(gids // 1000, 1)
        made.append(Segment(number, number, 1, tracks, gids, [gids], [tracks]))
    return with_segments(made_up_manifest(), made, True)


def test_full_segments_are_not_merged_again_and_again() -> None:
    """Two segments that hold more than one may would be two again."""
    assert plan_compaction(full(*[0.6] * 12), QUANTIZER) is None
    assert plan_compaction(full(*[0.6] * 12, 0.01), QUANTIZER) is None
    plan = plan_compaction(full(*[0.6] * 12, 0.01, 0.01), QUANTIZER)
    assert plan is not None
    assert plan.segments == [12, 13]
    for shares, merged in [
        ((0.9995, 0.2), False),
        ((0.9995, 0.9995, 0.3), False),
        ((0.6, 0.3), True),
        ((0.6, 0.6, 0.6), True),
        ((0.9995, 0.1, 0.1), True),
    ]:
        plan = plan_compaction(full(*shares), QUANTIZER, whole=True)
        assert (plan is not None) == merged, shares


sizes = st.tuples(st.integers(1, 10**7), st.floats(0, 0.99))


@settings(max_examples=60)
@given(st.lists(sizes, min_size=1, max_size=30), st.integers(12, 32), st.booleans())
def test_afterwards_nothing_is_left_to_do(
    segments: list[tuple[int, float]], key_bits: int, whole: bool
) -> None:
    manifest = index_of(
        *((tracks, math.floor(tracks * share)) for tracks, share in segments), key_bits=key_bits
    )
    plan = plan_compaction(manifest, QUANTIZER, whole=whole)
    count, gone = read_cost(manifest)
    if plan is None:
        assert (count <= 1 and not gone) if whole else count <= MAX_SEGMENTS
    else:
        after = compacted(manifest, plan)
        assert plan_compaction(after, QUANTIZER, whole=whole) is None
        assert plan_compaction(after, QUANTIZER) is None
        manifest = after
    count, gone = read_cost(manifest)
    assert count <= MAX_SEGMENTS
    assert gone <= MAX_REMOVED + 1e-9


NIGHTS = 1000
# Times that a track is rewritten for each doubling of the number of nights; 0.46 is measured.
REWRITTEN = 0.5


@pytest.mark.parametrize(
    ("first", "largest", "removed"),
    [(1, 1, 0.0), (1, 1000, 0.0), (100_000, 1000, 0.01), (1000, 10_000, 0.0)],
)
def test_tracks_are_rewritten_as_often_as_the_index_doubles(
    first: int, largest: int, removed: float
) -> None:
    """A thousand nights, each with an added segment and a compaction where one is due.

    Args:
        largest: tracks that a night adds, at most.
        removed: share of the tracks that have gone each night.
    """
    rng = np.random.default_rng(0)
    manifest, rewritten, added = index_of((first, 0)), 0, first
    for _ in range(NIGHTS):
        kept = [
            segment(one.id, one.tracks, one.tracks - one.live + rng.binomial(one.live, removed))
            for one in manifest.segments
        ]
        kept = [one for one in kept if one.live]
        new = int(rng.integers(1, largest + 1))
        added += new
        fresh = segment(max((one.id for one in manifest.segments), default=0) + 1, new)
        manifest = with_segments(manifest, [*kept, fresh], False)
        plan = plan_compaction(manifest, QUANTIZER)
        if plan is not None:
            rewritten += sum(one.live for one in manifest.segments if one.id in plan.segments)
            manifest = compacted(manifest, plan)
        count, gone = read_cost(manifest)
        assert count <= MAX_SEGMENTS
        assert gone <= MAX_REMOVED
    assert rewritten <= REWRITTEN * math.log2(NIGHTS) * added
    assert rewritten >= added / 2  # something was done at all
