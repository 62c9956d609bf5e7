"""Pairs become groups that hang together by their medoid, whatever their order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hashing.recordings import Recordings, group_recordings


def grouped(pairs: dict[tuple[int, int], float]) -> Recordings:
    one, other = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    return group_recordings(one, other, np.array(list(pairs.values())))


def sets(found: Recordings) -> list[list[int]]:
    numbers = range(int(found.group.max(initial=-1)) + 1)
    return [found.track[found.group == number].tolist() for number in numbers]


def test_nothing_makes_nothing() -> None:
    assert sets(grouped({})) == []


def test_copies_are_one_group_whose_medoid_agrees_most() -> None:
    found = grouped({(1, 2): 0.9, (1, 3): 0.8, (2, 3): 0.99, (7, 5): 0.6})
    assert sets(found) == [[2, 1, 3], [5, 7]]
    assert found.score.tolist() == [1.0, 0.9, 0.99, 1.0, 0.6]
    assert found.split == 0


def test_a_medley_does_not_tie_two_recordings_together() -> None:
    # 0 to 3 are one recording, 5 to 7 another; 4 is wrongly taken for both.
    first = {(a, b): 0.95 for a in range(4) for b in range(a + 1, 4)}
    second = {(a, b): 0.95 for a in range(5, 8) for b in range(a + 1, 8)}
    found = grouped({**first, **second, (3, 4): 0.6, (4, 5): 0.55})
    assert sets(found) == [[3, 0, 1, 2, 4], [5, 6, 7]]
    assert found.split == 3


pairs = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda p: p[0] < p[1]),
    st.sampled_from([0.5, 0.75, 1.0]),
)


@given(pairs, st.randoms())
def test_every_member_is_a_pair_with_its_medoid(
    given_pairs: dict[tuple[int, int], float], random: st.randoms
) -> None:
    found = grouped(given_pairs)
    for members in sets(found):
        medoid, *others = members
        assert others
        assert all((min(medoid, one), max(medoid, one)) in given_pairs for one in others)
    assert len(set(found.track.tolist())) == found.track.size
    shuffled = list(given_pairs.items())
    random.shuffle(shuffled)
    again = grouped({(b, a): value for (a, b), value in shuffled})
    assert sets(again) == sets(found)
