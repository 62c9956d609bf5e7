"""Places against a brute-force reference, and by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing import codes as bits
from hashing import ranking, voting
from hashing.matrix import as_rows
from hashing.memory_index import MemoryCodes, MemoryTracks
from hashing.ranking import (
    OVERLAP,
    REACH,
    REFINED,
    Places,
    Ranker,
    compare_bytes,
    compare_embeddings,
    largest_part,
    overlapping,
)

HOP = 4  # steps of a query to one hop of the index
CHANCE = 0.25


class RemovedTracks(MemoryTracks):
    """Tracks of which some have been removed."""

    def __init__(self, spans: Sequence[int], removed: frozenset[int] = frozenset()) -> None:
        super().__init__(spans)
        self.removed = removed

    def locate(self, segment: int, gids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert gids.size == 0 or (gids.min() >= 0 and gids.max() < self.firsts[-1])
        ordinal, first, end = super().locate(segment, gids)
        return np.where(np.isin(ordinal, list(self.removed)), -1, ordinal), first, end


def numbered_codes(n: int, absent: frozenset[int] = frozenset()) -> MemoryCodes:
    """An index whose codes are the snippets' own numbers, so that a test can tell them apart."""
    numbers = np.array([gid for gid in range(n) if gid not in absent], dtype=np.int64)
    return MemoryCodes(numbers.astype("<u4")[:, None].view(np.uint8), numbers, n)


def made_ranker(
    similarity: np.ndarray,
    spans: Sequence[int],
    row_of_step: Sequence[int] | None = None,
    hop: int = HOP,
    absent: frozenset[int] = frozenset(),
    removed: frozenset[int] = frozenset(),
) -> Ranker:
    """A ranker of given similarities [rows of the query, snippets of the index]."""

    def compare(row: np.ndarray, codes: np.ndarray) -> np.ndarray:
        number = np.ascontiguousarray(codes).view("<u4")[:, 0]
        return np.asarray(similarity[row, number], dtype=np.float32)

    rows = range(len(similarity)) if row_of_step is None else row_of_step
    return Ranker(
        numbered_codes(sum(spans), absent),
        RemovedTracks(spans, removed),
        compare,
        np.array(rows, dtype=np.int64),
        hop,
        lambda one, other: bits.likeness(one, other, 8 * one.shape[1]),
        CHANCE,
    )


def rank(ranker: Ranker, *candidates: tuple[int, int]) -> Places:
    """Places at (gid, diagonal) pairs; the votes of each are its number."""
    gid, diagonal = (np.array(column, dtype=np.int64) for column in zip(*candidates, strict=True))
    return ranker.rank(0, gid, diagonal, np.arange(gid.size))


# --- the largest part


def brute_force_part(row: Sequence[float]) -> float:
    return max(sum(row[a : b + 1]) for a in range(len(row)) for b in range(a, len(row)))


# Eighths add up exactly, and meet often.
eighths = st.integers(-8, 8).map(lambda value: value / 8)


