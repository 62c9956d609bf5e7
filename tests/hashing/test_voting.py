from __future__ import annotations

import io
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing import voting
from hashing.shards import Hits, Shard, TableSet
from hashing.tables import build_shard
from hashing.voting import (
    CHANCE_FACTOR,
    DENSITY_SHARE,
    ENOUGH_WINDOWS,
    MAX_QUERIES,
    MAX_STEPS,
    REACH,
    UNITS_PER_NAT,
    WINDOWS,
    Windows,
    find_windows,
    look_up,
    surprise,
    weigh,
)

STEPS_PER_SNIPPET = 4


def hits_of(buckets: list[tuple[int, list[int]]], rows: int) -> Hits:
    """What `TableSet.lookup` gives for buckets of (row, gids)."""
    return Hits(
        gid=np.array([gid for _, gids in buckets for gid in gids], np.uint32),
        bucket_row=np.array([row for row, _ in buckets], np.int32),
        bucket_hits=np.array([len(gids) for _, gids in buckets], np.int64),
        bucket_sizes=np.zeros((rows, 1), np.uint32),
    )


def one_query(
    buckets: list[tuple[int, list[int]]], n_snippets: int = 1000, steps: list[int] | None = None
) -> Windows:
    """Windows of one query, from buckets of (step, gids)."""
    steps = sorted({step for step, _ in buckets}) if steps is None else steps
    row = {step: number for number, step in enumerate(steps)}
    hits = hits_of([(row[step], gids) for step, gids in buckets], len(steps))
    return find_windows(
        hits,
        np.zeros(len(steps), np.int64),
        np.array(steps),
        1,
        STEPS_PER_SNIPPET,
        n_snippets,
    )


class Reference:
    """The windows of one query by dictionaries and loops."""

    def __init__(self, buckets: list[tuple[int, list[int]]], last_step: int, n: int) -> None:
        self.at: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for step, gids in buckets:
            weight = round(
                min(255, max(1, (math.log(n) - math.log(max(1, len(gids)))) * UNITS_PER_NAT))
            )
            for gid in gids:
                self.at[gid * STEPS_PER_SNIPPET - step].append((step, weight, gid))
        hits = sum(len(found) for found in self.at.values())
        self.chance = hits / (last_step + 1) * (2 * REACH + 1) / (n * STEPS_PER_SNIPPET)

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

    def worth(self, diagonal: int, first: int, last: int) -> float:
        """Weight less length of the part from step `first` to `last`."""
        held = self.within(diagonal, REACH)
        length = held[-1][0] - held[0][0] + 1
        votes = max(CHANCE_FACTOR * self.chance, DENSITY_SHARE * len(held) / length)
        mean = sum(weight for _, weight, _ in held) / len(held)
        inside = sum(weight for step, weight, _ in held if first <= step <= last)
        return inside - votes * mean * (last - first)

    def best_worth(self, diagonal: int) -> float:
        steps = sorted({step for step, _, _ in self.within(diagonal, REACH)})
        return max(self.worth(diagonal, a, b) for a in steps for b in steps if a <= b)


# Few gids and steps, so that votes fall together; buckets of one row are distinct snippets.
bucket = st.tuples(st.integers(0, 30), st.lists(st.integers(0, 25), max_size=4, unique=True))
queries = st.lists(st.lists(bucket, max_size=14), min_size=1, max_size=4)


@given(queries=queries, n_snippets=st.sampled_from([3, 100, 10**6]))
def test_windows_are_those_of_a_naive_reference(
    queries: list[list[tuple[int, list[int]]]], n_snippets: int
) -> None:
    rows = [(q, step) for q, buckets in enumerate(queries) for step, _ in buckets]
    every = [gids for buckets in queries for _, gids in buckets]
    found = find_windows(
        hits_of(list(enumerate(every)), len(rows)),
        np.array([q for q, _ in rows], np.int64),
        np.array([step for _, step in rows], np.int64),
        len(queries),
        STEPS_PER_SNIPPET,
        n_snippets,
    )
    for query, buckets in enumerate(queries):
        last_step = max((step for step, _ in buckets), default=0)
        reference = Reference(buckets, last_step, n_snippets)
        held = np.flatnonzero(np.isfinite(found.evidence[query])).tolist()
        diagonals = [int(found.diagonal[query, at]) for at in held]
        groups = reference.groups()
        grouped = diagonals[: min(len(groups), WINDOWS)]
        if len(groups) <= WINDOWS:
            assert set(grouped) == groups
        scores = [reference.score(d) for d in grouped]
        assert scores == sorted(scores, reverse=True)
        for at, diagonal in zip(held, diagonals, strict=True):
            first, last = int(found.first_step[query, at]), int(found.last_step[query, at])
            inside = [hit for hit in reference.within(diagonal, REACH) if first <= hit[0] <= last]
            assert (inside[0][0], inside[-1][0]) == (first, last)
            assert found.votes[query, at] == len(inside)
            weight = sum(w for _, w, _ in inside)
            assert found.evidence[query, at] == pytest.approx(weight / UNITS_PER_NAT)
            assert int(found.gid[query, at]) in {gid for _, _, gid in inside}
            worth = reference.worth(diagonal, first, last)
            assert worth == pytest.approx(reference.best_worth(diagonal), abs=1e-6)
        # Where there are few windows, the heaviest votes that stand alone follow.
        wanted = max(0, ENOUGH_WINDOWS - len(groups))
        expected = [weight / UNITS_PER_NAT for weight in reference.singles()[:wanted]]
        alone = found.evidence[query, held[len(grouped) :]]
        np.testing.assert_allclose(alone, expected)


