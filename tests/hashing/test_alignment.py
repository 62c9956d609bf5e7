"""The aligner against plain recurrences and librosa; bounds that change no result; bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing import alignment
from hashing.alignment import align, align_matrix, corner, hash_score, hash_scores


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bitwise_count(a[:, None] ^ b[None]).astype(np.int64)


def reference(matrix: np.ndarray, gully: float, penalty: float) -> tuple[float, int]:
    """Cost and cells of the cheapest path, of those the shortest: pairs compare as they should."""
    rows, columns = matrix.shape
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i in range(rows):
        for j in range(columns):
            before = (0.0, 0)
            if i and j:
                (above, n), (left, m) = best[i - 1, j], best[i, j - 1]
                before = min(best[i - 1, j - 1], (above + penalty, n), (left + penalty, m))
            best[i, j] = (before[0] + float(matrix[i, j]), before[1] + 1)
    shorter = min(rows, columns)
    least = min(int(gully * shorter), shorter - 1)
    ends = [(rows - 1, j) for j in range(least, columns)]
    return min(best[end] for end in ends + [(i, columns - 1) for i in range(least, rows)])


def least_ratio_is_below(matrix: np.ndarray, gully: float, penalty: float, limit: float) -> bool:
    return reference(matrix - limit, gully, penalty)[0] < -1e-9


# Few different codes make ties and detours; all bits make large distances.
near = st.sampled_from([0, 1, 3, 7, 0xFF, 0xFFFF, 0xFFFFFFFF])
codes = st.lists(near, min_size=1, max_size=24).map(lambda c: np.array(c, np.uint32))
shares = st.sampled_from([0.0, 0.5, 0.9, 1.0])
penalties = st.sampled_from([0, 1, 4, 15, 40, 10**9, 10**15])


@given(codes, codes, shares, penalties)
@settings(max_examples=60)
def test_the_score_is_that_of_a_plain_recurrence(a, b, gully, penalty):
    cost, cells = reference(distances(a, b), gully, penalty)
    assert hash_score(a, b, gully, penalty) == cost / cells
    assert hash_score(b, a, gully, penalty) == cost / cells


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 70), (70, 1), (31, 33), (64, 65), (97, 40)])
def test_sequences_of_every_length_fill_registers(m: int, n: int):
    rng = np.random.default_rng(m)
    a, b = (rng.integers(0, 2**32, size, dtype=np.uint32) for size in (m, n))
    for penalty in (2, 15):
        cost, cells = reference(distances(a, b), 0.9, penalty)
        assert hash_score(a, b, penalty=penalty) == cost / cells


@given(codes, codes, penalties)
@settings(max_examples=30)
def test_sums_of_64_bits_give_the_same(a, b, penalty):
    expected = hash_score(a, b, penalty=penalty)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_sum_bits", lambda *_: 33)
        assert hash_score(a, b, penalty=penalty) == expected


@pytest.mark.parametrize(("m", "n", "wide"), [(480, 480, False), (8000, 8000, False),
                                              (9000, 9000, True), (1, 60_000, False)])  # fmt: skip
def test_sums_that_fit_32_bits(m: int, n: int, wide: bool):
    assert (alignment._sum_bits(m, n, 15) > 32) == wide
    assert (alignment._sum_bits(m, n, 10**12) > 32) == (wide or m == 8000)


@pytest.mark.parametrize("n", [8000, 8200])
def test_the_largest_sums_do_not_overflow(n: int):
    """Every distance 32, at a size that just fits 32 bits, and at one that does not."""
    zeros = np.zeros(n, np.uint32)
    assert hash_score(zeros, ~zeros) == 32.0


def test_hand_made_values():
    a = np.array([1, 2, 4, 8], np.uint32)
    assert hash_score(a, a) == 0.0
    # One code too many in the middle: the step down costs 15 and the code 2 bits, over 5 cells;
    # going on one place beside costs 2 bits at each of two cells, over 4.
    b = np.array([1, 2, 16, 4, 8], np.uint32)
    assert hash_score(a, b, gully=1.0, penalty=1) == pytest.approx((1 + 2) / 5)
    assert hash_score(a, b, gully=1.0) == pytest.approx((2 + 2) / 4)


def test_librosa_finds_the_same_cost_where_the_path_crosses_all_rows():
    """Free starts in the first row alone, and every end in the last one: what librosa can do.

    The matrix is so much wider than high that no cheapest path leaves by the sides.
    """
    from librosa.sequence import dtw

    rng = np.random.default_rng(2)
    for _ in range(5):
        a = rng.integers(0, 2**32, 30, dtype=np.uint32)
        b = rng.integers(0, 2**32, 90, dtype=np.uint32)
        # Noisy and slower by a tenth, so that the path must step.
        b[25:58] = a[np.minimum(np.arange(33) * 10 // 11, 29)] ^ np.uint32(1)
        matrix = distances(a, b).astype(np.float32)
        sums, path = dtw(
            C=matrix,
            step_sizes_sigma=np.array([[1, 1], [1, 0], [0, 1]]),
            weights_add=np.array([0.0, 15.0, 15.0]),
            weights_mul=np.ones(3),
            subseq=True,
        )
        found = align_matrix(matrix, gully=0.9, penalty=15.0)
        assert found.cost == pytest.approx(float(sums[-1].min()))
        assert np.array_equal(found.path, path[::-1])
        assert hash_score(a, b) == pytest.approx(float(sums[-1].min()) / len(path))


# Many sequences.


@st.composite
def catalogues(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    query = rng.integers(0, 2**32, draw(st.integers(1, 150)), dtype=np.uint32)
    songs = []
    for _ in range(draw(st.integers(1, 12))):
        size = int(rng.integers(0, 200))
        song = rng.integers(0, 2**32, size, dtype=np.uint32)
        if rng.random() < 0.7:  # one that is alike in some part, at some place, to some degree
            flips = rng.random((query.size, 32)) < rng.choice([0.02, 0.1, 0.25, 0.35])
            noise = (flips * (1 << np.arange(32))).sum(1).astype(np.uint32)
            song = np.resize(np.roll(query ^ noise, rng.integers(20)), max(1, size))
            if rng.random() < 0.5:
                song = np.delete(song, rng.integers(song.size)) if song.size > 1 else song
        songs.append(song)
    offsets = np.concatenate([[0], np.cumsum([song.size for song in songs])])
    return query, np.concatenate(songs), offsets


@given(
    catalogues(),
    st.one_of(st.none(), st.floats(0.0, 20.0), st.sampled_from([3.0, 15.0, 16.0, 40.0])),
    st.one_of(st.none(), st.integers(1, 14)),
    st.sampled_from([0, 8, 15, 10**6]),
    st.sampled_from([0.5, 0.9, 1.0]),
)
@settings(max_examples=120)
def test_pruning_changes_no_result(catalogue, limit, best, penalty, gully):
    query, flat, offsets = catalogue
    pruned = hash_scores(query, flat, offsets, limit, best, gully=gully, penalty=penalty)
    every = np.array(
        [
            hash_score(query, flat[i:j], gully, penalty) if i < j else np.inf
            for i, j in itertools.pairwise(offsets)
        ]
    )
    if limit is not None:
        every[every >= limit] = np.inf
    if best is not None:
        every[np.argsort(every, kind="stable")[best:]] = np.inf
    assert pruned.tolist() == every.tolist()


def excess_bound(a: np.ndarray, b: np.ndarray, penalty: int, limit: float, gully: float) -> bool:
    from hashing import alignment_kernels as kernels

    def halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.concatenate([values, np.zeros(kernels.PAD, np.uint32)])
        return values.astype(np.uint16), (values >> 16).astype(np.uint16)

    even, odd = np.zeros((2, a.size + b.size // 2 + 3 + kernels.PAD), np.int16)
    end = corner(a.size, b.size, gully)
    possible, diagonals = kernels.can_be_below(
        *halves(a), a.size, *halves(b[::-1]), b.size, end, penalty, limit, even, odd
    )
    assert 0 <= diagonals < a.size + b.size
    return bool(possible)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 15.0), st.sampled_from([0.5, 0.9, 1.0]))
@settings(max_examples=25)
def test_the_bound_tells_whether_any_path_is_good_enough(seed, limit, gully):
    rng = np.random.default_rng(seed)
    m, n = (int(size) for size in rng.integers(1, 70, 2))
    a, b = (rng.integers(0, 2**32, size, dtype=np.uint32) for size in (m, n))
    flips = rng.random((n, 32)) < rng.uniform(0.0, 0.45)
    b[: min(m, n)] = a[: min(m, n)]
    b ^= (flips * (1 << np.arange(32))).sum(1).astype(np.uint32)
    matrix = distances(a, b)
    possible = excess_bound(a, b, 15, limit, gully)
    # Never false where there is one; and true for nothing that is not within its rounding.
    if least_ratio_is_below(matrix, gully, 15, limit):
        assert possible
    elif not least_ratio_is_below(matrix, gully, 15, limit + 1.0):
        assert not possible


@given(
    st.integers(0, 2**32 - 1),
    st.integers(20, 260),
    st.integers(0, 60),
    st.sampled_from([0.0, 0.0, 0.3, 0.6]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([0.9, 1.0]),
    st.booleans(),
)
@settings(max_examples=80)
def test_a_limit_just_above_the_score_keeps_it(seed, size, shift, bad, noise, gully, turned):
    """What the bound could drop too early: bad at first, then perfect, with steps at the end."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2**32, size, dtype=np.uint32)
    shift = min(shift, size - 1)
    # Begins beside the corner and must step `shift` times, at a distance of 0, to reach the other.
    b = np.concatenate([a[shift:], np.repeat(a[-1], shift)])
    flips = rng.random((size, 32)) < noise
    b ^= (flips * (1 << np.arange(32))).sum(1).astype(np.uint32)
    b[: int(bad * size)] ^= np.uint32(0xFFFF0FFF)
    if turned:
        a, b = a[::-1], b[::-1]
    exact = hash_score(a, b, gully)
    limit = float(np.nextafter(exact, np.inf))
    assert hash_scores(a, b, np.array([0, size]), limit, gully=gully).tolist() == [exact]


