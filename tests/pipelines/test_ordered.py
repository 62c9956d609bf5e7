"""Tables in order of track_id, gone through side by side."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import IndexFormatError
from pipelines.ordered import Ordered


def tables(*parts: str) -> list[pa.Table]:
    """A table a part, a row a letter."""
    kind = pa.string()
    return [pa.table({"track_id": pa.array(part, kind), "n": range(len(part))}) for part in parts]


def taken(side: Ordered, until: str | None) -> str:
    found = [table["track_id"].to_pylist() for table in side.take(until)]
    assert all(found)  # no empty table
    return "".join(itertools.chain(*found))


letters = "abcdefghijklmnopqrstuvwxyz"


@given(
    st.sets(st.sampled_from(letters)).map(sorted).map("".join),
    st.lists(st.integers(0, 26)).map(sorted),
    st.lists(st.sampled_from(letters)).map(sorted),
)
def test_rows_are_taken_once_up_to_where_is_asked(ids: str, cuts: list[int], asked: str) -> None:
    bounds = [0, *(min(cut, len(ids)) for cut in cuts), len(ids)]
    side = Ordered(tables(*(ids[a:b] for a, b in itertools.pairwise(bounds))))
    left = ids
    for until in asked:
        expected = "".join(letter for letter in left if letter <= until)
        left = left[len(expected) :]
        assert taken(side, until) == expected
    end = side.end
    assert (end is None) == (not left)
    if end is not None:
        assert end in left
        assert side.end == end  # to ask takes nothing
    assert taken(side, None) == left
    assert side.end is None
    assert taken(side, None) == ""


@pytest.mark.parametrize(
    ("parts", "near"),
    [(["ba"], "b"), (["aa"], "a"), (["ab", "b"], "b"), (["ac", "", "b"], "b"), (["b", "a"], "a")],
)
def test_what_does_not_rise_is_no_segment(parts: list[str], near: str) -> None:
    side = Ordered(tables(*parts))
    with pytest.raises(IndexFormatError, match=f"not in order of track_id, near '{near}'"):
        taken(side, None)