def test_votes_of_all_tables_add_up_by_hand() -> None:
    # Two snippets, half a second apart, each met in two tables: buckets of 1 and 10 of 1,000.
    buckets = [
        (0, [7]),
        (0, [7, *range(100, 109)]),
        (4, [8]),
        (4, [8, *range(200, 209)]),
    ]
    found = one_query(buckets)
    assert found.diagonal[0, 0] == 28
    assert found.votes[0, 0] == 4
    assert (found.first_step[0, 0], found.last_step[0, 0]) == (0, 4)
    expected = 2 * round(math.log(1000) * 11) / 11 + 2 * round(math.log(100) * 11) / 11
    assert found.evidence[0, 0] == pytest.approx(expected)
    assert found.gid[0, 0] in (7, 8)


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
    assert found.votes[0, 0] == (11 if abs(offset) <= REACH else 10)
    assert abs(found.diagonal[0, 0] - 200) <= abs(offset)


def test_the_segments_last_snippet_and_the_longest_query_fit() -> None:
    steps = [0, MAX_STEPS - 1]
    gid = 2**32 - 1
    buckets = [(steps[0], [gid]), (steps[0], [gid, 0]), (steps[1], [0]), (steps[1], [0, gid])]
    found = one_query(buckets, n_snippets=2**32, steps=steps)
    diagonals = {int(d) for d in found.diagonal[0][np.isfinite(found.evidence[0])]}
    expected = {4 * gid, 0, -(MAX_STEPS - 1), 4 * gid - (MAX_STEPS - 1)}
    assert diagonals == expected
    by_diagonal = dict(zip(found.diagonal[0].tolist(), found.gid[0].tolist(), strict=True))
    assert {by_diagonal[d] for d in (4 * gid, 4 * gid - MAX_STEPS + 1)} == {gid}
    assert {by_diagonal[d] for d in (0, 1 - MAX_STEPS)} == {0}


def test_queries_do_not_vote_for_each_other() -> None:
    # The last place of one query is the neighbour of the first of the next.
    hits = hits_of([(0, [2**32 - 1]), (1, [0]), (1, [0])], 2)
    found = find_windows(hits, np.array([0, 1]), np.array([0, 0]), 2, 4, 2**32)
    assert found.votes[:, 0].tolist() == [1, 2]
    assert found.gid[:, 0].tolist() == [2**32 - 1, 0]


def test_as_many_queries_as_may_be_asked_at_once() -> None:
    count = MAX_QUERIES
    hits = hits_of([(q, [10 * q, 500]) for q in range(count)], count)
    found = find_windows(hits, np.arange(count), np.zeros(count, np.int64), count, 4, 1000)
    for query in range(count):
        expected = Counter([40 * query, 2000])
        held = np.isfinite(found.evidence[query])
        assert Counter(found.diagonal[query, held].tolist()) == expected


def test_nothing_hit_gives_no_windows() -> None:
    found = find_windows(hits_of([(0, [])], 1), np.zeros(1, int), np.zeros(1, int), 1, 4, 1000)
    assert not np.isfinite(found.evidence).any()
    assert found.evidence.shape == (1, WINDOWS)
    assert found.votes.sum() == 0