def test_the_bound_drops_what_is_unrelated():
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 2**32, (2, 480), dtype=np.uint32)
    for limit in (0.5, 2.0, 8.0, 13.0):
        assert not excess_bound(a, b, 15, limit, 0.9)
    assert not excess_bound(a, ~a, 15, 2.0, 0.9)
    assert excess_bound(a, a, 15, 8.0, 0.9)


def test_a_falling_limit_keeps_the_first_of_equals():
    song = np.arange(40, dtype=np.uint32)
    flat = np.tile(song, 5)
    found = hash_scores(song, flat, np.arange(6) * 40, best=2)
    assert found.tolist() == [0.0, 0.0, np.inf, np.inf, np.inf]


# Features.


def unit(rng: np.random.Generator, n: int, width: int = 12) -> np.ndarray:
    frames = rng.standard_normal((n, width)).astype(np.float32)
    return frames / np.linalg.norm(frames, axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), shares, st.sampled_from([0.0, 0.3, 2.0]))
@settings(max_examples=40)
def test_cost_and_path_are_those_of_a_plain_recurrence(seed, gully, penalty):
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 20, 2)
    matrix = rng.random((m, n), dtype=np.float32)
    found = align_matrix(matrix, gully, penalty)
    cost, cells = reference(matrix, gully, penalty)
    assert found.cost == pytest.approx(cost)
    assert (found.length, found.path.shape) == (cells, (cells, 2))
    # What the path says of itself.
    assert 0 in found.path[0]
    steps = np.diff(found.path, axis=0)
    assert set(map(tuple, steps.tolist())) <= {(1, 1), (1, 0), (0, 1)}
    walked = matrix[tuple(found.path.T)].sum() + penalty * (steps.sum(axis=1) == 1).sum()
    assert found.cost == pytest.approx(float(walked), rel=1e-5)
    i, j = found.path[-1]
    least = corner(m, n, gully)
    assert (i == m - 1 and j >= least) or (j == n - 1 and i >= least)
    box = matrix[found.path[0, 0] : i + 1, found.path[0, 1] : j + 1]
    assert found.score == pytest.approx(found.cost / cells / box.mean(), rel=1e-5)
    assert found.confidence == pytest.approx(min(1.0, max(0.0, 2 - 2 * found.score)))


