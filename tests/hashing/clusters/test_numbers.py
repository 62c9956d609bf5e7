from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.clusters.numbers import keep_numbers

tracks = [f"t{i}" for i in range(9)]
clusters = st.lists(st.integers(1, 4), min_size=0, max_size=9)


def test_a_first_run_counts_from_one_in_order_of_ids() -> None:
    found = keep_numbers(["c", "a", "b"], [7, 3, 7], {})
    assert found.labels.tolist() == [2, 1, 2]
    assert (found.highest, found.opened, found.retired, found.moved) == (2, [1, 2], [], [])


def test_new_tracks_join_or_open() -> None:
    old = {"a": 1, "b": 1, "c": 2}
    found = keep_numbers(["a", "b", "c", "new", "other"], [2, 2, 1, 1, 3], old)
    assert found.labels.tolist() == [1, 1, 2, 2, 3]
    assert (found.opened, found.retired, found.moved) == ([3], [], [])


def test_a_split_leaves_the_number_with_the_larger_part() -> None:
    old = dict.fromkeys("abcde", 4)
    found = keep_numbers(list("abcde"), [1, 1, 2, 2, 2], old)
    assert found.labels.tolist() == [5, 5, 4, 4, 4]
    assert (found.opened, found.moved) == ([5], [0, 1])


def test_a_merge_retires_the_smaller_number_for_ever() -> None:
    old = {"a": 1, "b": 2, "c": 2}
    found = keep_numbers(list("abc"), [1, 1, 1], old)
    assert found.labels.tolist() == [2, 2, 2]
    assert (found.retired, found.highest) == ([1], 2)
    # Apart again, the other part is a new cluster: 1 is not given twice.
    after = dict(zip("abc", found.labels.tolist(), strict=True))
    again = keep_numbers(list("abc"), [1, 2, 2], after, found.highest)
    assert again.labels.tolist() == [3, 2, 2]


def test_numbers_of_tracks_that_are_gone_are_not_given_again() -> None:
    assert keep_numbers(["a"], [1], {"gone": 8}).labels.tolist() == [9]
    assert keep_numbers(["a"], [1], {}, highest=12).labels.tolist() == [13]


def test_as_many_tracks_as_possible_keep_their_number() -> None:
    # The first new cluster has most of 1, but the second can only take 1.
    old = {**dict.fromkeys("abc", 1), **dict.fromkeys("de", 2), **dict.fromkeys("fg", 1)}
    found = keep_numbers(list("abcdefg"), [1, 1, 1, 1, 1, 2, 2], old)
    assert found.labels.tolist() == [2, 2, 2, 2, 2, 1, 1] or found.moved == [3, 4, 5, 6]
    assert len(found.moved) in (3, 4)
    kept = sum(old[track] == label for track, label in zip("abcdefg", found.labels, strict=True))
    assert kept == 4


def test_tracks_left_alone_stay_so() -> None:
    found = keep_numbers(list("abc"), [0, 1, 1], {"a": 1, "b": 0, "c": 3})
    assert found.labels.tolist() == [0, 3, 3]
    assert found.retired == [1]
    assert found.moved == [0]


@given(new=clusters, before=clusters)
def test_numbering_keeps_clusters_and_most_numbers(new: list[int], before: list[int]) -> None:
    ids = tracks[: len(new)]
    old = dict(zip(tracks, before, strict=False))
    found = keep_numbers(ids, new, old)
    labels = found.labels.tolist()
    for i, j in itertools.combinations(range(len(new)), 2):
        assert (new[i] == new[j]) == (labels[i] == labels[j])
    assert found.moved == [
        i for i, track in enumerate(ids) if track in old and labels[i] != old[track]
    ]
    for number in found.opened:
        assert number > max(before, default=0)
    # No other way of giving old numbers to clusters keeps more tracks.
    names = sorted(set(new))
    choices = itertools.permutations([*sorted(set(before)), *[None] * len(names)], len(names))
    best = max(
        sum(
            old.get(track, -1) == dict(zip(names, choice, strict=True))[one]
            for track, one in zip(ids, new, strict=True)
        )
        for choice in set(choices)
    )
    assert sum(old.get(track) == label for track, label in zip(ids, labels, strict=True)) == best


@given(new=clusters, before=clusters, seed=st.integers(0, 99))
def test_the_order_of_tracks_does_not_matter(new: list[int], before: list[int], seed: int) -> None:
    ids = tracks[: len(new)]
    old = dict(zip(tracks, before, strict=False))
    one = keep_numbers(ids, new, old)
    order = np.random.default_rng(seed).permutation(len(new))
    other = keep_numbers([ids[i] for i in order], [7 - new[i] for i in order], old)
    assert one.labels[order].tolist() == other.labels.tolist()
    assert one.highest == other.highest
    # The same clusters again keep every number.
    again = keep_numbers(ids, new, dict(zip(ids, one.labels.tolist(), strict=True)), one.highest)
    assert again.labels.tolist() == one.labels.tolist()
    assert (again.opened, again.retired, again.moved) == ([], [], [])


def test_thousands_of_clusters_take_seconds() -> None:
    rng = np.random.default_rng(0)
    ids = [f"{i:05}" for i in range(20_000)]
    before = rng.integers(1, 4000, len(ids))
    new = np.where(rng.random(len(ids)) < 0.02, rng.integers(1, 4000, len(ids)), before)
    started = time.process_time()
    found = keep_numbers(ids, new, dict(zip(ids, before.tolist(), strict=True)))
    assert time.process_time() - started < 20
    assert np.mean(found.labels == before) > 0.97


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="1 track ids"):
        keep_numbers(["a", "a"], [1, 2], {})
    with pytest.raises(ValueError, match="2 track ids"):
        keep_numbers(["a", "b"], [1], {})