@given(
    st.integers(1, 9).flatmap(
        lambda n: st.lists(st.lists(eighths, min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_the_largest_part_is_that_of_all_runs(rows: list[list[float]]) -> None:
    first, last, total = largest_part(np.array(rows))
    for at, row in enumerate(rows):
        part = row[first[at] : last[at] + 1]
        assert part
        assert sum(part) == total[at] == brute_force_part(row)
        if max(row) > 0:
            # No column of nothing, which may be another track's, is at either end.
            assert part[0] > 0 < part[-1]
        else:
            assert len(part) == 1


def test_columns_that_do_not_count_are_not_the_beginning_of_a_part() -> None:
    # Sums of 0.1 and so on are not exact: nothing after 0.1 - 0.3 must still be nothing.
    for before in ([0.0, 0.0], [0.1, -0.3, 0.0, 0.0], [0.7, -0.9, 0.0, 0.0, 0.0]):
        first, last, _ = largest_part(np.array([[*before, 0.55, 0.6, 0.0]]))
        assert (first[0], last[0]) == (len(before), len(before) + 1)


# --- which parts are about the same music

part = st.tuples(st.integers(0, 30), st.integers(0, 20)).map(lambda p: (p[0], p[0] + p[1]))


@given(st.lists(part, min_size=1, max_size=6))
def test_overlapping_parts_share_more_than_half_of_the_shorter(
    parts: list[tuple[int, int]],
) -> None:
    first, last = np.array(parts).T
    found = overlapping(first, last)
    steps = [set(range(a, b + 1)) for a, b in parts]
    expected = [[len(a & b) > OVERLAP * min(len(a), len(b)) for b in steps] for a in steps]
    assert found.tolist() == expected
    for n in range(len(parts) + 1):
        np.testing.assert_array_equal(overlapping(first, last, n), found[:n])


# --- comparison


def test_bytes_are_compared_by_adding_up_what_each_scores() -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((5, 3, 256)).astype(np.float32)
    row = rng.integers(5, size=40)
    codes = rng.integers(256, size=(40, 3)).astype(np.uint8)
    expected = [
        sum(scores[i, j, value] for j, value in enumerate(code))
        for i, code in zip(row, codes, strict=True)
    ]
    np.testing.assert_allclose(compare_bytes(scores)(row, codes), expected, rtol=1e-5)
    assert compare_bytes(scores)(row[:0], codes[:0]).shape == (0,)


def test_embeddings_are_compared_by_inner_products() -> None:
    rng = np.random.default_rng(2)
    queries, index = (rng.standard_normal((n, 8)).astype(np.float32) for n in (5, 30))
    row = rng.integers(5, size=30)
    found = compare_embeddings(queries)(row, as_rows(index))
    expected = [queries[i] @ other for i, other in zip(row, index, strict=True)]
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert found.dtype == np.float32


# --- what a query meets along a diagonal


def test_along_a_diagonal_by_hand() -> None:
    # Two tracks of 4 and 3 snippets, number 5 silent; a query of 9 steps, the last snippet but
    # one silent. On diagonal 5 the query's steps 3 and 7 meet numbers 2 and 3.
    rows = [0, 1, 2, 3, 4, 5, 6, -1, 7]
    ranker = made_ranker(np.zeros((8, 7)), [4, 3], rows, absent=frozenset({5}))
    diagonals = np.array([5, 16, -4, 4, 12])
    codes, step, counts = ranker.along(0, np.array([2, 4, 0, 1, 4]), diagonals)
    number = codes.reshape(5, 3, 4).view("<u4")[..., 0]
    assert step.tolist() == [[3, 7, 11], [0, 4, 8], [0, 4, 8], [0, 4, 8], [0, 4, 8]]
    assert counts.tolist() == [
        [True, False, False],  # step 7 is silent, and 11 is beyond the query
        [True, False, True],  # numbers 4, 5 (silent) and 6
        [False, True, True],  # the query begins a hop before the first track
        [True, True, True],  # numbers 1, 2, 3
        [False, True, False],  # number 3 is the other track's, and 5 is silent
    ]
    assert number[counts].tolist() == [2, 4, 6, 0, 1, 1, 2, 3, 4]


def test_no_candidates_have_no_places() -> None:
    nothing = np.empty(0, np.int64)
    ranker = made_ranker(np.ones((5, 4)), [4])
    assert ranker.rank(0, nothing, nothing, nothing).n == 0
    assert ranker.rank(0, nothing, nothing, nothing).take(nothing).n == 0


def test_one_candidate_by_hand() -> None:
    # A track of 5 snippets from number 3 on; the query of 5 steps is 2 hops into it. Steps 0 and
    # 4 meet numbers 5 and 6: 0.8 and 0.9, less 0.25 each.
    similarity = np.zeros((5, 8))
    similarity[0, 5], similarity[4, 6] = 0.8, 0.9
    found = rank(made_ranker(similarity, [3, 5]), (6, 20))
    assert found.n == 1
    place = {field.name: getattr(found, field.name)[0] for field in dataclasses.fields(found)}
    assert place == pytest.approx(
        {
            "segment": 0,
            "ordinal": 1,
            "gid": 5,
            "diagonal": 20,
            "offset": 8,
            "votes": 0,
            "strength": 1.2,
            "similarity": 0.85,
            "snippets": 2,
            "first_step": 0,
            "last_step": 4,
        },
        abs=1e-6,
    )


def test_a_query_of_one_snippet_and_an_index_of_one() -> None:
    found = rank(made_ranker(np.array([[0.75]]), [1]), (0, 0))
    assert (found.n, found.strength[0], found.snippets[0]) == (1, 0.5, 1)
    assert (found.first_step[0], found.last_step[0]) == (0, 0)


@pytest.mark.parametrize("gone", ["silent", "removed", "elsewhere"])
def test_a_candidate_that_meets_nothing_is_no_place(gone: str) -> None:
    ranker = made_ranker(
        np.ones((4, 3)),
        [3],
        absent=frozenset(range(3) if gone == "silent" else ()),
        removed=frozenset({0} if gone == "removed" else ()),
    )
    found = rank(ranker, (1, 40 if gone == "elsewhere" else 0))
    assert found.n == 0
    assert Places.join([found, found]).n == 0


@pytest.mark.parametrize(("before", "ordinal"), [(1, 0), (1, 1), (3, 0)])
def test_a_query_that_begins_before_the_track(before: int, ordinal: int) -> None:
    # `before` hops of the query come before the track: they are no part of it, and the snippet
    # that tells the track is one of its own.
    spans, first = [6, 6], 6 * ordinal
    similarity = np.full((24, 12), -0.5)
    for k in range(24 // HOP - before):
        similarity[HOP * (before + k), first + k] = 0.9
    found = rank(made_ranker(similarity, spans), (first + 1, HOP * (first - before)))
    assert found.ordinal[0] == ordinal
    assert found.gid[0] == first
    assert found.offset[0] == -HOP * before
    assert (found.first_step[0], found.last_step[0]) == (HOP * before, 20)
    assert found.snippets[0] == 6 - before


def test_a_query_longer_than_the_track() -> None:
    # 40 steps, of which 12 to 27 are a track of four snippets between two others.
    similarity = np.full((40, 14), 0.1)
    for k in range(4):
        similarity[12 + HOP * k, 5 + k] = 0.8
    found = rank(made_ranker(similarity, [5, 4, 5]), (6, HOP * 5 - 12))
    assert (found.ordinal[0], found.snippets[0], found.offset[0]) == (1, 4, -12)
    assert (found.first_step[0], found.last_step[0]) == (12, 24)
    assert found.strength[0] == pytest.approx(4 * 0.55)


def test_a_gap_is_bridged_where_both_sides_are_worth_it() -> None:
    similarity = np.full((40, 10), 0.0)
    for k in (0, 1, 2, 5, 6, 7):
        similarity[HOP * k, k] = 0.75
    # Two snippets of nothing cost 0.25 each, less than either side gains.
    found = rank(made_ranker(similarity, [10]), (0, 0))
    assert (found.first_step[0], found.last_step[0]) == (0, 28)
    assert found.strength[0] == pytest.approx(6 * 0.5 - 2 * 0.25)
    assert found.similarity[0] == pytest.approx(6 * 0.75 / 8)
    # Silent ones cost nothing, and are not counted.
    rows = [-1 if step // HOP in (3, 4) else step for step in range(40)]
    found = rank(made_ranker(similarity, [10], rows), (0, 0))
    assert found.strength[0] == pytest.approx(6 * 0.5)
    assert (found.snippets[0], found.similarity[0]) == (6, pytest.approx(0.75))


def test_a_vote_two_steps_off_is_put_right() -> None:
    similarity = np.full((17, 12), 0.3)
    for k in range(5):
        similarity[HOP * k, 4 + k] = 0.9
    for off in range(-REACH, REACH + 1):
        found = rank(made_ranker(similarity, [12]), (5, 16 + off))
        assert (found.diagonal[0], found.offset[0]) == (16, 16)
        assert found.n == 1
    # Any further is another place.
    found = rank(made_ranker(similarity, [12]), (5, 16 + REACH + 1))
    assert found.strength[0] < 1.0


def test_a_track_is_a_place_for_each_part_of_the_query() -> None:
    # Steps 0 to 19 are numbers 6 to 10 of a track, steps 20 to 39 its numbers 0 to 4.
    similarity = np.zeros((40, 12))
    for k in range(5):
        similarity[HOP * k, 6 + k] = similarity[20 + HOP * k, k] = 0.9
    similarity[24, 1] = 0.7  # the second part is a little weaker
    found = rank(made_ranker(similarity, [12]), (2, -20), (8, 24))
    assert found.offset.tolist()[:2] == [24, -20]
    assert found.first_step.tolist()[:2] == [0, 20]
    assert found.votes.tolist()[:2] == [1, 0]


def test_parts_that_overlap_like_links_of_a_chain() -> None:
    # On three diagonals of one track, ten of 20 snippets each, the middle ones shared: what the
    # strongest hides does not hide the weakest, of which it shares little.
    similarity = np.zeros((20, 60))
    for start, first, level in ((0, 0, 0.9), (20, 4, 0.8), (40, 8, 0.7)):
        for k in range(10):
            similarity[first + k, start + first + k] = level
    found = rank(made_ranker(similarity, [60], hop=1), (3, 0), (26, 20), (50, 40))
    strong = found.take(found.strength > 2)
    assert strong.diagonal.tolist() == [0, 40]
    assert strong.first_step.tolist() == [0, 8]


# --- all of it, against loops


class Reference:
    """Places of a query, number by number."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.firsts = [sum(case.spans[:i]) for i in range(len(case.spans) + 1)]

    def place(self, gid: int, diagonal: int) -> tuple[float, ...] | None:
        case = self.case
        ordinal = next(i for i in range(len(case.spans)) if gid < self.firsts[i + 1])
        low, high = self.firsts[ordinal], self.firsts[ordinal + 1]
        met: list[tuple[int, float | None]] = []
        step = -diagonal % case.hop
        for _ in range(-(-len(case.rows) // case.hop)):
            number = (diagonal + step) // case.hop
            here = step < len(case.rows) and low <= number < high and number not in case.absent
            value = None
            if here and case.rows[step] >= 0:
                value = float(np.float32(case.similarity[case.rows[step], number]))
            met.append((step, value))
            step += case.hop
        excess = [0.0 if value is None else value - CHANCE for _, value in met]
        runs = [(a, b) for a in range(len(met)) for b in range(a, len(met))]
        first, last = max(runs, key=lambda run: sum(excess[run[0] : run[1] + 1]))
        while sum(excess[first : last + 1]) > 0 and met[first][1] is None:
            first += 1
        values = [value for _, value in met[first : last + 1] if value is not None]
        if not values or ordinal in case.removed:
            return None
        strength = sum(value - CHANCE for value in values)
        mean = sum(values) / len(values)
        place = (ordinal, diagonal, len(values), met[first][0], met[last][0])
        return (strength, *place, diagonal - low * case.hop, mean, (diagonal + met[first][0]))

    def places(self) -> list[tuple[float, ...]]:
        """Strength, ordinal, diagonal, snippets, first and last step, offset and mean."""
        found = [self.place(gid, diagonal) for gid, diagonal in self.case.candidates]
        places = sorted((place for place in found if place), key=lambda p: -p[0])
        if len(self.case.rows) > 1:
            near = [
                self.place(int(place[8]) // self.case.hop, int(place[2]) + shift)
                for shift in range(-REACH, REACH + 1)
                if shift
                for place in places[:REFINED]
            ]
            places = sorted([*places, *(p for p in near if p)], key=lambda p: -p[0])
        kept: list[tuple[float, ...]] = []
        for place in places:
            mine = set(range(int(place[4]), int(place[5]) + 1))
            rivals = [
                set(range(int(other[4]), int(other[5]) + 1))
                for other in kept
                if other[1] == place[1]
            ]
            if not any(len(mine & r) > OVERLAP * min(len(mine), len(r)) for r in rivals):
                kept.append(place)
        return [place[:8] for place in kept]


@dataclasses.dataclass(frozen=True)
class Case:
    """A query and an index."""

    spans: list[int]
    rows: list[int]
    hop: int
    absent: frozenset[int]
    removed: frozenset[int]
    candidates: list[tuple[int, int]]
    similarity: np.ndarray


@st.composite
def cases(draw: st.DrawFn) -> Case:
    spans = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    total, hop = sum(spans), draw(st.sampled_from([1, 2, 4]))
    heard = [True, *draw(st.lists(st.booleans(), max_size=20)), True]
    rows = [sum(heard[:step]) if one else -1 for step, one in enumerate(heard)]
    numbers = st.integers(0, total - 1)
    candidate = st.tuples(numbers, st.integers(-len(rows), total * hop))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return Case(
        spans,
        rows,
        hop,
        frozenset(draw(st.lists(numbers, max_size=3))),
        frozenset(draw(st.lists(st.integers(0, len(spans) - 1), max_size=1))),
        draw(st.lists(candidate, min_size=1, max_size=12)),
        rng.uniform(-0.4, 1.0, (sum(heard), total)),
    )


@given(case=cases())
def test_places_are_those_of_a_naive_reference(case: Case) -> None:
    ranker = made_ranker(
        case.similarity, case.spans, case.rows, case.hop, case.absent, case.removed
    )
    found = rank(ranker, *case.candidates)
    columns = ["strength", "ordinal", "diagonal", "snippets", "first_step", "last_step"]
    columns += ["offset", "similarity"]
    values = np.stack([getattr(found, name).astype(float) for name in columns], axis=1)
    expected = np.array(Reference(case).places()).reshape(-1, len(columns))
    # Where the largest sum is that of two runs, either may be told; no continuous numbers meet.
    np.testing.assert_allclose(values, expected, atol=1e-5)
    for gid, ordinal in zip(found.gid.tolist(), found.ordinal.tolist(), strict=True):
        assert ranker.tracks.locate(0, np.array([gid]))[0][0] == ordinal


# --- the same recording twice


def recordings(codes: np.ndarray, spans: Sequence[int], steps: int) -> Ranker:
    """An index of codes [snippets, width]; `compare` is of no importance."""
    n = len(codes)
    return Ranker(
        MemoryCodes(codes, np.arange(n), n),
        MemoryTracks(spans),
        lambda row, codes: np.ones(len(row), np.float32),
        np.arange(steps),
        HOP,
        lambda one, other: bits.likeness(one, other, 8 * one.shape[1]),
        CHANCE,
    )


def place_at(ordinal: int, first_gid: int, offset: int, steps: int) -> Places:
    """A place of the whole query, `offset` steps into a track."""
    values = {
        "ordinal": ordinal,
        "gid": first_gid + max(0, -(-offset // HOP)),
        "diagonal": HOP * first_gid + offset,
        "offset": offset,
        "last_step": steps - 1,
    }
    fields = [field.name for field in dataclasses.fields(Places)]
    return Places(**{name: np.array([values.get(name, 0)]) for name in fields})


def flipped(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Codes with a share of their bits turned over."""
    bits = np.unpackbits(codes, axis=1)
    bits ^= np.random.default_rng(seed).random(bits.shape) < share
    return np.packbits(bits, axis=1)


@pytest.mark.parametrize(("share", "same"), [(0.0, True), (0.1, True), (0.3, False), (0.5, False)])
def test_twins_share_most_of_their_bits(share: float, same: bool) -> None:
    codes = np.random.default_rng(1).integers(256, size=(8, 64)).astype(np.uint8)
    ranker = recordings(np.concatenate((codes, flipped(codes, share, 2))), [8, 8], 20)
    one, other = place_at(0, 0, 4, 20), place_at(1, 8, 4, 20)
    both = Places.join([one, other])
    assert ranker.twins(one, both).tolist() == [True, same]
    assert ranker.twins(other, both).tolist() == [same, True]
    assert ranker.twins(one, both.take(np.empty(0, np.int64))).tolist() == []


def test_another_moment_of_the_recording_is_no_twin() -> None:
    codes = np.random.default_rng(1).integers(256, size=(8, 64)).astype(np.uint8)
    ranker = recordings(np.concatenate((codes, codes)), [8, 8], 12)
    assert not ranker.twins(place_at(0, 0, 4, 12), place_at(1, 8, 8, 12))[0]


@pytest.mark.parametrize("off", range(-REACH, REACH + 1))
def test_twins_may_lie_half_a_hop_apart(off: int) -> None:
    # The copy begins `off` steps later, so its snippets are of moments between those of the other.
    codes = np.random.default_rng(1).integers(256, size=(10, 64)).astype(np.uint8)
    ranker = recordings(np.concatenate((codes, codes)), [10, 10], 21)
    assert ranker.twins(place_at(0, 0, 8, 21), place_at(1, 10, 8 + off, 21))[0]


def test_recordings_that_share_the_part_are_twins_whatever_comes_after() -> None:
    # Two tracks begin alike and go on differently, while the query goes on with a third.
    codes = np.random.default_rng(1).integers(256, size=(16, 64)).astype(np.uint8)
    codes[8:12] = codes[:4]
    ranker = recordings(codes, [8, 8], 32)
    one, other = place_at(0, 0, 0, 32), place_at(1, 8, 0, 32)
    assert not ranker.twins(one, other)[0]
    assert ranker.twins(dataclasses.replace(one, last_step=np.array([12])), other)[0]


def test_nothing_in_common_is_no_twin() -> None:
    # The query begins two hops before one track ends; the other begins after that.
    codes = np.zeros((8, 64), np.uint8)
    ranker = recordings(codes, [4, 4], 20)
    assert not ranker.twins(place_at(0, 0, 12, 20), place_at(1, 4, -16, 20))[0]


def test_constants_make_sense() -> None:
    # A place is looked at as far to either side as votes are gathered.
    assert ranking.REACH == voting.REACH
    assert ranking.KEPT > REFINED * 2 * REACH
