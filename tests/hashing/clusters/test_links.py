from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hashing.clusters.links import LinkError, chain, hold, linked_groups, settle

N = 12
pairs = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=14)


@given(must=pairs)
def test_groups_are_connected_components(must: list[tuple[int, int]]) -> None:
    found = linked_groups(N, must)
    one, other = np.array(must, dtype=int).reshape(-1, 2).T
    _, expected = connected_components(coo_array((np.ones(one.size), (one, other)), (N, N)))
    same = found[:, None] == found
    np.testing.assert_array_equal(same, expected[:, None] == expected)
    first = [found.tolist().index(number) for number in range(found.max() + 1)]
    assert first == sorted(first)


def test_contradictions_name_the_pair() -> None:
    with pytest.raises(LinkError, match="tracks 0 and 2 must not be in one cluster") as caught:
        linked_groups(3, [(0, 1), (1, 2)], [(0, 2)])
    assert caught.value.pair == (0, 2)
    assert copy.copy(caught.value).pair == (0, 2)  # as it crosses processes
    with pytest.raises(LinkError):
        linked_groups(3, [], [(1, 1)])


@pytest.mark.parametrize("pair", [(0, 3), (-1, 0)])
def test_links_to_unknown_tracks_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="there are 3 tracks"):
        linked_groups(3, [pair])
    with pytest.raises(ValueError, match="there are 3 tracks"):
        linked_groups(3, [], [pair])


@given(must=pairs, cannot=pairs, wishes=pairs)
def test_wishes_give_way_to_decisions(
    must: list[tuple[int, int]], cannot: list[tuple[int, int]], wishes: list[tuple[int, int]]
) -> None:
    try:
        linked_groups(N, must, cannot)
    except LinkError:
        with pytest.raises(LinkError):
            settle(N, must, cannot, wishes)
        return
    granted, refused = settle(N, must, cannot, wishes)
    assert sorted(granted + refused) == sorted(wishes)
    linked_groups(N, must + granted, cannot)  # contradicts nothing
    for wish in refused:  # and no more could have been granted
        with pytest.raises(LinkError):
            linked_groups(N, [*must, *granted, wish], cannot)


def test_held_clusters_stay() -> None:
    must, cannot = hold([3, 0, 3, 7, 7, 3])
    assert must == [(0, 2), (2, 5), (3, 4)]
    assert cannot == [(0, 3)]
    assert hold([0, 0]) == ([], [])
    assert chain([]) == chain([1]) == []
