from __future__ import annotations

import io
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing import voting
from hashing.segments import JoinedHits, JoinedTables, Numbering
from hashing.shards import Shard, TableSet
from hashing.tables import build_shard
from hashing.voting import (
    MAX_QUERIES,
    MAX_STEPS,
    REACH,
    UNITS_PER_NAT,
    Candidates,
    find_candidates,
    look_up,
    weigh,
)

STEPS_PER_SNIPPET = 4


def hits_of(buckets: list[tuple[int, list[int]]]) -> JoinedHits:
    """What `JoinedTables.lookup` gives for buckets of (row, gids) of one segment."""
    loads = np.array([len(gids) for _, gids in buckets], np.int64)
    return JoinedHits(
        number=np.array([gid for _, gids in buckets for gid in gids], np.int64),
        bucket_row=np.array([row for row, _ in buckets], np.int32),
        bucket_hits=loads,
        bucket_load=loads,
        numbering=Numbering(np.zeros(1, np.int64), np.zeros(1, np.int64)),
    )


def one_track(segment: np.ndarray, gid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All snippets are of one track."""
    del segment
    return np.zeros_like(gid), np.zeros_like(gid), np.full_like(gid, 2**32)


def one_query(
    buckets: list[tuple[int, list[int]]],
    n_snippets: int = 1000,
    steps: list[int] | None = None,
    limit: int = 100,
) -> Candidates:
    """Candidates of one query, from buckets of (step, gids)."""
    steps = sorted({step for step, _ in buckets}) if steps is None else steps
    row = {step: number for number, step in enumerate(steps)}
    hits = hits_of([(row[step], gids) for step, gids in buckets])
    return find_candidates(
        hits,
        np.zeros(len(steps), np.int64),
        np.array(steps),
        np.array([limit]),
        STEPS_PER_SNIPPET,
        n_snippets,
        one_track,
    )


class Reference:
    """The windows of one query by dictionaries and loops."""

    def __init__(self, buckets: list[tuple[int, list[int]]], n: int) -> None:
        self.at: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for step, gids in buckets:
            weight = round(
                min(255, max(1, (math.log(n) - math.log(max(1, len(gids)))) * UNITS_PER_NAT))
            )
            for gid in gids:
                self.at[gid * STEPS_PER_SNIPPET - step].append((step, weight, gid))

    def within(self, diagonal: int, reach: int) -> list[tuple[int, int, int]]:
        """Hits on the diagonals up to `reach` away."""
        near = range(diagonal - reach, diagonal + reach + 1)
        return sorted(hit for d in near for hit in self.at.get(d, []))

    def score(self, diagonal: int) -> int:
        wide, middle = (
            sum(weight for _, weight, _ in self.within(diagonal, reach))
            for reach in (REACH, REACH // 2)
        )
        return 4 * wide + middle

    def groups(self) -> set[int]:
        """Middles of the windows of two votes or more."""
        crowded = [d for d in self.at if len(self.within(d, REACH)) > 1]
        return {
            d
            for d in crowded
            if all(
                self.score(other) < self.score(d)
                or (self.score(other) == self.score(d) and other > d)
                for other in crowded
                if 0 < abs(other - d) <= REACH
            )
        }

    def singles(self) -> list[int]:
        """Weights of the votes that stand alone, heaviest first."""
        alone = [self.within(d, REACH) for d in self.at]
        return sorted((found[0][1] for found in alone if len(found) == 1), reverse=True)


# Few gids and steps, so that votes fall together; buckets of one row are distinct snippets.
bucket = st.tuples(st.integers(0, 30), st.lists(st.integers(0, 25), max_size=4, unique=True))
queries = st.lists(
    st.tuples(st.lists(bucket, max_size=14), st.integers(0, 12)), min_size=1, max_size=4
)


@given(queries=queries, n_snippets=st.sampled_from([3, 100, 10**6]))
def test_candidates_are_those_of_a_naive_reference(
    queries: list[tuple[list[tuple[int, list[int]]], int]], n_snippets: int
) -> None:
    rows = [(q, step) for q, (buckets, _) in enumerate(queries) for step, _ in buckets]
    every = [gids for buckets, _ in queries for _, gids in buckets]
    found = find_candidates(
        hits_of(list(enumerate(every))),
        np.array([q for q, _ in rows], np.int64),
        np.array([step for _, step in rows], np.int64),
        np.array([limit for _, limit in queries]),
        STEPS_PER_SNIPPET,
        n_snippets,
        one_track,
    )
    assert np.all(np.diff(found.query) >= 0)
    for query, (buckets, limit) in enumerate(queries):
        reference = Reference(buckets, n_snippets)
        mine = found.query == query
        diagonals = found.diagonal[mine].tolist()
        groups = reference.groups()
        singles = reference.singles()
        assert len(diagonals) == min(limit, len(groups) + len(singles))
        # The windows of several votes come first, heaviest first.
        grouped = diagonals[: min(len(groups), limit)]
        assert len(set(diagonals)) == len(diagonals)
        assert set(grouped) <= groups
        scores = [reference.score(d) for d in grouped]
        assert scores == sorted((reference.score(d) for d in groups), reverse=True)[: len(scores)]
        # Then the heaviest votes that stand alone.
        weights = [reference.within(d, REACH)[0][1] for d in diagonals[len(grouped) :]]
        assert weights == singles[: len(weights)]
        for diagonal, votes, gid in zip(
            diagonals, found.votes[mine].tolist(), found.gid[mine].tolist(), strict=True
        ):
            held = reference.within(diagonal, REACH)
            assert votes == len(held)
            assert gid in {one for _, _, one in held}


def test_votes_of_all_tables_add_up_by_hand() -> None:
    # Two snippets, half a second apart, each met in two tables: buckets of 1 and 10 of 1,000.
    buckets = [
        (0, [7]),
        (0, [7, *range(100, 109)]),
        (4, [8]),
        (4, [8, *range(200, 209)]),
    ]
    found = one_query(buckets)
    assert found.query.tolist() == [0] * 19
    assert found.diagonal[0] == 28
    assert found.votes.tolist() == [4] + [1] * 18
    assert found.gid[0] in (7, 8)
    assert sorted(found.gid[1:].tolist()) == [*range(100, 109), *range(200, 209)]
    # Fewer are wanted: the weightiest stay.
    assert one_query(buckets, limit=1).diagonal.tolist() == [28]
    assert one_query(buckets, limit=0).diagonal.size == 0


def test_a_rare_vote_counts_more_than_two_common_ones() -> None:
    # Two votes of half of all snippets each: they make a window all the same, which comes first.
    common = list(range(500, 999))
    found = one_query([(0, [7]), (4, [*common, 300]), (8, [*common, 301])], limit=2)
    assert found.votes.tolist()[0] == 2
    # Of single votes the rare one comes first.
    found = one_query([(0, [7]), (4, [100, 200, 300])], limit=2)
    assert found.gid[0] == 7


def test_weights_fill_8_bits() -> None:
    sizes = np.array([1, 2, 1000, 2000, 0])
    nats = [math.log(1000), math.log(500), 0, 0, math.log(1000)]
    assert weigh(sizes, 1000).tolist() == [max(1, round(11 * value)) for value in nats]
    assert weigh(np.array([1]), 2**32).tolist() == [244]
    assert weigh(np.array([1]), 2**62).tolist() == [255]
    assert weigh(np.array([1, 5]), 0).tolist() == [8, 1]


@pytest.mark.parametrize("offset", [-REACH - 1, -REACH, -1, 0, 1, REACH, REACH + 1])
def test_a_window_reaches_half_a_hop(offset: int) -> None:
    # Ten votes on one diagonal, and one that is `offset` steps from it.
    votes = [(4 * k, [50 + k]) for k in range(10)]
    found = one_query([*votes, (20 - offset, [55])])
    assert found.votes[0] == (11 if abs(offset) <= REACH else 10)
    assert abs(found.diagonal[0] - 200) <= abs(offset)
    assert 50 <= found.gid[0] < 60


def test_the_middle_of_a_window_tells_the_track() -> None:
    # A query of 200 steps plays a track from step 80 to 116; votes that chance has put on the same
    # diagonal lie in the tracks before and after.
    true = [(step, [500 + step // 4]) for step in range(80, 120, 4) for _ in range(5)]
    chance = [(4, [501]), (36, [509]), (160, [540]), (196, [549])]
    found = one_query([*true, *chance], n_snippets=100_000)
    assert found.votes[0] == 54
    assert 520 <= found.gid[0] <= 529
    assert found.diagonal[0] == 2000


def test_the_segments_last_snippet_and_the_longest_query_fit() -> None:
    steps = [0, MAX_STEPS - 1]
    gid = 2**32 - 1
    buckets = [(steps[0], [gid]), (steps[0], [gid, 0]), (steps[1], [0]), (steps[1], [0, gid])]
    found = one_query(buckets, n_snippets=2**32, steps=steps)
    expected = {
        4 * gid: gid,
        0: 0,
        -(MAX_STEPS - 1): 0,
        4 * gid - (MAX_STEPS - 1): gid,
    }
    assert dict(zip(found.diagonal.tolist(), found.gid.tolist(), strict=True)) == expected


def test_queries_do_not_vote_for_each_other() -> None:
    # The last place of one query is the neighbour of the first of the next.
    hits = hits_of([(0, [2**32 - 1]), (1, [0]), (1, [0])])
    limits = np.array([5, 5])
    found = find_candidates(hits, np.array([0, 1]), np.array([0, 0]), limits, 4, 2**32, one_track)
    assert found.query.tolist() == [0, 1]
    assert found.votes.tolist() == [1, 2]
    assert found.gid.tolist() == [2**32 - 1, 0]


def test_as_many_queries_as_may_be_asked_at_once() -> None:
    count = MAX_QUERIES
    hits = hits_of([(q, [10 * q, 500]) for q in range(count)])
    found = find_candidates(
        hits, np.arange(count), np.zeros(count, np.int64), np.full(count, 9), 4, 1000, one_track
    )
    for query in range(count):
        expected = Counter([40 * query, 2000])
        assert Counter(found.diagonal[found.query == query].tolist()) == expected


def test_each_query_has_a_limit_of_its_own() -> None:
    hits = hits_of([(q, [100 * k for k in range(6)]) for q in range(4)])
    limits = np.array([3, 0, 9, 1])
    found = find_candidates(hits, np.arange(4), np.zeros(4, np.int64), limits, 4, 1000, one_track)
    assert np.bincount(found.query, minlength=4).tolist() == [3, 0, 6, 1]


@pytest.mark.parametrize("buckets", [[], [(0, [])]])
def test_nothing_hit_gives_no_candidates(buckets: list[tuple[int, list[int]]]) -> None:
    found = one_query(buckets, steps=[0])
    for column in (found.query, found.gid, found.diagonal, found.votes):
        assert column.size == 0


def tables_of(keys: np.ndarray, key_bits: int) -> TableSet:
    """An index in memory of keys [n, tables]."""
    shards = {}
    for table in range(keys.shape[1]):
        gids = np.arange(len(keys), dtype=np.uint64)
        packed = keys[:, table].astype(np.uint64) << np.uint64(32) | gids
        file = io.BytesIO()
        build_shard(
            packed, file, table=table, segment=0, key_bits=key_bits, key_lo=0, key_hi=1 << key_bits
        )
        shards[str(table)] = file.getvalue()
    listed = [(name, 0, int(name), 0, 1 << key_bits) for name in shards]
    return TableSet(
        listed, keys.shape[1], key_bits, open_shard=lambda name: Shard(shards[name], name)
    )


def look_up_one(
    tables: TableSet,
    keys: list[np.ndarray],
    steps: list[np.ndarray],
    limits: np.ndarray,
    steps_per_snippet: int,
    n: int,
    max_bucket: int | None = None,
) -> Candidates:
    """Candidates in an index of one segment and one track."""
    joined = JoinedTables(tables)
    return look_up(joined, [0], keys, steps, limits, steps_per_snippet, n, one_track, max_bucket)


def test_the_true_place_is_a_candidate_among_those_of_chance() -> None:
    # Each snippet of a query of 9 is met in 3 of 10 tables at its true place, in an index of 20,000
    # snippets whose keys are random: four postings a bucket.
    rng = np.random.default_rng(1)
    n, key_bits, gid = 20_000, 12, 12_345
    index = rng.integers(0, 1 << key_bits, (n, 10))
    asked = rng.integers(0, 1 << key_bits, (9, 4, 10)).astype(np.uint32)
    for k in range(9):
        tables = rng.permutation(10)[:3]
        asked[k, 0, tables] = index[gid + k, tables]
    steps = STEPS_PER_SNIPPET * np.arange(9)
    found = look_up_one(
        tables_of(index, key_bits), [asked], [steps], np.array([5]), STEPS_PER_SNIPPET, n
    )
    assert found.diagonal[0] == STEPS_PER_SNIPPET * gid
    assert found.votes[0] >= 27
    assert gid <= found.gid[0] < gid + 9
    assert found.query.size == 5


def test_queries_of_one_look_up_are_apart() -> None:
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 256, (300, 4))
    tables = tables_of(keys, 8)
    asked = [keys[first : first + 3, None, :].astype(np.uint32) for first in (10, 200, 77)]
    steps = [np.array([0, 4, 8]), np.array([2, 6, 10]), np.array([0, 4, 8])]
    limits = np.full(3, 20)
    together = look_up_one(tables, asked, steps, limits, 4, 300)
    for query in range(3):
        alone = look_up_one(tables, [asked[query]], [steps[query]], limits[:1], 4, 300)
        mine = together.query == query
        for name in ("gid", "diagonal", "votes"):
            np.testing.assert_array_equal(getattr(together, name)[mine], getattr(alone, name))
    first = [together.diagonal[together.query == query][0] for query in range(3)]
    assert first == [40, 798, 308]


def test_too_many_queries_and_too_long_ones_are_refused() -> None:
    tables = tables_of(np.zeros((4, 1), np.int64), 4)
    keys, steps = np.zeros((1, 1, 1), np.uint32), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="33 queries at once, at most 32"):
        look_up_one(tables, [keys] * 33, [steps] * 33, np.full(33, 5), 4, 4)
    with pytest.raises(ValueError, match="must be cut"):
        look_up_one(tables, [keys], [steps + MAX_STEPS], np.array([5]), 4, 4)


def test_what_is_everywhere_can_be_passed_over() -> None:
    keys = np.zeros((50, 2), np.int64)
    keys[:, 1] = np.arange(50) % 16
    tables = tables_of(keys, 4)
    asked, limits = [np.array([[[0, 3]]], np.uint32)], np.array([100])
    everything = look_up_one(tables, asked, [np.zeros(1, np.int64)], limits, 4, 50)
    assert everything.votes[0] == 2
    assert everything.query.size == 50
    rare = look_up_one(tables, asked, [np.zeros(1, np.int64)], limits, 4, 50, max_bucket=10)
    assert sorted(rare.gid.tolist()) == [3, 19, 35]
    assert rare.votes.tolist() == [1, 1, 1]


def test_constants_fit_the_packed_hit() -> None:
    bits = voting.WEIGHT_BITS + voting.STEP_BITS + voting.DIAGONAL_BITS + voting.QUERY_BITS
    assert bits == 64
    # The largest place: a segment of 2**32 snippets, four steps to one, and the bias.
    assert 4 * 2**32 + MAX_STEPS + REACH < 1 << voting.DIAGONAL_BITS
    assert round(math.log(2**32) * UNITS_PER_NAT) < 1 << voting.WEIGHT_BITS
