"""Records come back as they were written, and nothing of a wrong type gets in."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing.errors import IndexFormatError
from pipelines.records import Record


@dataclasses.dataclass(frozen=True)
class Inner(Record):
    name: str
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Outer(Record):
    size: int
    share: float
    fine: bool
    counts: list[int]
    names: dict[str, str]
    figures: dict[str, int | float]
    inner: Inner | None
    many: list[Inner]
    anything: dict[str, Any]


TEXT, NUMBERS = st.text(max_size=5), st.integers(-(2**70), 2**70)
INNER = st.builds(Inner, TEXT, st.none() | NUMBERS)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
OUTER = st.builds(
    Outer,
    NUMBERS,
    FLOATS,
    st.booleans(),
    st.lists(NUMBERS, max_size=3),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.dictionaries(TEXT, NUMBERS | FLOATS, max_size=2),
    st.none() | INNER,
    st.lists(INNER, max_size=2),
    st.dictionaries(TEXT, st.none() | st.booleans() | TEXT, max_size=2),
)


@given(record=OUTER)
def test_a_record_survives_json(record: Outer) -> None:
    assert Outer.from_json(json.loads(json.dumps(record.to_json())), "a.json") == record


GOOD = Outer(1, 0.5, True, [1, 2], {"a": "b"}, {"n": 1}, Inner("x"), [Inner("y", 3)], {}).to_json()


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("size", "1", "size is str, not int"),
        ("size", True, "size is bool, not int"),
        ("size", 1.0, "size is float, not int"),
        ("share", None, "share is NoneType, not float"),
        ("fine", 1, "fine is int, not bool"),
        ("counts", 5, "counts is int, not list[int]"),
        ("counts", [1, "2"], "counts is str, not int"),
        ("counts", [1, True], "counts is bool, not int"),
        ("names", {"a": 1}, "names is int, not str"),
        ("figures", {"n": True}, "figures is bool, not int | float"),
        ("inner", [], "list in place of Inner"),
        ("inner", {}, "name is missing"),
        ("many", [{"name": "y", "count": "3"}], "count is str, not int"),
    ],
)
def test_a_wrong_type_is_named(field: str, value: Any, problem: str) -> None:
    with pytest.raises(IndexFormatError) as caught:
        Outer.from_json({**GOOD, field: value}, "a.json")
    assert str(caught.value) == f"a.json: {problem}; run `hashbeam verify` on the index"


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_field_is_named(field: str) -> None:
    less = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(IndexFormatError, match=f"{field} is missing"):
        Outer.from_json(less, "a.json")


def test_unknown_fields_are_passed_over_and_defaults_filled_in() -> None:
    assert Inner.from_json({"name": "x", "later": 1}, "a.json") == Inner("x", None)