def true_votes(steps: range, gid: int, diagonal: int = 0) -> list[tuple[int, list[int]]]:
    """Five votes for every snippet that lies on the grid of the index."""
    return [
        (step, [gid + (step + diagonal) // 4]) for step in steps if step % 4 == 0 for _ in range(5)
    ]


def test_chance_votes_before_and_after_a_track_are_not_its_part() -> None:
    # A query of 200 steps plays a track from step 80 to 116; votes that chance has put on the same
    # diagonal lie in the tracks before and after.
    chance = [(4, [501]), (36, [509]), (160, [540]), (196, [549])]
    found = one_query([*true_votes(range(80, 120), 500), *chance], n_snippets=100_000)
    assert (found.first_step[0, 0], found.last_step[0, 0]) == (80, 116)
    assert found.votes[0, 0] == 50
    assert 520 <= found.gid[0, 0] <= 529
    assert found.diagonal[0, 0] == 2000


def test_a_gap_between_two_halves_of_a_match_is_bridged() -> None:
    votes = [*true_votes(range(0, 40), 500), *true_votes(range(60, 100), 500)]
    found = one_query(votes, n_snippets=100_000)
    assert (found.first_step[0, 0], found.last_step[0, 0]) == (0, 96)
    assert found.votes[0, 0] == 100


def test_few_votes_far_apart_all_count_where_there_are_no_more() -> None:
    found = one_query([(0, [500]), (40, [510]), (100, [525])], n_snippets=100_000)
    assert found.votes[0, 0] == 3
    assert (found.first_step[0, 0], found.last_step[0, 0]) == (0, 100)


def test_surprise_by_hand() -> None:
    # One vote among 100 look-ups in an index of 1,000: 6.9 nats less ln(e * 100) less ln 1,000.
    found = surprise(np.array([math.log(1000)]), np.array([1.0]), np.array([100.0]), 1000)
    assert found[0] == pytest.approx(-1 - math.log(100))
    # Four of four: every choice is the only one, so (e L / k) ** k is e ** 4.
    found = surprise(np.array([40.0]), np.array([4.0]), np.array([4.0]), 1000)
    assert found[0] == pytest.approx(40 - 4 - math.log(1000))


@given(
    evidence=st.floats(0, 1e4),
    votes=st.integers(1, 1000),
    look_ups=st.integers(1, 10**6),
    n=st.integers(1, 10**10),
)
def test_surprise_grows_with_what_speaks_for_a_match(
    evidence: float, votes: int, look_ups: int, n: int
) -> None:
    def of(evidence: float, look_ups: int, n: int) -> float:
        values = (np.array([value], float) for value in (evidence, votes, look_ups))
        return float(surprise(*values, n)[0])

    here = of(evidence, look_ups, n)
    assert of(evidence + 1, look_ups, n) == pytest.approx(here + 1)
    assert of(evidence, look_ups * 2, n) <= here
    assert of(evidence, look_ups, n * 2) <= here


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


def chance_surprise(n_snippets: int, snippets: int, seed: int) -> np.ndarray:
    """The best surprise of queries that have no answer, in an index of random keys."""
    rng = np.random.default_rng(seed)
    n_tables, probes = 10, 4
    key_bits = max(4, math.ceil(math.log2(n_snippets)) - 2)  # four postings a bucket
    tables = tables_of(rng.integers(0, 1 << key_bits, (n_snippets, n_tables)), key_bits)
    steps = np.arange(snippets)
    found = []
    for _ in range(6):
        keys = [
            rng.integers(0, 1 << key_bits, (snippets, probes, n_tables)).astype(np.uint32)
            for _ in range(MAX_QUERIES)
        ]
        windows, look_ups = look_up(
            tables, 0, keys, [steps] * MAX_QUERIES, STEPS_PER_SNIPPET, n_snippets
        )
        values = surprise(
            windows.evidence, windows.votes.astype(float), look_ups[:, None], n_snippets
        )
        found.append(values.max(axis=1))
    return np.concatenate(found)


def test_what_chance_collects_does_not_grow_with_the_index_or_the_query() -> None:
    # An index a hundred times as large asks for ln(100) = 4.6 nats more; what is beyond that stays.
    small, large = (chance_surprise(n, 8, seed=1) for n in (1_000, 100_000))
    for share in (0.5, 0.9):
        assert abs(np.quantile(small, share) - np.quantile(large, share)) < 2.5
    # Nor does it grow for queries five times as long. In an index of two tracks the bound is loose,
    # on the safe side.
    longer = [chance_surprise(n, 40, seed=1) for n in (1_000, 100_000)]
    assert abs(np.quantile(large, 0.9) - np.quantile(longer[1], 0.9)) < 2.5
    for best in (small, large, *longer):
        assert np.quantile(best, 0.99) < 4.0


def test_too_many_queries_and_too_long_ones_are_refused() -> None:
    tables = tables_of(np.zeros((4, 1), np.int64), 4)
    keys, steps = np.zeros((1, 1, 1), np.uint32), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="33 queries at once, at most 32"):
        look_up(tables, 0, [keys] * 33, [steps] * 33, 4, 4)
    with pytest.raises(ValueError, match="must be cut"):
        look_up(tables, 0, [keys], [steps + MAX_STEPS], 4, 4)


def test_what_is_everywhere_can_be_passed_over() -> None:
    keys = np.zeros((50, 2), np.int64)
    keys[:, 1] = np.arange(50) % 16
    tables = tables_of(keys, 4)
    asked = [np.array([[[0, 3]]], np.uint32)]
    everything, look_ups = look_up(tables, 0, asked, [np.zeros(1, np.int64)], 4, 50)
    assert look_ups.tolist() == [2.0]
    assert everything.votes[0, 0] == 2
    rare, _ = look_up(tables, 0, asked, [np.zeros(1, np.int64)], 4, 50, max_bucket=10)
    held = np.isfinite(rare.evidence[0])
    assert sorted(rare.gid[0, held].tolist()) == [3, 19, 35]
    assert rare.votes[0, held].tolist() == [1, 1, 1]


def test_constants_fit_the_packed_hit() -> None:
    bits = voting.WEIGHT_BITS + voting.STEP_BITS + voting.DIAGONAL_BITS + voting.QUERY_BITS
    assert bits == 64
    # The largest place: a segment of 2**32 snippets, four steps to one, and the bias.
    assert 4 * 2**32 + MAX_STEPS + REACH < 1 << voting.DIAGONAL_BITS
    assert round(math.log(2**32) * UNITS_PER_NAT) < 1 << voting.WEIGHT_BITS