def test_equal_sequences_and_crops():
    frames = unit(np.random.default_rng(3), 120)
    same = align(frames, frames)
    assert same.path.tolist() == [[i, i] for i in range(120)]
    assert (same.score, same.confidence) == (pytest.approx(0.0, abs=1e-6), 1.0)
    crop = align(frames, frames[30:90])
    assert crop.path.tolist() == [[i + 30, i] for i in range(60)]
    assert crop.confidence == 1.0
    # 97 of 100 frames in common: a little more than the gully asks for.
    overlap = align(frames[:100], frames[3:103])
    assert overlap.path[0].tolist() == [3, 0]
    assert overlap.path[-1].tolist() == [99, 96]


def test_a_slower_copy_is_followed():
    rng = np.random.default_rng(4)
    frames = unit(rng, 100)
    places = np.minimum((np.arange(110) * 100) // 110, 99)
    slow = frames[places] + 0.1 * unit(rng, 110)
    slow /= np.linalg.norm(slow, axis=1, keepdims=True)
    found = align(frames, slow.astype(np.float32), penalty="mean")
    assert np.abs(found.path[:, 0] - places[found.path[:, 1]]).max() <= 1
    assert found.confidence > 0.9


def test_unrelated_and_silent_sequences_are_no_match():
    rng = np.random.default_rng(5)
    assert align(unit(rng, 150), unit(rng, 160)).confidence < 0.5
    silence = np.zeros((40, 12), np.float32)
    assert align(silence, unit(rng, 50)).confidence == 0.0
    hum = np.tile(unit(rng, 1), (40, 1))
    assert align(hum, hum[:30]).confidence == 0.0


def test_penalties_by_name():
    matrix = np.array([[0, 1, 1], [1, 1, 0], [1, 1, 4]], np.float32)
    for name, value in ((None, 1.0), ("median", 1.0), ("mean", 10 / 9)):
        named, plain = align_matrix(matrix, penalty=name), align_matrix(matrix, penalty=value)
        assert named.cost == plain.cost


def test_ties_are_broken_in_a_fixed_order():
    # All paths cost nothing: diagonal before any step; the first end of the last row.
    flat = align_matrix(np.zeros((3, 5), np.float32), gully=0.5, penalty=0.0)
    assert flat.path.tolist() == [[1, 0], [2, 1]]
    assert (flat.score, flat.confidence) == (1.0, 0.0)


# Bad input.


def test_bad_sequences_and_settings_are_one_clear_error():
    some, none = np.ones(3, np.uint32), np.zeros(0, np.uint32)
    offsets = np.array([0, 3])
    for call, words in (
        (lambda: hash_score(some, none), "nothing to align"),
        (lambda: hash_score(none, some), "nothing to align"),
        (lambda: hash_score(some.astype(np.int64), some), "a: int64"),
        (lambda: hash_score(some, some[None]), "shape"),
        (lambda: hash_score(some, some, gully=1.5), "gully is 1.5"),
        (lambda: hash_score(some, some, gully=math.nan), "gully is nan"),
        (lambda: hash_score(some, some, penalty=-1), "penalty is -1"),
        (lambda: hash_scores(none, some, offsets), "query has no codes"),
        (lambda: hash_scores(some, some, np.array([0, 4])), "do not lie within 3"),
        (lambda: hash_scores(some, some, np.array([-1, 3])), "do not lie within 3"),
        (lambda: hash_scores(some, some, np.array([0, 3, 2, 3])), "offsets fall"),
        (lambda: hash_scores(some, some, offsets, limit=math.nan), "not a number"),
        (lambda: hash_scores(some, some, offsets, best=0), "best is 0"),
        (lambda: align(np.ones((2, 3)), np.ones((2, 4))), "one width"),
        (lambda: align(np.ones((2, 3)), np.ones((0, 3))), "nothing to align"),
        (lambda: align(np.full((2, 3), np.nan), np.ones((2, 3))), "finite"),
        (lambda: align_matrix(np.ones((0, 3))), "nothing to align"),
        (lambda: align_matrix(np.full((2, 2), np.inf)), "finite"),
        (lambda: align_matrix(-np.ones((2, 2))), "not negative"),
        (lambda: align_matrix(np.ones((2, 2)), penalty="mode"), "median, mean or a number"),
        (lambda: align_matrix(np.ones((2, 2)), penalty=-1.0), "penalty is -1"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_no_sequences_are_no_scores():
    assert hash_scores(np.ones(3, np.uint32), np.zeros(0, np.uint32), np.array([0])).size == 0


def test_loops_are_compiled_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch):
    from numba.core.caching import CacheImpl

    from hashing.compiling import compiled

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    def twice(x: int) -> int:
        return 2 * x

    assert compiled(twice)(21) == 42
